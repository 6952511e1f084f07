"""Crash loops: processes that end and are started again, over and over.

A process reports that it is alive as soon as it starts, so one that crashes on the first file it
reads would look alive for ever. `intake up` therefore records each unexpected end here; several
within a few minutes are a crash loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from workflow.models.core import ProcessEnd

LOOP_WINDOW = timedelta(minutes=10)
MIN_LOOP_ENDS = 3  # within the window; killed once by a person or the kernel is no loop
KEEP_ENDS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """A process of one host that keeps ending.

    `last_exit` is how it ended the last time: "exit 1", "signal 9".
    """

    process: str
    host: str
    ends: int
    first: datetime
    last: datetime
    last_exit: str

    @property
    def description(self) -> str:
        """Return the fault and what to do about it, in one line."""
        minutes = LOOP_WINDOW // timedelta(minutes=1)
        return (
            f"{self.process} on {self.host} ended {self.ends} times within {minutes} minutes, the"
            f" last time at {self.last:%Y-%m-%d %H:%M} UTC ({self.last_exit}), and was started"
            " again each time: see its lines in the log of `intake up`, and report the one with"
            " “fault”"
        )


def record_ends(session: Session, ends: Sequence[ProcessEnd], now: datetime) -> None:
    """Store the ends of processes, and delete those older than a day."""
    session.execute(delete(ProcessEnd).where(ProcessEnd.at < now - KEEP_ENDS))
    session.add_all(ends)


def find_crash_loops(session: Session, now: datetime) -> list[CrashLoop]:
    """Return the crash loops of the last ten minutes, by process and host."""
    recent = (
        select(ProcessEnd)
        .where(ProcessEnd.at > now - LOOP_WINDOW, ProcessEnd.at <= now)
        .order_by(ProcessEnd.at)
    )
    by_process: dict[tuple[str, str], list[ProcessEnd]] = {}
    for end in session.scalars(recent):
        by_process.setdefault((end.process, end.host), []).append(end)
    return [
        CrashLoop(process, host, len(ends), ends[0].at, ends[-1].at, ends[-1].how)
        for (process, host), ends in sorted(by_process.items())
        if len(ends) >= MIN_LOOP_ENDS
    ]
