"""Records of companies, contacts and absences, as people edit them.

Each change writes a row of the audit log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.customers import company_names, company_numbers, directory, search
from workflow.database.locks import lock_ticket
from workflow.errors import ActionNotAllowed
from workflow.models.core import Company, CompanyDomain, Contact, Staff, Ticket, TicketContact
from workflow.models.states import Status
from workflow.process import TICKET_NAME

# Caveats of tickets: what is missing in our own records about the customer.
NO_COMPANY = "company not known: ask which practice this is about"
NO_MANAGER = "the company record names no manager"
MAX_NAME = 400  # characters
_MAX_PHONE = 64  # characters, as long as the column
PAGE_SIZE = 50


HAS_LEFT = "{name} has left the desk and cannot sign in: choose somebody else"


def require_present(session: Session, person: Staff) -> None:
    """Raise ActionNotAllowed for somebody who cannot sign in any more."""
    if directory.has_left(session, person):
        raise ActionNotAllowed(HAS_LEFT.format(name=person.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanyData:
    """New values of a company's record.

    `domains` are all of its mail domains: others are removed.
    """

    name: str
    number: str = ""
    domains: Sequence[str] = ()
    manager: Staff | None = None
    consultant: Staff | None = None

    @classmethod
    def from_company(cls, company: Company) -> Self:
        """Return the present values of a company, for a caller that changes only some of them."""
        return cls(
            name=company.name,
            number=company.number or "",
            domains=[row.domain for row in company.domains],
            manager=company.manager,
            consultant=company.consultant,
        )


def save_company(
    session: Session, company: Company | None, data: CompanyData, *, by: str, now: datetime
) -> Company:
    """Create a company (None), or change one.

    Raises ActionNotAllowed when it has no name, or another company has its name, number or domain.
    """
    if company is not None and company.merged_into_id is not None:
        raise ActionNotAllowed(f"{company.name} is merged into another company")
    if not data.name.strip():
        raise ActionNotAllowed("a company needs a name")
    if not directory.build_company_key(data.name):
        raise ActionNotAllowed(f"“{data.name.strip()[:80]}” names no practice: give its name")
    number = company_numbers.normalize(data.number)
    if data.number.strip() and not number:
        raise ActionNotAllowed(f"“{data.number.strip()[:80]}” is no number: leave it empty")
    _require_free_number(session, company, number)
    for chosen, present in (
        (data.manager, company.manager if company else None),
        (data.consultant, company.consultant if company else None),
    ):
        if chosen is not None and chosen is not present:
            require_present(session, chosen)
    try:
        with session.begin_nested():
            if company is None:
                company = Company(name="", key="", created_at=now)
                session.add(company)
            company.key = _build_key(company, data)
            company.name = company_names.clean(data.name)
            company.number = number or None
            company.consultant = data.consultant
    except IntegrityError:
        raise ActionNotAllowed(_describe_conflict(session, data)) from None
    set_manager(session, company, data.manager, by=by, now=now)
    domains = {domain.strip().casefold().removeprefix("@") for domain in data.domains}
    _save_domains(session, company, domains - {""})
    audit.record(session, "company", by=by, cause="company kept", now=now, company=company.id)
    return company


def _require_free_number(session: Session, company: Company | None, number: str) -> None:
    """Raise ActionNotAllowed where another company has a number, whatever became of its zeros."""
    if not number or (company is not None and company.number == number):
        return
    other = directory.CustomerLookup(session).find_company_by_number(number)
    if other is not None and other is not company:
        raise ActionNotAllowed(_describe_holder(session, other, "number"))


def _describe_conflict(session: Session, data: CompanyData) -> str:
    """Return which company has the name of another one."""
    lookup = directory.CustomerLookup(session)
    other = lookup.find_company_by_key(directory.build_company_key(data.name))
    if other is None:
        return "another company has this name or number"
    return _describe_holder(session, other, "name")


def _describe_holder(session: Session, other: Company, what: str) -> str:
    """Return the sentence that a company has this name or number; where it was merged, into which.

    Example: `another company has this number: Quillfield Pediatrics (no. 00471)`.
    """
    goes_on = directory.CustomerLookup(session).follow_merge(other)
    merged = f", merged into {goes_on.name}" if goes_on is not other else ""
    return f"another company has this {what}: {directory.describe_company(other)}{merged}"


def set_manager(
    session: Session, company: Company, manager: Staff | None, *, by: str, now: datetime
) -> None:
    """Set or remove (None) the manager of a company, and correct the caveats of its open tickets.

    All callers use this function, so that company and tickets agree. A caveat that somebody has
    settled on a ticket comes back only when a manager is removed.
    """
    has_manager = manager is not None
    is_removed = manager is None and company.manager_id is not None
    company.manager = manager
    session.flush()
    if not has_manager and not is_removed:
        return
    open_tickets = (
        select(Ticket)
        .where(Ticket.company_id == company.id, Ticket.status == Status.OPEN)
        .order_by(Ticket.id)
    )
    for ticket in session.scalars(open_tickets).all():
        if (NO_MANAGER in ticket.caveats) is not has_manager:
            continue
        # Locked, so that a caveat which somebody else adds or settles meanwhile is not lost.
        lock_ticket(session, ticket)
        others = [c for c in ticket.caveats if c != NO_MANAGER]
        ticket.caveats = others if has_manager else [*others, NO_MANAGER]
        detail = {"manager": company.manager_id} if has_manager else {}
        audit.record(
            session, "manager", by=by, cause="company kept", now=now, ticket=ticket.id, **detail
        )


def _build_key(company: Company, data: CompanyData) -> str:
    """Return the new key of a company: one that had a namesake keeps its number in the key."""
    key = directory.build_company_key(data.name)
    if not company.key or not directory.is_namesake(company):
        return key
    if data.number:
        return directory.build_namesake_key(data.name, data.number)
    # Without a number its key is its own, as long as its name stays.
    return company.key if key == directory.build_company_key(company.name) else key


def add_domain(session: Session, domain: str, company: Company) -> None:
    """Give a mail domain to a company.

    Raises ActionNotAllowed when it is no mail domain, a public provider's or another company's.
    """
    if fault := directory.find_domain_fault(session, domain, company):
        raise ActionNotAllowed(fault)
    if session.get(CompanyDomain, domain) is None:
        session.add(CompanyDomain(domain=domain, company_id=company.id))


def _save_domains(session: Session, company: Company, domains: set[str]) -> None:
    """Make these the domains of a company, and no others."""
    session.flush()
    for row in list(company.domains):
        if row.domain not in domains:
            session.delete(row)
    for domain in domains - {row.domain for row in company.domains}:
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
    """Create a contact (None), or change one.

    Raises ActionNotAllowed when the address is not valid, or another contact's.
    """
    address = email.strip().casefold()
    if contact is not None and contact.merged_into_id is not None:
        raise ActionNotAllowed(f"{contact.email} is merged into another contact")
    if not directory.is_valid_address(address):
        raise ActionNotAllowed("that is no mail address")
    try:
        with session.begin_nested():
            if contact is None:
                contact = Contact(email=address, created_at=now)
                session.add(contact)
            contact.email = address
            contact.name = name.strip()[:MAX_NAME]
            contact.phone = phone.strip()[:_MAX_PHONE]
    except IntegrityError:
        raise ActionNotAllowed("another contact has this address") from None
    set_contact_company(session, contact, company, by=by, now=now)
    return contact


def set_contact_company(
    session: Session, contact: Contact, company: Company | None, *, by: str, now: datetime
) -> int:
    """Set the company of a contact, and of their open tickets that have no company.

    Returns how many tickets were changed.
    """
    if company is not None:  # the page may be older than a merge
        company = directory.CustomerLookup(session).follow_merge(company)
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
    # A ticket onto which a merge has brought the contact is somebody else's.
    own = (TicketContact.ticket_id == Ticket.id) & TicketContact.from_ticket_id.is_(None)
    without_company = (
        select(Ticket)
        .join(TicketContact, own)
        .where(
            TicketContact.contact_id == contact.id,
            Ticket.company_id.is_(None),
            Ticket.status == Status.OPEN,
        )
        .order_by(Ticket.id)  # in one order, so that two at once do not wait for each other
    )
    changed_count = 0
    for ticket in session.scalars(without_company).all():
        # Another transaction may have given it a company, or ended it, since it was selected.
        lock_ticket(session, ticket)
        if ticket.company_id is None and ticket.status is Status.OPEN:
            set_ticket_company(session, ticket, company, by=by, now=now)
            changed_count += 1
    return changed_count


def set_ticket_company(
    session: Session,
    ticket: Ticket,
    company: Company,
    *,
    by: str,
    now: datetime,
    cause: str = "company",
) -> None:
    """Set the company of a ticket, with its name and the caveats about the company.

    The caller has locked the ticket, so that a caveat which somebody else adds or settles meanwhile
    is not lost.
    """
    ticket.company, ticket.name = company, TICKET_NAME.format(company=company.name)
    others = [
        c
        for c in ticket.caveats
        if c not in {NO_COMPANY, NO_MANAGER} and not directory.is_near_caveat(c)
    ]
    ticket.caveats = others if company.manager else [*others, NO_MANAGER]
    ticket.named_company, ticket.named_number, ticket.near_companies = "", "", []
    audit.record(
        session, "associated", by=by, cause=cause, now=now, ticket=ticket.id, company=company.id
    )


def list_near_companies(session: Session, ticket: Ticket) -> list[Company]:
    """List the companies that a ticket's practice perhaps is; empty once its company is known."""
    if ticket.company_id is not None:
        return []
    lookup = directory.CustomerLookup(session)
    found = (session.get(Company, number) for number in ticket.near_companies)
    return list(dict.fromkeys(lookup.follow_merge(one) for one in found if one is not None))


def list_unknown_senders(session: Session) -> list[tuple[Contact, int]]:
    """List contacts without company, with their number of tickets, most tickets first."""
    count = func.count(TicketContact.id)
    query = (
        select(Contact, count)
        .join(TicketContact, TicketContact.contact_id == Contact.id)
        .where(Contact.company_id.is_(None))
        .group_by(Contact.id)
        .order_by(count.desc(), Contact.id)
        .limit(PAGE_SIZE)
    )
    return [(contact, int(number)) for contact, number in session.execute(query)]


def count_unknown_senders(session: Session) -> int:
    """Count the contacts that `list_unknown_senders` lists, up to a page of them."""
    has_ticket = exists().where(TicketContact.contact_id == Contact.id)
    unknown = select(Contact.id).where(Contact.company_id.is_(None), has_ticket).limit(PAGE_SIZE)
    return session.scalar(select(func.count()).select_from(unknown.subquery())) or 0


def search_companies(session: Session, words: str, after: str = "") -> list[Company]:
    """Search companies by a part of the name or the whole number, sorted by name.

    Returns a page of at most fifty, those after the key `after`. The name or number of a merged
    company finds the one that goes on.
    """
    query = (
        select(Company)
        .where(Company.key > after, Company.merged_into_id.is_(None))
        .order_by(Company.key)
        .limit(PAGE_SIZE)
    )
    if words.strip():
        query = query.where(Company.id.in_(search.select_companies_named(words)))
    return list(session.scalars(query))


def search_contacts(session: Session, words: str) -> list[Contact]:
    """Search contacts by a part of the name or address; a page of at most fifty, by address."""
    query = select(Contact).where(Contact.merged_into_id.is_(None))
    if words.strip():
        query = query.where(Contact.id.in_(search.select_contacts_named(words)))
    return list(session.scalars(query.order_by(Contact.email).limit(PAGE_SIZE)))


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
    """Set from when to when a person is away, and who covers for them; None ends an absence.

    Raises ActionNotAllowed when nobody covers, the cover is the person themselves, or the absence
    ends before it begins.
    """
    if cover is not None:
        require_present(session, cover)
    if since is not None and cover is None:
        raise ActionNotAllowed("say who covers, or their tasks wait for them")
    if cover is person:
        raise ActionNotAllowed("nobody can stand in for themselves")
    if since and until and until <= since:
        raise ActionNotAllowed("the absence ends before it begins")
    person.away_since, person.away_until, person.cover = since, until, cover
    audit.record(session, "absence", by=by, cause="absence", now=now, staff=person.id)
