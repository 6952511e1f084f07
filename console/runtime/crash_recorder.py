"""Record which processes of `intake up` crashed, for `intake status`.

A thread of its own has them written: the supervisor keeps restarting the others while the database
is slow or away. A record that could not be written is written with the next one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue
from socket import gethostname
from threading import Thread
from typing import TYPE_CHECKING

from workflow.runtime.clock import make_clock

if TYPE_CHECKING:  # the supervisor does not load the database's library: see `call_in_fork`
    from workflow.settings.settings import Settings

MAX_PENDING = 100  # records that wait for the database
HOST_LENGTH = 200  # characters; see ProcessEnd.host
CLOSING_SECONDS = 5.0  # Ctrl-C must not hang on a database that is away


@dataclass(frozen=True)
class End:
    """How and when a process ended."""

    process: str
    how: str
    at: datetime


Write = Callable[[list[End]], bool]  # returns whether they are written


class CrashRecorder:
    """Has the ends of processes written by `write`, such as `write_ends`."""

    def __init__(self, write: Write, clock_offset: float = 0.0) -> None:
        self._write = write
        self._clock = make_clock(clock_offset)
        self._queue: SimpleQueue[End | None] = SimpleQueue()
        self._thread = Thread(target=self._write_all, name="process ends", daemon=True)
        self._thread.start()

    def record_end(self, process: str, how: str) -> None:
        """Queue the end of a process for writing; returns at once."""
        self._queue.put(End(process, how, self._clock()))

    def close(self) -> None:
        """Write the remaining records, for a few seconds at most."""
        self._queue.put(None)
        self._thread.join(CLOSING_SECONDS)

    def _write_all(self) -> None:
        pending: list[End] = []
        for end in iter(self._queue.get, None):
            pending = [*pending, end][-MAX_PENDING:]
            try:
                if self._write(pending):
                    pending = []
            except (OSError, EOFError):  # no process for it can be started: with the next one
                continue


def write_ends(settings: "Settings", ends: list[End]) -> bool:
    """Write the ends of processes on this machine; return False when the database is away."""
    from sqlalchemy.exc import SQLAlchemyError

    from workflow.database.engine import Store
    from workflow.models.core import ProcessEnd
    from workflow.operations import crash_loops

    host = gethostname()[:HOST_LENGTH]
    rows = [ProcessEnd(host=host, process=end.process, at=end.at, how=end.how) for end in ends]
    # Opened each time: this happens a few times a day at most.
    store = Store(settings.database)
    try:
        with store.transaction() as session:
            crash_loops.record_ends(session, rows, ends[-1].at)
    except SQLAlchemyError:
        return False
    finally:
        store.close()
    return True
