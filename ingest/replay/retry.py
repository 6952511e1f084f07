"""Retry failed deliveries, one at once or many by the workers, or dismiss them."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session, defer

from ingest.imap import unfetched
from ingest.intake import READ_QUEUE
from ingest.processing.parser_pool import ParserEndedError
from ingest.processing.process import process_delivery, read_raw
from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.context import AppContext
from workflow.database.engine import notify_workers
from workflow.errors import ActionNotAllowed
from workflow.models.core import Delivery, Filing
from workflow.models.states import DeliveryState, Outcome

BATCH = 200  # deliveries a transaction


def replay(context: AppContext, number: int, *, by: str) -> Delivery | None:
    """Process a failed or dismissed delivery again, now.

    Returns the delivery as it is afterwards, None if there is none. A processed delivery is left as
    it is: `ingest.replay.reprocess` shows what would become of it.
    """
    now = context.clock()
    with context.store.transaction() as session:
        delivery = session.get(Delivery, number)
        if delivery is None or delivery.state is DeliveryState.PROCESSED:
            return delivery
        delivery.state, delivery.not_before, delivery.attempts = DeliveryState.PENDING, now, 0
        audit.record(session, "replayed", by=by, cause="replay", now=now, delivery=number)
        transport, form, envelope = delivery.transport, delivery.format, delivery.envelope
        content, blob = delivery.content, delivery.blob
    process_delivery(context, number)
    if unfetched.is_mail_url(transport, form, _read_bytes(context, content, blob)):
        unfetched.request_fetch(context, envelope)
    with context.store.read_only() as session:
        return session.get(Delivery, number)


def _read_bytes(context: AppContext, content: bytes | None, blob: str | None) -> bytes:
    """Return the delivery's bytes; b"" when they do not open, which is why processing it failed."""
    try:
        return read_raw(context, content, blob)
    except (ParserEndedError, OSError):  # that is why processing it failed
        return b""


def enqueue_replays(context: AppContext, numbers: Sequence[int], *, by: str) -> int:
    """Queue failed and dismissed deliveries for the workers; return how many.

    Processed and pending ones are left alone. Returns without waiting for the processing, since the
    list may be long.
    """
    ids, count = sorted(set(numbers)), 0
    for start in range(0, len(ids), BATCH):
        count += _enqueue_batch(context, ids[start : start + BATCH], by)
    return count


def _enqueue_batch(context: AppContext, numbers: Sequence[int], by: str) -> int:
    """Queue some deliveries in one transaction; return how many."""
    now = context.clock()
    ended = Delivery.state.in_([DeliveryState.FAILED, DeliveryState.DISMISSED])
    query = select(Delivery).where(Delivery.id.in_(numbers), ended).options(defer(Delivery.content))
    with context.store.transaction() as session:
        deliveries = list(session.scalars(query.order_by(Delivery.id).with_for_update()))
        for delivery in deliveries:
            delivery.state, delivery.not_before, delivery.attempts = DeliveryState.PENDING, now, 0
            audit.record(session, "replayed", by=by, cause="replay", now=now, delivery=delivery.id)
        notify_workers(session, READ_QUEUE)
    return len(deliveries)


def dismiss(context: AppContext, numbers: Sequence[int], reason: str, *, by: str) -> dict[int, int]:
    """Dismiss failed deliveries, or the rejected rows of processed ones; all of them or none.

    They stay stored and can be replayed. Returns the number of rejected rows by delivery. Raises
    ActionNotAllowed when one of them does not exist or nothing of it failed.
    """
    now, ids = context.clock(), sorted(set(numbers))
    query = (
        select(Delivery)
        .where(Delivery.id.in_(ids))
        .order_by(Delivery.id)
        .options(defer(Delivery.content))
    )
    with context.store.transaction() as session:
        deliveries = {d.id: d for d in session.scalars(query.with_for_update())}
        rows = {
            n: _dismiss_rows(session, d)
            for n, d in deliveries.items()
            if d.state is not DeliveryState.PENDING
        }
        faults = [
            _explain_not_failed(deliveries.get(n), n)
            for n in ids
            if not rows.get(n) and not _is_failed(deliveries.get(n))
        ]
        if faults:
            raise ActionNotAllowed("\n".join([*faults, "none was dismissed"]))
        for delivery in deliveries.values():
            if _is_failed(delivery):
                delivery.state = DeliveryState.DISMISSED
                delivery.reason, delivery.processed_at = reason, now
            details = {"delivery": delivery.id}
            if rows.get(delivery.id):
                details["rows"] = rows[delivery.id]
            audit.record(session, "dismissed", by=by or RULE, cause=reason, now=now, **details)
    return rows


def _dismiss_rows(session: Session, delivery: Delivery) -> int:
    """Dismiss the rejected rows of a delivery; return how many there were."""
    rejected = update(Filing).where(
        Filing.delivery_id == delivery.id, Filing.outcome == Outcome.REJECTED
    )
    return session.connection().execute(rejected.values(outcome=Outcome.DISMISSED)).rowcount


def _is_failed(delivery: Delivery | None) -> bool:
    """Return whether the delivery exists and failed."""
    return delivery is not None and delivery.state is DeliveryState.FAILED


def _explain_not_failed(delivery: Delivery | None, number: int) -> str:
    """Return why a delivery cannot be dismissed."""
    if delivery is None:
        return f"there is no delivery {number}: see `intake deliveries`"
    return (
        f"delivery {number} is {delivery.state}: only failed ones, and rejected rows, are dismissed"
    )
