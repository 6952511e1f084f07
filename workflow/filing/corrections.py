"""Corrections of messages: wrongly judged automatic or wrongly not, or on a wrong ticket.

The rules judge (`parsers.mail.evidence`, `workflow.filing.delivery_reports`); a person who reads
the message knows better. A correction reverts what the judgement did: the notice that was withheld
goes out, a mail of ours is no longer bounced, a completed ticket is open again. It stays in force
when the delivery is read again.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from parsers.item import Address
from parsers.mail import evidence
from workflow.audit import record as audit
from workflow.customers import directory
from workflow.customers.records import NO_COMPANY, NO_MANAGER
from workflow.database.locks import lock_ticket
from workflow.errors import ActionNotAllowed
from workflow.filing import correspondents, file_item, threading
from workflow.models.core import (
    AuditEntry,
    Company,
    Delivery,
    Filing,
    Message,
    OutgoingMail,
    Ticket,
)
from workflow.models.states import Judgement, OutboxState, Outcome, Status
from workflow.process import TICKET_NAME, UNKNOWN_COMPANY
from workflow.tickets import merged_messages
from workflow.tickets.actions import (
    CommandContext,
    HandlerResult,
    Handlers,
    MarkAutomatic,
    MarkWrittenByPerson,
    SplitMessage,
    UseSender,
    make_handler,
)
from workflow.tickets.deadlines import set_due_at
from workflow.tickets.desk import Desk

# Actions in the audit log.
ACTION_NOT_AUTOMATIC = "written by a person"
ACTION_AUTOMATIC = "marked automatic"
ACTION_SENDER_IS_CONTACT = "sender is contact"
ACTION_SPLIT = "message split off"
NO_NOTICE_OF_SPLIT = "split off #{}, and nobody chose a notice"


def get_automatic_message(session: Session, ticket: Ticket, number: int = 0) -> Message:
    """Return the message of a ticket with this number that was judged automatic; 0 for the newest.

    Raises ActionNotAllowed when there is none.
    """
    automatic = select(Message).where(
        Message.ticket_id == ticket.id, Message.judgement != Judgement.NONE
    )
    if number:
        automatic = automatic.where(Message.id == number)
    message = session.scalar(automatic.order_by(Message.id.desc()).limit(1))
    if message is None:
        raise ActionNotAllowed("no message of this ticket was taken for an automatic one")
    return message


def mark_not_automatic(
    desk: Desk, session: Session, ticket: Ticket, message: Message, *, by: str, now: datetime
) -> None:
    """Make a message count as a person's, and revert what the judgement did.

    A note made of a report becomes the customer's message, and moves to the ticket that an answer
    would join, or to a new one when its sender does not belong there or that ticket has ended. The
    notice that was withheld is queued, a mail of ours that counted as bounced counts as sent, and a
    ticket that was completed before the message came is reopened.
    """
    lock_ticket(session, ticket)
    filing = None
    delivery = session.get(Delivery, message.delivery_id) if message.delivery_id else None
    if delivery is not None:
        delivery.by_person = True
        _undo_report(desk, session, message, by=by, now=now)
        of_message = Filing.ticket_id == ticket.id, Filing.message_id == message.id
        filing = session.scalar(select(Filing).where(*of_message))
        if filing is not None and filing.outcome is Outcome.IGNORED:
            filing.outcome, filing.reason = Outcome.APPENDED, f"{ACTION_NOT_AUTOMATIC}, says {by}"
    was_note = message.direction == "note"
    if was_note:
        message.direction = "in"
        if message.reported_mail_id is not None:
            message.text = message.text.partition("\n\n")[2]  # after the summary of the report
            message.reply_text = ""
    _remove_judgement(ticket, message)
    if was_note:
        ticket = _move_to_ticket(desk, session, ticket, message, filing, by=by, now=now)
    audit.record(
        session,
        ACTION_NOT_AUTOMATIC,
        by=by,
        cause="corrected",
        now=now,
        ticket=ticket.id,
        message=message.id,
    )
    if ticket.automated and message.id == _find_first_message(session, ticket):
        ticket.automated, ticket.notice = False, ""
        set_due_at(ticket, desk.settings)
        desk.notify_late(session, ticket, by=by, now=now)
    since = ticket.completed_at
    if ticket.status is Status.COMPLETED and since is not None and message.at >= since:
        desk.reopen(session, ticket, by=by, cause="a person wrote to the completed ticket", now=now)


def mark_automatic(
    session: Session, ticket: Ticket, number: int, *, by: str, now: datetime
) -> Message:
    """Make a message count as a program's, so that the ticket it opened gets no automatic mail.

    `number` 0 is the newest message. Mail that is queued already, and mail that people write, still
    go out. Raises ActionNotAllowed when the ticket has no such message of a customer, or the
    message counts as automatic already.
    """
    lock_ticket(session, ticket)
    incoming = select(Message).where(Message.ticket_id == ticket.id, Message.direction == "in")
    if number:
        incoming = incoming.where(Message.id == number)
    message = session.scalar(incoming.order_by(Message.id.desc()).limit(1))
    if message is None:
        raise ActionNotAllowed("there is no such message of a customer on this ticket")
    if message.judgement is not Judgement.NONE:
        raise ActionNotAllowed("it counts as automatic already")
    message.judgement, message.signs = Judgement.AUTOMATIC, [f"marked by {by}"]
    if message.delivery_id is not None:
        session.get_one(Delivery, message.delivery_id).by_person = False
    if message.id == _find_first_message(session, ticket):
        ticket.automated = True
    audit.record(
        session,
        ACTION_AUTOMATIC,
        by=by,
        cause="corrected",
        now=now,
        ticket=ticket.id,
        message=message.id,
    )
    return message


def use_sender(
    desk: Desk, session: Session, ticket: Ticket, message: Message, *, by: str, now: datetime
) -> str:
    """Make the sender of a message the contact, in place of the customer that filing has found.

    Return the address of the contact now, "" where the sender is the desk's own address, which is
    nobody's. The company follows where it was that of the customer's address. What the message
    itself shows stays: who sent it, and who was taken for its author.
    """
    lock_ticket(session, ticket)
    customer = message.customer_email.casefold()
    links = [one for one in ticket.contacts if one.contact.email == customer]
    if not links:
        raise ActionNotAllowed(f"{message.customer_email} is no contact of this ticket")
    lookup = directory.CustomerLookup(session)
    old_company = directory.find_company_of_address(lookup, links[0].contact.email)
    for link in links:
        session.delete(link)
    session.flush()
    session.expire(ticket, ["contacts"])
    sender = Address(message.sent_by_name, message.sent_by_email)
    contact = None
    if not directory.is_our_address(sender.key, desk.settings):
        contact = directory.find_or_create_contact(
            lookup, sender, "", None, is_confirmed=False, now=now
        )
    if contact is not None:
        desk.add_contact(session, ticket, contact)
    if old_company is not None and old_company is ticket.company:
        _follow_contact(session, ticket, directory.find_company_of_address(lookup, sender.key))
    ticket.caveats = [c for c in ticket.caveats if not correspondents.is_route_caveat(c)]
    audit.record(
        session,
        ACTION_SENDER_IS_CONTACT,
        by=by,
        cause="corrected",
        now=now,
        ticket=ticket.id,
        message=message.id,
    )
    return contact.email if contact is not None else ""


def split_message(
    desk: Desk,
    session: Session,
    ticket: Ticket,
    message: Message,
    *,
    notify: bool,
    by: str,
    now: datetime,
) -> Ticket:
    """Make a message a ticket of its own, with its files; return that ticket.

    It has the contact and the company of the message, and its deadlines count from the receipt of
    the message. Later answers to the message join it; what answered it before stays.
    """
    lock_ticket(session, ticket)
    reason = f"split off #{ticket.id}"
    target = file_item.open_from_message(
        desk,
        session,
        message,
        ticket,
        reason,
        now,
        no_notice_reason="" if notify else NO_NOTICE_OF_SPLIT.format(ticket.id),
    )
    message.split_from_ticket_id = ticket.id
    of_message = Filing.ticket_id == target.id, Filing.message_id == message.id
    for filing in session.scalars(select(Filing).where(*of_message)):
        if filing.outcome is Outcome.APPENDED:
            filing.outcome, filing.reason = Outcome.OPENED, f"{reason}, says {by}"
    for one, other in ((ticket, target), (target, ticket)):
        audit.record(
            session,
            ACTION_SPLIT,
            by=by,
            cause="split",
            now=now,
            ticket=one.id,
            message=message.id,
            other=other.id,
            to=target.id,
        )
    session.flush()
    session.expire(ticket, ["messages"])
    session.expire(target, ["messages"])
    return target


def _get_message_to_split(session: Session, ticket: Ticket, number: int) -> Message:
    """Return the customer's message with this number; 0 for the newest.

    Raises ActionNotAllowed where there is none, or where no message would be left.
    """
    incoming = select(Message).where(Message.ticket_id == ticket.id, Message.direction == "in")
    messages = list(session.scalars(incoming.order_by(Message.id)))
    if number and all(one.id != number for one in messages):
        raise ActionNotAllowed("there is no such message of a customer on this ticket")
    if len(messages) < 2:  # noqa: PLR2004  # one to go, one to stay
        raise ActionNotAllowed("it is the only message of a customer: the ticket is about it")
    message = next((one for one in messages if one.id == number), messages[-1])
    if message.delivery_id is None:
        raise ActionNotAllowed("it came with an import: no delivery of it is stored")
    return message


def _follow_contact(session: Session, ticket: Ticket, company: Company | None) -> None:
    """Set the company of a ticket whose contact has changed; None for no known company."""
    ticket.company = company
    ticket.name = TICKET_NAME.format(company=company.name if company else UNKNOWN_COMPANY)
    caveats = [c for c in ticket.caveats if c not in {NO_COMPANY, NO_MANAGER}]
    if company is None:
        caveats.append(NO_COMPANY)
    elif company.manager_id is None:
        caveats.append(NO_MANAGER)
    ticket.caveats = caveats
    session.flush()


def _get_routed_message(session: Session, ticket: Ticket, number: int) -> Message:
    """Return the message of a ticket whose sender is not its customer; 0 for the newest.

    Raises ActionNotAllowed when there is none.
    """
    routed = select(Message).where(Message.ticket_id == ticket.id, Message.customer_email != "")
    if number:
        routed = routed.where(Message.id == number)
    message = session.scalar(routed.order_by(Message.id.desc()).limit(1))
    if message is None:
        raise ActionNotAllowed("no message of this ticket was sent by another than its customer")
    return message


def _find_first_message(session: Session, ticket: Ticket) -> int | None:
    """Find the number of the message that opened a ticket."""
    messages = select(Message.id).where(Message.ticket_id == ticket.id)
    return session.scalar(messages.order_by(Message.id).limit(1))


def _move_to_ticket(
    desk: Desk,
    session: Session,
    ticket: Ticket,
    message: Message,
    filing: Filing | None,
    *,
    by: str,
    now: datetime,
) -> Ticket:
    """Move what was a note to the ticket that a person's answer would join; return that ticket."""
    answered = threading.follow_merges(session, ticket)
    if not directory.may_join_ticket(session, message.from_email.casefold(), answered):
        reason = f"possibly about #{answered.id}"
        target = file_item.open_from_message(desk, session, message, answered, reason, now)
    elif file_item.is_too_late(desk, answered, now):
        reason = f"follows #{answered.id}"
        target = file_item.open_from_message(desk, session, message, answered, reason, now)
    else:
        target = answered
        merged_messages.move_message(session, message, answered.id, None)
    # Both tickets show where the message went and came from.
    if target is not ticket:
        for one, other in ((ticket, target), (target, ticket)):
            audit.record(
                session,
                merged_messages.MOVED,
                by=by,
                cause=ACTION_NOT_AUTOMATIC,
                now=now,
                ticket=one.id,
                other=other.id,
                messages=[message.id],
                to=target.id,
            )
    session.flush()
    session.expire(ticket, ["messages"])
    if filing is not None:
        session.refresh(filing)  # moving the message has changed its ticket in the database
        filing.outcome = Outcome.APPENDED if target is answered else Outcome.OPENED
    return target


def _remove_judgement(ticket: Ticket, message: Message) -> None:
    """Remove the judgement from a message, and its caveats from message and ticket."""
    caveats = [c for c in message.caveats if evidence.is_caveat(c)]
    message.judgement, message.signs = Judgement.NONE, []
    message.caveats = [c for c in message.caveats if c not in caveats]
    ticket.caveats = [c for c in ticket.caveats if c not in caveats]


def _undo_report(desk: Desk, session: Session, message: Message, *, by: str, now: datetime) -> None:
    """Revert what a report did to the mail it is about, and to that mail's contact.

    A mail with another report that it bounced stays bounced, and a contact who had unsubscribed
    before the complaint stays unsubscribed.
    """
    mail = session.get(OutgoingMail, message.reported_mail_id) if message.reported_mail_id else None
    if mail is None:
        return
    match message.judgement:
        case Judgement.COMPLAINT if mail.contact is not None and _has_unsubscribed(
            session, message
        ):
            mail.contact.unsubscribed = False
        case Judgement.DELAYED if mail.state is OutboxState.SENT:
            mail.reason = ""
        case Judgement.BOUNCED if mail.state is OutboxState.BOUNCED:
            if not _has_other_bounce(session, message):
                desk.record_mail_arrived(session, mail, by=by, now=now)


def _has_unsubscribed(session: Session, message: Message) -> bool:
    """Return whether it was this complaint that unsubscribed the contact."""
    unsubscribed = select(AuditEntry.id).where(
        AuditEntry.action == str(Judgement.COMPLAINT),
        AuditEntry.cause == f"delivery {message.delivery_id}",
    )
    mail = (
        select(OutgoingMail.ticket_id)
        .where(OutgoingMail.id == message.reported_mail_id)
        .scalar_subquery()
    )
    return session.scalar(unsubscribed.where(AuditEntry.ticket_id == mail).limit(1)) is not None


def _has_other_bounce(session: Session, message: Message) -> bool:
    """Return whether another report says that the same mail of ours bounced."""
    others = select(Message.id).where(
        Message.reported_mail_id == message.reported_mail_id,
        Message.id != message.id,
        Message.judgement == Judgement.BOUNCED,
    )
    return session.scalar(others.limit(1)) is not None


# -- as commands ----


def _mark_written_by_person(run: CommandContext, command: MarkWrittenByPerson) -> HandlerResult:
    message = get_automatic_message(run.session, run.ticket, command.message_id)
    mark_not_automatic(run.desk, run.session, run.ticket, message, by=run.actor.name, now=run.now)
    return HandlerResult("It counts as a person's message")


def _mark_automatic(run: CommandContext, command: MarkAutomatic) -> HandlerResult:
    mark_automatic(run.session, run.ticket, command.message_id, by=run.actor.name, now=run.now)
    return HandlerResult("It counts as an automatic message: no automatic mail goes out about it")


def _use_sender(run: CommandContext, command: UseSender) -> HandlerResult:
    message = _get_routed_message(run.session, run.ticket, command.message_id)
    email = use_sender(run.desk, run.session, run.ticket, message, by=run.actor.name, now=run.now)
    if not email:
        return HandlerResult("The ticket has no contact of that message now")
    return HandlerResult(f"The contact is {email} now")


def _split_message(run: CommandContext, command: SplitMessage) -> HandlerResult:
    message = _get_message_to_split(run.session, run.ticket, command.message_id)
    target = split_message(
        run.desk,
        run.session,
        run.ticket,
        message,
        notify=command.notify,
        by=run.actor.name,
        now=run.now,
    )
    return HandlerResult(f"The message is ticket #{target.id} now", opened_ticket=target.id)


HANDLERS: Handlers = dict(
    [
        make_handler(SplitMessage, _split_message),
        make_handler(UseSender, _use_sender),
        make_handler(MarkWrittenByPerson, _mark_written_by_person),
        make_handler(MarkAutomatic, _mark_automatic),
    ]
)
