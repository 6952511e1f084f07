"""The house looks at itself.

Whether the ledger adds up, whether every blob has its row and every row its blob.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from workflow.accounts import saved_forms
from workflow.context import House
from workflow.models.core import Check
from workflow.operations.ledger import balance
from workflow.operations.orphaned_blobs import Orphans
from workflow.runtime import log
from workflow.tickets.deadlines import recompute_due_dates

LEDGER = (
    "the ledger does not add up: something was lost or counted twice. "
    "See `intake ledger`, keep the database and report it"
)


class Checks:
    """What the clock looks at once in a while.

    What it finds stands in `intake status` until the next look.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._looks: dict[str, tuple[timedelta, Callable[[], str]]] = {
            "ledger": (timedelta(days=1), self._ledger),
            "blobs": (timedelta(hours=1), Orphans(house).look),
            "dues": (timedelta(days=1), self._dues),
            "kept forms": (timedelta(hours=1), self._kept_forms),
        }
        self._first = {
            "dues"
        }  # whatever the time: the settings may be others than before the process was started

    def round(self) -> None:
        """Look at everything whose time has come.

        One that cannot be looked at is looked at in the next round.
        """
        now = self._house.clock()
        for name, (every, look) in self._looks.items():
            if name not in self._first and not self._due(name, now, every):
                continue
            try:
                self._record(name, look(), now)
                self._first.discard(name)
            except (SQLAlchemyError, OSError) as error:
                log.fault(name, error)

    def _ledger(self) -> str:
        with self._house.store.reading() as session:
            return "" if balance(session).adds_up else LEDGER

    def _dues(self) -> str:
        """Nobody has to do anything about it: what is wrong is put right."""
        log.reckoned(recompute_due_dates(self._house.store, self._house.settings))
        return ""

    def _kept_forms(self) -> str:
        """Delete what nobody has come back for; nobody has to do anything about it."""
        with self._house.store.transaction() as session:
            saved_forms.forget_old(session, self._house.clock())
        return ""

    def _due(self, name: str, now: datetime, every: timedelta) -> bool:
        with self._house.store.reading() as session:
            at = session.scalar(select(Check.at).where(Check.name == name))
        return at is None or not now - every < at <= now  # in the future: the clock has jumped back

    def _record(self, name: str, fault: str, now: datetime) -> None:
        with self._house.store.transaction() as session:
            session.merge(Check(name=name, at=now, fault=fault))
        log.checked(name, good=not fault)
