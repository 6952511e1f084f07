"""The queue and the other lists of tickets: shown, searched, refreshed, and tickets assigned."""

from collections import Counter
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
from sqlalchemy import select
from werkzeug.wrappers import Response as AnyResponse

from console.pages.tickets.saved_views import DELETED_VIEW
from console.perform import actions_of
from console.presenters import queue as queue_presenter
from console.presenters.queue import COUNTED_VIEWS, SORT_LABELS, STAGES, TRANSPORTS
from console.web.request import (
    actor,
    get_context,
    get_session,
    get_staff,
    is_allowed,
    mark_as_background,
    now,
    requires,
)
from workflow.database.ids import parse_id
from workflow.errors import NotPermitted
from workflow.filing import automated_mail
from workflow.models.core import Staff, Ticket
from workflow.models.presence import UndoRecord
from workflow.permissions import Right
from workflow.tickets import actions, saved_views, search, views
from workflow.tickets.actions import BulkResult, Order, SeenOwner

UNDO = "undo_assign"  # in the web session: numbers of undos, which the next page offers once
NAMED = 5  # tickets that a message names, of however many
pages = Blueprint("queue", __name__)


@pages.get("/")
@requires(Right.READ)
def queue() -> str:
    """Show the tickets that wait for an owner, or another list."""
    return _page(queue_presenter.parse_query(request.args))


@pages.get("/search")
@requires(Right.READ)
def find() -> str | AnyResponse:
    """Redirect from a number to its ticket; search all tickets for anything else."""
    number = search.parse_ticket_number(request.args.get("q", ""))
    if number is not None and get_session().get(Ticket, number) is not None:
        return redirect(f"/tickets/{number}")
    return _page(queue_presenter.parse_query(request.args, otherwise="all"))


@pages.get("/queue/news")
@requires(Right.READ)
def news() -> AnyResponse:
    """Answer the rows of a list as they are now; 204 where they are as the page has them."""
    mark_as_background()
    listed = queue_presenter.load_list(
        get_session(), queue_presenter.parse_query(request.args), actor=get_staff().name, now=now()
    )
    if request.args.get("seen") == listed.digest:
        return Response(status=204)
    return jsonify(
        digest=listed.digest,
        count=str(listed.count),
        rows=render_template("queue/_rows.html", **_rows(listed)),
    )


@pages.post("/queue/assign")
@requires(Right.READ)  # the command says which right it takes
def assign() -> AnyResponse:
    """Take tickets, or give them to somebody: those that still have the owner that was shown."""
    take = request.form.get("take")
    seen = queue_presenter.parse_selected_tickets(
        [take] if take else request.form.getlist("ticket")
    )
    to_me = take or "mine" in request.form
    owner = get_session().get(Staff, get_staff().id if to_me else parse_id(request.form.get("to")))
    if not seen or owner is None:
        flash("Choose tickets first, and whom to give them to.", "error")
        return _back()
    command = actions.Assign(owner.id)
    result = _perform_each(
        [Order(number, command, SeenOwner(before)) for number, before in seen.items()]
    )
    _flash_result(result, "yours" if owner.id == get_staff().id else f"given to {owner.name}")
    session[UNDO] = [done.undo_id for done in result.results if done.undo_id is not None]
    return _back()


@pages.post("/queue/undo")
@requires(Right.READ)  # the command says which right it takes
def undo() -> AnyResponse:
    """Undo assignments of the queue, each as on the ticket's page."""
    marks = [mark for text in request.form.getlist("mark") if (mark := parse_id(text))]
    rows = get_session().scalars(
        select(UndoRecord).where(UndoRecord.id.in_(marks[: actions.MOST_AT_ONCE]))
    )
    orders = [Order(row.ticket_id, actions.Undo(row.id)) for row in rows]
    _flash_result(_perform_each(orders), "given back")
    return _back()


def _perform_each(orders: list[Order]) -> BulkResult:
    try:
        return actions_of(get_context()).perform_each(orders, actor=actor(), now=now())
    except NotPermitted:
        abort(403)


def _page(asked: views.TicketQuery) -> str:
    listed = queue_presenter.load_list(get_session(), asked, actor=get_staff().name, now=now())
    workers = queue_presenter.list_assignable_staff(get_session())
    return render_template(
        "queue/page.html",
        **_rows(listed),
        counts=views.count_views(get_session(), COUNTED_VIEWS, actor=get_staff().name, now=now()),
        groups=views.GROUPS,
        automated=automated_mail.count_automated_mail(get_session()),
        views=views.VIEWS,
        saved=saved_views.list_saved_views(get_session(), get_staff()),
        workers=workers,
        chosen=queue_presenter.describe_filters(asked, workers),
        channels=TRANSPORTS,
        stages=STAGES,
        sorts=SORT_LABELS,
        query=queue_presenter.build_query_string(asked),
        here=queue_presenter.build_query_string(asked, asked.page),
        at_page=lambda n: queue_presenter.build_query_string(asked, n),
        deleted=session.pop(DELETED_VIEW, None) if DELETED_VIEW in session else None,
        undo=session.pop(UNDO, []) if UNDO in session else [],
        page_size=views.PAGE,
    )


def _rows(listed: queue_presenter.TicketList) -> dict[str, Any]:
    return {
        "list": listed,
        "box": queue_presenter.build_checkbox_value,
        "may_take": is_allowed(Right.WORK),
    }


def _flash_result(result: BulkResult, done: str) -> None:
    """Show how many tickets were changed, and how many were left for which reason."""
    if result.results:
        numbers = [one.ticket for one in result.results]
        more = " …" if len(numbers) > NAMED else ""
        named = ", ".join(f"#{n}" for n in numbers[:NAMED]) + more
        flash(f"{_count(len(numbers))} {done}: {named}.", "success")
    for reason, count in Counter(result.refusals.values()).items():
        flash(f"{_count(count)} left as before: {reason}.", "error")


def _count(tickets: int) -> str:
    return "1 ticket is" if tickets == 1 else f"{tickets} tickets are"


def _back() -> AnyResponse:
    """Redirect to the list that was left: an address of ours, whatever the form says."""
    left = queue_presenter.parse_query(
        dict(parse_qsl(request.form.get("back", "")[: queue_presenter.MAX_QUERY_LENGTH]))
    )
    return redirect(f"/?{queue_presenter.build_query_string(left, left.page)}")
