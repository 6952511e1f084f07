"""A guarded session.

Aiosmtpd's, with its command loop and its reader of messages replaced by bounded ones.

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

# the only end of data (RFC 5321 §4.1.1.4); any other is how mail is smuggled past a filter
END_OF_DATA = b"\r\n.\r\n"
CHUNK = 64 * 1024
# replies 5xx a session may collect without a mail stored in between (Postfix: hard_error_limit)
MAX_ERRORS = 20
MAX_JUNK = 100  # commands that move no mail, likewise (Postfix: junk_command_limit)
# seconds given to a client to show that it talks before it is greeted, as bots and browsers do
GREET_SECONDS = 0.01
# octets a second, on average, that a message comes at after the first idle time (Postfix:
# min_data_rate)
MIN_RATE = 500
# times the size limit that we read on to be able to tell a sender that its message is too large
GIVE_UP_FACTOR = 4
LINGER_SECONDS = 5.0  # seconds a closed session has to read our last words
WEB_VERBS = frozenset(
    {"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "PATCH", "DELETE", "TRACE"}
)
MAIL_COMMANDS = frozenset({"MAIL", "RCPT", "DATA", "QUIT"})  # the commands that are never junk


class CloseSession(Exception):  # noqa: N818  # a way out of a session, not a mistake of ours
    """The session ends with these words."""


class ConnectionLimits:
    """Who is connected, how much they hold, and whether we are closing: what sessions share."""

    def __init__(self, settings: Settings, room: MemoryBudget) -> None:
        """`room` may be another crowd's too: it is of the process."""
        self.settings = settings
        self.memory = room
        self.sessions: set[GuardedSession] = set()
        self.is_closing = False
        self.all_closed = asyncio.Event()
        self.all_closed.set()
        self._hosts: Counter[str] = Counter()

    def admit(self, session: "GuardedSession") -> None:
        """Count a session in; raises Goodbye when there is no room."""
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
        """Let nobody in any more, and send away who has nothing under way."""
        self.is_closing = True
        for session in tuple(self.sessions):
            session.drain()

    def abort(self) -> None:
        """Cut who is left."""
        for session in tuple(self.sessions):
            session.abort()

    def remove(self, session: "GuardedSession") -> None:
        """Count a session out; one that never came in changes nothing."""
        if session in self.sessions:
            self.sessions.remove(session)
            self._hosts -= Counter(
                {session.host: 1}
            )  # drops a host at zero, so this never outgrows the crowd
            if not self.sessions:
                self.all_closed.set()


class GuardedSession(SMTP):
    """One connection with bounds on memory, time and errors.

    What it says to each command is its subclasses'.
    """

    session: Session  # both are there before any method of ours runs
    envelope: Envelope  # mail_from is None outside a transaction, "" for the null sender

    line_length_limit = (
        CHUNK  # aiosmtpd makes it the stream's limit: a client is paused at twice as much
    )
    channel = Transport.SMTP
    greeting = "ESMTP"
    commands: frozenset[str]  # those we know; aiosmtpd would offer AUTH too

    def __init__(
        self, handler: object, crowd: ConnectionLimits, hostname: str, tls: SSLContext | None
    ) -> None:
        """Serve one connection; `crowd` knows the limits."""
        self._settings = settings = crowd.settings
        super().__init__(
            handler,
            data_size_limit=settings.mail_limit,
            enable_SMTPUTF8=True,
            hostname=hostname,
            tls_context=tls,
            # aiosmtpd's one timer is the last resort: it ends what no limit below has ended
            timeout=2 * settings.smtp_session_seconds
            + settings.smtp_store_seconds
            + settings.smtp_idle_seconds,
            loop=asyncio.get_running_loop(),
        )
        self.host = ""
        self._crowd = crowd
        self._errors = self._junk = self._received = 0
        self._share = MemoryShare(crowd.memory)  # of the message being received
        self._owed = 1  # replies the next answer stands for
        self._between = False  # waiting for a command, outside a transaction

    async def _handle_client(self) -> None:
        """Greet and obey until either side has had enough; this replaces aiosmtpd's loop."""
        self._ends = self.loop.time() + self._settings.smtp_session_seconds
        try:
            self.host = _host(self.session.peer)
            self._crowd.admit(self)
            await self._greet()
            while True:
                await self._obey(await self._command())
        except CloseSession as words:
            self._leave(str(words))
        except TimeoutError:
            self._leave("421 4.4.2 too slow, try again later")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writer.close()
            if self.transport is not None:
                self._reset_timeout(LINGER_SECONDS)

    def _leave(self, words: str) -> None:
        if not words.startswith("221"):
            log.delivery_refused(self.channel, words)
        self._writer.write(f"{words}\r\n".encode())

    async def _greet(self) -> None:
        await asyncio.sleep(GREET_SECONDS)
        if self._waiting():
            raise CloseSession("554 5.5.0 wait for the greeting")
        await self.push(f"220 {self.hostname} {self.greeting}")

    async def _command(self) -> bytes:
        """Read a line, up to and with its LF.

        Raises TimeoutError after the idle time and the session's.
        """
        self._between = self.envelope.mail_from is None
        if self._between and self._crowd.is_closing:
            raise CloseSession("421 4.3.2 closing, try again later")
        try:
            async with asyncio.timeout_at(
                min(self.loop.time() + self._settings.smtp_idle_seconds, self._ends)
            ):
                return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise CloseSession("500 5.5.6 line too long") from None
        finally:
            self._between = False

    async def _obey(self, line: bytes) -> None:
        trouble, verb, rest = parse_command(line)
        if trouble:
            return await self.push(trouble)
        if verb in WEB_VERBS:
            raise CloseSession("521 5.7.0 this is not a web server")
        if verb not in self.commands:
            return await self.push("500 5.5.1 no such command")
        self._junk += verb not in MAIL_COMMANDS
        if self._junk > MAX_JUNK:
            raise CloseSession("421 4.7.0 too many commands without mail")
        try:
            await self._smtp_methods[verb](rest)
        except (CloseSession, TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            raise
        # a session's top: any fault is a 4xx with fixed words
        except Exception as error:  # noqa: BLE001
            self._set_rset_state()
            await self._answer(await self.handle_exception(error))
        return None

    async def push(self, status: AnyStr) -> None:
        """Send a reply.

        Raises TimeoutError at a client that does not read, Goodbye at one error too many.
        """
        async with asyncio.timeout(self._settings.smtp_idle_seconds):
            await super().push(status)
        if status[:1] in {"5", b"5"}:
            self._errors += 1
            if self._errors >= MAX_ERRORS:
                raise CloseSession("421 4.7.0 too many errors")

    async def _answer(self, status: str) -> None:
        """Answer a message: once for each reply owed (RFC 2033 §4.2)."""
        owed, self._owed = self._owed, 1
        await self.push("\r\n".join([status] * owed))

    def drain(self) -> None:
        """Say 421 now if nothing is under way.

        Otherwise the loop does when the transaction is over.
        """
        if self._between:
            self._writer.write(b"421 4.3.2 closing, try again later\r\n")
            self._writer.close()

    def abort(self) -> None:
        """End the connection without another word."""
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()

    def data_received(self, data: bytes) -> None:
        """Count what comes: the pace of a message is judged by it."""
        self._received += len(data)
        super().data_received(data)

    def eof_received(self) -> bool:
        """Let what runs finish and answer.

        A client may send its mail, close its half and wait (aiosmtpd cancels).
        """
        self._reader.feed_eof()
        return self.session.ssl is None  # asyncio warns of True over TLS

    def connection_lost(self, error: Exception | None) -> None:
        """Count the session out; a store that runs is shielded and goes on."""
        self._crowd.remove(self)
        super().connection_lost(error)

    def _timeout_cb(self) -> None:
        self.abort()  # close() would wait for a client that does not read

    def _set_rset_state(self) -> None:
        self.envelope = self._create_envelope()

    def _waiting(self) -> bool:
        """Return whether unread input lies in the stream, which has no public way to ask."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined]  # noqa: SLF001

    async def _message(self) -> tuple[bytes, str]:
        """Read up to <CRLF>.<CRLF>.

        Return the message without dot stuffing and "", or b"" and why it is refused.
        """
        limit, size, trouble = self._settings.mail_limit, 0, ""
        self._share = MemoryShare(self._crowd.memory)
        begun, before = self.loop.time(), self._received
        parts: list[bytes] = []
        while not parts or not parts[-1].endswith(END_OF_DATA):
            part = await self._part(begun, before)
            size += len(part)
            if size > limit + 2 + 3:  # the CRLF fed above, and the dot's line
                trouble = f"552 5.3.4 message larger than {limit} octets"
            elif not trouble and not await self._share.grow(len(part)):
                trouble = "452 4.3.1 too much mail at once, try again later"
            if size > GIVE_UP_FACTOR * limit + CHUNK:
                raise CloseSession(trouble)
            if trouble:
                parts.clear()
                self._share.release()
            parts.append(part)
        return (b"", trouble) if trouble else _unstuffed(parts)

    def take_share(self) -> MemoryShare:
        """Return what the message received holds: it is the caller's to close now."""
        share, self._share = self._share, MemoryShare(self._crowd.memory)
        return share

    async def _part(self, begun: float, before: int) -> bytes:
        """Read on in a message, to its end or for some 64 KiB.

        Raises TimeoutError at a client that trickles.

        `begun` and `before` are the loop's time and the count of octets received when the message
        began.
        """
        idle = self._settings.smtp_idle_seconds
        while True:
            seen = self._received
            latest = begun + min(
                idle + (seen - before) / MIN_RATE, self._settings.smtp_session_seconds
            )
            try:
                async with asyncio.timeout_at(min(latest, self.loop.time() + idle)):
                    return await self._reader.readuntil(END_OF_DATA)
            except asyncio.LimitOverrunError as full:
                return await self._reader.read(full.consumed)
            except TimeoutError:
                if self._received == seen:
                    raise


def _unstuffed(parts: list[bytes]) -> tuple[bytes, str]:
    """Make a message of `parts`, which run from the CRLF before it to the end of data.

    Return it and "", or why not.
    """
    parts[-1] = parts[-1][:-3]
    parts[0] = parts[0][3 if parts[0][2:3] == b"." else 2 :]
    raw = b"".join(parts)
    parts.clear()
    if not raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r"):  # RFC 5321 §2.3.8
        return b"", "550 5.6.11 a bare CR or LF stands in this message"
    return raw.replace(b"\r\n.", b"\r\n"), ""


def _host(peer: object) -> str:
    """Name what connections are counted by.

    An IPv4 address, or the /64 that an IPv6 client has to itself.
    """
    if not isinstance(peer, tuple):
        raise ConnectionResetError  # gone before it was greeted
    address = ip_address(peer[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return address.exploded[:19]
    return str(getattr(address, "ipv4_mapped", None) or address)
