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

from workflow.database.engine import wake
from workflow.models.states import Status, TellState
from workflow.models.webhooks import Hook, HookEvent, live
from workflow.process import STEPS, Stage

HOOK = "hook"  # what wakes a worker for webhooks
_KNOWN = "hooks"  # in the session's own notes: looked up once a transaction
Row = dict[str, Any]


class Event(StrEnum):
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
    APPENDED = "message.appended"
    NOTED = "note.added"
    MAILED = "mail.sent"  # the relay has taken it
    MAIL_REFUSED = "mail.refused"
    TASK = "task.raised"
    TASK_DONE = "task.done"
    SURVEYED = "survey.answered"


OF_ACTION = {  # the words of the audit trail
    "opened": Event.OPENED,
    "assigned": Event.ASSIGNED,
    "unassigned": Event.UNASSIGNED,
    "stage": Event.STAGE,
    "moved back": Event.STAGE,
    "reopened": Event.REOPENED,
    "associated": Event.COMPANY,
    "merged": Event.MERGED,
    str(Status.SPAM): Event.SPAM,
    str(Status.WITHDRAWN): Event.WITHDRAWN,
    "undone": Event.UNDONE,
    "appended": Event.APPENDED,
    "note": Event.NOTED,
    "mail sent": Event.MAILED,
    "mail refused": Event.MAIL_REFUSED,
    "task": Event.TASK,
    "task done": Event.TASK_DONE,
    "survey answered": Event.SURVEYED,
}
TOLD = (
    "owner",
    "company",
    "into",
    "message",
    "mail",
    "task",
    "period",
)  # of the numbers a row has; no others leave


def promise(session: Session, change: Mapping[str, Any]) -> None:
    """Queue the events of a change for every webhook that wants them.

    A change is a row of the audit log.
    """
    rows = promised(session, change)
    session.add_all(HookEvent(**row) for row in rows)
    if rows:
        wake(session, HOOK)


def promised(session: Session, change: Mapping[str, Any]) -> list[Row]:
    """The rows of `promise`, by column; none where nobody asked."""
    happened = of(change)
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
            "state": TellState.WAITING,
            "not_before": change["at"],
            "created_at": change["at"],
            "reason": "",
            "attempts": 0,
        }
        for event, name in named
        for number, wanted in hooks
        if event in wanted
    ]


def of(change: Mapping[str, Any]) -> list[Event]:
    """Return what a change is for those outside; nothing for most."""
    event = OF_ACTION.get(change["action"])
    if event is None or change["ticket_id"] is None:
        return []
    ends = event is Event.STAGE and change["detail"].get("stage") == STEPS[-1].stage.name
    return [event, Event.COMPLETED] if ends else [event]


def _body(change: Mapping[str, Any]) -> Row:
    detail, at = change["detail"], change["at"]
    assert isinstance(at, datetime)
    stage = Stage.__members__.get(detail.get("stage", ""))
    numbers = {name: detail[name] for name in TOLD if isinstance(detail.get(name), int)}
    return {
        "at": at.isoformat(),
        "ticket": change["ticket_id"],
        **({"stage": stage} if stage else {}),
        **numbers,
    }


def _hooks(session: Session) -> list[tuple[int, frozenset[str]]]:
    if _KNOWN not in session.info:
        with session.no_autoflush:  # whoever records a change is in the midst of making it
            rows = session.execute(select(Hook.id, Hook.events).where(live())).all()
        session.info[_KNOWN] = [(number, frozenset(events)) for number, events in rows]
    found: list[tuple[int, frozenset[str]]] = session.info[_KNOWN]
    return found
