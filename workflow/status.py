"""What is alive, what waits and what needs a person."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from workflow.house import House
from workflow.models import Delivery, DeliveryState, OutboxState, Outgoing, Receipt, Seen


@dataclass(frozen=True)
class Report:
    """The state of the house; `needs` is empty when no person is needed."""

    seen: dict[str, datetime]  # processes and mailboxes, when they last said they are alive
    doors: dict[str, datetime]  # transports, when something last came through
    pending: int
    failed: int
    oldest_pending: datetime | None
    mails_waiting: int
    mails_refused: int
    needs: list[str]


def alive(house: House, name: str, detail: str = "") -> None:
    """Say that a process or mailbox is alive."""
    with house.store.transaction() as session:
        session.merge(Seen(name=name, at=house.clock(), detail=detail))


def report(house: House) -> Report:
    """Look at everything once."""
    pending = Delivery.state == DeliveryState.PENDING
    with house.store.reading() as session:
        count = dict(session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all())
        mails = dict(session.execute(select(Outgoing.state, func.count()).group_by(Outgoing.state)).all())
        seen = dict(session.execute(select(Seen.name, Seen.at).order_by(Seen.name)).all())
        last = select(Receipt.transport, func.max(Receipt.at)).group_by(Receipt.transport).order_by(Receipt.transport)
        doors = dict(session.execute(last).all())
        oldest = session.scalar(select(func.min(Delivery.received_at)).where(pending))
    found = Report(
        seen=seen,
        doors=doors,
        pending=count.get(DeliveryState.PENDING, 0),
        failed=count.get(DeliveryState.FAILED, 0),
        oldest_pending=oldest,
        mails_waiting=mails.get(OutboxState.WAITING, 0),
        mails_refused=mails.get(OutboxState.REFUSED, 0),
        needs=[],
    )
    found.needs.extend(_needs(found, house.clock()))
    return found


def _needs(found: Report, now: datetime) -> list[str]:
    needs = []
    if found.failed:
        needs.append(f"{found.failed} failed deliveries: see `intake deliveries --state failed`")
    clock = found.seen.get("clock")
    if clock is None or (now - clock).total_seconds() > 60:  # noqa: PLR2004  # six sweeps
        needs.append("the clock process has not been seen for a minute: start `intake clock`, or `intake up`")
    if found.oldest_pending and (now - found.oldest_pending).total_seconds() > 120:  # noqa: PLR2004
        needs.append("a delivery has waited for more than two minutes: is a worker running? start `intake worker`")
    return needs
