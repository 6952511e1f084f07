"""Checks against mixing two companies: on one ticket by a merge, or in one mail.

A party is the customer that the desk has to keep apart from others: a practice on record; where
none is known, the mail domain of the ticket's first contact; and where anybody can have mail at
that domain, the contact's address. Merging and answering ask this module; pages, API and commands
only show its result.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from workflow.customers import directory
from workflow.models.core import Company, Contact, Ticket, TicketContact

_MAX_CHAIN = 100  # merges followed back: a contact may have come through several tickets


@dataclass(frozen=True, slots=True)
class Party:
    """A customer: a unique key, and a name for people.

    `key` is "company:ID", "domain:NAME" or "address:ADDRESS". `number` distinguishes companies of
    the same name.
    """

    key: str
    name: str
    number: str = ""

    @property
    def domain(self) -> str:
        """Return the mail domain that stands for an unknown company; "" for other parties."""
        return self._get_value("domain")

    @property
    def address(self) -> str:
        """Return the address of an otherwise unknown customer; "" for other parties."""
        return self._get_value("address")

    def _get_value(self, kind: str) -> str:
        prefix, _, value = self.key.partition(":")
        return value if prefix == kind else ""


def find_party(session: Session, ticket: Ticket) -> Party | None:
    """Find whose ticket it is; None when it has neither a company nor a contact of its own."""
    if ticket.company is not None:
        return _make_party(ticket.company)
    own = [link.contact for link in ticket.contacts if link.from_ticket_id is None]
    return _find_company_party(session, own) or _find_domain_party(own) or _find_address_party(own)


def _find_company_party(session: Session, contacts: list[Contact]) -> Party | None:
    records = directory.CustomerLookup(session)
    companies = (directory.find_company_of_address(records, contact.email) for contact in contacts)
    company = next((company for company in companies if company is not None), None)
    return _make_party(company) if company is not None else None


def _find_domain_party(contacts: list[Contact]) -> Party | None:
    domains = (directory.extract_domain(contact.email) for contact in contacts)
    domain = next((d for d in domains if d and d not in directory.PUBLIC_MAIL_DOMAINS), "")
    return Party(f"domain:{domain}", domain) if domain else None


def _find_address_party(contacts: list[Contact]) -> Party | None:
    """Return the first contact's address as party: a public mail provider is no company."""
    address = next((contact.email for contact in contacts if contact.email), "")
    return Party(f"address:{address}", address) if address else None


def find_contact_party(session: Session, link: TicketContact) -> Party | None:
    """Find the party of a contact on a ticket: its own, else that of the ticket it came with."""
    company = directory.find_company_of_address(
        directory.CustomerLookup(session), link.contact.email
    )
    if company is not None:
        return _make_party(company)
    return find_party(session, _find_original_ticket(session, link) or link.ticket)


def _find_original_ticket(session: Session, link: TicketContact) -> Ticket | None:
    """Return the ticket that a contact was on before any merge; None for one of the ticket itself.

    Follows the chain of merges back to its start.
    """
    ticket: Ticket | None = None
    following: TicketContact | None = link
    for _ in range(_MAX_CHAIN):
        if following is None or following.from_ticket_id is None:
            break
        ticket = session.get(Ticket, following.from_ticket_id)
        contacts = ticket.contacts if ticket is not None else []
        following = next((one for one in contacts if one.contact_id == link.contact_id), None)
    return ticket


def is_foreign_contact(session: Session, link: TicketContact) -> bool:
    """Return whether a merge has brought a contact of another company onto a ticket.

    Such a contact gets no automatic mail, and is not preselected as recipient.
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
    """Return the contacts of a ticket except those of another company (`is_foreign_contact`)."""
    return [link.contact for link in ticket.contacts if not is_foreign_contact(session, link)]


def find_merge_conflict(session: Session, ticket: Ticket, into: Ticket) -> tuple[str, str] | None:
    """Find two companies that merging a ticket into another would mix; return their names.

    None when there is one company only. A ticket whose customer is unknown mixes nobody: it does
    not change who reads the other one.
    """
    source, target = find_party(session, ticket), find_party(session, into)
    if source is not None and target is not None and not _is_same(source, target, ticket, into):
        return _name_both(source, target)
    targets = _list_parties(session, into)
    if not targets:
        return None
    for party in _list_parties(session, ticket):
        if not any(_is_same(party, other, ticket, into) for other in targets):
            return _name_both(party, targets[0])
    return None


def _list_parties(session: Session, ticket: Ticket) -> list[Party]:
    """Return the parties of a ticket and of its contacts, each once, its own first."""
    parties = [
        find_party(session, ticket),
        *(find_contact_party(session, link) for link in ticket.contacts),
    ]
    return list(dict.fromkeys(party for party in parties if party is not None))


def _is_same(one: Party, other: Party, ticket: Ticket, into: Ticket) -> bool:
    """Return whether two parties are one company.

    A party known only by its domain or address counts as the same when both tickets have a contact
    with that domain or address.
    """
    if one.key == other.key:
        return True
    addresses = _list_addresses(ticket) & _list_addresses(into)
    domains = _list_domains(ticket) & _list_domains(into)
    return any(party.domain in domains or party.address in addresses for party in (one, other))


def _list_addresses(ticket: Ticket) -> set[str]:
    return {link.contact.email for link in ticket.contacts if link.contact.email}


def _list_domains(ticket: Ticket) -> set[str]:
    return {directory.extract_domain(address) for address in _list_addresses(ticket)} - {""}


def list_recipient_companies(session: Session, ticket: Ticket, emails: Iterable[str]) -> list[str]:
    """Return the names of the companies that a mail from a ticket would go to.

    An address that is no contact of the ticket counts only when its company is on record, because
    payers and others get copies.
    """
    links = {link.contact.email: link for link in ticket.contacts}
    records = directory.CustomerLookup(session)
    parties: list[Party | None] = []
    for email in emails:
        if email in links:
            parties.append(find_contact_party(session, links[email]))
        elif (company := directory.find_company_of_address(records, email)) is not None:
            parties.append(_make_party(company))
    return _name_parties(
        list({party.key: party for party in parties if party is not None}.values())
    )


def _name_both(one: Party, other: Party) -> tuple[str, str]:
    first, second = _name_parties([one, other])
    return first, second


def _name_parties(parties: list[Party]) -> list[str]:
    """Return the names of different parties, with their numbers where two have the same name."""
    keys = [directory.build_company_key(party.name) for party in parties]
    return [
        f"{party.name} ({party.number})" if keys.count(key) > 1 and party.number else party.name
        for party, key in zip(parties, keys, strict=True)
    ]


def _make_party(company: Company) -> Party:
    number = (
        f"number {company.number}"
        if company.number
        else f"company {company.id} on record, without a number"
    )
    return Party(f"company:{company.id}", company.name, number)
