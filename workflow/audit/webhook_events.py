"""Events for outgoing webhooks, made of the rows of the audit log.

They are stored in the transaction of the change, and hold numbers and fixed words only.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from workflow.database.engine import notify_workers
from workflow.models.states import Status, WebhookEventState
from workflow.models.webhooks import Webhook, WebhookEvent, is_active
from workflow.process import STEPS, Stage

WEBHOOK_QUEUE = "hook"  # of the workers
_CACHE = "hooks"  # key in `session.info`: webhooks are looked up once a transaction
Row = dict[str, Any]


class EventType(StrEnum):
    """Events that a webhook can subscribe to; the values are part of the API."""

    OPENED = "ticket.opened"
    ASSIGNED = "ticket.assigned"
    UNASSIGNED = "ticket.unassigned"
    STAGE = "ticket.stage"  # it entered another stage, or was moved back to one
    COMPLETED = "ticket.completed"
    REOPENED = "ticket.reopened"
    COMPANY = "ticket.company"  # it was set, or changed
    MERGED = "ticket.merged"
    SPAM = "ticket.spam"
    WITHDRAWN = "ticket.withdrawn"
    UNDONE = "ticket.undone"  # an action was undone: read the ticket again
    MESSAGE_APPENDED = "message.appended"
    NOTE_ADDED = "note.added"
    MAIL_SENT = "mail.sent"  # the relay has taken it
    MAIL_REFUSED = "mail.refused"
    TASK = "task.raised"
    TASK_DONE = "task.done"
    SURVEY_ANSWERED = "survey.answered"


EVENT_OF_ACTION = {  # by the action in the audit log
    "opened": EventType.OPENED,
    "assigned": EventType.ASSIGNED,
    "unassigned": EventType.UNASSIGNED,
    "stage": EventType.STAGE,
    "moved back": EventType.STAGE,
    "reopened": EventType.REOPENED,
    "associated": EventType.COMPANY,
    "merged": EventType.MERGED,
    str(Status.SPAM): EventType.SPAM,
    str(Status.WITHDRAWN): EventType.WITHDRAWN,
    "undone": EventType.UNDONE,
    "appended": EventType.MESSAGE_APPENDED,
    "desk message": EventType.MESSAGE_APPENDED,
    "note": EventType.NOTE_ADDED,
    "automatic answer": EventType.NOTE_ADDED,
    "mail sent": EventType.MAIL_SENT,
    "mail refused": EventType.MAIL_REFUSED,
    "task": EventType.TASK,
    "task done": EventType.TASK_DONE,
    "survey answered": EventType.SURVEY_ANSWERED,
}
# Numbers of a row that leave the system; no others do.
SENT_FIELDS = ("owner", "company", "into", "message", "mail", "task", "period")


def enqueue(session: Session, change: Mapping[str, Any]) -> None:
    """Queue the events of a change, a row of the audit log, for the webhooks subscribed to them."""
    rows = build_rows(session, change)
    session.add_all(WebhookEvent(**row) for row in rows)
    if rows:
        notify_workers(session, WEBHOOK_QUEUE)


def build_rows(session: Session, change: Mapping[str, Any]) -> list[Row]:
    """Return the rows that `enqueue` adds, by column; none without a subscribed webhook."""
    events = list_events(change)
    webhooks = _list_webhooks(session) if events else []
    if not webhooks:
        return []
    # All webhooks get the same id of an event.
    with_ids = [(event, f"evt_{uuid4().hex}") for event in events]
    return [
        {
            "hook_id": number,
            "event_id": event_id,
            "event": event,
            "body": _build_body(change),
            "state": WebhookEventState.WAITING,
            "not_before": change["at"],
            "created_at": change["at"],
            "reason": "",
            "attempts": 0,
        }
        for event, event_id in with_ids
        for number, subscribed in webhooks
        if event in subscribed
    ]


def list_events(change: Mapping[str, Any]) -> list[EventType]:
    """Return the events of a change: none for most, and two when a ticket is completed."""
    event = EVENT_OF_ACTION.get(change["action"])
    if event is None or change["ticket_id"] is None:
        return []
    stage = change["detail"].get("stage")
    is_completed = event is EventType.STAGE and stage == STEPS[-1].stage.name
    return [event, EventType.COMPLETED] if is_completed else [event]


def _build_body(change: Mapping[str, Any]) -> Row:
    detail, at = change["detail"], change["at"]
    assert isinstance(at, datetime)
    stage = Stage.__members__.get(detail.get("stage", ""))
    numbers = {name: detail[name] for name in SENT_FIELDS if isinstance(detail.get(name), int)}
    return {
        "at": at.isoformat(),
        "ticket": change["ticket_id"],
        **({"stage": stage} if stage else {}),
        **numbers,
    }


def _list_webhooks(session: Session) -> list[tuple[int, frozenset[str]]]:
    """List the active webhooks and their events; cached in the session."""
    if _CACHE not in session.info:
        with session.no_autoflush:  # the caller's change may not be complete yet
            rows = session.execute(select(Webhook.id, Webhook.events).where(is_active())).all()
        session.info[_CACHE] = [(number, frozenset(events)) for number, events in rows]
    webhooks: list[tuple[int, frozenset[str]]] = session.info[_CACHE]
    return webhooks
