"""Which ticket an item belongs to: by our signed token or a message it answers, for a sender who belongs there."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from parsers.item import Format, InboundItem
from workflow import people
from workflow.keys import Signer
from workflow.models import Message, Outgoing, Ticket
from workflow.states import Status

TICKET = "t"
BOUNCE = "bounce"
OUTBOX = "outbox"
_PLUS = re.compile(r"\+(t|bounce)-([0-9]{1,18}-[0-9a-f]{24})@", re.IGNORECASE)  # some systems write capitals
_OURS = re.compile(r"outbox-([0-9]{1,18}-[0-9a-fA-F]{24})@")
_MOST = 200  # addresses or references looked at
_READ = 100_000  # characters of a report searched for the mail it is about
_KEY = 300  # characters of an id kept as they are


@dataclass(frozen=True)
class Match:
    """The ticket an item joins, or the one it is possibly about, or neither."""

    ticket: Ticket | None = None
    possibly: Ticket | None = None


def identity(item: InboundItem) -> str:
    """The sender's own id of an item, bounded; "" if it has none."""
    if len(item.external_id) <= _KEY:
        return item.external_id
    return hashlib.sha256(item.external_id.encode()).hexdigest()


def message_key(item: InboundItem) -> str | None:
    """What makes a timeline message the same one whichever way it came: id and content.

    The id alone is not enough (a reused Message-ID must not swallow a new mail), the content alone neither. None when
    there is nothing to tell two apart by: then only the bytes themselves are compared, at the door.
    """
    if not item.external_id and (item.format is not Format.MAIL or item.sent_at is None):
        return None
    parts = [item.sender.key, item.subject, item.plain or item.text, *(a.sha256 for a in item.attachments)]
    if item.sent_at is not None:
        parts.append(item.sent_at.isoformat())
    if item.format is Format.PHONE:  # sent again with another number or name, a call is no duplicate
        parts += [item.phone, *(value for _, value in item.details)]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{identity(item)}#{digest[:32]}"


def origin(item: InboundItem) -> str | None:
    """What a ticket is opened by at most once.

    Formstack numbers its submissions itself: webhook and backfill may read different senders out of one, not two.
    """
    if not item.external_id:
        return None
    whose = "" if item.format is Format.FORMSTACK else item.sender.key[:400]
    return f"{item.format}:{identity(item)}:{whose}"


def thread(item: InboundItem) -> str:
    """The secure-message thread of an item, as a ticket keeps it; "" for none."""
    return item.thread_id[:200]


def in_thread(records: people.Records, item: InboundItem, company: str | None) -> bool:
    """Whether an item whose thread a ticket has is for the ticket's company too, by its key; None: it has none.

    The practice is the one its number says, else its name; where a row names none, that of its sender.
    """
    if company is None:
        return True
    named = people.company_named(records, item)
    if not (item.company or item.company_number):
        named = people.company_of_address(records, item.contact.key)
    return named is not None and named.key == company


def stands_alone(item: InboundItem, envelope: dict[str, Any]) -> bool:
    """Whether an item names no mail or ticket of ours: only its own id and its thread say where it belongs."""
    names = item.message_id or item.in_reply_to or item.references
    return not (names or item.is_bounce or item.attachments or _tokens(item, envelope))


@dataclass(frozen=True)
class OurMail:
    """The mail of ours an item is about, by each way it can name one: numbers of the outbox, or None."""

    itself: int | None  # its own Message-ID carries our signature
    return_path: int | None  # it came to the return path of that mail
    answered: int | None  # In-Reply-To or References name it
    quoted: int | None  # its text names it
    attached: int | None  # a message or text that came with it names it

    @property
    def number(self) -> int | None:
        """The mail a report is about, the surest way first."""
        ways = (self.return_path, self.attached, self.quoted, self.answered)
        return next((number for number in ways if number is not None), None)


def our_mail(item: InboundItem, envelope: dict[str, Any], signer: Signer) -> OurMail:
    """Return which mail of ours an item names. Only our own signature counts: nobody can make one up."""
    to_us = (signer.number(BOUNCE, token) for kind, token in _tokens(item, envelope) if kind == BOUNCE)
    parts = [a.content[:_READ].decode("latin-1") for a in item.attachments if a.mime.startswith(("message/", "text/"))]

    def named_in(*texts: str) -> int | None:
        tokens = (token for text in texts for token in _OURS.findall(text)[:_MOST])
        return next((n for token in tokens if (n := signer.number(OUTBOX, token)) is not None), None)

    return OurMail(
        itself=named_in(item.message_id),
        return_path=next((n for n in to_us if n is not None), None),
        answered=named_in(item.in_reply_to, *item.references[:_MOST]),
        quoted=named_in(item.text[:_READ]),
        attached=named_in(*parts),
    )


def find(session: Session, item: InboundItem, envelope: dict[str, Any], signer: Signer, *, forged: bool) -> Match:
    """Which open or finished ticket this item belongs to (mail rules); a forged sender belongs nowhere."""
    same = None if forged else _same_item(session, item) or _secure_thread(session, item)
    if same is not None:
        return Match(ticket=_merged_into(session, same))
    answered = _by_token(session, item, envelope, signer) or _by_reference(session, item)
    if answered is None:
        return Match()
    ticket = _merged_into(session, answered)
    known = not forged and people.belongs(session, item.contact.key, ticket)
    return Match(ticket=ticket) if known else Match(possibly=ticket)


def _merged_into(session: Session, ticket: Ticket) -> Ticket:
    while ticket.status is Status.MERGED and ticket.merged_into_id:
        ticket = session.get_one(Ticket, ticket.merged_into_id)
    return ticket


def _same_item(session: Session, item: InboundItem) -> Ticket | None:
    if item.format is Format.FORMSTACK and item.external_id:
        one = select(Message.ticket_id).where(Message.format == item.format, Message.message_id == identity(item))
        number = session.scalar(one.order_by(Message.id).limit(1))
        return session.get(Ticket, number) if number else None
    made_by = origin(item)
    return session.scalar(select(Ticket).where(Ticket.origin == made_by)) if made_by else None


def _secure_thread(session: Session, item: InboundItem) -> Ticket | None:
    if not item.thread_id:
        return None
    open_ones = select(Ticket).where(Ticket.thread_id == thread(item), Ticket.status == Status.OPEN)
    found = session.scalars(open_ones.order_by(Ticket.id))
    records = people.Records(session)
    return next((t for t in found if in_thread(records, item, t.company.key if t.company else None)), None)


def _by_token(session: Session, item: InboundItem, envelope: dict[str, Any], signer: Signer) -> Ticket | None:
    for kind, token in _tokens(item, envelope):
        number = signer.number(kind, token)
        if number is not None and kind == TICKET:
            return session.get(Ticket, number)
        if number is not None:  # the return path of a mail of ours
            sent = session.get(Outgoing, number)
            return sent.ticket if sent is not None else None
    for name in (item.in_reply_to, *reversed(item.references[-_MOST:])):
        for token in _OURS.findall(name):
            number = signer.number(OUTBOX, token)
            mail = session.get(Outgoing, number) if number is not None else None
            if mail is not None:
                return mail.ticket
    return None


def _by_reference(session: Session, item: InboundItem) -> Ticket | None:
    names = [n.strip().strip("<>") for n in (item.in_reply_to, *reversed(item.references[-_MOST:]))]
    names = [n for n in names if "@" in n and len(n) <= _KEY]
    if not names:
        return None
    rows = session.execute(select(Message.message_id, Message.ticket_id).where(Message.message_id.in_(names)))
    found = dict(rows.all())
    first = next((found[n] for n in names if n in found), None)
    return session.get(Ticket, first) if first else None


def _tokens(item: InboundItem, envelope: dict[str, Any]) -> list[tuple[str, str]]:
    given = envelope.get("rcpt_to")
    heard = [str(a) for a in given] if isinstance(given, list) else []
    written = [a.email for a in (*item.to[:_MOST], *item.cc[:_MOST])]
    found = (_PLUS.search(address) for address in [*heard[:_MOST], *written])
    return [(m[1].lower(), m[2]) for m in found if m]
