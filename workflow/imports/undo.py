"""Undo of an import: its tickets that nobody has changed since are withdrawn, never deleted."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session, aliased

from workflow.audit.record import RULE
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.models.core import AuditEntry, Message, Ticket, TicketRelation
from workflow.models.imports import Import, ImportRow
from workflow.models.states import RowOutcome, Status
from workflow.tickets.desk import Desk

BATCH_SIZE = 50  # tickets a transaction, so that other writers need not wait
UNDO_ACTION = "import undone"


@dataclass
class UndoResult:
    """Number of tickets withdrawn, and ids of those left because they were changed."""

    withdrawn_count: int
    changed_ids: list[int]


def undo_import(context: AppContext, number: int, *, by: str) -> UndoResult:
    """Withdraw the unchanged tickets of an import; their rows may be imported again.

    Safe to run again after it was killed. Companies and contacts stay on record. Raises
    ActionNotAllowed when there is no such import, or it was not one of tickets.
    """
    with context.store.transaction() as session:
        row = _get_import(session, number)
        # An import that still runs stops at its next batch.
        row.undone_at = row.undone_at or context.clock()
        if row.finished_at is None:  # the ledger must not wait for the rest of its rows
            written = select(func.count()).where(ImportRow.import_id == number)
            row.rows = session.scalar(written) or 0
    withdrawn_count = 0
    while count := _withdraw_batch(context, number, by):
        withdrawn_count += count
        context.store.pause_for_writers()
    with context.store.read_only() as session:
        remaining = _select_tickets(number).where(Ticket.origin.is_not(None))
        changed = list(session.scalars(remaining))
    return UndoResult(withdrawn_count, changed)


def _get_import(session: Session, number: int) -> Import:
    row = session.get(Import, number, with_for_update=True)
    if row is None:
        raise ActionNotAllowed(f"there is no import {number}: see `intake import list`")
    if row.kind != "tickets":
        raise ActionNotAllowed(f"import {number} brought {row.kind}: those stay on record")
    return row


def _withdraw_batch(context: AppContext, number: int, by: str) -> int:
    """Withdraw some unchanged tickets of an import; return how many, 0 when none are left."""
    now = context.clock()
    query = (
        _select_tickets(number).where(Ticket.origin.is_not(None), ~_is_changed()).limit(BATCH_SIZE)
    )
    with context.store.transaction() as session:
        ids = list(session.scalars(query))
        tickets = session.scalars(select(Ticket).where(Ticket.id.in_(ids)).with_for_update()).all()
        for ticket in tickets:
            _withdraw(session, context.desk, ticket, f"import {number} undone", by, now)
    return len(tickets)


def _withdraw(
    session: Session, desk: Desk, ticket: Ticket, cause: str, by: str, now: datetime
) -> None:
    """Withdraw a ticket and free its record id, so that the row can be imported again."""
    ticket.origin = None
    for message in ticket.messages:
        message.external_id = None
    desk.close(
        session, ticket, Status.WITHDRAWN, by=by, reason=cause, now=now, audit_action=UNDO_ACTION
    )


# The type of this Select would be spelled out column by column.
def _select_tickets(number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
    conditions = (ImportRow.import_id == number, ImportRow.outcome == RowOutcome.ADDED)
    return (
        select(Ticket.id)
        .join(ImportRow, ImportRow.ticket_id == Ticket.id)
        .where(*conditions)
        .order_by(Ticket.id)
    )


def _is_changed() -> ColumnElement[bool]:
    """Return the condition that more has happened to a ticket than its import and reminders."""
    other = aliased(Message)
    action = select(AuditEntry.id).where(
        AuditEntry.ticket_id == Ticket.id,
        AuditEntry.action != "imported",
        or_(AuditEntry.action != "task", AuditEntry.actor != RULE),
    )
    message = select(other.id).where(
        other.ticket_id == Ticket.id,
        or_(other.external_id.is_(None), other.external_id != Ticket.origin),
    )
    relation = select(TicketRelation.ticket_id).where(
        or_(TicketRelation.ticket_id == Ticket.id, TicketRelation.other_id == Ticket.id)
    )
    return or_(action.exists(), message.exists(), relation.exists())
