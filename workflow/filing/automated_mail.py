"""Automated mail: mail that is no customer's request lies in a list of its own, on no ticket.

Nothing is lost there: its words and its delivery stay, and a person makes a ticket of it with one
click. It raises no task and no deadline.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from parsers.item import Direction, Format, InboundItem, Route
from parsers.mail import evidence
from workflow.customers import directory
from workflow.customers.sender_rules import SenderRules
from workflow.filing import correspondents
from workflow.filing.correspondents import DeskPeople
from workflow.models.core import AutomatedMail, Contact, Delivery, Ticket, TicketContact
from workflow.models.states import Status, Treatment

NO_REQUEST = "sent automatically, and no customer's request"
SENDER_NEVER = "its sender is set to “never a ticket”"


def find_reason(
    people: DeskPeople, lookup: directory.CustomerLookup, item: InboundItem, delivery: Delivery
) -> str:
    """Return why a mail that belongs to no ticket opens none; "" where it opens one.

    Expects an item with the signs of its envelope and its correspondents resolved. A person's
    judgement overrides the rules, and these override the evidence.
    """
    if item.format is not Format.MAIL or item.direction is not Direction.IN or delivery.by_person:
        return ""
    address = correspondents.get_joining_address(item)
    company = directory.find_company_of_address(lookup, address) if address else None
    match SenderRules.load(lookup.session).find_treatment(address, company):
        case Treatment.TICKET:
            return ""
        case Treatment.NEVER:
            return SENDER_NEVER
    is_strangers = company is None and not people.has(item.sender)
    if not _is_no_request(item) or not is_strangers or _has_written(lookup.session, address):
        return ""
    return NO_REQUEST


def _is_no_request(item: InboundItem) -> bool:
    """Return whether a mail is a program's, and passes on no person's request."""
    if item.route is not Route.DIRECT or item.is_form_mail or item.is_secure_notice:
        return False
    return evidence.is_no_request(item.signs)


def _has_written(session: Session, address: str) -> bool:
    """Return whether a person has written from this address: it has a ticket that shows it.

    A ticket that was made of an automated mail shows nothing, neither does one that ended as spam.
    """
    if not address or evidence.is_unread_address(address):
        return False
    tickets = (
        select(Ticket.id)
        .join(TicketContact, TicketContact.ticket_id == Ticket.id)
        .join(Contact, Contact.id == TicketContact.contact_id)
        .where(
            Contact.email == address,
            Ticket.automated.is_(False),
            Ticket.status.not_in([Status.SPAM, Status.WITHDRAWN]),
            ~select(AutomatedMail.id).where(AutomatedMail.ticket_id == Ticket.id).exists(),
        )
    )
    return session.scalar(tickets.limit(1)) is not None


def store(
    session: Session, reason: str, item: InboundItem, delivery: Delivery, at: datetime
) -> None:
    """List a mail as automated, once for each delivery.

    `reason` says why it is on no ticket, `at` when it counts as received.
    """
    existing = select(AutomatedMail).where(AutomatedMail.delivery_id == delivery.id)
    mail = session.scalar(existing)
    if mail is None:
        mail = AutomatedMail(delivery_id=delivery.id, at=at)
    mail.reason, mail.signs = reason, list(item.signs)
    mail.from_name, mail.from_email = item.sender.name, item.contact.email
    mail.subject, mail.text = item.subject, item.text
    session.add(mail)


def list_automated_mail(
    session: Session, *, before: int | None = None, limit: int = 50
) -> Sequence[AutomatedMail]:
    """List automated mail without ticket, newest first, with numbers below `before`."""
    query = select(AutomatedMail).where(AutomatedMail.ticket_id.is_(None))
    if before is not None:
        query = query.where(AutomatedMail.id < before)
    return session.scalars(query.order_by(AutomatedMail.id.desc()).limit(limit)).all()


def count_automated_mail(session: Session, limit: int = 1000) -> int:
    """Count automated mail without ticket, up to `limit`, so that a long list costs little."""
    mails = select(AutomatedMail.id).where(AutomatedMail.ticket_id.is_(None)).limit(limit)
    return session.scalar(select(func.count()).select_from(mails.subquery())) or 0
