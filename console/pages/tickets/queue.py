"""The queue and the other lists a desk works by; tickets taken and given.

And what is new, without reloading.
"""

from typing import Any
from urllib.parse import parse_qsl

from flask import (
    Blueprint,
    Response,
    abort,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    session,
)
from werkzeug.wrappers import Response as AnyResponse

from console.pages.tickets.saved_views import DELETED
from console.presenters import queue as queue_presenter
from console.presenters.queue import COUNTED, DOORS, SORTS, STAGES
from console.web.request import allowed, background, db, house, needs, now, number_of, staff
from workflow.errors import Missing
from workflow.filing import automated_mail
from workflow.models.core import Staff, Ticket
from workflow.permissions import Right
from workflow.tickets import assignment, saved_views, search, views

UNDO = "undo_assign"  # in the session: what can be taken back is offered once
pages = Blueprint("queue", __name__)


@pages.get("/")
@needs(Right.READ)
def queue() -> str:
    """The tickets that wait for an owner, or another list."""
    return _page(queue_presenter.asked(request.args))


@pages.get("/search")
@needs(Right.READ)
def find() -> str | AnyResponse:
    """A number goes to its ticket; anything else is looked for in all of them."""
    said = request.args.get("q", "")
    number = search.number(said)
    if number is not None and db().get(Ticket, number) is not None:
        return redirect(f"/tickets/{number}")
    return _page(queue_presenter.asked(request.args, otherwise="all"))


@pages.get("/queue/news")
@needs(Right.READ)
def news() -> AnyResponse:
    """The rows of a list as they are now; 204 where they are as the page has them."""
    background()
    shown = queue_presenter.load(
        db(), queue_presenter.asked(request.args), actor=staff().name, now=now()
    )
    if request.args.get("seen") == shown.digest:
        return Response(status=204)
    return jsonify(
        digest=shown.digest,
        count=str(shown.count),
        rows=render_template("queue/_rows.html", **_rows(shown)),
    )


@pages.post("/queue/assign")
@needs(Right.WORK)
def assign() -> AnyResponse:
    """Take tickets nobody owns, or give any to somebody, which a lead may.

    Only those that are still as shown.
    """
    take = request.form.get("take")
    seen = queue_presenter.seen([take] if take else request.form.getlist("ticket"))
    owner = db().get(
        Staff, staff().id if take or "mine" in request.form else number_of(request.form.get("to"))
    )
    if not seen or owner is None:
        flash("Choose tickets first, and whom to give them to.", "error")
        return _back()
    try:
        assignment.can_own(owner)
    except Missing:
        abort(400)
    if not allowed(Right.LEAD) and (
        owner.id != staff().id or any(before for before in seen.values())
    ):
        abort(403)
    with house().store.transaction() as writing:
        person = writing.get_one(Staff, owner.id)
        made = assignment.give(house().desk, writing, seen, person, by=staff().name, now=now())
    _tell(made, "yours" if owner.id == staff().id else f"given to {owner.name}")
    session[UNDO] = made.marks
    return _back()


@pages.post("/queue/undo")
@needs(Right.WORK)
def undo() -> AnyResponse:
    """Give tickets back to whom they belonged to before, where nobody has given them away since."""
    marks = [mark for said in request.form.getlist("mark") if (mark := number_of(said))]
    with house().store.transaction() as writing:
        made = assignment.take_back(house().desk, writing, marks, by=staff().name, now=now())
    _tell(made, "given back")
    return _back()


def _page(asked: views.Asked) -> str:
    shown = queue_presenter.load(db(), asked, actor=staff().name, now=now())
    workers = queue_presenter.workers(db())
    return render_template(
        "queue/page.html",
        **_rows(shown),
        counts=views.counts(db(), COUNTED, actor=staff().name, now=now()),
        groups=views.GROUPS,
        automated=automated_mail.count(db()),
        views=views.VIEWS,
        saved=saved_views.of(db(), staff()),
        workers=workers,
        chosen=queue_presenter.chosen(asked, workers),
        doors=DOORS,
        stages=STAGES,
        sorts=SORTS,
        query=queue_presenter.query_of(asked),
        here=queue_presenter.query_of(asked, asked.page),
        at_page=lambda n: queue_presenter.query_of(asked, n),
        deleted=session.pop(DELETED, None) if DELETED in session else None,
        undo=session.pop(UNDO, []) if UNDO in session else [],
        page_size=views.PAGE,
    )


def _rows(shown: queue_presenter.List) -> dict[str, Any]:
    return {"list": shown, "box": queue_presenter.box, "may_take": allowed(Right.WORK)}


def _tell(made: assignment.Assigned, what: str) -> None:
    """Say how many, and which were left."""
    if made.done:
        few = made.done[:5]
        named = ", ".join(f"#{n}" for n in few) + (" …" if len(made.done) > len(few) else "")
        flash(f"{_are(made.done)} {what}: {named}.", "success")
    if made.left:
        flash(f"{_are(made.left)} left as before: somebody has changed what you saw.", "error")


def _are(tickets: list[int]) -> str:
    return "1 ticket is" if len(tickets) == 1 else f"{len(tickets)} tickets are"


def _back() -> AnyResponse:
    """To the list that was left: an address of ours, whatever the form says."""
    told = queue_presenter.asked(
        dict(parse_qsl(request.form.get("back", "")[: queue_presenter.LONGEST_QUERY]))
    )
    return redirect(f"/?{queue_presenter.query_of(told, told.page)}")
