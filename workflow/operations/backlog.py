"""What the house has promised and not yet done.

How much waits, how much has failed for good, and since when.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, String, func, literal, select, type_coerce, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session

from workflow.filing.linked_files import LinkedFile
from workflow.models.core import Message, OutgoingMail
from workflow.models.states import LinkState, OutboxState, WebhookEventState
from workflow.models.webhooks import Webhook, WebhookEvent, is_active


@dataclass(frozen=True)
class QueueCounts:
    """How many wait, how many failed for good, and when the one that waits longest was promised."""

    waiting: int = 0
    failed: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True)
class Backlog:
    """Everything promised that is not done."""

    mails: QueueCounts = QueueCounts()  # failed: refused
    events: QueueCounts = QueueCounts()  # for the webhooks that there are; failed: given up
    files: QueueCounts = QueueCounts()  # that messages link to, since when their message is here


MAIL_STATES = (OutboxState.WAITING, OutboxState.REFUSED)
EVENT_STATES = (WebhookEventState.WAITING, WebhookEventState.GIVEN_UP)
FILE_STATES = (LinkState.WAITING, LinkState.FAILED)


def count_backlog(session: Session) -> Backlog:
    """Count it all, in one query."""
    files = _by_state(
        "files", LinkedFile.state, FILE_STATES, Message.at, Message.id == LinkedFile.message_id
    )
    mine = WebhookEvent.hook_id.in_(select(Webhook.id).where(is_active()))
    rows = session.execute(
        union_all(
            _by_state("mails", OutgoingMail.state, MAIL_STATES, OutgoingMail.created_at),
            _by_state("events", WebhookEvent.state, EVENT_STATES, WebhookEvent.created_at, mine),
            files,
        )
    ).all()
    found = {(name, state): (count, oldest) for name, state, count, oldest in rows}
    mails, events = _queue(found, "mails", *MAIL_STATES), _queue(found, "events", *EVENT_STATES)
    return Backlog(mails, events, files=_queue(found, "files", *FILE_STATES))


def _by_state(
    name: str,
    state: InstrumentedAttribute[Any],
    states: tuple[str, str],
    since: InstrumentedAttribute[datetime],
    *where: ColumnElement[bool],
) -> Select[Any]:
    """By the index of the state: what is done is by far the most, and is not looked at."""
    word = type_coerce(state, String)
    columns: tuple[Any, ...] = (literal(name), word, func.count(), func.min(since))
    return select(*columns).where(state.in_(states), *where).group_by(state)


def _queue(
    found: dict[tuple[str, str], tuple[int, datetime]], name: str, waiting: str, failed: str
) -> QueueCounts:
    count, oldest = found.get((name, waiting), (0, None))
    return QueueCounts(count, found.get((name, failed), (0, None))[0], oldest)
