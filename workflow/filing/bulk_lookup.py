"""Lookups for filing many items at once, in a handful of queries."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.orm.attributes import set_committed_value

from parsers.item import Attachment, Format, InboundItem
from workflow.customers import company_numbers, directory
from workflow.database import bulk_insert
from workflow.database.bulk_insert import Row
from workflow.filing import threading
from workflow.models.core import (
    IS_NAMESAKE,
    Company,
    CompanyDomain,
    Contact,
    Delivery,
    Message,
    Ticket,
)
from workflow.models.states import Status
from workflow.settings.settings import Settings
from workflow.tickets import notice_budget
from workflow.tickets.transitions import Change


@dataclass(slots=True)
class TicketRef:
    """An existing ticket, or one about to be inserted.

    A new one has its column values in `new_row`, its contact, and in `changes` what follows from
    opening it; its `id` is 0 until it is reserved. `senders` (`threading.fold_sender`) are those
    who wrote on a ticket without company.
    """

    id: int = 0
    company: Company | None = None
    company_key: str | None = None
    senders: set[tuple[str, str]] = field(default_factory=set)
    near: tuple[Company, ...] = ()
    new_row: Row | None = None
    contact: Contact | None = None
    share_activity: bool = True
    changes: Sequence[Change] = ()


@dataclass(slots=True)
class MessageRef:
    """An existing message, or one about to be inserted, with its column values in `new_row`.

    `attachments` are those of a new one, which are stored with it; they came in `delivery`.
    """

    ticket: TicketRef
    identity: threading.MessageIdentity
    id: int = 0
    new_row: Row | None = None
    delivery: Delivery | None = None
    attachments: tuple[Attachment, ...] = ()


class BulkLookup(directory.CustomerLookup):
    """Companies, contacts, tickets and messages that some items may refer to.

    What is planned for one item is added here, so that the items that follow find it.
    """

    def __init__(
        self, session: Session, items: Sequence[InboundItem], settings: Settings, now: datetime
    ) -> None:
        super().__init__(session)
        self._load_companies(items)
        self._load_contacts({i.contact.key for i in items} - {""})
        emails = {i.contact.key for i in items}
        self.recent_mails = notice_budget.load_recent_mails(session, emails, settings, now)
        self.item_keys = [threading.build_keys(i) for i in items]
        self.messages_by_key = self._load_messages(items)
        ids = {threading.build_message_id(i) for i in items} - {""}
        ids.update(*(threading.list_reference_ids(i) for i in items))
        existing = select(Message.message_id).where(self._is_one_of(Message.message_id, ids))
        self.message_ids = set(session.scalars(existing))
        self.origins = self._load_origins(items)
        self._load_tickets(items)

    def _load_messages(self, items: Sequence[InboundItem]) -> dict[tuple[str, str], MessageRef]:
        """Load the messages that have a key of the items, by format and key."""
        keys: dict[str, set[str]] = {}
        for item, own in zip(items, self.item_keys, strict=True):
            if own is not None:
                candidates = {own.own, own.shared, *own.legacy} - {""}
                keys.setdefault(item.format, set()).update(candidates)
        messages: dict[tuple[str, str], MessageRef] = {}
        for item_format, candidates in keys.items():
            same = (
                select(
                    Message.external_id,
                    Message.id,
                    Message.message_id,
                    Message.from_name,
                    Ticket.id,
                    Company.key,
                    Ticket.named_company,
                    Ticket.named_number,
                )
                .join(Ticket, Ticket.id == Message.ticket_id)
                .outerjoin(Company, Company.id == Ticket.company_id)
                .where(
                    Message.format == item_format, self._is_one_of(Message.external_id, candidates)
                )
            )
            for key, number, message_id, sender, ticket, *practice in self.session.execute(same):
                assert key is not None  # it is one of those asked for
                company = threading.get_company_key(*practice)
                identity = threading.MessageIdentity(message_id, sender, company)
                messages[item_format, key] = MessageRef(TicketRef(ticket), identity, number)
        return messages

    def find_message(
        self, item_format: Format, key: str
    ) -> tuple[MessageRef, threading.MessageIdentity] | None:
        """Find the message of a format with this key, stored or planned."""
        message = self.messages_by_key.get((item_format, key))
        return (message, message.identity) if message is not None else None

    def _load_origins(self, items: Sequence[InboundItem]) -> set[str]:
        """Load the origins of the items that have a ticket already."""
        origins = {threading.build_origin(i) for i in items if threading.is_origin_shared(i)}
        taken = select(Ticket.origin).where(self._is_one_of(Ticket.origin, origins - {None}))
        return {origin for origin in self.session.scalars(taken) if origin is not None}

    def may_answer(self, item: InboundItem) -> bool:
        """Return whether an item may belong to the ticket of another message.

        It answers one, or has the id of one, stored or planned.
        """
        if item.format is Format.SECURE_MESSAGE:  # its thread decides (`threading.is_standalone`)
            return False
        if not self.message_ids.isdisjoint(threading.list_reference_ids(item)):
            return True
        if item.format is Format.FORMSTACK and threading.build_message_id(item) in self.message_ids:
            return True
        return threading.build_origin(item) in self.origins

    def _load_companies(self, items: Sequence[InboundItem]) -> None:
        numbers = {company_numbers.normalize(i.company_number) for i in items} - {""}
        keys = {directory.build_company_key(i.company) for i in items} - {""}
        keys |= {
            directory.build_namesake_key(i.company, i.company_number)
            for i in items
            if i.company and i.company_number
        }
        self._namesakes: dict[str, Company] | None = None
        self._by_key: dict[str, Company] = {}
        self._by_number: dict[str, Company] = {}
        self._by_folded_number: dict[str, dict[int, Company]] = {}
        if not (numbers or keys):
            return
        named = or_(self._is_one_of(Company.number, numbers), self._is_one_of(Company.key, keys))
        for company in self.session.scalars(select(Company).where(named)):
            self._add_company(company)
        self._load_companies_by_folded_number(numbers - self._by_number.keys())

    def _load_companies_by_folded_number(self, numbers: set[str]) -> None:
        """Load the companies whose numbers differ from these in zeros at the beginning alone."""
        plain = filter(company_numbers.is_plain, numbers)
        folded = {company_numbers.fold(number) for number in plain}
        if folded:
            same = func.ltrim(Company.number, "0").in_(folded)
            for company in self.session.scalars(select(Company).where(same)):
                self._add_company(company)

    def _load_contacts(self, emails: set[str]) -> None:
        contacts = select(Contact).where(self._is_one_of(Contact.email, emails))
        # `all`: the one who goes on for a merged contact is loaded by another query.
        loaded = self.session.scalars(contacts).all()
        self._contacts = {c.email: self.follow_contact_merge(c) for c in loaded}
        names = {directory.extract_domain(email) for email in emails}
        domains = select(CompanyDomain).where(self._is_one_of(CompanyDomain.domain, names))
        self._domains = {d.domain: d for d in self.session.scalars(domains)}
        self._set_companies([*self._contacts.values(), *self._domains.values()])

    def _set_companies(self, rows: Sequence[Contact | CompanyDomain]) -> None:
        """Set the company of each row, loading each company once.

        A join would load it once for every row.
        """
        companies = {c.id: c for c in self._by_key.values()}
        ids = {row.company_id for row in rows if row.company_id is not None}
        if missing := ids - companies.keys():
            load = select(Company).where(self._is_one_of(Company.id, missing))
            companies |= {c.id: c for c in self.session.scalars(load)}
        for row in rows:
            company = None if row.company_id is None else companies[row.company_id]
            set_committed_value(row, "company", company)

    def _load_tickets(self, items: Sequence[InboundItem]) -> None:
        """Load and lock the open tickets that items may join.

        Locked, because another answer may change one at this moment.
        """
        rows = [i for i in items if i.format is Format.SECURE_MESSAGE]
        threads = {threading.build_thread_id(i) for i in rows} - {""}
        self.tickets_by_thread: dict[str, list[TicketRef]] = {}
        if not threads:
            return
        tickets = (
            select(
                Ticket.id,
                Ticket.thread_id,
                Company.key,
                Ticket.named_company,
                Ticket.named_number,
            )
            .outerjoin(Company, Company.id == Ticket.company_id)
            .where(self._is_one_of(Ticket.thread_id, threads), Ticket.status == Status.OPEN)
            .order_by(Ticket.id)
            .with_for_update(of=Ticket, key_share=True)
        )
        without_company: dict[int, TicketRef] = {}
        for number, thread, *practice in self.session.execute(tickets):
            key = threading.get_company_key(*practice)
            ticket = TicketRef(number, company_key=key)
            self.tickets_by_thread.setdefault(thread, []).append(ticket)
            if key is None:
                without_company[number] = ticket
        if not without_company:
            return
        senders = select(Message.ticket_id, Message.from_name, Message.from_email).where(
            self._is_one_of(Message.ticket_id, set(without_company)), Message.direction == "in"
        )
        for number, name, email in self.session.execute(senders):
            without_company[number].senders.add(threading.fold_sender(name, email))

    def _is_one_of(
        self, column: InstrumentedAttribute[Any], values: Collection[Any]
    ) -> ColumnElement[bool]:
        return bulk_insert.is_one_of(self.session, column, values)

    def _add_company(self, company: Company) -> None:
        self._by_key[company.key] = company
        if self._namesakes is not None and directory.is_namesake(company):
            self._namesakes[company.key] = company
        if company.number is not None:
            self._by_number[company.number] = company
            folded = company_numbers.fold(company.number)
            self._by_folded_number.setdefault(folded, {})[id(company)] = company

    def find_company_by_number(self, number: str) -> Company | None:
        """Find a company that an item names."""
        exact = self._by_number.get(number)
        if exact is not None or not company_numbers.is_plain(number):
            return exact
        same = self._by_folded_number.get(company_numbers.fold(number), {})
        return next(iter(same.values())) if len(same) == 1 else None

    def find_company_by_key(self, key: str) -> Company | None:
        """Find a company that an item names."""
        return self._by_key.get(key)

    def list_namesakes(self, key: str) -> list[Company]:
        """List the companies whose name another one had first: all are read at the first call."""
        if self._namesakes is None:
            with self.session.no_autoflush:  # nothing is written before all is planned
                loaded = self.session.scalars(select(Company).where(IS_NAMESAKE)).all()
            self._namesakes = {company.key: company for company in loaded}
            self._namesakes |= {k: c for k, c in self._by_key.items() if directory.is_namesake(c)}
        return [c for k, c in self._namesakes.items() if k.startswith(f"{key} #")]

    def find_contact(self, email: str) -> Contact | None:
        """Find the contact of a sender."""
        return self._contacts.get(email)

    def find_domain(self, name: str) -> CompanyDomain | None:
        """Find the domain of a sender."""
        return self._domains.get(name)

    def add(self, new: Company | Contact) -> bool:
        """Insert a record with the next flush; False when there is one with its key or number."""
        if isinstance(new, Contact):
            self._contacts[new.email] = new
        elif new.key in self._by_key or new.number in self._by_number:
            return False
        else:
            self._add_company(new)
            self._new_names.add(directory.build_company_key(new.name), new)
        self.session.add(new)
        return True
