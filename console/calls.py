"""A call written down by staff: through the one door like everything else, and read at once."""

from collections.abc import Sequence
from uuid import uuid4

import click
from sqlalchemy import select

from console.faults import Fault
from console.opening import login
from ingest.intake import Arrival, Intake, Transport
from ingest.reading import read
from parsers import phone
from parsers.item import Format
from workflow import people
from workflow.house import House
from workflow.models import Delivery, Filing

PATIENCE = 10.0  # seconds for a worker that was faster to read it


def write_down(
    house: House, *, actor: str, contacts: tuple[str, ...] = (), chosen: Sequence[phone.Contact] = (),
    call_id: str = "", **told: str | bool,
) -> int:  # fmt: skip
    """Put a call through the one door, read it at once, and give the number of its ticket.

    `contacts` are addresses, `chosen` come with their boxes; the same `call_id` is the same call, however often it is
    sent. `told` are the fields of `parsers.phone.compose`. Raises Fault when the call cannot be read.
    """
    emails = [e for one in contacts for e in one.replace(",", " ").split()]
    for email in emails:
        if not people.usable(email):
            raise Fault(f"not a mail address: {email}", 2)
    owner = _owner(house, actor)
    raw = phone.compose(
        call_id=call_id or uuid4().hex,
        email=emails[0] if emails else "",
        contacts=[*(phone.Contact(email=e) for e in emails), *chosen],
        created_by=actor or login(),
        **told,  # type: ignore[arg-type]  # click hands over text for text and a flag for the flag
    )
    envelope: dict[str, object] = {"owner": owner} if owner else {}
    arrival = Arrival(transport=Transport.CONSOLE, format=Format.PHONE, raw=raw, envelope=envelope)
    delivery = Intake(house).accept(arrival)
    read(house, delivery, patience=PATIENCE)
    return _opened(house, delivery)


def _owner(house: House, actor: str) -> str:
    if not actor:
        return ""
    with house.store.reading() as session:
        person = people.staff_named(session, actor)
    if person is None:
        click.echo(f"Nobody on the desk is called {actor}: the ticket waits in the unassigned queue.", err=True)
    return person.name if person else ""


def _opened(house: House, delivery: int) -> int:
    with house.store.reading() as session:
        number = session.scalar(select(Filing.ticket_id).where(Filing.delivery_id == delivery))
        reason = session.get_one(Delivery, delivery).reason
    if number is None:
        raise Fault(f"the call is stored as delivery {delivery} but is no ticket yet: {reason or 'it waits'}", 1)
    return number
