"""The tables of tickets, customers, mail, deliveries, audit and operation.

Accounts, webhooks, imports and presence have modules of their own beside this one.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from parsers.item import Encoding, Format
from workflow.models.base import Base, make_blob_index
from workflow.models.states import (
    DeliveryState,
    Judgement,
    OutboxState,
    Outcome,
    Role,
    RuleScope,
    Status,
    Treatment,
    Verdict,
)
from workflow.process import Milestone, Stage, Template

TASK_IS_OPEN = text("done_at IS NULL")


class Staff(Base):
    """A person on the desk, or a group that takes tasks."""

    __tablename__ = "staff"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    email: Mapped[str] = mapped_column(String(320), default="", index=True)
    role: Mapped[Role]
    created_at: Mapped[datetime]
    away_since: Mapped[datetime | None]
    away_until: Mapped[datetime | None]
    # Does their work while they are away.
    cover_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"))
    cover: Mapped["Staff | None"] = relationship(remote_side="Staff.id")


# Whether a company has the name of another one, so that its key ends with its number.
IS_NAMESAKE = text("companies.key LIKE '% #%'")


class Company(Base):
    """A customer: a medical practice."""

    __tablename__ = "companies"
    __table_args__ = (
        Index(
            "ix_companies_namesakes",
            "key",
            sqlite_where=IS_NAMESAKE,
            postgresql_where=IS_NAMESAKE,
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    # The normal form of the name (customers/company_names.py); with the number where two share it.
    key: Mapped[str] = mapped_column(String(400), unique=True)
    # The practice's number in Kareo.
    number: Mapped[str | None] = mapped_column(String(64), unique=True)
    manager_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"))
    consultant_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"))
    created_at: Mapped[datetime]
    # The company that continues this one; its name and number still lead there.
    merged_into_id: Mapped[int | None] = mapped_column(index=True)
    manager: Mapped[Staff | None] = relationship(foreign_keys=[manager_id])
    consultant: Mapped[Staff | None] = relationship(foreign_keys=[consultant_id])
    domains: Mapped[list["CompanyDomain"]] = relationship(back_populates="company")


class CompanyDomain(Base):
    """A mail domain whose senders belong to a company."""

    __tablename__ = "company_domains"
    domain: Mapped[str] = mapped_column(String(255), primary_key=True)
    company_id: Mapped[int] = mapped_column(ForeignKey("companies.id"), index=True)
    company: Mapped[Company] = relationship(back_populates="domains")


class Contact(Base):
    """A person at a customer; a mail address has one contact."""

    __tablename__ = "contacts"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)  # case folded
    name: Mapped[str] = mapped_column(Text, default="")
    phone: Mapped[str] = mapped_column(Text, default="")
    company_id: Mapped[int | None] = mapped_column(ForeignKey("companies.id"), index=True)
    # A mail to the address was refused or bounced.
    unreachable: Mapped[bool] = mapped_column(default=False)
    unsubscribed: Mapped[bool] = mapped_column(default=False)  # no surveys
    created_at: Mapped[datetime]
    # The contact who is the same person; mail from this address is theirs.
    merged_into_id: Mapped[int | None] = mapped_column(index=True)
    company: Mapped[Company | None] = relationship()


class CustomerMerge(Base):
    """A merge of two companies or contacts, with what it moved, so that it can be undone."""

    __tablename__ = "customer_merges"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))  # company or contact
    source_id: Mapped[int] = mapped_column(index=True)
    target_id: Mapped[int] = mapped_column(index=True)
    by: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]
    undone_at: Mapped[datetime | None]
    moved: Mapped[dict[str, Any]]  # ids and former values, see customers/merging.py


class Ticket(Base):
    """A customer's request on its way through the process."""

    __tablename__ = "tickets"
    __table_args__ = (  # one index for each list of the desk (tickets/views.py), in its order
        Index("ix_tickets_status", "status", "id"),
        Index("ix_tickets_queue", "status", "owner_id", "id"),
        Index("ix_tickets_by_stage", "status", "stage", "id"),
        Index("ix_tickets_by_door", "status", "transport", "id"),
        Index("ix_tickets_by_company", "company_id", "status", "id"),
        Index("ix_tickets_telemedicine", "status", "telemedicine", "id"),
        Index("ix_tickets_due", "status", "due_at", "id"),
        Index("ix_tickets_by_age", "status", "created_at", "id"),
        # all that the dashboard's figures of arrivals read of a ticket
        Index("ix_tickets_arrivals", "created_at", "transport", "status", "stage"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    pipeline: Mapped[str] = mapped_column(Text)
    type: Mapped[str] = mapped_column(String(64))
    stage: Mapped[Stage]
    status: Mapped[Status]
    resolution: Mapped[str | None] = mapped_column(String(8))  # Yes or No; None: not decided
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"), index=True)
    company_id: Mapped[int | None] = mapped_column(ForeignKey("companies.id"))
    transport: Mapped[str] = mapped_column(String(16))
    format: Mapped[Format]
    # Identity of the item that opened it: no item opens two tickets.
    origin: Mapped[str | None] = mapped_column(String(800), unique=True)
    # Opened by automatic mail: never answered by automatic mail.
    automated: Mapped[bool] = mapped_column(default=False)
    # The kind of message about a message that opened it, in the words of
    # `parsers.mail.evidence.Meaning`, such as "read receipt": no deadline counts. "" of a request.
    notice: Mapped[str] = mapped_column(String(40), default="", server_default="")
    link: Mapped[str] = mapped_column(Text, default="")
    thread_id: Mapped[str] = mapped_column(String(200), default="", index=True)
    telemedicine: Mapped[bool] = mapped_column(default=False)
    # Show its activity on the company's timeline.
    share_activity: Mapped[bool] = mapped_column(default=True, server_default=true())
    caveats: Mapped[list[Any]] = mapped_column(default=list)
    # The practice as its item names it, its number, and the ids of the companies it perhaps is, the
    # nearest first; empty where it is sure which company it is, or nobody knows.
    named_company: Mapped[str] = mapped_column(Text, default="", server_default="")
    named_number: Mapped[str] = mapped_column(String(64), default="", server_default="")
    near_companies: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    # When it was stored durably; of an imported ticket, its original time.
    created_at: Mapped[datetime]
    # Counts reopenings; each rule acts once in a period.
    period: Mapped[int] = mapped_column(default=1)
    period_started_at: Mapped[datetime] = mapped_column(index=True)
    due_at: Mapped[datetime | None]  # the earliest open deadline; None without one
    completed_at: Mapped[datetime | None]
    merged_into_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"))
    owner: Mapped[Staff | None] = relationship(foreign_keys=[owner_id])
    company: Mapped[Company | None] = relationship()
    contacts: Mapped[list["TicketContact"]] = relationship(
        back_populates="ticket", order_by="TicketContact.id"
    )
    milestones: Mapped[list["TicketMilestone"]] = relationship(
        back_populates="ticket", order_by="TicketMilestone.id"
    )
    tasks: Mapped[list["Task"]] = relationship(back_populates="ticket", order_by="Task.id")
    messages: Mapped[list["Message"]] = relationship(back_populates="ticket", order_by="Message.id")
    outbox: Mapped[list["OutgoingMail"]] = relationship(
        back_populates="ticket", order_by="OutgoingMail.id"
    )


class TicketContact(Base):
    """A contact on a ticket, and whether the ticket's activity shows on the contact's timeline."""

    __tablename__ = "ticket_contacts"
    __table_args__ = (UniqueConstraint("ticket_id", "contact_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id"), index=True)
    share_activity: Mapped[bool] = mapped_column(default=True)
    from_ticket_id: Mapped[int | None]  # the merged ticket this contact came from
    ticket: Mapped[Ticket] = relationship(back_populates="contacts")
    contact: Mapped[Contact] = relationship()


class TicketRelation(Base):
    """Two tickets that may belong together.

    Either one message is possibly about the other ticket, or a ticket was opened by a reply that
    came after the reopening window.
    """

    __tablename__ = "ticket_relations"
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True)
    other_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    verdict: Mapped[Verdict] = mapped_column(default=Verdict.OPEN, server_default="")  # a person's


class TicketMilestone(Base):
    """A milestone that a ticket has reached, recorded once in a period with who and when."""

    __tablename__ = "milestones"
    __table_args__ = (
        UniqueConstraint("ticket_id", "period", "milestone"),
        # for the dashboard's durations, which read the milestones of some weeks
        Index("ix_milestones_by_time", "milestone", "at", "ticket_id", "period"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    period: Mapped[int]
    milestone: Mapped[Milestone]
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text, default="")
    ticket: Mapped[Ticket] = relationship(back_populates="milestones")


class Task(Base):
    """Work for a person; a ticket has one task of a kind in a period."""

    __tablename__ = "tasks"
    __table_args__ = (
        UniqueConstraint("ticket_id", "period", "kind"),
        Index(
            "ix_tasks_undone",
            "kind",
            "ticket_id",
            sqlite_where=TASK_IS_OPEN,
            postgresql_where=TASK_IS_OPEN,
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    period: Mapped[int]
    # The missed milestone, or another reason for the task.
    kind: Mapped[str] = mapped_column(String(100))
    milestone: Mapped[Milestone | None]
    text: Mapped[str] = mapped_column(Text)
    # Name of a person or group; "" = the desk.
    assignee: Mapped[str] = mapped_column(Text, default="")
    follows_owner: Mapped[bool] = mapped_column(default=False)
    cause: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    done_by: Mapped[str | None] = mapped_column(Text)
    ticket: Mapped[Ticket] = relationship(back_populates="tasks")


_ADDRESSED = text("addressed_ticket_id IS NOT NULL")
_REPORTED = text("reported_mail_id IS NOT NULL")


class Message(Base):
    """An item on a ticket's timeline."""

    __tablename__ = "messages"
    # Columns with a default of the database have the same one here: nothing is to be fetched, and
    # several messages are inserted with one statement.
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012  # read by SQLAlchemy only
    __table_args__ = (
        UniqueConstraint("format", "external_id"),
        Index(
            "ix_messages_addressed",
            "addressed_ticket_id",
            sqlite_where=_ADDRESSED,
            postgresql_where=_ADDRESSED,
        ),
        Index(
            "ix_messages_reported_mail",
            "reported_mail_id",
            sqlite_where=_REPORTED,
            postgresql_where=_REPORTED,
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), index=True)
    delivery_id: Mapped[int | None] = mapped_column(ForeignKey("deliveries.id"), index=True)
    direction: Mapped[str] = mapped_column(String(8))  # in, out or note
    format: Mapped[Format]
    external_id: Mapped[str | None] = mapped_column(String(1000))  # None never collides
    message_id: Mapped[str] = mapped_column(String(1000), default="", index=True)
    from_name: Mapped[str] = mapped_column(Text, default="")
    from_email: Mapped[str] = mapped_column(Text, default="")
    # [name, address] of each recipient; of a mail of ours, those it was written to.
    to: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    cc: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    # How it came where From names another person than the customer (parsers.item.Route): who sent
    # it, and whom filing took for the customer.
    route: Mapped[str] = mapped_column(String(16), default="", server_default="")
    sent_by_name: Mapped[str] = mapped_column(Text, default="", server_default="")
    sent_by_email: Mapped[str] = mapped_column(Text, default="", server_default="")
    customer_email: Mapped[str] = mapped_column(Text, default="", server_default="")
    # The number stated in this message, whatever number the contact's record has.
    phone: Mapped[str] = mapped_column(Text, default="", server_default="")
    subject: Mapped[str] = mapped_column(Text, default="")
    text: Mapped[str] = mapped_column(Text, default="")
    # More words for the search: the forms of its telephone numbers (customers/phone_numbers.py).
    search_words: Mapped[str] = mapped_column(Text, default="", server_default="")
    reply_text: Mapped[str] = mapped_column(Text, default="")
    html: Mapped[str] = mapped_column(Text, default="")
    details: Mapped[list[Any]] = mapped_column(default=list)  # [label, value] as received
    sent_at: Mapped[datetime | None]  # the sender's claim
    at: Mapped[datetime]
    caveats: Mapped[list[Any]] = mapped_column(default=list)
    judgement: Mapped[Judgement] = mapped_column(default=Judgement.NONE, server_default="")
    # The reasons, keys of evidence.SIGNS.
    signs: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    reported_mail_id: Mapped[int | None]  # our mail that a delivery report is about
    # The merged ticket it was addressed to, where it was filed on the ticket that continues it
    # (tickets/merged_messages.py).
    addressed_ticket_id: Mapped[int | None]
    # The ticket that a person has split it off, to make it one of its own; None for most.
    split_from_ticket_id: Mapped[int | None]
    ticket: Mapped[Ticket] = relationship(back_populates="messages")
    attachments: Mapped[list["StoredAttachment"]] = relationship(order_by="StoredAttachment.id")


class StoredAttachment(Base):
    """A file that came with a message.

    Its bytes are encrypted, in the row or in the blob store. Where `encoding` is set, they lie in
    the delivery `source_id` instead, from `span_start` up to `span_end` (filing/attachments.py).
    """

    __tablename__ = "attachments"
    __table_args__ = (make_blob_index("attachments"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    mime: Mapped[str] = mapped_column(String(255))
    size: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    inline: Mapped[bool] = mapped_column(default=False)
    content_id: Mapped[str] = mapped_column(Text, default="")
    content: Mapped[bytes | None] = mapped_column(LargeBinary)
    blob: Mapped[str | None] = mapped_column(String(64))
    # No foreign key, as for other columns that were added later. A message keeps its delivery by
    # one of its own, and an attachment its message.
    source_id: Mapped[int | None]
    span_start: Mapped[int | None]
    span_end: Mapped[int | None]
    encoding: Mapped[Encoding | None]


class Delivery(Base):
    """Bytes as one channel handed them over, encrypted; unique by digest."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_waiting", "state", "attempts", "id"),
        make_blob_index("deliveries"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    transport: Mapped[str] = mapped_column(String(16))
    format: Mapped[Format]
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    content: Mapped[bytes | None] = mapped_column(LargeBinary)
    blob: Mapped[str | None] = mapped_column(String(64))
    size: Mapped[int]
    envelope: Mapped[dict[str, Any]]
    received_at: Mapped[datetime]
    state: Mapped[DeliveryState]
    reason: Mapped[str] = mapped_column(Text, default="")
    # Number of items in the ledger; 1 until it has been read.
    items: Mapped[int] = mapped_column(default=1)
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime]  # when it may be read next; in the future while it is being read
    processed_at: Mapped[datetime | None]
    # A person has marked it as written by a person: it is never classified as automatic again.
    by_person: Mapped[bool] = mapped_column(default=False, server_default=false())
    filings: Mapped[list["Filing"]] = relationship(order_by="Filing.position")


class Receipt(Base):
    """Receipt of bytes from a channel, repeats included: the left side of the ledger."""

    __tablename__ = "receipts"
    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), index=True)
    transport: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime] = mapped_column(index=True)
    repeated: Mapped[bool] = mapped_column(default=False)
    # The channel's own name for it: mailbox, UIDVALIDITY and UID; form and submission; a file's
    # digest. Never text of the customer.
    reference: Mapped[str] = mapped_column(String(800), default="", server_default="", index=True)


# Plain SQL: with a bound parameter the planner would not use the partial index.
FILING_IS_REJECTED = text("filings.outcome = 'rejected'")
_REJECTED = text("outcome = 'rejected'")


class Filing(Base):
    """The outcome of one item of a delivery: the right side of the ledger."""

    __tablename__ = "filings"
    __table_args__ = (
        Index(
            "ix_filings_rejected", "delivery_id", sqlite_where=_REJECTED, postgresql_where=_REJECTED
        ),
    )
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    outcome: Mapped[Outcome]
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"), index=True)
    message_id: Mapped[int | None] = mapped_column(ForeignKey("messages.id"))
    reason: Mapped[str] = mapped_column(Text, default="")


class AutomatedMail(Base):
    """An automatic mail that is on no ticket, such as a report about a mail that is not ours.

    It is listed until a person makes a ticket of it.
    """

    __tablename__ = "automated_mails"
    __table_args__ = (Index("ix_automated_mails_listed", "ticket_id", "id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), unique=True)
    reason: Mapped[str] = mapped_column(Text)
    signs: Mapped[list[Any]] = mapped_column(default=list)
    from_name: Mapped[str] = mapped_column(Text, default="")
    from_email: Mapped[str] = mapped_column(Text, default="")
    subject: Mapped[str] = mapped_column(Text, default="")
    text: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime]
    # The ticket that a person made of it; by whom and when, and the newest row of its audit log
    # then, as long as that can be undone.
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"))
    made_by: Mapped[str] = mapped_column(Text, default="", server_default="")
    made_at: Mapped[datetime | None]
    made_audit_id: Mapped[int] = mapped_column(default=0, server_default="0")


_RULE_HOLDS = text("ended_at IS NULL")


class SenderRule(Base):
    """A decision of the desk that mail of some senders always opens a ticket, or never.

    `value` is an address without `+tag`, a domain, or the number of a company. A rule that is
    replaced or removed stays, with when it ended, so that this can be undone.
    """

    __tablename__ = "sender_rules"
    __table_args__ = (
        Index(
            "uq_sender_rules_held",
            "scope",
            "value",
            unique=True,
            sqlite_where=_RULE_HOLDS,
            postgresql_where=_RULE_HOLDS,
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[RuleScope]
    value: Mapped[str] = mapped_column(String(320))
    treatment: Mapped[Treatment]
    by: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class DeliverySheet(Base):
    """Counts of the rows of one sheet of a workbook, as in `parsers.item.SheetCounts`."""

    __tablename__ = "delivery_sheets"
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    sheet: Mapped[str] = mapped_column(Text)
    hidden: Mapped[bool]
    rows: Mapped[int]
    items: Mapped[int]
    repeated: Mapped[int]
    rejected: Mapped[int]
    continued: Mapped[int] = mapped_column(default=0, server_default="0")
    headings: Mapped[int]
    titles: Mapped[int]
    footers: Mapped[int]
    blank: Mapped[int]
    hidden_rows: Mapped[int]
    heading_places: Mapped[str] = mapped_column(Text)
    title_places: Mapped[str] = mapped_column(Text)
    footer_places: Mapped[str] = mapped_column(Text)


class OutgoingMail(Base):
    """A mail in the outbox, queued in the same transaction as the change that calls for it."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("rule_key"),
        Index("ix_outbox_waiting", "state", "not_before"),
        # for the budgets of automatic mail (tickets/notice_budget.py)
        Index("ix_outbox_recipient", "recipient", "created_at"),
        Index("ix_outbox_recipient_domain", "recipient_domain", "created_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    # Template, ticket, period, address: a rule sends one mail.
    rule_key: Mapped[str] = mapped_column(String(400))
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    template: Mapped[Template]
    to: Mapped[str] = mapped_column(String(320))
    # What budgets count automatic mail by: the address without `+tag`, and its domain, "" of a
    # public mail service. Empty for mail to staff, mail that people write, and before schema 0026.
    recipient: Mapped[str] = mapped_column(String(320), default="", server_default="")
    recipient_domain: Mapped[str] = mapped_column(String(255), default="", server_default="")
    period: Mapped[int]
    text: Mapped[str] = mapped_column(Text, default="")  # free text of the recap, by a person
    state: Mapped[OutboxState]
    reason: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(index=True)
    sent_at: Mapped[datetime | None]
    message_id: Mapped[str] = mapped_column(String(400), default="", index=True)
    by: Mapped[str] = mapped_column(Text)
    written_id: Mapped[int | None] = mapped_column(ForeignKey("written_mails.id"), index=True)
    ticket: Mapped[Ticket] = relationship(back_populates="outbox")
    contact: Mapped[Contact | None] = relationship()
    written: Mapped["WrittenMail | None"] = relationship(back_populates="mails")


class WrittenMail(Base):
    """A mail that a person writes: a draft, then one outbox row for each recipient.

    `queued_at` is when it was queued, None while it is a draft.
    """

    __tablename__ = "written_mails"
    __table_args__ = (Index("ix_written_mails_drafts", "ticket_id", "staff_id", "promised_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    # Of the form it was written in: one form is one mail.
    key: Mapped[str] = mapped_column(String(64), unique=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"))
    to: Mapped[list[Any]] = mapped_column(default=list)  # addresses, as cc
    cc: Mapped[list[Any]] = mapped_column(default=list)
    subject: Mapped[str] = mapped_column(Text, default="")
    text: Mapped[str] = mapped_column(Text, default="")
    # Names of the milestones recorded when it is sent.
    ticks: Mapped[list[Any]] = mapped_column(default=list)
    changed_at: Mapped[datetime]
    queued_at: Mapped[datetime | None] = mapped_column("promised_at")  # the name of schema 0013
    files: Mapped[list["WrittenFile"]] = relationship(
        order_by="WrittenFile.id", cascade="all, delete-orphan"
    )
    mails: Mapped[list[OutgoingMail]] = relationship(
        back_populates="written", order_by="OutgoingMail.id"
    )


class WrittenFile(Base):
    """A file attached to a mail that a person writes; encrypted like a stored attachment."""

    __tablename__ = "written_files"
    __table_args__ = (make_blob_index("written_files"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    written_id: Mapped[int] = mapped_column(ForeignKey("written_mails.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    mime: Mapped[str] = mapped_column(String(255))
    size: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    content: Mapped[bytes | None] = mapped_column(LargeBinary)
    blob: Mapped[str | None] = mapped_column(String(64))


class LastSurvey(Base):
    """The last survey sent to a customer, claimed by one conditional update."""

    __tablename__ = "surveys"
    # Address or company, by INTAKE_SURVEY_BY.
    customer: Mapped[str] = mapped_column(String(400), primary_key=True)
    claimed_at: Mapped[datetime]
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))


class SurveyAnswer(Base):
    """A customer's answer to a survey: a score of 1 to 5 and a comment."""

    __tablename__ = "answers"
    outbox_id: Mapped[int] = mapped_column(ForeignKey("outbox.id"), primary_key=True)
    score: Mapped[int]
    comment: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime]


class AuditEntry(Base):
    """A row of the audit log for every change: who, what, when and why.

    It holds ids and fixed words, no customer text.
    """

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(Text)  # a person, or the rule
    cause: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"), index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class MailboxCheckpoint(Base):
    """Position up to which a mailbox has been read, and what the first look has left in it.

    UIDs are comparable only within one UIDVALIDITY (RFC 9051 §2.3.1.1). Of the mail up to
    `boundary`, what arrived before `since` stays in the mailbox; None: nothing does. `older_count`
    is the number of mails that stay; None while they are not counted.
    """

    __tablename__ = "mailbox_checkpoints"
    mailbox: Mapped[str] = mapped_column(String(600), primary_key=True)
    uid_validity: Mapped[int] = mapped_column(BigInteger)  # unsigned 32 bits
    last_uid: Mapped[int] = mapped_column(BigInteger)
    boundary: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    since: Mapped[datetime | None]
    older_count: Mapped[int | None]  # no default: SQLAlchemy would write it in place of None


class FormCheckpoint(Base):
    """Time up to which a form's submissions have been pulled, and the fault of the last pull.

    The row of form "" stands for all forms.
    """

    __tablename__ = "form_checkpoints"
    form: Mapped[str] = mapped_column(String(64), primary_key=True)
    seen_until: Mapped[datetime]  # everything submitted before has been received
    looked_at: Mapped[datetime | None]  # when the last pull was completed
    fault: Mapped[str] = mapped_column(Text, default="")  # in fixed words; "" when nothing is wrong
    failing_since: Mapped[datetime | None]
    lasting: Mapped[bool] = mapped_column(default=False)  # the fault needs a person


class Lease(Base):
    """The process that alone has a duty now, such as reading a mailbox (runtime/leases.py)."""

    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(String(600), primary_key=True)
    holder: Mapped[str] = mapped_column(String(200))
    # Incremented while the holder lives; independent of any host's clock.
    beats: Mapped[int] = mapped_column(BigInteger)
    since: Mapped[datetime]


class SelfCheck(Base):
    """The latest result of a self-check."""

    __tablename__ = "checks"
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    at: Mapped[datetime]
    # What is wrong and what to do; "" when nothing is wrong.
    fault: Mapped[str] = mapped_column(Text, default="")


class Heartbeat(Base):
    """The last sign of life of a process or channel."""

    __tablename__ = "seen"
    name: Mapped[str] = mapped_column(String(600), primary_key=True)
    at: Mapped[datetime]
    detail: Mapped[str] = mapped_column(Text, default="")


class ItemFault(Base):
    """An item that a channel could not accept; it stays there and is retried (item_faults.py)."""

    __tablename__ = "item_faults"
    channel: Mapped[str] = mapped_column(String(16), primary_key=True)  # a transport
    # Mailbox, folder or form; "" where the channel has only one.
    place: Mapped[str] = mapped_column(String(600), primary_key=True)
    # The channel's own name for it.
    item: Mapped[str] = mapped_column(String(300), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)  # in fixed words
    since: Mapped[datetime]
    attempts: Mapped[int]
    last_at: Mapped[datetime]
    not_before: Mapped[datetime]  # when the channel tries again, where it does so itself
    # SHA-256 of the bytes, where the sender tries again.
    digest: Mapped[str] = mapped_column(String(64), default="")
    # Of a mail, where known: its mailbox may number it anew.
    message_id: Mapped[str] = mapped_column(Text, default="", server_default="")


class ProcessEnd(Base):
    """The end of a process that `intake up` restarted; many in a row are a crash loop."""

    __tablename__ = "process_ends"
    id: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    process: Mapped[str] = mapped_column(String(40))
    at: Mapped[datetime] = mapped_column(index=True)
    how: Mapped[str] = mapped_column(String(40))  # "exit 1", "signal 9"
