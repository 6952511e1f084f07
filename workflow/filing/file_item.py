"""Filing an inbound item.

On the ticket it answers, as a new ticket, as a duplicate, or as no ticket at all.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from parsers.item import Address, Attachment, Bounce, Format, InboundItem, ParseResult, RejectedRow
from parsers.mail import evidence
from workflow.audit import record as audit
from workflow.customers import directory, phone_numbers
from workflow.customers.records import NO_COMPANY, NO_MANAGER
from workflow.database.text_safety import make_storable
from workflow.filing import delivery_reports, dmarc, linked_files, oversized, signs, threading
from workflow.filing.delivery_reports import MailReport
from workflow.models.core import (
    AutomatedMail,
    Company,
    Delivery,
    Filing,
    Message,
    StoredAttachment,
    Ticket,
)
from workflow.models.states import Judgement, Outcome, Status
from workflow.process import PIPELINE, TICKET_NAME, TICKET_TYPE, UNKNOWN_COMPANY, Stage
from workflow.runtime import log
from workflow.tickets import merged_messages
from workflow.tickets.deadlines import compute_next_due
from workflow.tickets.desk import RULE, Desk, lock_ticket

MAX_SUBJECT = 998  # RFC 5322 §2.1.1: the longest a header line can be; the raw original stays whole
REUSED_ID_CAVEAT = "an earlier message carries the same id with other content"


def file_item(
    desk: Desk,
    session: Session,
    item: ParseResult,
    delivery: Delivery,
    position: int,
    now: datetime,
) -> Filing:
    """File one item of a delivery, and record what has become of it.

    Safe to repeat and safe to race: the unique indexes on tickets.origin and messages decide, not a
    question asked before. A row that is none is put down with its reason, so that somebody mends
    it.
    """
    item = make_storable(item)
    if isinstance(item, RejectedRow):
        filing = Filing(outcome=Outcome.REJECTED, reason=describe_rejection(item))
    else:
        filing = _received(desk, session, item, delivery, now)
    filing.delivery_id, filing.position = delivery.id, position
    session.add(filing)
    log.item_filed(delivery.id, filing.outcome, filing.ticket_id)
    return filing


def describe_rejection(row: RejectedRow) -> str:
    """Return where a rejected row stands in the file, and what is wrong with it.

    None of what it says.
    """
    cell = f", cell {row.cell}" if row.cell else ""
    return f"{describe_row_place(row)}{cell}: {row.reason}"


def add_reused_id_caveat(caveats: Sequence[str]) -> list[str]:
    """Add to the caveats of a new ticket that its message carries the id of an earlier one."""
    return list(dict.fromkeys([*caveats, REUSED_ID_CAVEAT]))


def describe_row_place(row: RejectedRow) -> str:
    """Return where a row stands in its file."""
    return f"{row.sheet}, row {row.row}" if row.sheet else f"row {row.row}"


def _received(
    desk: Desk, session: Session, item: InboundItem, delivery: Delivery, now: datetime
) -> Filing:
    item = signs.add_envelope_signs(desk.settings, item, delivery)
    report = delivery_reports.find_report(desk, session, item, delivery)
    filing = (
        _file_report(desk, session, report, item, delivery, now) if report is not None else None
    )
    for _ in range(
        2
    ):  # losing a race for the origin is settled by looking again: the winner's ticket is there now
        filing = filing or _file(desk, session, item, delivery, now)
    if filing is None:
        raise RuntimeError("lost the race for one origin twice")
    return filing


def _file_report(
    desk: Desk,
    session: Session,
    report: MailReport,
    item: InboundItem,
    delivery: Delivery,
    now: datetime,
) -> Filing:
    """Put a report as a note on the ticket of the mail it is about.

    Or among the automated mails.
    """
    filing = report.make_filing(session)
    mail, bounce = report.mail, item.bounce or Bounce()
    if mail is None:
        _keep_automated(session, report, item, delivery)
        return filing
    lock_ticket(session, mail.ticket)  # before its mail, as everybody who changes both
    if delivery_reports.apply_report(desk, session, report, bounce, now):
        audit.record(
            session,
            report.judgement,
            by=RULE,
            cause=f"delivery {delivery.id}",
            now=now,
            ticket=mail.ticket_id,
            mail=mail.id,
        )
    key = f"report:{delivery.id}"  # a report that is read again is still one report
    known = select(Message).where(Message.format == item.format, Message.external_id == key)
    note = session.scalar(known)
    if note is None:
        note = Message(
            ticket_id=filing.ticket_id, **build_message_row(item, delivery, key, reused=False)
        )
        note.message_id = ""  # what answers it answers our mail
        note.attachments += [store_attachment(desk, a) for a in item.attachments]
        session.add(note)
    note.direction, note.judgement, note.signs = "note", report.judgement, list(item.signs)
    note.reported_mail_id = mail.id
    summary = delivery_reports.summarize_report(report, bounce)
    note.text = f"{summary}\n\n{item.text}"  # the summary ends at the first empty line
    about_delivery = report.judgement in delivery_reports.SUMMARIZED_JUDGEMENTS
    note.reply_text = summary if about_delivery else note.text
    session.flush()
    filing.message_id = note.id
    return filing


def _keep_automated(
    session: Session, report: MailReport, item: InboundItem, delivery: Delivery
) -> None:
    kept = select(AutomatedMail).where(AutomatedMail.delivery_id == delivery.id)
    mail = session.scalar(kept) or AutomatedMail(delivery_id=delivery.id, at=delivery.received_at)
    mail.reason, mail.signs = report.reason, list(item.signs)
    mail.from_name, mail.from_email = item.sender.name, item.contact.email
    mail.subject, mail.text = item.subject, item.text
    session.add(mail)


def _file(
    desk: Desk, session: Session, item: InboundItem, delivery: Delivery, now: datetime
) -> Filing | None:
    keys, records = threading.build_keys(item), directory.CustomerLookup(session)
    key, earlier = threading.find_duplicate(
        records, item, keys, partial(find_message, session, item.format)
    )
    try:
        if earlier is None:
            with session.begin_nested():
                return _append_or_open(desk, session, item, delivery, key, now)
    except IntegrityError:  # somebody else has filed it a moment ago
        _, earlier = threading.find_duplicate(
            records, item, keys, partial(find_message, session, item.format)
        )
    if earlier is None:
        return None
    return Filing(outcome=Outcome.DUPLICATE, ticket_id=earlier.ticket_id, message_id=earlier.id)


def find_message(
    session: Session, kind: Format, key: str
) -> tuple[Message, threading.MessageIdentity] | None:
    """Look up the message with this key."""
    known = session.scalar(
        select(Message).where(Message.format == kind, Message.external_id == key)
    )
    if known is None:
        return None
    company = known.ticket.company.key if known.ticket.company else None
    return known, threading.MessageIdentity(known.message_id, known.from_name, company)


def _append_or_open(
    desk: Desk,
    session: Session,
    item: InboundItem,
    delivery: Delivery,
    key: str | None,
    now: datetime,
) -> Filing:
    item, forged = add_caveats(desk, item, delivery)
    match = threading.find_ticket(session, item, delivery.envelope, desk.signer, forged=forged)
    if match.merged_ticket is not None:  # its merge may have been taken back a moment ago
        lock_ticket(session, match.merged_ticket)
        match = threading.find_ticket(session, item, delivery.envelope, desk.signer, forged=forged)
    ticket, before = match.ticket, match.related
    if ticket is not None:
        lock_ticket(session, ticket)  # another answer may have reopened it a moment ago
    if ticket is not None and is_too_late(desk, ticket, now):
        ticket, before = None, ticket
    outcome = Outcome.OPENED if ticket is None else Outcome.APPENDED
    if ticket is None:
        ticket = _new_ticket(
            desk, session, item, delivery, again=before is not None or forged, now=now
        )
        if before is not None:
            about = f"possibly about #{before.id}" if match.related else f"follows #{before.id}"
            desk.relate(session, ticket, before, about)
    message = _add_message(desk, session, ticket, item, delivery, key, now)
    if outcome is Outcome.APPENDED and match.merged_ticket is not None:
        message.addressed_ticket_id = match.merged_ticket.id
    cause = f"delivery {delivery.id}"
    if outcome is Outcome.OPENED:
        if REUSED_ID_CAVEAT in message.caveats:
            ticket.caveats = add_reused_id_caveat(ticket.caveats)
        in_part = oversized.is_oversized(delivery.envelope)
        desk.open(session, ticket, cause=cause, now=now, oversized=in_part)
    else:
        _reachable_again(ticket, item)
        audit.record(
            session, "appended", by=RULE, cause=cause, now=now, ticket=ticket.id, message=message.id
        )
        if ticket.status is Status.COMPLETED and not evidence.has_proof(item.signs):
            desk.reopen(session, ticket, by=RULE, cause="reply to a completed ticket", now=now)
    return Filing(outcome=outcome, ticket_id=ticket.id, message_id=message.id)


def _reachable_again(ticket: Ticket, item: InboundItem) -> None:
    """Who writes from an address that mail came back from can be written to again."""
    if item.format is Format.MAIL and not item.is_automated:
        for link in ticket.contacts:
            if link.contact.email == item.contact.key:
                link.contact.unreachable = False


def open_from_message(
    desk: Desk, session: Session, message: Message, about: Ticket, reason: str, now: datetime
) -> Ticket:
    """Open a ticket for a message that stands on another one, and move the message there."""
    delivery = session.get_one(Delivery, message.delivery_id)
    sender = Address(message.from_name, message.from_email)
    item = InboundItem(
        format=Format(message.format),
        external_id="",
        sender=sender,
        subject=message.subject,
        text=message.text,
    )
    ticket = _new_ticket(desk, session, item, delivery, again=True, now=now)
    merged_messages.move_message(session, message, ticket.id, None)
    desk.relate(session, ticket, about, reason)
    session.flush()
    session.expire(about, ["messages"])
    desk.open(session, ticket, cause=f"delivery {delivery.id}", now=now)
    return ticket


def open_separately(
    desk: Desk,
    session: Session,
    item: InboundItem,
    delivery: Delivery,
    like: Ticket,
    *,
    now: datetime,
) -> Message:
    """Open a ticket of an item that is the same as a message of `like`, because a person says so.

    Its message has no key: what comes once more is a duplicate of the first one.
    """
    item, _ = add_caveats(desk, signs.add_envelope_signs(desk.settings, item, delivery), delivery)
    ticket = _new_ticket(desk, session, item, delivery, again=True, now=now)
    desk.relate(session, ticket, like, f"same words as #{like.id}")
    message = _add_message(desk, session, ticket, item, delivery, None, now)
    message.caveats = [
        c for c in message.caveats if c != REUSED_ID_CAVEAT
    ]  # the content is the same
    desk.open(session, ticket, cause=f"delivery {delivery.id}", now=now)
    return message


def add_caveats(desk: Desk, item: InboundItem, delivery: Delivery) -> tuple[InboundItem, bool]:
    """Return an item with the caveats it is filed with; and whether our mail edge calls it forged.

    Who looks automatic, or is forged, gets no automatic mail.
    """
    found = (oversized.build_caveat(delivery.envelope), evidence.make_caveat(item.signs))
    forged = dmarc.has_failed_dmarc(item, desk.settings.authserv_id)
    added = tuple(filter(None, (*found, dmarc.FORGED_CAVEAT if forged else "")))
    if not added:
        return item, False
    automated = item.is_automated or forged
    return replace(item, is_automated=automated, caveats=(*item.caveats, *added)), forged


def is_too_late(desk: Desk, ticket: Ticket, now: datetime) -> bool:
    """Return whether a reply comes too late to go on with this ticket."""
    if ticket.status is Status.COMPLETED and ticket.completed_at is not None:
        return now > ticket.completed_at + timedelta(days=desk.settings.reopen_days)
    return ticket.status in {Status.SPAM, Status.WITHDRAWN}


def _new_ticket(
    desk: Desk,
    session: Session,
    item: InboundItem,
    delivery: Delivery,
    *,
    again: bool,
    now: datetime,
) -> Ticket:
    company = directory.find_or_create_company(directory.CustomerLookup(session), item, now)
    values = build_ticket_row(desk, item, delivery, company, compute_first_due(desk, delivery))
    ticket = Ticket(company=company, **(values | {"origin": None} if again else values))
    session.add(ticket)
    session.flush()
    _add_people(desk, session, ticket, item, delivery, now)
    return ticket


def compute_first_due(desk: Desk, delivery: Delivery) -> datetime | None:
    """Return when the first deadline of a ticket from this delivery falls."""
    return compute_next_due(delivery.received_at, (), desk.settings)


def build_ticket_row(
    desk: Desk,
    item: InboundItem,
    delivery: Delivery,
    company: Company | None,
    due_at: datetime | None,
) -> dict[str, Any]:
    """Return what the row of a new ticket says, by column; people apart."""
    return {
        "name": TICKET_NAME.format(company=company.name if company else UNKNOWN_COMPANY),
        "subject": item.subject[:MAX_SUBJECT],
        "pipeline": PIPELINE,
        "type": TICKET_TYPE,
        "stage": Stage.SUBMITTED,
        "status": Status.OPEN,
        "transport": delivery.transport,
        "format": item.format,
        "origin": threading.build_origin(item),
        "automated": item.is_automated or evidence.is_unread_address(item.contact.key),
        "link": build_link(desk, item),
        "thread_id": threading.build_thread_id(item),
        "telemedicine": item.telemedicine,
        "share_activity": item.on_company,
        "caveats": _caveats(item, company),
        "created_at": delivery.received_at,
        "period_started_at": delivery.received_at,
        "due_at": due_at,
    }


def _add_people(
    desk: Desk,
    session: Session,
    ticket: Ticket,
    item: InboundItem,
    delivery: Delivery,
    now: datetime,
) -> None:
    # Only a call written down by staff names further contacts: a Cc in a mail never gives an
    # address our mails.
    others = item.to if item.format is Format.PHONE else ()
    records = directory.CustomerLookup(session)
    for person in directory.deduplicate_addresses([item.contact, *others]):
        phone = item.phone if person is item.contact else ""
        by_staff = (
            item.format is Format.PHONE
        )  # a secure message may be a patient's, a form anybody's
        contact = directory.find_or_create_contact(
            records, person, phone, ticket.company, vouched=by_staff, now=now
        )
        if contact is not None:
            if contact.unreachable and item.format is Format.MAIL and not item.is_automated:
                contact.unreachable = False  # a person writes from there: mail may reach them again
            shared = contact.email not in item.unshared_addresses
            desk.add_contact(session, ticket, contact, share_activity=shared)
    maker = delivery.envelope.get("owner")
    owner = directory.find_staff(session, maker) if isinstance(maker, str) and maker else None
    if owner is not None:
        desk.assign(session, ticket, owner, by=owner.name, now=now)


def _add_message(
    desk: Desk,
    session: Session,
    ticket: Ticket,
    item: InboundItem,
    delivery: Delivery,
    key: str | None,
    now: datetime,
) -> Message:
    name = threading.build_message_id(item)
    reused = (
        bool(name)
        and session.scalar(select(Message.id).where(Message.message_id == name).limit(1))
        is not None
    )
    message = Message(ticket_id=ticket.id, **build_message_row(item, delivery, key, reused=reused))
    message.attachments += [store_attachment(desk, a) for a in item.attachments]
    session.add(message)
    session.flush()
    if item.file_urls:
        linked_files.enqueue(session, message, item, desk.settings, now)
    return message


def build_message_row(
    item: InboundItem, delivery: Delivery, key: str | None, *, reused: bool
) -> dict[str, Any]:
    """Return what the row of a new message says, by column; its ticket and attachments apart."""
    return {
        "delivery_id": delivery.id,
        "direction": "in",
        "format": item.format,
        "external_id": key,
        "message_id": threading.build_message_id(item),
        "at": delivery.received_at,
        "caveats": [*item.caveats, *([REUSED_ID_CAVEAT] if reused else [])],
        "judgement": Judgement.AUTOMATIC if item.signs else Judgement.NONE,
        "signs": list(item.signs),
        **build_content_row(item),
        "search_words": phone_numbers.build_search_words(
            item.phone, item.text, item.details, item.format
        ),
    }


def build_content_row(item: InboundItem) -> dict[str, Any]:
    """Return what the row of a message shows of an item, by column.

    Caveats and attachments apart.
    """
    return {
        "from_name": item.sender.name,
        "from_email": item.contact.email,
        "phone": item.phone,
        "subject": item.subject,
        "text": item.text,
        "reply_text": item.reply_text,
        "html": item.html,
        "details": [list(d) for d in item.details],
        "sent_at": item.sent_at,
    }


def build_attachment_row(attachment: Attachment) -> dict[str, Any]:
    """Return what the row of an attachment says of it, by column."""
    return {
        "name": attachment.name,
        "mime": attachment.mime[:255],
        "size": attachment.size,
        "sha256": attachment.sha256,
        "inline": attachment.inline,
        "content_id": attachment.content_id,
    }


def store_attachment(desk: Desk, attachment: Attachment) -> StoredAttachment:
    """The row of an attachment, its bytes kept. Raises OSError when they cannot be."""
    content, blob = desk.blob_store.store(attachment.content)
    return StoredAttachment(content=content, blob=blob, **build_attachment_row(attachment))


def build_link(desk: Desk, item: InboundItem) -> str:
    """Return where the original can be seen; "" where nobody says."""
    if item.submission_id:
        return desk.settings.formstack_link.replace("{id}", item.submission_id)
    return item.link if item.link.startswith(("https://", "http://")) else ""


def _caveats(item: InboundItem, company: Company | None) -> list[str]:
    """Return what the consultant has to ask for, from the parser and from our own records."""
    found = list(item.caveats)
    if company is None:
        found.append(NO_COMPANY)
    elif company.manager_id is None:
        found.append(NO_MANAGER)
    return list(dict.fromkeys(found))
