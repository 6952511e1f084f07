"""Several people at one ticket: who else looks at it, and what changed since somebody looked."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.models.core import AuditEntry, Staff
from workflow.models.presence import Presence

WATCHING = timedelta(seconds=75)  # the page says "still here" each half minute; one may be lost
LATELY = timedelta(minutes=10)
AUDITED_EVERY = timedelta(hours=1)
# Audit actions that change nothing: they end no undo, and nobody has to confirm a change again.
READING = ("viewed", "file opened", "original read")
# What rules do by themselves lets an action pass, but for what a consultant has to see before
# answering again.
ALARMING = ("appended", "reopened", "mail refused", "mail bounced")
CUSTOMER = "customer"  # answers surveys


def record_look(session: Session, ticket: int, person: Staff, now: datetime) -> None:
    """Record that a person looks at a ticket; in the audit log at most once an hour.

    Source: 45 CFR 164.312(b).
    """
    row = session.get(Presence, (ticket, person.id))
    if row is not None:
        row.at = now
        if now - row.audited_at < AUDITED_EVERY:
            return
        row.audited_at = now
    else:
        try:
            with session.begin_nested():
                session.add(Presence(ticket_id=ticket, staff_id=person.id, at=now, audited_at=now))
        except IntegrityError:  # two windows of one person, opened at once
            return
    audit.record(session, "viewed", by=person.name, cause="ticket page", now=now, ticket=ticket)


def list_viewers(
    session: Session, ticket: int, me: Staff, now: datetime
) -> list[tuple[str, datetime]]:
    """Return who else had the ticket on the screen within ten minutes, and when; latest first."""
    rows = (
        select(Staff.name, Presence.at)
        .join(Staff, Staff.id == Presence.staff_id)
        .where(Presence.ticket_id == ticket, Presence.staff_id != me.id, Presence.at > now - LATELY)
        .order_by(Presence.at.desc())
    )
    return [(name, at) for name, at in session.execute(rows)]


def get_version(session: Session, ticket: int) -> int:
    """Return the last audit row of a ticket that changed anything, 0 if there is none.

    Forms carry it as `seen`, the API as the ETag.
    """
    rows = select(func.max(AuditEntry.id)).where(
        AuditEntry.ticket_id == ticket, AuditEntry.action.not_in(READING)
    )
    return session.scalar(rows) or 0


def list_changes(session: Session, ticket: int, seen_id: int, me: str) -> list[AuditEntry]:
    """Return the audit rows of others' changes after the row `seen_id`, oldest first.

    Messages of the customer are among them. One's own changes in another window, and what rules do
    by themselves, are not: they ask nobody again.
    """
    rows = select(AuditEntry).where(
        AuditEntry.ticket_id == ticket,
        AuditEntry.id > seen_id,
        AuditEntry.action.not_in((*READING, "relation")),
        AuditEntry.actor.not_in((me, CUSTOMER)),
        (AuditEntry.actor != RULE) | AuditEntry.action.in_(ALARMING),
    )
    return list(session.scalars(rows.order_by(AuditEntry.id)))
