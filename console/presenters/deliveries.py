"""Deliveries as plain data: lists, one delivery, and those selected for a replay."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, defer, selectinload

from console.presenters.times import format_iso
from workflow.filing import sheet_counts
from workflow.models.core import Delivery, Filing, Receipt
from workflow.models.states import DeliveryState, Outcome
from workflow.operations.backlog import has_failures

Data = dict[str, Any]


def list_deliveries(session: Session, state: str | None, limit: int, now: datetime) -> list[Data]:
    """Return deliveries, oldest first; of more than `limit` the newest, of failed ones the oldest.

    `limit` 0 returns all of them; `state` None every state.
    """
    # the encrypted bytes may be megabytes a row: they are not loaded
    query = select(Delivery).where(*_build_state_conditions(state)).options(defer(Delivery.content))
    oldest_first = state == DeliveryState.FAILED
    query = query.order_by(Delivery.id if oldest_first else Delivery.id.desc())
    if limit:
        query = query.limit(limit)
    rows = sorted(session.scalars(query), key=lambda d: d.id)
    filings = _count_filings(session, [d.id for d in rows])
    return [_present_delivery(d, filings[d.id], now) for d in rows]


def list_deliveries_before(
    session: Session, state: str | None, before: int | None, limit: int, now: datetime
) -> list[Data]:
    """Return up to `limit` deliveries, newest first, with ids below `before`."""
    query = (
        select(Delivery)
        .where(*_build_state_conditions(state))
        .options(defer(Delivery.content))
        .order_by(Delivery.id.desc())
    )
    query = query.where(Delivery.id < before) if before is not None else query
    rows = list(session.scalars(query.limit(limit)))
    filings = _count_filings(session, [d.id for d in rows])
    return [_present_delivery(d, filings[d.id], now) for d in rows]


def count_deliveries(session: Session, state: str | None) -> int:
    """Return the number of deliveries in this state, of all for None."""
    return (
        session.scalar(
            select(func.count()).select_from(Delivery).where(*_build_state_conditions(state))
        )
        or 0
    )


def _build_state_conditions(state: str | None) -> list[ColumnElement[bool]]:
    """Return the conditions for a state; "failed" includes deliveries with rejected rows."""
    if state == DeliveryState.FAILED:
        return [has_failures()]
    return [Delivery.state == DeliveryState(state)] if state else []


@dataclass(slots=True)
class _FilingCounts:
    """Counts and tickets of the filed items of one delivery."""

    count: int = 0
    rejected_count: int = 0
    tickets: set[int] = field(default_factory=set)


def _count_filings(session: Session, ids: Sequence[int]) -> dict[int, _FilingCounts]:
    """Return the filings of each of these deliveries.

    They are counted in the database: a workbook may have a hundred thousand rows.
    """
    filings = {number: _FilingCounts() for number in ids}
    mine = Filing.delivery_id.in_(ids)
    query = select(Filing.delivery_id, Filing.outcome, func.count()).where(mine)
    for number, outcome, count in session.execute(
        query.group_by(Filing.delivery_id, Filing.outcome)
    ):
        filings[number].count += count
        filings[number].rejected_count += count if outcome is Outcome.REJECTED else 0
    for number, ticket in session.execute(
        select(Filing.delivery_id, Filing.ticket_id).where(mine).distinct()
    ):
        if ticket is not None:
            filings[number].tickets.add(ticket)
    return filings


def find_delivery(session: Session, number: int, now: datetime) -> Data | None:
    """Return everything about a delivery but its bytes; None if there is none."""
    delivery = session.get(
        Delivery, number, options=[selectinload(Delivery.filings), defer(Delivery.content)]
    )
    if delivery is None:
        return None
    receipts = session.scalars(
        select(Receipt).where(Receipt.delivery_id == number).order_by(Receipt.id)
    )
    return {
        **_present_delivery(delivery, _count_filings(session, [number])[number], now),
        "digest": delivery.digest,
        "blob": delivery.blob,
        "envelope": delivery.envelope,
        "receipts": [
            {
                "at": format_iso(r.at),
                "transport": r.transport,
                "repeated": r.repeated,
                "reference": r.reference,
            }
            for r in receipts
        ],
        "filings": [
            {
                "item": f.position + 1,
                "outcome": f.outcome,
                "ticket": f.ticket_id,
                "message": f.message_id,
                "reason": f.reason,
            }
            for f in delivery.filings
        ],
        "sheets": [
            {
                **asdict(one),
                "accounted": one.accounted,
                "in_words": sheet_counts.describe_counts(one),
            }
            for one in sheet_counts.list_counts(session, number)
        ],
    }


def _present_delivery(delivery: Delivery, filings: _FilingCounts, now: datetime) -> Data:
    return {
        "id": delivery.id,
        "transport": delivery.transport,
        "format": delivery.format,
        "size": delivery.size,
        "state": delivery.state,
        "reason": delivery.reason,
        "received_at": format_iso(delivery.received_at),
        "age_seconds": int((now - delivery.received_at).total_seconds()),
        "processed_at": format_iso(delivery.processed_at),
        "attempts": delivery.attempts,
        "items": delivery.items,
        "filed": filings.count,
        "rejected": filings.rejected_count,
        "name": delivery.envelope.get("name", ""),
        "tickets": sorted(filings.tickets),
    }


def list_failed_ids(session: Session) -> list[int]:
    """Return the ids of every failed delivery, oldest first."""
    query = select(Delivery.id).where(Delivery.state == DeliveryState.FAILED).order_by(Delivery.id)
    return list(session.scalars(query))


def list_processed_ids(
    session: Session, *, since: datetime | None, form: str | None, transport: str | None
) -> list[int]:
    """Return the ids of processed deliveries, oldest first, narrowed by the given filters.

    `since` is the earliest time of receipt; None switches a filter off.
    """
    conditions = [Delivery.state == DeliveryState.PROCESSED]
    conditions += [Delivery.received_at >= since] if since else []
    conditions += [Delivery.format == form] if form else []
    conditions += [Delivery.transport == transport] if transport else []
    return list(session.scalars(select(Delivery.id).where(*conditions).order_by(Delivery.id)))


def find_state(session: Session, number: int) -> tuple[DeliveryState, int] | None:
    """Return the state of a delivery and its number of filed items; None if there is none."""
    state = session.scalar(select(Delivery.state).where(Delivery.id == number))
    filing_count = session.scalar(select(func.count()).where(Filing.delivery_id == number)) or 0
    return (state, filing_count) if state is not None else None


def list_ticket_ids(session: Session, number: int) -> list[int]:
    """Return the ids of the tickets that its items are on."""
    ticket_ids = (
        select(Filing.ticket_id)
        .where(Filing.delivery_id == number, Filing.ticket_id.is_not(None))
        .distinct()
    )
    return sorted(number for number in session.scalars(ticket_ids) if number is not None)
