"""When a ticket is due.

Kept on it with every change, so that what is overdue is found without reckoning.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from workflow.database.engine import Store
from workflow.models.core import Ticket
from workflow.models.states import Status
from workflow.settings.settings import Settings
from workflow.tickets.deadlines import compute_next_due

CHUNK = 500  # tickets a transaction


def reckon(ticket: Ticket, settings: Settings) -> None:
    """Put the earliest deadline not met on the ticket; none on one that is not open."""
    done = {r.milestone for r in ticket.milestones if r.period == ticket.period}
    due = (
        compute_next_due(ticket.period_started_at, done, settings)
        if ticket.status is Status.OPEN
        else None
    )
    if ticket.due_at != due:
        ticket.due_at = due


def reckon_all(store: Store, settings: Settings) -> int:
    """Put right what is not.

    Deadlines may have become others by a setting, a holiday or a new row of the table.

    How many were not right. The tickets are held while they are looked at, a few hundred at a time.
    """
    wrong, after = 0, 0
    while True:
        with store.transaction() as session:
            due = Ticket.due_at.is_not(None) | (Ticket.status == Status.OPEN)
            query = select(Ticket).where(due, Ticket.id > after).order_by(Ticket.id).limit(CHUNK)
            held = query.with_for_update(key_share=True).options(selectinload(Ticket.milestones))
            tickets = list(session.scalars(held))
            wrong += sum(_changed(ticket, settings) for ticket in tickets)
        if len(tickets) < CHUNK:
            return wrong
        after = tickets[-1].id


def _changed(ticket: Ticket, settings: Settings) -> bool:
    before: datetime | None = ticket.due_at
    reckon(ticket, settings)
    return ticket.due_at != before
