"""Filing of many items at once, of one delivery or of several, with one statement for each table.

The rows are those that `file_item` writes one by one, and the same functions decide; only lookups
and writes are made for many items together. That covers the plain case, items that answer no
message or mail of ours: a new ticket, another message of an open secure-message thread, or a
duplicate. All other items, and those that lose a race for a unique index, go through `file_item`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import groupby, takewhile
from typing import Any, NamedTuple

from sqlalchemy import Table
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from parsers.item import Format, InboundItem, ParseResult, RejectedRow
from parsers.mail import evidence
from workflow.audit import record as audit
from workflow.audit import webhook_events
from workflow.audit.record import RULE
from workflow.customers import directory
from workflow.database import bulk_insert
from workflow.database.bulk_insert import Row
from workflow.database.engine import is_deadlock, notify_workers
from workflow.filing import (
    automated_mail,
    correspondents,
    delivery_reports,
    file_item,
    oversized,
    signs,
    threading,
)
from workflow.filing.attachments import build_attachment_row, store_content
from workflow.filing.bulk_lookup import BulkLookup, MessageRef, TicketRef
from workflow.filing.correspondents import DeskPeople
from workflow.models.base import Base
from workflow.models.core import (
    AuditEntry,
    Contact,
    Delivery,
    Filing,
    Message,
    OutgoingMail,
    StoredAttachment,
    Task,
    Ticket,
    TicketContact,
    TicketMilestone,
)
from workflow.models.states import Outcome
from workflow.models.webhooks import WebhookEvent
from workflow.runtime import log
from workflow.tickets import outbox, search, transitions
from workflow.tickets.desk import Desk
from workflow.tickets.outbox import build_task_row
from workflow.tickets.transitions import (
    MailDue,
    MilestoneReached,
    Opened,
    StageEntered,
    SurveyDue,
    TaskDue,
)

# In the order in which foreign keys need them.
TABLES = (
    Ticket,
    TicketContact,
    Message,
    StoredAttachment,
    Filing,
    OutgoingMail,
    Task,
    TicketMilestone,
    AuditEntry,
    WebhookEvent,
)
# Should the process table complete a ticket while it is opened, its survey needs the desk, and all
# items are filed one by one.
CAN_END_AT_ONCE = any(
    isinstance(change, SurveyDue)
    for change in transitions.open_ticket(transitions.Situation(dict), "")
)


class PendingItem(NamedTuple):
    """An item to file: its delivery, and its position among the delivery's items.

    It must be storable already (`database.text_safety`), as our parsers make it.
    """

    item: ParseResult
    delivery: Delivery
    position: int


def file_items(
    desk: Desk,
    session: Session,
    items: Sequence[ParseResult],
    delivery: Delivery,
    first: int,
    now: datetime,
) -> None:
    """File items of one delivery in order, the first of them at position `first`."""
    file_pending(
        desk, session, [PendingItem(item, delivery, n) for n, item in enumerate(items, first)], now
    )


def file_pending(
    desk: Desk, session: Session, pending: Sequence[PendingItem], now: datetime
) -> None:
    """File items in order.

    The tables are the same as after `file_item` for each, and this is as safe to repeat and to run
    twice at once. A few hundred items are a good size: they are looked up and written together.
    """
    at = 0
    people = DeskPeople.load(session, desk.settings)
    while at < len(pending):
        filed = _file_plain(desk, people, session, pending[at:], now)
        if not filed:
            _file_one(desk, session, pending[at], now)
        at += filed or 1


def _file_one(desk: Desk, session: Session, one: PendingItem, now: datetime) -> None:
    file_item.file_item(desk, session, one.item, one.delivery, one.position, now)


def _file_plain(
    desk: Desk, people: DeskPeople, session: Session, pending: Sequence[PendingItem], now: datetime
) -> int:
    """File the plain items at the beginning, and answers behind them; return how many they were.

    It is 0 only where the first item is not plain. Answers that follow each other share one lookup,
    which tells that they may be some.
    """
    plain = list(takewhile(partial(_is_plain, desk, people), pending))
    if not plain or CAN_END_AT_ONCE:
        return 0
    try:
        with session.begin_nested():
            with bulk_insert.force_custom_plans(session):
                items = [p.item for p in plain if isinstance(p.item, InboundItem)]
                lookup = BulkLookup(session, items, desk.settings, now)
            plan = _Plan(desk, lookup, now)
            for one in plain:
                if not plan.add(one):
                    break
            plan.write()
            search.index_tickets(session, *plan.list_ticket_ids())
    except (IntegrityError, OperationalError) as error:
        if isinstance(error, OperationalError) and not is_deadlock(error):
            raise
        # Another worker has written one of them, or each waited for what the other has written:
        # each is looked up again.
        for one in plain:
            _file_one(desk, session, one, now)
        return len(plain)
    plan.log_outcomes()
    filed = len(plan.filings)
    while filed < len(plain) and _may_answer(lookup, plain[filed].item):
        _file_one(desk, session, plain[filed], now)
        filed += 1
    return filed


def _may_answer(lookup: BulkLookup, item: ParseResult) -> bool:
    return isinstance(item, InboundItem) and lookup.may_answer(item)


def _is_plain(desk: Desk, people: DeskPeople, pending: PendingItem) -> bool:
    """Return whether an item can be filed in bulk, unless it answers a message (`_Plan.add`)."""
    item, delivery = pending.item, pending.delivery
    if isinstance(item, RejectedRow):
        return True
    if not correspondents.is_plain(people, item) or file_item.is_imported(delivery):
        return False
    if evidence.find_notice(item.signs) is not None:
        return False
    # The call of a person on the desk names contacts and an owner.
    if item.format is Format.PHONE or item.file_urls or "owner" in delivery.envelope:
        return False
    if item.format is Format.SECURE_MESSAGE:
        return not item.authentication and threading.is_standalone(item, delivery.envelope)
    return delivery_reports.is_surely_message(desk, item, delivery)


# -- the plan ----


@dataclass(slots=True)
class _Filing:
    delivery: Delivery
    position: int
    outcome: Outcome
    message: MessageRef | None = None
    reason: str = ""

    @property
    def cause(self) -> str:
        """Return the cause of the changes, as the audit log names it."""
        return f"delivery {self.delivery.id}"


class _Plan:
    """The outcome of some items, decided item by item, then written with a statement a table."""

    def __init__(self, desk: Desk, lookup: BulkLookup, now: datetime) -> None:
        self._desk, self._lookup, self._now = desk, lookup, now
        self._keys = iter(lookup.item_keys)
        self._first_due: dict[datetime, datetime | None] = {}
        self.filings: list[_Filing] = []
        self._rows: dict[type[Base], list[Row]] = {}

    # -- deciding ----

    def add(self, pending: PendingItem) -> bool:
        """Decide the outcome of the next item. Items come in the order they were looked up in.

        Returns False, and plans nothing, for an item that may belong to the ticket of another
        message, and for automated mail: these are for `file_item`, after this plan is written.
        """
        item, delivery, position = pending
        if isinstance(item, RejectedRow):
            reason = file_item.describe_rejection(item)
            self.filings.append(_Filing(delivery, position, Outcome.REJECTED, reason=reason))
            return True
        lookup = self._lookup
        item = signs.add_envelope_signs(self._desk.settings, item, delivery)
        key, original = threading.find_duplicate(
            lookup, item, next(self._keys), partial(lookup.find_message, item.format)
        )
        if original is not None:
            self.filings.append(_Filing(delivery, position, Outcome.DUPLICATE, original))
            return True
        if lookup.may_answer(item):
            return False
        item, forged = file_item.add_caveats(self._desk, item, delivery)
        ticket = self._find_ticket(item)
        people = DeskPeople.load(lookup.session, self._desk.settings)
        if ticket is None and automated_mail.find_reason(people, lookup, item, delivery):
            return False
        if ticket is None and self._is_thread_in_use(item):
            item = replace(item, caveats=(*item.caveats, file_item.REUSED_THREAD_CAVEAT))
        outcome = Outcome.OPENED if ticket is None else Outcome.APPENDED
        ticket = ticket or self._plan_ticket(item, delivery, forged=forged)
        is_new = outcome is Outcome.OPENED
        message = self._plan_message(ticket, item, delivery, key, is_new=is_new)
        self.filings.append(_Filing(delivery, position, outcome, message))
        return True

    def _find_ticket(self, item: InboundItem) -> TicketRef | None:
        """Find the first open ticket of a secure message's thread that it may join."""
        thread = threading.build_thread_id(item)
        if not thread or item.format is not Format.SECURE_MESSAGE:
            return None
        for ticket in self._lookup.tickets_by_thread.get(thread, ()):
            if threading.may_join_thread(self._lookup, item, ticket.company_key, ticket.senders):
                return ticket
        return None

    def _is_thread_in_use(self, item: InboundItem) -> bool:
        """Return whether an open ticket has the thread id of a secure message."""
        thread = threading.build_thread_id(item)
        is_threaded = thread and item.format is Format.SECURE_MESSAGE
        return bool(is_threaded and self._lookup.tickets_by_thread.get(thread))

    def _plan_ticket(self, item: InboundItem, delivery: Delivery, *, forged: bool) -> TicketRef:
        lookup, now = self._lookup, self._now
        match = directory.find_or_create_company(lookup, item, now)
        company = match.company
        due_at = self._compute_first_due(delivery)
        row = file_item.build_ticket_row(self._desk, item, delivery, match, due_at)
        if forged:
            row["origin"] = None
        elif row["origin"]:
            lookup.origins.add(row["origin"])
        contact = None
        if item.contact.key and not directory.is_our_address(item.contact.key, self._desk.settings):
            contact = directory.find_or_create_contact(
                lookup, item.contact, item.phone, company, is_confirmed=False, now=now
            )
        if contact is not None:
            file_item.mark_sender_reachable(contact, item)
        situation = transitions.Situation(
            partial(self._find_obstacles, contact, automated=row["automated"])
        )
        ticket = TicketRef(
            company=company,
            company_key=threading.get_company_key(
                company.key if company else None, row["named_company"], row["named_number"]
            ),
            near=match.near,
            new_row=row,
            contact=contact,
            share_activity=contact is None or contact.email not in item.unshared_addresses,
            changes=list(
                transitions.open_ticket(
                    situation,
                    f"delivery {delivery.id}",
                    oversized=oversized.is_oversized(delivery.envelope),
                )
            ),
        )
        self._count_mails(ticket)
        if row["thread_id"]:
            lookup.tickets_by_thread.setdefault(row["thread_id"], []).append(ticket)
        return ticket

    def _compute_first_due(self, delivery: Delivery) -> datetime | None:
        """Return the first deadline of a ticket, computed once for each time of arrival."""
        arrived = delivery.received_at
        if arrived not in self._first_due:
            self._first_due[arrived] = file_item.compute_first_due(self._desk, delivery)
        return self._first_due[arrived]

    def _find_obstacles(self, contact: Contact | None, *, automated: bool) -> dict[Contact, str]:
        """Return why no automatic mail may go to the contact of a new ticket, if it has one."""
        if contact is None:
            return {}
        reason = outbox.find_contact_obstacle(
            contact,
            self._desk.settings,
            automated=automated,
            load_recent=lambda: self._lookup.recent_mails,
        )
        return {contact: reason}

    def _count_mails(self, ticket: TicketRef) -> None:
        """Count the mails of a new ticket, for the tickets that follow."""
        for change in ticket.changes:
            if isinstance(change, MailDue):
                self._lookup.recent_mails.add(change.contact.email)

    def _plan_message(
        self,
        ticket: TicketRef,
        item: InboundItem,
        delivery: Delivery,
        key: str | None,
        *,
        is_new: bool,
    ) -> MessageRef:
        """Plan the message of an item, and make it known to the items that follow."""
        message_id = threading.build_message_id(item)
        reused = message_id in self._lookup.message_ids
        row = file_item.build_message_row(item, delivery, key, reused=reused)
        identity = threading.MessageIdentity(message_id, row["from_name"], ticket.company_key)
        message = MessageRef(
            ticket, identity, new_row=row, delivery=delivery, attachments=item.attachments
        )
        if reused and is_new and ticket.new_row is not None:
            ticket.new_row["caveats"] = file_item.add_reused_id_caveat(ticket.new_row["caveats"])
        if ticket.company_key is None:
            ticket.senders.add(threading.fold_sender(row["from_name"], row["from_email"]))
        if message_id:
            self._lookup.message_ids.add(message_id)
        if key:
            self._lookup.messages_by_key[item.format, key] = message
        return message

    def list_ticket_ids(self) -> tuple[list[int], list[int]]:
        """Return the ids of new tickets, and of older ones with a new message, once written."""
        by_outcome: dict[Outcome, set[int]] = {outcome: set() for outcome in Outcome}
        for filing in self.filings:
            if filing.message is not None:
                by_outcome[filing.outcome].add(filing.message.ticket.id)
        opened = by_outcome[Outcome.OPENED]
        return sorted(opened), sorted(by_outcome[Outcome.APPENDED] - opened)

    def log_outcomes(self) -> None:
        """Log what became of the items of each delivery."""
        for _, group in groupby(self.filings, lambda filing: filing.delivery.id):
            filings = list(group)
            first = filings[0]
            if len(filings) > 1:
                outcomes = Counter[str](filing.outcome for filing in filings)
                log.items_filed(first.delivery.id, first.position, outcomes)
            else:
                ticket = first.message.ticket.id if first.message else None
                log.item_filed(first.delivery.id, first.outcome, ticket)

    # -- writing ----

    def write(self) -> None:
        """Write all rows. Raises IntegrityError when another worker has written one of them."""
        session = self._lookup.session
        session.flush()  # companies and contacts, whose ids the other rows need
        self._reserve_ids()
        for filing in self.filings:
            self._add_filing(filing)
        self._add_attachments()
        connection = session.connection()
        with search.pause_index(connection):
            for model in TABLES:
                bulk_insert.insert_rows(connection, _table(model), self._rows.get(model, ()))
        if OutgoingMail in self._rows:
            notify_workers(session, outbox.SEND)
        if WebhookEvent in self._rows:
            notify_workers(session, webhook_events.WEBHOOK_QUEUE)

    def _reserve_ids(self) -> None:
        """Give ids to the new messages, tickets and tasks, with one query for each table."""
        opened = self._list_messages(Outcome.OPENED)
        messages = self._list_messages(Outcome.OPENED, Outcome.APPENDED)
        tickets = [message.ticket for message in opened]
        tasks = sum(isinstance(c, TaskDue) for ticket in tickets for c in ticket.changes)
        connection = self._lookup.session.connection()
        ids = bulk_insert.reserve_ids(connection, _table(Message), len(messages))
        for message, number in zip(messages, ids, strict=True):
            message.id = number
        ids = bulk_insert.reserve_ids(connection, _table(Ticket), len(tickets))
        for ticket, number in zip(tickets, ids, strict=True):
            ticket.id = number
        self._task_ids = iter(bulk_insert.reserve_ids(connection, _table(Task), tasks))

    def _list_messages(self, *outcomes: Outcome) -> list[MessageRef]:
        return [f.message for f in self.filings if f.message is not None and f.outcome in outcomes]

    def _add_filing(self, filing: _Filing) -> None:
        """Add the rows of one item."""
        message = filing.message
        match filing.outcome:
            case Outcome.OPENED:
                assert message is not None
                self._add_ticket(message.ticket)
                self._add_message(message)
            case Outcome.APPENDED:
                assert message is not None
                self._add_message(message)
                self._audit("appended", filing.cause, message.ticket, message=message.id)
        self._add_row(
            Filing,
            {
                "delivery_id": filing.delivery.id,
                "position": filing.position,
                "outcome": filing.outcome,
                "ticket_id": message.ticket.id if message else None,
                "message_id": message.id if message else None,
                "reason": filing.reason,
            },
        )

    def _add_message(self, message: MessageRef) -> None:
        assert message.new_row is not None
        ids = {"ticket_id": message.ticket.id, "id": message.id}
        self._add_row(Message, {**message.new_row, **ids})

    def _add_attachments(self) -> None:
        """Store the files of the new messages and add their rows."""
        for message in self._list_messages(Outcome.OPENED, Outcome.APPENDED):
            for attachment in message.attachments:
                row = build_attachment_row(attachment)
                stored = store_content(self._desk.blob_store, attachment, message.delivery)
                self._add_row(StoredAttachment, {**row, **stored, "message_id": message.id})

    def _add_ticket(self, ticket: TicketRef) -> None:
        """Add the rows of a new ticket, and those of what follows from opening it."""
        assert ticket.new_row is not None
        company = ticket.company.id if ticket.company else None
        row = {
            **ticket.new_row,
            "id": ticket.id,
            "company_id": company,
            "near_companies": [one.id for one in ticket.near],
        }
        if ticket.contact is not None:
            self._add_row(
                TicketContact,
                {
                    "ticket_id": ticket.id,
                    "contact_id": ticket.contact.id,
                    "share_activity": ticket.share_activity,
                },
            )
        for change in ticket.changes:
            match change:
                case Opened():
                    self._audit_change(ticket, change)
                case StageEntered():
                    row["stage"] = change.step.stage
                    self._audit_change(ticket, change)
                case MilestoneReached():
                    self._add_milestone(ticket, change)
                    self._audit_change(ticket, change)
                case MailDue(template, contact):
                    mail = outbox.build_outbox_row(
                        ticket.id, 1, template, contact, by=RULE, now=self._now
                    )
                    self._add_row(OutgoingMail, mail)
                case TaskDue():
                    self._add_task(ticket, change)
                case SurveyDue():
                    raise AssertionError("see CAN_END_AT_ONCE")
        self._add_row(Ticket, row)

    def _add_milestone(self, ticket: TicketRef, change: MilestoneReached) -> None:
        milestone = {
            "ticket_id": ticket.id,
            "period": 1,
            "milestone": change.milestone,
            "at": self._now,
            "by": change.by,
            "note": change.note,
        }
        self._add_row(TicketMilestone, milestone)

    def _add_task(self, ticket: TicketRef, change: TaskDue) -> None:
        number = next(self._task_ids)
        task = build_task_row(
            ticket.id,
            1,
            change.kind,
            change.text,
            cause=change.cause,
            now=self._now,
            assignee=self._desk.settings.desk_lead,
        )
        self._add_row(Task, {**task, "id": number, "follows_owner": True})
        self._audit("task", change.cause, ticket, task=number)

    def _audit_change(
        self, ticket: TicketRef, change: Opened | StageEntered | MilestoneReached
    ) -> None:
        self._audit(change.action, change.cause, ticket, **change.detail)

    def _audit(self, action: str, cause: str, ticket: TicketRef, **detail: Any) -> None:
        change = audit.build_row(
            action, by=RULE, cause=cause, now=self._now, ticket=ticket.id, **detail
        )
        self._add_row(AuditEntry, change)
        for event in webhook_events.build_rows(self._lookup.session, change):
            self._add_row(WebhookEvent, event)

    def _add_row(self, model: type[Base], row: Row) -> None:
        self._rows.setdefault(model, []).append(row)


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table
