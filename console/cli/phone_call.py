"""A call written down by staff: through the one door like everything else, and read at once."""

from collections.abc import Sequence
from uuid import uuid4

import click
from sqlalchemy import select

from console.bootstrap import login
from console.errors import Fault
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import read
from parsers import phone_call
from parsers.item import Format
from workflow.context import House
from workflow.customers import directory
from workflow.models.core import Delivery, Filing
from workflow.models.states import Outcome

PATIENCE = 10.0  # seconds for a worker that was faster to read it


def write_down(
    house: House,
    *,
    actor: str,
    contacts: tuple[str, ...] = (),
    chosen: Sequence[phone_call.Contact] = (),
    call_id: str = "",
    **told: str | bool,
) -> int:
    """Put a call through the one door, read it at once, and give the number of its ticket.

    `contacts` are addresses, the caller's first; `chosen` come with their boxes. The same `call_id`
    is the same call, however often it is sent. `told` are the fields of
    `parsers.phone_call.compose`; with its `name` and `email` it says who called. Raises Fault when
    the call cannot be read.
    """
    emails = [e for one in contacts for e in one.replace(",", " ").split()]
    for email in emails:
        if not directory.usable(email):
            raise Fault(f"not a mail address: {email}", 2)
    owner = _owner(house, actor)
    everybody = [*(phone_call.Contact(email=e) for e in emails), *chosen]
    call = {"call_id": call_id, "email": first(emails), "created_by": actor or login(), **told}
    number, _ = opened(house, put_in(house, owner, everybody, **call))
    return number


def put_in(
    house: House, owner: str, contacts: Sequence[phone_call.Contact], **told: str | bool
) -> int:
    """Put a call through the one door and read it at once; the number of its delivery.

    `owner` "": the queue.
    """
    call_id = told.pop("call_id", "") or uuid4().hex
    # text for text
    raw = phone_call.compose(call_id=str(call_id), contacts=contacts, **told)  # type: ignore[arg-type]
    envelope: dict[str, object] = {"owner": owner} if owner else {}
    arrival = Arrival(transport=Transport.CONSOLE, format=Format.PHONE, raw=raw, envelope=envelope)
    delivery = Intake(house).accept(arrival)
    read(house, delivery, patience=PATIENCE)
    return delivery


def first(emails: Sequence[str]) -> str:
    """Return the caller's address: the first of the addresses that were named.

    "" where none was.
    """
    return emails[0] if emails else ""


def opened(house: House, delivery: int) -> tuple[int, Outcome]:
    """The ticket of a call, and whether it was opened by it.

    Raises Fault when there is none yet.
    """
    with house.store.reading() as session:
        filed = select(Filing.ticket_id, Filing.outcome).where(Filing.delivery_id == delivery)
        row = session.execute(filed.where(Filing.ticket_id.is_not(None))).first()
        reason = session.get_one(Delivery, delivery).reason
    if row is None:
        raise Fault(
            f"the call is stored as delivery {delivery} but is no ticket yet:"
            f" {reason or 'it waits'}",
            1,
        )
    return row.ticket_id, row.outcome


def _owner(house: House, actor: str) -> str:
    if not actor:
        return ""
    with house.store.reading() as session:
        person = directory.staff_named(session, actor)
    if person is None:
        click.echo(
            f"Nobody on the desk is called {actor}: the ticket waits in the unassigned queue.",
            err=True,
        )
    return person.name if person else ""
