"""Audit log entries in words for people: "Moved to 5-Audit", "Assigned to Ann Lee"."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from workflow.audit.record import AUTOMATIC_ANSWER, DESK_MESSAGE, RULE
from workflow.filing import corrections
from workflow.models.core import AuditEntry, Staff, Task
from workflow.models.states import Status
from workflow.process import PROPERTY_MILESTONES, RECORDED_BY_RULE, Milestone, Stage
from workflow.tickets import merged_messages

# Actions the timeline leaves out: it shows their message, mail or task, and views are no event.
SHOWN_ELSEWHERE = (
    "viewed",
    "file opened",
    "original read",
    "appended",
    DESK_MESSAGE,
    AUTOMATIC_ANSWER,
    "note",
    "mail sent",
    "mail refused",
    "mail withheld",
    "recap promised",
    "answer promised",
    "re-read",
)


@dataclass(frozen=True)
class AuditNames:
    """Names of the staff and tasks that audit rows refer to by id."""

    staff: Mapping[int, str]
    tasks: Mapping[int, str]  # "escalate the ticket, for Sam"


def describe_action(row: AuditEntry, names: AuditNames) -> str:
    """Return the action of a row in words, without who did it.

    An action without a text here is shown by its own name.
    """
    describe = _ACTION_TEXTS.get(row.action)
    return describe(row.detail, names) if describe else row.action.capitalize()


def describe_change(row: AuditEntry, names: AuditNames) -> str:
    """Return the action of a row for a page that does not show the timeline beside it."""
    return _CHANGE_TEXTS.get(row.action) or describe_action(row, names)


def load_names(session: Session, rows: Iterable[AuditEntry]) -> AuditNames:
    """Load the names of all staff and tasks in these rows, in two queries."""
    details = [row.detail for row in rows]
    staff = {
        n
        for d in details
        for key in ("owner", "staff", "manager")
        if isinstance(n := d.get(key), int)
    }
    tasks = {n for d in details if isinstance(n := d.get("task"), int)}
    names = session.execute(select(Staff.id, Staff.name).where(Staff.id.in_(staff)))
    texts = session.execute(select(Task.id, Task.text, Task.assignee).where(Task.id.in_(tasks)))
    return AuditNames(
        dict(names.all()), {n: describe_task(text, assignee) for n, text, assignee in texts}
    )


def describe_task(text: str, assignee: str) -> str:
    """Return a task and its assignee in words."""
    return f"{text}, for {assignee or 'the desk'}"


def describe_cause(row: AuditEntry) -> str:
    """Return the cause where it adds to the action, else ""."""
    actions = {
        "moved back",
        "reopened",
        str(Status.SPAM),
        str(Status.WITHDRAWN),
        "task",
        "undone",
        "relation",
    }
    return row.cause if row.action in actions else ""


def describe_actor(name: str) -> str:
    """Return the person who acted, or "the process"."""
    return "the process" if name == RULE else name


def _describe_milestone(detail: dict[str, Any], names: AuditNames) -> str:
    del names
    milestone = _find_label(Milestone, detail.get("milestone"))
    if milestone in PROPERTY_MILESTONES:
        return f"{milestone} set to Yes"
    return f"{milestone}" if milestone in RECORDED_BY_RULE else f"Ticked {milestone}"


def _find_label(kind: type[Milestone] | type[Stage], name: object) -> str:
    """Return the manual's words for a stored stage or milestone; the name if it is gone."""
    return kind.__members__.get(str(name), str(name))


_CHANGE_TEXTS = {
    "appended": "A message came from the customer",
    AUTOMATIC_ANSWER: "A program answered a mail of ours",
    DESK_MESSAGE: "The desk wrote a message in a mail program",
    "note": "A note was added",
    "mail refused": "A mail of ours was refused",
    "recap promised": "The recap was sent",
    "answer promised": "The customer was answered",
}
assert set(_CHANGE_TEXTS) <= set(SHOWN_ELSEWHERE)
_ACTION_TEXTS: dict[str, Callable[[dict[str, Any], AuditNames], str]] = {
    "opened": lambda _, __: "Ticket opened",
    "imported": lambda d, _: "A message was imported" if "message" in d else "Ticket imported",
    "assigned": lambda d, names: f"Assigned to {names.staff.get(d.get('owner', 0), 'somebody')}",
    "reached": _describe_milestone,
    "unticked": lambda d, _: f"Unticked {_find_label(Milestone, d.get('milestone'))}",
    "stage": lambda d, _: f"Moved to {_find_label(Stage, d.get('stage'))}",
    "moved back": lambda d, _: f"Moved back to {_find_label(Stage, d.get('stage'))}",
    "resolution no": lambda _, __: f"{Milestone.RESOLVED} set to No",
    "reopened": lambda _, __: "Reopened",
    merged_messages.MOVED: lambda d, _: f"Messages moved to #{d.get('to')}",
    "merged": lambda d, _: f"Merged into #{d.get('into')}",
    str(Status.SPAM): lambda _, __: "Closed as spam",
    str(Status.WITHDRAWN): lambda _, __: "Closed as withdrawn",
    "task": lambda d, names: f"Task: {names.tasks.get(d.get('task', 0), 'gone')}",
    "task done": lambda d, names: f"Task done: {names.tasks.get(d.get('task', 0), 'gone')}",
    corrections.ACTION_NOT_AUTOMATIC: lambda _, __: "A message counts as a person's",
    corrections.ACTION_SENDER_IS_CONTACT: lambda _, __: "The sender of a message is the contact",
    corrections.ACTION_SPLIT: lambda d, _: f"A message was made ticket #{d.get('to')}",
    corrections.ACTION_AUTOMATIC: lambda _, __: "A message counts as automatic",
    "not a duplicate": lambda d, _: f"What came again is #{d.get('opened')} now",
    "rows filed": lambda d, _: (
        f"Rows of an attached workbook become tickets (delivery {d.get('delivery')})"
    ),
    "settled": lambda _, __: "Settled a question of the list",
    "relation": lambda d, _: f"Looked at whether #{d.get('other')} belongs to this",
    "answer taken back": lambda _, __: "Undid sending an answer before it was sent",
    "undone": lambda _, __: "Undid the last action",
    "associated": lambda _, __: "Set its company",
    "company merged": lambda d, _: f"Merged company {d['company']} into company {d['into']}",
    "company unmerged": lambda d, _: f"Separated company {d['company']} from {d['from']} again",
    "contact merged": lambda d, _: f"Merged contact {d['contact']} into contact {d['into']}",
    "contact unmerged": lambda d, _: f"Separated contact {d['contact']} from {d['from']} again",
    "manager": lambda d, names: (
        f"Its company is managed by {names.staff.get(d['manager'], 'somebody')} now"
        if "manager" in d
        else "Its company has no manager any more"
    ),
    "survey answered": lambda _, __: "Survey answered",
    "unsubscribed": lambda _, __: "Wants no more surveys",
}
