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
from console.presenters.audit import actor, known_to, meanwhile, why
from console.presenters.timeline import Happened
from console.ticket_actions import ACROSS, ACTIONS, CONFIRMED, Action, Asked, act
from console.web.request import background, by_script, db, house, needs, now, number_of, staff
from ingest.replay.duplicates import file_separately
from ingest.replay.reprocess import UnreadableError
from workflow.errors import AcrossCompanies, Missing
from workflow.models.core import Audit, Message, Ticket
from workflow.models.states import Status, Verdict
from workflow.permissions import Right
from workflow.tickets import presence
from workflow.tickets.desk import ticket_or_missing

SHOWN = 12  # changes told before somebody is asked again

pages = Blueprint("ticket", __name__)


@pages.get("/tickets/<int:number>")
@needs(Right.READ)
def show(number: int) -> str:
    """Everything about a ticket; that it was looked at is on record."""
    return _page(number)


@pages.post("/tickets/<int:number>/do/<name>")
@needs(Right.WORK)
def do(number: int, name: str) -> AnyResponse | tuple[str, int]:
    """Do one of the actions.

    409 and the question again when others did something since the page was seen.

    409 and a question too when two companies would come together: both are named, and a button
    confirms it. 422 and the page with what was typed when it cannot be done.
    """
    action = ACTIONS.get(name) or abort(404)
    try:
        with house().store.transaction() as session:
            ticket = _held(session, number)
            changed = _changes(session, number) if action.asks else []
            if not changed:
                asked = Asked(
                    house(),
                    session,
                    ticket,
                    session.merge(staff(), load=False),
                    now(),
                    request.form,
                )
                said = act(asked, action)
    except AcrossCompanies as both:
        return _ask_across(number, action, str(both)), 409
    except Missing as missing:
        return _page(number, fault=str(missing)), 422
    if changed:
        return _ask_again(number, action, changed), 409
    if not action.reversible:  # what can be taken back says so itself, with its button
        flash(said, "success")
    return redirect(
        url_for("ticket.show", number=number, _anchor="notices" if action.reversible else "main")
    )


@pages.post("/tickets/<int:number>/separate")
@needs(Right.WORK)
def separate(number: int) -> AnyResponse:
    """Make a ticket of what was taken for a duplicate, and show it."""
    delivery = number_of(request.form.get("delivery")) or 0
    try:
        opened = file_separately(house(), number, delivery, by=staff().name)
    except (Missing, UnreadableError) as error:
        flash(f"It could not be made a ticket: {error}", "error")
        return redirect(url_for("ticket.show", number=number))
    flash(f"It is a ticket of its own now. The other one is #{number}.", "success")
    return redirect(url_for("ticket.show", number=opened))


@pages.post("/tickets/<int:number>/pulse")
@by_script
@needs(Right.READ)
def pulse(number: int) -> Response:
    """JSON for the page that is open.

    Who else looks at the ticket, what others did since it was loaded.
    """
    background()
    with house().store.transaction() as session:
        if session.get(Ticket, number) is None:
            abort(404)
        presence.look(session, number, staff(), now())
    others = [
        name
        for name, at in presence.others(db(), number, staff(), now())
        if now() - at < presence.WATCHING
    ]
    changed = [f"{c.words} ({c.by})" for c in _told(_changes(db(), number))]
    return jsonify(watching=others, changed=changed)


def _held(session: Session, number: int) -> Ticket:
    try:
        return ticket_or_missing(session, number)
    except Missing:
        abort(404)


def _page(number: int, fault: str = "") -> str:
    with house().store.transaction() as session:
        if session.get(Ticket, number) is None:
            abort(404)
        presence.look(session, number, staff(), now())
    ticket = ticket_page.load(db(), number) or abort(404)
    nth = min(number_of(request.args.get("older")) or 0, 1000)
    page = ticket_page.page(db(), ticket, house().settings, me=staff(), now=now(), nth=nth)
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
        specialist=house().settings.telemedicine,
    )


def _changes(session: Session, number: int) -> list[Audit]:
    return presence.changes(session, number, number_of(request.form.get("seen")) or 0, staff().name)


def _ask_again(number: int, action: Action, changed: list[Audit]) -> str:
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


def _written_since(changed: list[Audit]) -> list[Message]:
    """The messages among the changes, to be read before going on."""
    numbers = [c.detail["message"] for c in changed if "message" in c.detail]
    found = [db().get(Message, n) for n in numbers[-SHOWN:]]
    return [m for m in found if m is not None]


def _told(changed: list[Audit]) -> list[Happened]:
    known = known_to(db(), changed)
    return [
        Happened(at=c.at, number=c.id, words=meanwhile(c, known), why=why(c), by=actor(c.actor))
        for c in changed
    ]
