"""Differences between a message or its ticket and what its bytes are parsed as now."""

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
from workflow.database.locks import lock_ticket
from workflow.filing import forms, linked_files, threading
from workflow.filing.attachments import build_attachment_row, store_attachment
from workflow.filing.file_item import (
    MAX_SUBJECT,
    REUSED_ID_CAVEAT,
    build_content_row,
    build_link,
)
from workflow.models.core import Company, Delivery, Message, StoredAttachment, Ticket
from workflow.process import TICKET_NAME, UNKNOWN_COMPANY
from workflow.tickets.desk import Desk

ApplyChange = Callable[[Session, datetime], None]

COLUMN_LABELS = {  # columns of a message, in words of staff
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
    """A field that differs, both values as text, one line an entry where it is a list.

    `apply` writes the new value.
    """

    name: str
    before: str = field(repr=False)  # PHI
    after: str = field(repr=False)  # PHI
    apply: ApplyChange = field(repr=False, compare=False)


def compare_message(
    desk: Desk, message: Message, item: InboundItem, delivery: Delivery
) -> Iterator[FieldChange]:
    """Yield what differs on the timeline. `delivery` is the one that the item was parsed from."""
    session = object_session(message)
    if session is not None:
        item = forms.add_changes(session, item, before=message.id)
    columns = build_content_row(item)
    columns["caveats"] = [*item.caveats, *(c for c in message.caveats if c == REUSED_ID_CAVEAT)]
    for column, value in columns.items():
        before = getattr(message, column)
        if before != value:
            yield FieldChange(
                COLUMN_LABELS.get(column, column),
                _to_text(before),
                _to_text(value),
                partial(_apply_column, message, column, value),
            )
    before_files = _describe_files(_list_own_attachments(message))
    after_files = _describe_files(item.attachments)
    if before_files != after_files:
        yield FieldChange(
            "attachments",
            _to_text(before_files),
            _to_text(after_files),
            partial(_apply_files, desk, message, item, delivery),
        )


def compare_identity(
    session: Session, message: Message, item: InboundItem
) -> tuple[list[FieldChange], list[str]]:
    """Return the change of the message's key, and a note where it cannot change.

    The key holds a digest of the content: the same message coming by another way, parsed as today,
    must match it again.
    """
    if threading.build_message_id(item) != message.message_id:
        return [], [ID_DIFFERS]
    keys = threading.build_keys(item)
    if keys is None or message.external_id in {keys.own, keys.shared, *keys.legacy}:
        return [], []
    key, other = _choose_key(session, message, item, keys)
    if other is not None:
        return [], [SAME_AS_ANOTHER.format(other.id, other.ticket_id)]
    before, after = ((k or "").rpartition("#")[2][:12] for k in (message.external_id, key))
    return [FieldChange("content digest", before, after, partial(_apply_key, message, key))], []


def _choose_key(
    session: Session, message: Message, item: InboundItem, keys: threading.MessageKeys
) -> tuple[str, Message | None]:
    """Return the key that the message should get, and another message that has it, or None."""
    other = _find_other_with(session, message, keys.own)
    if other is not None or not keys.shared:
        return keys.own, other
    first = _find_other_with(session, message, keys.shared)
    if first is None:
        return keys.shared, None
    if threading.has_different_id(item, first.message_id):
        return keys.own, None
    return keys.shared, first


def _find_other_with(session: Session, message: Message, key: str) -> Message | None:
    """Return another message that has this key, or None."""
    same = select(Message).where(Message.format == message.format, Message.external_id == key)
    return session.scalar(same.where(Message.id != message.id))


def compare_ticket(
    desk: Desk, session: Session, ticket: Ticket, message: Message, item: InboundItem
) -> Iterator[FieldChange]:
    """Yield what differs on the ticket that this message opened.

    Missing values are filled in, existing ones stay; so does a subject that is no longer the
    message's own.
    """
    subject = item.subject[:MAX_SUBJECT]
    if ticket.subject == message.subject[:MAX_SUBJECT] != subject:
        yield FieldChange(
            "ticket's subject",
            ticket.subject,
            subject,
            partial(_apply_column, ticket, "subject", subject),
        )
    company = _find_company(session, ticket, item)
    if company is not None:
        yield FieldChange("practice", "", company.name, partial(_apply_company, ticket, item))
    caveats = _Caveats(message, item, company)
    if set(after := caveats.merge(ticket.caveats)) != set(ticket.caveats):
        yield FieldChange(
            "ticket's caveats",
            _to_text(ticket.caveats),
            _to_text(after),
            partial(caveats.apply, ticket),
        )
    for column, value in _list_fillable_columns(desk, item).items():
        if value and not getattr(ticket, column):
            yield FieldChange(
                column.partition("_")[0],
                "",
                _to_text(value),
                partial(_apply_column, ticket, column, value),
            )
    if not ticket.contacts and directory.is_valid_address(item.contact.key):
        yield FieldChange(
            "contact", "", item.contact.key, partial(_apply_contact, desk, ticket, item)
        )


def _list_fillable_columns(desk: Desk, item: InboundItem) -> dict[str, str | bool]:
    """Return the values for columns of the ticket that are filled in where they are empty."""
    is_automated = item.is_automated or evidence.is_unread_address(item.contact.key)
    return {
        "link": build_link(desk, item),
        "thread_id": item.thread_id[:200],
        "telemedicine": item.telemedicine,
        "automated": is_automated,
    }


def _find_company(session: Session, ticket: Ticket, item: InboundItem) -> Company | None:
    """Return the practice that the ticket lacks and the item names; a new row if unknown."""
    if ticket.company_id is not None:
        return None
    lookup = directory.CustomerLookup(session)
    known = directory.find_named_company(lookup, item)
    is_new = item.format is not Format.MAIL and directory.build_company_key(item.company)
    if known is None and is_new:
        if directory.find_near_companies(lookup, item.company, item.company_number):
            return None  # a person decides, by the caveat that the ticket has since it was opened
        return Company(name=item.company.strip())
    return known


class _Caveats:
    """The caveats of a ticket, with those of its first message replaced by the present ones."""

    def __init__(self, message: Message, item: InboundItem, company: Company | None) -> None:
        # remains true, however the message is parsed
        self._old = {*message.caveats} - {REUSED_ID_CAVEAT}
        self._new = [*item.caveats]
        self._has_company = company is not None
        if company is not None:
            self._old.add(NO_COMPANY)
            self._new += [NO_MANAGER] if company.manager_id is None else []

    def merge(self, caveats: Sequence[str]) -> list[str]:
        """Return the ticket's caveats as they should be."""
        kept = [c for c in caveats if c not in self._old and not self._is_decided(c)]
        return list(dict.fromkeys([*self._new, *kept]))

    def _is_decided(self, caveat: str) -> bool:
        """Return whether a caveat asks which practice it is, and that is known now."""
        return self._has_company and directory.is_near_caveat(caveat)

    def apply(self, ticket: Ticket, session: Session, now: datetime) -> None:
        """Write the merged caveats."""
        del now
        lock_ticket(session, ticket)  # a caveat added meanwhile must not get lost
        ticket.caveats = self.merge(ticket.caveats)


# -- applying ----


def _apply_column(
    row: Message | Ticket, column: str, value: object, session: Session, now: datetime
) -> None:
    """Write one column."""
    del session, now
    setattr(row, column, value)
    if isinstance(row, Message):
        row.search_words = phone_numbers.build_search_words(
            row.phone, row.text, row.details, row.format
        )


def _apply_files(
    desk: Desk,
    message: Message,
    item: InboundItem,
    delivery: Delivery,
    session: Session,
    now: datetime,
) -> None:
    """Replace a message's files; rows of files still in it stay, since links hold their ids."""
    del now
    remaining = _list_own_attachments(message)
    for attachment in item.attachments:
        same = next((row for row in remaining if row.sha256 == attachment.sha256), None)
        if same is None:
            stored = store_attachment(desk.blob_store, attachment, delivery)
            message.attachments.append(stored)
            continue
        remaining.remove(same)
        for column, value in build_attachment_row(attachment).items():
            setattr(same, column, value)
    for row in remaining:
        session.delete(row)
    session.flush()
    session.expire(message, ["attachments"])


def _apply_key(message: Message, key: str, session: Session, now: datetime) -> None:
    """Write the message's key, unless another message has it by now."""
    del now
    session.flush()
    try:
        with session.begin_nested():
            message.external_id = key
    except IntegrityError:
        # another message got this key meanwhile: both stay, this one as it was
        session.refresh(message, ["external_id"])


def _apply_company(ticket: Ticket, item: InboundItem, session: Session, now: datetime) -> None:
    """Set the ticket's company."""
    lookup = directory.CustomerLookup(session)
    ticket.company = directory.find_or_create_company(lookup, item, now).company
    if ticket.company is not None:
        ticket.named_company, ticket.named_number, ticket.near_companies = "", "", []
    if ticket.company is not None and ticket.name == TICKET_NAME.format(company=UNKNOWN_COMPANY):
        ticket.name = TICKET_NAME.format(company=ticket.company.name)


def _apply_contact(
    desk: Desk, ticket: Ticket, item: InboundItem, session: Session, now: datetime
) -> None:
    """Add the item's contact to the ticket."""
    by_staff, records = item.format is Format.PHONE, directory.CustomerLookup(session)
    contact = directory.find_or_create_contact(
        records, item.contact, item.phone, ticket.company, is_confirmed=by_staff, now=now
    )
    if contact is not None:
        desk.add_contact(
            session, ticket, contact, share_activity=contact.email not in item.unshared_addresses
        )


def _list_own_attachments(message: Message) -> list[StoredAttachment]:
    """Return the files that came with the bytes of a message.

    Those fetched by its links are not in the bytes, and stay.
    """
    session = object_session(message)
    others = (
        linked_files.list_fetched_attachments(session, message)
        if session is not None and message.attachments
        else set()
    )
    return [one for one in message.attachments if one.id not in others]


# -- as text ----


def _to_text(value: Any) -> str:
    """Return a value as text."""
    if isinstance(value, list):
        return "\n".join(": ".join(one) if isinstance(one, list) else str(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value or "")


def _describe_files(files: Sequence[Attachment] | Sequence[StoredAttachment]) -> list[str]:
    """Return a line for each file, sorted, so that their order does not matter."""
    return sorted(
        f"{f.name}, {f.mime[:255]}, {f.size} bytes, sha256 {f.sha256[:12]}"
        f"{', inline' if f.inline else ''}{f', cid {f.content_id}' if f.content_id else ''}"
        for f in files
    )
