"""One of each over several hosts: who alone reads a mailbox, watches a folder or is the clock.

A holder counts a row up while it lives. Whoever sees the count stand still for half a minute, by
their own steady clock, takes over by one conditional update. No host's time of day matters, so no
clock that jumps can make two holders; and if two overlap for a moment all the same, the unique
indexes make that harmless.
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
STALE_SECONDS = 30.0  # a count that stands still so long is a dead holder's
SAFE_SECONDS = 20.0  # a holder that could not count for so long stops, before others may take over


class Leases:
    """The leases one process wants; `keep` runs beside its work and renews or takes them."""

    def __init__(
        self, store: Store, clock: Clock, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._steady = steady
        self.holder = f"{_place()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._wanted: list[str] = []
        self._sure_until: dict[str, float] = {}  # of those we hold
        self._seen: dict[
            str, tuple[str, int, float]
        ] = {}  # of others': holder, count, and since when it stands

    def request(self, name: str) -> None:
        """Try to hold this one from the next round on."""
        self._wanted.append(name)

    def is_held(self, name: str) -> bool:
        """Return whether this process is the one, surely, now."""
        return self._steady() < self._sure_until.get(name, float("-inf"))

    def renew_all(self) -> None:
        """Renew what we hold, take what is free.

        Raises SQLAlchemyError when the database is away.
        """
        for name in self._wanted:
            before, had = self._steady(), name in self._sure_until
            with self._store.transaction() as session:
                mine = self._renewed(session, name) if had else self._taken(session, name)
            if mine:
                self._sure_until[name] = before + SAFE_SECONDS
            else:
                self._sure_until.pop(name, None)
            if mine != had:
                log.lease_changed(name, held=mine)

    def run_until(self, stop: threading.Event) -> None:
        """Go round until told to stop, then let go of everything.

        A round that fails is followed by the next.
        """
        while not stop.is_set():
            try:
                self.renew_all()
            except SQLAlchemyError as error:
                log.fault("leases", error)
            stop.wait(RENEW_SECONDS if self._sure_until else RENEW_SECONDS / 4)
        try:
            self.release_all()
        except (
            SQLAlchemyError
        ) as error:  # they are taken over when they have stood still for long enough
            log.fault("leases", error)

    def release_all(self) -> None:
        """Let go of everything, so that others need not wait."""
        with self._store.transaction() as session:
            session.execute(delete(Lease).where(Lease.holder == self.holder))
        self._sure_until.clear()

    def _renewed(self, session: Session, name: str) -> bool:
        mine = update(Lease).where(Lease.name == name, Lease.holder == self.holder)
        return session.connection().execute(mine.values(beats=Lease.beats + 1)).rowcount == 1

    def _taken(self, session: Session, name: str) -> bool:
        there = session.execute(
            select(Lease.holder, Lease.beats).where(Lease.name == name)
        ).one_or_none()
        if there is None:
            return self._inserted(session, name)
        holder, beats = there
        if not self._stands(name, holder, beats):
            return False
        still = (Lease.name == name, Lease.holder == holder, Lease.beats == beats)
        values = {"holder": self.holder, "beats": beats + 1, "since": self._clock()}
        return (
            session.connection().execute(update(Lease).where(*still).values(values)).rowcount == 1
        )

    def _inserted(self, session: Session, name: str) -> bool:
        try:
            with session.begin_nested():
                session.add(Lease(name=name, holder=self.holder, beats=1, since=self._clock()))
        except IntegrityError:
            return False
        return True

    def _stands(self, name: str, holder: str, beats: int) -> bool:
        """Whether this holder is dead.

        It ran here and does no more, or its count has stood still for long enough.
        """
        now = self._steady()
        known = self._seen.get(name)
        if known is None or known[:2] != (holder, beats):
            self._seen[name] = known = (holder, beats, now)
        return now - known[2] >= STALE_SECONDS or _ended_here(holder)


def _place() -> str:
    """This boot of this machine and this space of process ids.

    "" where that cannot be told (not Linux).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _ended_here(holder: str) -> bool:
    place, _, rest = holder.partition(":")
    process = rest.partition(":")[0]
    if not place or place != _place() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody's, so it runs
        return False
    return False
