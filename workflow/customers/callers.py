"""Numbers to call back on a ticket, with the names that came with them.

A number given with a call, a form or a secure message stays with that message. The contact's record
gets it only when it has none (`directory.find_or_create_contact`), so the two can differ. These are
the numbers of this request.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from workflow.customers import phone_numbers
from workflow.models.core import Message, Ticket

MAX_NUMBERS = 10  # shown
MAX_MESSAGES = 200  # searched, the newest first


@dataclass(frozen=True)
class Caller:
    """A number to call back, as it was given, and when; `name` may be empty."""

    name: str
    phone: str
    at: datetime


def list_callers(session: Session, ticket: Ticket) -> list[Caller]:
    """Return the numbers given with a ticket's messages, the newest first, each once.

    Numbers that the record of a contact on the ticket shows are left out.
    """
    shown_keys = {key for link in ticket.contacts for key in _build_keys(link.contact.phone)}
    with_phone = select(Message.from_name, Message.phone, Message.at).where(
        Message.ticket_id == ticket.id, Message.phone != ""
    )
    callers: list[Caller] = []
    for name, phone, at in session.execute(
        with_phone.order_by(Message.id.desc()).limit(MAX_MESSAGES)
    ):
        keys = _build_keys(phone)
        if shown_keys.isdisjoint(keys):
            callers.append(Caller(name=name, phone=phone, at=at))
        shown_keys.update(keys)
    return callers[:MAX_NUMBERS]


def _build_keys(phone: str) -> list[str]:
    """Return the keys of a number; two spellings of the same number have a key in common.

    Text with more than a number in it, such as an extension, has only itself as key.
    """
    plain = " ".join(phone.split()).casefold()
    if not plain:
        return []
    only_number = [plain[begin:end].strip() for begin, end in phone_numbers.find_spans(plain)] == [
        plain
    ]
    return phone_numbers.list_search_forms(plain) if only_number else [plain]
