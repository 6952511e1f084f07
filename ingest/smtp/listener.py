# ruff: noqa: N802  # aiosmtpd finds a hook by its name
"""The mail door: SMTP and LMTP listeners that say yes once the intake has stored the message."""

import asyncio
import secrets
import signal
import ssl
import threading
from asyncio import Future, Server
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from aiosmtpd.smtp import Envelope, Session

from ingest.intake import Accept, Arrival, Transport
from ingest.smtp.commands import GuardedLMTP, GuardedSMTP
from ingest.smtp.grammar import Recipients
from ingest.smtp.memory import MemoryBudget, MemoryShare
from ingest.smtp.session import ConnectionLimits
from parsers.item import Format
from workflow.runtime import log
from workflow.settings.settings import Settings

DRAIN_SECONDS = 20.0
MAX_HOPS = 100  # Received fields after which a message is in a loop (RFC 5321 §6.3)
HEADER_OCTETS = 256 * 1024  # octets looked through for them
LOOP = "554 5.4.6 too many hops: this message is in a loop"
TRY_LATER = "451 4.3.0 cannot store your message now, try again later"


ReportFault = Callable[
    [str, Exception], None
]  # a transport, and what a session did to us that we did not foresee


class StoringThreads:
    """The intake's accept() in threads, out of reach of a client that hangs up.

    As many threads as a door has connections: they wait, together, for one commit.
    """

    def __init__(self, accept: Accept, settings: Settings) -> None:
        self._accept = accept
        self._seconds = settings.smtp_store_seconds
        self._most = (
            2 * settings.smtp_connections
        )  # two doors; clients that hung up do not pile up behind them
        self._pool = ThreadPoolExecutor(settings.smtp_connections, thread_name_prefix="accept")
        self._running: set[Future[int]] = set()

    async def store(self, arrival: Arrival, share: MemoryShare) -> int:
        """The delivery's id; `share` is closed once nobody needs the arrival any more.

        Raises SQLAlchemyError or OSError when it is not stored, or not known to be: too many wait,
        or it takes too long (TimeoutError). Storing then goes on, and the same message sent again
        is the same delivery.
        """
        if len(self._running) >= self._most:
            share.release()
            raise BlockingIOError
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._accept, arrival)
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        running.add_done_callback(lambda _: share.release())
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.shield(running)
        finally:
            del (
                running
            )  # an error leads to this frame, and would lead on to itself, with the arrival between

    async def close(self, seconds: float) -> None:
        """Wait for what is being stored, at most so long."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)


class Handler:
    """What aiosmtpd asks us; every reply of ours to RCPT and DATA stands here."""

    def __init__(
        self,
        transport: Transport,
        storing: StoringThreads,
        recipients: Recipients,
        report: ReportFault,
    ) -> None:
        self._transport = transport
        self._report = report
        self._storing = storing
        self._recipients = recipients

    async def handle_RCPT(
        self,
        _server: GuardedSMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        """250; 550 when nobody here has that address, or it asks us to relay."""
        if trouble := self._recipients.find_refusal(address):
            log.delivery_refused(self._transport, trouble)
            return trouble
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 go on"

    async def handle_DATA(self, server: GuardedSMTP, session: Session, envelope: Envelope) -> str:
        """250 once it is stored, with the numbers of delivery and receipt.

        451 it could not be, 554 it is in a loop.
        """
        raw = envelope.content
        assert isinstance(raw, bytes)
        if (b"\r\n" + raw[:HEADER_OCTETS].partition(b"\r\n\r\n")[0]).lower().count(
            b"\r\nreceived:"
        ) > MAX_HOPS:
            log.delivery_refused(self._transport, LOOP)
            return LOOP
        arrival = Arrival(
            transport=self._transport,
            format=Format.MAIL,
            raw=raw,
            envelope=_envelope(server, session, envelope),
            reference=secrets.token_hex(8),
        )
        try:
            number = await self._storing.store(arrival, server.take_share())
        # whatever this mail did to the intake: its sender tries again
        except Exception as error:  # noqa: BLE001
            log.delivery_not_stored(self._transport, error)
            return TRY_LATER
        return f"250 2.0.0 stored as {number}, {arrival.reference}"

    async def handle_exception(self, error: Exception) -> str:
        """451 with fixed words, whatever it was: aiosmtpd would show the client its text."""
        await asyncio.get_running_loop().run_in_executor(None, self._report, self._transport, error)
        return TRY_LATER


class Certificate:
    """The TLS context of a certificate, read again when its file changes.

    They are renewed every few weeks.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises OSError (SSLError is one) when the certificate cannot be used."""
        self._settings = settings
        self._changed = 0
        self._context: ssl.SSLContext | None = None
        self._read()

    def context(self) -> ssl.SSLContext | None:
        """The context for a new connection, or None without a certificate."""
        try:
            self._read()
        except OSError as error:
            log.fault("certificate", error)  # half written, perhaps: the one we have still serves
        return self._context

    def _read(self) -> None:
        path = self._settings.tls_certificate
        if path is None or (changed := path.stat().st_mtime_ns) == self._changed:
            return
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path, self._settings.tls_key)
        self._context, self._changed = context, changed


class Listener:
    """The doors at `settings.smtp_listen` and, if set, `settings.lmtp_listen`."""

    def __init__(self, settings: Settings, accept: Accept, report: ReportFault = log.fault) -> None:
        """`report` hears of a session's fault that nobody foresaw, in a thread.

        It raises nothing.
        """
        self._report = report
        self.ports: dict[Transport, int] = {}  # of the open doors: the setting may say 0
        self._settings = settings
        self._room = MemoryBudget(settings.mail_limit)
        self._crowds: list[
            ConnectionLimits
        ] = []  # one a door: a crowd at SMTP does not keep our own mail server from LMTP
        self._storing = StoringThreads(accept, settings)
        self._certificate = Certificate(settings)
        self._servers: list[Server] = []

    async def open(self) -> None:
        """Open the doors; raises OSError when one cannot be."""
        await self._listen(Transport.SMTP, GuardedSMTP, self._settings.smtp_listen)
        if self._settings.lmtp_listen:
            await self._listen(Transport.LMTP, GuardedLMTP, self._settings.lmtp_listen)

    async def _listen(self, transport: Transport, kind: type[GuardedSMTP], address: str) -> None:
        handler = Handler(
            transport, self._storing, Recipients(self._settings.addresses), self._report
        )
        crowd = ConnectionLimits(self._settings, self._room)
        name = (*self._settings.addresses, "localhost")[0].rpartition("@")[2]
        host, _, port = address.rpartition(":")
        server = await asyncio.get_running_loop().create_server(
            lambda: kind(handler, crowd, name, self._certificate.context()),
            host.strip("[]"),
            int(port),
            backlog=512,
        )
        self._servers.append(server)
        self._crowds.append(crowd)
        self.ports[transport] = server.sockets[0].getsockname()[1]
        log.listener_started(transport, f"{host}:{self.ports[transport]}")

    async def close(self, seconds: float = DRAIN_SECONDS) -> None:
        """Take no more connections, tell idle clients 421, let transactions end.

        After `seconds` cut what is left.
        """
        latest = asyncio.get_running_loop().time() + seconds
        for server in self._servers:
            server.close()
        for crowd in self._crowds:
            crowd.close()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(latest):
                for crowd in self._crowds:
                    await crowd.all_closed.wait()
        for crowd in self._crowds:
            crowd.abort()
        await self._storing.close(max(0.0, latest - asyncio.get_running_loop().time()))


def serve(settings: Settings, accept: Accept, report: ReportFault = log.fault) -> None:
    """Run the doors until SIGTERM or SIGINT, drain, and return.

    Blocks, and belongs in a main thread.

    Raises OSError when an address or the certificate cannot be used.
    """
    asyncio.run(_serve(settings, accept, report))


async def _serve(settings: Settings, accept: Accept, report: ReportFault) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = Listener(settings, accept, report)
    await listener.open()
    await stop.wait()
    await listener.close()


@contextmanager
def in_thread(
    settings: Settings, accept: Accept, report: ReportFault = log.fault
) -> Iterator[Listener]:
    """Run the doors in a thread while the block lasts: for tests and demonstrations."""
    listener = Listener(settings, accept, report)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, name="smtp")
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(listener.open(), loop).result()
            yield listener
        finally:
            asyncio.run_coroutine_threadsafe(listener.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _envelope(server: GuardedSMTP, session: Session, envelope: Envelope) -> dict[str, object]:
    """Return what the door knows of a message, fit for JSON.

    Strings without control characters and lone surrogates.
    """
    tls = server.transport.get_extra_info("ssl_object") if server.transport else None
    return {
        "mail_from": envelope.mail_from,
        "rcpt_to": list(
            {address.casefold(): address for address in reversed(envelope.rcpt_tos)}.values()
        )[::-1],
        "peer": session.peer[0] if session.peer else "",
        "helo": session.host_name,
        "tls": f"{tls.version()} {tls.cipher()[0]}" if tls else "",
    }
