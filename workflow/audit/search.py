"""The audit trail, looked through.

By person, ticket, action and day, newest first, page by page.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from workflow.models.core import AuditEntry

PAGE_SIZE = 100
RECENT_ROWS = 2000  # rows
MAX_EXPORTED = 50_000


@dataclass(frozen=True)
class AuditFilter:
    """What is looked for; an empty field asks for nothing."""

    person: str = ""
    action: str = ""
    ticket: int | None = None
    day: date | None = None  # as the calendar of the zone has it


def list_page(
    session: Session, wanted: AuditFilter, zone: ZoneInfo, before: int | None = None
) -> tuple[list[AuditEntry], int | None]:
    """A page of rows older than the row `before`.

    And what to ask with for the next, None at the end.
    """
    query = build_query(wanted, zone)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    found = list(session.scalars(query.limit(PAGE_SIZE + 1)))
    return found[:PAGE_SIZE], found[PAGE_SIZE - 1].id if len(found) > PAGE_SIZE else None


def list_recent_actions(session: Session) -> list[str]:
    """The actions among the newest rows: what a person may look for."""
    newest = select(AuditEntry.action).order_by(AuditEntry.id.desc()).limit(RECENT_ROWS).subquery()
    return sorted(session.scalars(select(newest.c.action).distinct()))


def build_query(wanted: AuditFilter, zone: ZoneInfo) -> Select[AuditEntry]:
    """Every row that is wanted, newest first."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc())
    if wanted.person:
        query = query.where(AuditEntry.actor == wanted.person)
    if wanted.action:
        query = query.where(AuditEntry.action == wanted.action)
    if wanted.ticket is not None:
        query = query.where(AuditEntry.ticket_id == wanted.ticket)
    if wanted.day is not None:
        begin = datetime.combine(wanted.day, time(0), zone)
        end = datetime.combine(wanted.day + timedelta(days=1), time(0), zone)
        query = query.where(AuditEntry.at >= begin, AuditEntry.at < end)
    return query
