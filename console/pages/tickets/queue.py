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
from console.perform import get_actions
from console.presenters.tickets import queue as queue_presenter
from console.presenters.tickets.queue import COUNTED_VIEWS, SORT_LABELS, STAGES, TRANSPORTS
from console.web.request import (
    get_actor,
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
MAX_NAMED = 5  # tickets that a message names, of however many
pages = Blueprint("queue", __name__)


@pages.get("/")
@requires(Right.READ)
def queue() -> str:
    """Show the tickets that wait for an owner, or another list."""
    return _render_page(queue_presenter.parse_query(request.args))


@pages.get("/search")
@requires(Right.READ)
def find() -> str | AnyResponse:
    """Redirect from a number to its ticket; search all tickets for anything else."""
    number = search.parse_ticket_number(request.args.get("q", ""))
    if number is not None and get_session().get(Ticket, number) is not None:
        return redirect(f"/tickets/{number}")
    return _render_page(queue_presenter.parse_query(request.args, otherwise="all"))


@pages.get("/queue/news")
@requires(Right.READ)
def news() -> AnyResponse:
    """Answer the rows of a list as they are now; 204 where they are as the page has them."""
    mark_as_background()
    ticket_list = queue_presenter.load_list(
        get_session(), queue_presenter.parse_query(request.args), actor=get_staff().name, now=now()
    )
    # Every open queue asks again and again: mostly nothing has changed, and nothing is rendered.
    if request.args.get("seen") == ticket_list.digest:
        return Response(status=204)
    return jsonify(
        digest=ticket_list.digest,
        count=str(ticket_list.count),
        rows=render_template("queue/_rows.html", **_build_row_variables(ticket_list)),
    )


@pages.post("/queue/assign")
@requires(Right.READ)  # the command says which right it takes
def assign() -> AnyResponse:
    """Take tickets, or give them to somebody: those that still have the owner that was shown."""
    taken_ticket = request.form.get("take")
    owners_seen = queue_presenter.parse_selected_tickets(
        [taken_ticket] if taken_ticket else request.form.getlist("ticket")
    )
    to_me = taken_ticket or "mine" in request.form
    owner = get_session().get(Staff, get_staff().id if to_me else parse_id(request.form.get("to")))
    if not owners_seen or owner is None:
        flash("Choose tickets first, and whom to give them to.", "error")
        return _back()
    command = actions.Assign(owner.id)
    result = _perform_each(
        # With the owner that was shown: of two people who take a ticket at once only one gets it.
        [Order(number, command, SeenOwner(owner_id)) for number, owner_id in owners_seen.items()]
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
        return get_actions(get_context()).perform_each(orders, actor=get_actor(), now=now())
    except NotPermitted:
        abort(403)


def _render_page(query: views.TicketQuery) -> str:
    ticket_list = queue_presenter.load_list(get_session(), query, actor=get_staff().name, now=now())
    workers = queue_presenter.list_assignable_staff(get_session())
    return render_template(
        "queue/page.html",
        **_build_row_variables(ticket_list),
        counts=views.count_views(get_session(), COUNTED_VIEWS, actor=get_staff().name, now=now()),
        groups=views.GROUPS,
        automated=automated_mail.count_automated_mail(get_session()),
        views=views.VIEWS,
        saved_views=saved_views.list_saved_views(get_session(), get_staff()),
        workers=workers,
        filter_words=queue_presenter.describe_filters(query, workers),
        channels=TRANSPORTS,
        stages=STAGES,
        sorts=SORT_LABELS,
        query=queue_presenter.build_query_string(query),
        here=queue_presenter.build_query_string(query, query.page),
        at_page=lambda n: queue_presenter.build_query_string(query, n),
        deleted_view=session.pop(DELETED_VIEW, None) if DELETED_VIEW in session else None,
        undo_ids=session.pop(UNDO, []) if UNDO in session else [],
        page_size=views.PAGE,
    )


def _build_row_variables(ticket_list: queue_presenter.TicketList) -> dict[str, Any]:
    return {
        "list": ticket_list,
        "box": queue_presenter.build_checkbox_value,
        "may_take": is_allowed(Right.WORK),
    }


def _flash_result(result: BulkResult, outcome: str) -> None:
    """Show how many tickets were changed, and how many were left for which reason."""
    if result.results:
        numbers = [one.ticket for one in result.results]
        more = " …" if len(numbers) > MAX_NAMED else ""
        named = ", ".join(f"#{n}" for n in numbers[:MAX_NAMED]) + more
        flash(f"{_count(len(numbers))} {outcome}: {named}.", "success")
    for reason, count in Counter(result.refusals.values()).items():
        flash(f"{_count(count)} left as before: {reason}.", "error")


def _count(tickets: int) -> str:
    return "1 ticket is" if tickets == 1 else f"{tickets} tickets are"


def _back() -> AnyResponse:
    """Redirect to the list that was left: an address of ours, whatever the form says."""
    query = queue_presenter.parse_query(
        dict(parse_qsl(request.form.get("back", "")[: queue_presenter.MAX_QUERY_LENGTH]))
    )
    return redirect(f"/?{queue_presenter.build_query_string(query, query.page)}")
