"""Correspondents of an item: whose request it is, and whether the desk itself has written it.

The customer may stand elsewhere than in From: in a mail that a colleague forwards, in Reply-To of a
web form, a fax or a portal, or in the fields of a mailing group. And From may be ours: an answer
from a mail program, or an export of messages that the desk has sent. What is found here decides who
becomes the contact and in which direction a message goes. Which ticket an item may join is decided
by who really sent it (`get_joining_address`), because anybody can write any name into Reply-To.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from parsers.item import (
    Address,
    Direction,
    Format,
    ForwardedHeader,
    InboundItem,
    Route,
)
from parsers.mail import evidence
from workflow.customers import directory, phone_numbers
from workflow.filing import dmarc
from workflow.models.core import Contact, Staff
from workflow.settings.settings import Settings

# Local parts of programs that pass on what somebody else wrote: web forms, fax and voicemail
# servers, scanners, portals of secure messages. People read none of them.
_RELAY_LOCAL = re.compile(
    r"(?:wordpress|www(?:-?data)?|webmaster|web-?forms?|web-?site|web|forms?|contact-?forms?|apache"
    r"|nginx|cgi|php|mailer|mailform|formmail|formmailer|submissions?|inquir(?:y|ies)"
    r"|e?fax(?:es)?(?:-?(?:service|server|in|inbox))?|voice-?mail|vm|unity|voip|pbx"
    r"|scan(?:ner|s)?|copier|mfp|printer|ricoh|xerox|konica"
    r"|notif(?:y|ications?|ier)|alerts?|messag(?:e|es|ing)(?:-?center)?|secure-?(?:mail|message|e-?mail)"
    r"|encrypt(?:ed|ion)?(?:-?mail)?|zix(?:mail|corp)?|proofpoint|portal|system|service|nobody"
    r"|no-?reply.*|do-?not-?reply.*|auto-?(?:mail|mailer|notify))"
    r"(?:[-_.+]?\d+)?",
    re.IGNORECASE,
)
_CALL_LOCAL = re.compile(
    r"e?fax(?:es)?(?:[-_.]?(?:service|server|in|inbox))?|voice-?mail|vm|unity|voip|pbx",
    re.IGNORECASE,
)
_CALL_WORDS = re.compile(r"\be?-?fax|fax\b|voice-? ?(?:mail|message)|missed call", re.IGNORECASE)
_MAX_CALL_TEXT = 2000  # characters of a notice of a call that are searched for its number
_FORM_LOCAL = re.compile(
    r"wordpress|www(?:-?data)?|web-?forms?|web-?site|forms?|contact-?forms?|apache|nginx|cgi|php"
    r"|mailform|form-?mail(?:er)?|submissions?",
    re.IGNORECASE,
)
_ADDRESS = r"([^\s@<>,;:\"()\[\]]{1,64}@[^\s@<>,;:\"()\[\]]{1,255}\.[a-z]{2,})"
# The answer to the question for an address, on a line of a mailed form.
_FORM_ADDRESS = re.compile(
    rf"^[ \t*>]*(?:your[ \t]+|contact[ \t]+|sender(?:'s)?[ \t]+)?(?:e-?mail|mail|email)"
    rf"(?:[ \t-]?address)?[ \t*]*[:=][ \t*]*(?:<|mailto:)?{_ADDRESS}\W*$",
    re.IGNORECASE | re.MULTILINE,
)
# "You have a new secure message from jane@payer.example"
_PORTAL_ADDRESS = re.compile(rf"\bfrom[ \t:]+(?:[^<@]{{0,80}}<)?{_ADDRESS}", re.IGNORECASE)
_MAX_FORM_TEXT = 10_000  # characters of a mailed form that are searched
# What Google Groups and others put into the display name: "'Jane Doe' via Billing".
_VIA_NAME = re.compile(r"\b(?:via|vía|über|przez|через|tramite)\b", re.IGNORECASE)
# Labels of forms that name who has approved a submission.
_APPROVAL_LABEL = re.compile(r"\b(?:approv|review|sign(?:ed)?[ -]off)", re.IGNORECASE)

_CACHE = "people of the desk"  # key in `Session.info`

UNVERIFIED_CAVEAT = (
    "written in the name of the desk, but our mail server could not verify that: make sure who"
    " wrote it"
)
_TAKEN = "is taken for the customer"  # the end of each caveat on a route
COLLEAGUE_NAME_CAVEAT = (
    "the sender has the name of a colleague, and no recipient is named: see whether the desk wrote"
    " it"
)
INTERNAL_CAVEAT = "a colleague wrote this to the desk alone: the customer did not get it"


@dataclass(frozen=True)
class DeskPeople:
    """The addresses and names of the desk: those we take mail for, and those of staff."""

    settings: Settings
    emails: frozenset[str]  # of staff, case folded
    names: frozenset[str]  # of staff, folded

    @classmethod
    def load(cls, session: Session, settings: Settings) -> Self:
        """Return the present people of the desk; loaded once in a session."""
        people = session.info.get(_CACHE)
        if people is not None and people.settings is settings:
            return cast("Self", people)
        rows = session.execute(select(Staff.name, Staff.email)).all()
        names = {_fold(name) for name, _ in rows}
        emails = {email.strip().casefold() for _, email in rows}
        people = cls(settings, frozenset(emails - {""}), frozenset(names - {""}))
        session.info[_CACHE] = people
        return people

    def has(self, person: Address) -> bool:
        """Return whether an address is the desk's."""
        return bool(person.key) and (person.key in self.emails or self.owns(person))

    def owns(self, person: Address) -> bool:
        """Return whether we take mail for this address, so that it is nobody's own."""
        return directory.is_our_address(person.key, self.settings)

    def has_name(self, name: str) -> bool:
        """Return whether somebody on the desk has this name."""
        return _fold(name) in self.names

    def is_outsider(self, person: Address) -> bool:
        """Return whether somebody is not of the desk: by address, or by name without one."""
        if person.email:
            return not self.has(person)
        return bool(person.name) and not self.has_name(person.name)

    def is_customer(self, person: Address) -> bool:
        """Return whether an address can be a customer's: valid, and not one of the desk."""
        return directory.is_valid_address(person.key) and not self.has(person)


def resolve(session: Session, people: DeskPeople, item: InboundItem) -> InboundItem:
    """Return an item with its direction, its customer and how it came from there.

    A mail of a colleague that names no customer is a note (`settle_unmatched`, where it belongs to
    no ticket). Mail in the name of the desk that is not verified is a customer's as any other.
    """
    if item.format is Format.SECURE_MESSAGE:
        return _resolve_row(people, item)
    if item.format is Format.FORMSTACK:
        return _resolve_form(people, item)
    if item.format is not Format.MAIL or evidence.has_proof(item.signs):
        return _resolve_relay(people, item) if item.format is Format.MAIL else item
    if people.has(item.sender):
        if not dmarc.is_authenticated(item, people.settings.authserv_id):
            return _resolve_unverified(people, item)
        return _resolve_desk_mail(session, people, item)
    return _resolve_customer_mail(session, people, item)


def settle_unmatched(people: DeskPeople, item: InboundItem) -> InboundItem:
    """Return an item that opens a ticket; a colleague's note without one is a request.

    It is the request of the customer whose message it quotes, else the colleague's own.
    """
    if item.direction is not Direction.NOTE:
        return item
    caveats = tuple(caveat for caveat in item.caveats if caveat != INTERNAL_CAVEAT)
    item = replace(item, direction=Direction.IN, caveats=caveats)
    if item.format is not Format.MAIL:
        return item
    header = _find_original(people, item)
    return _make_forwarded(item, header.sender) if header is not None else item


def is_plain(people: DeskPeople, item: InboundItem) -> bool:
    """Return whether an item comes from its customer, without any query: most do."""
    match item.format:
        case Format.MAIL:
            is_direct = not item.original_sender.email and not _list_reply_to(people, item)
            return is_direct and not people.has(item.sender) and not _is_relay(item)
        case Format.SECURE_MESSAGE:
            return _resolve_row(people, item) is item
        case Format.FORMSTACK:
            return not people.has(item.sender) and not _is_approval(people, item)
        case _:
            return True


def get_joining_address(item: InboundItem) -> str:
    """Return the address, case folded, whose owner must belong to a ticket for an item to join it.

    It is that of the sender. What Reply-To or a forwarded header says counts only where our own
    mailing group, verified, has put it there.
    """
    if item.format is not Format.MAIL:
        return item.contact.key
    return item.contact.key if item.route is Route.GROUP else item.sender.key


def list_others(people: DeskPeople, item: InboundItem) -> list[Address]:
    """Return the people in To and Cc who are not of the desk, each once."""
    others = (person for person in (*item.to, *item.cc) if people.is_customer(person))
    return directory.deduplicate_addresses(others)


def find_notice_reason(people: DeskPeople, item: InboundItem) -> str:
    """Return why nobody needs a notice that an item has opened a ticket; "" where somebody does."""
    if item.direction is Direction.OUT:
        return "the desk wrote to the customer first"
    if item.format is not Format.PHONE and item.contact.key in people.emails:
        return "it is a colleague's own request"
    if notice := evidence.find_notice(item.signs):
        return f"a {notice} is no request"
    return ""


# -- mail of the desk ----


def _resolve_unverified(people: DeskPeople, item: InboundItem) -> InboundItem:
    """Return a mail in the name of the desk that our mail server has not verified.

    A web form may send in our name from a host of its own, and names its visitor in Reply-To.
    """
    is_forged = dmarc.has_failed_dmarc(item, people.settings.authserv_id)
    item = _add_caveat(item, "" if is_forged else UNVERIFIED_CAVEAT)
    reply_to = _list_reply_to(people, item)
    if not reply_to or list_others(people, item):
        return item
    return _make_relayed(item, reply_to[0], Route.RELAY, "our own address")


def _resolve_desk_mail(session: Session, people: DeskPeople, item: InboundItem) -> InboundItem:
    """Return a mail from an address of the desk, verified as far as our mail server does."""
    original = item.original_sender
    if people.is_customer(original) and people.owns(item.sender):
        return _make_relayed(item, original, Route.GROUP, "the group")
    customers = [
        person
        for person in list_others(people, item)
        if not evidence.is_unread_address(person.email)
    ]
    if customers and not _is_forwarded_to_desk(people, item):
        customer = _choose_customer(session, item, customers)
        return replace(item, direction=Direction.OUT, customer=customer)
    if reply_to := _list_reply_to(people, item):
        return _make_relayed(item, reply_to[0], Route.RELAY, "our own address")
    if item.is_forward:
        header = _find_original(people, item)
        return _make_forwarded(item, header.sender if header is not None else Address())
    return _add_caveat(replace(item, direction=Direction.NOTE), INTERNAL_CAVEAT)


def _choose_customer(session: Session, item: InboundItem, customers: list[Address]) -> Address:
    """Return the recipient of a mail of the desk who is its customer.

    It is the one whose message the mail quotes, else the first on record, else the first: others
    may be payers.
    """
    if len(customers) == 1:
        return customers[0]
    quoted = {header.sender.key for header in item.forwarded}
    ways = (
        (person for person in customers if person.key in quoted),
        (person for person in customers if _is_on_record(session, person.key)),
        iter(customers),
    )
    return next(person for way in ways for person in way)


def _is_forwarded_to_desk(people: DeskPeople, item: InboundItem) -> bool:
    """Return whether a colleague passes a customer's message on to the desk, others in copy only.

    Where nobody can tell whose message it is, or it goes to a customer, it is a mail of the desk.
    """
    original = _find_original(people, item)
    if not item.is_forward or original is None:
        return False
    return not any(people.is_customer(person) for person in item.to) and not any(
        person.key == original.sender.key for person in item.cc
    )


def _find_original(people: DeskPeople, item: InboundItem) -> ForwardedHeader | None:
    """Return the outermost header of a message that nobody on the desk wrote; None without one.

    Attached messages count only where all of them are of one person.
    """
    usable = [header for header in item.forwarded if people.is_customer(header.sender)]
    attached = {header.sender.key for header in usable if header.is_attached}
    if len(attached) > 1:
        return None
    return usable[0] if usable else None


def _make_forwarded(item: InboundItem, customer: Address) -> InboundItem:
    by = _describe(item.sender)
    if not customer.key:
        caveat = f"forwarded by {by}: whose message it is could not be read from it"
    else:
        caveat = f"forwarded by {by}: {_describe(customer)} {_TAKEN}"
    forwarded = replace(item, route=Route.FORWARDED, customer=customer)
    return _add_caveat(forwarded, caveat)


# -- mail of others ----


def _resolve_customer_mail(session: Session, people: DeskPeople, item: InboundItem) -> InboundItem:
    original = item.original_sender
    is_group = people.is_customer(original) and _VIA_NAME.search(item.sender.name) is not None
    if is_group and original.key != item.sender.key:
        # Not our own group: it names the customer, who does not join a ticket by that.
        return _make_relayed(item, original, Route.RELAY, "the group")
    relayed = _resolve_relay(people, item)
    if relayed is not item:
        return relayed
    return _resolve_reply_to(session, people, item)


def _resolve_relay(people: DeskPeople, item: InboundItem) -> InboundItem:
    """Return a mail of a program that names the person behind it in Reply-To; else the same."""
    if item.is_bounce:
        return item
    if not _is_relay(item):
        named = _list_elsewhere(people, item)
        return _make_relayed(item, named[0], Route.RELAY, "a program") if named else item
    named = _list_reply_to(people, item) or _list_named_in_words(people, item)
    if named:
        return _make_relayed(item, named[0], Route.RELAY, "a program's address")
    return _make_call(item) if _is_call(item) else item


def _list_elsewhere(people: DeskPeople, item: InboundItem) -> list[Address]:
    """Return the people of another domain in Reply-To of a mail that a program proves to have sent.

    In its own domain they are the desk of whoever runs the program, and a list has its own ways.
    """
    is_by_program = evidence.has_proof(item.signs, evidence.Meaning.MACHINE)
    if not is_by_program or not evidence.BULK_SIGNS.isdisjoint(item.signs):
        return []
    return [p for p in _list_reply_to(people, item) if not _has_same_domain(p, item.sender)]


def _has_same_domain(one: Address, other: Address) -> bool:
    return directory.extract_domain(one.key) == directory.extract_domain(other.key)


def _is_call(item: InboundItem) -> bool:
    """Return whether a program's mail is about a fax or a voicemail, by its name or subject."""
    if _CALL_LOCAL.fullmatch(_get_local(item.sender)):
        return True
    names = f"{item.sender.name} {item.sender.email.partition('@')[2]} {item.subject}"
    return _CALL_WORDS.search(names) is not None


def _make_call(item: InboundItem) -> InboundItem:
    """Return the mail of a fax or voicemail server: a caller has a number and no address."""
    numbers = phone_numbers.find_numbers(f"{item.subject}\n{item.text[:_MAX_CALL_TEXT]}")
    phone = item.phone or next(iter(numbers), "")
    what = f"call {phone}" if phone else "find out who called"
    caveat = f"came through {_describe(item.sender)}, where nobody reads mail: {what}"
    return _add_caveat(replace(item, route=Route.RELAY, customer=Address(), phone=phone), caveat)


def _is_relay(item: InboundItem) -> bool:
    if item.is_form_mail or evidence.is_unread_address(item.sender.email):
        return True
    if not evidence.UNMARKED_SIGNS.isdisjoint(item.signs):
        return True
    return _RELAY_LOCAL.fullmatch(_get_local(item.sender)) is not None


def _get_local(person: Address) -> str:
    return person.email.partition("@")[0].strip()


def _list_named_in_words(people: DeskPeople, item: InboundItem) -> list[Address]:
    """Return the one person whom a web form or a portal names without Reply-To; else nobody.

    A form has the address on a line of its own, a portal in its subject.
    """
    text = item.subject
    if item.is_form_mail or _FORM_LOCAL.fullmatch(_get_local(item.sender)):
        pattern, text = _FORM_ADDRESS, item.text[:_MAX_FORM_TEXT]
    else:
        pattern = _PORTAL_ADDRESS
    emails = {email.casefold() for email in pattern.findall(text)}
    named = [Address(email=email) for email in sorted(emails)]
    usable = [person for person in named if people.is_customer(person)]
    return usable if len(usable) == 1 else []


def _resolve_reply_to(session: Session, people: DeskPeople, item: InboundItem) -> InboundItem:
    """Return a mail of a person who asks for answers to another address.

    Where either of the two is on record, the sender stays the contact: a thief of a customer's name
    would ask for the answers, and a stranger must not speak for a customer.
    """
    reply_to = _list_reply_to(people, item)
    if not reply_to or not item.sender.key or item.is_automated:
        return item
    target, domain = reply_to[0], directory.extract_domain(item.sender.key)
    is_public = domain in directory.PUBLIC_MAIL_DOMAINS
    is_same_practice = directory.extract_domain(target.key) == domain and not is_public
    is_known = _is_on_record(session, item.sender.key) or _is_on_record(session, target.key)
    if not is_same_practice and is_known:
        caveat = f"asks for answers to {_describe(target)}: make sure before you write there"
        return _add_caveat(item, caveat)
    caveat = f"{_describe(item.sender)} asks for answers to {_describe(target)}, who {_TAKEN}"
    target = replace(target, name=target.name or item.sender.name)
    return _add_caveat(replace(item, route=Route.REPLY_TO, customer=target), caveat)


def _is_on_record(session: Session, email: str) -> bool:
    lookup = directory.CustomerLookup(session)
    if directory.find_company_of_address(lookup, email) is not None:
        return True
    return session.scalar(select(Contact.id).where(Contact.email == email)) is not None


def _list_reply_to(people: DeskPeople, item: InboundItem) -> list[Address]:
    """Return the people in Reply-To beside the sender; empty where the sender is among them."""
    if any(person.key == item.sender.key for person in item.reply_to):
        return []
    return [
        person
        for person in item.reply_to
        if people.is_customer(person) and not evidence.is_unread_address(person.email)
    ]


def _make_relayed(item: InboundItem, customer: Address, route: Route, what: str) -> InboundItem:
    caveat = f"came through {_describe(item.sender)}, {what}: {_describe(customer)} {_TAKEN}"
    relayed = _add_caveat(replace(item, route=route, customer=customer), caveat)
    # Somebody reads the customer's address, and our own group is no list to them. But the words of
    # a program stay those of a program where it only names its own desk.
    ignored = evidence.LIST_SIGNS if route is Route.GROUP else evidence.UNMARKED_SIGNS
    if route is Route.RELAY and _has_same_domain(customer, item.sender):
        ignored -= evidence.PROGRAM_TEXT_SIGNS
    signs = tuple(name for name in item.signs if name not in ignored)
    if signs or not item.signs:
        return relayed
    return replace(relayed, is_automated=False, signs=())


# -- other formats ----


def _resolve_row(people: DeskPeople, item: InboundItem) -> InboundItem:
    """Return a row of an export; one that the desk has sent goes out, to its recipient."""
    is_sent = item.direction is Direction.OUT or people.has(item.sender)
    has_colleague_name = not item.sender.email and people.has_name(item.sender.name)
    if not is_sent and not has_colleague_name:
        return item
    if not is_sent and not any(map(people.is_outsider, item.to)):
        return _add_caveat(item, COLLEAGUE_NAME_CAVEAT)
    customers = list_others(people, item)
    recipient = customers[0] if customers else Address()
    return replace(item, direction=Direction.OUT, customer=recipient)


def _resolve_form(people: DeskPeople, item: InboundItem) -> InboundItem:
    """Return a submission; the desk's own approval of one is a note on its ticket."""
    if not _is_approval(people, item):
        return item
    return replace(item, direction=Direction.NOTE)


def _is_approval(people: DeskPeople, item: InboundItem) -> bool:
    return any(
        _APPROVAL_LABEL.search(label)
        and (people.has(Address(email=value.strip())) or people.has_name(value))
        for label, value in item.details
    )


# -- words ----


def is_route_caveat(caveat: str) -> bool:
    """Return whether a caveat says that somebody else than the sender is taken for the customer."""
    return caveat.endswith(_TAKEN)


def _add_caveat(item: InboundItem, caveat: str) -> InboundItem:
    return replace(item, caveats=(*item.caveats, caveat)) if caveat else item


def _describe(person: Address) -> str:
    """Return a person by name and address, on one line."""
    name = " ".join(person.name.split())[:100]
    return f"{name} <{person.email}>" if name and name != person.email else person.email


def _fold(name: str) -> str:
    return " ".join(name.casefold().split())


def to_pairs(people: Iterable[Address]) -> list[list[str]]:
    """Return people as [name, address] for a column of a message."""
    return [[person.name, person.email] for person in people]
