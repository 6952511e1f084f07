"""Record which processes of `intake up` crashed, for `intake status`.

A thread of its own writes them: the supervisor keeps restarting the others while the database is
slow or away. A record that could not be written is written with the next one.
"""

from collections.abc import Iterator
from queue import SimpleQueue
from socket import gethostname
from threading import Thread

from sqlalchemy.exc import SQLAlchemyError

from workflow.database.engine import Store
from workflow.models.core import ProcessEnd
from workflow.operations import crash_loops
from workflow.runtime.clock import make_clock
from workflow.settings.settings import Settings

MAX_PENDING = 100  # records that wait for the database
CLOSING_SECONDS = 5.0  # Ctrl-C must not hang on a database that is away
HOST_LENGTH = 200  # characters; see ProcessEnd.host


class CrashRecorder:
    """Records crashes of processes in the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = make_clock(settings.clock_offset)
        self._queue: SimpleQueue[ProcessEnd | None] = SimpleQueue()
        self._thread = Thread(target=self._write_all, name="process ends", daemon=True)
        self._thread.start()

    def record_end(self, process: str, how: str) -> None:
        """Queue the end of a process for writing; returns at once."""
        host = gethostname()[:HOST_LENGTH]
        self._queue.put(ProcessEnd(host=host, process=process, at=self._clock(), how=how))

    def close(self) -> None:
        """Write the remaining records, for a few seconds at most."""
        self._queue.put(None)
        self._thread.join(CLOSING_SECONDS)

    def _write_all(self) -> None:
        pending_ends: list[ProcessEnd] = []
        for end in self._iterate_ends():
            pending_ends = [*pending_ends, end][-MAX_PENDING:]
            # opened each time: this happens a few times a day at most
            store = Store(self._settings.database)
            try:
                with store.transaction() as session:
                    crash_loops.record_ends(
                        session, [_copy(one) for one in pending_ends], self._clock()
                    )
                pending_ends = []
            except SQLAlchemyError:  # away: written with the next one
                continue
            finally:
                store.close()

    def _iterate_ends(self) -> Iterator[ProcessEnd]:
        while (end := self._queue.get()) is not None:
            yield end


def _copy(end: ProcessEnd) -> ProcessEnd:
    """Return a fresh row: one of a failed transaction cannot be added to another session."""
    return ProcessEnd(host=end.host, process=end.process, at=end.at, how=end.how)
