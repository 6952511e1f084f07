"""Companies, contacts and who stands in for whom.

Kept by people, with a line in the audit trail for each change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.customers import directory
from workflow.models.core import Company, CompanyDomain, Contact, Staff, Ticket, TicketContact
from workflow.models.states import Status
from workflow.process import TICKET_NAME
from workflow.tickets.desk import ActionNotAllowed, lock_ticket

# Caveats of tickets: what is missing in our own records about the customer.
NO_COMPANY = "company not known: ask which practice this is about"
NO_MANAGER = "the company record names no manager"
MAX_NAME = 400  # characters
_PAGE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanyData:
    """What a company's record is to say."""

    name: str
    number: str = ""
    domains: Sequence[str] = ()
    manager: Staff | None = None
    consultant: Staff | None = None


def save_company(
    session: Session, company: Company | None, says: CompanyData, *, by: str, now: datetime
) -> Company:
    """Put a company on record, or change what is.

    Raises ActionNotAllowed when another one has its name, number or domain.
    """
    if not directory.build_company_key(says.name):
        raise ActionNotAllowed("a company needs a name")
    try:
        with session.begin_nested():
            if company is None:
                company = Company(name="", key="", created_at=now)
                session.add(company)
            company.key = _key(company, says)
            company.name = says.name.strip()[:MAX_NAME]
            company.number = directory.truncate_number(says.number.strip()) or None
            company.consultant = says.consultant
    except IntegrityError:
        raise ActionNotAllowed("another company has this name or number") from None
    set_manager(session, company, says.manager, by=by, now=now)
    _keep_domains(
        session,
        company,
        {d for one in says.domains if (d := one.strip().casefold().removeprefix("@"))},
    )
    audit.record(session, "company", by=by, cause="company kept", now=now, company=company.id)
    return company


def set_manager(
    session: Session, company: Company, manager: Staff | None, *, by: str, now: datetime
) -> None:
    """Say who manages a company, or that nobody does.

    The one place that does, because its open tickets say so too.

    What somebody has settled on a ticket comes back only where a manager was taken away.
    """
    named, removed = manager is not None, manager is None and company.manager_id is not None
    company.manager = manager
    session.flush()
    if not named and not removed:
        return
    of_it = (
        select(Ticket)
        .where(Ticket.company_id == company.id, Ticket.status == Status.OPEN)
        .order_by(Ticket.id)
    )
    for ticket in session.scalars(of_it).all():
        if (NO_MANAGER in ticket.caveats) is not named:
            continue
        lock_ticket(
            session, ticket
        )  # a caveat that somebody else adds or settles meanwhile must not get lost
        left = [c for c in ticket.caveats if c != NO_MANAGER]
        ticket.caveats = left if named else [*left, NO_MANAGER]
        detail = {"manager": company.manager_id} if named else {}
        audit.record(
            session, "manager", by=by, cause="company kept", now=now, ticket=ticket.id, **detail
        )


def _key(company: Company, says: CompanyData) -> str:
    """Return what the company is found by.

    Its name, and its number where it was told from a namesake by that.
    """
    beside = company.key not in {"", directory.build_company_key(company.name)}
    return (
        directory.build_namesake_key(says.name, says.number)
        if beside and says.number
        else directory.build_company_key(says.name)
    )


def add_domain(session: Session, domain: str, company: Company) -> None:
    """Give a mail domain to a company.

    Raises ActionNotAllowed when it cannot be: a sender belongs to one practice.
    """
    if fault := directory.find_domain_fault(session, domain, company):
        raise ActionNotAllowed(fault)
    if session.get(CompanyDomain, domain) is None:
        session.add(CompanyDomain(domain=domain, company_id=company.id))


def _keep_domains(session: Session, company: Company, wanted: set[str]) -> None:
    session.flush()
    for one in list(company.domains):
        if one.domain not in wanted:
            session.delete(one)
    for domain in wanted - {one.domain for one in company.domains}:
        add_domain(session, domain, company)
    session.flush()
    session.expire(company, ["domains"])


def save_contact(
    session: Session,
    contact: Contact | None,
    *,
    email: str,
    name: str,
    phone: str,
    company: Company | None,
    by: str,
    now: datetime,
) -> Contact:
    """Put a contact on record, or change what is.

    Raises ActionNotAllowed when the address is none, or another contact's.
    """
    address = email.strip().casefold()
    if not directory.is_valid_address(address):
        raise ActionNotAllowed("that is no mail address")
    try:
        with session.begin_nested():
            if contact is None:
                contact = Contact(email=address, created_at=now)
                session.add(contact)
            contact.email, contact.name, contact.phone = (
                address,
                name.strip()[:MAX_NAME],
                phone.strip()[:64],
            )
    except IntegrityError:
        raise ActionNotAllowed("another contact has this address") from None
    set_contact_company(session, contact, company, by=by, now=now)
    return contact


def set_contact_company(
    session: Session, contact: Contact, company: Company | None, *, by: str, now: datetime
) -> int:
    """Say which company a contact is of; their open tickets of no company become its.

    How many did.
    """
    contact.company = company
    session.flush()
    audit.record(
        session,
        "contact",
        by=by,
        cause="contact kept",
        now=now,
        contact=contact.id,
        company=company.id if company else None,
    )
    if company is None:
        return 0
    # Where a merge has brought the contact, the ticket is somebody else's.
    own = (TicketContact.ticket_id == Ticket.id) & TicketContact.from_ticket_id.is_(None)
    mine = select(Ticket).join(TicketContact, own)
    orphans = session.scalars(
        mine.where(
            TicketContact.contact_id == contact.id,
            Ticket.company_id.is_(None),
            Ticket.status == Status.OPEN,
        )
    ).all()
    for ticket in orphans:
        set_ticket_company(session, ticket, company, by=by, now=now)
    return len(orphans)


def set_ticket_company(
    session: Session, ticket: Ticket, company: Company, *, by: str, now: datetime
) -> None:
    """Say which company a ticket is about.

    Its name follows, and what was to be asked for that is answered.
    """
    ticket.company, ticket.name = company, TICKET_NAME.format(company=company.name)
    left = [c for c in ticket.caveats if c not in {NO_COMPANY, NO_MANAGER}]
    ticket.caveats = left if company.manager else [*left, NO_MANAGER]
    audit.record(
        session, "associated", by=by, cause="company", now=now, ticket=ticket.id, company=company.id
    )


def list_unknown_senders(session: Session) -> list[tuple[Contact, int]]:
    """Contacts of no company who have written, with how many tickets, most first."""
    count = func.count(TicketContact.id)
    query = (
        select(Contact, count)
        .join(TicketContact, TicketContact.contact_id == Contact.id)
        .where(Contact.company_id.is_(None))
        .group_by(Contact.id)
        .order_by(count.desc(), Contact.id)
        .limit(_PAGE)
    )
    return [(contact, int(number)) for contact, number in session.execute(query)]


def search_companies(session: Session, words: str, after: str = "") -> list[Company]:
    """Companies whose name or number has these words in it, by name.

    A page of fifty from `after` on.
    """
    query = select(Company).where(Company.key > after).order_by(Company.key).limit(_PAGE)
    if words.strip():
        key = directory.build_company_key(words)
        named = Company.key.contains(key, autoescape=True) if key else Company.key == key
        query = query.where(or_(named, Company.number == words.strip()))
    return list(session.scalars(query))


def set_absence(
    session: Session,
    person: Staff,
    *,
    since: datetime | None,
    until: datetime | None,
    cover: Staff | None,
    by: str,
    now: datetime,
) -> None:
    """Say from when to when a person is away, and who covers.

    Raises ActionNotAllowed when the cover is they themselves.
    """
    if since is not None and cover is None:
        raise ActionNotAllowed("say who covers, or their tasks wait for them")
    if cover is person:
        raise ActionNotAllowed("nobody can stand in for themselves")
    if since and until and until <= since:
        raise ActionNotAllowed("the absence ends before it begins")
    person.away_since, person.away_until, person.cover = since, until, cover
    audit.record(session, "absence", by=by, cause="absence", now=now, staff=person.id)
