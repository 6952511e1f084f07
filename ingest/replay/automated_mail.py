"""Turn an automated mail that is on no ticket into a ticket."""

from sqlalchemy import select

from ingest.replay.reprocess import UnreadableError, parse_delivery
from parsers.item import InboundItem
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.filing import corrections
from workflow.filing.file_item import file_item
from workflow.models.core import AutomatedMail, Delivery, Filing
from workflow.models.states import Outcome
from workflow.permissions import Right
from workflow.tickets.actions import Actor, require_right

RIGHT = Right.WORK


def make_ticket(context: AppContext, number: int, *, actor: Actor) -> int:
    """File an automated mail as a person's message; return the ticket it opened or joined.

    Its delivery is read anew, so that its files come along, and counts as a person's from now on.
    Raises NotPermitted; ActionNotAllowed when there is no such mail, it is on a ticket already, or
    its bytes cannot be read.
    """
    require_right(actor, RIGHT)
    with context.store.read_only() as session:
        mail_row = session.get(AutomatedMail, number)
        if mail_row is None:
            raise ActionNotAllowed(f"there is no automated mail {number}: see `intake automated`")
        delivery_number = mail_row.delivery_id
    try:
        items = parse_delivery(context, delivery_number).items
    except UnreadableError as error:
        raise ActionNotAllowed(str(error)) from None
    with context.store.transaction() as session:
        chosen = select(AutomatedMail).where(AutomatedMail.id == number).with_for_update()
        mail = session.scalars(chosen).one()
        if mail.ticket_id is not None:
            raise ActionNotAllowed(f"it is on ticket {mail.ticket_id} already")
        now = context.clock()
        delivery = session.get_one(Delivery, delivery_number)
        delivery.by_person = True
        for filing in list(delivery.filings):
            if filing.outcome is Outcome.IGNORED:
                session.delete(filing)
        session.flush()
        for position, item in enumerate(items):
            assert isinstance(item, InboundItem)  # one mail is one item
            new_filing: Filing = file_item(context.desk, session, item, delivery, position, now)
            mail.ticket_id = new_filing.ticket_id
            audit.record(
                session,
                corrections.ACTION_NOT_AUTOMATIC,
                by=actor.name,
                cause="automated mail",
                now=now,
                ticket=new_filing.ticket_id,
                delivery=delivery.id,
            )
        ticket = mail.ticket_id
    assert ticket is not None
    return ticket
