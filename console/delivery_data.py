"""Deliveries as plain data: the list, one of them, and which are to be read again."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer, selectinload

from console.times import iso
from workflow.models import Delivery, Filing, Receipt
from workflow.states import DeliveryState

Data = dict[str, Any]


def listed(session: Session, state: str | None, limit: int, now: datetime) -> list[Data]:
    """Deliveries, oldest first; of more than `limit` the newest, of failed ones the oldest; 0 for all."""
    light = (selectinload(Delivery.filings), defer(Delivery.content))  # the sealed bytes stay where they are
    query = select(Delivery).options(*light)
    if state:
        query = query.where(Delivery.state == DeliveryState(state))
    oldest = state == DeliveryState.FAILED
    query = query.order_by(Delivery.id if oldest else Delivery.id.desc())
    if limit:
        query = query.limit(limit)
    return [_data(d, now) for d in sorted(session.scalars(query), key=lambda d: d.id)]


def counted(session: Session, state: str | None) -> int:
    """How many there are."""
    mine = [Delivery.state == DeliveryState(state)] if state else []
    return session.scalar(select(func.count()).select_from(Delivery).where(*mine)) or 0


def one(session: Session, number: int, now: datetime) -> Data | None:
    """Everything about a delivery but its bytes; None if there is none."""
    delivery = session.get(Delivery, number, options=[selectinload(Delivery.filings), defer(Delivery.content)])
    if delivery is None:
        return None
    receipts = session.scalars(select(Receipt).where(Receipt.delivery_id == number).order_by(Receipt.id))
    return {
        **_data(delivery, now),
        "digest": delivery.digest,
        "blob": delivery.blob,
        "envelope": delivery.envelope,
        "receipts": [
            {"at": iso(r.at), "transport": r.transport, "repeated": r.repeated, "reference": r.reference}
            for r in receipts
        ],
        "filings": [
            {"item": f.position + 1, "outcome": f.outcome, "ticket": f.ticket_id, "message": f.message_id,
             "reason": f.reason}
            for f in delivery.filings
        ],
    }  # fmt: skip


def _data(delivery: Delivery, now: datetime) -> Data:
    return {
        "id": delivery.id,
        "transport": delivery.transport,
        "format": delivery.format,
        "size": delivery.size,
        "state": delivery.state,
        "reason": delivery.reason,
        "received_at": iso(delivery.received_at),
        "age_seconds": int((now - delivery.received_at).total_seconds()),
        "processed_at": iso(delivery.processed_at),
        "attempts": delivery.attempts,
        "items": delivery.items,
        "name": delivery.envelope.get("name", ""),
        "tickets": sorted({f.ticket_id for f in delivery.filings if f.ticket_id is not None}),
    }


def failed(session: Session) -> list[int]:
    """The numbers of every failed delivery, oldest first."""
    query = select(Delivery.id).where(Delivery.state == DeliveryState.FAILED).order_by(Delivery.id)
    return list(session.scalars(query))


def read_before(session: Session, *, since: datetime | None, form: str | None, transport: str | None) -> list[int]:
    """The numbers of processed deliveries received since then, of that format, by that door; oldest first."""
    wanted = [Delivery.state == DeliveryState.PROCESSED]
    wanted += [Delivery.received_at >= since] if since else []
    wanted += [Delivery.format == form] if form else []
    wanted += [Delivery.transport == transport] if transport else []
    return list(session.scalars(select(Delivery.id).where(*wanted).order_by(Delivery.id)))


def standing(session: Session, number: int) -> tuple[DeliveryState, int] | None:
    """The state of a delivery and how many of its items are filed; None if there is none."""
    state = session.scalar(select(Delivery.state).where(Delivery.id == number))
    filed = session.scalar(select(func.count()).where(Filing.delivery_id == number)) or 0
    return (state, filed) if state is not None else None


def tickets(session: Session, number: int) -> list[int]:
    """The tickets that its items are on."""
    filed = select(Filing.ticket_id).where(Filing.delivery_id == number, Filing.ticket_id.is_not(None)).distinct()
    return sorted(number for number in session.scalars(filed) if number is not None)
