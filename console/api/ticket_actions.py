"""Actions on a ticket by the API: each command has an address, and a schema that builds it."""

import base64
import binascii
import mimetypes
from dataclasses import dataclass, replace
from typing import Any

from flask import Response, request
from marshmallow import Schema, ValidationError, fields, post_load, validate

from console.api import schemas
from console.api.endpoint import ConditionalHeaders, endpoint
from console.api.fields import StrictSchema, bool_input, choice_input, number_input, text_input
from console.api.paging import JsonObject
from console.api.tickets import ABOUT, find_person, respond_with_ticket
from console.perform import get_actions
from console.web.api_errors import ApiError
from console.web.request import get_actor, get_context, get_session, now
from parsers.text import filenames
from workflow import process
from workflow.errors import NoSuchTicket
from workflow.mail import answer, canned_responses, drafts
from workflow.models.states import Status, Verdict
from workflow.tickets import actions, notes
from workflow.tickets.actions import LONGEST_REASON, Command, ExactVersions

BOXES = {str(m): m for m in process.list_boxes()}
STAGES_BACK = {str(s.stage): s.stage for s in process.STEPS[1:-1]}
VERDICTS = {"linked": Verdict.LINKED, "not related": Verdict.UNRELATED, "open": Verdict.OPEN}
LONGEST_RECAP = 20_000  # characters


class CommandSchema(StrictSchema):
    """The body of an action. Loading it gives the command."""

    def build(self, data: JsonObject) -> Command:
        """Return the command that the fields say. Raises ApiError where they name nobody."""
        raise NotImplementedError

    @post_load
    def _load_command(self, data: JsonObject, **_: Any) -> Command:
        return self.build(data)


class Empty(CommandSchema):
    """No request body."""


class WithReason(CommandSchema):
    """Body that gives the reason, for whoever comes next."""

    reason = text_input(LONGEST_REASON, 1, required=True)


class WithNote(CommandSchema):
    """Body that may say how something was done, for the record."""

    note = text_input(LONGEST_REASON, load_default="")


class Box(CommandSchema):
    """Body that names a box of the manual."""

    milestone = choice_input(BOXES, required=True)


class Assign(CommandSchema):
    """Body that names the new owner."""

    owner = text_input(
        320, 1, required=True, metadata={"description": "A name or mail address, or `me`."}
    )

    def build(self, data: JsonObject) -> Command:
        """Return the command; its owner is looked up by name or address."""
        return actions.Assign(find_person(get_session(), data["owner"], "owner").id)


class FollowUp(WithNote):
    """Body that may say how the follow-up was done, for the record."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.FollowUp(note=data["note"])


class Tick(Box, WithNote):
    """Body that names a box of the manual, and may say how it was done."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.Tick(BOXES[data["milestone"]], data["note"])


class Untick(Box):
    """Body that names a box of the manual."""

    # As for `tick`, so that a program can send the same body to untick it; it is not recorded.
    note = text_input(LONGEST_REASON)

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.Untick(BOXES[data["milestone"]])


class Resolve(CommandSchema):
    """Body that sets the property Resolution."""

    resolution = choice_input(("yes", "no"), required=True)

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.Resolve(yes=data["resolution"] == "yes")


class MoveBack(WithReason):
    """Body that names an earlier stage, with the reason."""

    stage = choice_input(STAGES_BACK, required=True)

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.MoveBack(STAGES_BACK[data["stage"]], data["reason"])


class Reopen(WithReason):
    """Body that gives the reason, for whoever comes next."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.Reopen(data["reason"])


class End(WithReason):
    """Body that says how the ticket ends, with the reason."""

    status = choice_input((Status.SPAM, Status.WITHDRAWN), required=True)

    def build(self, data: JsonObject) -> Command:
        """Return one command or the other."""
        if data["status"] == Status.SPAM:
            return actions.CloseAsSpam(data["reason"])
        return actions.Withdraw(data["reason"])


class Merge(CommandSchema):
    """Body that names the ticket that goes on."""

    into = number_input(required=True)
    across_companies = fields.Boolean(
        load_default=False,
        metadata={
            "description": "Confirms that the tickets are of two companies; without it that is 409."
        },
    )

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.Merge(data["into"], data["across_companies"])


class Telemedicine(Empty):
    """No request body."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        del data
        return actions.HandToTelemedicine()


class OneTask(CommandSchema):
    """Body that names a task of this ticket."""

    task = number_input(required=True)


class FinishTask(OneTask):
    """Body that names a task of this ticket."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.FinishTask(data["task"])


class ReopenTask(OneTask):
    """Body that names a task of this ticket."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.ReopenTask(data["task"])


class Note(CommandSchema):
    """Body that has a note; only the desk sees it."""

    text = text_input(notes.LONGEST, 1, required=True)

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.AddNote(data["text"])


class Settle(CommandSchema):
    """Body that names a caveat that was asked about: a text of the ticket's caveats."""

    caveat = text_input(2000, 1, required=True)

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.Settle(data["caveat"])


class Relate(CommandSchema):
    """Body that says how another ticket is related to this one."""

    other = number_input(required=True)
    verdict = choice_input(VERDICTS, required=True)

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.Relate(data["other"], VERDICTS[data["verdict"]])


class OneMessage(CommandSchema):
    """Body that names a message of this ticket; by default the newest that is possible."""

    message = number_input(load_default=0)


class NotAutomatic(OneMessage):
    """Body that names a message of this ticket; by default the newest that is possible."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.MarkWrittenByPerson(data["message"])


class Automatic(OneMessage):
    """Body that names a message of this ticket; by default the newest that is possible."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.MarkAutomatic(data["message"])


class UseSender(OneMessage):
    """Body that names a message of this ticket; by default the newest that is possible."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.UseSender(data["message"])


class UseCompany(CommandSchema):
    """Body that names a company of `near_companies`; by default the nearest."""

    company = number_input(load_default=0)

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.UseNearCompany(data["company"])


class CreateNamedCompany(CommandSchema):
    """Body without fields."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        del data
        return actions.CreateNamedCompany()


class Split(OneMessage):
    """Body that names a message of a customer; by default the newest. `notify` sends a notice."""

    notify = bool_input(load_default=False)

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.SplitMessage(data["message"], data["notify"])


class NotDuplicate(CommandSchema):
    """Body that names a delivery; by default the newest that was taken for a duplicate."""

    delivery = number_input(load_default=0)

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        return actions.FileSeparately(data["delivery"])


class Undo(Empty):
    """No request body."""

    def build(self, data: JsonObject) -> Command:
        """Return the command."""
        del data
        return actions.Undo()


# -- the recap ----


def _is_base64(text: str) -> None:
    """Raises ValidationError for what is no base64."""
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValidationError("It is no base64.") from None


class Enclosure(StrictSchema):
    """A file that goes with it."""

    name = text_input(180, 1, required=True)
    content = fields.String(
        required=True, validate=_is_base64, metadata={"contentEncoding": "base64"}
    )


class Recap(CommandSchema):
    """The recap mail, to every contact of the ticket that mail reaches.

    Contacts of another company that a merge has brought get it only with `across_companies`.
    """

    text = text_input(
        LONGEST_RECAP,
        load_default="",
        metadata={
            "description": (
                "What was done; without `template` the recap's fixed words stand around it."
            )
        },
    )
    template = text_input(
        canned_responses.MAX_NAME_LENGTH,
        load_default="",
        metadata={
            "description": "Name of a text of the desk: its subject, and its words below `text`."
        },
    )
    cc = fields.List(
        fields.Email(), load_default=list, validate=validate.Length(max=answer.MAX_RECIPIENTS)
    )
    attachments = fields.List(
        fields.Nested(Enclosure), load_default=list, validate=validate.Length(max=drafts.MAX_FILES)
    )
    across_companies = fields.Boolean(
        load_default=False,
        metadata={
            "description": (
                "Confirms that it goes to people of two companies; without it that is 409."
            )
        },
    )
    checked = fields.Boolean(
        load_default=False,
        metadata={"description": "Somebody has looked: what seems to be patient data is none."},
    )

    def build(self, data: JsonObject) -> Command:
        """Return the command, with its files decoded; the key comes by a header."""
        return actions.SendRecap(
            text=data["text"],
            template=data["template"],
            cc=data["cc"],
            files=[_decode_file(one["name"], one["content"]) for one in data["attachments"]],
            across_companies=data["across_companies"],
            checked=data["checked"],
        )


def _decode_file(name: str, content: str) -> actions.AttachedFile:
    safe = filenames.make_safe(name)
    if not safe:
        raise ApiError(422, fields={"attachments": ["A file needs a name."]})
    mime = mimetypes.guess_type(safe)[0] or "application/octet-stream"
    return actions.AttachedFile(safe, mime, base64.b64decode(content))


class OnceIfUnchanged(ConditionalHeaders):
    """Headers of what is sent once, however often it is asked for, and only for what was seen."""

    key = fields.String(
        data_key="Idempotency-Key",
        load_default="",
        validate=validate.Length(max=200),
        metadata={"description": "Sent again under the same key it is the same mail."},
    )


# -- the addresses ----


@dataclass(frozen=True)
class Action:
    """An action of the API: the schema of its body, and a sentence for the document."""

    body: type[CommandSchema]
    description: str
    headers: type[Schema] = ConditionalHeaders


ACTIONS = {
    "assign": Action(Assign, "Give it to somebody."),
    "follow-up": Action(FollowUp, "Tick 4-Support Follow Up Sent."),
    "tick": Action(Tick, "Tick a box."),
    "untick": Action(Untick, "Untick a box; the ticket stays where it is."),
    "resolve": Action(Resolve, "Set the property Resolution."),
    "recap": Action(
        Recap,
        "Send the recap to its contacts, in ten seconds; its box is ticked once it is sent.",
        OnceIfUnchanged,
    ),
    "undo": Action(
        Undo,
        "Undo what you did to it last, within ten minutes; a mail while it is held up.",
    ),
    "reopen": Action(Reopen, "Reopen it, with new deadlines."),
    "move-back": Action(MoveBack, "Move it back to a stage."),
    "end": Action(End, "Close it as spam or withdrawn."),
    "merge": Action(Merge, "End it as a duplicate of another."),
    "telemedicine": Action(Telemedicine, "Hand over to the telemedicine specialist or group."),
    "note": Action(Note, "Note something on its timeline."),
    "settle": Action(Settle, "Say that a caveat was asked about."),
    "relate": Action(Relate, "Say what another ticket is to it."),
    "not-automatic": Action(
        NotAutomatic, "Say that a person wrote a message that was taken for an automatic one."
    ),
    "automatic": Action(Automatic, "Say that a message was sent by a program."),
    "use-sender": Action(
        UseSender,
        "Make the sender of a message its contact, in place of the customer it was taken for.",
    ),
    "use-company": Action(
        UseCompany, "Take a company that its practice perhaps is, of `near_companies`, as its own."
    ),
    "new-company": Action(
        CreateNamedCompany,
        "Put the practice it names on record, which is none of `near_companies`.",
    ),
    "split": Action(
        Split,
        "Make a customer's message, with its files, a ticket of its own; the new ticket.",
    ),
    "not-duplicate": Action(
        NotDuplicate,
        "Make a ticket of what came again and was taken for the same message; the new ticket.",
    ),
    "finish-task": Action(FinishTask, "Say that a task of it is done."),
    "reopen-task": Action(ReopenTask, "Open a task of it again that was closed too soon."),
}


def _add(name: str, action: Action) -> None:
    def view(headers: JsonObject, command: Command, number: int) -> Response:
        if "key" in headers:
            assert isinstance(command, actions.SendRecap)
            command = replace(command, key=headers["key"])
        return perform(number, command, versions=_parse_versions(headers["if_match"]))

    view.__name__ = f"ticket_{name.replace('-', '_')}"
    view.__doc__ = action.description
    make = endpoint(
        "POST",
        f"/tickets/<int:number>/{name}",
        Command.right,
        schemas.Ticket,
        about=ABOUT,
        body=action.body,
        headers=action.headers,
        refuses=[409, 412],
    )
    make(view)


def perform(number: int, command: Command, versions: ExactVersions | None = None) -> Response:
    """Carry out a command and answer the ticket as it is now, or the one that it opened.

    Raises ApiError for a ticket that does not exist; what else stands in the way is 403, 409 or
    412.
    """
    try:
        result = get_actions(get_context()).perform(
            number, command, actor=get_actor(), now=now(), expectation=versions
        )
    except NoSuchTicket as missing:
        if missing.number != number:  # another ticket that the command names
            raise
        raise ApiError(404, f"There is no ticket {number}.") from None
    return respond_with_ticket(result.opened_ticket or number)


def _parse_versions(if_match: str) -> ExactVersions | None:
    """Return the versions that the caller insists on; None where they insist on none."""
    if not if_match or request.if_match.star_tag:
        return None
    return ExactVersions(frozenset(int(tag) for tag in request.if_match.as_set() if tag.isdigit()))


for _name, _action in ACTIONS.items():
    _add(_name, _action)
