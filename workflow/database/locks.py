"""Row locks: keep a row to one transaction while it decides by what the row says."""

from collections.abc import Collection, Sequence

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption

from workflow.database.bulk_insert import is_one_of
from workflow.models.core import Ticket

_LOCKED = "locked"  # key in `Session.info`: identities of the rows this transaction has locked


def lock_ticket(session: Session, row: object) -> None:
    """Lock a mapped row until the transaction ends, and reload it as it is now.

    Whoever decides by what a ticket has reached must see what another transaction recorded a moment
    ago: two milestones at once would each find the other missing, and the ticket would stay where
    it is. What the session has not written yet is flushed first. A row that this transaction has
    locked before cannot have changed since, and is left alone.
    """
    locked = session.info.setdefault(_LOCKED, set())
    identity = inspect(row, raiseerr=True).identity_key
    if identity in locked:
        return
    session.flush()  # a refresh forgets what is not written yet
    # FOR NO KEY UPDATE: rows that only refer to this one by its key need not wait
    session.refresh(row, with_for_update={"key_share": True})
    if not session.in_nested_transaction():  # rolling a savepoint back gives its locks up
        locked.add(inspect(row, raiseerr=True).identity_key)


def lock_tickets(
    session: Session, numbers: Collection[int], load: Sequence[ORMOption] = ()
) -> dict[int, Ticket]:
    """Lock the tickets that nobody else holds; return them by number, as they are now.

    It never waits, so it cannot be part of a deadlock. `load` are loader options.
    """
    query = (
        select(Ticket)
        .where(is_one_of(session, Ticket.id, numbers))
        .with_for_update(key_share=True, skip_locked=True)
        .options(*load)
        .execution_options(populate_existing=True)
    )
    tickets = {ticket.id: ticket for ticket in session.scalars(query)} if numbers else {}
    locked = session.info.setdefault(_LOCKED, set())
    locked.update(inspect(ticket).identity_key for ticket in tickets.values())
    return tickets
