"""Where two companies come together: on one ticket by a merge, or in one mail.

A company here is the customer as the desk tells it from others: a practice on record, or, where
none is known, the mail domain of the ticket's first contact, or, where anybody can have mail at
that domain, the contact's address. Merging and answering ask this module; pages, API and commands
only show what it says.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from workflow.customers import directory
from workflow.models.core import Company, Contact, Ticket, TicketContact

_LONGEST_CHAIN = (
    100  # merges that are followed back: contacts come from a ticket, that one's from another
)


@dataclass(frozen=True, slots=True)
class Party:
    """A company, by what tells it from others, and its name for people."""

    key: str
    name: str
    number: str = ""  # tells it from another one of the same name

    @property
    def domain(self) -> str:
        """The mail domain that stands for a company nobody knows; "" for other parties."""
        return self._known_by("domain")

    @property
    def address(self) -> str:
        """The address of a customer of whom nothing else is known; "" for other parties."""
        return self._known_by("address")

    def _known_by(self, what: str) -> str:
        kind, _, value = self.key.partition(":")
        return value if kind == what else ""


def find_party(session: Session, ticket: Ticket) -> Party | None:
    """Return whose ticket it is; None where it has neither a company nor a contact of its own."""
    if ticket.company is not None:
        return _on_record(ticket.company)
    own = [link.contact for link in ticket.contacts if link.from_ticket_id is None]
    return _of_company(session, own) or _of_domain(own) or _of_address(own)


def _of_company(session: Session, contacts: list[Contact]) -> Party | None:
    records = directory.CustomerLookup(session)
    companies = (directory.find_company_of_address(records, contact.email) for contact in contacts)
    company = next((company for company in companies if company is not None), None)
    return _on_record(company) if company is not None else None


def _of_domain(contacts: list[Contact]) -> Party | None:
    domains = (directory.extract_domain(contact.email) for contact in contacts)
    domain = next((d for d in domains if d and d not in directory.PUBLIC_MAIL_DOMAINS), "")
    return Party(f"domain:{domain}", domain) if domain else None


def _of_address(contacts: list[Contact]) -> Party | None:
    """Two people with mail at one public provider have nothing in common."""
    address = next((contact.email for contact in contacts if contact.email), "")
    return Party(f"address:{address}", address) if address else None


def find_contact_party(session: Session, link: TicketContact) -> Party | None:
    """Return the company of a contact on a ticket.

    Its own, else that of the ticket it came with.
    """
    company = directory.find_company_of_address(
        directory.CustomerLookup(session), link.contact.email
    )
    if company is not None:
        return _on_record(company)
    return find_party(session, _brought_by(session, link) or link.ticket)


def _brought_by(session: Session, link: TicketContact) -> Ticket | None:
    """Return the ticket whose merge has brought a contact, the first of a chain.

    None for one of the ticket itself.
    """
    found: Ticket | None = None
    following: TicketContact | None = link
    for _ in range(_LONGEST_CHAIN):
        if following is None or following.from_ticket_id is None:
            break
        found = session.get(Ticket, following.from_ticket_id)
        theirs = found.contacts if found is not None else []
        following = next((one for one in theirs if one.contact_id == link.contact_id), None)
    return found


def is_foreign_contact(session: Session, link: TicketContact) -> bool:
    """Say whether a merge has brought a contact of another company onto a ticket.

    Nothing goes to such a contact by itself: neither an automatic mail nor a choice made
    beforehand.
    """
    if link.from_ticket_id is None:
        return False
    own = {find_party(session, link.ticket)}
    own |= {
        find_contact_party(session, one)
        for one in link.ticket.contacts
        if one.from_ticket_id is None
    }
    keys = {party.key for party in own if party is not None}
    party = find_contact_party(session, link)
    return party is not None and bool(keys) and party.key not in keys


def list_own_contacts(session: Session, ticket: Ticket) -> list[Contact]:
    """Return the contacts of a ticket but those of another company that a merge has brought."""
    return [link.contact for link in ticket.contacts if not is_foreign_contact(session, link)]


def find_merge_conflict(session: Session, ticket: Ticket, into: Ticket) -> tuple[str, str] | None:
    """Return the names of the two companies that merging a ticket into another brings together.

    None for one company.

    A ticket of which nothing is known brings nobody together: who reads the other one does not
    change.
    """
    mine, theirs = find_party(session, ticket), find_party(session, into)
    if mine is not None and theirs is not None and not _same(mine, theirs, ticket, into):
        return _both_names(mine, theirs)
    known = _parties(session, into)
    for party in _parties(session, ticket):
        if known and not any(_same(party, one, ticket, into) for one in known):
            return _both_names(party, known[0])
    return None


def _parties(session: Session, ticket: Ticket) -> list[Party]:
    """Return the companies of a ticket and of its contacts, each once, its own first."""
    found = [
        find_party(session, ticket),
        *(find_contact_party(session, link) for link in ticket.contacts),
    ]
    return list(dict.fromkeys(party for party in found if party is not None))


def _same(one: Party, other: Party, ticket: Ticket, into: Ticket) -> bool:
    """Say whether two parties are one company.

    Where a domain or an address is all that is known of one, both tickets have it then.
    """
    if one.key == other.key:
        return True
    addresses = _addresses(ticket) & _addresses(into)
    domains = _domains(ticket) & _domains(into)
    return any(party.domain in domains or party.address in addresses for party in (one, other))


def _addresses(ticket: Ticket) -> set[str]:
    return {link.contact.email for link in ticket.contacts if link.contact.email}


def _domains(ticket: Ticket) -> set[str]:
    return {directory.extract_domain(address) for address in _addresses(ticket)} - {""}


def list_recipient_companies(session: Session, ticket: Ticket, emails: Iterable[str]) -> list[str]:
    """Return the names of the companies that a mail from a ticket goes to.

    Of an address that is no contact of the ticket only a company on record counts: payers and the
    like get copies.
    """
    links = {link.contact.email: link for link in ticket.contacts}
    records = directory.CustomerLookup(session)
    found: list[Party | None] = []
    for email in emails:
        if email in links:
            found.append(find_contact_party(session, links[email]))
        elif (company := directory.find_company_of_address(records, email)) is not None:
            found.append(_on_record(company))
    return _names(list({party.key: party for party in found if party is not None}.values()))


def _both_names(one: Party, other: Party) -> tuple[str, str]:
    first, second = _names([one, other])
    return first, second


def _names(parties: list[Party]) -> list[str]:
    """Return the names of parties that differ; those of one name with their numbers."""
    keys = [directory.build_company_key(party.name) for party in parties]
    return [
        f"{party.name} ({party.number})" if keys.count(key) > 1 and party.number else party.name
        for party, key in zip(parties, keys, strict=True)
    ]


def _on_record(company: Company) -> Party:
    number = (
        f"number {company.number}"
        if company.number
        else f"company {company.id} on record, without a number"
    )
    return Party(f"company:{company.id}", company.name, number)
