"""Taking an import back: its tickets that nobody has touched since are withdrawn.

Nothing is deleted in this house.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session, aliased

from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.models.core import AuditEntry, Message, Ticket, TicketRelation
from workflow.models.imports import Import, ImportRow
from workflow.models.states import RowOutcome, Status

BATCH_SIZE = 50  # tickets a transaction
UNDO_ACTION = "import undone"


@dataclass
class UndoResult:
    """How many tickets were withdrawn.

    And which were left because something has happened to them.
    """

    withdrawn: int
    changed_ids: list[int]


def undo_import(context: AppContext, number: int, *, by: str) -> UndoResult:
    """Withdraw the untouched tickets of an import; their rows may be imported again.

    Safe to run again after a kill.

    Raises ActionNotAllowed when there is no such import of tickets. Companies and contacts stay on record.
    """
    with context.store.transaction() as session:
        made = _import(session, number)
        made.undone_at = made.undone_at or context.clock()  # from now on no batch of it is written
        if made.finished_at is None:  # what was not come to by then is not waited for
            made.rows = (
                session.scalar(select(func.count()).where(ImportRow.import_id == number)) or 0
            )
    withdrawn = 0
    while count := _batch(context, number, by):
        withdrawn += count
        context.store.pause_for_writers()
    with context.store.read_only() as session:
        touched = list(session.scalars(_mine(number).where(Ticket.origin.is_not(None))))
    return UndoResult(withdrawn, touched)


def _import(session: Session, number: int) -> Import:
    made = session.get(Import, number, with_for_update=True)
    if made is None:
        raise ActionNotAllowed(f"there is no import {number}: see `intake import list`")
    if made.kind != "tickets":
        raise ActionNotAllowed(f"import {number} brought {made.kind}: those stay on record")
    return made


def _batch(context: AppContext, number: int, by: str) -> int:
    now = context.clock()
    with context.store.transaction() as session:
        left = _mine(number).where(Ticket.origin.is_not(None), ~_touched()).limit(BATCH_SIZE)
        found = list(
            session.scalars(
                select(Ticket).where(Ticket.id.in_(list(session.scalars(left)))).with_for_update()
            )
        )
        for ticket in found:
            _withdraw(session, ticket, f"import {number} undone", by, now)
    return len(found)


def _withdraw(session: Session, ticket: Ticket, cause: str, by: str, now: datetime) -> None:
    """End it, and give the record's id free.

    The same row may be imported again, as another ticket.
    """
    ticket.status, ticket.origin, ticket.due_at = Status.WITHDRAWN, None, None
    for message in ticket.messages:
        message.external_id = None
    audit.record(session, UNDO_ACTION, by=by, cause=cause, now=now, ticket=ticket.id)


# a Select whose type is its columns
def _mine(number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
    rows = (ImportRow.import_id == number, ImportRow.outcome == RowOutcome.ADDED)
    return (
        select(Ticket.id)
        .join(ImportRow, ImportRow.ticket_id == Ticket.id)
        .where(*rows)
        .order_by(Ticket.id)
    )


def _touched() -> ColumnElement[bool]:
    """Return whether anything has happened to a ticket but its import and the clock's reminders."""
    other = aliased(Message)
    happened = select(AuditEntry.id).where(
        AuditEntry.ticket_id == Ticket.id,
        AuditEntry.action != "imported",
        or_(AuditEntry.action != "task", AuditEntry.actor != RULE),
    )
    written = select(other.id).where(
        other.ticket_id == Ticket.id,
        or_(other.external_id.is_(None), other.external_id != Ticket.origin),
    )
    related = select(TicketRelation.ticket_id).where(
        or_(TicketRelation.ticket_id == Ticket.id, TicketRelation.other_id == Ticket.id)
    )
    return or_(happened.exists(), written.exists(), related.exists())
