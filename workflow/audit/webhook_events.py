"""What outgoing webhooks are told.

Which change is which event, kept with the change itself, in numbers only.
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

WEBHOOK_QUEUE = "hook"  # what wakes a worker for webhooks
_KNOWN = "hooks"  # in the session's own notes: looked up once a transaction
Row = dict[str, Any]


class EventType(StrEnum):
    """What a webhook can ask to be told."""

    OPENED = "ticket.opened"
    ASSIGNED = "ticket.assigned"
    UNASSIGNED = "ticket.unassigned"
    STAGE = "ticket.stage"  # it came to another stage, or was moved back
    COMPLETED = "ticket.completed"
    REOPENED = "ticket.reopened"
    COMPANY = "ticket.company"  # it is known now, or another one
    MERGED = "ticket.merged"
    SPAM = "ticket.spam"
    WITHDRAWN = "ticket.withdrawn"
    UNDONE = "ticket.undone"  # somebody took back what they had just done: look at the ticket again
    MESSAGE_APPENDED = "message.appended"
    NOTE_ADDED = "note.added"
    MAIL_SENT = "mail.sent"  # the relay has taken it
    MAIL_REFUSED = "mail.refused"
    TASK = "task.raised"
    TASK_DONE = "task.done"
    SURVEY_ANSWERED = "survey.answered"


EVENT_OF_ACTION = {  # the words of the audit trail
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
    "note": EventType.NOTE_ADDED,
    "mail sent": EventType.MAIL_SENT,
    "mail refused": EventType.MAIL_REFUSED,
    "task": EventType.TASK,
    "task done": EventType.TASK_DONE,
    "survey answered": EventType.SURVEY_ANSWERED,
}
SENT_FIELDS = (
    "owner",
    "company",
    "into",
    "message",
    "mail",
    "task",
    "period",
)  # of the numbers a row has; no others leave


def enqueue(session: Session, change: Mapping[str, Any]) -> None:
    """Queue the events of a change for every webhook that wants them.

    A change is a row of the audit log.
    """
    rows = build_rows(session, change)
    session.add_all(WebhookEvent(**row) for row in rows)
    if rows:
        notify_workers(session, WEBHOOK_QUEUE)


def build_rows(session: Session, change: Mapping[str, Any]) -> list[Row]:
    """The rows of `enqueue`, by column; none where nobody asked."""
    happened = list_events(change)
    hooks = _hooks(session) if happened else []
    if not hooks:
        return []
    named = [(event, f"evt_{uuid4().hex}") for event in happened]
    return [
        {
            "hook_id": number,
            "event_id": name,
            "event": event,
            "body": _body(change),
            "state": WebhookEventState.WAITING,
            "not_before": change["at"],
            "created_at": change["at"],
            "reason": "",
            "attempts": 0,
        }
        for event, name in named
        for number, wanted in hooks
        if event in wanted
    ]


def list_events(change: Mapping[str, Any]) -> list[EventType]:
    """Return what a change is for those outside; nothing for most."""
    event = EVENT_OF_ACTION.get(change["action"])
    if event is None or change["ticket_id"] is None:
        return []
    ends = event is EventType.STAGE and change["detail"].get("stage") == STEPS[-1].stage.name
    return [event, EventType.COMPLETED] if ends else [event]


def _body(change: Mapping[str, Any]) -> Row:
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


def _hooks(session: Session) -> list[tuple[int, frozenset[str]]]:
    if _KNOWN not in session.info:
        with session.no_autoflush:  # whoever records a change is in the midst of making it
            rows = session.execute(select(Webhook.id, Webhook.events).where(is_active())).all()
        session.info[_KNOWN] = [(number, frozenset(events)) for number, events in rows]
    found: list[tuple[int, frozenset[str]]] = session.info[_KNOWN]
    return found
