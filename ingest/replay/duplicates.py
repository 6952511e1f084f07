"""File what was taken for a duplicate as a request of its own."""

from sqlalchemy import select

from ingest.replay.reprocess import parse_delivery
from parsers.item import InboundItem
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.filing.file_item import open_separately
from workflow.models.core import Delivery, Filing, Ticket
from workflow.models.states import Outcome
from workflow.tickets.desk import ActionNotAllowed

SEPARATED = "not a duplicate"  # the action in the audit log


def file_separately(context: AppContext, ticket: int, delivery: int, *, by: str) -> int:
    """Open a ticket for an item that was taken for a message of `ticket`; return its number.

    `delivery` 0 is the newest such delivery. The two tickets are related. Raises ActionNotAllowed
    when nothing on the ticket came again, UnreadableError (`ingest.replay.reprocess`) when the
    bytes cannot be read.
    """
    duplicates = (
        select(Filing)
        .where(Filing.ticket_id == ticket, Filing.outcome == Outcome.DUPLICATE)
        .order_by(Filing.delivery_id.desc(), Filing.position)
    )
    if delivery:
        duplicates = duplicates.where(Filing.delivery_id == delivery)
    with context.store.read_only() as session:
        duplicate = session.scalar(duplicates.limit(1))
        if duplicate is None:
            raise ActionNotAllowed("nothing on this ticket came a second time")
        number, position = duplicate.delivery_id, duplicate.position
    item = parse_delivery(context, number).items[position]
    with context.store.transaction() as session:
        filing = session.get(Filing, (number, position), with_for_update=True)
        if filing is None or filing.outcome is not Outcome.DUPLICATE:
            raise ActionNotAllowed("somebody has just filed it")
        assert isinstance(item, InboundItem)  # rejected rows are never duplicates
        now = context.clock()
        source = session.get_one(Delivery, number)
        like = session.get_one(Ticket, ticket)
        message = open_separately(context.desk, session, item, source, like, now=now)
        filing.outcome, filing.reason = Outcome.OPENED, f"{SEPARATED}, says {by}"
        filing.ticket_id, filing.message_id = message.ticket_id, message.id
        audit.record(
            session,
            SEPARATED,
            by=by,
            cause=f"delivery {number}",
            now=now,
            ticket=ticket,
            opened=message.ticket_id,
        )
        return message.ticket_id
