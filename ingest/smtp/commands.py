# ruff: noqa: N802  # aiosmtpd finds a command's method by its name
"""Replies of a guarded session to each command, in SMTP and in LMTP."""

import asyncio
from typing import cast

from aiosmtpd.smtp import TLSSetupException

from ingest.intake import Transport
from ingest.smtp.grammar import find_parameter_error, parse_argument, parse_mailbox
from ingest.smtp.session import MAIL_COMMANDS, CloseSession, GuardedSession

TOO_LARGE = "552"


class GuardedSMTP(GuardedSession):
    """SMTP (RFC 5321, 1870, 2034, 2920, 3207, 6152, 6531).

    `handle_RCPT` and `handle_DATA` of the handler return the replies to well-formed commands in
    order.
    """

    commands = (
        frozenset({"EHLO", "HELO", "RSET", "NOOP", "VRFY", "HELP", "STARTTLS"}) | MAIL_COMMANDS
    )

    async def smtp_HELO(self, hostname: str | None) -> None:
        """250; 501 without a name."""
        await self._greet_back(hostname, [])

    async def smtp_EHLO(self, hostname: str | None) -> None:
        """250 and our extensions; 501 without a name."""
        extensions = [
            "PIPELINING",
            f"SIZE {self._settings.mail_limit}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
        ]
        if self.tls_context and not self._tls_protocol:
            extensions.append("STARTTLS")
        await self._greet_back(hostname, extensions)

    async def _greet_back(self, hostname: str | None, extensions: list[str]) -> None:
        """Reply to a greeting; resets the transaction."""
        if not hostname:
            return await self.push("501 5.5.4 syntax: HELO or EHLO hostname")
        self._set_rset_state()  # RFC 5321 §4.1.4
        self.session.host_name = hostname
        *first, last = [self.hostname, *extensions]
        await self.push("".join(f"250-{line}\r\n" for line in first) + f"250 {last}")
        return None

    async def smtp_MAIL(self, arg: str | None) -> None:
        """Answer 250, or one of 501, 503, 552, 553 and 555.

        501 and 553: not an address; 552: declared too large; 555: unknown parameter; 503: out of
        order.
        """
        if not self.session.host_name:
            return await self.push("503 5.5.1 say hello first")
        if self.envelope.mail_from is not None:
            return await self.push("503 5.5.1 one MAIL at a time")
        path, parameters = parse_argument("FROM:", arg)
        if path is None:
            return await self.push("501 5.5.4 syntax: MAIL FROM:<address> [parameters]")
        if refusal := find_parameter_error(parameters, self._settings.mail_limit):
            if refusal.startswith(TOO_LARGE):
                self._refuse(refusal)
            return await self.push(refusal)
        utf8 = "SMTPUTF8" in (word.upper() for word in parameters)
        sender = parse_mailbox(path, utf8=utf8) if path else ""
        if sender is None:
            return await self.push("553 5.1.7 that is not an address")
        self.envelope.mail_from, self.envelope.smtp_utf8 = sender, utf8
        return await self.push("250 2.1.0 go on")

    def _refuse(self, reply: str) -> None:
        """Log and count a mail that is refused."""
        self.event_handler.refuse(reply)

    async def smtp_RCPT(self, arg: str | None) -> None:
        """Answer what the handler returns, or one of 452, 501, 503, 553 and 555.

        452: too many recipients; 501: syntax; 503: out of order; 553: not an address; 555: unknown
        parameter.
        """
        if self.envelope.mail_from is None:
            return await self.push("503 5.5.1 MAIL comes first")
        path, parameters = parse_argument("TO:", arg)
        if not path:
            return await self.push("501 5.5.4 syntax: RCPT TO:<address>")
        if parameters:
            return await self.push("555 5.5.4 no such parameter here")
        address = parse_mailbox(path, utf8=self.envelope.smtp_utf8)
        if address is None:
            return await self.push("553 5.1.3 that is not an address")
        if len(self.envelope.rcpt_tos) >= self._settings.smtp_recipients:
            return await self.push(
                "452 4.5.3 too many recipients, send the others a copy of their own"
            )
        return await self.push(await self._call_handler_hook("RCPT", address, parameters))

    async def smtp_DATA(self, arg: str | None) -> None:
        """Answer 354, then what the handler returns, or one of 452, 501, 503, 550 and 552.

        452: no memory; 501: argument; 503: out of order; 550: bare CR or LF; 552: too large.
        """
        if arg:
            return await self.push("501 5.5.4 DATA takes no argument")
        if not self.envelope.rcpt_tos:
            return await self.push("503 5.5.1 RCPT comes first")
        # DATA ends a pipelined group (RFC 2920 §3.1): early input belongs to another protocol
        if self._has_input():
            raise CloseSession("554 5.5.0 wait for the answer to DATA")
        if self._reader.at_eof():
            raise ConnectionResetError
        self._owed_replies = self._count_replies()
        # so that a dot on the very first line is found like any other
        self._reader.feed_data(b"\r\n")
        await self.push("354 end with <CRLF>.<CRLF>")
        try:
            self.envelope.content, status = await self._read_message()
            if status:
                self._refuse(status)
            else:
                status = await self._call_handler_hook("DATA")
        finally:
            self._share.release()
        self._set_rset_state()
        if status.startswith("250"):
            self._error_count = self._junk_count = 0
        return await self._answer(status)

    async def smtp_RSET(self, arg: str | None) -> None:
        """250; 501 with an argument."""
        if arg:
            return await self.push("501 5.5.4 RSET takes no argument")
        self._set_rset_state()
        return await self.push("250 2.0.0 forgotten")

    # every command gets an argument
    async def smtp_NOOP(self, arg: str | None) -> None:  # noqa: ARG002
        """250."""
        await self.push("250 2.0.0 nothing done")

    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: ARG002
        """252 for every address: who works here is not for strangers (RFC 5321 §7.3)."""
        await self.push("252 2.1.5 send mail and see")

    async def smtp_HELP(self, arg: str | None) -> None:  # noqa: ARG002
        """214."""
        await self.push("214 2.0.0 see RFC 5321")

    async def smtp_QUIT(self, arg: str | None) -> None:
        """221 and the end; 501 with an argument."""
        if arg:
            return await self.push("501 5.5.4 QUIT takes no argument")
        raise CloseSession("221 2.0.0 bye")

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """220 and a handshake within the idle time.

        502 without a certificate, 503 when encrypted already (RFC 3207).
        """
        if arg:
            return await self.push("501 5.5.4 STARTTLS takes no argument")
        if self._tls_protocol:
            return await self.push("503 5.5.1 encrypted already")
        if not self.tls_context:
            return await self.push("502 5.5.1 no TLS here")
        try:
            async with asyncio.timeout(self._settings.smtp_idle_seconds):
                await super().smtp_STARTTLS("")
        except (TimeoutError, TLSSetupException):
            pass
        if self.session.ssl is not None:
            return None
        # asyncio does not report a failed handshake to the protocol: without these two calls the
        # session would count as connected for ever
        cast("asyncio.Transport", self._original_transport).abort()
        self.connection_lost(None)
        raise ConnectionAbortedError

    def _count_replies(self) -> int:
        """Return how many replies the message gets."""
        return 1


class GuardedLMTP(GuardedSMTP):
    """LMTP: LHLO instead of EHLO, and one reply for each recipient accepted (RFC 2033)."""

    channel = Transport.LMTP
    greeting = "LMTP"
    commands = GuardedSMTP.commands - {"EHLO", "HELO"} | {"LHLO"}

    async def smtp_LHLO(self, hostname: str | None) -> None:
        """250 and our extensions; 501 without a name."""
        await self.smtp_EHLO(hostname)

    def _count_replies(self) -> int:
        """Return how many replies the message gets: one a recipient."""
        return len(self.envelope.rcpt_tos)  # a recipient accepted twice gets two replies
