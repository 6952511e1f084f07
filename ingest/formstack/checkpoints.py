"""Backfill's checkpoints, and which submissions are stored already."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from ingest.intake import Transport
from parsers.item import Format
from workflow.database.engine import Store
from workflow.models.core import FormCheckpoint, Message, Receipt

ALL_FORMS = ""  # the row for faults of all forms


class FormCheckpoints:
    """Positions up to which each form has been pulled; every method is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load_seen_until(self, form: str, now: datetime) -> datetime:
        """Return the time up to which every submission is stored.

        For a form never pulled before, `now` is recorded and returned.
        """
        with self._store.read_only() as session:
            row = session.get(FormCheckpoint, form)
        return row.seen_until if row else self._begin(form, now)

    def advance(self, form: str, until: datetime) -> None:
        """Record that everything sent before `until` is stored; never moves the checkpoint back."""
        behind = update(FormCheckpoint).where(
            FormCheckpoint.form == form, FormCheckpoint.seen_until < until
        )
        with self._store.transaction() as session:
            session.execute(behind.values(seen_until=until))

    def record_success(self, form: str, now: datetime) -> None:
        """Record that a pull was completed, and clear the form's fault."""
        values = {"looked_at": now, "fault": "", "failing_since": None, "lasting": False}
        with self._store.transaction() as session:
            session.execute(
                update(FormCheckpoint).where(FormCheckpoint.form == form).values(values)
            )

    def record_failure(self, form: str, words: str, now: datetime, *, lasting: bool) -> None:
        """Record a fault in words of ours, and since when there has been one."""
        self.load_seen_until(form, now)
        with self._store.transaction() as session:
            row = session.get_one(FormCheckpoint, form)
            row.fault, row.lasting, row.failing_since = words, lasting, row.failing_since or now

    def clear_faults(self, except_forms: Iterable[str]) -> None:
        """Clear the faults of forms that are no longer pulled."""
        values = {"fault": "", "failing_since": None, "lasting": False}
        others = update(FormCheckpoint).where(
            FormCheckpoint.form.not_in([*except_forms]), FormCheckpoint.fault != ""
        )
        with self._store.transaction() as session:
            session.execute(others.values(values))

    def _begin(self, form: str, now: datetime) -> datetime:
        """Record `now` as the checkpoint of a new form, unless another process was first."""
        try:
            with self._store.transaction() as session:
                session.add(FormCheckpoint(form=form, seen_until=now))
        except IntegrityError:  # another process was first
            with self._store.read_only() as session:
                return session.get_one(FormCheckpoint, form).seen_until
        return now


class StoredSubmissions:
    """The submissions stored already, by reference ("FormID/UniqueID")."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._forms: set[str] = set()
        self._last_receipt = 0  # the newest receipt read

    def find_known(self, references: list[str]) -> set[str]:
        """Return the references that were received by any channel, or that are on a ticket."""
        receipts = select(Receipt.reference).where(Receipt.reference.in_(references))
        messages = select(Message.message_id).where(
            Message.format == Format.FORMSTACK, Message.message_id.in_(references)
        )
        with self._store.read_only() as session:
            return {*session.scalars(receipts), *session.scalars(messages)}

    def list_forms(self) -> set[str]:
        """Return the forms that the webhook has brought; each receipt is read once a process."""
        receipts = select(Receipt.id, Receipt.reference).where(
            Receipt.id > self._last_receipt,
            Receipt.transport == Transport.FORMSTACK,
            Receipt.reference != "",
        )
        with self._store.read_only() as session:
            for number, reference in session.execute(
                receipts.order_by(Receipt.id).execution_options(yield_per=1000)
            ):
                self._forms.add(reference.partition("/")[0])
                self._last_receipt = number
        return set(self._forms)
