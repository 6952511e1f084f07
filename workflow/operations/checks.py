"""The house looks at itself.

Whether the ledger adds up, whether every blob has its row and every row its blob.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from workflow.accounts import saved_forms
from workflow.context import AppContext
from workflow.models.core import SelfCheck
from workflow.operations.ledger import compute_balance
from workflow.operations.orphaned_blobs import OrphanedBlobs
from workflow.runtime import log
from workflow.tickets.deadlines import recompute_due_dates

LEDGER_FAULT = (
    "the ledger does not add up: something was lost or counted twice. "
    "See `intake ledger`, keep the database and report it"
)


class SelfChecks:
    """What the clock looks at once in a while.

    What it finds stands in `intake status` until the next look.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._looks: dict[str, tuple[timedelta, Callable[[], str]]] = {
            "ledger": (timedelta(days=1), self._ledger),
            "blobs": (timedelta(hours=1), OrphanedBlobs(context).collect),
            "dues": (timedelta(days=1), self._dues),
            "kept forms": (timedelta(hours=1), self._kept_forms),
        }
        self._first = {
            "dues"
        }  # whatever the time: the settings may be others than before the process was started

    def run_due(self) -> None:
        """Look at everything whose time has come.

        One that cannot be looked at is looked at in the next round.
        """
        now = self._context.clock()
        for name, (every, look) in self._looks.items():
            if name not in self._first and not self._due(name, now, every):
                continue
            try:
                self._record(name, look(), now)
                self._first.discard(name)
            except (SQLAlchemyError, OSError) as error:
                log.fault(name, error)

    def _ledger(self) -> str:
        with self._context.store.read_only() as session:
            return "" if compute_balance(session).adds_up else LEDGER_FAULT

    def _dues(self) -> str:
        """Nobody has to do anything about it: what is wrong is put right."""
        log.deadlines_recomputed(recompute_due_dates(self._context.store, self._context.settings))
        return ""

    def _kept_forms(self) -> str:
        """Delete what nobody has come back for; nobody has to do anything about it."""
        with self._context.store.transaction() as session:
            saved_forms.delete_expired(session, self._context.clock())
        return ""

    def _due(self, name: str, now: datetime, every: timedelta) -> bool:
        with self._context.store.read_only() as session:
            at = session.scalar(select(SelfCheck.at).where(SelfCheck.name == name))
        return at is None or not now - every < at <= now  # in the future: the clock has jumped back

    def _record(self, name: str, fault: str, now: datetime) -> None:
        with self._context.store.transaction() as session:
            session.merge(SelfCheck(name=name, at=now, fault=fault))
        log.self_check_finished(name, good=not fault)
