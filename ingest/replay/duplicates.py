"""File what was taken for a duplicate as a request of its own."""

from dataclasses import dataclass

from sqlalchemy import select

from ingest.replay.reprocess import UnreadableError, parse_delivery
from parsers.item import InboundItem
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed, NoSuchTicket
from workflow.filing.file_item import open_separately
from workflow.models.core import Delivery, Filing, Ticket
from workflow.models.states import Outcome
from workflow.tickets.actions import (
    CommandContext,
    FileSeparately,
    HandlerResult,
    Handlers,
    make_handler,
)

SEPARATED = "not a duplicate"  # the action in the audit log


@dataclass(frozen=True)
class Duplicate:
    """An item that was filed as a duplicate, read from its delivery again."""

    delivery_id: int
    position: int
    item: InboundItem


def build_handlers(context: AppContext) -> Handlers:
    """Return the handlers of commands that read deliveries again."""

    def prepare(ticket: int, command: FileSeparately) -> Duplicate:
        return _read_duplicate(context, ticket, command.delivery_id)

    return dict([make_handler(FileSeparately, _file_separately, prepare)])


def _read_duplicate(context: AppContext, ticket: int, delivery_id: int) -> Duplicate:
    """Read what a delivery brought that was taken for a message of a ticket (0: the newest).

    Raises ActionNotAllowed when nothing on the ticket came again, or its bytes cannot be read.
    """
    duplicates = (
        select(Filing)
        .where(Filing.ticket_id == ticket, Filing.outcome == Outcome.DUPLICATE)
        .order_by(Filing.delivery_id.desc(), Filing.position)
    )
    if delivery_id:
        duplicates = duplicates.where(Filing.delivery_id == delivery_id)
    with context.store.read_only() as session:
        if session.get(Ticket, ticket) is None:
            raise NoSuchTicket(ticket)
        found = session.scalar(duplicates.limit(1))
        if found is None:
            raise ActionNotAllowed("nothing on this ticket came a second time")
        number, position = found.delivery_id, found.position
    try:
        item = parse_delivery(context, number).items[position]
    except UnreadableError as error:
        raise ActionNotAllowed(str(error)) from None
    assert isinstance(item, InboundItem)  # rejected rows are no duplicates
    return Duplicate(number, position, item)


def _file_separately(run: CommandContext, _: FileSeparately) -> HandlerResult:
    """Open a ticket of the duplicate; the two tickets are related."""
    duplicate = run.preparation
    assert isinstance(duplicate, Duplicate)
    session, number = run.session, duplicate.delivery_id
    filing = session.get(Filing, (number, duplicate.position), with_for_update=True)
    if filing is None or filing.outcome is not Outcome.DUPLICATE:
        raise ActionNotAllowed("somebody has just filed it")
    source = session.get_one(Delivery, number)
    message = open_separately(run.desk, session, duplicate.item, source, run.ticket, now=run.now)
    filing.outcome, filing.reason = Outcome.OPENED, f"{SEPARATED}, says {run.actor.name}"
    filing.ticket_id, filing.message_id = message.ticket_id, message.id
    audit.record(
        session,
        SEPARATED,
        by=run.actor.name,
        cause=f"delivery {number}",
        now=run.now,
        ticket=run.ticket.id,
        opened=message.ticket_id,
    )
    return HandlerResult(
        f"It is ticket #{message.ticket_id} now; the other one is #{run.ticket.id}",
        opened_ticket=message.ticket_id,
    )
