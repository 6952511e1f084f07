"""The lists a desk works by: which tickets, in which order, page by page.

Pages, commands, API and exports use them alike.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, true
from sqlalchemy.orm import Session, joinedload

from workflow import process
from workflow.customers.search import select_companies_beginning
from workflow.models.core import Staff, Task, Ticket
from workflow.models.states import Status
from workflow.process import Person, Stage
from workflow.tickets import search
from workflow.tickets.desk import Desk

PAGE = 50  # tickets a page
# Tickets of a list that are counted and can be paged through; beyond it people use a filter.
MOST = 1000
NOBODY = 0  # as the owner in a filter: tickets without one
ESCALATIONS = [Desk.build_deadline_kind(d) for d in process.DEADLINES if d.person is Person.MANAGER]
Where = tuple[ColumnElement[bool], ...]


class Sort(StrEnum):
    """The order of a list."""

    OLDEST = "oldest"
    NEWEST = "newest"
    DUE = "due"  # what is due first


@dataclass(frozen=True)
class View:
    """A list: its title, which tickets are on it for whom and when, and the order it comes in."""

    title: str
    where: Callable[[str, datetime], Where]
    sort: Sort = Sort.OLDEST
    empty: str = "No ticket is here."


@dataclass(frozen=True)
class Filters:
    """Filters of a list; an empty one does not narrow it."""

    company: str = ""  # how its name begins
    channel: str = ""
    owner: int | None = None  # a person's id, or NOBODY
    telemedicine: bool = False
    stage: Stage | None = None


@dataclass(frozen=True)
class TicketQuery:
    """A request for tickets: view, filters, order, words and page."""

    view: str = "unassigned"
    filters: Filters = field(default_factory=Filters)
    sort: Sort | None = None  # the view's own
    words: str = ""  # looked for in all of a ticket
    page: int = 1


@dataclass(frozen=True)
class Count:
    """A number of tickets; `more` where it stops at MOST, beyond which nobody counts."""

    number: int
    more: bool = False

    def __str__(self) -> str:
        """`17`, or `1,000+`."""
        return f"{self.number:,}{'+' if self.more else ''}"


@dataclass(frozen=True)
class ViewPage:
    """A page of a list."""

    tickets: list[Ticket]
    first: int  # the place of its first ticket in the list, from 1
    further: bool  # whether there is a next page


def _build_open_conditions(*more: ColumnElement[bool]) -> Where:
    return (Ticket.status == Status.OPEN, *more)


def _build_owner_condition(actor: str) -> ColumnElement[bool]:
    is_actor = or_(Staff.name == actor, and_(Staff.email == actor.casefold(), Staff.email != ""))
    return Ticket.owner_id == select(Staff.id).where(is_actor).limit(1).scalar_subquery()


def _build_escalated_condition() -> ColumnElement[bool]:
    return Ticket.tasks.any(
        (Task.period == Ticket.period) & Task.kind.in_(ESCALATIONS) & Task.done_at.is_(None)
    )


def _make_stage_view(stage: Stage) -> View:
    return View(str(stage), lambda _actor, _now: _build_open_conditions(Ticket.stage == stage))


def _make_ended_view(status: Status, title: str) -> View:
    return View(title, lambda _actor, _now: (Ticket.status == status,), Sort.NEWEST)


def make_stage_view_name(stage: Stage) -> str:
    """Return what the view of a stage is called: `4-in-progress`."""
    return stage.lower().replace(" ", "-")


VIEWS: dict[str, View] = {
    "unassigned": View(
        process.QUEUE_NAME,
        lambda _actor, _now: _build_open_conditions(Ticket.owner_id.is_(None)),
        empty="No ticket waits for an owner.",
    ),
    "mine": View(
        "My tickets",
        lambda actor, _now: _build_open_conditions(_build_owner_condition(actor)),
        empty="You own no open ticket.",
    ),
    "open": View(
        "All open", lambda _actor, _now: _build_open_conditions(), empty="No ticket is open."
    ),
    "overdue": View(
        "Overdue",
        lambda _actor, now: _build_open_conditions(Ticket.due_at <= now),
        Sort.DUE,
        empty="No deadline has passed.",
    ),
    "escalated": View(
        "Escalated",
        lambda _actor, _now: _build_open_conditions(_build_escalated_condition()),
        empty="No ticket is escalated.",
    ),
    **{
        make_stage_view_name(s.stage): _make_stage_view(s.stage)
        for s in process.STEPS
        if s.waits_for
    },
    "completed": _make_ended_view(Status.COMPLETED, "Completed"),
    "spam": _make_ended_view(Status.SPAM, "Spam"),
    "merged": _make_ended_view(Status.MERGED, "Merged"),
    "withdrawn": _make_ended_view(Status.WITHDRAWN, "Withdrawn"),
    "all": View("Every ticket", lambda _actor, _now: (), Sort.NEWEST),
}
GROUPS = (  # as a menu shows them; `all` is what a search looks through
    ("", ("unassigned", "mine", "open", "overdue", "escalated")),
    ("By stage", tuple(make_stage_view_name(s.stage) for s in process.STEPS if s.waits_for)),
    ("Ended", ("completed", "spam", "merged", "withdrawn")),
)


def build_select(
    session: Session, query: TicketQuery, *, actor: str, now: datetime
) -> Select[Ticket]:
    """Return the query for all tickets of a request, in order, with owner and company loaded."""
    statement = select(Ticket).where(
        *VIEWS[query.view].where(actor, now), *_build_filter_conditions(query.filters)
    )
    if query.words:
        statement = statement.where(search.build_condition(session, query.words))
    return statement.order_by(*_build_order(query)).options(
        joinedload(Ticket.owner), joinedload(Ticket.company)
    )


def load_page(session: Session, query: TicketQuery, *, actor: str, now: datetime) -> ViewPage:
    """Return the page of a request; the first MOST tickets of a list can be paged through."""
    at = min(max(query.page, 1), MOST // PAGE)
    rows = (
        build_select(session, query, actor=actor, now=now).offset((at - 1) * PAGE).limit(PAGE + 1)
    )
    tickets = list(session.scalars(rows))
    return ViewPage(
        tickets[:PAGE], (at - 1) * PAGE + 1, further=len(tickets) > PAGE and at < MOST // PAGE
    )


def count_tickets(session: Session, query: TicketQuery, *, actor: str, now: datetime) -> Count:
    """Return how many tickets are asked for, up to MOST."""
    return _make_count(
        session.scalar(select(_build_bounded_count(session, query, actor, now))) or 0
    )


def count_views(
    session: Session, names: Iterable[str], *, actor: str, now: datetime
) -> dict[str, Count]:
    """Return how many tickets are on each of these views, in one query."""
    each = [
        _build_bounded_count(session, TicketQuery(name), actor, now).label(name) for name in names
    ]
    return {
        name: _make_count(number)
        for name, number in session.execute(select(*each)).one()._mapping.items()  # noqa: SLF001
    }  # the public way to a row's names


def _make_count(number: int) -> Count:
    return Count(min(number, MOST), more=number > MOST)


def _build_bounded_count(
    session: Session, query: TicketQuery, actor: str, now: datetime
) -> ColumnElement[int]:
    bounded_select = (
        build_select(session, query, actor=actor, now=now)
        .with_only_columns(Ticket.id)
        .order_by(None)
        .limit(MOST + 1)
    )
    return select(func.count()).select_from(bounded_select.subquery()).scalar_subquery()


def _build_filter_conditions(filters: Filters) -> Where:
    conditions: list[ColumnElement[bool]] = []
    if any(char.isalnum() for char in filters.company):
        conditions.append(Ticket.company_id.in_(select_companies_beginning(filters.company)))
    if filters.channel:
        conditions.append(Ticket.transport == filters.channel)
    if filters.owner is not None:
        conditions.append(
            Ticket.owner_id == filters.owner if filters.owner else Ticket.owner_id.is_(None)
        )
    if filters.telemedicine:
        conditions.append(Ticket.telemedicine == true())
    if filters.stage is not None:
        conditions.append(Ticket.stage == filters.stage)
    return tuple(conditions)


def _build_order(query: TicketQuery) -> tuple[ColumnElement[Any], ...]:
    match query.sort or VIEWS[query.view].sort:
        case Sort.DUE:
            return (Ticket.due_at.asc().nulls_last(), Ticket.id.asc())
        case Sort.NEWEST:
            return (Ticket.id.desc(),)
        case _ if query.view == "unassigned":
            # nobody owns any of them: in this order PostgreSQL need not sort
            return (Ticket.owner_id.asc(), Ticket.id.asc())
        case _:
            return (Ticket.id.asc(),)
