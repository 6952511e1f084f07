"""Filing of one inbound item: as a message of a ticket, a new ticket, a duplicate or a note.

`bulk` files many items with the same results.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from parsers.item import (
    Address,
    Bounce,
    Direction,
    Format,
    InboundItem,
    ParseResult,
    RejectedRow,
    Route,
)
from parsers.mail import evidence
from workflow import process
from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.customers import company_names, company_numbers, directory, phone_numbers
from workflow.customers.directory import CompanyMatch
from workflow.customers.records import NO_COMPANY, NO_MANAGER
from workflow.database.locks import lock_ticket
from workflow.database.text_safety import make_storable
from workflow.filing import (
    automated_mail,
    correspondents,
    delivery_reports,
    dmarc,
    forms,
    linked_files,
    oversized,
    signs,
    threading,
)
from workflow.filing.attachments import store_attachment
from workflow.filing.correspondents import DeskPeople
from workflow.filing.delivery_reports import MailReport
from workflow.filing.threading import TicketMatch
from workflow.models.core import (
    Company,
    Contact,
    Delivery,
    Filing,
    Message,
    Ticket,
    TicketMilestone,
)
from workflow.models.states import Judgement, Outcome, Status
from workflow.process import PIPELINE, TICKET_NAME, TICKET_TYPE, UNKNOWN_COMPANY, Stage
from workflow.runtime import log
from workflow.tickets import merged_messages, notice_budget
from workflow.tickets.deadlines import compute_next_due, set_due_at
from workflow.tickets.desk import YES, Desk

MAX_SUBJECT = 998  # characters, the longest header line (RFC 5322 §2.1.1); the original keeps all
MAX_RECIPIENTS = 200  # people of To, and of Cc, that are kept; the original has all
FUTURE_CAVEAT = "the date lies in the future: it is perhaps mistyped"
MAX_CLOCK_ERROR = timedelta(days=1)  # of time zones and clocks that are a little fast
ONLY_THANKS_CAVEAT = "only thanks, as it seems: perhaps nothing is left to do"
NAMESAKE_CAVEAT = "another practice of this name has another number: see whether they are one"
REUSED_THREAD_CAVEAT = "an open ticket of somebody else has the same thread id"
CHALLENGE_TASK_KIND = "confirm-sender"
CHALLENGE_TASK = "a spam filter holds a mail: confirm that a person sent it"
IMPORT_ACTOR = "import"  # of the milestones of a ticket that came as an imported mail
# A mail in an old mailbox may have been copied there lately; further apart, its own date counts.
MAX_TRANSIT = timedelta(days=7)
EARLIEST_MAIL = datetime(1980, 1, 1, tzinfo=UTC)
ANSWERS_AUTOMATIC_MAIL = "it answers an automatic mail of ours"
REUSED_ID_CAVEAT = "an earlier message carries the same id with other content"


def file_item(
    desk: Desk,
    session: Session,
    item: ParseResult,
    delivery: Delivery,
    position: int,
    now: datetime,
) -> Filing:
    """File one item of a delivery; return the record of its outcome.

    Safe to repeat and to run twice at once: the unique indexes on tickets.origin and messages
    decide, not an earlier query. A rejected row is recorded with its reason, for a person to
    correct.
    """
    item = make_storable(item)
    if isinstance(item, RejectedRow):
        filing = Filing(outcome=Outcome.REJECTED, reason=describe_rejection(item))
    else:
        filing = _file_message_or_report(desk, session, item, delivery, now)
    filing.delivery_id, filing.position = delivery.id, position
    session.add(filing)
    log.item_filed(delivery.id, filing.outcome, filing.ticket_id)
    return filing


def describe_rejection(row: RejectedRow) -> str:
    """Return the place of a rejected row and its fault, without any of its content."""
    cell = f", cell {row.cell}" if row.cell else ""
    return f"{describe_row_place(row)}{cell}: {row.reason}"


def add_reused_id_caveat(caveats: Sequence[str]) -> list[str]:
    """Return the caveats of a new ticket whose message has the id of an earlier one."""
    return list(dict.fromkeys([*caveats, REUSED_ID_CAVEAT]))


def describe_row_place(row: RejectedRow) -> str:
    """Return the place of a row in its file, such as "Sheet1, row 7"."""
    return f"{row.sheet}, row {row.row}" if row.sheet else f"row {row.row}"


def _file_message_or_report(
    desk: Desk, session: Session, item: InboundItem, delivery: Delivery, now: datetime
) -> Filing:
    item = signs.add_envelope_signs(desk.settings, item, delivery)
    report = delivery_reports.find_report(desk, session, item, delivery)
    if report is not None:
        return _file_report(desk, session, report, item, delivery, now)
    item = correspondents.resolve(session, DeskPeople.load(session, desk.settings), item)
    # Another worker may open the ticket of this item first. Then its ticket is found the second
    # time.
    for _ in range(2):
        if (filing := _file_message(desk, session, item, delivery, now)) is not None:
            return filing
    raise RuntimeError("lost the race for one origin twice")


def _file_report(
    desk: Desk,
    session: Session,
    report: MailReport,
    item: InboundItem,
    delivery: Delivery,
    now: datetime,
) -> Filing:
    """Add a report as a note to the ticket of the mail it is about.

    Without such a mail it is stored as automated mail.
    """
    filing = report.make_filing(session)
    mail, bounce = report.mail, item.bounce or Bounce()
    if mail is None:
        automated_mail.store(session, report.reason, item, delivery, get_item_time(item, delivery))
        return filing
    lock_ticket(session, mail.ticket)  # always before its mail, so that nobody deadlocks
    # An old report says nothing of today: it is a note and no more.
    if not is_imported(delivery) and delivery_reports.apply_report(
        desk, session, report, bounce, now
    ):
        audit.record(
            session,
            report.judgement,
            by=RULE,
            cause=f"delivery {delivery.id}",
            now=now,
            ticket=mail.ticket_id,
            mail=mail.id,
        )
    key = f"report:{delivery.id}"  # a report that is read again is still one note
    existing = select(Message).where(Message.format == item.format, Message.external_id == key)
    note = session.scalar(existing)
    if note is None:
        note = Message(
            ticket_id=filing.ticket_id, **build_message_row(item, delivery, key, reused=False)
        )
        note.message_id = ""  # so that no reply is matched to the report
        note.attachments += [
            store_attachment(desk.blob_store, a, delivery) for a in item.attachments
        ]
        session.add(note)
    note.direction, note.judgement, note.signs = "note", report.judgement, list(item.signs)
    note.reported_mail_id = mail.id
    summary = delivery_reports.summarize_report(report, item)
    note.text = f"{summary}\n\n{item.text}"  # `corrections` cuts it off at the first empty line
    is_summarized = report.judgement in delivery_reports.SUMMARIZED_JUDGEMENTS
    note.reply_text = summary if is_summarized else note.text
    session.flush()
    filing.message_id = note.id
    _raise_challenge_task(
        desk, session, session.get_one(Ticket, filing.ticket_id), item, delivery, now
    )
    return filing


def _file_message(
    desk: Desk, session: Session, item: InboundItem, delivery: Delivery, now: datetime
) -> Filing | None:
    """File an item that is no report; None when another worker was faster."""
    key, original = _find_duplicate(session, item)
    if original is None:
        try:
            with session.begin_nested():
                return _append_or_open(desk, session, item, delivery, key, now)
        except IntegrityError:  # another worker has filed the same item, or opened its ticket
            _, original = _find_duplicate(session, item)
    if original is None:
        return None
    return Filing(outcome=Outcome.DUPLICATE, ticket_id=original.ticket_id, message_id=original.id)


def _find_duplicate(session: Session, item: InboundItem) -> tuple[str | None, Message | None]:
    return threading.find_duplicate(
        directory.CustomerLookup(session),
        item,
        threading.build_keys(item),
        partial(find_message, session, item.format),
    )


def find_message(
    session: Session, item_format: Format, key: str
) -> tuple[Message, threading.MessageIdentity] | None:
    """Find the stored message of a format with this key (messages.external_id)."""
    message = session.scalar(
        select(Message).where(Message.format == item_format, Message.external_id == key)
    )
    if message is None:
        return None
    company = threading.build_ticket_company_key(message.ticket)
    return message, threading.MessageIdentity(message.message_id, message.from_name, company)


def _append_or_open(
    desk: Desk,
    session: Session,
    item: InboundItem,
    delivery: Delivery,
    key: str | None,
    now: datetime,
) -> Filing:
    """File an item that is no duplicate. Raises IntegrityError when another worker was faster."""
    item, forged = add_caveats(desk, item, delivery)
    match = threading.find_ticket(session, item, delivery.envelope, desk.signer, forged=forged)
    if match.merged_ticket is not None:
        # Its merge may have been undone a moment ago: look again once nobody can change it.
        lock_ticket(session, match.merged_ticket)
        match = threading.find_ticket(session, item, delivery.envelope, desk.signer, forged=forged)
    if match.ticket is not None:
        lock_ticket(session, match.ticket)  # another answer may have reopened it a moment ago
        if match.is_automatic_answer:
            item = replace(item, direction=Direction.NOTE)
        # What the desk has written stands on the ticket it is about, whatever became of that; so
        # does a program's answer, and an imported mail: it is no new request.
        is_no_request = item.direction is not Direction.IN or is_imported(delivery)
        if is_no_request or not is_too_late(desk, match.ticket, now):
            item = forms.add_changes(session, item)
            return _append(desk, session, item, delivery, key, match, now)
    elif threading.is_thread_in_use(session, item):
        item = replace(item, caveats=(*item.caveats, REUSED_THREAD_CAVEAT))
    people, lookup = DeskPeople.load(session, desk.settings), directory.CustomerLookup(session)
    if reason := automated_mail.find_reason(people, lookup, item, delivery):
        if (related := match.related or match.ticket) is not None:
            reason = f"{reason}; possibly about #{related.id}"
        automated_mail.store(session, reason, item, delivery, get_item_time(item, delivery))
        return Filing(outcome=Outcome.IGNORED, reason=reason)
    return _open(desk, session, item, delivery, key, match, forged=forged, now=now)


def _append(
    desk: Desk,
    session: Session,
    item: InboundItem,
    delivery: Delivery,
    key: str | None,
    match: TicketMatch,
    now: datetime,
) -> Filing:
    """Add an item to the ticket it belongs to."""
    ticket = match.ticket
    assert ticket is not None  # the caller has checked it
    if item.direction is Direction.IN and item.is_only_thanks:
        item = replace(item, caveats=(*item.caveats, ONLY_THANKS_CAVEAT))
    message = _add_message(desk, session, ticket, item, delivery, key, now)
    if match.merged_ticket is not None:
        message.addressed_ticket_id = match.merged_ticket.id
    if is_imported(delivery):
        _append_imported(session, ticket, message, delivery, now)
        return Filing(outcome=Outcome.APPENDED, ticket_id=ticket.id, message_id=message.id)
    if match.is_automatic_answer:
        message.judgement = Judgement.ANSWER
    _mark_reachable(ticket, item)
    _raise_challenge_task(desk, session, ticket, item, delivery, now)
    audit.record(
        session,
        _choose_append_action(item, match),
        by=RULE,
        cause=f"delivery {delivery.id}",
        now=now,
        ticket=ticket.id,
        message=message.id,
    )
    is_request = item.direction is Direction.IN and not evidence.has_proof(item.signs)
    if ticket.status is Status.COMPLETED and is_request:
        desk.reopen(session, ticket, by=RULE, cause="reply to a completed ticket", now=now)
    return Filing(outcome=Outcome.APPENDED, ticket_id=ticket.id, message_id=message.id)


def _raise_challenge_task(
    desk: Desk,
    session: Session,
    ticket: Ticket,
    item: InboundItem,
    delivery: Delivery,
    now: datetime,
) -> None:
    """Task somebody to confirm to a spam filter that our mail came from a person, if it asks that.

    Until then the customer does not get what the desk writes.
    """
    is_challenge = evidence.find_notice(item.signs) is evidence.Meaning.CHALLENGE
    if is_challenge and not is_imported(delivery):
        cause = f"delivery {delivery.id}"
        desk.raise_task(session, ticket, CHALLENGE_TASK_KIND, CHALLENGE_TASK, now=now, cause=cause)


def _choose_append_action(item: InboundItem, match: TicketMatch) -> str:
    """Return the action of the audit row of a message that was added to a ticket."""
    if match.is_automatic_answer:
        return audit.AUTOMATIC_ANSWER
    return "appended" if item.direction is Direction.IN else audit.DESK_MESSAGE


def _mark_reachable(ticket: Ticket, item: InboundItem) -> None:
    address = correspondents.get_joining_address(item)
    for link in ticket.contacts:
        if item.direction is Direction.IN and link.contact.email == address:
            mark_sender_reachable(link.contact, item)


def mark_sender_reachable(contact: Contact, item: InboundItem) -> None:
    """Mark the sender of a mail as reachable again, if mail to them came back.

    A person writes from there, so mail reaches them.
    """
    is_sender = contact.email == correspondents.get_joining_address(item)
    if contact.unreachable and item.format is Format.MAIL and not item.is_automated and is_sender:
        contact.unreachable = False


def _open(
    desk: Desk,
    session: Session,
    item: InboundItem,
    delivery: Delivery,
    key: str | None,
    match: TicketMatch,
    *,
    forged: bool,
    now: datetime,
) -> Filing:
    """Open a ticket for an item, related to the ticket it does not join, if there is one."""
    people = DeskPeople.load(session, desk.settings)
    item = correspondents.settle_unmatched(people, item)
    related = match.related or match.ticket
    # Such a ticket has no origin: its item may share it with a ticket that is there already.
    has_origin = related is None and not forged
    ticket = _new_ticket(desk, session, item, delivery, has_origin=has_origin, now=now)
    if related is not None:
        reason = "possibly about" if match.related else "follows"
        desk.relate(session, ticket, related, f"{reason} #{related.id}")
    message = _add_message(desk, session, ticket, item, delivery, key, now)
    if REUSED_ID_CAVEAT in message.caveats:
        ticket.caveats = add_reused_id_caveat(ticket.caveats)
    if is_imported(delivery):
        _complete_imported(desk, session, ticket, delivery, now)
        return Filing(outcome=Outcome.OPENED, ticket_id=ticket.id, message_id=message.id)
    desk.open(
        session,
        ticket,
        cause=f"delivery {delivery.id}",
        now=now,
        oversized=oversized.is_oversized(delivery.envelope),
        no_notice_reason=correspondents.find_notice_reason(people, item),
        obstacle=_find_thread_obstacle(desk, session, item, delivery, ticket, now),
    )
    _raise_challenge_task(desk, session, ticket, item, delivery, now)
    return Filing(outcome=Outcome.OPENED, ticket_id=ticket.id, message_id=message.id)


# -- imported mails ----


def is_imported(delivery: Delivery) -> bool:
    """Return whether a delivery is older mail that somebody has imported (`intake import mail`)."""
    return "imported" in delivery.envelope


def get_item_time(item: InboundItem, delivery: Delivery) -> datetime:
    """Return when an item counts as received: our receipt, of an imported mail its own date.

    That is when it arrived in its mailbox; but the date it was sent, where that is long before.
    """
    imported = delivery.envelope.get("imported")
    if not isinstance(imported, dict):
        return delivery.received_at
    arrived_at = min(datetime.fromisoformat(imported["arrived_at"]), delivery.received_at)
    if item.sent_at is None or item.sent_at < EARLIEST_MAIL:
        return arrived_at
    return item.sent_at if item.sent_at < arrived_at - MAX_TRANSIT else arrived_at


def _complete_imported(
    desk: Desk, session: Session, ticket: Ticket, delivery: Delivery, now: datetime
) -> None:
    """Make the ticket of an imported mail a completed one.

    Nobody is mailed, no deadline counts and no task is raised: its matter is one of the past.
    """
    at = ticket.created_at
    ticket.stage, ticket.status, ticket.completed_at = Stage.COMPLETED, Status.COMPLETED, at
    ticket.resolution = YES
    for milestone in process.list_implied(Stage.COMPLETED):
        ticket.milestones.append(
            TicketMilestone(period=1, milestone=milestone, at=at, by=IMPORT_ACTOR, note="")
        )
    set_due_at(ticket, desk.settings)
    _record_import(session, ticket, delivery, now)


def _append_imported(
    session: Session, ticket: Ticket, message: Message, delivery: Delivery, now: datetime
) -> None:
    """Record an imported mail on its ticket, which it neither reopens nor changes otherwise.

    A ticket that was imported itself counts as completed with the last of its mails, so that an
    answer to that one still reopens it.
    """
    is_imported_ticket = any(one.by == IMPORT_ACTOR for one in ticket.milestones)
    if is_imported_ticket and ticket.completed_at and ticket.completed_at < message.at:
        ticket.completed_at = message.at
    _record_import(session, ticket, delivery, now, message=message.id)


def _record_import(
    session: Session, ticket: Ticket, delivery: Delivery, now: datetime, **detail: int
) -> None:
    cause = f"delivery {delivery.id}"
    audit.record(session, "imported", by=RULE, cause=cause, now=now, ticket=ticket.id, **detail)


def _find_thread_obstacle(
    desk: Desk,
    session: Session,
    item: InboundItem,
    delivery: Delivery,
    ticket: Ticket,
    now: datetime,
) -> str:
    """Return why an item in an older thread gets no notice of its new ticket; "" if it does.

    Two programs may answer each other without any sign of it, and from ever new addresses.
    """
    if threading.answers_automatic_mail(session, item, delivery.envelope, desk.signer):
        return ANSWERS_AUTOMATIC_MAIL
    if not threading.is_in_thread(item, delivery.envelope):
        return ""
    return notice_budget.find_conversation_obstacle(session, ticket.id, desk.settings, now)


def open_from_message(
    desk: Desk,
    session: Session,
    message: Message,
    about: Ticket,
    reason: str,
    now: datetime,
    *,
    no_notice_reason: str = "",
) -> Ticket:
    """Open a ticket for a message of another ticket (`about`), and move the message there.

    Its contact and company are those of the message. A sender without an address, or who belongs to
    `about`, has the company of that one where their own is not known. The ticket of an imported
    mail is a completed one.
    """
    delivery = session.get_one(Delivery, message.delivery_id)
    customer = Address("", message.customer_email) if message.customer_email else None
    item = InboundItem(
        format=Format(message.format),
        external_id="",
        sender=Address(message.from_name, message.from_email),
        customer=customer,
        phone=message.phone,
        subject=message.subject,
        text=message.text,
        sent_at=message.sent_at,
        caveats=tuple(message.caveats),
        signs=tuple(message.signs),
        is_automated=bool(message.signs),
    )
    is_of_ticket = not item.contact.key or directory.may_join_ticket(
        session, item.contact.key, about
    )
    # The origin of the item belongs to the ticket that the message stood on.
    ticket = _new_ticket(
        desk,
        session,
        item,
        delivery,
        has_origin=False,
        now=now,
        other_company=about.company if is_of_ticket else None,
    )
    merged_messages.move_message(session, message, ticket.id, None)
    desk.relate(session, ticket, about, reason)
    session.flush()
    session.expire(about, ["messages"])
    if is_imported(delivery):
        _complete_imported(desk, session, ticket, delivery, now)
        return ticket
    desk.open(
        session,
        ticket,
        cause=f"delivery {delivery.id}",
        now=now,
        no_notice_reason=no_notice_reason,
    )
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
    """Open a ticket for an item that repeats a message of `like`, because a person wants it.

    Its message has no key, so that a third one is still a duplicate of the first.
    """
    people = DeskPeople.load(session, desk.settings)
    item = signs.add_envelope_signs(desk.settings, item, delivery)
    item = correspondents.settle_unmatched(people, correspondents.resolve(session, people, item))
    item, _ = add_caveats(desk, item, delivery)
    ticket = _new_ticket(desk, session, item, delivery, has_origin=False, now=now)
    desk.relate(session, ticket, like, f"same words as #{like.id}")
    message = _add_message(desk, session, ticket, item, delivery, None, now)
    # The caveat is about other content under the same id, and this content is the same.
    message.caveats = [c for c in message.caveats if c != REUSED_ID_CAVEAT]
    reason = correspondents.find_notice_reason(people, item)
    desk.open(session, ticket, cause=f"delivery {delivery.id}", now=now, no_notice_reason=reason)
    return message


def add_caveats(desk: Desk, item: InboundItem, delivery: Delivery) -> tuple[InboundItem, bool]:
    """Return an item with the caveats it is filed with, and whether its sender is forged.

    A forged item counts as automated, so that its sender gets no automatic mail.
    """
    forged = dmarc.has_failed_dmarc(item, desk.settings.authserv_id)
    caveats = (
        oversized.build_caveat(delivery.envelope),
        evidence.make_caveat(item.signs),
        dmarc.FORGED_CAVEAT if forged else "",
        make_date_caveat(item, delivery.received_at),
    )
    added = tuple(caveat for caveat in caveats if caveat)
    if not added:
        return item, False
    is_automated = item.is_automated or forged
    return replace(item, is_automated=is_automated, caveats=(*item.caveats, *added)), forged


def make_date_caveat(item: InboundItem, received_at: datetime) -> str:
    """Return the caveat on a row of a workbook that is dated later than it came, else ""."""
    if item.format is not Format.SECURE_MESSAGE or item.sent_at is None:
        return ""
    return FUTURE_CAVEAT if item.sent_at > received_at + MAX_CLOCK_ERROR else ""


def is_too_late(desk: Desk, ticket: Ticket, now: datetime) -> bool:
    """Return whether a reply comes too late for this ticket, and opens a new one."""
    if ticket.status is Status.COMPLETED and ticket.completed_at is not None:
        return now > ticket.completed_at + timedelta(days=desk.settings.reopen_days)
    return ticket.status in {Status.SPAM, Status.WITHDRAWN}


def _new_ticket(
    desk: Desk,
    session: Session,
    item: InboundItem,
    delivery: Delivery,
    *,
    has_origin: bool,
    now: datetime,
    other_company: Company | None = None,
) -> Ticket:
    """Create a ticket with its people; `has_origin` is False where the origin may be taken.

    `other_company` is its company where the item names none that is known.
    """
    match = directory.find_or_create_company(directory.CustomerLookup(session), item, now)
    if match.company is None and not match.near:
        match = CompanyMatch(other_company)
    values = build_ticket_row(desk, item, delivery, match, compute_first_due(desk, delivery))
    if not has_origin:
        values["origin"] = None
    ticket = Ticket(company=match.company, near_companies=[one.id for one in match.near], **values)
    session.add(ticket)
    session.flush()
    _add_people(desk, session, ticket, item, delivery, now)
    return ticket


def compute_first_due(desk: Desk, delivery: Delivery) -> datetime | None:
    """Return the first deadline of a ticket from this delivery; None without deadlines."""
    return compute_next_due(delivery.received_at, (), desk.settings)


def build_ticket_row(
    desk: Desk,
    item: InboundItem,
    delivery: Delivery,
    match: CompanyMatch,
    due_at: datetime | None,
) -> dict[str, Any]:
    """Return the row of a new ticket, by column, without its people and companies."""
    company = match.company
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
        "notice": evidence.find_notice(item.signs) or "",
        "link": build_link(desk, item),
        "thread_id": threading.build_thread_id(item),
        "telemedicine": item.telemedicine,
        "share_activity": item.on_company,
        "caveats": _build_caveats(item, match),
        "named_company": company_names.clean(item.company) if match.near else "",
        "named_number": company_numbers.normalize(item.company_number) if match.near else "",
        "created_at": get_item_time(item, delivery),
        "period_started_at": get_item_time(item, delivery),
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
    """Add the contacts of an item to its ticket, and the owner that the delivery names."""
    # Staff enter calls. They alone are trusted to name further contacts and the company of one: a
    # secure message may be a patient's, a form anybody's, and a Cc must not get our mails.
    by_staff = item.format is Format.PHONE
    others = item.to if by_staff else ()
    lookup = directory.CustomerLookup(session)
    for person in directory.deduplicate_addresses([item.contact, *others]):
        if directory.is_our_address(person.key, desk.settings):
            continue  # nobody's own: mail to it comes back to us as a ticket
        phone = item.phone if person is item.contact else ""
        contact = directory.find_or_create_contact(
            lookup, person, phone, ticket.company, is_confirmed=by_staff, now=now
        )
        if contact is not None:
            if not is_imported(delivery):  # nor does an old mail say that one arrives today
                mark_sender_reachable(contact, item)
            is_shared = contact.email not in item.unshared_addresses
            desk.add_contact(session, ticket, contact, share_activity=is_shared)
    name = delivery.envelope.get("owner")
    owner = directory.find_staff(session, name) if isinstance(name, str) else None
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
    reused = _is_reused(session, threading.build_message_id(item))
    message = Message(ticket_id=ticket.id, **build_message_row(item, delivery, key, reused=reused))
    message.attachments += [
        store_attachment(desk.blob_store, a, delivery) for a in item.attachments
    ]
    session.add(message)
    session.flush()
    if item.file_urls:
        linked_files.enqueue(session, message, item, desk.settings, now)
    return message


def _is_reused(session: Session, message_id: str) -> bool:
    """Return whether a stored message has this id already; False for ""."""
    if not message_id:
        return False
    same = select(Message.id).where(Message.message_id == message_id).limit(1)
    return session.scalar(same) is not None


def build_message_row(
    item: InboundItem, delivery: Delivery, key: str | None, *, reused: bool
) -> dict[str, Any]:
    """Return the row of a new message, by column, without its ticket and attachments."""
    return {
        "delivery_id": delivery.id,
        "direction": str(item.direction),
        "format": item.format,
        "external_id": key,
        "message_id": threading.build_message_id(item),
        "at": get_item_time(item, delivery),
        "caveats": [*item.caveats, *([REUSED_ID_CAVEAT] if reused else [])],
        "judgement": Judgement.AUTOMATIC if item.signs else Judgement.NONE,
        "signs": list(item.signs),
        **build_content_row(item),
        "search_words": phone_numbers.build_search_words(
            item.phone, item.text, item.details, item.format
        ),
    }


def build_content_row(item: InboundItem) -> dict[str, Any]:
    """Return the columns of a message that hold the content of an item.

    Caveats and attachments are not among them. Where the customer stands elsewhere than in From,
    `sent_by` names the sender, and the message is the customer's; but who only asks for answers to
    another address has written it.
    """
    is_routed = item.route is not Route.DIRECT and bool(item.contact.email)
    is_by_sender = item.direction is not Direction.IN or item.route is Route.REPLY_TO
    author = item.contact if is_routed and not is_by_sender else item.sender
    sent_by = item.sender if is_routed else Address()
    return {
        "from_name": author.name,
        "from_email": item.sender.email if is_by_sender else item.contact.email or author.email,
        "to": correspondents.to_pairs(item.to[:MAX_RECIPIENTS]),
        "cc": correspondents.to_pairs(item.cc[:MAX_RECIPIENTS]),
        "route": str(item.route),
        "sent_by_name": sent_by.name,
        "sent_by_email": sent_by.email,
        "customer_email": item.contact.email if is_routed else "",
        "phone": item.phone,
        "subject": item.subject,
        "text": item.text,
        "reply_text": item.reply_text,
        "html": item.html,
        "details": [list(d) for d in item.details],
        "sent_at": item.sent_at,
    }


def build_link(desk: Desk, item: InboundItem) -> str:
    """Return the address where staff can see the original; "" when there is none."""
    if item.submission_id:
        return desk.settings.formstack_link.replace("{id}", item.submission_id)
    return item.link if item.link.startswith(("https://", "http://")) else ""


def _build_caveats(item: InboundItem, match: CompanyMatch) -> list[str]:
    """Return the caveats of a new ticket: those of its item, and of our own records."""
    caveats, company = list(item.caveats), match.company
    if match.near:
        caveats.append(directory.make_near_caveat(company_names.clean(item.company), match.near))
    elif company is None:
        caveats.append(NO_COMPANY)
    elif company.manager_id is None:
        caveats.append(NO_MANAGER)
    has_number = bool(company_numbers.normalize(item.company_number))
    if company is not None and has_number and directory.is_namesake(company):
        caveats.append(NAMESAKE_CAVEAT)
    return list(dict.fromkeys(caveats))
