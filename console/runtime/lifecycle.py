"""The life of a process: open the context, send heartbeats, hold leases, stop on a signal."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from console.bootstrap import create_notifier
from workflow.context import AppContext, open_context
from workflow.operations import status
from workflow.runtime import log
from workflow.runtime.leases import Leases
from workflow.settings.settings import Settings

if TYPE_CHECKING:
    from workflow.background_jobs import JobNotifier

HEARTBEAT_SECONDS = 20.0  # a process counts as gone after three of them
# at one item: the largest workbook takes some minutes, three attempts included
STALLED_SECONDS = 900.0


class LoopProgress:
    """Tracks whether the main loop of a process advances; one that hangs sends no heartbeat."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def record_round(self) -> None:
        """Record that a round of the loop is done."""
        self._at = time.monotonic()

    def is_stalled(self) -> bool:
        """Return whether the loop has been at one round for too long."""
        return time.monotonic() - self._at > STALLED_SECONDS


@contextmanager
def open_process(
    settings: Settings, name: str, progress: LoopProgress | None = None
) -> Iterator[tuple[AppContext, "JobNotifier | None"]]:
    """Open the context of a process; a thread sends its heartbeat while the loop advances."""
    notifier = create_notifier(settings)
    context = open_context(settings, notifier=notifier)
    stop = threading.Event()
    beat = threading.Thread(
        target=_send_heartbeats, args=(context, name, stop, progress), name="alive", daemon=True
    )
    beat.start()
    try:
        yield context, notifier
    finally:
        stop.set()
        beat.join(timeout=5)
        context.close()
        if notifier is not None:
            notifier.close()


def _send_heartbeats(
    context: AppContext, name: str, stop: threading.Event, progress: LoopProgress | None
) -> None:
    while True:
        try:
            if progress is None or not progress.is_stalled():
                status.record_alive(context, name)
        except (SQLAlchemyError, OSError) as error:
            log.fault("alive", error)
        if stop.wait(HEARTBEAT_SECONDS):
            return


@contextmanager
def hold_leases(context: AppContext, *names: str) -> Iterator[Leases]:
    """Hold leases on these names while the block lasts.

    A thread renews them; they are released at the end.
    """
    leases, stop = Leases(context.store, context.clock), threading.Event()
    for name in names:
        leases.request(name)
    keeper = threading.Thread(target=leases.run_until, args=(stop,), name="leases", daemon=True)
    keeper.start()
    try:
        yield leases
    finally:
        stop.set()
        keeper.join(timeout=5)


@contextmanager
def catch_stop_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set, while the block lasts."""
    event = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    # Set by a thread: the handler may interrupt Event.set or Event.wait while that holds its lock.
    before = [
        signal.signal(number, lambda *_: threading.Thread(target=event.set).start())
        for number in numbers
    ]
    try:
        yield event
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
