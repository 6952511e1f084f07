"""Threading: matching an item to the message it repeats and the ticket it belongs to.

A ticket is found by our signed token, by the message that the item answers or by its thread id, and
joined only by senders who belong to it.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from parsers.item import Direction, Format, InboundItem, Route
from parsers.mail import evidence
from parsers.mail.evidence import Meaning
from workflow.customers import company_names, company_numbers, directory
from workflow.filing import correspondents
from workflow.models.core import Company, Contact, Message, OutgoingMail, Ticket, TicketContact
from workflow.models.states import Status
from workflow.process import WRITTEN_BY_PERSON
from workflow.runtime.crypto import BOUNCE, OUTBOX, TICKET, Signer

# Our reply addresses and return paths. Some mail systems write them in capitals.
_REPLY_ADDRESS = re.compile(r"\+(t|bounce)-([0-9]{1,18}-[0-9a-f]{24})@", re.IGNORECASE)
_OUR_MESSAGE_ID = re.compile(r"outbox-([0-9]{1,18}-[0-9a-fA-F]{24})@")
# The field with the Message-ID of a mail itself, in its header or where a report quotes it, unlike
# References, which name other mails.
_OWN_MESSAGE_ID = re.compile(
    r"^[> \t]*(?:x-)?(?:original-)?message-id:[ \t]*(?:\r?\n[ \t]+)?(\S+)",
    re.IGNORECASE | re.MULTILINE,
)
# Numbers of tickets in words, as our subjects have them and as people write them.
_TICKET_IN_SUBJECT = re.compile(
    r"(?:\b(?:ticket|case)\s{0,3}(?:number|no|nr|id)?[.:]?\s{0,3}#?|#)\s{0,3}([0-9]{1,9})\b",
    re.IGNORECASE,
)
_TICKET_IN_TEXT = re.compile(r"\bBilling Support Ticket #([0-9]{1,9})\b")
_MAX_NAMED = 5  # tickets named in one mail that are looked up
# Limits, so that a hostile mail costs little. Real mails stay far below them.
_MAX_REFERENCES = 200  # addresses or references searched
_MAX_TEXT = 100_000  # characters of a report searched for the mail it is about
_MAX_ID = 300  # characters of an id stored as they are; a longer one is stored as its digest


@dataclass(frozen=True)
class TicketMatch:
    """The ticket an item joins, or the one it may be about without joining it, or neither.

    `merged_ticket` is the ticket that the item names, when that one was merged into `ticket`.
    `is_automatic_answer` says that it joins as a note, because a program has answered our mail.
    """

    ticket: Ticket | None = None
    related: Ticket | None = None
    merged_ticket: Ticket | None = None
    is_automatic_answer: bool = False


# -- when two messages are the same (docs/decisions/0016) ----

# Ids that the parser made of a row's content, because the export gives none, or gives one to
# several rows.
_ID_OF_CONTENT = re.compile(r"row-[0-9a-f]{64}|.*#[0-9a-f]{16}", re.DOTALL)
# Ids of the second and further rows of a file that differ in their details only.
_OTHER_DETAILS = re.compile(r"row-[0-9a-f]{64}#([0-9a-f]{16})")
_MAX_COPIES = 50  # messages of one id that are looked at
_CONTENT_PREFIX = "content"  # before the # in the key of the first message with some content


def build_message_id(item: InboundItem) -> str:
    """Return the sender's id of an item in the length of its column; "" when it has none."""
    return _bound(item.external_id)


def _bound(external_id: str) -> str:
    if len(external_id) <= _MAX_ID:
        return external_id
    return hashlib.sha256(external_id.encode()).hexdigest()


def _is_unique(message_id: str) -> bool:
    """Return whether an id distinguishes a row from others with the same content."""
    return bool(message_id) and _ID_OF_CONTENT.fullmatch(message_id) is None


@dataclass(frozen=True, slots=True)
class MessageKeys:
    """Deduplication keys of a message, values of the column `messages.external_id`.

    `own` is the key of a message with its own id. `shared` is the key of the first message with
    some content, whatever its id; "" where the id alone matters. `legacy` are the keys of releases
    before decision 0016, which left out the practice and the sender's name, and of those before
    names of practices had a normal form.
    """

    own: str
    shared: str = ""
    legacy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageIdentity:
    """The parts of a stored message that are compared with an item.

    `company_key` is that of its ticket's company.
    """

    message_id: str
    from_name: str
    company_key: str | None


MessageT = TypeVar("MessageT")


def has_different_id(item: InboundItem, message_id: str) -> bool:
    """Return whether an item and a message with the same content differ by their own ids."""
    own = build_message_id(item)
    return _is_unique(own) and _is_unique(message_id) and own != message_id


def build_keys(item: InboundItem) -> MessageKeys | None:
    """Return the keys by which an item is recognised when it comes again by any channel.

    They are made of id and content: a reused Message-ID must not hide a new mail, and neither may
    the same words sent twice. None when the item has neither id nor date; then only its bytes are
    compared, when the delivery is stored.
    """
    if not item.external_id and (item.format is not Format.MAIL or item.sent_at is None):
        return None
    message_id, content = build_message_id(item), _digest_content(item)
    plain = f"{message_id}#{content}"
    match item.format:
        case Format.FORMSTACK:
            own = f"{message_id}#{_digest_content(item, practice=True)}"
            with_folded = tuple(f"{message_id}#{digest}" for digest in _list_folded_digests(item))
            return MessageKeys(own, legacy=(*with_folded, plain))
        case Format.SECURE_MESSAGE:
            return _build_row_keys(item, message_id, content)
        case _:
            return MessageKeys(plain)


def _build_row_keys(item: InboundItem, message_id: str, content: str) -> MessageKeys:
    """Return the keys of a secure message, whose id may be missing or not its own."""
    plain = f"{message_id}#{content}"
    with_practice = _digest_content(item, practice=True)
    with_folded = _list_folded_digests(item)
    if (other := _OTHER_DETAILS.fullmatch(item.external_id)) is not None:
        legacy = (*(f"{other[1]}#{digest}" for digest in with_folded), plain)
        return MessageKeys(f"{other[1]}#{with_practice}", legacy=legacy)
    shared = f"{_CONTENT_PREFIX}#{with_practice}"
    own = f"{message_id}#{with_practice}" if _is_unique(message_id) else shared
    unreliable = (f"{_bound(item.unreliable_id)}#{content}",) if item.unreliable_id else ()
    prefixes = (message_id, _CONTENT_PREFIX)
    legacy = tuple(f"{prefix}#{digest}" for digest in with_folded for prefix in prefixes)
    return MessageKeys(own, shared, (*legacy, plain, *unreliable))


def build_message_key(item: InboundItem) -> str | None:
    """Return the `own` key of an item; None when it has no keys (`build_keys`)."""
    keys = build_keys(item)
    return keys.own if keys is not None else None


def build_stored_key(message: Message) -> str | None:
    """Return the `own` key of a stored message, as `build_message_key` does for an item.

    The first message with some content is stored under its shared key.
    """
    prefix, _, content = (message.external_id or "").rpartition("#")
    if prefix == _CONTENT_PREFIX and _is_unique(message.message_id):
        return f"{message.message_id}#{content}"
    return message.external_id


def _digest_content(item: InboundItem, *, practice: bool = False, folded: bool = False) -> str:
    """Return the digest of an item's content, 32 hexadecimal digits.

    With `practice` it covers the practice and the sender's name too; with `folded` the practice's
    name with its legal form, as keys did before names had a normal form.
    """
    parts = [
        item.sender.key,
        item.subject,
        item.plain or item.text,
        *(a.sha256 for a in item.attachments),
    ]
    if item.sent_at is not None:
        parts.append(item.sent_at.isoformat())
    if item.format is Format.PHONE:
        # A call that is entered again with another number or name is another call.
        parts += [item.phone, *(value for _, value in item.details)]
    if practice:
        # The CSV and the Excel file of one export may differ in white space, and Excel drops the
        # zeros at the beginning of a number.
        parts = [" ".join(part.split()) for part in parts]
        number = item.company_number.strip()
        name = company_names.fold if folded else directory.build_company_key
        practice_key = number.lstrip("0") or number or name(item.company)
        parts += ["practice", practice_key, _fold(item.sender.name)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _list_folded_digests(item: InboundItem) -> list[str]:
    """Return the digest with the folded name of the practice, if that makes a difference."""
    if item.company_number.strip():
        return []
    if company_names.fold(item.company) == directory.build_company_key(item.company):
        return []
    return [_digest_content(item, practice=True, folded=True)]


def _fold(name: str) -> str:
    return " ".join(name.casefold().split())


def find_duplicate(
    lookup: directory.CustomerLookup,
    item: InboundItem,
    keys: MessageKeys | None,
    find_message: Callable[[str], tuple[MessageT, MessageIdentity] | None],
) -> tuple[str | None, MessageT | None]:
    """Return the key under which to store an item's message, and the stored message it repeats.

    The message is None when the item is new. A duplicate has the same practice, sender, date and
    content, and no different id of its own; an id counts only together with these, so two mails
    with one id are two messages. Filing one by one and in bulk both use this function; the unique
    index on the key decides between two workers.
    """
    if keys is None:
        return None, None
    if (same := find_message(keys.own)) is not None:
        return keys.own, same[0]
    free_key = keys.own
    if keys.shared:
        first = find_message(keys.shared)
        if first is None:
            free_key = keys.shared
        elif not has_different_id(item, first[1].message_id):
            return keys.shared, first[0]
    for key in keys.legacy:
        stored = find_message(key)
        if stored is None:
            continue
        is_by_content = key.startswith(f"{_CONTENT_PREFIX}#")
        if is_by_content and has_different_id(item, stored[1].message_id):
            continue
        if _has_same_practice_and_sender(lookup, item, stored[1]):
            return key, stored[0]
    return free_key, None


def _has_same_practice_and_sender(
    lookup: directory.CustomerLookup, item: InboundItem, stored: MessageIdentity
) -> bool:
    """Return whether a message with a legacy key has the practice and sender the key leaves out."""
    if item.format is Format.FORMSTACK:  # its id is unique already
        if not has_practice(item) or stored.company_key is None:
            return True
        return is_for_company(lookup, item, stored.company_key)
    is_same_sender = _fold(stored.from_name) == _fold(item.sender.name)
    return is_same_sender and is_for_company(lookup, item, stored.company_key)


def build_origin(item: InboundItem) -> str | None:
    """Return the unique key (tickets.origin) that lets an item open only one ticket.

    None for an item without id. Formstack's ids are unique by themselves, so the sender is left out
    there: webhook and backfill may read different senders from the same submission.
    """
    if not item.external_id:
        return None
    if item.format is Format.SECURE_MESSAGE:
        return f"{item.format}:{build_message_key(item)}"
    sender = "" if item.format is Format.FORMSTACK else item.sender.key[:400]
    return f"{item.format}:{build_message_id(item)}:{sender}"


def is_origin_shared(item: InboundItem) -> bool:
    """Return whether an item joins the ticket with its origin, though its content is another.

    Ids of workbook rows are not unique enough: the same row again is a duplicate, another one a new
    ticket.
    """
    return item.format is not Format.SECURE_MESSAGE


# -- the practice and sender of an item ----


def build_thread_id(item: InboundItem) -> str:
    """Return the secure-message thread of an item in the length of its column; "" for none."""
    return item.thread_id[:200]


def is_for_company(
    lookup: directory.CustomerLookup, item: InboundItem, company: str | None
) -> bool:
    """Return whether an item is for the company with this key, or with None for no known company.

    Its company is that of its number, else of its name; when it names none, that of its sender.
    """
    if has_practice(item):
        named = directory.find_named_company(lookup, item)
        key = named.key if named is not None else None
        return (key or _build_undecided_key(item.company, item.company_number)) == company
    own: Company | None = directory.find_company_of_address(lookup, item.contact.key)
    return (own.key if own is not None else None) == company


def get_company_key(key: str | None, named_company: str, named_number: str) -> str | None:
    """Return the key of a ticket's company, or one of the practice it names while that is in doubt.

    None where the ticket has neither.
    """
    return key or (_build_undecided_key(named_company, named_number) if named_company else None)


def _build_undecided_key(name: str, number: str) -> str:
    """Return a key that no company has, for a practice that is not on record."""
    folded_number = company_numbers.fold(company_numbers.normalize(number))
    return f"?{directory.build_company_key(name)} #{folded_number}"


def build_ticket_company_key(ticket: Ticket) -> str | None:
    """Return what `get_company_key` returns for a ticket."""
    key = ticket.company.key if ticket.company is not None else None
    return get_company_key(key, ticket.named_company, ticket.named_number)


def has_practice(item: InboundItem) -> bool:
    """Return whether an item names a practice, by name or number."""
    return bool(item.company or item.company_number)


def fold_sender(name: str, email: str) -> tuple[str, str]:
    """Return a sender's name and address folded for comparison."""
    return _fold(name), email.strip().casefold()


def may_join_thread(
    lookup: directory.CustomerLookup,
    item: InboundItem,
    company: str | None,
    senders: Collection[tuple[str, str]],
) -> bool:
    """Return whether an item may join an open ticket with the same thread id.

    `company` is the key of the ticket's company, `senders` those who wrote on it (`fold_sender`). A
    thread id comes from outside, so it counts only within a practice; where neither ticket nor item
    has one, only for the people who wrote on the ticket.
    """
    if item.direction is Direction.OUT:
        return _may_go_out_in_thread(lookup, item, company, senders)
    if not is_for_company(lookup, item, company):
        return False
    if company is not None:
        return True
    sender = fold_sender(item.sender.name, item.contact.email)
    return sender in senders and any(sender)


def _may_go_out_in_thread(
    lookup: directory.CustomerLookup,
    item: InboundItem,
    company: str | None,
    senders: Collection[tuple[str, str]],
) -> bool:
    """Return whether a message of the desk belongs to a ticket with the same thread id.

    Its recipient has to be that ticket's practice, or one of those who wrote on it.
    """
    if company is not None:
        recipients = {directory.build_company_key(person.name) for person in item.to}
        return company in recipients or is_for_company(lookup, item, company)
    names, emails = {name for name, _ in senders} - {""}, {email for _, email in senders} - {""}
    return any(_fold(person.name) in names or person.key in emails for person in item.to)


def is_standalone(item: InboundItem, envelope: dict[str, Any]) -> bool:
    """Return whether an item refers to no mail or ticket of ours.

    Then only its own id and thread decide which ticket it belongs to.
    """
    refers = item.message_id or item.in_reply_to or item.references
    return not (refers or item.is_bounce or item.attachments or _list_tokens(item, envelope))


# -- mails of ours that an item refers to ----


@dataclass(frozen=True)
class OurMailReferences:
    """Our mail that an item refers to, by each way of referring: numbers of the outbox, or None."""

    own_id: int | None  # the item's own Message-ID is one of ours
    return_path: int | None  # sent to the return path of that mail
    in_reply_to: int | None  # In-Reply-To or References
    quoted: int | None  # the first Message-ID in the item's text
    attached: int | None  # attached as a message, or as its header

    @property
    def mail_id(self) -> int | None:
        """Return the mail that a report is about, by the most reliable way."""
        ways = (self.return_path, self.attached, self.quoted, self.in_reply_to)
        return next((number for number in ways if number is not None), None)


def find_our_mail(item: InboundItem, envelope: dict[str, Any], signer: Signer) -> OurMailReferences:
    """Find our mail that an item refers to.

    Only ids and addresses with our signature count, since nobody else can make them.
    """
    return_paths = (
        signer.verify_token(BOUNCE, token)
        for kind, token in _list_tokens(item, envelope)
        if kind == BOUNCE
    )
    parts = [
        a.content[:_MAX_TEXT].decode("latin-1")
        for a in item.attachments
        if a.mime.startswith(("message/", "text/"))
    ]
    return OurMailReferences(
        own_id=_find_outbox_number(signer, item.message_id),
        return_path=next((number for number in return_paths if number is not None), None),
        in_reply_to=_find_outbox_number(
            signer, item.in_reply_to, *item.references[:_MAX_REFERENCES]
        ),
        quoted=_find_outbox_number(signer, *_list_own_ids(item.text[:_MAX_TEXT])),
        attached=_find_outbox_number(signer, *_list_own_ids(*parts)),
    )


def _find_outbox_number(signer: Signer, *texts: str) -> int | None:
    """Find the number of the first mail whose Message-ID, signed by us, is in these texts."""
    for text in texts:
        for token in _OUR_MESSAGE_ID.findall(text)[:_MAX_REFERENCES]:
            number = signer.verify_token(OUTBOX, token)
            if number is not None:
                return number
    return None


def _list_own_ids(*texts: str) -> Iterator[str]:
    """Yield the first Message-ID of each text: that of the mail itself, before its references."""
    for text in texts:
        if (match := _OWN_MESSAGE_ID.search(text)) is not None:
            yield match[1]


# -- the ticket of an item ----


def find_ticket(
    session: Session, item: InboundItem, envelope: dict[str, Any], signer: Signer, *, forged: bool
) -> TicketMatch:
    """Find the open or finished ticket that an item belongs to (mail rules).

    A forged sender joins none. The item joins a ticket only if its sender belongs to it, however
    the ticket was found: the ticket may have been merged into another one, and an id that comes
    from outside may have been used before.
    """
    if not forged:
        match = _match_by_id(session, item) or _match_by_thread(session, item)
        if match is not None:
            return match
    marked = _find_by_token(session, item, envelope, signer)
    answered = (
        _find_split_off(session, item)
        or marked
        or _find_by_reference(session, item)
        or _find_recalled(session, item)
    )
    if answered is None:
        return TicketMatch(related=_find_by_words(session, item, signer))
    ticket = follow_merges(session, answered)
    if forged:
        return TicketMatch(related=ticket)
    if _may_answer(session, item, ticket) or _was_addressed(session, item, ticket, signer):
        return _join(ticket, named=answered)
    if marked is not None and _is_automatic_answer(item, ticket):
        return replace(_join(ticket, named=answered), is_automatic_answer=True)
    return TicketMatch(related=ticket)


def _is_automatic_answer(item: InboundItem, ticket: Ticket) -> bool:
    """Return whether a mail with our signed mark on a ticket is a program's answer to our mail.

    Its sender does not belong to the ticket: a colleague who is away and to whom our mail was
    passed on, or a help desk that has opened a case. A list adds its fields to mail of people, and
    other hints are not enough to leave words on a ticket that nobody looks at any more.
    """
    is_direct = item.direction is Direction.IN and item.route is Route.DIRECT
    if item.format is not Format.MAIL or not is_direct:
        return False
    names = set(item.signs) - evidence.LIST_SIGNS
    return evidence.has_proof(names) or (
        bool(names) if ticket.status is Status.OPEN else evidence.means(names, Meaning.ANSWER)
    )


def _join(ticket: Ticket, *, named: Ticket) -> TicketMatch:
    """Return the match with a ticket, reached by way of the one that the item names."""
    return TicketMatch(ticket=ticket, merged_ticket=named if named is not ticket else None)


def remove_token(address: str) -> str:
    """Return an address without the signed token of a ticket or mail, if it is one of ours."""
    return _REPLY_ADDRESS.sub("@", address)


def follow_merges(session: Session, ticket: Ticket) -> Ticket:
    """Return the ticket that this one was merged into, at the end of the chain; else itself."""
    while ticket.status is Status.MERGED and ticket.merged_into_id:
        ticket = session.get_one(Ticket, ticket.merged_into_id)
    return ticket


def _match_by_id(session: Session, item: InboundItem) -> TicketMatch | None:
    """Match an item to the ticket of an earlier message with the same id.

    Of a mail, to that of a copy: scanners and forms give every mail the same id.
    """
    same = _find_same_item(session, item)
    if same is None:
        return None
    if item.format is Format.MAIL:
        copy = _find_copy(session, item)
        if copy is None:
            return TicketMatch(related=follow_merges(session, same))
        same = session.get_one(Ticket, copy.addressed_ticket_id or copy.ticket_id)
    ticket = follow_merges(session, same)
    if not _may_be_same_customer(session, item, ticket):
        return TicketMatch(related=ticket)
    return _join(ticket, named=same)


def _find_same_item(session: Session, item: InboundItem) -> Ticket | None:
    """Find the ticket with an earlier message of the same id, where such ids are unique."""
    if not is_origin_shared(item):
        return None
    if item.format is Format.FORMSTACK and item.external_id:
        addressed = func.coalesce(Message.addressed_ticket_id, Message.ticket_id)
        same = select(addressed).where(
            Message.format == item.format, Message.message_id == build_message_id(item)
        )
        number = session.scalar(same.order_by(Message.id).limit(1))
        return session.get(Ticket, number) if number else None
    origin = build_origin(item)
    return session.scalar(select(Ticket).where(Ticket.origin == origin)) if origin else None


def _find_copy(session: Session, item: InboundItem) -> Message | None:
    """Find the stored mail that a mail with its id is a copy of, or None.

    A copy is the same mail on another way, where a list or a gateway may have changed its text and
    taken its files off: it has the same date. Or it is the mail sent again, with a new date, the
    same words and the same files.
    """
    files = sorted(attachment.sha256 for attachment in item.attachments)
    same_id = select(Message).where(
        Message.format == item.format, Message.message_id == build_message_id(item)
    )
    for message in session.scalars(same_id.order_by(Message.id).limit(_MAX_COPIES)):
        if _is_copy(message, item, files):
            return message
    return None


def _is_copy(message: Message, item: InboundItem, files: list[str]) -> bool:
    """Return whether a mail, with files of these digests, is a copy of a stored one."""
    has_dates = message.sent_at is not None and item.sent_at is not None
    if has_dates and message.sent_at == item.sent_at:
        return True
    if files != sorted(file.sha256 for file in message.attachments):
        return False
    return not has_dates or (item.text.strip() != "" and message.text == item.text)


def _may_be_same_customer(session: Session, item: InboundItem, ticket: Ticket) -> bool:
    """Return whether an item may come from the customer of a ticket with the same id.

    Forms and calls have unique ids, but one of two readings may not have found practice or sender.
    So they are kept apart only when both sides name a practice, and not the same.
    """
    if item.format is Format.MAIL:
        address = correspondents.get_joining_address(item)
        return directory.may_join_ticket(session, address, ticket)
    if not has_practice(item) and directory.may_join_ticket(session, item.contact.key, ticket):
        return True
    lookup = directory.CustomerLookup(session)
    keys = _list_company_keys(lookup, ticket)
    has_company = (
        has_practice(item)
        or directory.find_company_of_address(lookup, item.contact.key) is not None
    )
    if not keys or not has_company:
        return True
    return any(is_for_company(lookup, item, key) for key in keys)


def _list_company_keys(lookup: directory.CustomerLookup, ticket: Ticket) -> set[str]:
    """Return the keys of the companies of a ticket and its contacts."""
    companies = {ticket.company} | {
        directory.find_company_of_address(lookup, link.contact.email) for link in ticket.contacts
    }
    return {company.key for company in companies if company is not None}


def _find_recalled(session: Session, item: InboundItem) -> Ticket | None:
    """Find the ticket of the mail that a recall is about: its sender's newest with that subject.

    Outlook names the mail by its subject only.
    """
    if evidence.find_notice(item.signs) is not evidence.Meaning.RECALL:
        return None
    subject = evidence.strip_recall_prefix(item.subject)
    recalled = (
        select(Message)
        .join(TicketContact, TicketContact.ticket_id == Message.ticket_id)
        .join(Contact, Contact.id == TicketContact.contact_id)
        .where(
            Contact.email == correspondents.get_joining_address(item),
            Message.subject == subject,
            Message.direction == "in",
        )
    )
    message = session.scalar(recalled.order_by(Message.id.desc()).limit(1)) if subject else None
    return message.ticket if message is not None else None


def _match_by_thread(session: Session, item: InboundItem) -> TicketMatch | None:
    """Match a secure message to the first open ticket of its thread that it may join."""
    if not item.thread_id or item.format is not Format.SECURE_MESSAGE:
        return None
    of_thread = select(Ticket).where(
        Ticket.thread_id == build_thread_id(item), Ticket.status == Status.OPEN
    )
    lookup = directory.CustomerLookup(session)
    for ticket in session.scalars(of_thread.order_by(Ticket.id)):
        company = build_ticket_company_key(ticket)
        # Where the company is known, senders do not matter and their messages need not be loaded.
        senders = _list_senders(ticket) if company is None else set()
        if may_join_thread(lookup, item, company, senders):
            return TicketMatch(ticket=ticket)
    return None


def is_thread_in_use(session: Session, item: InboundItem) -> bool:
    """Return whether an open ticket has the thread id of a secure message."""
    if not item.thread_id or item.format is not Format.SECURE_MESSAGE:
        return False
    of_thread = select(Ticket.id).where(
        Ticket.thread_id == build_thread_id(item), Ticket.status == Status.OPEN
    )
    return session.scalar(of_thread.limit(1)) is not None


def _list_senders(ticket: Ticket) -> set[tuple[str, str]]:
    return {fold_sender(m.from_name, m.from_email) for m in ticket.messages if m.direction == "in"}


def _may_answer(session: Session, item: InboundItem, ticket: Ticket) -> bool:
    """Return whether an item that answers a ticket may join it.

    Its sender must belong to the ticket, and unless it is a mail, it must not name another
    practice. A message of the desk belongs to the ticket it refers to.
    """
    if item.direction is not Direction.IN:
        return True
    address = correspondents.get_joining_address(item)
    if not (
        directory.may_join_ticket(session, address, ticket)
        or _has_asked_for_answers(session, address, ticket)
    ):
        return False
    if item.format is Format.MAIL or not has_practice(item):
        return True
    company = build_ticket_company_key(ticket)
    return is_for_company(directory.CustomerLookup(session), item, company)


def _has_asked_for_answers(session: Session, address: str, ticket: Ticket) -> bool:
    """Return whether a person wrote on a ticket and asked for answers to another address.

    The contact of the ticket has that other address.
    """
    written = select(Message.id).where(
        Message.ticket_id == ticket.id,
        Message.route == Route.REPLY_TO,
        func.lower(Message.sent_by_email) == address,
    )
    return bool(address) and session.scalar(written.limit(1)) is not None


def _was_addressed(session: Session, item: InboundItem, ticket: Ticket, signer: Signer) -> bool:
    """Return whether an item answers a mail that somebody on the desk wrote to its sender.

    The desk has chosen to ask them, as a payer or a biller, so their answer belongs to the ticket.
    """
    address = correspondents.get_joining_address(item)
    if not address:
        return False
    for reference in (item.in_reply_to, *item.references[-_MAX_REFERENCES:]):
        number = _find_outbox_number(signer, reference)
        mail = session.get(OutgoingMail, number) if number is not None else None
        if mail is not None and mail.written_id is not None and mail.to.casefold() == address:
            return True
    sent = select(Message.to, Message.cc).where(
        Message.ticket_id == ticket.id,
        Message.direction == Direction.OUT,
        Message.delivery_id.is_not(None),  # written outside of this program, by a person
        Message.message_id.in_(list_reference_ids(item)),
    )
    addressed = ((*to, *cc) for to, cc in session.execute(sent))
    return any(email.casefold() == address for people in addressed for _, email in people)


def _find_by_words(session: Session, item: InboundItem, signer: Signer) -> Ticket | None:
    """Find a ticket that a mail names in words only, and whose sender belongs to it.

    Programs and people strip all other marks of an answer. It is a hint and no more: a number is
    easy to guess.
    """
    if item.format is not Format.MAIL:
        return None
    is_ours = item.direction is Direction.OUT
    address = item.contact.key if is_ours else correspondents.get_joining_address(item)
    for number in _list_named_tickets(item, signer):
        ticket = session.get(Ticket, number)
        if ticket is None:
            continue
        ticket = follow_merges(session, ticket)
        if directory.may_join_ticket(session, address, ticket):
            return ticket
    return None


def _list_named_tickets(item: InboundItem, signer: Signer) -> list[int]:
    """Return the numbers of tickets that a mail names, the most reliable first, each once."""
    text = item.text[:_MAX_TEXT]
    tokens = (token for kind, token in _REPLY_ADDRESS.findall(text) if kind.lower() == TICKET)
    verified = (signer.verify_token(TICKET, token) for token in tokens)
    numbers = [number for number in verified if number is not None]
    subject_numbers = _TICKET_IN_SUBJECT.findall(item.subject)
    numbers += [int(digits) for digits in (*subject_numbers, *_TICKET_IN_TEXT.findall(text))]
    return list(dict.fromkeys(numbers))[:_MAX_NAMED]


def _names_ticket(item: InboundItem) -> bool:
    """Return whether a mail may name a ticket in words."""
    if item.format is not Format.MAIL:
        return False
    text = item.text[:_MAX_TEXT]
    return bool(
        _TICKET_IN_SUBJECT.search(item.subject)
        or _TICKET_IN_TEXT.search(text)
        or _REPLY_ADDRESS.search(text)
    )


def _find_by_token(
    session: Session, item: InboundItem, envelope: dict[str, Any], signer: Signer
) -> Ticket | None:
    """Find the ticket of a reply address, a return path, or a mail of ours that is answered."""
    for kind, token in _list_tokens(item, envelope):
        number = signer.verify_token(kind, token)
        if number is not None and kind == TICKET:
            return session.get(Ticket, number)
        if number is not None:  # the return path of a mail of ours
            mail = session.get(OutgoingMail, number)
            return mail.ticket if mail is not None else None
    for reference in (item.in_reply_to, *reversed(item.references[-_MAX_REFERENCES:])):
        for token in _OUR_MESSAGE_ID.findall(reference):
            number = signer.verify_token(OUTBOX, token)
            mail = session.get(OutgoingMail, number) if number is not None else None
            if mail is not None:
                return mail.ticket
    return None


def _find_split_off(session: Session, item: InboundItem) -> Ticket | None:
    """Find the ticket of a message that was split off another one, where an item answers just it.

    Who answers all of its recipients also writes to the address of the ticket it was split off.
    """
    ids = list_reference_ids(item)[:1]
    split_off = select(Message).where(
        Message.message_id.in_(ids), Message.split_from_ticket_id.is_not(None)
    )
    message = session.scalar(split_off.order_by(Message.id.desc()).limit(1)) if ids else None
    return message.ticket if message is not None else None


def answers_automatic_mail(
    session: Session, item: InboundItem, envelope: dict[str, Any], signer: Signer
) -> bool:
    """Return whether an item answers an automatic mail of ours, whoever has sent it.

    The mail is the one it refers to by a Message-ID or return path. Where it has no more than the
    address of a ticket, or words that only our mails have, it is the newest mail on that ticket.
    """
    if item.format is not Format.MAIL:
        return False
    ours = find_our_mail(item, envelope, signer)
    mail = session.get(OutgoingMail, ours.mail_id) if ours.mail_id is not None else None
    if mail is None:
        tokens = [*_list_tokens(item, envelope), *_REPLY_ADDRESS.findall(item.text[:_MAX_TEXT])]
        numbers = [
            number
            for kind, token in tokens
            if kind.lower() == TICKET and (number := signer.verify_token(TICKET, token)) is not None
        ]
        words = f"{item.subject}\n{item.text[:_MAX_TEXT]}"
        numbers += [int(digits) for digits in _TICKET_IN_TEXT.findall(words)]
        if not numbers:
            return False
        newest = select(OutgoingMail).where(OutgoingMail.ticket_id == numbers[0])
        mail = session.scalar(newest.order_by(OutgoingMail.id.desc()).limit(1))
    return mail is not None and mail.template not in WRITTEN_BY_PERSON


def is_in_thread(item: InboundItem, envelope: dict[str, Any]) -> bool:
    """Return whether a mail answers some mail, or goes to the address of a ticket."""
    if item.format is not Format.MAIL:
        return False
    return bool(list_reference_ids(item) or _list_tokens(item, envelope))


def _find_by_reference(session: Session, item: InboundItem) -> Ticket | None:
    """Find the ticket of a stored message that is answered, the latest reference first."""
    ids = list_reference_ids(item)
    if not ids:
        return None
    # An answer belongs to the ticket that the answered message was addressed to.
    addressed = func.coalesce(Message.addressed_ticket_id, Message.ticket_id)
    rows = session.execute(select(Message.message_id, addressed).where(Message.message_id.in_(ids)))
    tickets = dict(rows.all())
    number = next((tickets[message_id] for message_id in ids if message_id in tickets), None)
    return session.get(Ticket, number) if number else None


def list_reference_ids(item: InboundItem) -> list[str]:
    """Return the Message-IDs that an item answers, without angle brackets, the latest first."""
    references = (item.in_reply_to, *reversed(item.references[-_MAX_REFERENCES:]))
    ids = [reference.strip().strip("<>") for reference in references]
    return [message_id for message_id in ids if "@" in message_id and len(message_id) <= _MAX_ID]


def names_our_mail(item: InboundItem, envelope: dict[str, Any]) -> bool:
    """Return whether an item may refer to a ticket or mail of ours, signatures not yet verified.

    A ticket that it names in words counts, too.
    """
    if _list_tokens(item, envelope) or _names_ticket(item):
        return True
    searched = (*item.references[:_MAX_REFERENCES], *item.references[-_MAX_REFERENCES:])
    references = (item.message_id, item.in_reply_to, *searched)
    return any(_OUR_MESSAGE_ID.search(reference) for reference in references)


def _list_tokens(item: InboundItem, envelope: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (purpose, token) of our addresses among the recipients, not yet verified.

    Recipients of the envelope come before those of the header.
    """
    rcpt_to = envelope.get("rcpt_to")
    in_envelope = [str(address) for address in rcpt_to] if isinstance(rcpt_to, list) else []
    in_header = [a.email for a in (*item.to[:_MAX_REFERENCES], *item.cc[:_MAX_REFERENCES])]
    addresses = [*in_envelope[:_MAX_REFERENCES], *in_header]
    matches = (_REPLY_ADDRESS.search(address) for address in addresses)
    return [(match[1].lower(), match[2]) for match in matches if match]
