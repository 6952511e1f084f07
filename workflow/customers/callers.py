"""Who is to be called back on a ticket: the names and numbers that came with its messages.

A number that is given with a call, a form or a secure message stays with that message. The
contact's record gets it only where the record has none (people.contact_for), so the two can differ;
here is the one of this request.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from workflow.customers import phone_numbers
from workflow.models.core import Message, Ticket

MAX_NUMBERS = 10  # numbers shown
MAX_MESSAGES = 200  # messages looked through, the newest first


@dataclass(frozen=True)
class Caller:
    """A number somebody is to be called back at, as it was given; `name` may be empty."""

    name: str
    phone: str
    at: datetime


def list_callers(session: Session, ticket: Ticket) -> list[Caller]:
    """Return the numbers given with a ticket's messages, the newest first, each once.

    Those that a contact's record on the ticket shows anyhow are left out.
    """
    known = {key for link in ticket.contacts for key in _keys(link.contact.phone)}
    given = select(Message.from_name, Message.phone, Message.at).where(
        Message.ticket_id == ticket.id, Message.phone != ""
    )
    found: list[Caller] = []
    for name, phone, at in session.execute(given.order_by(Message.id.desc()).limit(MAX_MESSAGES)):
        keys = _keys(phone)
        if known.isdisjoint(keys):
            found.append(Caller(name=name, phone=phone, at=at))
        known.update(keys)
    return found[:MAX_NUMBERS]


def _keys(phone: str) -> list[str]:
    """Return what two writings of one number have in common.

    A number with its extension is another one.
    """
    plain = " ".join(phone.split()).casefold()
    if not plain:
        return []
    only_number = [plain[begin:end].strip() for begin, end in phone_numbers.find_spans(plain)] == [
        plain
    ]
    return phone_numbers.list_search_forms(plain) if only_number else [plain]
