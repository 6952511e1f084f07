"""Where two companies come together: on one ticket by a merge, or in one mail.

A company here is the customer as the desk tells it from others: a practice on record, or, where none is known, the mail
domain of the ticket's first contact. Merging and answering ask this module; pages, API and commands only show what it
says.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from workflow import people
from workflow.models import Company, Contact, Ticket, TicketContact

_LONGEST_CHAIN = 100  # merges that are followed back: contacts come from a ticket, that one's from another


@dataclass(frozen=True, slots=True)
class Party:
    """A company, by what tells it from others, and its name for people."""

    key: str
    name: str

    @property
    def domain(self) -> str:
        """The mail domain that stands for a company nobody knows; "" for one on record."""
        kind, _, domain = self.key.partition(":")
        return domain if kind == "domain" else ""


def party_of_ticket(session: Session, ticket: Ticket) -> Party | None:
    """Return whose ticket it is; None where neither its company nor a contact says so."""
    if ticket.company is not None:
        return _on_record(ticket.company)
    own = [link.contact for link in ticket.contacts if link.from_ticket_id is None]
    records = people.Records(session)
    for contact in own:
        company = people.company_of_address(records, contact.email)
        if company is not None:
            return _on_record(company)
    domains = (people.domain_of(contact.email) for contact in own)
    domain = next((d for d in domains if d and d not in people.ANYBODYS), "")
    return Party(f"domain:{domain}", domain) if domain else None


def party_of_contact(session: Session, link: TicketContact) -> Party | None:
    """Return the company of a contact on a ticket: its own, else that of the ticket it came with."""
    company = people.company_of_address(people.Records(session), link.contact.email)
    if company is not None:
        return _on_record(company)
    return party_of_ticket(session, _brought_by(session, link) or link.ticket)


def _brought_by(session: Session, link: TicketContact) -> Ticket | None:
    """Return the ticket whose merge has brought a contact, the first of a chain; None for one of the ticket itself."""
    found: Ticket | None = None
    following: TicketContact | None = link
    for _ in range(_LONGEST_CHAIN):
        if following is None or following.from_ticket_id is None:
            break
        found = session.get(Ticket, following.from_ticket_id)
        theirs = found.contacts if found is not None else []
        following = next((one for one in theirs if one.contact_id == link.contact_id), None)
    return found


def is_foreign(session: Session, link: TicketContact) -> bool:
    """Say whether a merge has brought a contact of another company onto a ticket.

    Nothing goes to such a contact by itself: neither an automatic mail nor a choice made beforehand.
    """
    if link.from_ticket_id is None:
        return False
    own = {party_of_ticket(session, link.ticket)}
    own |= {party_of_contact(session, one) for one in link.ticket.contacts if one.from_ticket_id is None}
    keys = {party.key for party in own if party is not None}
    party = party_of_contact(session, link)
    return party is not None and bool(keys) and party.key not in keys


def own_contacts(session: Session, ticket: Ticket) -> list[Contact]:
    """Return the contacts of a ticket but those of another company that a merge has brought."""
    return [link.contact for link in ticket.contacts if not is_foreign(session, link)]


def between(session: Session, ticket: Ticket, into: Ticket) -> tuple[str, str] | None:
    """Return the names of the two companies that merging a ticket into another brings together; None for one company.

    A ticket of which nothing is known brings nobody together: who reads the other one does not change.
    """
    mine, theirs = party_of_ticket(session, ticket), party_of_ticket(session, into)
    if mine is not None and theirs is not None and not _same(mine, theirs, ticket, into):
        return mine.name, theirs.name
    known = _parties(session, into)
    for party in _parties(session, ticket):
        if known and not any(_same(party, one, ticket, into) for one in known):
            return party.name, known[0].name
    return None


def _parties(session: Session, ticket: Ticket) -> list[Party]:
    """Return the companies of a ticket and of its contacts, each once, its own first."""
    found = [party_of_ticket(session, ticket), *(party_of_contact(session, link) for link in ticket.contacts)]
    return list(dict.fromkeys(party for party in found if party is not None))


def _same(one: Party, other: Party, ticket: Ticket, into: Ticket) -> bool:
    """Say whether two parties are one company: also where a domain is all that is known, and both tickets have it."""
    if one.key == other.key:
        return True
    return any(party.domain in _domains(ticket) & _domains(into) for party in (one, other) if party.domain)


def _domains(ticket: Ticket) -> set[str]:
    return {people.domain_of(link.contact.email) for link in ticket.contacts}


def addressed(session: Session, ticket: Ticket, emails: Iterable[str]) -> list[str]:
    """Return the names of the companies that a mail from a ticket goes to.

    Of an address that is no contact of the ticket only a company on record counts: payers and the like get copies.
    """
    links = {link.contact.email: link for link in ticket.contacts}
    records = people.Records(session)
    found: list[Party | None] = []
    for email in emails:
        if email in links:
            found.append(party_of_contact(session, links[email]))
        elif (company := people.company_of_address(records, email)) is not None:
            found.append(_on_record(company))
    return list(dict.fromkeys(party.name for party in found if party is not None))


def _on_record(company: Company) -> Party:
    return Party(f"company:{company.id}", company.name)
