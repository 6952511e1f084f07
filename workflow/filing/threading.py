"""Which ticket an item belongs to.

By our signed token or a message it answers, for a sender who belongs there.
"""

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from parsers.item import Format, InboundItem
from workflow.customers import directory
from workflow.models.core import Company, Message, OutgoingMail, Ticket
from workflow.models.states import Status
from workflow.runtime.crypto import BOUNCE, OUTBOX, TICKET, Signer

_PLUS = re.compile(
    r"\+(t|bounce)-([0-9]{1,18}-[0-9a-f]{24})@", re.IGNORECASE
)  # some systems write capitals
_OURS = re.compile(r"outbox-([0-9]{1,18}-[0-9a-fA-F]{24})@")
# The field that names a mail itself, in its header or where a report quotes it: References name
# others.
_OWN_NAME = re.compile(
    r"^[> \t]*(?:x-)?(?:original-)?message-id:[ \t]*(?:\r?\n[ \t]+)?(\S+)",
    re.IGNORECASE | re.MULTILINE,
)
_MOST = 200  # addresses or references looked at
_READ = 100_000  # characters of a report searched for the mail it is about
_KEY = 300  # characters of an id kept as they are


@dataclass(frozen=True)
class TicketMatch:
    """The ticket an item joins, or the one it is possibly about, or neither."""

    ticket: Ticket | None = None
    related: Ticket | None = None
    merged_ticket: Ticket | None = None  # the merged ticket that led to the one it joins


# -- when two messages are the same (docs/decisions/0016) ----

# A row's id stands for its content where the export gives none, or gives one to several rows.
_ID_OF_CONTENT = re.compile(r"row-[0-9a-f]{64}|.*#[0-9a-f]{16}", re.DOTALL)
# Of rows of one file that say the same but for their details, the second and further ones.
_OTHER_DETAILS = re.compile(r"row-[0-9a-f]{64}#([0-9a-f]{16})")
_BY_CONTENT = "content"  # stands before the # in the key of the first message with some content


def build_message_id(item: InboundItem) -> str:
    """The sender's own id of an item, bounded; "" if it has none."""
    return _bounded(item.external_id)


def _bounded(name: str) -> str:
    return name if len(name) <= _KEY else hashlib.sha256(name.encode()).hexdigest()


def _identifies(name: str) -> bool:
    """Say whether an id tells a row from others with the same content."""
    return bool(name) and _ID_OF_CONTENT.fullmatch(name) is None


@dataclass(frozen=True, slots=True)
class MessageKeys:
    """What a message is told from all others by, in the column `messages.external_id`.

    `own` is the key of a message with its own id. `shared` is that of the first message with some
    content, whatever its id is; "" where the id alone matters. `earlier` are the keys of releases
    before 0016, which left out the practice and a sender's name.
    """

    own: str
    shared: str = ""
    legacy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageIdentity:
    """A message on record, as far as it takes to compare it with an item."""

    message_id: str  # messages.message_id
    from_name: str
    company_key: str | None  # the key of its ticket's company


Row = TypeVar("Row")


def has_different_id(item: InboundItem, name: str) -> bool:
    """Say whether their own ids tell an item from a message of the same content.

    Both have one, and not the same.
    """
    mine = build_message_id(item)
    return _identifies(mine) and _identifies(name) and mine != name


def build_keys(item: InboundItem) -> MessageKeys | None:
    """Return what makes a timeline message the same one whichever way it came: id and content.

    The id alone is not enough (a reused Message-ID must not swallow a new mail), the content alone
    neither. None when there is nothing to tell two apart by: then only the bytes themselves are
    compared, at the door.
    """
    if not item.external_id and (item.format is not Format.MAIL or item.sent_at is None):
        return None
    name, content = build_message_id(item), _content(item)
    earlier = f"{name}#{content}"
    if item.format is Format.FORMSTACK:
        return MessageKeys(f"{name}#{_content(item, practice=True)}", legacy=(earlier,))
    if item.format is not Format.SECURE_MESSAGE:
        return MessageKeys(earlier)
    whole = _content(item, practice=True)
    if (other := _OTHER_DETAILS.fullmatch(item.external_id)) is not None:
        return MessageKeys(f"{other[1]}#{whole}", legacy=(earlier,))
    shared = f"{_BY_CONTENT}#{whole}"
    own = f"{name}#{whole}" if _identifies(name) else shared
    given = (f"{_bounded(item.unreliable_id)}#{content}",) if item.unreliable_id else ()
    return MessageKeys(own, shared, (earlier, *given))


def build_message_key(item: InboundItem) -> str | None:
    """The key of a message by its own id and content.

    None when there is nothing to tell two apart by.
    """
    keys = build_keys(item)
    return keys.own if keys is not None else None


def build_stored_key(message: Message) -> str | None:
    """The key of a message on record by its own id and content.

    As `build_message_key` has it for an item.
    """
    before, mark, whole = (message.external_id or "").rpartition("#")
    if before == _BY_CONTENT and _identifies(message.message_id):
        return f"{message.message_id}{mark}{whole}"
    return message.external_id


def _content(item: InboundItem, *, practice: bool = False) -> str:
    """Digest what an item says, 32 hexadecimal digits.

    With `practice` also for which practice and who says it.
    """
    parts = [
        item.sender.key,
        item.subject,
        item.plain or item.text,
        *(a.sha256 for a in item.attachments),
    ]
    if item.sent_at is not None:
        parts.append(item.sent_at.isoformat())
    if (
        item.format is Format.PHONE
    ):  # sent again with another number or name, a call is no duplicate
        parts += [item.phone, *(value for _, value in item.details)]
    if (
        practice
    ):  # two files of one export may differ in white space: one is text, the other a workbook
        parts = [" ".join(part.split()) for part in parts]
        number = item.company_number.strip()  # Excel drops the zeros before it
        practice_key = number.lstrip("0") or number or directory.build_company_key(item.company)
        parts += ["practice", practice_key, _folded(item.sender.name)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def find_duplicate(
    records: directory.CustomerLookup,
    item: InboundItem,
    keys: MessageKeys | None,
    look_up: Callable[[str], tuple[Row, MessageIdentity] | None],
) -> tuple[str | None, Row | None]:
    """The key under which the message of an item is to be kept.

    And the message on record that it repeats, if any.

    One that repeats another has the same practice, sender, date and content, and no other id of its
    own: an id counts only together with these, so a clash is another message. Filing one by one and
    many at once both ask here; the unique index on the key decides between two who file at the same
    time.
    """
    if keys is None:
        return None, None
    if (same := look_up(keys.own)) is not None:
        return keys.own, same[0]
    free = keys.own
    if keys.shared:
        first = look_up(keys.shared)
        if first is None:
            free = keys.shared
        elif not has_different_id(item, first[1].message_id):
            return keys.shared, first[0]
    for key in keys.legacy:
        known = look_up(key)
        if known is not None and _of_same_practice_and_sender(records, item, known[1]):
            return key, known[0]
    return free, None


def _of_same_practice_and_sender(
    records: directory.CustomerLookup, item: InboundItem, known: MessageIdentity
) -> bool:
    """Say whether a message of before 0016 has the practice and sender that its key leaves out."""
    if item.format is Format.FORMSTACK:  # its id is unique already
        return (
            not has_practice(item)
            or known.company_key is None
            or is_for_company(records, item, known.company_key)
        )
    return _folded(known.from_name) == _folded(item.sender.name) and is_for_company(
        records, item, known.company_key
    )


def build_origin(item: InboundItem) -> str | None:
    """Return what a ticket is opened by at most once.

    Formstack numbers its submissions itself: webhook and backfill may read different senders out of
    one, not two.
    """
    if not item.external_id:
        return None
    if item.format is Format.SECURE_MESSAGE:
        return f"{item.format}:{build_message_key(item)}"
    whose = "" if item.format is Format.FORMSTACK else item.sender.key[:400]
    return f"{item.format}:{build_message_id(item)}:{whose}"


# -- whose an item is ----


def build_thread_id(item: InboundItem) -> str:
    """The secure-message thread of an item, as a ticket keeps it; "" for none."""
    return item.thread_id[:200]


def is_for_company(
    records: directory.CustomerLookup, item: InboundItem, company: str | None
) -> bool:
    """Say whether an item is for the company with this key, or, with None, for none that is known.

    The practice is the one its number says, else its name; where an item names none, that of its
    sender.
    """
    if has_practice(item):
        named = directory.find_named_company(records, item)
        return named is not None and named.key == company
    own: Company | None = directory.find_company_of_address(records, item.contact.key)
    return (own.key if own is not None else None) == company


def has_practice(item: InboundItem) -> bool:
    """Say whether an item names a practice itself, by name or number."""
    return bool(item.company or item.company_number)


def fold_sender(name: str, email: str) -> tuple[str, str]:
    """A sender as two messages are compared by: name and address folded."""
    return _folded(name), email.strip().casefold()


def may_join_thread(
    records: directory.CustomerLookup,
    item: InboundItem,
    company: str | None,
    senders: Collection[tuple[str, str]],
) -> bool:
    """Say whether an item goes onto the open ticket that has its thread.

    A thread id from outside counts only within a practice. Where the ticket's practice is not
    known, and the item names none either, only one of those who wrote on the ticket goes on with
    it.
    """
    if not is_for_company(records, item, company):
        return False
    if company is not None:
        return True
    sender = fold_sender(item.sender.name, item.contact.email)
    return sender in senders and any(sender)


def is_standalone(item: InboundItem, envelope: dict[str, Any]) -> bool:
    """Return whether an item names no mail or ticket of ours.

    Only its own id and its thread say where it belongs.
    """
    names = item.message_id or item.in_reply_to or item.references
    return not (names or item.is_bounce or item.attachments or _tokens(item, envelope))


@dataclass(frozen=True)
class OurMailReferences:
    """The mail of ours an item is about, by each way it can name one.

    Numbers of the outbox, or None.
    """

    own_id: int | None  # its own Message-ID carries our signature
    return_path: int | None  # it came to the return path of that mail
    in_reply_to: int | None  # In-Reply-To or References name it
    quoted: int | None  # its text begins with the Message-ID of it, before that of any other mail
    attached: int | None  # it came along: as a message, or its header

    @property
    def mail_id(self) -> int | None:
        """The mail a report is about, the surest way first."""
        ways = (self.return_path, self.attached, self.quoted, self.in_reply_to)
        return next((number for number in ways if number is not None), None)


def find_our_mail(item: InboundItem, envelope: dict[str, Any], signer: Signer) -> OurMailReferences:
    """Return which mail of ours an item names.

    Only our own signature counts: nobody can make one up.
    """
    to_us = (
        signer.verify_token(BOUNCE, token)
        for kind, token in _tokens(item, envelope)
        if kind == BOUNCE
    )
    parts = [
        a.content[:_READ].decode("latin-1")
        for a in item.attachments
        if a.mime.startswith(("message/", "text/"))
    ]

    def named_in(*texts: str) -> int | None:
        tokens = (token for text in texts for token in _OURS.findall(text)[:_MOST])
        return next(
            (n for token in tokens if (n := signer.verify_token(OUTBOX, token)) is not None), None
        )

    def itself_in(*texts: str) -> int | None:
        """The first Message-ID of each text is that of the mail it is.

        What it refers to may be ours, too.
        """
        names = (found[1] for text in texts if (found := _OWN_NAME.search(text)) is not None)
        return named_in(*names)

    return OurMailReferences(
        own_id=named_in(item.message_id),
        return_path=next((n for n in to_us if n is not None), None),
        in_reply_to=named_in(item.in_reply_to, *item.references[:_MOST]),
        quoted=itself_in(item.text[:_READ]),
        attached=itself_in(*parts),
    )


def find_ticket(
    session: Session, item: InboundItem, envelope: dict[str, Any], signer: Signer, *, forged: bool
) -> TicketMatch:
    """Return which open or finished ticket this item belongs to (mail rules).

    A forged sender belongs nowhere.

    However the ticket is found, the item joins it only if it is that ticket's to have: the ticket
    may have been merged into another one, and an id from outside may have been used before.
    """
    if not forged and (same := _same_item(session, item)) is not None:
        ticket = follow_merges(session, same)
        if not _is_same_customers(session, item, ticket):
            return TicketMatch(related=ticket)
        return TicketMatch(ticket=ticket, merged_ticket=same if same is not ticket else None)
    if not forged and (of_thread := _secure_thread(session, item)) is not None:
        return TicketMatch(ticket=of_thread)
    answered = _by_token(session, item, envelope, signer) or _by_reference(session, item)
    if answered is None:
        return TicketMatch()
    ticket = follow_merges(session, answered)
    joins = not forged and _may_answer(session, item, ticket)
    if not joins:
        return TicketMatch(related=ticket)
    return TicketMatch(ticket=ticket, merged_ticket=answered if answered is not ticket else None)


def _may_answer(session: Session, item: InboundItem, ticket: Ticket) -> bool:
    """Say whether the sender of what answers a ticket belongs to it.

    And names no other practice.
    """
    if not directory.may_join_ticket(session, item.contact.key, ticket):
        return False
    return (
        item.format is Format.MAIL
        or not has_practice(item)
        or _is_for_ticket(session, item, ticket)
    )


def _is_same_customers(session: Session, item: InboundItem, ticket: Ticket) -> bool:
    """Say whether an item with the id of one on this ticket may come from the same customer.

    Formstack and our own call form number for everybody, and of two readings one may not find
    practice or sender: they are kept apart only where both sides name one.
    """
    if directory.may_join_ticket(session, item.contact.key, ticket) and not (
        item.format is not Format.MAIL and has_practice(item)
    ):
        return True
    if item.format is Format.MAIL:
        return False
    records = directory.CustomerLookup(session)
    theirs = {ticket.company} | {
        directory.find_company_of_address(records, one.contact.email) for one in ticket.contacts
    }
    keys = {company.key for company in theirs if company is not None}
    named = (
        has_practice(item)
        or directory.find_company_of_address(records, item.contact.key) is not None
    )
    return not (keys and named) or any(is_for_company(records, item, key) for key in keys)


def _is_for_ticket(session: Session, item: InboundItem, ticket: Ticket) -> bool:
    return is_for_company(
        directory.CustomerLookup(session), item, ticket.company.key if ticket.company else None
    )


def follow_merges(session: Session, ticket: Ticket) -> Ticket:
    """Return the ticket that goes on where this one was merged; itself where it was not."""
    while ticket.status is Status.MERGED and ticket.merged_into_id:
        ticket = session.get_one(Ticket, ticket.merged_into_id)
    return ticket


def _same_item(session: Session, item: InboundItem) -> Ticket | None:
    """The ticket that has an earlier message under the same id.

    Where the id comes from who numbers for everybody.

    The ids of workbook rows do not: the same row again is a duplicate (see `find_duplicate`), another one
    a new ticket.
    """
    if item.format is Format.SECURE_MESSAGE:
        return None
    if item.format is Format.FORMSTACK and item.external_id:
        whose = func.coalesce(Message.addressed_ticket_id, Message.ticket_id)
        one = select(whose).where(
            Message.format == item.format, Message.message_id == build_message_id(item)
        )
        number = session.scalar(one.order_by(Message.id).limit(1))
        return session.get(Ticket, number) if number else None
    made_by = build_origin(item)
    return session.scalar(select(Ticket).where(Ticket.origin == made_by)) if made_by else None


def _secure_thread(session: Session, item: InboundItem) -> Ticket | None:
    if not item.thread_id or item.format is not Format.SECURE_MESSAGE:
        return None
    open_ones = select(Ticket).where(
        Ticket.thread_id == build_thread_id(item), Ticket.status == Status.OPEN
    )
    found = session.scalars(open_ones.order_by(Ticket.id))
    records = directory.CustomerLookup(session)
    return next((t for t in found if may_join_thread(records, item, *_whose_thread(t))), None)


def _whose_thread(ticket: Ticket) -> tuple[str | None, set[tuple[str, str]]]:
    if ticket.company is not None:
        return ticket.company.key, set()
    return None, {
        fold_sender(m.from_name, m.from_email) for m in ticket.messages if m.direction == "in"
    }


def _by_token(
    session: Session, item: InboundItem, envelope: dict[str, Any], signer: Signer
) -> Ticket | None:
    for kind, token in _tokens(item, envelope):
        number = signer.verify_token(kind, token)
        if number is not None and kind == TICKET:
            return session.get(Ticket, number)
        if number is not None:  # the return path of a mail of ours
            sent = session.get(OutgoingMail, number)
            return sent.ticket if sent is not None else None
    for name in (item.in_reply_to, *reversed(item.references[-_MOST:])):
        for token in _OURS.findall(name):
            number = signer.verify_token(OUTBOX, token)
            mail = session.get(OutgoingMail, number) if number is not None else None
            if mail is not None:
                return mail.ticket
    return None


def _by_reference(session: Session, item: InboundItem) -> Ticket | None:
    names = [n.strip().strip("<>") for n in (item.in_reply_to, *reversed(item.references[-_MOST:]))]
    names = [n for n in names if "@" in n and len(n) <= _KEY]
    if not names:
        return None
    # What answers a message is for the ticket that one was for.
    whose = func.coalesce(Message.addressed_ticket_id, Message.ticket_id)
    rows = session.execute(select(Message.message_id, whose).where(Message.message_id.in_(names)))
    found = dict(rows.all())
    first = next((found[n] for n in names if n in found), None)
    return session.get(Ticket, first) if first else None


def _tokens(item: InboundItem, envelope: dict[str, Any]) -> list[tuple[str, str]]:
    given = envelope.get("rcpt_to")
    heard = [str(a) for a in given] if isinstance(given, list) else []
    written = [a.email for a in (*item.to[:_MOST], *item.cc[:_MOST])]
    found = (_PLUS.search(address) for address in [*heard[:_MOST], *written])
    return [(m[1].lower(), m[2]) for m in found if m]
