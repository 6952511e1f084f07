"""Correcting what a message was taken for: a person's message for a program's, or the other way.

The rules judge (`parsers.mail.evidence`, `workflow.filing.delivery_reports`); whoever reads the
message knows better. A correction takes back what the judgement did: automatic mail that was held
back goes out, a mail of ours is no longer bounced, a completed ticket is open again. It holds when
the delivery is read anew.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from parsers.mail import evidence
from workflow.audit import record as audit
from workflow.customers import directory
from workflow.database.locks import lock_ticket
from workflow.errors import ActionNotAllowed
from workflow.filing import file_item, threading
from workflow.models.core import AuditEntry, Delivery, Filing, Message, OutgoingMail, Ticket
from workflow.models.states import Judgement, OutboxState, Outcome, Status
from workflow.tickets import merged_messages
from workflow.tickets.actions import (
    Done,
    Handlers,
    MarkAutomatic,
    MarkWrittenByPerson,
    Run,
    handler,
)
from workflow.tickets.desk import Desk

ACTION_NOT_AUTOMATIC = "written by a person"  # the action in the audit log
ACTION_AUTOMATIC = "marked automatic"


def get_automatic_message(session: Session, ticket: Ticket, number: int = 0) -> Message:
    """Return the message of a ticket that was judged automatic: this one, or the newest (0).

    Raises ActionNotAllowed when there is none.
    """
    mine = select(Message).where(
        Message.ticket_id == ticket.id, Message.judgement != Judgement.NONE
    )
    if number:
        mine = mine.where(Message.id == number)
    found = session.scalar(mine.order_by(Message.id.desc()).limit(1))
    if found is None:
        raise ActionNotAllowed("no message of this ticket was taken for an automatic one")
    return found


def mark_not_automatic(
    desk: Desk, session: Session, ticket: Ticket, message: Message, *, by: str, now: datetime
) -> None:
    """Have a message count as a person's, and take back what the judgement did.

    A note made of a report becomes the customer's message, and goes where an answer goes: onto the
    ticket that goes on, or onto a new one where its sender does not belong there or it has ended.
    The notice that was held back is queued; a mail of ours that counted as bounced counts as sent;
    a ticket that was completed before somebody wrote to it is reopened.
    """
    lock_ticket(session, ticket)
    filing = None
    delivery = session.get(Delivery, message.delivery_id) if message.delivery_id else None
    if delivery is not None:
        delivery.by_person = True
        _forget_report(desk, session, message, by=by, now=now)
        of_message = Filing.ticket_id == ticket.id, Filing.message_id == message.id
        filing = session.scalar(select(Filing).where(*of_message))
        if filing is not None and filing.outcome is Outcome.IGNORED:
            filing.outcome, filing.reason = Outcome.APPENDED, f"{ACTION_NOT_AUTOMATIC}, says {by}"
    was_note = message.direction == "note"
    if was_note:
        message.direction = "in"
        message.text = message.text.partition("\n\n")[2]  # behind the summary of the report
        message.reply_text = ""
    _unjudge(ticket, message)
    if was_note:
        ticket = _where_it_belongs(desk, session, ticket, message, filing, by=by, now=now)
    audit.record(
        session,
        ACTION_NOT_AUTOMATIC,
        by=by,
        cause="corrected",
        now=now,
        ticket=ticket.id,
        message=message.id,
    )
    if ticket.automated and message.id == _first_message(session, ticket):
        ticket.automated = False
        desk.notify_late(session, ticket, by=by, now=now)
    since = ticket.completed_at
    if ticket.status is Status.COMPLETED and since is not None and message.at >= since:
        desk.reopen(session, ticket, by=by, cause="a person wrote to the completed ticket", now=now)


def mark_automatic(
    session: Session, ticket: Ticket, number: int, *, by: str, now: datetime
) -> Message:
    """Have a message count as a program's: the ticket it opened gets no automatic mail any more.

    Mail that is queued already and mail that people write go out. Raises ActionNotAllowed when the ticket
    has no such message of a customer, or it counts as automatic already.
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
    if message.id == _first_message(session, ticket):
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


def _first_message(session: Session, ticket: Ticket) -> int | None:
    """Return the number of the message that opened a ticket."""
    mine = select(Message.id).where(Message.ticket_id == ticket.id)
    return session.scalar(mine.order_by(Message.id).limit(1))


def _where_it_belongs(
    desk: Desk,
    session: Session,
    ticket: Ticket,
    message: Message,
    filing: Filing | None,
    *,
    by: str,
    now: datetime,
) -> Ticket:
    """Move what was a note to where a person's answer to our mail goes; return that ticket."""
    target = threading.follow_merges(session, ticket)
    if not directory.may_join_ticket(session, message.from_email.casefold(), target):
        about = f"possibly about #{target.id}"
        found = file_item.open_from_message(desk, session, message, target, about, now)
    elif file_item.is_too_late(desk, target, now):
        about = f"follows #{target.id}"
        found = file_item.open_from_message(desk, session, message, target, about, now)
    else:
        found = target
        merged_messages.move_message(session, message, target.id, None)
    if found is not ticket:
        for one in (ticket, found):
            audit.record(
                session,
                merged_messages.MOVED,
                by=by,
                cause=ACTION_NOT_AUTOMATIC,
                now=now,
                ticket=one.id,
                other=(found if one is ticket else ticket).id,
                messages=[message.id],
                to=found.id,
            )
    session.flush()
    session.expire(ticket, ["messages"])
    if filing is not None:
        session.refresh(filing)
        filing.outcome = Outcome.APPENDED if found is target else Outcome.OPENED
    return found


def _unjudge(ticket: Ticket, message: Message) -> None:
    """Take the judgement off a message, and its caveat off message and ticket."""
    caveats = [c for c in message.caveats if evidence.is_caveat(c)]
    message.judgement, message.signs = Judgement.NONE, []
    message.caveats = [c for c in message.caveats if c not in caveats]
    ticket.caveats = [c for c in ticket.caveats if c not in caveats]


def _forget_report(
    desk: Desk, session: Session, message: Message, *, by: str, now: datetime
) -> None:
    """Take back what a report did to the mail it is about, and to that mail's contact.

    A mail that another report says came back stays as it is. A contact who had unsubscribed before
    the complaint came stays unsubscribed.
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
            if not _reported_otherwise(session, message):
                desk.record_mail_arrived(session, mail, by=by, now=now)


def _has_unsubscribed(session: Session, message: Message) -> bool:
    """Return whether it was this complaint that ended the surveys."""
    marked = select(AuditEntry.id).where(
        AuditEntry.action == str(Judgement.COMPLAINT),
        AuditEntry.cause == f"delivery {message.delivery_id}",
    )
    mail = (
        select(OutgoingMail.ticket_id)
        .where(OutgoingMail.id == message.reported_mail_id)
        .scalar_subquery()
    )
    return session.scalar(marked.where(AuditEntry.ticket_id == mail).limit(1)) is not None


def _reported_otherwise(session: Session, message: Message) -> bool:
    """Return whether another note than this message says that the same mail of ours came back."""
    others = select(Message.id).where(
        Message.reported_mail_id == message.reported_mail_id,
        Message.id != message.id,
        Message.judgement == Judgement.BOUNCED,
    )
    return session.scalar(others.limit(1)) is not None


# -- as commands ----


def _mark_written_by_person(run: Run, command: MarkWrittenByPerson) -> Done:
    message = get_automatic_message(run.session, run.ticket, command.message_id)
    mark_not_automatic(run.desk, run.session, run.ticket, message, by=run.actor.name, now=run.now)
    return Done("It counts as a person's message")


def _mark_automatic(run: Run, command: MarkAutomatic) -> Done:
    mark_automatic(run.session, run.ticket, command.message_id, by=run.actor.name, now=run.now)
    return Done("It counts as an automatic message: no automatic mail goes out about it")


HANDLERS: Handlers = dict(
    [
        handler(MarkWrittenByPerson, _mark_written_by_person),
        handler(MarkAutomatic, _mark_automatic),
    ]
)
