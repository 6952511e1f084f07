"""HTTP server for webhooks and console: waitress, with bounds on slow and large requests."""

import logging
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]  # it ships no types
from waitress.server import BaseWSGIServer, create_server  # type: ignore[import-untyped]

from console.runtime.http_refusals import find_refused_status
from workflow.runtime import log

if TYPE_CHECKING:
    from flask import Flask

# waitress buffers slow bodies, so a slow client costs a connection, not a thread
MAX_CONNECTIONS = 1000
CHANNEL_SECONDS = 30  # a silent connection is cut after this long
REQUEST_SECONDS = 60.0  # for a complete request, and more for large bodies:
MIN_BYTES_PER_SECOND = 16 * 1024  # each so many bytes extend the deadline by a second
THREADS = 8
HEADER_LIMIT = 32 * 1024  # bytes; waitress would buffer 256 KiB for each connection


class BoundedChannel(HTTPChannel):  # type: ignore[misc]
    """A connection that is cut when its request is not complete in time.

    Waitress's own timeout counts from the last byte, so a client that sends one byte at a time
    would never reach it.
    """

    _deadline = 0.0
    report_refusal: Callable[[int], None] | None = None  # called with the status of a refusal

    def service(self) -> None:
        """Answer the next request; report one that waitress refuses before the app sees it."""
        status = find_refused_status(self)
        if status is not None and self.report_refusal is not None:
            self.report_refusal(status)
        super().service()

    def received(self, data: bytes) -> bool:
        """Process incoming bytes, or close the connection past its deadline."""
        if self.request is not None and time.monotonic() > self._deadline:
            self.will_close = True
            return False
        before = self.request
        was_accepted: bool = super().received(data)
        if self.request is not before:  # the next request has begun
            self._deadline = time.monotonic() + REQUEST_SECONDS
        self._deadline += len(data) / MIN_BYTES_PER_SECOND
        return was_accepted


def serve_http(
    app: "Flask",
    name: str,
    listen: str,
    limit: int,
    threads: int = THREADS,
    report_refusal: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Running requests are answered, new connections are not accepted. `report_refusal` is called with
    the status of every request that is refused before the app sees it.
    """
    # it logs tracebacks, which may hold texts of customers
    logging.getLogger("waitress").setLevel(logging.CRITICAL)
    server = create_http_server(app, listen, limit, threads, report_refusal)
    log.listener_started(name, listen)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_process)
    try:
        server.run()  # ends on SystemExit, then waits for its threads
    finally:
        server.close()


def create_http_server(
    app: "Flask",
    listen: str,
    limit: int,
    threads: int = THREADS,
    report_refusal: Callable[[int], None] | None = None,
) -> Any:
    """Return a bound server that does not run yet; `limit` is the largest body in bytes.

    Raises OSError when the address is in use.
    """
    host, _, port = listen.rpartition(":")
    sockets: dict[int, Any] = {}
    server = create_server(
        app,
        map=sockets,
        host=host.strip("[]"),
        port=int(port),
        threads=threads,
        connection_limit=MAX_CONNECTIONS,
        channel_timeout=CHANNEL_SECONDS,
        cleanup_interval=10,
        max_request_header_size=HEADER_LIMIT,
        max_request_body_size=limit + 1,  # the app itself answers 413 above its limit
        asyncore_use_poll=True,
        clear_untrusted_proxy_headers=True,
        ident=None,
    )
    for listener in sockets.values():  # a host name may have several addresses
        if isinstance(listener, BaseWSGIServer):
            report = staticmethod(report_refusal) if report_refusal else None
            listener.channel_class = type(
                "ReportingChannel", (BoundedChannel,), {"report_refusal": report}
            )
    return server


def _exit_process(number: int, frame: object) -> None:
    del number, frame
    raise SystemExit(0)
