"""What every process does while it runs.

Says that it is alive, and ends well when it is told to.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from console.bootstrap import waker_of
from workflow.context import House, open_house
from workflow.operations import status
from workflow.runtime import log
from workflow.runtime.leases import Leases
from workflow.settings.settings import Settings

if TYPE_CHECKING:
    from workflow.background_jobs import Waker

BEAT_SECONDS = 20.0
STALLED_SECONDS = (
    900.0  # at one item: the largest workbook takes some minutes, three tries included
)


class Progress:
    """Whether the loop of a process gets on: one that hangs at an item is not alive."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def made(self) -> None:
        """Note that a round of the loop is done."""
        self._at = time.monotonic()

    def stalled(self) -> bool:
        """Return whether the loop has been at one round for too long."""
        return time.monotonic() - self._at > STALLED_SECONDS


@contextmanager
def opened(
    settings: Settings, name: str, progress: Progress | None = None
) -> Iterator[tuple[House, "Waker | None"]]:
    """Open the house of a process.

    A small thread says every 20 seconds that it is alive, while it gets on.
    """
    waker = waker_of(settings)
    house = open_house(settings, waker=waker)
    stop = threading.Event()
    beat = threading.Thread(
        target=_beat, args=(house, name, stop, progress), name="alive", daemon=True
    )
    beat.start()
    try:
        yield house, waker
    finally:
        stop.set()
        beat.join(timeout=5)
        house.close()
        if waker is not None:
            waker.close()


def _beat(house: House, name: str, stop: threading.Event, progress: Progress | None) -> None:
    while True:
        try:
            if progress is None or not progress.stalled():
                status.alive(house, name)
        except (SQLAlchemyError, OSError) as error:
            log.fault("alive", error)
        if stop.wait(BEAT_SECONDS):
            return


@contextmanager
def leasing(house: House, *names: str) -> Iterator[Leases]:
    """Hold leases on these names while the block lasts.

    A small thread renews them; at the end they are released.
    """
    leases, stop = Leases(house.store, house.clock), threading.Event()
    for name in names:
        leases.want(name)
    keeper = threading.Thread(target=leases.keep, args=(stop,), name="leases", daemon=True)
    keeper.start()
    try:
        yield leases
    finally:
        stop.set()
        keeper.join(timeout=5)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, while the block lasts."""
    event = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    # Set by a thread: the handler may interrupt this very event while it holds its own lock.
    before = [
        signal.signal(number, lambda *_: threading.Thread(target=event.set).start())
        for number in numbers
    ]
    try:
        yield event
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
