"""The audit trail: who did what, when and why. Ids and fixed words only."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from workflow.audit import webhook_events
from workflow.models.core import AuditEntry

RULE = "rule"  # the actor of changes that no person made


def record(
    session: Session,
    action: str,
    *,
    by: str,
    cause: str,
    now: datetime,
    ticket: int | None = None,
    **detail: Any,
) -> None:
    """Add a row for a change, in the transaction that makes it.

    With it goes what webhooks are to be told.
    """
    change = build_row(action, by=by, cause=cause, now=now, ticket=ticket, **detail)
    session.add(AuditEntry(**change))
    webhook_events.enqueue(session, change)


def build_row(
    action: str, *, by: str, cause: str, now: datetime, ticket: int | None = None, **detail: Any
) -> dict[str, Any]:
    """Return what the row of a change says, by column."""
    return {
        "at": now,
        "actor": by,
        "cause": cause,
        "action": action,
        "ticket_id": ticket,
        "detail": detail,
    }
