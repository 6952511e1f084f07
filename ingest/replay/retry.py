"""What people do with deliveries.

Read the failed ones again, or say that nothing is to come of them.
"""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session, defer

from ingest.imap import unfetched
from ingest.processing.parser_pool import ParserEndedError
from ingest.processing.process import process_delivery, read_raw
from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.models.core import Delivery, Filing
from workflow.models.states import DeliveryState, Outcome


def replay(context: AppContext, number: int, *, by: str) -> Delivery | None:
    """Read a failed or dismissed delivery again, now.

    The delivery as it is afterwards, None if there is none.

    One that has been read before is left as it is: rereading.py says what would become of it.
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
    if unfetched.is_mail_url(transport, form, _bytes(context, content, blob)):
        unfetched.request_fetch(context, envelope)
    with context.store.read_only() as session:
        return session.get(Delivery, number)


def _bytes(context: AppContext, content: bytes | None, blob: str | None) -> bytes:
    try:
        return read_raw(context, content, blob)
    except (ParserEndedError, OSError):  # reading it has failed for this reason
        return b""


def dismiss(context: AppContext, numbers: Sequence[int], reason: str, *, by: str) -> dict[int, int]:
    """Say that nothing is to come of failed deliveries, or of rejected rows.

    They stay stored and can be replayed.

    Gives, by delivery, how many rows that were. Raises ActionNotAllowed when one of them is not there, or
    nothing of it failed; then none is dismissed.
    """
    now, wanted = context.clock(), sorted(set(numbers))
    chosen = (
        select(Delivery)
        .where(Delivery.id.in_(wanted))
        .order_by(Delivery.id)
        .options(defer(Delivery.content))
    )
    with context.store.transaction() as session:
        found = {d.id: d for d in session.scalars(chosen.with_for_update())}
        rows = {
            n: _dismiss_rows(session, d)
            for n, d in found.items()
            if d.state is not DeliveryState.PENDING
        }
        if wrong := [
            _not_failed(found.get(n), n)
            for n in wanted
            if not (rows.get(n) or _is_failed(found.get(n)))
        ]:
            raise ActionNotAllowed("\n".join([*wrong, "none was dismissed"]))
        for delivery in found.values():
            if _is_failed(delivery):
                delivery.state, delivery.reason, delivery.processed_at = (
                    DeliveryState.DISMISSED,
                    reason,
                    now,
                )
            told = {"rows": rows[delivery.id]} if rows.get(delivery.id) else {}
            audit.record(
                session,
                "dismissed",
                by=by or RULE,
                cause=reason,
                now=now,
                delivery=delivery.id,
                **told,
            )
    return rows


def _dismiss_rows(session: Session, delivery: Delivery) -> int:
    """Dismiss the rejected rows of a delivery; how many there were."""
    rejected = update(Filing).where(
        Filing.delivery_id == delivery.id, Filing.outcome == Outcome.REJECTED
    )
    return session.connection().execute(rejected.values(outcome=Outcome.DISMISSED)).rowcount


def _is_failed(delivery: Delivery | None) -> bool:
    return delivery is not None and delivery.state is DeliveryState.FAILED


def _not_failed(delivery: Delivery | None, number: int) -> str:
    if delivery is None:
        return f"there is no delivery {number}: see `intake deliveries`"
    return (
        f"delivery {number} is {delivery.state}: only failed ones, and rejected rows, are dismissed"
    )
