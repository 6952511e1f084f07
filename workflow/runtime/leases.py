"""Leases: one process over all hosts reads a mailbox, watches a folder or is the clock.

A holder increments a counter in a row while it is alive. A process that sees the counter unchanged
for `STALE_SECONDS`, by its own monotonic clock, takes the lease over by one conditional update. No
host's time of day matters, so a clock that jumps cannot make two holders; if two overlap for a
moment all the same, the unique indexes make that harmless (docs/decisions/0011).
"""

import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from workflow.database.engine import Store
from workflow.models.core import Lease
from workflow.runtime import log
from workflow.runtime.clock import Clock

RENEW_SECONDS = 8.0
STALE_SECONDS = 30.0  # a holder whose counter has not changed for this long is dead
# A holder that could not renew for this long stops, ten seconds before others may take over.
SAFE_SECONDS = 20.0


class Leases:
    """The leases one process wants to hold; `run_until` renews or takes them beside its work."""

    def __init__(
        self, store: Store, clock: Clock, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """`steady` is a monotonic clock in seconds."""
        self._store = store
        self._clock = clock
        self._steady = steady
        self.holder = f"{_get_place()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._names: list[str] = []
        self._safe_until: dict[str, float] = {}  # our leases
        # The leases of others: holder, counter, and since when we have seen this counter.
        self._observations: dict[str, tuple[str, int, float]] = {}

    def request(self, name: str) -> None:
        """Try to hold this lease from the next round on."""
        self._names.append(name)

    def is_held(self, name: str) -> bool:
        """Return whether this process holds the lease now, with certainty."""
        return self._steady() < self._safe_until.get(name, float("-inf"))

    def renew_all(self) -> None:
        """Renew the leases we hold and take those that are free.

        Raises SQLAlchemyError when the database is unavailable.
        """
        for name in self._names:
            started_at = self._steady()
            was_held = name in self._safe_until
            with self._store.transaction() as session:
                is_held = self._renew(session, name) if was_held else self._take(session, name)
            if is_held:
                self._safe_until[name] = started_at + SAFE_SECONDS
            else:
                self._safe_until.pop(name, None)
            if is_held != was_held:
                log.lease_changed(name, held=is_held)

    def run_until(self, stop: threading.Event) -> None:
        """Renew in rounds until `stop` is set, then release everything.

        A round that fails is logged; the next one follows.
        """
        while not stop.is_set():
            try:
                self.renew_all()
            except SQLAlchemyError as error:
                log.fault("leases", error)
            # A process without a lease looks more often, so that it takes over a free one soon.
            stop.wait(RENEW_SECONDS if self._safe_until else RENEW_SECONDS / 4)
        try:
            self.release_all()
        except SQLAlchemyError as error:  # others take them over once they are stale
            log.fault("leases", error)

    def release_all(self) -> None:
        """Release every lease we hold, so that others need not wait until it is stale."""
        with self._store.transaction() as session:
            session.execute(delete(Lease).where(Lease.holder == self.holder))
        self._safe_until.clear()

    def _renew(self, session: Session, name: str) -> bool:
        ours = update(Lease).where(Lease.name == name, Lease.holder == self.holder)
        return session.connection().execute(ours.values(beats=Lease.beats + 1)).rowcount == 1

    def _take(self, session: Session, name: str) -> bool:
        row = session.execute(
            select(Lease.holder, Lease.beats).where(Lease.name == name)
        ).one_or_none()
        if row is None:
            return self._insert(session, name)
        holder, beats = row
        if not self._is_stale(name, holder, beats):
            return False
        unchanged = (Lease.name == name, Lease.holder == holder, Lease.beats == beats)
        values = {"holder": self.holder, "beats": beats + 1, "since": self._clock()}
        take_over = update(Lease).where(*unchanged).values(values)
        return session.connection().execute(take_over).rowcount == 1

    def _insert(self, session: Session, name: str) -> bool:
        try:
            with session.begin_nested():
                session.add(Lease(name=name, holder=self.holder, beats=1, since=self._clock()))
        except IntegrityError:
            return False
        return True

    def _is_stale(self, name: str, holder: str, beats: int) -> bool:
        """Return whether this holder is dead.

        Its process has ended on this machine, or its counter has not changed for long enough.
        """
        now = self._steady()
        observation = self._observations.get(name)
        if observation is None or observation[:2] != (holder, beats):
            self._observations[name] = observation = (holder, beats, now)
        return now - observation[2] >= STALE_SECONDS or _has_ended_here(holder)


def _get_place() -> str:
    """Return a name of this boot of this machine and its process id namespace.

    "" where neither is known (not Linux). Process ids mean something within one place only.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _has_ended_here(holder: str) -> bool:
    """Return whether this holder was a process of this place that runs no more."""
    place, _, rest = holder.partition(":")
    process = rest.partition(":")[0]
    if not place or place != _get_place() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process: it runs
        return False
    return False
