"""What is on record about many items of secure messages, looked up in a handful of queries."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.orm.attributes import set_committed_value

from parsers.item import Format, InboundItem
from workflow.customers import directory
from workflow.database import bulk_insert
from workflow.database.bulk_insert import Row
from workflow.filing import threading
from workflow.models.core import Company, CompanyDomain, Contact, Message, Ticket
from workflow.models.states import Status
from workflow.tickets import outbox


@dataclass(slots=True)
class TicketRef:
    """A ticket that is there or is to be.

    Then with its row, whom to tell, or why they cannot be told.
    """

    id: int = 0
    company: Company | None = None
    company_key: str | None = None  # of its company
    senders: set[tuple[str, str]] = field(
        default_factory=set
    )  # who wrote on it, where its company is not known
    new_row: Row | None = None
    contact: Contact | None = None
    share_activity: bool = True
    undeliverable_reason: str = ""


@dataclass(slots=True)
class MessageRef:
    """A message that is there or is to be: then with its row."""

    ticket: TicketRef
    identity: threading.MessageIdentity
    id: int = 0
    new_row: Row | None = None


class BulkLookup(directory.CustomerLookup):
    """All that is on record about some items, in a handful of queries."""

    def __init__(self, session: Session, items: Sequence[InboundItem], now: datetime) -> None:
        super().__init__(session)
        self._companies(items)
        self._people({i.contact.key for i in items} - {""})
        self.recent_mails: Counter[int | str] = Counter(
            outbox.recent_counts(session, [c.id for c in self._contacts.values()], now)
        )
        self.item_keys = [threading.build_keys(i) for i in items]  # of each item, in order
        keys = {key for k in self.item_keys if k for key in (k.own, k.shared, *k.legacy) if key}
        same = (
            select(
                Message.external_id,
                Message.id,
                Message.message_id,
                Message.from_name,
                Ticket.id,
                Company.key,
            )
            .join(Ticket, Ticket.id == Message.ticket_id)
            .outerjoin(Company, Company.id == Ticket.company_id)
            .where(Message.format == Format.SECURE_MESSAGE, self._among(Message.external_id, keys))
        )
        self.messages_by_key: dict[str, MessageRef] = {}
        for key, number, name, sender, ticket, company in session.execute(same):
            known = threading.MessageIdentity(name, sender, company)
            assert key is not None  # it is one of those asked for
            self.messages_by_key[key] = MessageRef(TicketRef(ticket), known, number)
        names = {threading.build_message_id(i) for i in items} - {""}
        taken = select(Message.message_id).where(self._among(Message.message_id, names))
        self.message_ids = set(session.scalars(taken))
        self._tickets(items)

    def find_message(self, key: str) -> tuple[MessageRef, threading.MessageIdentity] | None:
        """Look up the message with this key, on record or planned."""
        found = self.messages_by_key.get(key)
        return (found, found.identity) if found is not None else None

    def _companies(self, items: Sequence[InboundItem]) -> None:
        numbers = {directory.truncate_number(i.company_number) for i in items} - {""}
        keys = {directory.build_company_key(i.company) for i in items} - {""}
        keys |= {
            directory.build_namesake_key(i.company, i.company_number)
            for i in items
            if i.company and i.company_number
        }
        named = or_(self._among(Company.number, numbers), self._among(Company.key, keys))
        found = self.session.scalars(select(Company).where(named))
        self._keyed: dict[str, Company] = {}
        self._numbered: dict[str, Company] = {}
        for company in found:
            self._remember(company)

    def _people(self, emails: set[str]) -> None:
        contacts = select(Contact).where(self._among(Contact.email, emails))
        self._contacts = {c.email: c for c in self.session.scalars(contacts)}
        names = {directory.extract_domain(email) for email in emails}
        domains = select(CompanyDomain).where(self._among(CompanyDomain.domain, names))
        self._domains = {d.domain: d for d in self.session.scalars(domains)}
        self._companies_of([*self._contacts.values(), *self._domains.values()])

    def _companies_of(self, some: Sequence[Contact | CompanyDomain]) -> None:
        """Have each know its company, read once for all.

        By a join it would be read once for each.
        """
        known = {c.id: c for c in self._keyed.values()}
        missing = {
            number for one in some if (number := one.company_id) is not None and number not in known
        }
        found = self.session.scalars(select(Company).where(self._among(Company.id, missing)))
        known |= {c.id: c for c in found}
        for one in some:
            set_committed_value(
                one, "company", None if one.company_id is None else known[one.company_id]
            )

    def _tickets(self, items: Sequence[InboundItem]) -> None:
        """Tickets that items may join, kept to this transaction.

        Another answer may have moved one a moment ago.
        """
        threads = {threading.build_thread_id(i) for i in items} - {""}
        tickets = (
            select(Ticket.id, Ticket.thread_id, Company.key)
            .outerjoin(Company, Company.id == Ticket.company_id)
            .where(self._among(Ticket.thread_id, threads), Ticket.status == Status.OPEN)
            .order_by(Ticket.id)
            .with_for_update(of=Ticket, key_share=True)
        )
        self.tickets_by_thread: dict[str, list[TicketRef]] = {}
        of_nobody: dict[int, TicketRef] = {}
        for number, thread, key in self.session.execute(tickets):
            ticket = TicketRef(number, company_key=key)
            self.tickets_by_thread.setdefault(thread, []).append(ticket)
            if key is None:
                of_nobody[number] = ticket
        wrote = select(Message.ticket_id, Message.from_name, Message.from_email).where(
            self._among(Message.ticket_id, set(of_nobody)), Message.direction == "in"
        )
        for number, name, email in self.session.execute(wrote):
            of_nobody[number].senders.add(threading.fold_sender(name, email))

    def _among(
        self, column: InstrumentedAttribute[Any], values: Collection[Any]
    ) -> ColumnElement[bool]:
        return bulk_insert.is_one_of(self.session, column, values)

    def _remember(self, company: Company) -> None:
        self._keyed[company.key] = company
        if company.number is not None:
            self._numbered[company.number] = company

    def find_company_by_number(self, number: str) -> Company | None:
        """Of those that items name."""
        return self._numbered.get(number)

    def find_company_by_key(self, key: str) -> Company | None:
        """Of those that items name."""
        return self._keyed.get(key)

    def find_contact(self, email: str) -> Contact | None:
        """Of those who sent items."""
        return self._contacts.get(email)

    def find_domain(self, name: str) -> CompanyDomain | None:
        """Of those that senders have."""
        return self._domains.get(name)

    def add(self, new: Company | Contact) -> bool:
        """Put a new one on record with the next flush.

        False where one of its name is here already.
        """
        if isinstance(new, Contact):
            self._contacts[new.email] = new
        elif new.key in self._keyed or new.number in self._numbered:
            return False
        else:
            self._remember(new)
        self.session.add(new)
        return True
