"""Deadlines of a ticket: when each falls, and the earliest open one, kept as `ticket.due_at`.

A deadline falls so many elapsed hours after our receipt, or on a business day, by setting.
`due_at` is stored with every change, so that overdue tickets are found by an index.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from workflow.database.engine import Store
from workflow.models.core import Ticket
from workflow.models.milestones import list_reached
from workflow.models.states import Status
from workflow.process import DEADLINES, Deadline, Milestone
from workflow.settings.settings import Settings

if TYPE_CHECKING:
    from holidays import HolidayBase

CHUNK = 500  # tickets a transaction


def compute_due_at(deadline: Deadline, started_at: datetime, settings: Settings) -> datetime:
    """Return the moment a deadline falls, as aware UTC.

    By default 2 days are 48 elapsed hours, whatever the wall clock does in between. With
    INTAKE_BUSINESS_DAYS the days are working days of the holiday country, at the same time of day
    in the time zone of the desk.
    """
    if not settings.business_days:
        return started_at + deadline.within
    zone = ZoneInfo(settings.time_zone)
    calendar = _load_calendar(settings.holiday_country)
    day = started_at.astimezone(zone)
    left = deadline.within.days
    while left:
        day += timedelta(days=1)
        left -= calendar.is_working_day(day.date())
    return day.astimezone(started_at.tzinfo)


def list_deadlines(ticket: Ticket) -> tuple[Deadline, ...]:
    """Return the deadlines that count for a ticket: none for a message about a message."""
    return () if ticket.notice else DEADLINES


def compute_next_due(
    started_at: datetime, recorded: Collection[Milestone], settings: Settings
) -> datetime | None:
    """Return the earliest deadline whose milestone is not recorded; None when none is left."""
    open_ones = (d for d in DEADLINES if d.milestone not in recorded)
    return min((compute_due_at(d, started_at, settings) for d in open_ones), default=None)


def set_due_at(ticket: Ticket, settings: Settings) -> bool:
    """Store the earliest open deadline on the ticket, None where it is not open or no request.

    Return whether that changed it.
    """
    next_due = (
        compute_next_due(ticket.period_started_at, list_reached(ticket), settings)
        if ticket.status is Status.OPEN and not ticket.notice
        else None
    )
    if ticket.due_at == next_due:
        return False
    ticket.due_at = next_due
    return True


def recompute_due_dates(store: Store, settings: Settings) -> int:
    """Recompute `due_at` of all open tickets; return how many differed.

    Needed after a setting, a holiday or the table of deadlines has changed. Tickets are locked a
    few hundred at a time.
    """
    changed_count, after = 0, 0
    while True:
        with store.transaction() as session:
            may_change = Ticket.due_at.is_not(None) | (Ticket.status == Status.OPEN)
            query = (
                select(Ticket).where(may_change, Ticket.id > after).order_by(Ticket.id).limit(CHUNK)
            )
            rows = query.with_for_update(key_share=True).options(selectinload(Ticket.milestones))
            tickets = list(session.scalars(rows))
            changed_count += sum(set_due_at(ticket, settings) for ticket in tickets)
        if len(tickets) < CHUNK:
            return changed_count
        after = tickets[-1].id


@lru_cache(maxsize=4)
def _load_calendar(country: str) -> "HolidayBase":
    import holidays  # noqa: PLC0415  # a tenth of a second that only business days have to wait for

    return holidays.country_holidays(country)
