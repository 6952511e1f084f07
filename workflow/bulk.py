"""Filing many items at once: the very rows that `reception.receive` writes one by one, a statement a table.

What is decided is decided by the same functions; only looking up and writing is done for many at a time. The plain case
is a secure message that stands alone: a new ticket, one more message on an open ticket, a duplicate. Everything else,
and whatever loses a race for a unique index, goes through `receive`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from parsers.item import Format, InboundItem, Parsed, RejectedRow
from workflow import audit, belonging, events, journal, people, process, promise, reception, rows, search
from workflow.base import Base
from workflow.desk import RULE, Desk
from workflow.hook_models import HookEvent
from workflow.models import (
    Audit,
    Company,
    CompanyDomain,
    Contact,
    Delivery,
    Filing,
    Message,
    Outgoing,
    Reached,
    Task,
    Ticket,
    TicketContact,
)
from workflow.process import Milestone, Template
from workflow.rows import Row
from workflow.states import Outcome, Status
from workflow.storable import storable
from workflow.store import wake
from workflow.untold import NO_ADDRESS, TELL, TELL_KIND, not_possible, tasked

FIRST = process.STEPS[0]
UNTOLD = process.onward(FIRST.stage, {Milestone.CUSTOMER_NOTIFIED})  # where a ticket goes whose customer has no notice
TABLES = (Ticket, TicketContact, Message, Filing, Outgoing, Task, Reached, Audit, HookEvent)
# What the rows written here can say of the process table; should it say more one day, everything is filed one by one.
SAID = FIRST.on_entry not in {None, Template.SURVEY} and all(s.waits_for and s.on_entry is None for s in UNTOLD)


def receive_all(
    desk: Desk, session: Session, items: Sequence[Parsed], delivery: Delivery, first: int, now: datetime
) -> None:
    """File items of a delivery, the first of them at this position, and record what has become of each.

    The same tables as after `receive` for each, in order; safe to repeat and to race as that is. Takes a few hundred
    items well: they are looked up and written together.
    """
    at = 0
    while at < len(items):
        at += _together(desk, session, items[at:], delivery, first + at, now)
        if at < len(items):
            reception.receive(desk, session, items[at], delivery, first + at, now)
            at += 1


def _together(
    desk: Desk, session: Session, items: Sequence[Parsed], delivery: Delivery, first: int, now: datetime
) -> int:
    """File the plain ones at the beginning; how many they were."""
    if not (SAID and _is_plain(items[0], delivery)):
        return 0
    clean = [storable(item) for item in items]
    try:
        with session.begin_nested():
            plan = _Plan(desk, _Known(session, [i for i in clean if isinstance(i, InboundItem)], now), delivery, now)
            for at, item in enumerate(clean):
                if not (_is_plain(item, delivery) and plan.take(first + at, item)):
                    break
            plan.write()
            search.index(session, *plan.tickets())
    except IntegrityError:  # somebody else was faster with one of them: `receive` looks again
        for at, item in enumerate(items):
            reception.receive(desk, session, item, delivery, first + at, now)
        return len(items)
    journal.filed_together(delivery.id, first, Counter(f.outcome for f in plan.filings))
    return len(plan.filings)


def _is_plain(item: Parsed, delivery: Delivery) -> bool:
    if isinstance(item, RejectedRow):
        return True
    alone = item.format is Format.SECURE_MESSAGE and not (item.authentication or item.linked)
    return (
        alone
        and delivery.envelope.keys().isdisjoint({"owner", "oversized"})
        and belonging.stands_alone(item, delivery.envelope)
    )


# -- what is there ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Ticket:
    """A ticket that is there or is to be: then with its row, whom to tell, or why they cannot be told."""

    id: int = 0
    is_open: bool = True
    company: Company | None = None
    key: str | None = None  # of its company
    row: Row | None = None
    contact: Contact | None = None
    shared: bool = True
    untold: str = ""


@dataclass(slots=True)
class _Message:
    ticket: _Ticket
    id: int = 0
    row: Row | None = None


class _Known(people.Records):
    """All that is on record about some items, in a handful of queries."""

    def __init__(self, session: Session, items: Sequence[InboundItem], now: datetime) -> None:
        super().__init__(session)
        self._companies(items)
        self._people({i.contact.key for i in items} - {""})
        self.lately: Counter[int | str] = Counter(promise.lately(session, [c.id for c in self._contacts.values()], now))
        keys = {key for i in items if (key := belonging.message_key(i))}
        same = select(Message.external_id, Message.id, Message.ticket_id).where(
            Message.format == Format.SECURE_MESSAGE, Message.external_id.in_(keys)
        )
        self.messages = {key: _Message(_Ticket(ticket), number) for key, number, ticket in session.execute(same)}
        names = {belonging.identity(i) for i in items} - {""}
        self.names = set(session.scalars(select(Message.message_id).where(Message.message_id.in_(names))))
        self._tickets(items)

    def _companies(self, items: Sequence[InboundItem]) -> None:
        numbers = {people.kept_number(i.company_number) for i in items} - {""}
        keys = {people.company_key(i.company) for i in items} - {""}
        keys |= {people.key_beside(i.company, i.company_number) for i in items if i.company and i.company_number}
        found = self.session.scalars(select(Company).where(or_(Company.number.in_(numbers), Company.key.in_(keys))))
        self._keyed: dict[str, Company] = {}
        self._numbered: dict[str, Company] = {}
        for company in found:
            self._remember(company)

    def _people(self, emails: set[str]) -> None:
        contacts = select(Contact).where(Contact.email.in_(emails)).options(joinedload(Contact.company))
        self._contacts = {c.email: c for c in self.session.scalars(contacts)}
        names = {people.domain_of(email) for email in emails}
        domains = select(CompanyDomain).where(CompanyDomain.domain.in_(names))
        found = self.session.scalars(domains.options(joinedload(CompanyDomain.company)))
        self._domains = {d.domain: d for d in found}

    def _tickets(self, items: Sequence[InboundItem]) -> None:
        """Tickets that items may join, kept to this transaction: another answer may have moved one a moment ago."""
        origins = {made for i in items if (made := belonging.origin(i))}
        threads = {belonging.thread(i) for i in items} - {""}
        rows = (
            select(Ticket.id, Ticket.origin, Ticket.thread_id, Ticket.status, Company.key)
            .outerjoin(Company, Company.id == Ticket.company_id)
            .order_by(Ticket.id)
            .with_for_update(of=Ticket, key_share=True)
        )
        by_origin = self.session.execute(rows.where(Ticket.origin.in_(origins)))
        self.origins = {
            origin: _Ticket(number, is_open=status is Status.OPEN) for number, origin, _, status, _ in by_origin
        }
        self.threads: dict[str, list[_Ticket]] = {}
        for number, _, thread, _, key in self.session.execute(
            rows.where(Ticket.thread_id.in_(threads), Ticket.status == Status.OPEN)
        ):
            self.threads.setdefault(thread, []).append(_Ticket(number, key=key))

    def _remember(self, company: Company) -> None:
        self._keyed[company.key] = company
        if company.number is not None:
            self._numbered[company.number] = company

    def company_numbered(self, number: str) -> Company | None:
        return self._numbered.get(number)

    def company_keyed(self, key: str) -> Company | None:
        return self._keyed.get(key)

    def contact(self, email: str) -> Contact | None:
        return self._contacts.get(email)

    def domain(self, name: str) -> CompanyDomain | None:
        return self._domains.get(name)

    def put(self, new: Company | Contact) -> bool:
        if isinstance(new, Contact):
            self._contacts[new.email] = new
        elif new.key in self._keyed or new.number in self._numbered:
            return False
        else:
            self._remember(new)
        self.session.add(new)
        return True


# -- what becomes of them --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Filing:
    position: int
    outcome: Outcome
    message: _Message | None = None
    reason: str = ""


class _Plan:
    """What becomes of some items, item by item; then all of it written, a statement a table."""

    def __init__(self, desk: Desk, known: _Known, delivery: Delivery, now: datetime) -> None:
        self._desk, self._known, self._delivery, self._now = desk, known, delivery, now
        self.filings: list[_Filing] = []
        self._rows: dict[type[Base], list[Row]] = {}

    # -- deciding -----------------------------------------------------------------------------------------------

    def take(self, position: int, item: Parsed) -> bool:
        """Decide about the next one; False where that takes more than what is known here."""
        if isinstance(item, RejectedRow):
            self.filings.append(_Filing(position, Outcome.REJECTED, reason=reception.why_rejected(item)))
            return True
        key = belonging.message_key(item)
        earlier = self._known.messages.get(key) if key else None
        if earlier is not None:
            self.filings.append(_Filing(position, Outcome.DUPLICATE, earlier))
            return True
        ticket = self._match(item)
        if ticket is not None and not ticket.is_open:
            return False
        outcome = Outcome.APPENDED if ticket else Outcome.OPENED
        self.filings.append(_Filing(position, outcome, self._message(ticket or self._open(item), item, key)))
        return True

    def _match(self, item: InboundItem) -> _Ticket | None:
        origin, thread = belonging.origin(item), belonging.thread(item)
        if origin and (same := self._known.origins.get(origin)):
            return same
        of_thread = self._known.threads.get(thread, ()) if thread else ()
        return next((t for t in of_thread if belonging.in_thread(self._known, item, t.key)), None)

    def _open(self, item: InboundItem) -> _Ticket:
        known, now = self._known, self._now
        company = people.company_of(known, item, now)
        row = reception.told(self._desk, item, self._delivery, company)
        contact = None
        if item.contact.key:
            contact = people.contact_for(known, item.contact, item.phone, company, vouched=False, now=now)
        ticket = _Ticket(
            company=company, key=company.key if company else None, row=row, contact=contact,
            shared=contact is None or contact.email not in item.not_shared,
            untold=self._untold(contact, automated=row["automated"]),
        )  # fmt: skip
        if row["origin"]:
            known.origins[row["origin"]] = ticket
        if row["thread_id"]:
            known.threads.setdefault(row["thread_id"], []).append(ticket)
        return ticket

    def _untold(self, contact: Contact | None, *, automated: bool) -> str:
        """Why this contact cannot be told; "" counts one more mail to them."""
        if contact is None:
            return NO_ADDRESS
        settings, lately = self._desk.settings, self._known.lately
        name = contact.id or contact.email  # a new one has no number yet
        found = promise.unfit(contact, settings, automated=automated) or promise.spent(lately[name], settings)
        if not found:
            lately[name] += 1
        return found

    def _message(self, ticket: _Ticket, item: InboundItem, key: str | None) -> _Message:
        name = belonging.identity(item)
        row = reception.placed(item, self._delivery, key, reused=name in self._known.names)
        message = _Message(ticket, row=row)
        if name:
            self._known.names.add(name)
        if key:
            self._known.messages[key] = message
        return message

    def tickets(self) -> tuple[list[int], list[int]]:
        """The numbers of those opened, and of those of before that have a new message; once they are written."""
        told = {o: {f.message.ticket.id for f in self.filings if f.message and f.outcome is o} for o in Outcome}
        opened = told[Outcome.OPENED]
        return sorted(opened), sorted(told[Outcome.APPENDED] - opened)

    # -- writing ------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write it all. Raises IntegrityError where somebody else has written one of them."""
        session = self._known.session
        session.flush()  # companies and contacts, whose numbers the others need
        self._number()
        for filing in self.filings:
            self._file(filing)
        connection = session.connection()
        with search.paused(connection):
            for model in TABLES:
                rows.write(connection, _table(model), self._rows.get(model, ()))
        if Outgoing in self._rows:
            wake(session, promise.SEND)
        if HookEvent in self._rows:
            wake(session, events.HOOK)

    def _number(self) -> None:
        session, new = self._known.session, {Outcome.OPENED, Outcome.APPENDED}
        messages = [f.message for f in self.filings if f.message is not None and f.outcome in new]
        for message, number in zip(
            messages, rows.numbers(session.connection(), _table(Message), len(messages)), strict=True
        ):
            message.id = number
        tickets = [f.message.ticket for f in self.filings if f.message is not None and f.outcome is Outcome.OPENED]
        for ticket, number in zip(
            tickets, rows.numbers(session.connection(), _table(Ticket), len(tickets)), strict=True
        ):
            ticket.id = number
        self._tasks = iter(rows.numbers(session.connection(), _table(Task), sum(bool(t.untold) for t in tickets)))

    def _file(self, filing: _Filing) -> None:
        message = filing.message
        ticket = message.ticket if message else None
        if ticket is not None and ticket.row is not None and filing.outcome is Outcome.OPENED:
            self._opened(ticket, ticket.row)
        if message is not None and message.row is not None and filing.outcome is not Outcome.DUPLICATE:
            self._add(Message, {**message.row, "ticket_id": message.ticket.id, "id": message.id})
        if message is not None and filing.outcome is Outcome.APPENDED:
            self._audit("appended", self._cause, message.ticket, message=message.id)
        self._add(Filing, {
            "delivery_id": self._delivery.id, "position": filing.position, "outcome": filing.outcome,
            "ticket_id": ticket.id if ticket else None, "message_id": message.id if message else None,
            "reason": filing.reason,
        })  # fmt: skip

    @property
    def _cause(self) -> str:
        return f"delivery {self._delivery.id}"

    def _opened(self, ticket: _Ticket, row: Row) -> None:
        """The rows of a new ticket that enters the process, as `Desk.open` has it."""
        self._audit("opened", self._cause, ticket)
        self._audit("stage", self._cause, ticket, stage=FIRST.stage.name)
        if ticket.contact is not None:
            link = {"ticket_id": ticket.id, "contact_id": ticket.contact.id, "share_activity": ticket.shared}
            self._add(TicketContact, link)
        stage = self._not_told(ticket) if ticket.untold else FIRST.stage
        if not ticket.untold:
            assert FIRST.on_entry is not None
            assert ticket.contact is not None
            mail = promise.promised(ticket.id, 1, FIRST.on_entry, ticket.contact, by=RULE, now=self._now)
            self._add(Outgoing, mail)
        company = ticket.company.id if ticket.company else None
        self._add(Ticket, {**row, "id": ticket.id, "company_id": company, "stage": stage})

    def _not_told(self, ticket: _Ticket) -> process.Stage:
        """The task and the milestone in place of a notice; the stage they lead to."""
        why, now, task, told = ticket.untold, self._now, next(self._tasks), Milestone.CUSTOMER_NOTIFIED
        lead = self._desk.settings.desk_lead
        asked = tasked(ticket.id, 1, TELL_KIND, TELL, cause=why, now=now, assignee=lead)
        self._add(Task, {**asked, "id": task, "follows_owner": True})
        self._audit("task", why, ticket, task=task)
        note = not_possible(why)
        self._add(Reached, {
            "ticket_id": ticket.id, "period": 1, "milestone": told, "at": now, "by": RULE, "note": note,
        })  # fmt: skip
        self._audit("reached", note, ticket, milestone=told.name)
        for step in UNTOLD:
            self._audit("stage", f"reached {told}", ticket, stage=step.stage.name)
        return UNTOLD[-1].stage if UNTOLD else FIRST.stage

    def _audit(self, action: str, cause: str, ticket: _Ticket, **detail: Any) -> None:
        change = audit.row(action, by=RULE, cause=cause, now=self._now, ticket=ticket.id, **detail)
        self._add(Audit, change)
        for told in events.promised(self._known.session, change):
            self._add(HookEvent, told)

    def _add(self, model: type[Base], row: Row) -> None:
        self._rows.setdefault(model, []).append(row)


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table
