"""What the buttons of the ticket page do: one table, each entry a few lines over the desk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from workflow import process
from workflow.context import AppContext
from workflow.database.ids import parse_id
from workflow.filing import corrections
from workflow.models.core import Staff, Task, Ticket
from workflow.models.states import Status, Verdict
from workflow.process import Milestone, Stage
from workflow.tickets import assignment, notes, relations, undo
from workflow.tickets.desk import ActionNotAllowed, get_ticket

NOTE = 500  # characters of a note how, or a reason why
ACROSS, CONFIRMED = (
    "across_companies",
    "yes",
)  # the field that confirms that two companies come together


@dataclass(frozen=True)
class Asked:
    """Who asks for an action on which ticket, when, and what the form says."""

    context: AppContext
    session: Session
    ticket: Ticket
    me: Staff
    now: datetime
    form: Mapping[str, str]

    def said(self, field: str, most: int = NOTE) -> str:
        """A field of the form, one line."""
        return " ".join(
            "".join(c if c.isprintable() else " " for c in self.form.get(field, "")[:most]).split()
        )

    def number(self, field: str) -> int:
        """A number of the form, as "#12" or "12"; 0, which nothing has, for anything else."""
        return parse_id(self.said(field, 20).removeprefix("#")) or 0

    def reason(self) -> str:
        """Why. Raises ActionNotAllowed where nobody says."""
        if not (given := self.said("reason")):
            raise ActionNotAllowed("say why, in a few words: the next person has to understand it")
        return given

    def milestone(self) -> Milestone:
        """The milestone of the form. Raises ActionNotAllowed where it is none that a person ticks."""
        found = Milestone.__members__.get(self.said("milestone"))
        if found is None or found in process.RECORDED_BY_RULE | process.PROPERTY_MILESTONES:
            raise ActionNotAllowed("there is no such box")
        return found


@dataclass(frozen=True)
class Action:
    """A button: what it is called when somebody is asked again, and what it does.

    The words say what was done.
    """

    label: str
    run: Callable[[Asked], str]
    ends: frozenset[Status] = frozenset(
        {Status.OPEN, Status.COMPLETED}
    )  # the states of a ticket it is for
    reversible: bool = True
    asks: bool = (
        True  # whether it asks again when somebody else did something since the page was seen
    )
    touches: str = ""  # the field with the number of another ticket it changes


def act(asked: Asked, action: Action) -> str:
    """Do it, so that it can be taken back where it can; what was done, in words.

    Raises ActionNotAllowed where it cannot be.
    """
    if asked.ticket.status not in action.ends:
        raise ActionNotAllowed(
            f"the ticket is {asked.ticket.status}:"
            f" {_WAY_ON.get(asked.ticket.status, 'reopen it first')}"
        )
    if not action.reversible:
        return action.run(asked)
    other = asked.session.get(Ticket, asked.number(action.touches)) if action.touches else None
    with undo.reversible(
        asked.session, asked.ticket, action.label, by=asked.me.name, now=asked.now, other=other
    ) as it:
        stage = asked.ticket.stage
        it.words = action.run(asked)
        if asked.ticket.stage is not stage:
            it.words += f" – now at {asked.ticket.stage}"
    return it.words


_WAY_ON = {
    Status.OPEN: "that is for a ticket that has ended",
    Status.COMPLETED: "reopen it, or move it back",
}
_ANY = frozenset(Status)


def _assign(asked: Asked) -> str:
    owner = asked.session.get(Staff, asked.number("owner"))
    if owner is None:
        raise ActionNotAllowed("choose who is to own the ticket")
    asked.context.desk.assign(
        asked.session, asked.ticket, assignment.can_own(owner), by=asked.me.name, now=asked.now
    )
    return f"Assigned to {owner.name}"


def _tick(asked: Asked) -> str:
    milestone, note = asked.milestone(), asked.said("note")
    desk = asked.context.desk
    new = desk.record_milestone(
        asked.session, asked.ticket, milestone, by=asked.me.name, now=asked.now, note=note
    )
    return f"{'Ticked' if new else 'Already ticked:'} {milestone}"


def _untick(asked: Asked) -> str:
    milestone = asked.milestone()
    asked.context.desk.retract_milestone(
        asked.session, asked.ticket, milestone, by=asked.me.name, now=asked.now
    )
    return f"Unticked {milestone}"


def _resolve(asked: Asked) -> str:
    answer = asked.said("resolution")
    if answer not in {"yes", "no"}:
        raise ActionNotAllowed("say Yes or No")
    desk, yes = asked.context.desk, answer == "yes"
    desk.resolve(asked.session, asked.ticket, yes=yes, by=asked.me.name, now=asked.now)
    return f"{Milestone.RESOLVED} set to {'Yes' if yes else 'No'}"


def _move_back(asked: Asked) -> str:
    stage = Stage.__members__.get(asked.said("stage"))
    if stage is None:
        raise ActionNotAllowed("choose the stage to move it back to")
    desk = asked.context.desk
    desk.move_back(
        asked.session, asked.ticket, stage, by=asked.me.name, reason=asked.reason(), now=asked.now
    )
    return "Moved back"


def _reopen(asked: Asked) -> str:
    asked.context.desk.reopen(
        asked.session, asked.ticket, by=asked.me.name, cause=asked.reason(), now=asked.now
    )
    return "Reopened"


def _end(asked: Asked) -> str:
    status = next((s for s in (Status.SPAM, Status.WITHDRAWN) if s == asked.said("status")), None)
    if status is None:
        raise ActionNotAllowed("choose how it ends")
    desk = asked.context.desk
    desk.close(
        asked.session, asked.ticket, status, by=asked.me.name, reason=asked.reason(), now=asked.now
    )
    return f"Closed as {status}"


def _merge(asked: Asked) -> str:
    into = get_ticket(asked.session, asked.number("into"))
    across = asked.said(ACROSS) == CONFIRMED
    asked.context.desk.merge(
        asked.session, asked.ticket, into, by=asked.me.name, now=asked.now, across_companies=across
    )
    return f"Merged into #{into.id}"


def _telemedicine(asked: Asked) -> str:
    task = asked.context.desk.create_telemedicine_task(
        asked.session, asked.ticket, by=asked.me.name, now=asked.now
    )
    if task is None:
        raise ActionNotAllowed("it was handed over before: see its tasks")
    return (
        f"Handed over to {task.assignee}; you stay the owner"
        if asked.ticket.owner
        else f"Task for {task.assignee}"
    )


def _finish_task(asked: Asked) -> str:
    task = asked.session.get(Task, asked.number("task"))
    if task is None or task.ticket_id != asked.ticket.id:
        raise ActionNotAllowed("there is no such task on this ticket")
    asked.context.desk.finish_task(asked.session, task, by=asked.me.name, now=asked.now)
    return f"Task done: {task.text}"


def _note(asked: Asked) -> str:
    notes.add_note(
        asked.session, asked.ticket, asked.form.get("text", ""), by=asked.me, now=asked.now
    )
    return "Note added. Only the desk sees it."


def _settle(asked: Asked) -> str:
    notes.settle_question(
        asked.session, asked.ticket, asked.form.get("caveat", ""), by=asked.me.name, now=asked.now
    )
    return "Settled: it is off the list of what to ask"


def _relation(asked: Asked) -> str:
    verdict = next((v for v in Verdict if v == asked.said("verdict")), Verdict.OPEN)
    other = asked.number("other")
    relations.judge(asked.session, asked.ticket, other, verdict, by=asked.me.name, now=asked.now)
    said = {
        Verdict.LINKED: "Linked with",
        Verdict.UNRELATED: "Not related to",
        Verdict.OPEN: "Possibly related to",
    }
    return f"{said[verdict]} #{other}"


def _link(asked: Asked) -> str:
    other = asked.number("other")
    relations.link(asked.session, asked.ticket, other, by=asked.me.name, now=asked.now)
    return f"Linked with #{other}"


def _not_automatic(asked: Asked) -> str:
    message = corrections.get_automatic_message(
        asked.session, asked.ticket, asked.number("message")
    )
    desk = asked.context.desk
    corrections.mark_not_automatic(
        desk, asked.session, asked.ticket, message, by=asked.me.name, now=asked.now
    )
    return "It counts as a person's message"


def _automatic(asked: Asked) -> str:
    number = asked.number("message")
    corrections.mark_automatic(asked.session, asked.ticket, number, by=asked.me.name, now=asked.now)
    return "It counts as an automatic message: no automatic mail goes out about it"


def _undo(asked: Asked) -> str:
    words = undo.undo_action(
        asked.session, asked.ticket, asked.number("undo"), by=asked.me.name, now=asked.now
    )
    return f"Taken back: {words}"


ACTIONS: dict[str, Action] = {
    "assign": Action("assign the ticket", _assign),
    "tick": Action("tick the box", _tick),
    "untick": Action("untick the box", _untick),
    "resolve": Action(f"set {Milestone.RESOLVED}", _resolve),
    "move-back": Action("move the ticket back", _move_back),
    "reopen": Action("reopen the ticket", _reopen, ends=_ANY - {Status.OPEN}),
    "end": Action("close the ticket", _end, ends=frozenset({Status.OPEN})),
    "merge": Action("merge the ticket", _merge, touches="into"),
    "telemedicine": Action("hand over", _telemedicine),
    "finish-task": Action("finish the task", _finish_task, ends=_ANY, asks=False),
    "settle": Action("take it off the list", _settle, ends=_ANY, asks=False),
    "note": Action("add the note", _note, ends=_ANY, reversible=False, asks=False),
    "relation": Action("mark the related ticket", _relation, ends=_ANY, asks=False),
    "link": Action("link the ticket", _link, ends=_ANY, asks=False),
    "not-automatic": Action(
        "have it count as a person's", _not_automatic, ends=_ANY, reversible=False, asks=False
    ),
    "automatic": Action(
        "have it count as automatic", _automatic, ends=_ANY, reversible=False, asks=False
    ),
    "undo": Action("take it back", _undo, ends=_ANY, reversible=False, asks=False),
}
