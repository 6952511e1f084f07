"""Rows of the audit log: who did what, when and why. Numbers and fixed words only."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from workflow.audit import webhook_events
from workflow.models.core import AuditEntry

RULE = "rule"  # the actor of changes that no person made
# The action of a message that the desk wrote outside of this program, or to itself.
DESK_MESSAGE = "desk message"
# The action of a program's answer to a mail of ours, a note.
AUTOMATIC_ANSWER = "automatic answer"
_COLLECTED = "audit rows"  # key in `Session.info`


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
    """Add a row and its webhook events for a change, in the transaction that makes the change.

    `action` is a fixed word that `EVENT_OF_ACTION` and the pages know; `cause` is the delivery,
    rule or page that led to it; `detail` holds numbers and fixed words, never patient data.
    """
    change = build_row(action, by=by, cause=cause, now=now, ticket=ticket, **detail)
    collected = session.info.get(_COLLECTED)
    if collected is None:
        session.add(AuditEntry(**change))
    else:
        collected.append(change)
    webhook_events.enqueue(session, change)


@contextmanager
def collect_rows(session: Session) -> Iterator[None]:
    """Add all rows recorded in this block with one statement at its end.

    For many changes in one transaction: the ORM would send a statement for each on SQLite. The
    block must not query the audit log.
    """
    rows: list[dict[str, Any]] = []
    session.info[_COLLECTED] = rows
    try:
        yield
    finally:
        del session.info[_COLLECTED]
    if rows:
        session.execute(insert(AuditEntry), rows)


def build_row(
    action: str, *, by: str, cause: str, now: datetime, ticket: int | None = None, **detail: Any
) -> dict[str, Any]:
    """Return the row of a change, by column."""
    return {
        "at": now,
        "actor": by,
        "cause": cause,
        "action": action,
        "ticket_id": ticket,
        "detail": detail,
    }
