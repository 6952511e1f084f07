"""The page of a ticket, and what its buttons do."""

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
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from console.presenters import ticket_page
from console.presenters.audit import describe_actor, describe_cause, describe_change, load_names
from console.presenters.timeline import EventEntry
from console.ticket_actions import ACROSS, ACTIONS, CONFIRMED, Action, Asked, act
from console.web.request import (
    get_context,
    get_session,
    get_staff,
    mark_as_background,
    now,
    only_for_scripts,
    requires,
)
from ingest.replay.duplicates import file_separately
from ingest.replay.reprocess import UnreadableError
from workflow.database.ids import parse_id
from workflow.models.core import AuditEntry, Message, Ticket
from workflow.models.states import Status, Verdict
from workflow.permissions import Right
from workflow.tickets import presence
from workflow.tickets.desk import AcrossCompanies, ActionNotAllowed, get_ticket

SHOWN = 12  # changes told before somebody is asked again

pages = Blueprint("ticket", __name__)


@pages.get("/tickets/<int:number>")
@requires(Right.READ)
def show(number: int) -> str:
    """Everything about a ticket; that it was looked at is on record."""
    return _page(number)


@pages.post("/tickets/<int:number>/do/<name>")
@requires(Right.WORK)
def do(number: int, name: str) -> AnyResponse | tuple[str, int]:
    """Do one of the actions.

    409 and the question again when others did something since the page was seen.

    409 and a question too when two companies would come together: both are named, and a button
    confirms it. 422 and the page with what was typed when it cannot be done.
    """
    action = ACTIONS.get(name) or abort(404)
    try:
        with get_context().store.transaction() as session:
            ticket = _held(session, number)
            changed = _changes(session, number) if action.asks else []
            if not changed:
                asked = Asked(
                    get_context(),
                    session,
                    ticket,
                    session.merge(get_staff(), load=False),
                    now(),
                    request.form,
                )
                said = act(asked, action)
    except AcrossCompanies as both:
        return _ask_across(number, action, str(both)), 409
    except ActionNotAllowed as missing:
        return _page(number, fault=str(missing)), 422
    if changed:
        return _ask_again(number, action, changed), 409
    if not action.reversible:  # what can be taken back says so itself, with its button
        flash(said, "success")
    return redirect(
        url_for("ticket.show", number=number, _anchor="notices" if action.reversible else "main")
    )


@pages.post("/tickets/<int:number>/separate")
@requires(Right.WORK)
def separate(number: int) -> AnyResponse:
    """Make a ticket of what was taken for a duplicate, and show it."""
    delivery = parse_id(request.form.get("delivery")) or 0
    try:
        opened = file_separately(get_context(), number, delivery, by=get_staff().name)
    except (ActionNotAllowed, UnreadableError) as error:
        flash(f"It could not be made a ticket: {error}", "error")
        return redirect(url_for("ticket.show", number=number))
    flash(f"It is a ticket of its own now. The other one is #{number}.", "success")
    return redirect(url_for("ticket.show", number=opened))


@pages.post("/tickets/<int:number>/pulse")
@only_for_scripts
@requires(Right.READ)
def pulse(number: int) -> Response:
    """JSON for the page that is open.

    Who else looks at the ticket, what others did since it was loaded.
    """
    mark_as_background()
    with get_context().store.transaction() as session:
        if session.get(Ticket, number) is None:
            abort(404)
        presence.record_look(session, number, get_staff(), now())
    others = [
        name
        for name, at in presence.list_viewers(get_session(), number, get_staff(), now())
        if now() - at < presence.WATCHING
    ]
    changed = [f"{c.words} ({c.by})" for c in _told(_changes(get_session(), number))]
    return jsonify(watching=others, changed=changed)


def _held(session: Session, number: int) -> Ticket:
    try:
        return get_ticket(session, number)
    except ActionNotAllowed:
        abort(404)


def _page(number: int, fault: str = "") -> str:
    with get_context().store.transaction() as session:
        if session.get(Ticket, number) is None:
            abort(404)
        presence.record_look(session, number, get_staff(), now())
    ticket = ticket_page.find_ticket(get_session(), number) or abort(404)
    nth = min(parse_id(request.args.get("older")) or 0, 1000)
    page = ticket_page.build_page(
        get_session(), ticket, get_context().settings, me=get_staff(), now=now(), nth=nth
    )
    return render_template(
        "ticket/page.html",
        page=page,
        ticket=ticket,
        nth=nth,
        fault=fault,
        typed=request.form,
        now=now(),
        Status=Status,
        Verdict=Verdict,
        watching=presence.WATCHING,
        specialist=get_context().settings.telemedicine,
    )


def _changes(session: Session, number: int) -> list[AuditEntry]:
    return presence.list_changes(
        session, number, parse_id(request.form.get("seen")) or 0, get_staff().name
    )


def _ask_again(number: int, action: Action, changed: list[AuditEntry]) -> str:
    kept = {k: v for k, v in request.form.items(multi=True) if k not in {"csrf_token", "seen"}}
    return render_template(
        "ticket/changed.html",
        number=number,
        label=action.label,
        changes=_told(changed[-SHOWN:]),
        kept=kept,
        seen=max(c.id for c in changed),
        written=_written_since(changed),
    )


def _ask_across(number: int, action: Action, both: str) -> str:
    kept = {k: v for k, v in request.form.items(multi=True) if k not in {"csrf_token", ACROSS}}
    return render_template(
        "ticket/across.html",
        number=number,
        label=action.label,
        both=both,
        kept=kept,
        field=ACROSS,
        value=CONFIRMED,
    )


def _written_since(changed: list[AuditEntry]) -> list[Message]:
    """The messages among the changes, to be read before going on."""
    numbers = [c.detail["message"] for c in changed if "message" in c.detail]
    found = [get_session().get(Message, n) for n in numbers[-SHOWN:]]
    return [m for m in found if m is not None]


def _told(changed: list[AuditEntry]) -> list[EventEntry]:
    known = load_names(get_session(), changed)
    return [
        EventEntry(
            at=c.at,
            number=c.id,
            words=describe_change(c, known),
            why=describe_cause(c),
            by=describe_actor(c.actor),
        )
        for c in changed
    ]
