"""The ledger: proof that no item was lost or counted twice.

For each channel, received = opened + appended + duplicate + ignored + failed + dismissed + pending.
For each workbook, rows = items + repeated + rejected + continued + headings + titles + footers +
blank.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields

from sqlalchemy import ScalarSelect, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from workflow.filing.sheet_counts import WorkbookBalance, list_workbooks
from workflow.imports.tickets import TRANSPORT as IMPORT
from workflow.models.core import Delivery, Filing, Receipt
from workflow.models.imports import Import, ImportRow
from workflow.models.states import DeliveryState, Outcome, RowOutcome

MAX_UNBALANCED = 20  # deliveries named; enough to find the cause
# A row of an imported file of tickets is an item too. One that cannot be imported counts as failed.
WORD_OF_ROW_OUTCOME = {
    RowOutcome.ADDED: "opened",
    RowOutcome.KNOWN: "duplicate",
    RowOutcome.REFUSED: "failed",
}
# A rejected row was not read, so it counts as failed until a person dismisses it.
WORD_OF_OUTCOME = {Outcome.REJECTED: "failed", Outcome.DISMISSED: "dismissed"}
UNFILED_STATES = (DeliveryState.FAILED, DeliveryState.DISMISSED, DeliveryState.PENDING)


@dataclass
class ChannelLine:
    """Items of one channel: how many were received, and their outcomes.

    A delivery that has not been read counts as one item. The field names are the words of the
    ledger, on its page and in its JSON.
    """

    received: int = 0
    opened: int = 0
    appended: int = 0
    duplicate: int = 0
    ignored: int = 0
    failed: int = 0
    dismissed: int = 0
    pending: int = 0

    @property
    def total_accounted(self) -> int:
        """Return the right side of the equation: the sum of all outcomes."""
        return sum(self.as_dict().values()) - self.received

    @property
    def adds_up(self) -> bool:
        """Return whether both sides of the equation are equal."""
        return self.received == self.total_accounted

    def as_dict(self) -> dict[str, int]:
        """Return every count by its name."""
        return {f.name: int(getattr(self, f.name)) for f in fields(self)}

    def add(self, word: str, count: int) -> None:
        """Add a count of items under a word of the ledger."""
        setattr(self, word, getattr(self, word) + count)


@dataclass
class Balance:
    """The whole ledger at one moment.

    `unbalanced_deliveries` are the first few whose own items do not add up; `workbooks` those that
    were read to their end, newest first.
    """

    channels: dict[str, ChannelLine] = field(default_factory=dict)
    unbalanced_deliveries: list[int] = field(default_factory=list)
    workbooks: list[WorkbookBalance] = field(default_factory=list)

    @property
    def total(self) -> ChannelLine:
        """Return the sum of all channels."""
        total = ChannelLine()
        for line in self.channels.values():
            for word, count in line.as_dict().items():
                total.add(word, count)
        return total

    @property
    def adds_up(self) -> bool:
        """Return whether every channel, delivery and workbook adds up.

        The total alone does not prove it, since two faults may cancel each other.
        """
        return not (self.unbalanced_deliveries or self.unbalanced_workbooks) and all(
            line.adds_up for line in self.channels.values()
        )

    @property
    def unbalanced_workbooks(self) -> list[int]:
        """Return the deliveries of workbooks that have a row not accounted for."""
        return [one.delivery for one in self.workbooks if not one.adds_up]

    def as_dict(self) -> dict[str, object]:
        """Return the ledger as `intake ledger --json` prints it."""
        channels = {
            name: {**line.as_dict(), "adds_up": line.adds_up}
            for name, line in self.channels.items()
        }
        return {
            **self.total.as_dict(),
            "adds_up": self.adds_up,
            "broken": self.unbalanced_deliveries,
            "doors": channels,
            "workbooks": [one.as_dict() for one in self.workbooks],
            "broken_workbooks": self.unbalanced_workbooks,
        }


def compute_balance(session: Session) -> Balance:
    """Count both sides of the ledger, each from its own tables, in one view of the database.

    The session must be a new one, since the isolation level is set before the first statement. A
    delivery received again counts as received and as duplicate, with as many items as it holds. Of
    a delivery filed in part, the rest counts under the state of the delivery.
    """
    _freeze_view(session)
    balance = Balance(
        unbalanced_deliveries=list(session.scalars(_select_unbalanced().limit(MAX_UNBALANCED))),
        workbooks=list(list_workbooks(session)),
    )
    for word, rows in (
        ("received", session.execute(_count_received(is_repeated=False))),
        ("received", session.execute(_count_received(is_repeated=True))),
        ("duplicate", session.execute(_count_received(is_repeated=True))),
    ):
        _add_counts(balance, ((channel, word, count) for channel, count in rows))
    filed_items = (
        select(Delivery.transport, Filing.outcome, func.count())
        .join(Delivery, Delivery.id == Filing.delivery_id)
        .group_by(Delivery.transport, Filing.outcome)
    )
    _add_counts(balance, session.execute(filed_items))
    unfiled_items = (
        select(Delivery.transport, Delivery.state, func.sum(Delivery.items - _count_filings()))
        .where(Delivery.state.in_(UNFILED_STATES))
        .group_by(Delivery.transport, Delivery.state)
    )
    _add_counts(balance, session.execute(unfiled_items))
    _add_counts(balance, _count_imported(session))
    balance.channels = dict(sorted(balance.channels.items()))
    return balance


def _freeze_view(session: Session) -> None:
    """Make all statements of the session see the same state of the database.

    PostgreSQL's default shows each statement what was committed meanwhile, and sums taken one after
    the other would not agree. SQLite has one view in a transaction anyhow.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def _count_imported(session: Session) -> Iterator[tuple[str, str, int]]:
    """Yield the counts of imported tickets; the rest of an interrupted import is pending."""
    of_tickets = Import.kind == "tickets"
    row_count = session.scalar(select(func.sum(Import.rows)).where(of_tickets)) or 0
    outcomes = (
        select(ImportRow.outcome, func.count())
        .join(Import, Import.id == ImportRow.import_id)
        .where(of_tickets)
        .group_by(ImportRow.outcome)
    )
    counts = dict(session.execute(outcomes).all())
    lost = _count_unaccounted(session)
    if row_count:
        yield IMPORT, "received", row_count
        yield IMPORT, "pending", row_count - sum(counts.values()) - lost
    yield from ((IMPORT, WORD_OF_ROW_OUTCOME[outcome], count) for outcome, count in counts.items())


def _count_unaccounted(session: Session) -> int:
    """Count the rows of finished imports that have no outcome. There must be none."""
    written = select(func.count()).select_from(ImportRow).where(ImportRow.import_id == Import.id)
    lacking = Import.rows - written.correlate(Import).scalar_subquery()
    finished = (Import.kind == "tickets", Import.finished_at.is_not(None))
    return session.scalar(select(func.sum(lacking)).where(*finished)) or 0


def _count_filings() -> ScalarSelect[int]:
    """Return the subquery that counts the filings of a delivery."""
    filings = select(func.count()).select_from(Filing).where(Filing.delivery_id == Delivery.id)
    return filings.correlate(Delivery).scalar_subquery()


def _select_unbalanced() -> Select[int]:
    """Select the deliveries whose filings do not match their items.

    Once processed, there must be one for each item; before that, never more than items.
    """
    processed = Delivery.state == DeliveryState.PROCESSED
    wrong = or_(
        and_(processed, _count_filings() != Delivery.items), _count_filings() > Delivery.items
    )
    return select(Delivery.id).where(wrong).order_by(Delivery.id)


# The type of this Select would be spelled out column by column.
def _count_received(*, is_repeated: bool):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return (
        select(Receipt.transport, func.sum(Delivery.items))
        .join(Delivery, Delivery.id == Receipt.delivery_id)
        .where(Receipt.repeated.is_(is_repeated))
        .group_by(Receipt.transport)
    )


def _add_counts(
    balance: Balance, rows: Iterable[tuple[str, str | Outcome | DeliveryState, int]]
) -> None:
    """Add counts, by channel and outcome, to the lines of a ledger."""
    for channel, outcome, count in rows:
        word = WORD_OF_OUTCOME.get(outcome, outcome) if isinstance(outcome, Outcome) else outcome
        balance.channels.setdefault(channel, ChannelLine()).add(str(word), int(count))
