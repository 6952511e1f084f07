"""The page of a ticket, and what its buttons do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from flask import (
    Blueprint,
    Response,
    abort,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from console.pages.tickets.links import make_href_builder
from console.perform import get_actions
from console.presenters.audit import describe_actor as actor_name
from console.presenters.audit import describe_cause, describe_change, load_names
from console.presenters.tickets import ticket_page
from console.presenters.tickets.timeline import EventEntry
from console.web.request import (
    get_actor,
    get_context,
    get_session,
    get_staff,
    mark_as_background,
    now,
    only_for_scripts,
    requires,
)
from workflow.database.ids import parse_id
from workflow.errors import (
    AcrossCompanies,
    ActionNotAllowed,
    ChangedSinceSeen,
    NoSuchTicket,
    NotPermitted,
)
from workflow.models.core import AuditEntry, Message, Ticket
from workflow.models.states import Status, Verdict
from workflow.permissions import Right
from workflow.tickets import actions, presence
from workflow.tickets.actions import Command, SeenVersion

MAX_CHANGES = 12  # changes listed before somebody is asked again
VERDICT_LABELS = {Verdict.LINKED: "Link", Verdict.UNRELATED: "Not related"}  # of buttons
ACROSS, CONFIRMED = "across_companies", "yes"  # the field that confirms two companies together

pages = Blueprint("ticket", __name__)


# -- forms of the page, as commands ----


@dataclass(frozen=True)
class Form:
    """The fields of a form that was sent."""

    fields: Mapping[str, str]

    def get_text(self, name: str) -> str:
        """Return a field as it was typed; "" where it was not sent."""
        return self.fields.get(name, "")

    def get_word(self, name: str) -> str:
        """Return a field without space around it."""
        return self.get_text(name).strip()

    def get_number(self, name: str) -> int:
        """Return a number typed as "#12" or "12"; 0, which nothing has, for anything else."""
        return parse_id(self.get_word(name).removeprefix("#")) or 0


def _resolve(form: Form) -> Command:
    answer = form.get_word("resolution")
    if answer not in {"yes", "no"}:
        raise ActionNotAllowed("say Yes or No")
    return actions.Resolve(yes=answer == "yes")


def _end(form: Form) -> Command:
    match form.get_word("status"):
        case Status.SPAM:
            return actions.CloseAsSpam(form.get_text("reason"))
        case Status.WITHDRAWN:
            return actions.Withdraw(form.get_text("reason"))
    raise ActionNotAllowed("choose how it ends")


def _relate(form: Form) -> Command:
    word = form.get_word("verdict")
    verdict = next((one for one in Verdict if one == word), Verdict.OPEN)
    return actions.Relate(form.get_number("other"), verdict)


@dataclass(frozen=True)
class Button:
    """A button of the page: the kind of command that its form asks for, and how it is built."""

    kind: type[Command]  # it is shown where this kind is for a ticket in its status
    build: Callable[[Form], Command]


BUTTONS = {
    "assign": Button(actions.Assign, lambda form: actions.Assign(form.get_number("owner"))),
    "tick": Button(
        actions.Tick,
        lambda form: actions.Tick(
            actions.find_box(form.get_word("milestone")), form.get_text("note")
        ),
    ),
    "untick": Button(
        actions.Untick, lambda form: actions.Untick(actions.find_box(form.get_word("milestone")))
    ),
    "resolve": Button(actions.Resolve, _resolve),
    "move-back": Button(
        actions.MoveBack,
        lambda form: actions.MoveBack(
            actions.find_stage(form.get_word("stage")), form.get_text("reason")
        ),
    ),
    "reopen": Button(actions.Reopen, lambda form: actions.Reopen(form.get_text("reason"))),
    "end": Button(actions.CloseAsSpam, _end),
    "merge": Button(
        actions.Merge,
        lambda form: actions.Merge(form.get_number("into"), form.get_word(ACROSS) == CONFIRMED),
    ),
    "telemedicine": Button(actions.HandToTelemedicine, lambda _: actions.HandToTelemedicine()),
    "finish-task": Button(
        actions.FinishTask, lambda form: actions.FinishTask(form.get_number("task"))
    ),
    "reopen-task": Button(
        actions.ReopenTask, lambda form: actions.ReopenTask(form.get_number("task"))
    ),
    "settle": Button(actions.Settle, lambda form: actions.Settle(form.get_text("caveat"))),
    "note": Button(actions.AddNote, lambda form: actions.AddNote(form.get_text("text"))),
    "relation": Button(actions.Relate, _relate),
    "link": Button(
        actions.Relate, lambda form: actions.Relate(form.get_number("other"), Verdict.LINKED)
    ),
    "not-automatic": Button(
        actions.MarkWrittenByPerson,
        lambda form: actions.MarkWrittenByPerson(form.get_number("message")),
    ),
    "automatic": Button(
        actions.MarkAutomatic, lambda form: actions.MarkAutomatic(form.get_number("message"))
    ),
    "use-sender": Button(
        actions.UseSender, lambda form: actions.UseSender(form.get_number("message"))
    ),
    "use-company": Button(
        actions.UseNearCompany, lambda form: actions.UseNearCompany(form.get_number("company"))
    ),
    "new-company": Button(actions.CreateNamedCompany, lambda _: actions.CreateNamedCompany()),
    "split": Button(
        actions.SplitMessage,
        lambda form: actions.SplitMessage(
            form.get_number("message"), bool(form.get_word("notify"))
        ),
    ),
    "undo": Button(actions.Undo, lambda form: actions.Undo(form.get_number("undo"))),
}


def is_offered(ticket: Ticket, name: str) -> bool:
    """Return whether a button is shown on the page of a ticket to who is asking."""
    kind = BUTTONS[name].kind
    return kind.right in get_actor().rights and not actions.find_status_refusal(ticket, kind)


# -- addresses ----


@pages.get("/tickets/<int:number>")
@requires(Right.READ)
def show(number: int) -> str:
    """Show everything about a ticket, and record that it was looked at."""
    return _render_page(number)


@pages.post("/tickets/<int:number>/do/<name>")
@requires(Right.READ)  # the command says which right it takes
def do(number: int, name: str) -> AnyResponse | tuple[str, int]:
    """Carry out what a button says.

    302 to the page once it is done. 403 where the person lacks the right. 404 for a ticket or
    button that does not exist. 409 with a question: when others changed the ticket since the page
    was seen, and when two companies would come together, which a button confirms. 422 with the page
    and what was typed when it cannot be done.
    """
    button = BUTTONS.get(name) or abort(404)
    seen_version = SeenVersion(parse_id(request.form.get("seen")) or 0)
    command: Command | None = None
    try:
        command = button.build(Form(request.form))
        result = get_actions(get_context()).perform(
            number, command, actor=get_actor(), now=now(), expectation=seen_version
        )
    except ChangedSinceSeen as conflict:
        assert command is not None  # building a command looks at no ticket
        return _ask_again(number, command, conflict.changes), 409
    except AcrossCompanies as question:
        assert command is not None
        return _ask_across(number, command, str(question)), 409
    except NotPermitted as refusal:
        return _render_page(number, fault=str(refusal)), 403
    except ActionNotAllowed as error:
        if isinstance(error, NoSuchTicket) and error.number == number:
            abort(404)
        return _render_page(number, fault=str(error)), 422
    if result.undo_id is None:  # what can be undone is shown with its button
        flash(result.words, "success")
    anchor = "main" if result.undo_id is None else "notices"
    return redirect(url_for("ticket.show", number=number, _anchor=anchor))


@pages.post("/tickets/<int:number>/separate")
@requires(Right.READ)  # the command says which right it takes
def separate(number: int) -> AnyResponse:
    """Make a ticket of what was taken for a duplicate, and show it."""
    command = actions.FileSeparately(Form(request.form).get_number("delivery"))
    try:
        result = get_actions(get_context()).perform(number, command, actor=get_actor(), now=now())
    except NotPermitted:
        abort(403)
    except NoSuchTicket:
        abort(404)
    except ActionNotAllowed as error:
        flash(f"It could not be made a ticket: {error}", "error")
        return redirect(url_for("ticket.show", number=number))
    flash(f"{result.words}.", "success")
    return redirect(url_for("ticket.show", number=result.opened_ticket))


@pages.post("/tickets/<int:number>/pulse")
@only_for_scripts
@requires(Right.READ)
def pulse(number: int) -> Response:
    """Answer the open page: who else looks at the ticket, and what others did since it loaded."""
    mark_as_background()
    with get_context().store.transaction() as session:
        if session.get(Ticket, number) is None:
            abort(404)
        presence.record_look(session, number, get_staff(), now())
    # After the look is recorded: of two people who open it at once at least one sees the other.
    others = [
        name
        for name, at in presence.list_viewers(get_session(), number, get_staff(), now())
        if now() - at < presence.WATCHING
    ]
    seen = parse_id(request.form.get("seen")) or 0
    changes = presence.list_changes(get_session(), number, seen, get_staff().name)
    return jsonify(
        watching=others,
        changed=[f"{one.words} ({one.by})" for one in _describe_changes(get_session(), changes)],
    )


def _render_page(number: int, fault: str = "") -> str:
    with get_context().store.transaction() as session:
        if session.get(Ticket, number) is None:
            abort(404)
        presence.record_look(session, number, get_staff(), now())
    ticket = ticket_page.find_ticket(get_session(), number) or abort(404)
    # Bounded: the timeline loads all newer entries, too, so a far page costs most.
    nth = min(parse_id(request.args.get("older")) or 0, 1000)
    page = ticket_page.build_page(
        get_session(), ticket, get_context().settings, me=get_staff(), now=now(), nth=nth
    )
    return render_template(
        "ticket/page.html",
        page=page,
        ticket=ticket,
        nth=nth,
        newer_page=nth - 1 or None,  # without a number the address is that of the newest
        older_page=nth + 1 if page.older else None,
        verdict_labels=VERDICT_LABELS,
        fault=fault,
        values=request.form,
        now=now(),
        Status=Status,
        watching=presence.WATCHING,
        specialist=get_context().settings.telemedicine,
        is_offered=partial(is_offered, ticket),
        make_href_builder=make_href_builder,
    )


def _ask_again(number: int, command: Command, changes: list[int]) -> str:
    """Render the question whether to go on, with what others did; nothing typed is lost."""
    fields = {k: v for k, v in request.form.items(multi=True) if k not in {"csrf_token", "seen"}}
    with get_context().store.read_only() as session:
        newest = (
            select(AuditEntry)
            .where(AuditEntry.id.in_(changes[-MAX_CHANGES:]))
            .order_by(AuditEntry.id)
        )
        rows = list(session.scalars(newest))
        return render_template(
            "ticket/changed.html",
            number=number,
            label=command.label,
            changes=_describe_changes(session, rows),
            fields=fields,
            version=max(changes),
            messages=_load_messages(session, rows),
        )


def _ask_across(number: int, command: Command, question: str) -> str:
    """Render the question whether two companies are to come together."""
    fields = {k: v for k, v in request.form.items(multi=True) if k not in {"csrf_token", ACROSS}}
    return render_template(
        "ticket/across.html",
        number=number,
        label=command.label,
        question=question,
        fields=fields,
        confirmation=(ACROSS, CONFIRMED),
    )


def _load_messages(session: Session, changes: list[AuditEntry]) -> list[Message]:
    """Return the messages among the changes, to be read before going on."""
    numbers = [change.detail["message"] for change in changes if "message" in change.detail]
    messages = [session.get(Message, number) for number in numbers]
    return [message for message in messages if message is not None]


def _describe_changes(session: Session, changes: list[AuditEntry]) -> list[EventEntry]:
    names = load_names(session, changes)
    return [
        EventEntry(
            at=change.at,
            number=change.id,
            words=describe_change(change, names),
            why=describe_cause(change),
            by=actor_name(change.actor),
        )
        for change in changes
    ]
