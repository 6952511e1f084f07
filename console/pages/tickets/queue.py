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

from console.pages.tickets.saved_views import DELETED_VIEW
from console.presenters import queue as queue_presenter
from console.presenters.queue import COUNTED_VIEWS, SORT_LABELS, STAGES, TRANSPORTS
from console.web.request import (
    get_context,
    get_session,
    get_staff,
    is_allowed,
    mark_as_background,
    now,
    requires,
)
from workflow.database.ids import parse_id
from workflow.filing import automated_mail
from workflow.models.core import Staff, Ticket
from workflow.permissions import Right
from workflow.tickets import assignment, saved_views, search, views
from workflow.tickets.desk import ActionNotAllowed

UNDO = "undo_assign"  # in the session: what can be taken back is offered once
pages = Blueprint("queue", __name__)


@pages.get("/")
@requires(Right.READ)
def queue() -> str:
    """The tickets that wait for an owner, or another list."""
    return _page(queue_presenter.parse_query(request.args))


@pages.get("/search")
@requires(Right.READ)
def find() -> str | AnyResponse:
    """A number goes to its ticket; anything else is looked for in all of them."""
    said = request.args.get("q", "")
    number = search.parse_ticket_number(said)
    if number is not None and get_session().get(Ticket, number) is not None:
        return redirect(f"/tickets/{number}")
    return _page(queue_presenter.parse_query(request.args, otherwise="all"))


@pages.get("/queue/news")
@requires(Right.READ)
def news() -> AnyResponse:
    """The rows of a list as they are now; 204 where they are as the page has them."""
    mark_as_background()
    shown = queue_presenter.load_list(
        get_session(), queue_presenter.parse_query(request.args), actor=get_staff().name, now=now()
    )
    if request.args.get("seen") == shown.digest:
        return Response(status=204)
    return jsonify(
        digest=shown.digest,
        count=str(shown.count),
        rows=render_template("queue/_rows.html", **_rows(shown)),
    )


@pages.post("/queue/assign")
@requires(Right.WORK)
def assign() -> AnyResponse:
    """Take tickets nobody owns, or give any to somebody, which a lead may.

    Only those that are still as shown.
    """
    take = request.form.get("take")
    seen = queue_presenter.parse_selected_tickets(
        [take] if take else request.form.getlist("ticket")
    )
    owner = get_session().get(
        Staff,
        get_staff().id if take or "mine" in request.form else parse_id(request.form.get("to")),
    )
    if not seen or owner is None:
        flash("Choose tickets first, and whom to give them to.", "error")
        return _back()
    try:
        assignment.can_own(owner)
    except ActionNotAllowed:
        abort(400)
    if not is_allowed(Right.LEAD) and (
        owner.id != get_staff().id or any(before for before in seen.values())
    ):
        abort(403)
    with get_context().store.transaction() as writing:
        person = writing.get_one(Staff, owner.id)
        made = assignment.give(
            get_context().desk, writing, seen, person, by=get_staff().name, now=now()
        )
    _tell(made, "yours" if owner.id == get_staff().id else f"given to {owner.name}")
    session[UNDO] = made.marks
    return _back()


@pages.post("/queue/undo")
@requires(Right.WORK)
def undo() -> AnyResponse:
    """Give tickets back to whom they belonged to before, where nobody has given them away since."""
    marks = [mark for said in request.form.getlist("mark") if (mark := parse_id(said))]
    with get_context().store.transaction() as writing:
        made = assignment.take_back(
            get_context().desk, writing, marks, by=get_staff().name, now=now()
        )
    _tell(made, "given back")
    return _back()


def _page(asked: views.TicketQuery) -> str:
    shown = queue_presenter.load_list(get_session(), asked, actor=get_staff().name, now=now())
    workers = queue_presenter.list_assignable_staff(get_session())
    return render_template(
        "queue/page.html",
        **_rows(shown),
        counts=views.count_views(get_session(), COUNTED_VIEWS, actor=get_staff().name, now=now()),
        groups=views.GROUPS,
        automated=automated_mail.count_automated_mail(get_session()),
        views=views.VIEWS,
        saved=saved_views.list_saved_views(get_session(), get_staff()),
        workers=workers,
        chosen=queue_presenter.describe_filters(asked, workers),
        doors=TRANSPORTS,
        stages=STAGES,
        sorts=SORT_LABELS,
        query=queue_presenter.build_query_string(asked),
        here=queue_presenter.build_query_string(asked, asked.page),
        at_page=lambda n: queue_presenter.build_query_string(asked, n),
        deleted=session.pop(DELETED_VIEW, None) if DELETED_VIEW in session else None,
        undo=session.pop(UNDO, []) if UNDO in session else [],
        page_size=views.PAGE,
    )


def _rows(shown: queue_presenter.TicketList) -> dict[str, Any]:
    return {
        "list": shown,
        "box": queue_presenter.build_checkbox_value,
        "may_take": is_allowed(Right.WORK),
    }


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
    told = queue_presenter.parse_query(
        dict(parse_qsl(request.form.get("back", "")[: queue_presenter.MAX_QUERY_LENGTH]))
    )
    return redirect(f"/?{queue_presenter.build_query_string(told, told.page)}")
