"""SMTP session with bounds: aiosmtpd's, with its command loop and message reader replaced.

aiosmtpd 1.4.6 keeps DATA without line ends in memory past its limit, takes a bare LF for a line
end, shows a fault's text, cancels the handler when a client hangs up, and lets a client hold a
connection for ever. Its transport, STARTTLS, envelope and hooks are kept; everything that reads
from the network is here.
"""

import asyncio
from collections import Counter
from ipaddress import IPv6Address, ip_address
from ssl import SSLContext
from typing import AnyStr, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from ingest.intake import Transport
from ingest.smtp.grammar import parse_command
from ingest.smtp.memory import MemoryBudget, MemoryShare
from workflow.runtime import log
from workflow.settings.settings import Settings

# the only end of data (RFC 5321 §4.1.1.4); accepting others allows SMTP smuggling
END_OF_DATA = b"\r\n.\r\n"
CHUNK = 64 * 1024
# 5xx replies a session may collect without storing a mail (Postfix: hard_error_limit)
MAX_ERRORS = 20
MAX_JUNK = 100  # commands that move no mail, likewise (Postfix: junk_command_limit)
# seconds before the greeting, in which a bot or browser shows itself by talking first
GREET_SECONDS = 0.01
# octets a second, on average, that a message must come at after the first idle time (Postfix:
# min_data_rate)
MIN_RATE = 500
# times the size limit that we read on, to reply to the sender that its message is too large
GIVE_UP_FACTOR = 4
LINGER_SECONDS = 5.0  # seconds a client has to read our last reply
WEB_VERBS = frozenset(
    {"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "PATCH", "DELETE", "TRACE"}
)
MAIL_COMMANDS = frozenset({"MAIL", "RCPT", "DATA", "QUIT"})  # the commands that are never junk


class CloseSession(Exception):  # noqa: N818  # control flow, not an error
    """Raised to close the session with this reply."""


class ConnectionLimits:
    """The open sessions of a port, their number by host, and whether it is closing."""

    def __init__(self, settings: Settings, memory: MemoryBudget) -> None:
        """Count the sessions of one port; `memory` is shared by all ports of the process."""
        self.settings = settings
        self.memory = memory
        self.sessions: set[GuardedSession] = set()
        self.is_closing = False
        self.all_closed = asyncio.Event()
        self.all_closed.set()
        self._hosts: Counter[str] = Counter()

    def admit(self, session: "GuardedSession") -> None:
        """Count a session in. Raises CloseSession when a limit is reached."""
        if self.is_closing:
            raise CloseSession("421 4.3.2 closing, try again later")
        if len(self.sessions) >= self.settings.smtp_connections:
            raise CloseSession("421 4.3.2 too many connections, try again later")
        if self._hosts[session.host] >= self.settings.smtp_connections_per_host:
            raise CloseSession("421 4.7.0 too many connections from your address, try again later")
        self._hosts[session.host] += 1
        self.sessions.add(session)
        self.all_closed.clear()

    def close(self) -> None:
        """Admit nobody any more, and end sessions that have no transaction under way."""
        self.is_closing = True
        for session in tuple(self.sessions):
            session.drain()

    def abort(self) -> None:
        """Cut the sessions that are left."""
        for session in tuple(self.sessions):
            session.abort()

    def remove(self, session: "GuardedSession") -> None:
        """Count a session out; one that was not admitted changes nothing."""
        if session in self.sessions:
            self.sessions.remove(session)
            # drops a host at zero, so that it never outgrows the sessions
            self._hosts -= Counter({session.host: 1})
            if not self.sessions:
                self.all_closed.set()


class GuardedSession(SMTP):
    """A connection with bounds on memory, time and errors.

    The replies to the commands are in its subclasses.
    """

    session: Session  # both are set before any method of ours runs
    envelope: Envelope  # mail_from is None outside a transaction, "" for the null sender

    # the limit of aiosmtpd's stream: reading pauses at twice as much
    line_length_limit = CHUNK
    channel = Transport.SMTP
    greeting = "ESMTP"
    commands: frozenset[str]  # those we answer; aiosmtpd would offer AUTH too

    def __init__(
        self, handler: object, limits: ConnectionLimits, hostname: str, tls: SSLContext | None
    ) -> None:
        """Serve one connection within the limits."""
        self._settings = settings = limits.settings
        super().__init__(
            handler,
            data_size_limit=settings.mail_limit,
            enable_SMTPUTF8=True,
            hostname=hostname,
            tls_context=tls,
            # aiosmtpd's timer is the last resort, for whatever no limit below has ended
            timeout=2 * settings.smtp_session_seconds
            + settings.smtp_store_seconds
            + settings.smtp_idle_seconds,
            loop=asyncio.get_running_loop(),
        )
        self.host = ""
        self._limits = limits
        self._error_count = self._junk_count = self._octets_received = 0
        self._share = MemoryShare(limits.memory)  # of the message being received
        self._owed_replies = 1  # replies that the next answer counts for
        self._is_between = False  # waiting for a command, outside a transaction

    async def _handle_client(self) -> None:
        """Greet and answer commands until the session ends; this replaces aiosmtpd's loop."""
        self._session_ends = self.loop.time() + self._settings.smtp_session_seconds
        try:
            self.host = _make_host_key(self.session.peer)
            self._limits.admit(self)
            await self._greet()
            while True:
                await self._answer_command(await self._read_command())
        except CloseSession as closing:
            self._write_last_reply(str(closing))
        except TimeoutError:
            self._write_last_reply("421 4.4.2 too slow, try again later")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writer.close()
            if self.transport is not None:
                self._reset_timeout(LINGER_SECONDS)

    def _write_last_reply(self, reply: str) -> None:
        """Write the last reply."""
        if not reply.startswith("221"):
            log.delivery_refused(self.channel, reply)
        self._writer.write(f"{reply}\r\n".encode())

    async def _greet(self) -> None:
        """Greet the client. Raises CloseSession when it talks before that."""
        await asyncio.sleep(GREET_SECONDS)
        if self._has_input():
            raise CloseSession("554 5.5.0 wait for the greeting")
        await self.push(f"220 {self.hostname} {self.greeting}")

    async def _read_command(self) -> bytes:
        """Return a line with its LF.

        Raises TimeoutError after the idle time or the session's time.
        """
        self._is_between = self.envelope.mail_from is None
        if self._is_between and self._limits.is_closing:
            raise CloseSession("421 4.3.2 closing, try again later")
        try:
            async with asyncio.timeout_at(
                min(self.loop.time() + self._settings.smtp_idle_seconds, self._session_ends)
            ):
                return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise CloseSession("500 5.5.6 line too long") from None
        finally:
            self._is_between = False

    async def _answer_command(self, line: bytes) -> None:
        """Answer one command line."""
        refusal, verb, rest = parse_command(line)
        if refusal:
            return await self.push(refusal)
        if verb in WEB_VERBS:
            raise CloseSession("521 5.7.0 this is not a web server")
        if verb not in self.commands:
            return await self.push("500 5.5.1 no such command")
        self._junk_count += verb not in MAIL_COMMANDS
        if self._junk_count > MAX_JUNK:
            raise CloseSession("421 4.7.0 too many commands without mail")
        try:
            await self._smtp_methods[verb](rest)
        except (CloseSession, TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            raise
        # top of a session: any fault is a 4xx with fixed words
        except Exception as error:  # noqa: BLE001
            self._set_rset_state()
            await self._answer(await self.handle_exception(error))
        return None

    async def push(self, status: AnyStr) -> None:
        """Send a reply.

        Raises TimeoutError when the client does not read, CloseSession at one error too many.
        """
        async with asyncio.timeout(self._settings.smtp_idle_seconds):
            await super().push(status)
        if status[:1] in {"5", b"5"}:
            self._error_count += 1
            if self._error_count >= MAX_ERRORS:
                raise CloseSession("421 4.7.0 too many errors")

    async def _answer(self, status: str) -> None:
        """Answer a message once for each reply owed (RFC 2033 §4.2)."""
        owed, self._owed_replies = self._owed_replies, 1
        await self.push("\r\n".join([status] * owed))

    def drain(self) -> None:
        """Send 421 now if nothing is under way; otherwise the loop does after the transaction."""
        if self._is_between:
            self._writer.write(b"421 4.3.2 closing, try again later\r\n")
            self._writer.close()

    def abort(self) -> None:
        """End the connection without another word."""
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()

    def data_received(self, data: bytes) -> None:
        """Count the octets received: the rate of a message is computed from them."""
        self._octets_received += len(data)
        super().data_received(data)

    def eof_received(self) -> bool:
        """Let a command under way finish and answer.

        A client may send its mail, close its half of the connection and wait (aiosmtpd cancels).
        """
        self._reader.feed_eof()
        return self.session.ssl is None  # asyncio warns of True over TLS

    def connection_lost(self, error: Exception | None) -> None:
        """Count the session out; storing that is under way is shielded and goes on."""
        self._limits.remove(self)
        super().connection_lost(error)

    def _timeout_cb(self) -> None:
        """End the connection when aiosmtpd's timer expires (overrides aiosmtpd's)."""
        self.abort()  # close() would wait for a client that does not read

    def _set_rset_state(self) -> None:
        """Begin a new transaction (overrides aiosmtpd's)."""
        self.envelope = self._create_envelope()

    def _has_input(self) -> bool:
        """Return whether unread input lies in the stream, which has no public way to ask."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined]  # noqa: SLF001

    async def _read_message(self) -> tuple[bytes, str]:
        """Read up to <CRLF>.<CRLF>.

        Return the message and "", or b"" and the reply that refuses it. The dot stuffing is
        removed.
        """
        limit, size, refusal = self._settings.mail_limit, 0, ""
        self._share = MemoryShare(self._limits.memory)
        began_at, before = self.loop.time(), self._octets_received
        parts: list[bytes] = []
        while not parts or not parts[-1].endswith(END_OF_DATA):
            part = await self._read_part(began_at, before)
            size += len(part)
            if size > limit + 2 + 3:  # the CRLF fed above, and the dot's line
                refusal = f"552 5.3.4 message larger than {limit} octets"
            elif not refusal and not await self._share.grow(len(part)):
                refusal = "452 4.3.1 too much mail at once, try again later"
            if size > GIVE_UP_FACTOR * limit + CHUNK:
                raise CloseSession(refusal)
            if refusal:
                parts.clear()
                self._share.release()
            parts.append(part)
        return (b"", refusal) if refusal else _remove_dot_stuffing(parts)

    def take_share(self) -> MemoryShare:
        """Return the memory share of the message received; the caller has to release it."""
        share, self._share = self._share, MemoryShare(self._limits.memory)
        return share

    async def _read_part(self, began_at: float, before: int) -> bytes:
        """Return more of a message, up to its end or some 64 KiB.

        `began_at` and `before` are the loop's time and the count of octets received when the
        message began. Raises TimeoutError when the client sends too slowly.
        """
        idle = self._settings.smtp_idle_seconds
        while True:
            received_before = self._octets_received
            latest = began_at + min(
                idle + (received_before - before) / MIN_RATE, self._settings.smtp_session_seconds
            )
            try:
                async with asyncio.timeout_at(min(latest, self.loop.time() + idle)):
                    return await self._reader.readuntil(END_OF_DATA)
            except asyncio.LimitOverrunError as full:
                return await self._reader.read(full.consumed)
            except TimeoutError:
                if self._octets_received == received_before:
                    raise


def _remove_dot_stuffing(parts: list[bytes]) -> tuple[bytes, str]:
    """Join the parts of a message and remove its dot stuffing.

    `parts` run from the CRLF before the message to the end of data.

    Returns it and "", or b"" and the reply that refuses it.
    """
    parts[-1] = parts[-1][:-3]
    parts[0] = parts[0][3 if parts[0][2:3] == b"." else 2 :]
    raw = b"".join(parts)
    parts.clear()
    if not raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r"):  # RFC 5321 §2.3.8
        return b"", "550 5.6.11 a bare CR or LF stands in this message"
    return raw.replace(b"\r\n.", b"\r\n"), ""


def _make_host_key(peer: object) -> str:
    """Return the key that connections are counted by: IPv4 address, or /64 of an IPv6 one."""
    if not isinstance(peer, tuple):
        raise ConnectionResetError  # gone before it was greeted
    address = ip_address(peer[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return address.exploded[:19]
    return str(getattr(address, "ipv4_mapped", None) or address)
