"""What backfill remembers of each form, and what of Formstack's is here already.

All of it in our own database.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from ingest.intake import Transport
from parsers.item import Format
from workflow.database.engine import Store
from workflow.models.core import FormCheckpoint, Message, Receipt

ALL_FORMS = ""  # the row of what concerns all forms


class FormCheckpoints:
    """How far each form has been pulled; every method is one transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load_seen_until(self, form: str, now: datetime) -> datetime:
        """Up to when everything is here; from the first look on, `now` is put down."""
        with self._store.read_only() as session:
            row = session.get(FormCheckpoint, form)
        return row.seen_until if row else self._begun(form, now)

    def advance(self, form: str, until: datetime) -> None:
        """Put down that everything sent before is stored.

        Never takes back what was put down before.
        """
        behind = update(FormCheckpoint).where(
            FormCheckpoint.form == form, FormCheckpoint.seen_until < until
        )
        with self._store.transaction() as session:
            session.execute(behind.values(seen_until=until))

    def record_success(self, form: str, now: datetime) -> None:
        """Put down that a look has come to its end, and that nothing is wrong."""
        values = {"looked_at": now, "fault": "", "failing_since": None, "lasting": False}
        with self._store.transaction() as session:
            session.execute(
                update(FormCheckpoint).where(FormCheckpoint.form == form).values(values)
            )

    def record_failure(self, form: str, words: str, now: datetime, *, lasting: bool) -> None:
        """Put down what is in the way, in words of ours, and since when something is."""
        self.load_seen_until(form, now)
        with self._store.transaction() as session:
            row = session.get_one(FormCheckpoint, form)
            row.fault, row.lasting, row.failing_since = words, lasting, row.failing_since or now

    def clear_faults(self, but: Iterable[str]) -> None:
        """What was in the way of forms that are no longer pulled is nobody's concern."""
        values = {"fault": "", "failing_since": None, "lasting": False}
        others = update(FormCheckpoint).where(
            FormCheckpoint.form.not_in([*but]), FormCheckpoint.fault != ""
        )
        with self._store.transaction() as session:
            session.execute(others.values(values))

    def _begun(self, form: str, now: datetime) -> datetime:
        try:
            with self._store.transaction() as session:
                session.add(FormCheckpoint(form=form, seen_until=now))
        except IntegrityError:  # another reader's first look, at the same time
            with self._store.read_only() as session:
                return session.get_one(FormCheckpoint, form).seen_until
        return now


class StoredSubmissions:
    """What is here already, by the names that doors and parser give it: "FormID/UniqueID"."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._forms: set[str] = set()
        self._read = 0  # receipts, up to this number

    def find_known(self, references: list[str]) -> set[str]:
        """Those that a door has taken, whatever became of them, or that stand on a ticket."""
        taken = select(Receipt.reference).where(Receipt.reference.in_(references))
        filed = select(Message.message_id).where(
            Message.format == Format.FORMSTACK, Message.message_id.in_(references)
        )
        with self._store.read_only() as session:
            return {*session.scalars(taken), *session.scalars(filed)}

    def list_forms(self) -> set[str]:
        """The forms that something has come from by the webhook; each receipt is looked at once."""
        some = select(Receipt.id, Receipt.reference).where(
            Receipt.id > self._read,
            Receipt.transport == Transport.FORMSTACK,
            Receipt.reference != "",
        )
        with self._store.read_only() as session:
            for number, reference in session.execute(
                some.order_by(Receipt.id).execution_options(yield_per=1000)
            ):
                self._forms.add(reference.partition("/")[0])
                self._read = number
        return set(self._forms)
