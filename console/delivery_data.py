"""Deliveries as plain data, and what to say of one that was read again."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, defer, selectinload

from console.times import iso
from workflow.house import House
from workflow.models import Delivery, Filing
from workflow.states import DeliveryState


def listed(session: Session, state: str | None, limit: int) -> list[dict[str, Any]]:
    """Deliveries, oldest first; of more than `limit` the newest; 0 for all."""
    light = (selectinload(Delivery.filings), defer(Delivery.content))  # the sealed bytes stay where they are
    query = select(Delivery).options(*light).order_by(Delivery.id.desc())
    if state:
        query = query.where(Delivery.state == DeliveryState(state))
    if limit:
        query = query.limit(limit)
    return [_data(d) for d in reversed(session.scalars(query).all())]


def _data(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "transport": delivery.transport,
        "format": delivery.format,
        "size": delivery.size,
        "state": delivery.state,
        "reason": delivery.reason,
        "received_at": iso(delivery.received_at),
        "processed_at": iso(delivery.processed_at),
        "attempts": delivery.attempts,
        "items": delivery.items,
        "name": delivery.envelope.get("name", ""),
        "tickets": _tickets(delivery),
    }


def _tickets(delivery: Delivery) -> list[int]:
    return sorted({f.ticket_id for f in delivery.filings if f.ticket_id is not None})


def failed(house: House) -> list[int]:
    """The numbers of every failed delivery, oldest first."""
    with house.store.reading() as session:
        query = select(Delivery.id).where(Delivery.state == DeliveryState.FAILED).order_by(Delivery.id)
        return list(session.scalars(query))


def outcome(house: House, delivery: Delivery | None, number: int) -> tuple[bool, str]:
    """Whether a replayed delivery is read now, and a line that says so."""
    if delivery is None:
        return False, f"{number}: there is no such delivery: see `intake deliveries`"
    if delivery.state is not DeliveryState.PROCESSED:
        return False, f"{number}: {delivery.state}: {delivery.reason or 'it is read again shortly'}"
    with house.store.reading() as session:
        filed = session.scalars(select(Filing).where(Filing.delivery_id == number)).all()
    tickets = sorted({f.ticket_id for f in filed if f.ticket_id is not None})
    where = "ticket " + ", ".join(map(str, tickets)) if tickets else "no ticket"
    return True, f"{number}: processed, {where}"
