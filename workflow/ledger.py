"""The ledger: received = opened + appended + duplicate + ignored + failed + dismissed + pending, for each door."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from workflow.models import Delivery, Filing, Receipt
from workflow.states import DeliveryState, Outcome

UNFILED = (DeliveryState.FAILED, DeliveryState.DISMISSED, DeliveryState.PENDING)


@dataclass
class Line:
    """One door's items: how many came, and what has become of them. An unread delivery counts as one item."""

    received: int = 0
    opened: int = 0
    appended: int = 0
    duplicate: int = 0
    ignored: int = 0
    failed: int = 0
    dismissed: int = 0
    pending: int = 0

    @property
    def accounted(self) -> int:
        """The right side."""
        return sum(self.as_dict().values()) - self.received

    @property
    def adds_up(self) -> bool:
        """Whether both sides are equal."""
        return self.received == self.accounted

    def as_dict(self) -> dict[str, int]:
        """Every count by its name."""
        return {f.name: int(getattr(self, f.name)) for f in fields(self)}

    def add(self, word: str, count: int) -> None:
        """Count items under a word of the ledger."""
        setattr(self, word, getattr(self, word) + count)


@dataclass
class Balance:
    """The whole ledger at one moment."""

    doors: dict[str, Line] = field(default_factory=dict)

    @property
    def total(self) -> Line:
        """All doors together."""
        total = Line()
        for line in self.doors.values():
            for word, count in line.as_dict().items():
                total.add(word, count)
        return total

    @property
    def adds_up(self) -> bool:
        """Whether it adds up at every door."""
        return all(line.adds_up for line in self.doors.values())

    def as_dict(self) -> dict[str, object]:
        """The totals, whether it adds up, and the same for every door."""
        doors = {name: {**line.as_dict(), "adds_up": line.adds_up} for name, line in self.doors.items()}
        return {**self.total.as_dict(), "adds_up": self.adds_up, "doors": doors}


def balance(session: Session) -> Balance:
    """Count both sides, each from its own tables, in the session's one view of the database.

    A delivery handed over again counts as received and as duplicate, with as many items as it holds.
    """
    found = Balance()
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
        select(Delivery.transport, Delivery.state, func.sum(Delivery.items))
        .where(Delivery.state.in_(UNFILED))
        .group_by(Delivery.transport, Delivery.state)
    )
    _count(found, session.execute(unfiled))
    return Balance(dict(sorted(found.doors.items())))


def _received(*, repeated: bool):  # type: ignore[no-untyped-def]  # noqa: ANN202  # a Select whose type is its columns
    return (
        select(Receipt.transport, func.sum(Delivery.items))
        .join(Delivery, Delivery.id == Receipt.delivery_id)
        .where(Receipt.repeated.is_(repeated))
        .group_by(Receipt.transport)
    )


def _count(found: Balance, rows: Iterable[tuple[str, str | Outcome | DeliveryState, int]]) -> None:
    for door, word, count in rows:
        found.doors.setdefault(door, Line()).add(str(word), int(count))
