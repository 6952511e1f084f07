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

from parsers.item import Format, InboundItem, ParseResult, RejectedRow
from workflow import process
from workflow.audit import record as audit
from workflow.audit import webhook_events
from workflow.audit.record import RULE
from workflow.customers import directory
from workflow.database import bulk_insert
from workflow.database.bulk_insert import Row
from workflow.database.engine import notify_workers
from workflow.filing import file_item, threading
from workflow.filing.bulk_lookup import BulkLookup, MessageRef, TicketRef
from workflow.models.base import Base
from workflow.models.core import (
    AuditEntry,
    Contact,
    Delivery,
    Filing,
    Message,
    OutgoingMail,
    Task,
    Ticket,
    TicketContact,
    TicketMilestone,
)
from workflow.models.states import Outcome
from workflow.models.webhooks import WebhookEvent
from workflow.process import Milestone, Template
from workflow.runtime import log
from workflow.tickets import outbox, search
from workflow.tickets.desk import Desk
from workflow.tickets.outbox import (
    NO_ADDRESS_REASON,
    NOTIFY_TASK,
    NOTIFY_TASK_KIND,
    describe_unnotified,
    task_row,
)

FIRST_STEP = process.STEPS[0]
STEPS_WITHOUT_NOTICE = process.list_next_steps(
    FIRST_STEP.stage, {Milestone.CUSTOMER_NOTIFIED}
)  # where a ticket goes whose customer has no notice
TABLES = (
    Ticket,
    TicketContact,
    Message,
    Filing,
    OutgoingMail,
    Task,
    TicketMilestone,
    AuditEntry,
    WebhookEvent,
)
# What the rows written here can say of the process table; should it say more one day, everything is
# filed one by one.
IS_BULK_POSSIBLE = FIRST_STEP.on_entry not in {None, Template.SURVEY} and all(
    s.waits_for and s.on_entry is None for s in STEPS_WITHOUT_NOTICE
)


def file_items(
    desk: Desk,
    session: Session,
    items: Sequence[ParseResult],
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
            file_item.file_item(desk, session, items[at], delivery, first + at, now)
            at += 1


def _together(
    desk: Desk,
    session: Session,
    items: Sequence[ParseResult],
    delivery: Delivery,
    first: int,
    now: datetime,
) -> int:
    """File the plain ones at the beginning; how many they were."""
    if not (IS_BULK_POSSIBLE and _is_plain(items[0], delivery)):
        return 0
    try:
        with session.begin_nested():
            with bulk_insert.force_custom_plans(session):
                known = BulkLookup(session, [i for i in items if isinstance(i, InboundItem)], now)
            plan = _Plan(desk, known, delivery, now)
            for at, item in enumerate(items):
                if not (_is_plain(item, delivery) and plan.take(first + at, item)):
                    break
            plan.write()
            search.index_tickets(session, *plan.tickets())
    except IntegrityError:  # somebody else was faster with one of them: `receive` looks again
        for at, item in enumerate(items):
            file_item.file_item(desk, session, item, delivery, first + at, now)
        return len(items)
    log.items_filed(delivery.id, first, Counter(f.outcome for f in plan.filings))
    return len(plan.filings)


def _is_plain(item: ParseResult, delivery: Delivery) -> bool:
    if isinstance(item, RejectedRow):
        return True
    alone = item.format is Format.SECURE_MESSAGE and not (item.authentication or item.file_urls)
    return (
        alone
        and delivery.envelope.keys().isdisjoint({"owner", "oversized"})
        and threading.is_standalone(item, delivery.envelope)
    )


# -- what becomes of them ----


@dataclass(slots=True)
class _Filing:
    position: int
    outcome: Outcome
    message: MessageRef | None = None
    reason: str = ""


class _Plan:
    """What becomes of some items, item by item; then all of it written, a statement a table."""

    def __init__(self, desk: Desk, known: BulkLookup, delivery: Delivery, now: datetime) -> None:
        self._desk, self._known, self._delivery, self._now = desk, known, delivery, now
        self._keys = iter(known.item_keys)
        self._due = file_item.compute_first_due(desk, delivery)
        self.filings: list[_Filing] = []
        self._rows: dict[type[Base], list[Row]] = {}

    # -- deciding ----

    def take(self, position: int, item: ParseResult) -> bool:
        """Decide about the next one, in the order they were looked up.

        False where more must be known than that.
        """
        if isinstance(item, RejectedRow):
            self.filings.append(
                _Filing(position, Outcome.REJECTED, reason=file_item.describe_rejection(item))
            )
            return True
        known = self._known
        key, earlier = threading.find_duplicate(known, item, next(self._keys), known.find_message)
        if earlier is not None:
            self.filings.append(_Filing(position, Outcome.DUPLICATE, earlier))
            return True
        ticket = self._match(item)
        outcome = Outcome.APPENDED if ticket else Outcome.OPENED
        message = self._message(ticket or self._open(item), item, key, is_new=ticket is None)
        self.filings.append(_Filing(position, outcome, message))
        return True

    def _match(self, item: InboundItem) -> TicketRef | None:
        thread = threading.build_thread_id(item)
        of_thread = self._known.tickets_by_thread.get(thread, ()) if thread else ()
        return next(
            (
                t
                for t in of_thread
                if threading.may_join_thread(self._known, item, t.company_key, t.senders)
            ),
            None,
        )

    def _open(self, item: InboundItem) -> TicketRef:
        known, now = self._known, self._now
        company = directory.find_or_create_company(known, item, now)
        row = file_item.build_ticket_row(self._desk, item, self._delivery, company, self._due)
        contact = None
        if item.contact.key:
            contact = directory.find_or_create_contact(
                known, item.contact, item.phone, company, vouched=False, now=now
            )
        ticket = TicketRef(
            company=company,
            company_key=company.key if company else None,
            new_row=row,
            contact=contact,
            share_activity=contact is None or contact.email not in item.unshared_addresses,
            undeliverable_reason=self._untold(contact, automated=row["automated"]),
        )
        if row["thread_id"]:
            known.tickets_by_thread.setdefault(row["thread_id"], []).append(ticket)
        return ticket

    def _untold(self, contact: Contact | None, *, automated: bool) -> str:
        """Why this contact cannot be told; "" counts one more mail to them."""
        if contact is None:
            return NO_ADDRESS_REASON
        settings, lately = self._desk.settings, self._known.recent_mails
        name = contact.id or contact.email  # a new one has no number yet
        found = outbox.undeliverable_reason(
            contact, settings, automated=automated
        ) or outbox.rate_limited(lately[name], settings)
        if not found:
            lately[name] += 1
        return found

    def _message(
        self, ticket: TicketRef, item: InboundItem, key: str | None, *, is_new: bool
    ) -> MessageRef:
        name = threading.build_message_id(item)
        reused = name in self._known.message_ids
        row = file_item.build_message_row(item, self._delivery, key, reused=reused)
        known = threading.MessageIdentity(name, row["from_name"], ticket.company_key)
        message = MessageRef(ticket, known, new_row=row)
        if reused and is_new and ticket.new_row is not None:
            ticket.new_row["caveats"] = file_item.add_reused_id_caveat(ticket.new_row["caveats"])
        if ticket.company_key is None:
            ticket.senders.add(threading.fold_sender(row["from_name"], row["from_email"]))
        if name:
            self._known.message_ids.add(name)
        if key:
            self._known.messages_by_key[key] = message
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
        with search.pause_index(connection):
            for model in TABLES:
                bulk_insert.insert_rows(connection, _table(model), self._rows.get(model, ()))
        if OutgoingMail in self._rows:
            notify_workers(session, outbox.SEND)
        if WebhookEvent in self._rows:
            notify_workers(session, webhook_events.WEBHOOK_QUEUE)

    def _number(self) -> None:
        session, new = self._known.session, {Outcome.OPENED, Outcome.APPENDED}
        messages = [f.message for f in self.filings if f.message is not None and f.outcome in new]
        for message, number in zip(
            messages,
            bulk_insert.reserve_ids(session.connection(), _table(Message), len(messages)),
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
            bulk_insert.reserve_ids(session.connection(), _table(Ticket), len(tickets)),
            strict=True,
        ):
            ticket.id = number
        self._tasks = iter(
            bulk_insert.reserve_ids(
                session.connection(),
                _table(Task),
                sum(bool(t.undeliverable_reason) for t in tickets),
            )
        )

    def _file(self, filing: _Filing) -> None:
        message = filing.message
        ticket = message.ticket if message else None
        if ticket is not None and ticket.new_row is not None and filing.outcome is Outcome.OPENED:
            self._opened(ticket, ticket.new_row)
        if (
            message is not None
            and message.new_row is not None
            and filing.outcome is not Outcome.DUPLICATE
        ):
            self._add(
                Message, {**message.new_row, "ticket_id": message.ticket.id, "id": message.id}
            )
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

    def _opened(self, ticket: TicketRef, row: Row) -> None:
        """The rows of a new ticket that enters the process, as `Desk.open` has it."""
        self._audit("opened", self._cause, ticket)
        self._audit("stage", self._cause, ticket, stage=FIRST_STEP.stage.name)
        if ticket.contact is not None:
            link = {
                "ticket_id": ticket.id,
                "contact_id": ticket.contact.id,
                "share_activity": ticket.share_activity,
            }
            self._add(TicketContact, link)
        stage = self._not_told(ticket) if ticket.undeliverable_reason else FIRST_STEP.stage
        if not ticket.undeliverable_reason:
            assert FIRST_STEP.on_entry is not None
            assert ticket.contact is not None
            mail = outbox.outbox_row(
                ticket.id, 1, FIRST_STEP.on_entry, ticket.contact, by=RULE, now=self._now
            )
            self._add(OutgoingMail, mail)
        company = ticket.company.id if ticket.company else None
        self._add(Ticket, {**row, "id": ticket.id, "company_id": company, "stage": stage})

    def _not_told(self, ticket: TicketRef) -> process.Stage:
        """The task and the milestone in place of a notice; the stage they lead to."""
        why, now, task, told = (
            ticket.undeliverable_reason,
            self._now,
            next(self._tasks),
            Milestone.CUSTOMER_NOTIFIED,
        )
        lead = self._desk.settings.desk_lead
        asked = task_row(
            ticket.id, 1, NOTIFY_TASK_KIND, NOTIFY_TASK, cause=why, now=now, assignee=lead
        )
        self._add(Task, {**asked, "id": task, "follows_owner": True})
        self._audit("task", why, ticket, task=task)
        note = describe_unnotified(why)
        self._add(
            TicketMilestone,
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
        for step in STEPS_WITHOUT_NOTICE:
            self._audit("stage", f"reached {told}", ticket, stage=step.stage.name)
        return STEPS_WITHOUT_NOTICE[-1].stage if STEPS_WITHOUT_NOTICE else FIRST_STEP.stage

    def _audit(self, action: str, cause: str, ticket: TicketRef, **detail: Any) -> None:
        change = audit.build_row(
            action, by=RULE, cause=cause, now=self._now, ticket=ticket.id, **detail
        )
        self._add(AuditEntry, change)
        for told in webhook_events.build_rows(self._known.session, change):
            self._add(WebhookEvent, told)

    def _add(self, model: type[Base], row: Row) -> None:
        self._rows.setdefault(model, []).append(row)


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table
