"""Filing many items at once.

The very rows that `reception.receive` writes one by one, a statement a table.

What is decided is decided by the same functions; only looking up and writing is done for many at a
time. The plain case is a secure message that stands alone: a new ticket, one more message on an
open ticket, a duplicate. Everything else, and whatever loses a race for a unique index, goes
through `receive`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from parsers.item import Format, InboundItem, Parsed, RejectedRow
from workflow import process
from workflow.audit import record as audit
from workflow.audit import webhook_events
from workflow.audit.record import RULE
from workflow.customers import directory
from workflow.database import bulk_insert
from workflow.database.bulk_insert import Row
from workflow.database.engine import wake
from workflow.filing import file_item, threading
from workflow.filing.bulk_lookup import OnRecord, SomeMessage, SomeTicket
from workflow.models.base import Base
from workflow.models.core import (
    Audit,
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
from workflow.models.states import Outcome
from workflow.models.webhooks import HookEvent
from workflow.process import Milestone, Template
from workflow.runtime import log
from workflow.tickets import outbox, search
from workflow.tickets.desk import Desk
from workflow.tickets.outbox import NO_ADDRESS, TELL, TELL_KIND, not_possible, task_row

FIRST = process.STEPS[0]
UNTOLD = process.onward(
    FIRST.stage, {Milestone.CUSTOMER_NOTIFIED}
)  # where a ticket goes whose customer has no notice
TABLES = (Ticket, TicketContact, Message, Filing, Outgoing, Task, Reached, Audit, HookEvent)
# What the rows written here can say of the process table; should it say more one day, everything is
# filed one by one.
SAID = FIRST.on_entry not in {None, Template.SURVEY} and all(
    s.waits_for and s.on_entry is None for s in UNTOLD
)


def receive_all(
    desk: Desk,
    session: Session,
    items: Sequence[Parsed],
    delivery: Delivery,
    first: int,
    now: datetime,
) -> None:
    """File items of a delivery, the first of them at this position.

    And record what has become of each.

    The same tables as after `receive` for each, in order; safe to repeat and to race as that is.
    Takes a few hundred items well: they are looked up and written together. They are storable, as
    every reading of ours gives them.
    """
    at = 0
    while at < len(items):
        at += _together(desk, session, items[at:], delivery, first + at, now)
        if at < len(items):
            file_item.receive(desk, session, items[at], delivery, first + at, now)
            at += 1


def _together(
    desk: Desk,
    session: Session,
    items: Sequence[Parsed],
    delivery: Delivery,
    first: int,
    now: datetime,
) -> int:
    """File the plain ones at the beginning; how many they were."""
    if not (SAID and _is_plain(items[0], delivery)):
        return 0
    try:
        with session.begin_nested():
            with bulk_insert.planned_anew(session):
                known = OnRecord(session, [i for i in items if isinstance(i, InboundItem)], now)
            plan = _Plan(desk, known, delivery, now)
            for at, item in enumerate(items):
                if not (_is_plain(item, delivery) and plan.take(first + at, item)):
                    break
            plan.write()
            search.index(session, *plan.tickets())
    except IntegrityError:  # somebody else was faster with one of them: `receive` looks again
        for at, item in enumerate(items):
            file_item.receive(desk, session, item, delivery, first + at, now)
        return len(items)
    log.filed_together(delivery.id, first, Counter(f.outcome for f in plan.filings))
    return len(plan.filings)


def _is_plain(item: Parsed, delivery: Delivery) -> bool:
    if isinstance(item, RejectedRow):
        return True
    alone = item.format is Format.SECURE_MESSAGE and not (item.authentication or item.linked)
    return (
        alone
        and delivery.envelope.keys().isdisjoint({"owner", "oversized"})
        and threading.stands_alone(item, delivery.envelope)
    )


# -- what becomes of them ----


@dataclass(slots=True)
class _Filing:
    position: int
    outcome: Outcome
    message: SomeMessage | None = None
    reason: str = ""


class _Plan:
    """What becomes of some items, item by item; then all of it written, a statement a table."""

    def __init__(self, desk: Desk, known: OnRecord, delivery: Delivery, now: datetime) -> None:
        self._desk, self._known, self._delivery, self._now = desk, known, delivery, now
        self._keys = iter(known.keys)
        self._due = file_item.due(desk, delivery)
        self.filings: list[_Filing] = []
        self._rows: dict[type[Base], list[Row]] = {}

    # -- deciding ----

    def take(self, position: int, item: Parsed) -> bool:
        """Decide about the next one, in the order they were looked up.

        False where more must be known than that.
        """
        if isinstance(item, RejectedRow):
            self.filings.append(
                _Filing(position, Outcome.REJECTED, reason=file_item.why_rejected(item))
            )
            return True
        known = self._known
        key, earlier = threading.identify(known, item, next(self._keys), known.look_up)
        if earlier is not None:
            self.filings.append(_Filing(position, Outcome.DUPLICATE, earlier))
            return True
        ticket = self._match(item)
        outcome = Outcome.APPENDED if ticket else Outcome.OPENED
        message = self._message(ticket or self._open(item), item, key, is_new=ticket is None)
        self.filings.append(_Filing(position, outcome, message))
        return True

    def _match(self, item: InboundItem) -> SomeTicket | None:
        thread = threading.thread(item)
        of_thread = self._known.threads.get(thread, ()) if thread else ()
        return next(
            (t for t in of_thread if threading.joins_thread(self._known, item, t.key, t.senders)),
            None,
        )

    def _open(self, item: InboundItem) -> SomeTicket:
        known, now = self._known, self._now
        company = directory.company_of(known, item, now)
        row = file_item.told(self._desk, item, self._delivery, company, self._due)
        contact = None
        if item.contact.key:
            contact = directory.contact_for(
                known, item.contact, item.phone, company, vouched=False, now=now
            )
        ticket = SomeTicket(
            company=company,
            key=company.key if company else None,
            row=row,
            contact=contact,
            shared=contact is None or contact.email not in item.not_shared,
            untold=self._untold(contact, automated=row["automated"]),
        )
        if row["thread_id"]:
            known.threads.setdefault(row["thread_id"], []).append(ticket)
        return ticket

    def _untold(self, contact: Contact | None, *, automated: bool) -> str:
        """Why this contact cannot be told; "" counts one more mail to them."""
        if contact is None:
            return NO_ADDRESS
        settings, lately = self._desk.settings, self._known.lately
        name = contact.id or contact.email  # a new one has no number yet
        found = outbox.undeliverable_reason(
            contact, settings, automated=automated
        ) or outbox.rate_limited(lately[name], settings)
        if not found:
            lately[name] += 1
        return found

    def _message(
        self, ticket: SomeTicket, item: InboundItem, key: str | None, *, is_new: bool
    ) -> SomeMessage:
        name = threading.identity(item)
        reused = name in self._known.names
        row = file_item.placed(item, self._delivery, key, reused=reused)
        known = threading.Recorded(name, row["from_name"], ticket.key)
        message = SomeMessage(ticket, known, row=row)
        if reused and is_new and ticket.row is not None:
            ticket.row["caveats"] = file_item.with_reused_id(ticket.row["caveats"])
        if ticket.key is None:
            ticket.senders.add(threading.sender_of(row["from_name"], row["from_email"]))
        if name:
            self._known.names.add(name)
        if key:
            self._known.messages[key] = message
        return message

    def tickets(self) -> tuple[list[int], list[int]]:
        """The numbers of those opened, and of those of before that have a new message.

        Once they are written.
        """
        told = {
            o: {f.message.ticket.id for f in self.filings if f.message and f.outcome is o}
            for o in Outcome
        }
        opened = told[Outcome.OPENED]
        return sorted(opened), sorted(told[Outcome.APPENDED] - opened)

    # -- writing ----

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
                bulk_insert.write(connection, _table(model), self._rows.get(model, ()))
        if Outgoing in self._rows:
            wake(session, outbox.SEND)
        if HookEvent in self._rows:
            wake(session, webhook_events.HOOK)

    def _number(self) -> None:
        session, new = self._known.session, {Outcome.OPENED, Outcome.APPENDED}
        messages = [f.message for f in self.filings if f.message is not None and f.outcome in new]
        for message, number in zip(
            messages,
            bulk_insert.numbers(session.connection(), _table(Message), len(messages)),
            strict=True,
        ):
            message.id = number
        tickets = [
            f.message.ticket
            for f in self.filings
            if f.message is not None and f.outcome is Outcome.OPENED
        ]
        for ticket, number in zip(
            tickets,
            bulk_insert.numbers(session.connection(), _table(Ticket), len(tickets)),
            strict=True,
        ):
            ticket.id = number
        self._tasks = iter(
            bulk_insert.numbers(
                session.connection(), _table(Task), sum(bool(t.untold) for t in tickets)
            )
        )

    def _file(self, filing: _Filing) -> None:
        message = filing.message
        ticket = message.ticket if message else None
        if ticket is not None and ticket.row is not None and filing.outcome is Outcome.OPENED:
            self._opened(ticket, ticket.row)
        if (
            message is not None
            and message.row is not None
            and filing.outcome is not Outcome.DUPLICATE
        ):
            self._add(Message, {**message.row, "ticket_id": message.ticket.id, "id": message.id})
        if message is not None and filing.outcome is Outcome.APPENDED:
            self._audit("appended", self._cause, message.ticket, message=message.id)
        self._add(
            Filing,
            {
                "delivery_id": self._delivery.id,
                "position": filing.position,
                "outcome": filing.outcome,
                "ticket_id": ticket.id if ticket else None,
                "message_id": message.id if message else None,
                "reason": filing.reason,
            },
        )

    @property
    def _cause(self) -> str:
        return f"delivery {self._delivery.id}"

    def _opened(self, ticket: SomeTicket, row: Row) -> None:
        """The rows of a new ticket that enters the process, as `Desk.open` has it."""
        self._audit("opened", self._cause, ticket)
        self._audit("stage", self._cause, ticket, stage=FIRST.stage.name)
        if ticket.contact is not None:
            link = {
                "ticket_id": ticket.id,
                "contact_id": ticket.contact.id,
                "share_activity": ticket.shared,
            }
            self._add(TicketContact, link)
        stage = self._not_told(ticket) if ticket.untold else FIRST.stage
        if not ticket.untold:
            assert FIRST.on_entry is not None
            assert ticket.contact is not None
            mail = outbox.outbox_row(
                ticket.id, 1, FIRST.on_entry, ticket.contact, by=RULE, now=self._now
            )
            self._add(Outgoing, mail)
        company = ticket.company.id if ticket.company else None
        self._add(Ticket, {**row, "id": ticket.id, "company_id": company, "stage": stage})

    def _not_told(self, ticket: SomeTicket) -> process.Stage:
        """The task and the milestone in place of a notice; the stage they lead to."""
        why, now, task, told = (
            ticket.untold,
            self._now,
            next(self._tasks),
            Milestone.CUSTOMER_NOTIFIED,
        )
        lead = self._desk.settings.desk_lead
        asked = task_row(ticket.id, 1, TELL_KIND, TELL, cause=why, now=now, assignee=lead)
        self._add(Task, {**asked, "id": task, "follows_owner": True})
        self._audit("task", why, ticket, task=task)
        note = not_possible(why)
        self._add(
            Reached,
            {
                "ticket_id": ticket.id,
                "period": 1,
                "milestone": told,
                "at": now,
                "by": RULE,
                "note": note,
            },
        )
        self._audit("reached", note, ticket, milestone=told.name)
        for step in UNTOLD:
            self._audit("stage", f"reached {told}", ticket, stage=step.stage.name)
        return UNTOLD[-1].stage if UNTOLD else FIRST.stage

    def _audit(self, action: str, cause: str, ticket: SomeTicket, **detail: Any) -> None:
        change = audit.row(action, by=RULE, cause=cause, now=self._now, ticket=ticket.id, **detail)
        self._add(Audit, change)
        for told in webhook_events.promised(self._known.session, change):
            self._add(HookEvent, told)

    def _add(self, model: type[Base], row: Row) -> None:
        self._rows.setdefault(model, []).append(row)


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table
