"""Deadlines of the next seven days: when each falls and who will get its task."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, select
from sqlalchemy.orm import Session, contains_eager, joinedload, selectinload

from workflow import process
from workflow.customers import directory
from workflow.models.core import Company, Ticket
from workflow.models.milestones import list_reached
from workflow.models.states import Status
from workflow.process import Deadline, Person
from workflow.settings.settings import Settings
from workflow.tickets.deadlines import compute_due_at, list_deadlines

AHEAD = timedelta(days=7)
LONGEST = 500  # tickets looked at: a list nobody reads to its end helps nobody
HOLIDAYS = timedelta(days=14)  # what weekends and holidays at most add to a few business days


@dataclass(frozen=True)
class UpcomingTask:
    """A deadline that has not passed.

    Its task is raised at `at` unless the milestone is recorded before.
    """

    at: datetime
    ticket: Ticket
    deadline: Deadline
    person: str  # "" where nobody is set up to get it


def list_upcoming(
    session: Session, settings: Settings, now: datetime
) -> tuple[list[UpcomingTask], bool]:
    """Return the deadlines of the next seven days, soonest first.

    The second value says whether there are more tickets than the LONGEST that were looked at.
    """
    longest = max(d.within for d in process.DEADLINES) + (
        HOLIDAYS if settings.business_days else timedelta()
    )
    young = and_(Ticket.status == Status.OPEN, Ticket.period_started_at > now - longest)
    query = (
        select(Ticket)
        .outerjoin(Ticket.company)
        .where(young)
        .options(
            joinedload(Ticket.owner),
            contains_eager(Ticket.company).joinedload(Company.manager),
            selectinload(Ticket.milestones),
        )
        .order_by(Ticket.period_started_at, Ticket.id)
        .limit(LONGEST + 1)
    )
    tickets = list(session.scalars(query))
    left = directory.list_left(session)
    found = [
        one for ticket in tickets[:LONGEST] for one in _list_of_ticket(ticket, settings, now, left)
    ]
    return sorted(found, key=lambda f: (f.at, f.ticket.id)), len(tickets) > LONGEST


def _list_of_ticket(
    ticket: Ticket, settings: Settings, now: datetime, left: Collection[int]
) -> list[UpcomingTask]:
    reached_milestones = list_reached(ticket)
    falls = [
        (compute_due_at(d, ticket.period_started_at, settings), d)
        for d in list_deadlines(ticket)
        if d.milestone not in reached_milestones
    ]
    return [
        UpcomingTask(at, ticket, d, _find_person(ticket, d, settings, left))
        for at, d in falls
        if now < at <= now + AHEAD
    ]


def _find_person(
    ticket: Ticket, deadline: Deadline, settings: Settings, left: Collection[int]
) -> str:
    """Return who gets the task, as the desk decides it when the deadline has passed."""
    if deadline.person is Person.MANAGER:
        manager = ticket.company.manager if ticket.company else None
        is_here = manager is not None and manager.id not in left
        return manager.name if manager and is_here else settings.fallback_supervisor
    is_here = ticket.owner is not None and ticket.owner_id not in left
    return ticket.owner.name if ticket.owner and is_here else settings.desk_lead
