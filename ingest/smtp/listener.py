# ruff: noqa: N802  # aiosmtpd finds a hook by its name
"""SMTP and LMTP listeners, which acknowledge a message once the intake has stored it."""

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


# called with a transport and an unforeseen error of a session
ReportFault = Callable[[str, Exception], None]
CountRefusal = Callable[[str, str], None]  # of a transport, and the reply


class StoringThreads:
    """Runs the intake's accept() in threads that a client cannot cancel by hanging up.

    As many threads as a channel has connections: they wait, together, for one commit.
    """

    def __init__(self, accept: Accept, settings: Settings) -> None:
        self._accept = accept
        self._seconds = settings.smtp_store_seconds
        # two ports; more could only be clients that hung up, and must not pile up
        self._most = 2 * settings.smtp_connections
        self._pool = ThreadPoolExecutor(settings.smtp_connections, thread_name_prefix="accept")
        self._running: set[Future[int]] = set()

    async def store(self, arrival: Arrival, share: MemoryShare) -> int:
        """Return the delivery's id; `share` is released once nobody needs the arrival any more.

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
            # an error refers to this frame: a reference cycle would keep the arrival in memory
            del running

    async def close(self, seconds: float) -> None:
        """Wait for what is being stored, at most so many seconds."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)


def ignore_refusal(_transport: str, _reply: str) -> None:
    """Count nothing: refusals are in the log."""


class Handler:
    """Handler of aiosmtpd's hooks; all our replies to RCPT and DATA are here."""

    def __init__(
        self,
        transport: Transport,
        storing: StoringThreads,
        recipients: Recipients,
        report: ReportFault,
        count_refusal: CountRefusal,
    ) -> None:
        self._transport = transport
        self._report = report
        self._count_refusal = count_refusal
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
        if refusal := self._recipients.find_refusal(address):
            self.refuse(refusal)
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 go on"

    def refuse(self, reply: str) -> None:
        """Log and count that a mail or a recipient is refused with this reply."""
        log.delivery_refused(self._transport, reply)
        if reply.startswith("5"):  # the sender does not try again
            self._count_refusal(self._transport, reply)

    async def handle_DATA(self, server: GuardedSMTP, session: Session, envelope: Envelope) -> str:
        """250 with the numbers of delivery and receipt once it is stored.

        451 it could not be stored, 554 it is in a loop.
        """
        raw = envelope.content
        assert isinstance(raw, bytes)
        if (b"\r\n" + raw[:HEADER_OCTETS].partition(b"\r\n\r\n")[0]).lower().count(
            b"\r\nreceived:"
        ) > MAX_HOPS:
            self.refuse(LOOP)
            return LOOP
        arrival = Arrival(
            transport=self._transport,
            format=Format.MAIL,
            raw=raw,
            envelope=_build_envelope(server, session, envelope),
            reference=secrets.token_hex(8),
        )
        try:
            number = await self._storing.store(arrival, server.take_share())
        # a fault of any kind: the sender tries again
        except Exception as error:  # noqa: BLE001
            log.delivery_not_stored(self._transport, error)
            return TRY_LATER
        return f"250 2.0.0 stored as {number}, {arrival.reference}"

    async def handle_exception(self, error: Exception) -> str:
        """451 with fixed words: aiosmtpd would show the client the error's text."""
        await asyncio.get_running_loop().run_in_executor(None, self._report, self._transport, error)
        return TRY_LATER


class Certificate:
    """TLS context of a certificate, loaded again when its file changes (by renewal)."""

    def __init__(self, settings: Settings) -> None:
        """Load the certificate. Raises OSError (SSLError is one) when it cannot be used."""
        self._settings = settings
        self._changed_at = 0
        self._context: ssl.SSLContext | None = None
        self._read()

    def get_context(self) -> ssl.SSLContext | None:
        """Return the context for a new connection, None without a certificate."""
        try:
            self._read()
        except OSError as error:
            log.fault("certificate", error)  # half written, perhaps: the loaded one still serves
        return self._context

    def _read(self) -> None:
        """Load the certificate if its file has changed."""
        path = self._settings.tls_certificate
        if path is None or (changed_at := path.stat().st_mtime_ns) == self._changed_at:
            return
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path, self._settings.tls_key)
        self._context, self._changed_at = context, changed_at


class Listener:
    """The listeners at `settings.smtp_listen` and, if set, `settings.lmtp_listen`."""

    def __init__(
        self,
        settings: Settings,
        accept: Accept,
        report: ReportFault = log.fault,
        count_refusal: CountRefusal = ignore_refusal,
    ) -> None:
        """Prepare the listeners.

        `report` is called in a thread with unforeseen faults of a session, `count_refusal` in the
        loop with every mail or recipient that is refused for good; neither may raise.
        """
        self._report = report
        self._count_refusal = count_refusal
        self.ports: dict[Transport, int] = {}  # of the open ports: the setting may be 0
        self._settings = settings
        self._memory = MemoryBudget(settings.mail_limit)
        # one a port: too many SMTP clients do not keep our own mail server from LMTP
        self._limits: list[ConnectionLimits] = []
        self._storing = StoringThreads(accept, settings)
        self._certificate = Certificate(settings)
        self._servers: list[Server] = []

    async def open(self) -> None:
        """Open the ports. Raises OSError when one cannot be opened."""
        await self._listen(Transport.SMTP, GuardedSMTP, self._settings.smtp_listen)
        if self._settings.lmtp_listen:
            await self._listen(Transport.LMTP, GuardedLMTP, self._settings.lmtp_listen)

    async def _listen(self, transport: Transport, kind: type[GuardedSMTP], address: str) -> None:
        """Open one port."""
        handler = Handler(
            transport,
            self._storing,
            Recipients(self._settings.addresses),
            self._report,
            self._count_refusal,
        )
        limits = ConnectionLimits(self._settings, self._memory)
        name = (*self._settings.addresses, "localhost")[0].rpartition("@")[2]
        host, _, port = address.rpartition(":")
        server = await asyncio.get_running_loop().create_server(
            lambda: kind(handler, limits, name, self._certificate.get_context()),
            host.strip("[]"),
            int(port),
            backlog=512,
        )
        self._servers.append(server)
        self._limits.append(limits)
        self.ports[transport] = server.sockets[0].getsockname()[1]
        log.listener_started(transport, f"{host}:{self.ports[transport]}")

    async def close(self, seconds: float = DRAIN_SECONDS) -> None:
        """Take no more connections, send idle clients 421, let transactions end.

        After `seconds` cut what is left.
        """
        latest = asyncio.get_running_loop().time() + seconds
        for server in self._servers:
            server.close()
        for limits in self._limits:
            limits.close()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(latest):
                for limits in self._limits:
                    await limits.all_closed.wait()
        for limits in self._limits:
            limits.abort()
        await self._storing.close(max(0.0, latest - asyncio.get_running_loop().time()))


def serve(
    settings: Settings,
    accept: Accept,
    report: ReportFault = log.fault,
    count_refusal: CountRefusal = ignore_refusal,
) -> None:
    """Run the listeners until SIGTERM or SIGINT, drain, and return.

    Blocks, and belongs in a main thread. Raises OSError when an address or the certificate cannot
    be used.
    """
    asyncio.run(_serve(settings, accept, report, count_refusal))


async def _serve(
    settings: Settings, accept: Accept, report: ReportFault, count_refusal: CountRefusal
) -> None:
    """Run the listeners until SIGTERM or SIGINT, and drain."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = Listener(settings, accept, report, count_refusal)
    await listener.open()
    await stop.wait()
    await listener.close()


@contextmanager
def run_in_thread(
    settings: Settings,
    accept: Accept,
    report: ReportFault = log.fault,
    count_refusal: CountRefusal = ignore_refusal,
) -> Iterator[Listener]:
    """Run the listeners in a thread while the block lasts: for tests and demonstrations."""
    listener = Listener(settings, accept, report, count_refusal)
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


def _build_envelope(server: GuardedSMTP, session: Session, envelope: Envelope) -> dict[str, object]:
    """Return the envelope of a message as values for JSON.

    Without control characters and lone surrogates.
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
