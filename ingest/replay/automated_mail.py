"""Turn an automated mail that is on no ticket into a ticket, and undo that."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ingest.replay.reprocess import UnreadableError, parse_delivery
from parsers.item import InboundItem
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.database.locks import lock_ticket
from workflow.errors import ActionNotAllowed
from workflow.filing import corrections
from workflow.filing.file_item import file_item
from workflow.models.core import AutomatedMail, Delivery, Filing, OutgoingMail, Ticket
from workflow.models.states import OutboxState, Outcome, Status
from workflow.permissions import Right
from workflow.tickets import presence, undo
from workflow.tickets.actions import Actor, require_right

RIGHT = Right.WORK
ACTION_UNDONE = "ticket undone"  # in the audit log


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
        session.flush()
        _delay_notices(session, ticket, now)
        mail.made_by, mail.made_at = actor.name, now
        mail.made_audit_id = presence.get_version(session, ticket)
    return ticket


def undo_ticket(context: AppContext, number: int, *, actor: Actor) -> int:
    """Undo that a person made a ticket of an automated mail; return the ticket's number.

    The ticket is withdrawn, its notice does not go out, and the mail is listed again. Raises
    NotPermitted; ActionNotAllowed with the reason when that is not possible any more.
    """
    require_right(actor, RIGHT)
    with context.store.transaction() as session:
        chosen = select(AutomatedMail).where(AutomatedMail.id == number).with_for_update()
        mail = session.scalars(chosen).one_or_none()
        if mail is None or mail.ticket_id is None:
            raise ActionNotAllowed("there is nothing to undo")
        now, ticket = context.clock(), session.get_one(Ticket, mail.ticket_id)
        lock_ticket(session, ticket)
        if fault := _find_undo_fault(session, mail, ticket, actor.name, now):
            raise ActionNotAllowed(fault)
        delivery = session.get_one(Delivery, mail.delivery_id)
        delivery.by_person = False
        for filing in delivery.filings:
            filing.outcome, filing.reason = Outcome.IGNORED, mail.reason
            filing.ticket_id = filing.message_id = None
        # The mail opens another ticket should somebody want one after all.
        ticket.origin = None
        for message in ticket.messages:
            if message.delivery_id == delivery.id:
                message.external_id, message.message_id = None, ""
        waiting = OutgoingMail.ticket_id == ticket.id, OutgoingMail.state == OutboxState.WAITING
        withheld = {"state": OutboxState.WITHHELD, "reason": f"undone by {actor.name}"}
        session.execute(update(OutgoingMail).where(*waiting).values(**withheld))
        context.desk.close(
            session, ticket, Status.WITHDRAWN, by=actor.name, reason="automated mail again", now=now
        )
        mail.ticket_id, mail.made_at = None, None
        audit.record(
            session,
            ACTION_UNDONE,
            by=actor.name,
            cause="automated mail",
            now=now,
            ticket=ticket.id,
            delivery=delivery.id,
        )
        return ticket.id


def can_undo(session: Session, mail: AutomatedMail, by: str, now: datetime) -> bool:
    """Return whether a person can undo that they made a ticket of a mail."""
    ticket = session.get(Ticket, mail.ticket_id) if mail.ticket_id is not None else None
    return ticket is not None and not _find_undo_fault(session, mail, ticket, by, now)


def _delay_notices(session: Session, ticket: int, now: datetime) -> None:
    """Let the new notices of a ticket wait some seconds, so that an undo can withhold them."""
    fresh = (
        OutgoingMail.ticket_id == ticket,
        OutgoingMail.state == OutboxState.WAITING,
        OutgoingMail.created_at == now,
    )
    session.execute(update(OutgoingMail).where(*fresh).values(not_before=now + undo.DELAY))


def _find_undo_fault(
    session: Session, mail: AutomatedMail, ticket: Ticket, by: str, now: datetime
) -> str:
    """Return why a ticket that was made of a mail stays; "" where that can be undone."""
    if mail.made_at is None or now - mail.made_at > undo.VALID:
        return "it can be undone for ten minutes; now withdraw the ticket"
    if mail.made_by != by:
        return f"only {mail.made_by} can undo this"
    opened = select(Filing.ticket_id).where(
        Filing.delivery_id == mail.delivery_id, Filing.outcome == Outcome.OPENED
    )
    if session.scalar(opened.limit(1)) != ticket.id:
        return "it joined a ticket that was there before: mark the message as automatic there"
    if since := undo.describe_later_change(session, ticket.id, mail.made_audit_id):
        return f"since then: {since}. Withdraw the ticket instead"
    if sum(message.direction == "in" for message in ticket.messages) > 1:
        return "since then: a message came. Withdraw the ticket instead"
    return ""
