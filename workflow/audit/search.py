"""The audit trail, looked through.

By person, ticket, action and day, newest first, page by page.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from workflow.models.core import Audit

PAGE = 100
LATELY = 2000  # rows
MOST_EXPORTED = 50_000


@dataclass(frozen=True)
class Filter:
    """What is looked for; an empty field asks for nothing."""

    person: str = ""
    action: str = ""
    ticket: int | None = None
    day: date | None = None  # as the calendar of the zone has it


def page(
    session: Session, wanted: Filter, zone: ZoneInfo, before: int | None = None
) -> tuple[list[Audit], int | None]:
    """A page of rows older than the row `before`.

    And what to ask with for the next, None at the end.
    """
    query = rows(wanted, zone)
    if before is not None:
        query = query.where(Audit.id < before)
    found = list(session.scalars(query.limit(PAGE + 1)))
    return found[:PAGE], found[PAGE - 1].id if len(found) > PAGE else None


def lately(session: Session) -> list[str]:
    """The actions among the newest rows: what a person may look for."""
    newest = select(Audit.action).order_by(Audit.id.desc()).limit(LATELY).subquery()
    return sorted(session.scalars(select(newest.c.action).distinct()))


def rows(wanted: Filter, zone: ZoneInfo) -> Select[Audit]:
    """Every row that is wanted, newest first."""
    query = select(Audit).order_by(Audit.id.desc())
    if wanted.person:
        query = query.where(Audit.actor == wanted.person)
    if wanted.action:
        query = query.where(Audit.action == wanted.action)
    if wanted.ticket is not None:
        query = query.where(Audit.ticket_id == wanted.ticket)
    if wanted.day is not None:
        begin = datetime.combine(wanted.day, time(0), zone)
        end = datetime.combine(wanted.day + timedelta(days=1), time(0), zone)
        query = query.where(Audit.at >= begin, Audit.at < end)
    return query
