"""The ledger: received = opened + appended + duplicate + ignored + failed + dismissed + pending.

For each door.

For each workbook too: its rows = items + repeated + rejected + headings + titles + footers + blank.
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

MAX_UNBALANCED = 20  # named; the first ones are enough to look into
# A row of a file of tickets is an item too; one that cannot be imported is failed: it is in the
# file, and not here.
WORD_OF_ROW_OUTCOME = {
    RowOutcome.ADDED: "opened",
    RowOutcome.KNOWN: "duplicate",
    RowOutcome.REFUSED: "failed",
}
# A row that was rejected has not been read; what a person has said of it counts as that.
WORD_OF_OUTCOME = {Outcome.REJECTED: "failed", Outcome.DISMISSED: "dismissed"}
UNFILED_STATES = (DeliveryState.FAILED, DeliveryState.DISMISSED, DeliveryState.PENDING)


@dataclass
class ChannelLine:
    """One door's items: how many came, and what has become of them.

    An unread delivery counts as one item.
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
        """The right side."""
        return sum(self.as_dict().values()) - self.received

    @property
    def adds_up(self) -> bool:
        """Return whether both sides are equal."""
        return self.received == self.total_accounted

    def as_dict(self) -> dict[str, int]:
        """Every count by its name."""
        return {f.name: int(getattr(self, f.name)) for f in fields(self)}

    def add(self, word: str, count: int) -> None:
        """Count items under a word of the ledger."""
        setattr(self, word, getattr(self, word) + count)


@dataclass
class Balance:
    """The whole ledger at one moment."""

    channels: dict[str, ChannelLine] = field(default_factory=dict)
    unbalanced_deliveries: list[int] = field(
        default_factory=list
    )  # deliveries whose own items do not add up, the first few
    workbooks: list[WorkbookBalance] = field(
        default_factory=list
    )  # those read to their end, newest first

    @property
    def total(self) -> ChannelLine:
        """All doors together."""
        total = ChannelLine()
        for line in self.channels.values():
            for word, count in line.as_dict().items():
                total.add(word, count)
        return total

    @property
    def adds_up(self) -> bool:
        """Return whether it adds up at every door, in every delivery and workbook.

        Two faults may cancel each other.
        """
        return not (self.unbalanced_deliveries or self.unbalanced_workbooks) and all(
            line.adds_up for line in self.channels.values()
        )

    @property
    def unbalanced_workbooks(self) -> list[int]:
        """Return the deliveries of workbooks with a row that is not accounted for."""
        return [one.delivery for one in self.workbooks if not one.adds_up]

    def as_dict(self) -> dict[str, object]:
        """The totals, whether it adds up, the deliveries that do not, the sums of every door.

        And every workbook.
        """
        workbooks = [one.as_dict() for one in self.workbooks]
        doors = {
            name: {**line.as_dict(), "adds_up": line.adds_up}
            for name, line in self.channels.items()
        }
        return {
            **self.total.as_dict(),
            "adds_up": self.adds_up,
            "broken": self.unbalanced_deliveries,
            "doors": doors,
            "workbooks": workbooks,
            "broken_workbooks": self.unbalanced_workbooks,
        }


def compute_balance(session: Session) -> Balance:
    """Count both sides, each from its own tables, in the session's one view of the database.

    The session must be a new one. A delivery handed over again counts as received and as duplicate,
    with as many items as it holds; of one that is filed in part, the rest counts as what the
    delivery is.
    """
    _one_view(session)
    found = Balance(
        unbalanced_deliveries=list(session.scalars(_broken().limit(MAX_UNBALANCED))),
        workbooks=list(list_workbooks(session)),
    )
    for word, rows in (
        ("received", session.execute(_received(repeated=False))),
        ("received", session.execute(_received(repeated=True))),
        ("duplicate", session.execute(_received(repeated=True))),
    ):
        _count(found, ((door, word, count) for door, count in rows))
    filed = (
        select(Delivery.transport, Filing.outcome, func.count())
        .join(Delivery, Delivery.id == Filing.delivery_id)
        .group_by(Delivery.transport, Filing.outcome)
    )
    _count(found, session.execute(filed))
    unfiled = (
        select(Delivery.transport, Delivery.state, func.sum(Delivery.items - _filed()))
        .where(Delivery.state.in_(UNFILED_STATES))
        .group_by(Delivery.transport, Delivery.state)
    )
    _count(found, session.execute(unfiled))
    _count(found, _imported(session))
    found.channels = dict(sorted(found.channels.items()))
    return found


def _one_view(session: Session) -> None:
    """PostgreSQL shows each statement what has been committed meanwhile, unless told not to.

    A ledger must not move.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def _imported(session: Session) -> Iterator[tuple[str, str, int]]:
    """The rows of imported tickets; of an import that was interrupted, the rest is pending."""
    mine = Import.kind == "tickets"
    received = session.scalar(select(func.sum(Import.rows)).where(mine)) or 0
    grouped = (
        select(ImportRow.outcome, func.count())
        .join(Import, Import.id == ImportRow.import_id)
        .where(mine)
    )
    done = dict(session.execute(grouped.group_by(ImportRow.outcome)).all())
    lost = _unaccounted(session)
    if received:
        yield IMPORT, "received", received
        yield IMPORT, "pending", received - sum(done.values()) - lost
    yield from ((IMPORT, WORD_OF_ROW_OUTCOME[outcome], count) for outcome, count in done.items())


def _unaccounted(session: Session) -> int:
    """Rows of finished imports of which nothing says what they have become: there must be none."""
    written = select(func.count()).select_from(ImportRow).where(ImportRow.import_id == Import.id)
    lacking = Import.rows - written.correlate(Import).scalar_subquery()
    finished = (Import.kind == "tickets", Import.finished_at.is_not(None))
    return session.scalar(select(func.sum(lacking)).where(*finished)) or 0


def _filed() -> ScalarSelect[int]:
    """Return how many filings a delivery has."""
    mine = select(func.count()).select_from(Filing).where(Filing.delivery_id == Delivery.id)
    return mine.correlate(Delivery).scalar_subquery()


def _broken() -> Select[int]:
    """Deliveries read to their end with another number of filings than items.

    Or holding more filings than items.
    """
    processed = Delivery.state == DeliveryState.PROCESSED
    wrong = or_(and_(processed, _filed() != Delivery.items), _filed() > Delivery.items)
    return select(Delivery.id).where(wrong).order_by(Delivery.id)


# a Select whose type is its columns
def _received(*, repeated: bool):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return (
        select(Receipt.transport, func.sum(Delivery.items))
        .join(Delivery, Delivery.id == Receipt.delivery_id)
        .where(Receipt.repeated.is_(repeated))
        .group_by(Receipt.transport)
    )


def _count(found: Balance, rows: Iterable[tuple[str, str | Outcome | DeliveryState, int]]) -> None:
    for door, word, count in rows:
        told = WORD_OF_OUTCOME.get(word, word) if isinstance(word, Outcome) else word
        found.channels.setdefault(door, ChannelLine()).add(str(told), int(count))
