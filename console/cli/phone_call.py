"""A call written down by staff: through the one door like everything else, and read at once."""

from collections.abc import Sequence
from uuid import uuid4

import click
from sqlalchemy import select

from console.bootstrap import get_login_name
from console.errors import CommandError
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_delivery
from parsers import phone_call
from parsers.item import Format
from workflow.context import AppContext
from workflow.customers import directory
from workflow.models.core import Delivery, Filing
from workflow.models.states import Outcome

PATIENCE = 10.0  # seconds for a worker that was faster to read it


def write_down(
    context: AppContext,
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
    `parsers.phone_call.compose`; with its `name` and `email` it says who called. Raises CommandError when
    the call cannot be read.
    """
    emails = [e for one in contacts for e in one.replace(",", " ").split()]
    for email in emails:
        if not directory.is_valid_address(email):
            raise CommandError(f"not a mail address: {email}", 2)
    owner = _owner(context, actor)
    everybody = [*(phone_call.Contact(email=e) for e in emails), *chosen]
    call = {
        "call_id": call_id,
        "email": first(emails),
        "created_by": actor or get_login_name(),
        **told,
    }
    number, _ = opened(context, put_in(context, owner, everybody, **call))
    return number


def put_in(
    context: AppContext, owner: str, contacts: Sequence[phone_call.Contact], **told: str | bool
) -> int:
    """Put a call through the one door and read it at once; the number of its delivery.

    `owner` "": the queue.
    """
    call_id = told.pop("call_id", "") or uuid4().hex
    # text for text
    raw = phone_call.compose(call_id=str(call_id), contacts=contacts, **told)  # type: ignore[arg-type]
    envelope: dict[str, object] = {"owner": owner} if owner else {}
    arrival = Arrival(transport=Transport.CONSOLE, format=Format.PHONE, raw=raw, envelope=envelope)
    delivery = Intake(context).accept(arrival)
    process_delivery(context, delivery, patience=PATIENCE)
    return delivery


def first(emails: Sequence[str]) -> str:
    """Return the caller's address: the first of the addresses that were named.

    "" where none was.
    """
    return emails[0] if emails else ""


def opened(context: AppContext, delivery: int) -> tuple[int, Outcome]:
    """The ticket of a call, and whether it was opened by it.

    Raises CommandError when there is none yet.
    """
    with context.store.read_only() as session:
        filed = select(Filing.ticket_id, Filing.outcome).where(Filing.delivery_id == delivery)
        row = session.execute(filed.where(Filing.ticket_id.is_not(None))).first()
        reason = session.get_one(Delivery, delivery).reason
    if row is None:
        raise CommandError(
            f"the call is stored as delivery {delivery} but is no ticket yet:"
            f" {reason or 'it waits'}",
            1,
        )
    return row.ticket_id, row.outcome


def _owner(context: AppContext, actor: str) -> str:
    if not actor:
        return ""
    with context.store.read_only() as session:
        person = directory.find_staff(session, actor)
    if person is None:
        click.echo(
            f"Nobody on the desk is called {actor}: the ticket waits in the unassigned queue.",
            err=True,
        )
    return person.name if person else ""
