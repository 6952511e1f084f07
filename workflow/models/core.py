"""Every table, on one page."""

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

from parsers.item import Format
from workflow.models.base import Base, make_blob_index
from workflow.models.states import (
    DeliveryState,
    Judgement,
    OutboxState,
    Outcome,
    Role,
    Status,
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
    cover_id: Mapped[int | None] = mapped_column(
        ForeignKey("staff.id")
    )  # who does their work meanwhile
    cover: Mapped["Staff | None"] = relationship(remote_side="Staff.id")


class Company(Base):
    """A customer: a medical practice."""

    __tablename__ = "companies"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(String(400), unique=True)  # the name, folded for comparison
    number: Mapped[str | None] = mapped_column(
        String(64), unique=True
    )  # the practice's number in Kareo
    manager_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"))
    consultant_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"))
    created_at: Mapped[datetime]
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
    """A customer's person, one a mail address."""

    __tablename__ = "contacts"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)  # case folded
    name: Mapped[str] = mapped_column(Text, default="")
    phone: Mapped[str] = mapped_column(Text, default="")
    company_id: Mapped[int | None] = mapped_column(ForeignKey("companies.id"), index=True)
    unreachable: Mapped[bool] = mapped_column(
        default=False
    )  # a mail to it was refused or came back
    unsubscribed: Mapped[bool] = mapped_column(default=False)  # no surveys
    created_at: Mapped[datetime]
    company: Mapped[Company | None] = relationship()


class Ticket(Base):
    """A customer's request on its way through the process."""

    __tablename__ = "tickets"
    __table_args__ = (  # a list of the desk each (views.py), in the order it is shown
        Index("ix_tickets_status", "status", "id"),
        Index("ix_tickets_queue", "status", "owner_id", "id"),
        Index("ix_tickets_by_stage", "status", "stage", "id"),
        Index("ix_tickets_by_door", "status", "transport", "id"),
        Index("ix_tickets_by_company", "company_id", "status", "id"),
        Index("ix_tickets_telemedicine", "status", "telemedicine", "id"),
        Index("ix_tickets_due", "status", "due_at", "id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    pipeline: Mapped[str] = mapped_column(Text)
    type: Mapped[str] = mapped_column(String(64))
    stage: Mapped[Stage]
    status: Mapped[Status]
    resolution: Mapped[str | None] = mapped_column(String(8))  # Yes, No or not said
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("staff.id"), index=True)
    company_id: Mapped[int | None] = mapped_column(ForeignKey("companies.id"))
    transport: Mapped[str] = mapped_column(String(16))
    format: Mapped[Format]
    origin: Mapped[str | None] = mapped_column(
        String(800), unique=True
    )  # the item that opened it: no item opens two
    automated: Mapped[bool] = mapped_column(
        default=False
    )  # opened by a machine: no automatic mail, ever
    link: Mapped[str] = mapped_column(Text, default="")
    thread_id: Mapped[str] = mapped_column(String(200), default="", index=True)
    telemedicine: Mapped[bool] = mapped_column(default=False)
    share_activity: Mapped[bool] = mapped_column(
        default=True, server_default=true()
    )  # on the company's timeline
    caveats: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(
        index=True
    )  # our durable receipt; moved in: as it was
    period: Mapped[int] = mapped_column(
        default=1
    )  # counts reopenings; each rule acts once a period
    period_started_at: Mapped[datetime] = mapped_column(index=True)
    due_at: Mapped[
        datetime | None
    ]  # the earliest deadline not met (dues.py); None when there is none
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
    """A contact on a ticket.

    The box whether the ticket's activity shows on that record's timeline.
    """

    __tablename__ = "ticket_contacts"
    __table_args__ = (UniqueConstraint("ticket_id", "contact_id"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id"), index=True)
    share_activity: Mapped[bool] = mapped_column(default=True)
    from_ticket_id: Mapped[
        int | None
    ]  # the ticket that brought them when it was merged into this one
    ticket: Mapped[Ticket] = relationship(back_populates="contacts")
    contact: Mapped[Contact] = relationship()


class TicketRelation(Base):
    """Relation of two tickets that may belong together.

    "Possibly about #n", or opened after the reopening window.
    """

    __tablename__ = "ticket_relations"
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True)
    other_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    verdict: Mapped[Verdict] = mapped_column(default=Verdict.OPEN, server_default="")  # a person's


class TicketMilestone(Base):
    """A milestone of a ticket, recorded once a period with who and when."""

    __tablename__ = "milestones"
    __table_args__ = (UniqueConstraint("ticket_id", "period", "milestone"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    period: Mapped[int]
    milestone: Mapped[Milestone]
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text, default="")
    ticket: Mapped[Ticket] = relationship(back_populates="milestones")


class Task(Base):
    """Something a person has to do; one a ticket, period and kind."""

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
    kind: Mapped[str] = mapped_column(
        String(100)
    )  # the milestone missed, or what else called for it
    milestone: Mapped[Milestone | None]
    text: Mapped[str] = mapped_column(Text)
    assignee: Mapped[str] = mapped_column(
        Text, default=""
    )  # a person's or group's name; "" = the desk
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
    # As it was given with this message, whatever number the contact's record has.
    phone: Mapped[str] = mapped_column(Text, default="", server_default="")
    subject: Mapped[str] = mapped_column(Text, default="")
    text: Mapped[str] = mapped_column(Text, default="")
    # By which it is found beside all that: the forms of its telephone numbers (phone_numbers.py).
    search_words: Mapped[str] = mapped_column(Text, default="", server_default="")
    reply_text: Mapped[str] = mapped_column(Text, default="")
    html: Mapped[str] = mapped_column(Text, default="")
    details: Mapped[list[Any]] = mapped_column(default=list)  # [label, value] as received
    sent_at: Mapped[datetime | None]  # the sender's claim
    at: Mapped[datetime]
    caveats: Mapped[list[Any]] = mapped_column(default=list)
    judgement: Mapped[Judgement] = mapped_column(default=Judgement.NONE, server_default="")
    signs: Mapped[list[Any]] = mapped_column(
        default=list, server_default="[]"
    )  # why: evidence.SIGNS
    # The merged ticket it was an answer to, where it is on the one that goes on
    # (merged_messages.py).
    reported_mail_id: Mapped[int | None]  # the mail of ours that a report is about
    addressed_ticket_id: Mapped[int | None]
    ticket: Mapped[Ticket] = relationship(back_populates="messages")
    attachments: Mapped[list["StoredAttachment"]] = relationship(order_by="StoredAttachment.id")


class StoredAttachment(Base):
    """A file that came with a message; its bytes are sealed, in the row or in blobs."""

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


class Delivery(Base):
    """Bytes as one door handed them over, sealed; unique by digest."""

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
    items: Mapped[int] = mapped_column(
        default=1
    )  # what the ledger counts; 1 until it has been read
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime]  # when it may be read next; in the future while someone reads it
    processed_at: Mapped[datetime | None]
    # A person said that a person wrote it: it is never judged automatic again, however often read.
    by_person: Mapped[bool] = mapped_column(default=False, server_default=false())
    filings: Mapped[list["Filing"]] = relationship(order_by="Filing.position")


class Receipt(Base):
    """Each time a door handed bytes over, the repeats included: the left side of the ledger."""

    __tablename__ = "receipts"
    id: Mapped[int] = mapped_column(primary_key=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), index=True)
    transport: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime] = mapped_column(index=True)
    repeated: Mapped[bool] = mapped_column(default=False)
    # The door's own name for it: mailbox, UIDVALIDITY and UID; form and submission; a file's
    # digest. Never its words.
    reference: Mapped[str] = mapped_column(String(800), default="", server_default="", index=True)


FILING_IS_REJECTED = text(
    "filings.outcome = 'rejected'"
)  # as it stands: bound to a value it would not find the index
_REJECTED = text("outcome = 'rejected'")


class Filing(Base):
    """What has become of one item of a delivery: the right side of the ledger."""

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
    """A mail that is on no ticket: a report about no mail of ours. Shown until it is made one."""

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
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"))  # what a person made it


class DeliverySheet(Base):
    """What the rows of one sheet of a workbook were read as.

    The fields of `parsers.item.SheetCounts`.
    """

    __tablename__ = "delivery_sheets"
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    sheet: Mapped[str] = mapped_column(Text)
    hidden: Mapped[bool]
    rows: Mapped[int]
    items: Mapped[int]
    repeated: Mapped[int]
    rejected: Mapped[int]
    headings: Mapped[int]
    titles: Mapped[int]
    footers: Mapped[int]
    blank: Mapped[int]
    hidden_rows: Mapped[int]
    heading_places: Mapped[str] = mapped_column(Text)
    title_places: Mapped[str] = mapped_column(Text)
    footer_places: Mapped[str] = mapped_column(Text)


class OutgoingMail(Base):
    """Mail promised in the same transaction as the change that calls for it."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("rule_key"),
        Index("ix_outbox_waiting", "state", "not_before"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    rule_key: Mapped[str] = mapped_column(
        String(400)
    )  # template, ticket, period, address: a rule acts once
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), index=True)
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id"), index=True)
    template: Mapped[Template]
    to: Mapped[str] = mapped_column(String(320))
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
    """A mail that a person writes.

    A draft until it is promised, then one outbox row for each who gets it.
    """

    __tablename__ = "written_mails"
    __table_args__ = (Index("ix_written_mails_drafts", "ticket_id", "staff_id", "promised_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(
        String(64), unique=True
    )  # of the form it was typed into: sent once, kept once
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"))
    to: Mapped[list[Any]] = mapped_column(default=list)  # addresses, as cc
    cc: Mapped[list[Any]] = mapped_column(default=list)
    subject: Mapped[str] = mapped_column(Text, default="")
    text: Mapped[str] = mapped_column(Text, default="")
    ticks: Mapped[list[Any]] = mapped_column(
        default=list
    )  # names of the milestones it records once it is sent
    changed_at: Mapped[datetime]
    promised_at: Mapped[datetime | None]
    files: Mapped[list["WrittenFile"]] = relationship(
        order_by="WrittenFile.id", cascade="all, delete-orphan"
    )
    mails: Mapped[list[OutgoingMail]] = relationship(
        back_populates="written", order_by="OutgoingMail.id"
    )


class WrittenFile(Base):
    """A file that goes with a mail that a person writes; sealed as an attachment is."""

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
    """The last survey of a customer, claimed by one conditional update.

    And what the customer answered.
    """

    __tablename__ = "surveys"
    customer: Mapped[str] = mapped_column(
        String(400), primary_key=True
    )  # address or company, by setting
    claimed_at: Mapped[datetime]
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"))


class SurveyAnswer(Base):
    """A customer's answer to a survey: 1 to 5 and a comment."""

    __tablename__ = "answers"
    outbox_id: Mapped[int] = mapped_column(ForeignKey("outbox.id"), primary_key=True)
    score: Mapped[int]
    comment: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime]


class AuditEntry(Base):
    """Who did what, when and why: a row for every change. Ids and fixed words, no customer text."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(Text)  # a person, or the rule
    cause: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"), index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class MailboxCheckpoint(Base):
    """How far a mailbox has been read (RFC 9051: UIDs mean something within a UIDVALIDITY only)."""

    __tablename__ = "mailbox_checkpoints"
    mailbox: Mapped[str] = mapped_column(String(600), primary_key=True)
    uid_validity: Mapped[int] = mapped_column(BigInteger)  # unsigned 32 bits
    last_uid: Mapped[int] = mapped_column(BigInteger)


class FormCheckpoint(Base):
    """How far a form's submissions have been pulled, and what was in the way at the last look.

    "" is every form.
    """

    __tablename__ = "form_checkpoints"
    form: Mapped[str] = mapped_column(String(64), primary_key=True)
    seen_until: Mapped[datetime]  # everything that was sent before is here
    looked_at: Mapped[datetime | None]  # when a look came to its end last
    fault: Mapped[str] = mapped_column(
        Text, default=""
    )  # in our own words; "" when nothing is wrong
    failing_since: Mapped[datetime | None]
    lasting: Mapped[bool] = mapped_column(default=False)  # the fault does not pass by itself


class Lease(Base):
    """Who alone does a thing now.

    Reads a mailbox, watches a folder, is the clock (workflow/runtime/leases.py).
    """

    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(String(600), primary_key=True)
    holder: Mapped[str] = mapped_column(String(200))
    beats: Mapped[int] = mapped_column(
        BigInteger
    )  # counts up while the holder lives; no clock of any host matters
    since: Mapped[datetime]


class SelfCheck(Base):
    """What a look of the house at itself has found last, and when."""

    __tablename__ = "checks"
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    at: Mapped[datetime]
    fault: Mapped[str] = mapped_column(
        Text, default=""
    )  # what is wrong and what to do; "" when nothing is


class Heartbeat(Base):
    """When a process or door last said it is alive."""

    __tablename__ = "seen"
    name: Mapped[str] = mapped_column(String(600), primary_key=True)
    at: Mapped[datetime]
    detail: Mapped[str] = mapped_column(Text, default="")


class ItemFault(Base):
    """An item that a channel could not take.

    It stays where it is and is tried again (item_faults.py).
    """

    __tablename__ = "item_faults"
    channel: Mapped[str] = mapped_column(String(16), primary_key=True)  # a transport
    place: Mapped[str] = mapped_column(
        String(600), primary_key=True
    )  # mailbox, folder, form; "" where there is one
    item: Mapped[str] = mapped_column(
        String(300), primary_key=True
    )  # the channel's own name for it
    reason: Mapped[str] = mapped_column(Text)  # in our own fixed words
    since: Mapped[datetime]
    attempts: Mapped[int]
    last_at: Mapped[datetime]
    not_before: Mapped[datetime]  # when the channel tries again, where it does so itself
    digest: Mapped[str] = mapped_column(
        String(64), default=""
    )  # where a sender tries again: of the bytes


class ProcessEnd(Base):
    """A process that ended by itself and was started again by `intake up`.

    Many in a row are a crash loop.
    """

    __tablename__ = "process_ends"
    id: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    process: Mapped[str] = mapped_column(String(40))
    at: Mapped[datetime] = mapped_column(index=True)
    how: Mapped[str] = mapped_column(String(40))  # "exit 1", "signal 9"
