"""Calls written down by staff: stored like everything that comes in, and read at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import uuid4

from sqlalchemy import select

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_delivery
from parsers import phone_call
from parsers.item import Format
from parsers.phone_call import Contact
from workflow.context import AppContext
from workflow.customers import directory
from workflow.errors import ActionNotAllowed
from workflow.models.core import Delivery, Filing
from workflow.models.states import Outcome
from workflow.permissions import Right
from workflow.tickets.actions import Actor, require_right

PATIENCE = 10.0  # seconds to wait for a worker that began to read the call before we did


class InvalidAddress(ActionNotAllowed):
    """An address of a call is no mail address."""

    def __init__(self, address: str) -> None:
        super().__init__(f"not a mail address: {address}")


class NotFiledYet(ActionNotAllowed):
    """The call is stored, but no ticket yet: it must not be written down again."""


@dataclass(frozen=True, repr=False)  # all of it may be patient data
class PhoneCall:
    """The command to write a call down, as a form, the API or the command line says it.

    `email` is the caller's address. The same `call_id` is the same call, however often it is sent;
    "" makes one up.
    """

    text: str
    contacts: Sequence[Contact] = ()
    company: str = ""
    name: str = ""
    email: str = ""
    phone: str = ""
    subject: str = ""
    telemedicine: bool = False
    on_company: bool = True
    call_id: str = ""
    right: ClassVar[Right] = Right.WORK


@dataclass(frozen=True)
class FiledCall:
    """The ticket of a call, and whether the call opened it."""

    ticket: int
    outcome: Outcome


def write_down(context: AppContext, call: PhoneCall, *, actor: Actor, take: bool) -> FiledCall:
    """Store a call, read it at once, and return its ticket.

    With `take` the ticket is the actor's, else it waits in the unassigned queue. Raises
    NotPermitted; InvalidAddress; NotFiledYet when it is stored but could not be read.
    """
    require_right(actor, call.right)
    for contact in call.contacts:
        if contact.email and not directory.is_valid_address(contact.email):
            raise InvalidAddress(contact.email)
    raw = phone_call.compose(
        call_id=call.call_id or uuid4().hex,
        company=call.company,
        name=call.name,
        email=call.email,
        phone=call.phone,
        subject=call.subject,
        text=call.text,
        contacts=call.contacts,
        created_by=actor.name,
        telemedicine=call.telemedicine,
        on_company=call.on_company,
    )
    envelope: dict[str, object] = {"owner": actor.name} if take else {}
    arrival = Arrival(transport=Transport.CONSOLE, format=Format.PHONE, raw=raw, envelope=envelope)
    delivery = Intake(context).accept(arrival)
    process_delivery(context, delivery, patience=PATIENCE)
    return _load_filed_call(context, delivery)


def _load_filed_call(context: AppContext, delivery: int) -> FiledCall:
    with context.store.read_only() as session:
        filed = select(Filing.ticket_id, Filing.outcome).where(Filing.delivery_id == delivery)
        row = session.execute(filed.where(Filing.ticket_id.is_not(None))).first()
        reason = session.get_one(Delivery, delivery).reason
    if row is None or row.ticket_id is None:
        raise NotFiledYet(
            f"the call is stored as delivery {delivery} but is no ticket yet:"
            f" {reason or 'it waits'}"
        )
    return FiledCall(row.ticket_id, row.outcome)
