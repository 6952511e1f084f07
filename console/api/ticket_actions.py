"""What can be done to a ticket by the API: the actions of its page, each an address of its own."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from flask import Response, request
from marshmallow import Schema, fields
from sqlalchemy.orm import Session

from console.api import recap, schemas
from console.api.endpoint import Conditional, endpoint
from console.api.fields import Strict, number, one_of, words
from console.api.paging import Data
from console.api.tickets import ABOUT, person, shown
from console.ticket_actions import ACROSS, ACTIONS, CONFIRMED, NOTE, Action, Asked, act
from console.web.api_errors import Refused
from console.web.request import house, now, staff
from workflow import process
from workflow.errors import Missing
from workflow.models.states import Status, Verdict
from workflow.permissions import Right
from workflow.process import Milestone
from workflow.tickets import notes, presence, undo
from workflow.tickets.desk import ticket_or_missing

BOXES = {
    str(m): m.name
    for s in process.STEPS
    for m in s.waits_for
    if m not in process.BY_RULE | process.PROPERTIES
}
BACK = {str(s.stage): s.stage.name for s in process.STEPS[1:-1]}


class Empty(Strict):
    """Nothing has to be said."""


class Owner(Strict):
    """To whom."""

    owner = words(
        320, 1, required=True, metadata={"description": "A name or mail address, or `me`."}
    )


class How(Strict):
    """How it was done, for the record."""

    note = words(NOTE)


class Box(How):
    """A box of the manual."""

    milestone = one_of(BOXES, required=True)


class Resolution(Strict):
    """The property Resolution."""

    resolution = one_of(("yes", "no"), required=True)


class Why(Strict):
    """Why, for whoever comes next."""

    reason = words(NOTE, 1, required=True)


class Back(Why):
    """Where to."""

    stage = one_of(BACK, required=True)


class End(Why):
    """How it ends."""

    status = one_of((Status.SPAM, Status.WITHDRAWN), required=True)


class Into(Strict):
    """The ticket that goes on."""

    into = number(required=True)
    across_companies = fields.Boolean(
        load_default=False,
        metadata={
            "description": "Confirms that the tickets are of two companies; without it that is 409."
        },
    )


class Note(Strict):
    """A note that only the desk sees."""

    text = words(notes.LONGEST, 1, required=True)


class Caveat(Strict):
    """What has been asked: a text of the ticket's caveats."""

    caveat = words(2000, 1, required=True)


class Relation(Strict):
    """What another ticket is to this one."""

    other = number(required=True)
    verdict = one_of((Verdict.LINKED, Verdict.UNRELATED), required=True)


class OneMessage(Strict):
    """A message of this ticket; the newest it can be, where none is named."""

    message = number()


class TaskDone(Strict):
    """A task of this ticket."""

    task = number(required=True)


@dataclass(frozen=True)
class Does:
    """An action by its address.

    What the page calls it, what is said, and what that is in the page's form.
    """

    action: Action | Callable[[Data, Data], Action]  # or what makes one of the headers and the body
    body: type[Schema] = Empty
    form: Callable[[Session, Data], Data] = lambda _session, told: told
    words: str = ""
    headers: type[Schema] = Conditional


def _undo(asked: Asked) -> str:
    return undo.take_back_latest(asked.session, asked.ticket, by=asked.me.name, now=asked.now)


def _assignment(session: Session, told: Data) -> Data:
    return {"owner": person(session, told["owner"], "owner").id}


def _merging(_: Session, told: Data) -> Data:
    return {"into": told["into"], ACROSS: CONFIRMED if told["across_companies"] else ""}


def _box(_: Session, told: Data) -> Data:
    return {**told, "milestone": BOXES[told["milestone"]]}


FOLLOW_UP = {"milestone": Milestone.FOLLOW_UP_SENT.name}
TABLE = {
    "assign": Does(ACTIONS["assign"], Owner, _assignment, "Give it to somebody."),
    "follow-up": Does(
        ACTIONS["tick"],
        How,
        lambda _, told: {**told, **FOLLOW_UP},
        "Tick 4-Support Follow Up Sent.",
    ),
    "tick": Does(ACTIONS["tick"], Box, _box, "Tick a box."),
    "untick": Does(ACTIONS["untick"], Box, _box, "Take a box back; the ticket stays where it is."),
    "resolve": Does(ACTIONS["resolve"], Resolution, words="Set the property Resolution."),
    "recap": Does(
        recap.sending,
        recap.Recap,
        headers=recap.OnceIfUnchanged,
        words="Send the recap to its contacts, in ten seconds; its box is ticked once it is sent.",
    ),
    "undo": Does(
        replace(ACTIONS["undo"], run=_undo),
        words="Take back what you did to it last, within ten minutes; a mail while it is held up.",
    ),
    "reopen": Does(ACTIONS["reopen"], Why, words="Reopen it, with new deadlines."),
    "move-back": Does(
        ACTIONS["move-back"],
        Back,
        lambda _, told: {**told, "stage": BACK[told["stage"]]},
        "Move it back to a stage.",
    ),
    "end": Does(ACTIONS["end"], End, words="Close it as spam or withdrawn."),
    "merge": Does(ACTIONS["merge"], Into, _merging, "End it as a duplicate of another."),
    "telemedicine": Does(
        ACTIONS["telemedicine"], words="Hand over to the telemedicine specialist or group."
    ),
    "note": Does(ACTIONS["note"], Note, words="Note something on its timeline."),
    "settle": Does(ACTIONS["settle"], Caveat, words="Say that a caveat was asked about."),
    "relate": Does(ACTIONS["relation"], Relation, words="Say what another ticket is to it."),
    "not-automatic": Does(
        ACTIONS["not-automatic"],
        OneMessage,
        words="Say that a person wrote a message that was taken for an automatic one.",
    ),
    "automatic": Does(
        ACTIONS["automatic"],
        OneMessage,
        words="Say that a message was sent by a program.",
    ),
    "finish-task": Does(ACTIONS["finish-task"], TaskDone, words="Say that a task of it is done."),
}


def _add(name: str, does: Does) -> None:
    def view(seen: Data, told: Data, number: int) -> Response:
        with house().store.transaction() as session:
            try:
                ticket = ticket_or_missing(session, number)
            except Missing:
                raise Refused(404, f"There is no ticket {number}.") from None
            _unchanged(session, number, seen["if_match"])
            asked = Asked(house(), session, ticket, session.merge(staff(), load=False), now(), {})
            if isinstance(does.action, Action):
                form = {field: str(value) for field, value in does.form(session, told).items()}
                act(replace(asked, form=form), does.action)
            else:
                act(asked, does.action(seen, told))
        return shown(number)

    view.__name__ = f"ticket_{name.replace('-', '_')}"
    view.__doc__ = does.words
    make = endpoint(
        "POST",
        f"/tickets/<int:number>/{name}",
        Right.WORK,
        schemas.Ticket,
        about=ABOUT,
        body=does.body,
        headers=does.headers,
        refuses=[409, 412],
    )
    make(view)


def _unchanged(session: Session, number: int, seen: str) -> None:
    """Hold the caller to what they saw, where they said so.

    Raises Refused when it has changed since.
    """
    if seen and not request.if_match.contains(str(presence.version(session, number))):
        raise Refused(412)


for _name, _does in TABLE.items():
    _add(_name, _does)
