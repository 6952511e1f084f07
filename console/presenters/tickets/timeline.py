"""A ticket's timeline: messages, mails, moves and tasks in one order, newest first, within bounds.

Newest first, because who opens a ticket asks what came last: the customer's latest words stand
beside the boxes to tick and the answer to write, and nobody scrolls past a month to reach them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import escape
from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from console.presenters import audit
from console.presenters.audit import AuditNames
from console.presenters.tickets.ticket import present_person
from parsers.mail import evidence, forwarded, secure_links
from parsers.text.filenames import is_workbook
from workflow.filing.threading import remove_token
from workflow.mail import compose
from workflow.models.core import (
    AuditEntry,
    Delivery,
    Filing,
    Message,
    OutgoingMail,
    StoredAttachment,
    Ticket,
)
from workflow.models.states import Outcome

PAGE_SIZE = 60  # on a page of the timeline
MAX_FETCHED_LENGTH = 20_000  # characters of a message fetched: a page shows no more
MAX_MESSAGE_BYTES = 12_000  # bytes of one message's text; the rest is a click away
MAX_PAGE_BYTES = 110_000  # of all messages of a page: the whole page stays below 300 KB
EXCERPT_LENGTH = 300  # characters of a message beyond the budget
MAX_REPEATS = 20  # deliveries that brought a message again, on a page
MAX_NAMED = 12  # people of To, and of Cc, that are named
MAX_DETAILS = 40  # rows of a form's table
PICTURE_TYPES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"})
# as declared by the sender; the bytes decide when the file is requested (pages/tickets/files.py)
PREVIEW_TYPES = PICTURE_TYPES | {"application/pdf"}


@dataclass(frozen=True)
class AttachedFile:
    """An attachment, without its bytes."""

    number: int
    name: str
    mime: str
    size: int
    inline: bool

    @property
    def is_picture(self) -> bool:
        """Return whether its media type is a picture we show."""
        return self.mime.lower() in PICTURE_TYPES

    @property
    def has_preview(self) -> bool:
        """Return whether its media type is one we show."""
        return self.mime.lower() in PREVIEW_TYPES

    @property
    def is_message(self) -> bool:
        """Return whether it is a message that a page shows."""
        return forwarded.is_message(self.name, self.mime.lower())

    @property
    def may_have_rows(self) -> bool:
        """Return whether tickets may be made of its rows."""
        return is_workbook(self.name)


@dataclass(frozen=True)
class MessageEntry:
    """A message: from the customer (in), by us (out), or an internal note."""

    at: datetime
    number: int
    direction: str
    format: str
    sender: str
    email: str
    phone: str  # as given with this message
    subject: str
    text: str  # the newest words
    quoted_text: str  # what follows them: quotes, signature; "" if nothing
    is_cut: bool  # whether there is more than the two show
    has_html: bool
    details: Sequence[tuple[str, str]]
    caveats: Sequence[str]
    files: Sequence[AttachedFile]
    sent_at: datetime | None
    mails: Sequence[OutgoingMail]  # what of the outbox it is: one for each who gets it
    judgement: str  # what it was taken for that nobody wrote by hand; "" for a person's
    signs: str  # why, in words
    repeats: Sequence[tuple[int, datetime]]  # deliveries that brought it again, and when
    recipients: str  # To and Cc, as text
    route: str  # how it came where somebody else than the customer sent it
    sent_by: str  # who sent it then
    customer: str  # the address that was taken for the customer's
    opens_details: bool  # its request is among them: it has no text, or that is behind a link
    kind: str = "message"


@dataclass(frozen=True)
class MailEntry:
    """A mail of ours that is not a message: waiting, refused or withheld."""

    at: datetime
    number: int
    mail: OutgoingMail
    kind: str = "mail"


@dataclass(frozen=True)
class EventEntry:
    """A move, a milestone, a task: a row of the audit log in words."""

    at: datetime
    number: int
    words: str
    why: str
    by: str
    kind: str = "event"


Entry = MessageEntry | MailEntry | EventEntry
Source = Row[Any] | OutgoingMail | AuditEntry


class _TextBudget:
    """The remaining bytes of text on the page."""

    def __init__(self) -> None:
        self._left = MAX_PAGE_BYTES

    def fit(self, text: str) -> str:
        """Return the beginning of a text that fits the budget; an excerpt at least."""
        size, most = _measure_rendered(text), min(MAX_MESSAGE_BYTES, self._left)
        if size > most:  # cut by the ratio of bytes: exact enough, and never inside a character
            text = text[: max(EXCERPT_LENGTH, len(text) * most // size)]
        self._left = max(0, self._left - _measure_rendered(text))
        return text


def build_timeline(
    session: Session, ticket: Ticket, names: AuditNames, page: int = 0
) -> tuple[list[Entry], bool]:
    """Return a page of the timeline, newest first, and whether there is an older one.

    `ticket.outbox` should be loaded.
    """
    first = page * PAGE_SIZE
    most = first + PAGE_SIZE + 1  # of each kind: enough, however they are mixed
    mails: dict[str, list[OutgoingMail]] = {}
    for mail in ticket.outbox:
        mails.setdefault(compose.make_timeline_key(mail), []).append(mail)
    rows = _load_messages(session, ticket, most)
    items: list[tuple[datetime, int, int, Source]] = [(r.at, 0, r.id, r) for r in rows]
    items += [(a.at, 1, a.id, a) for a in _load_audit(session, ticket, most)]
    message_keys = _list_message_keys(session, ticket)
    waiting = (m for key, group in mails.items() if key not in message_keys for m in group)
    items += [(m.created_at, 2, m.id, m) for m in waiting]
    # By time, then kind and number: entries of one moment keep their order from page to page.
    items.sort(key=lambda item: item[:3], reverse=True)
    page_items = items[first : first + PAGE_SIZE]
    files = _load_files(session, [number for _, kind, number, _ in page_items if kind == 0])
    repeated = any(isinstance(source, Row) and source.repeats for *_, source in page_items)
    repeats = _load_repeats(session, ticket) if repeated else {}
    budget = _TextBudget()
    entries = [
        _build_entry(source, mails, files, repeats, names, budget) for *_, source in page_items
    ]
    return entries, len(items) > first + PAGE_SIZE


def _load_messages(session: Session, ticket: Ticket, most: int) -> Sequence[Row[Any]]:
    """Return messages with as much of each as is shown: HTML and text may be megabytes."""
    repeats = (
        select(func.count())
        .where(
            Filing.ticket_id == ticket.id,
            Filing.message_id == Message.id,
            Filing.outcome == Outcome.DUPLICATE,
        )
        .scalar_subquery()
    )
    columns = (
        Message.id,
        Message.at,
        Message.direction,
        Message.format,
        Message.external_id,
        Message.from_name,
        Message.from_email,
        Message.to,
        Message.cc,
        Message.route,
        Message.sent_by_name,
        Message.sent_by_email,
        Message.customer_email,
        Message.phone,
        Message.subject,
        Message.details,
        Message.caveats,
        Message.sent_at,
        Message.judgement,
        Message.signs,
        repeats.label("repeats"),
        func.substr(Message.text, 1, MAX_FETCHED_LENGTH).label("text"),
        func.length(Message.text).label("length"),
        func.substr(Message.reply_text, 1, MAX_FETCHED_LENGTH).label("reply_text"),
        func.length(Message.html).label("html"),
    )
    rows = select(*columns).where(Message.ticket_id == ticket.id)
    return session.execute(rows.order_by(Message.at.desc(), Message.id.desc()).limit(most)).all()


def _list_message_keys(session: Session, ticket: Ticket) -> set[str | None]:
    """Return the keys of our mails that are messages already: those that were sent.

    A crash right after sending may have left one out; it shows as a mail then.
    """
    rows = select(Message.external_id).where(
        Message.ticket_id == ticket.id, Message.direction == "out"
    )
    return set(session.scalars(rows))


def _load_files(session: Session, messages: Iterable[int]) -> dict[int, list[AttachedFile]]:
    a = StoredAttachment
    rows = select(a.message_id, a.id, a.name, a.mime, a.size, a.inline).where(
        a.message_id.in_(list(messages))
    )
    files: dict[int, list[AttachedFile]] = {}
    for message, number, name, mime, size, inline in session.execute(rows.order_by(a.id)):
        files.setdefault(message, []).append(AttachedFile(number, name, mime, size, inline))
    return files


def _load_repeats(session: Session, ticket: Ticket) -> dict[int, list[tuple[int, datetime]]]:
    """Return the newest deliveries that brought a message again, by message id."""
    rows = (
        select(Filing.message_id, Delivery.id, Delivery.received_at)
        .join(Delivery, Delivery.id == Filing.delivery_id)
        .where(Filing.ticket_id == ticket.id, Filing.outcome == Outcome.DUPLICATE)
        .order_by(Delivery.id.desc())
        .limit(MAX_REPEATS)
    )
    repeats: dict[int, list[tuple[int, datetime]]] = {}
    for message, delivery, at in session.execute(rows):
        repeats.setdefault(message or 0, []).append((delivery, at))
    return repeats


def _load_audit(session: Session, ticket: Ticket, most: int) -> list[AuditEntry]:
    rows = select(AuditEntry).where(
        AuditEntry.ticket_id == ticket.id, AuditEntry.action.not_in(audit.SHOWN_ELSEWHERE)
    )
    return list(session.scalars(rows.order_by(AuditEntry.id.desc()).limit(most)))


def _build_entry(
    source: Source,
    mails: Mapping[str, list[OutgoingMail]],
    files: Mapping[int, list[AttachedFile]],
    repeats: Mapping[int, list[tuple[int, datetime]]],
    names: AuditNames,
    budget: _TextBudget,
) -> Entry:
    if isinstance(source, AuditEntry):
        words, by = audit.describe_action(source, names), audit.describe_actor(source.actor)
        return EventEntry(
            at=source.at, number=source.id, words=words, why=audit.describe_cause(source), by=by
        )
    if isinstance(source, OutgoingMail):
        return MailEntry(at=source.created_at, number=source.id, mail=source)
    mine = mails.get(source.external_id or "", [])
    return _build_message(
        source, mine, files.get(source.id, []), repeats.get(source.id, []), budget
    )


def _build_message(
    row: Row[Any],
    mails: list[OutgoingMail],
    files: list[AttachedFile],
    repeats: list[tuple[int, datetime]],
    budget: _TextBudget,
) -> MessageEntry:
    newest, quoted = _split_quotes(row.text, row.reply_text)
    text, rest = budget.fit(newest), budget.fit(quoted)
    details = [
        (str(label)[:200], budget.fit(str(value))) for label, value in row.details[:MAX_DETAILS]
    ]
    cut = (
        len(text) < len(newest)
        or len(rest) < len(quoted)
        or row.length > MAX_FETCHED_LENGTH
        or len(row.details) > MAX_DETAILS
    )
    return MessageEntry(
        at=row.at,
        number=row.id,
        direction=row.direction,
        format=row.format,
        sender=row.from_name[:200],
        email=row.from_email[:320],
        phone=row.phone[:200],
        subject=row.subject[:300],
        text=text,
        quoted_text=rest,
        is_cut=cut,
        has_html=bool(row.html),
        details=details,
        caveats=row.caveats[:20],
        files=files[:50],
        sent_at=row.sent_at,
        mails=mails,
        judgement=row.judgement,
        signs=evidence.describe(row.signs),
        repeats=repeats,
        recipients=_describe_recipients(row.to, row.cc),
        route=row.route,
        sent_by=present_person(row.sent_by_name, row.sent_by_email)[:500],
        customer=row.customer_email[:320],
        opens_details=not text
        or any(caveat.startswith(secure_links.CAVEAT_START) for caveat in row.caveats),
    )


def _describe_recipients(to: Sequence[Sequence[str]], cc: Sequence[Sequence[str]]) -> str:
    """Return To and Cc of a message as text, the first few people of each.

    The tokens of our reply addresses are left out: they say nothing to a reader.
    """
    parts = []
    for label, people in (("to", to), ("cc", cc)):
        names = [present_person(name, remove_token(email))[:200] for name, email in people]
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            parts.append(f"{label} {', '.join(names[:MAX_NAMED])}{more}")
    return " · ".join(parts)


def _split_quotes(text: str, reply: str) -> tuple[str, str]:
    """Return the new text of a message, and the quotes and signature after it.

    All of it is new text where the reply could not be separated.
    """
    if not reply.strip():
        return text, ""
    if text.startswith(reply):
        return reply, text[len(reply) :].strip("\n")
    return reply, text if reply.strip() != text.strip() else ""


def _measure_rendered(text: str) -> int:
    return len(str(escape(text)).encode())
