"""Search of the audit log by person, ticket, action and day, newest first, in pages."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from workflow.models.core import AuditEntry

PAGE_SIZE = 100
RECENT_ROWS = 2000  # searched for actions to choose from
MAX_EXPORTED = 50_000  # rows


@dataclass(frozen=True)
class AuditFilter:
    """Conditions of a search; an empty field is no condition."""

    person: str = ""
    action: str = ""
    ticket: int | None = None
    day: date | None = None  # in the time zone of the search


def list_page(
    session: Session, conditions: AuditFilter, zone: ZoneInfo, before: int | None = None
) -> tuple[list[AuditEntry], int | None]:
    """Return a page of rows older than row `before`, newest first.

    The second value is `before` for the next page, None at the end.
    """
    query = build_query(conditions, zone)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    rows = list(session.scalars(query.limit(PAGE_SIZE + 1)))
    has_next = len(rows) > PAGE_SIZE
    return rows[:PAGE_SIZE], rows[PAGE_SIZE - 1].id if has_next else None


def list_recent_actions(session: Session) -> list[str]:
    """List the actions of the newest rows, for a person to choose from."""
    newest = select(AuditEntry.action).order_by(AuditEntry.id.desc()).limit(RECENT_ROWS).subquery()
    return sorted(session.scalars(select(newest.c.action).distinct()))


def build_query(conditions: AuditFilter, zone: ZoneInfo) -> Select[AuditEntry]:
    """Select the rows that meet all conditions, newest first."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc())
    if conditions.person:
        query = query.where(AuditEntry.actor == conditions.person)
    if conditions.action:
        query = query.where(AuditEntry.action == conditions.action)
    if conditions.ticket is not None:
        query = query.where(AuditEntry.ticket_id == conditions.ticket)
    if conditions.day is not None:
        begin = datetime.combine(conditions.day, time(0), zone)
        end = datetime.combine(conditions.day + timedelta(days=1), time(0), zone)
        query = query.where(AuditEntry.at >= begin, AuditEntry.at < end)
    return query
