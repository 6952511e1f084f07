"""Backlog: what still has to be done, and what could not be done.

Queues of outgoing mail, webhook events and linked files; deliveries that could not be read in whole
or in part.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    func,
    literal,
    or_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from workflow.filing.linked_files import LinkedFile
from workflow.models.core import FILING_IS_REJECTED, Delivery, Filing, Message, OutgoingMail
from workflow.models.states import DeliveryState, LinkState, OutboxState, WebhookEventState
from workflow.models.webhooks import Webhook, WebhookEvent, is_active

# (waiting, failed for good) of each queue.
MAIL_STATES = (OutboxState.WAITING, OutboxState.REFUSED)
EVENT_STATES = (WebhookEventState.WAITING, WebhookEventState.GIVEN_UP)
FILE_STATES = (LinkState.WAITING, LinkState.FAILED)


# -- queues ----


@dataclass(frozen=True)
class QueueCounts:
    """Counts of one queue: entries waiting, and entries failed for good.

    `oldest` is when the entry that waits longest was queued; None when nothing waits.
    """

    waiting: int = 0
    failed: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True)
class Backlog:
    """Counts of all queues."""

    mails: QueueCounts = QueueCounts()  # failed: refused by the relay or a recipient's server
    events: QueueCounts = QueueCounts()  # of registered webhooks only; failed: given up
    files: QueueCounts = QueueCounts()  # linked files; as old as their message


def count_backlog(session: Session) -> Backlog:
    """Count all queues in one query."""
    is_registered = WebhookEvent.hook_id.in_(select(Webhook.id).where(is_active()))
    of_message = Message.id == LinkedFile.message_id
    rows = session.execute(
        union_all(
            _count_by_state("mails", OutgoingMail.state, MAIL_STATES, OutgoingMail.created_at),
            _count_by_state(
                "events", WebhookEvent.state, EVENT_STATES, WebhookEvent.created_at, is_registered
            ),
            _count_by_state("files", LinkedFile.state, FILE_STATES, Message.at, of_message),
        )
    ).all()
    counts = {(name, state): (count, oldest) for name, state, count, oldest in rows}
    return Backlog(
        mails=_build_counts(counts, "mails", *MAIL_STATES),
        events=_build_counts(counts, "events", *EVENT_STATES),
        files=_build_counts(counts, "files", *FILE_STATES),
    )


def _count_by_state(
    name: str,
    state: InstrumentedAttribute[Any],
    states: tuple[str, str],
    since: InstrumentedAttribute[datetime],
    *where: ColumnElement[bool],
) -> Select[Any]:
    """Select name, state, count and oldest time of the rows in these states.

    Only these states are asked for, so that the index on the state spares the finished rows, which
    are by far the most.
    """
    word = type_coerce(state, String)
    columns: tuple[Any, ...] = (literal(name), word, func.count(), func.min(since))
    return select(*columns).where(state.in_(states), *where).group_by(state)


def _build_counts(
    counts: dict[tuple[str, str], tuple[int, datetime]], name: str, waiting: str, failed: str
) -> QueueCounts:
    count, oldest = counts.get((name, waiting), (0, None))
    return QueueCounts(count, counts.get((name, failed), (0, None))[0], oldest)


# -- deliveries that could not be read ----


def has_rejected_rows() -> ColumnElement[bool]:
    """Return the condition that a delivery has rejected rows which nobody has dismissed."""
    return Delivery.id.in_(select(Filing.delivery_id).where(FILING_IS_REJECTED))


def has_failures() -> ColumnElement[bool]:
    """Return the condition that a delivery could not be read, or not all of it."""
    return or_(Delivery.state == DeliveryState.FAILED, has_rejected_rows())


def count_with_rejected_rows(session: Session) -> int:
    """Return how many deliveries were read except for some rows."""
    read_in_part = (Delivery.state != DeliveryState.FAILED, has_rejected_rows())
    return session.scalar(select(func.count()).select_from(Delivery).where(*read_in_part)) or 0


def count_overdue(session: Session, now: datetime, limit: timedelta) -> tuple[int, datetime | None]:
    """Count the deliveries with failures that arrived at least `limit` ago.

    Returns the count and when the oldest of them arrived; (0, None) when there are none. Reading a
    delivery again does not make it younger: the customer has waited since it arrived.
    """
    late = (has_failures(), Delivery.received_at <= now - limit)
    count, oldest = session.execute(
        select(func.count(), func.min(Delivery.received_at)).where(*late)
    ).one()
    return count, oldest
