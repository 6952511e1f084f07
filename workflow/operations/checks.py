"""Self-checks: the ledger, the blob store, deadlines and forgotten forms, each at its interval."""

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
    """Checks that the clock process runs at intervals.

    A check returns its fault as text, "" when all is well. The last result of each is kept in the
    database and shown by `intake status`.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._checks: dict[str, tuple[timedelta, Callable[[], str]]] = {
            "ledger": (timedelta(days=1), self._check_ledger),
            "blobs": (timedelta(hours=1), OrphanedBlobs(context).collect),
            "dues": (timedelta(days=1), self._recompute_deadlines),
            "kept forms": (timedelta(hours=1), self._delete_expired_forms),
        }
        # Run at the start whatever the time: settings may have changed while no process ran.
        self._at_start = {"dues"}

    def run_due(self) -> None:
        """Run every check that is due.

        A check that fails because database or blob store are away is tried in the next round.
        """
        now = self._context.clock()
        for name, (interval, check) in self._checks.items():
            if name not in self._at_start and not self._is_due(name, now, interval):
                continue
            try:
                self._record(name, check(), now)
                self._at_start.discard(name)
            except (SQLAlchemyError, OSError) as error:
                log.fault(name, error)

    def _check_ledger(self) -> str:
        with self._context.store.read_only() as session:
            return "" if compute_balance(session).adds_up else LEDGER_FAULT

    def _recompute_deadlines(self) -> str:
        """Correct the deadlines of open tickets. Never a fault: nobody has to do anything."""
        log.deadlines_recomputed(recompute_due_dates(self._context.store, self._context.settings))
        return ""

    def _delete_expired_forms(self) -> str:
        """Delete saved forms that nobody came back for. Never a fault."""
        with self._context.store.transaction() as session:
            saved_forms.delete_expired(session, self._context.clock())
        return ""

    def _is_due(self, name: str, now: datetime, interval: timedelta) -> bool:
        with self._context.store.read_only() as session:
            at = session.scalar(select(SelfCheck.at).where(SelfCheck.name == name))
        # A time in the future means that the clock has jumped back since.
        return at is None or not now - interval < at <= now

    def _record(self, name: str, fault: str, now: datetime) -> None:
        with self._context.store.transaction() as session:
            session.merge(SelfCheck(name=name, at=now, fault=fault))
        log.self_check_finished(name, good=not fault)
