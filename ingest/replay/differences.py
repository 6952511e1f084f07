"""What of a message, and of the ticket it opened, reads otherwise when its bytes are read again.

And how to put it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, object_session

from parsers.item import Attachment, Format, InboundItem
from parsers.mail import evidence
from workflow.customers import directory, phone_numbers
from workflow.customers.records import NO_COMPANY, NO_MANAGER
from workflow.filing import linked_files, threading
from workflow.filing.file_item import (
    MAX_SUBJECT,
    REUSED_ID_CAVEAT,
    build_attachment_row,
    build_content_row,
    build_link,
    store_attachment,
)
from workflow.models.core import Company, Message, StoredAttachment, Ticket
from workflow.process import TICKET_NAME, UNKNOWN_COMPANY
from workflow.tickets.desk import Desk, lock_ticket

ApplyChange = Callable[[Session, datetime], None]

COLUMN_LABELS = {  # columns of a message, as staff call them
    "from_name": "sender's name",
    "from_email": "sender's address",
    "phone": "telephone number",
    "reply_text": "newest text",
    "sent_at": "date",
}
ID_DIFFERS = "its own id reads otherwise now: it keeps the one it has"
SAME_AS_ANOTHER = "it reads like message {} on ticket {} now: both stay"


@dataclass(frozen=True)
class FieldChange:
    """Something that reads otherwise, both sides as text, a line each where it is a list.

    `put` makes it so.
    """

    name: str
    before: str = field(repr=False)  # PHI
    after: str = field(repr=False)  # PHI
    apply: ApplyChange = field(repr=False, compare=False)


def compare_message(desk: Desk, message: Message, item: InboundItem) -> Iterator[FieldChange]:
    """Yield what the timeline shows of it otherwise."""
    columns = build_content_row(item)
    columns["caveats"] = [*item.caveats, *(c for c in message.caveats if c == REUSED_ID_CAVEAT)]
    for column, value in columns.items():
        before = getattr(message, column)
        if before != value:
            yield FieldChange(
                COLUMN_LABELS.get(column, column),
                _words(before),
                _words(value),
                partial(_set, message, column, value),
            )
    had, has = _files(_came_with(message)), _files(item.attachments)
    if had != has:
        yield FieldChange(
            "attachments", _words(had), _words(has), partial(_put_files, desk, message, item)
        )


def compare_identity(
    session: Session, message: Message, item: InboundItem
) -> tuple[list[FieldChange], list[str]]:
    """Return what it is told from other messages by, if that can follow its content.

    And a note where it cannot.

    Its content is a part of that: the same message coming by another way, read as it is read now,
    must meet it again.
    """
    if threading.build_message_id(item) != message.message_id:
        return [], [ID_DIFFERS]
    keys = threading.build_keys(item)
    if keys is None or message.external_id in {keys.own, keys.shared, *keys.legacy}:
        return [], []
    key = keys.own
    other = _other_with(session, message, key)
    if other is None and keys.shared:
        first = _other_with(session, message, keys.shared)
        if first is None:
            key = keys.shared
        elif not threading.has_different_id(item, first.message_id):
            other = first
    if other is not None:
        return [], [SAME_AS_ANOTHER.format(other.id, other.ticket_id)]
    before, after = ((k or "").rpartition("#")[2][:12] for k in (message.external_id, key))
    return [FieldChange("content digest", before, after, partial(_put_key, message, key))], []


def _other_with(session: Session, message: Message, key: str) -> Message | None:
    """Another message that has this key."""
    same = select(Message).where(Message.format == message.format, Message.external_id == key)
    return session.scalar(same.where(Message.id != message.id))


def compare_ticket(
    desk: Desk, session: Session, ticket: Ticket, message: Message, item: InboundItem
) -> Iterator[FieldChange]:
    """What the ticket that this message opened says otherwise.

    What was missing is filled in, what is there stays.

    Its subject stays too where it is not the message's own any more.
    """
    subject = item.subject[:MAX_SUBJECT]
    if ticket.subject == message.subject[:MAX_SUBJECT] != subject:
        yield FieldChange(
            "ticket's subject", ticket.subject, subject, partial(_set, ticket, "subject", subject)
        )
    company = _company(session, ticket, item)
    if company is not None:
        yield FieldChange("practice", "", company.name, partial(_put_company, ticket, item))
    caveats = _Caveats(message, item, company)
    if set(after := caveats.merged(ticket.caveats)) != set(ticket.caveats):
        yield FieldChange(
            "ticket's caveats", _words(ticket.caveats), _words(after), partial(caveats.put, ticket)
        )
    for column, value in _gaps(desk, item).items():
        if value and not getattr(ticket, column):
            yield FieldChange(
                column.partition("_")[0], "", _words(value), partial(_set, ticket, column, value)
            )
    if not ticket.contacts and directory.is_valid_address(item.contact.key):
        yield FieldChange(
            "contact", "", item.contact.key, partial(_put_contact, desk, ticket, item)
        )


def _gaps(desk: Desk, item: InboundItem) -> dict[str, str | bool]:
    automated = item.is_automated or evidence.is_unread_address(item.contact.key)
    return {
        "link": build_link(desk, item),
        "thread_id": item.thread_id[:200],
        "telemedicine": item.telemedicine,
        "automated": automated,
    }


def _company(session: Session, ticket: Ticket, item: InboundItem) -> Company | None:
    """The practice that the item names and the ticket lacks.

    As it is on record, or as it would be put there.
    """
    if ticket.company_id is not None:
        return None
    known = directory.find_named_company(directory.CustomerLookup(session), item)
    fresh = item.format is not Format.MAIL and directory.build_company_key(item.company)
    return known or (Company(name=item.company.strip()) if fresh else None)


class _Caveats:
    """The caveats of a ticket, those of its first message replaced by what it says now."""

    def __init__(self, message: Message, item: InboundItem, company: Company | None) -> None:
        self._old = {*message.caveats} - {
            REUSED_ID_CAVEAT
        }  # that stays true, whatever the message reads like
        self._new = [*item.caveats]
        if company is not None:
            self._old.add(NO_COMPANY)
            self._new += [NO_MANAGER] if company.manager_id is None else []

    def merged(self, caveats: Sequence[str]) -> list[str]:
        return list(dict.fromkeys([*self._new, *(c for c in caveats if c not in self._old)]))

    def put(self, ticket: Ticket, session: Session, now: datetime) -> None:
        del now
        lock_ticket(session, ticket)  # a caveat that a rule has added meanwhile must not get lost
        ticket.caveats = self.merged(ticket.caveats)


# -- putting ----


def _set(
    row: Message | Ticket, column: str, value: object, session: Session, now: datetime
) -> None:
    del session, now
    setattr(row, column, value)
    if isinstance(row, Message):
        row.search_words = phone_numbers.build_search_words(
            row.phone, row.text, row.details, row.format
        )


def _put_files(
    desk: Desk, message: Message, item: InboundItem, session: Session, now: datetime
) -> None:
    """Keep the rows of files that are still in it: their numbers may stand in links."""
    del now
    left = _came_with(message)
    for attachment in item.attachments:
        same = next((row for row in left if row.sha256 == attachment.sha256), None)
        if same is None:
            message.attachments.append(store_attachment(desk, attachment))
            continue
        left.remove(same)
        for column, value in build_attachment_row(attachment).items():
            setattr(same, column, value)
    for row in left:
        session.delete(row)
    session.flush()
    session.expire(message, ["attachments"])


def _put_key(message: Message, key: str, session: Session, now: datetime) -> None:
    del now
    session.flush()
    try:
        with session.begin_nested():
            message.external_id = key
    except (
        IntegrityError
    ):  # another message has come to read the same: both stay, this one as it was
        session.refresh(message, ["external_id"])


def _put_company(ticket: Ticket, item: InboundItem, session: Session, now: datetime) -> None:
    ticket.company = directory.find_or_create_company(directory.CustomerLookup(session), item, now)
    if ticket.company is not None and ticket.name == TICKET_NAME.format(company=UNKNOWN_COMPANY):
        ticket.name = TICKET_NAME.format(company=ticket.company.name)


def _put_contact(
    desk: Desk, ticket: Ticket, item: InboundItem, session: Session, now: datetime
) -> None:
    by_staff, records = item.format is Format.PHONE, directory.CustomerLookup(session)
    contact = directory.find_or_create_contact(
        records, item.contact, item.phone, ticket.company, vouched=by_staff, now=now
    )
    if contact is not None:
        desk.add_contact(
            session, ticket, contact, share_activity=contact.email not in item.unshared_addresses
        )


def _came_with(message: Message) -> list[StoredAttachment]:
    """The files that came with the bytes of a message.

    Those fetched by its links are not in them, and stay.
    """
    session = object_session(message)
    others = (
        linked_files.list_fetched_attachments(session, message)
        if session is not None and message.attachments
        else set()
    )
    return [one for one in message.attachments if one.id not in others]


# -- in words ----


def _words(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(": ".join(one) if isinstance(one, list) else str(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value or "")


def _files(files: Sequence[Attachment] | Sequence[StoredAttachment]) -> list[str]:
    """Everything a row says of each, in an order that does not depend on where it stands."""
    return sorted(
        f"{f.name}, {f.mime[:255]}, {f.size} bytes, sha256 {f.sha256[:12]}"
        f"{', inline' if f.inline else ''}{f', cid {f.content_id}' if f.content_id else ''}"
        for f in files
    )
