"""Filing an inbound item: on the ticket it answers, as a new ticket, as a duplicate, or as no ticket at all."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from parsers.item import Attachment, Format, InboundItem, Parsed, RejectedRow
from workflow import audit, belonging, journal, linked, oversized, people, reports, trust
from workflow.deadlines import next_due
from workflow.desk import RULE, Desk, hold
from workflow.models import Company, Delivery, Filing, Message, StoredAttachment, Ticket
from workflow.process import NAME, PIPELINE, TICKET_TYPE, UNKNOWN_COMPANY, Stage
from workflow.states import Outcome, Status
from workflow.storable import storable

SUBJECT_LIMIT = 998  # RFC 5322 §2.1.1: the longest a header line can be; the raw original stays whole
REUSED = "an earlier message carries the same id with other content"
NO_COMPANY = "company not known: ask which practice this is about"
NO_MANAGER = "the company record names no manager"


def receive(desk: Desk, session: Session, item: Parsed, delivery: Delivery, position: int, now: datetime) -> Filing:
    """File one item of a delivery, and record what has become of it.

    Safe to repeat and safe to race: the unique indexes on tickets.origin and messages decide, not a question asked
    before. A row that is none is put down with its reason, so that somebody mends it.
    """
    item = storable(item)
    if isinstance(item, RejectedRow):
        filing = Filing(outcome=Outcome.REJECTED, reason=why_rejected(item))
    else:
        filing = _received(desk, session, item, delivery, now)
    filing.delivery_id, filing.position = delivery.id, position
    session.add(filing)
    journal.filed(delivery.id, filing.outcome, filing.ticket_id)
    return filing


def why_rejected(row: RejectedRow) -> str:
    """Where a rejected row stands in the file, and what is wrong with it; none of what it says."""
    cell = f", cell {row.cell}" if row.cell else ""
    return f"{place(row)}{cell}: {row.reason}"


def place(row: RejectedRow) -> str:
    """Where a row stands in its file."""
    return f"{row.sheet}, row {row.row}" if row.sheet else f"row {row.row}"


def _received(desk: Desk, session: Session, item: InboundItem, delivery: Delivery, now: datetime) -> Filing:
    filing = reports.filed(desk, session, item, delivery, now)
    for _ in range(2):  # losing a race for the origin is settled by looking again: the winner's ticket is there now
        filing = filing or _file(desk, session, item, delivery, now)
    if filing is None:
        raise RuntimeError("lost the race for one origin twice")
    return filing


def _file(desk: Desk, session: Session, item: InboundItem, delivery: Delivery, now: datetime) -> Filing | None:
    key = belonging.message_key(item)
    try:
        with session.begin_nested():
            return _append_or_open(desk, session, item, delivery, key, now)
    except IntegrityError:
        known = select(Message).where(Message.format == item.format, Message.external_id == key)
        earlier = session.scalar(known) if key else None
        if earlier is None:
            return None
        return Filing(outcome=Outcome.DUPLICATE, ticket_id=earlier.ticket_id, message_id=earlier.id)


def _append_or_open(
    desk: Desk, session: Session, item: InboundItem, delivery: Delivery, key: str | None, now: datetime
) -> Filing:
    item, forged = trusted(desk, item, delivery)
    match = belonging.find(session, item, delivery.envelope, desk.signer, forged=forged)
    ticket, before = match.ticket, match.possibly
    if ticket is not None:
        hold(session, ticket)  # another answer may have reopened it a moment ago
    if ticket is not None and _past(desk, ticket, now):
        ticket, before = None, ticket
    outcome = Outcome.OPENED if ticket is None else Outcome.APPENDED
    if ticket is None:
        ticket = _new_ticket(desk, session, item, delivery, again=before is not None or forged, now=now)
        if before is not None:
            about = f"possibly about #{before.id}" if match.possibly else f"follows #{before.id}"
            desk.relate(session, ticket, before, about)
    message = _add_message(desk, session, ticket, item, delivery, key, now)
    cause = f"delivery {delivery.id}"
    if outcome is Outcome.OPENED:
        desk.open(session, ticket, cause=cause, now=now, oversized=oversized.is_oversized(delivery.envelope))
    else:
        audit.record(session, "appended", by=RULE, cause=cause, now=now, ticket=ticket.id, message=message.id)
        if ticket.status is Status.COMPLETED and not item.is_automated:
            desk.reopen(session, ticket, by=RULE, cause="reply to a completed ticket", now=now)
    return Filing(outcome=outcome, ticket_id=ticket.id, message_id=message.id)


def trusted(desk: Desk, item: InboundItem, delivery: Delivery) -> tuple[InboundItem, bool]:
    """The item as it is taken, marked where our mail edge says that it is forged; and whether it says so.

    Of one that came in part only it says what is missing.
    """
    if caveat := oversized.caveat(delivery.envelope):
        item = replace(item, caveats=(*item.caveats, caveat))
    if not trust.failed_dmarc(item, desk.settings.authserv_id):
        return item, False
    return replace(item, is_automated=True, caveats=(*item.caveats, trust.FORGED)), True


def _past(desk: Desk, ticket: Ticket, now: datetime) -> bool:
    """Whether a reply comes too late to go on with this ticket."""
    if ticket.status is Status.COMPLETED and ticket.completed_at is not None:
        return now > ticket.completed_at + timedelta(days=desk.settings.reopen_days)
    return ticket.status in {Status.SPAM, Status.WITHDRAWN}


def _new_ticket(
    desk: Desk, session: Session, item: InboundItem, delivery: Delivery, *, again: bool, now: datetime
) -> Ticket:
    company = people.company_of(people.Records(session), item, now)
    values = told(desk, item, delivery, company, due(desk, delivery))
    ticket = Ticket(company=company, **(values | {"origin": None} if again else values))
    session.add(ticket)
    session.flush()
    _add_people(desk, session, ticket, item, delivery, now)
    return ticket


def due(desk: Desk, delivery: Delivery) -> datetime | None:
    """When the first deadline of a ticket from this delivery falls."""
    return next_due(delivery.received_at, (), desk.settings)


def told(
    desk: Desk, item: InboundItem, delivery: Delivery, company: Company | None, due_at: datetime | None
) -> dict[str, Any]:
    """What the row of a new ticket says, by column; people apart."""
    return {
        "name": NAME.format(company=company.name if company else UNKNOWN_COMPANY),
        "subject": item.subject[:SUBJECT_LIMIT], "pipeline": PIPELINE, "type": TICKET_TYPE, "stage": Stage.SUBMITTED,
        "status": Status.OPEN, "transport": delivery.transport, "format": item.format,
        "origin": belonging.origin(item), "automated": item.is_automated or people.is_machine(item.contact.key),
        "link": link(desk, item), "thread_id": belonging.thread(item), "telemedicine": item.telemedicine,
        "share_activity": item.on_company,
        "caveats": _caveats(item, company), "created_at": delivery.received_at,
        "period_started_at": delivery.received_at, "due_at": due_at,
    }  # fmt: skip


def _add_people(
    desk: Desk, session: Session, ticket: Ticket, item: InboundItem, delivery: Delivery, now: datetime
) -> None:
    # Only a call written down by staff names further contacts: a Cc in a mail never gives an address our mails.
    others = item.to if item.format is Format.PHONE else ()
    records = people.Records(session)
    for person in people.distinct([item.contact, *others]):
        phone = item.phone if person is item.contact else ""
        by_staff = item.format is Format.PHONE  # a secure message may be a patient's, a form anybody's
        contact = people.contact_for(records, person, phone, ticket.company, vouched=by_staff, now=now)
        if contact is not None:
            if contact.unreachable and item.format is Format.MAIL and not item.is_automated:
                contact.unreachable = False  # a person writes from there: mail may reach them again
            shared = contact.email not in item.not_shared
            desk.add_contact(session, ticket, contact, share_activity=shared)
    maker = delivery.envelope.get("owner")
    owner = people.staff_named(session, maker) if isinstance(maker, str) and maker else None
    if owner is not None:
        desk.assign(session, ticket, owner, by=owner.name, now=now)


def _add_message(
    desk: Desk, session: Session, ticket: Ticket, item: InboundItem, delivery: Delivery, key: str | None, now: datetime
) -> Message:
    name = belonging.identity(item)
    reused = bool(name) and session.scalar(select(Message.id).where(Message.message_id == name).limit(1)) is not None
    message = Message(ticket_id=ticket.id, **placed(item, delivery, key, reused=reused))
    message.attachments += [stored(desk, a) for a in item.attachments]
    session.add(message)
    session.flush()
    if item.linked:
        linked.promise(session, message, item, desk.settings, now)
    return message


def placed(item: InboundItem, delivery: Delivery, key: str | None, *, reused: bool) -> dict[str, Any]:
    """What the row of a new message says, by column; its ticket and attachments apart."""
    return {
        "delivery_id": delivery.id, "direction": "in", "format": item.format, "external_id": key,
        "message_id": belonging.identity(item), "at": delivery.received_at,
        "caveats": [*item.caveats, *([REUSED] if reused else [])], **shown(item),
    }  # fmt: skip


def shown(item: InboundItem) -> dict[str, Any]:
    """What the row of a message shows of an item, by column; caveats and attachments apart."""
    return {
        "from_name": item.sender.name, "from_email": item.contact.email, "subject": item.subject, "text": item.text,
        "reply_text": item.reply_text, "html": item.html, "details": [list(d) for d in item.details],
        "sent_at": item.sent_at,
    }  # fmt: skip


def facts(attachment: Attachment) -> dict[str, Any]:
    """What the row of an attachment says of it, by column."""
    return {
        "name": attachment.name, "mime": attachment.mime[:255], "size": attachment.size, "sha256": attachment.sha256,
        "inline": attachment.inline, "content_id": attachment.content_id,
    }  # fmt: skip


def stored(desk: Desk, attachment: Attachment) -> StoredAttachment:
    """The row of an attachment, its bytes kept. Raises OSError when they cannot be."""
    content, blob = desk.vault.keep(attachment.content)
    return StoredAttachment(content=content, blob=blob, **facts(attachment))


def link(desk: Desk, item: InboundItem) -> str:
    """Where the original can be seen; "" where nobody says."""
    if item.submission_id:
        return desk.settings.formstack_link.replace("{id}", item.submission_id)
    return item.link if item.link.startswith(("https://", "http://")) else ""


def _caveats(item: InboundItem, company: Company | None) -> list[str]:
    """What the consultant has to ask for, from the parser and from our own records."""
    found = list(item.caveats)
    if company is None:
        found.append(NO_COMPANY)
    elif company.manager_id is None:
        found.append(NO_MANAGER)
    return list(dict.fromkeys(found))
