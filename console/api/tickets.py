"""Tickets by the API: lists, one, a call written down, exports, files."""

import hashlib
from datetime import timedelta

from flask import Response, jsonify, stream_with_context
from marshmallow import Schema, fields
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from console import exports
from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import Paged, Strict, one_of, words
from console.pages.tickets import files
from console.presenters import ticket as ticket_presenter
from console.presenters.queue import DOORS, STAGES
from console.web.api_errors import Refused
from console.web.request import actor, db, house, now, staff
from ingest.phone_call import NotFiledYet, PhoneCall
from ingest.phone_call import write_down as write_call_down
from parsers.phone_call import Contact
from workflow.audit import record as audit
from workflow.customers import directory
from workflow.models.core import Audit, Staff, Ticket
from workflow.models.states import Outcome
from workflow.permissions import Right
from workflow.process import Stage
from workflow.tickets import presence, views
from workflow.tickets.views import Asked, Filters, Sort

ABOUT = "tickets"
VIEWED_EVERY = timedelta(hours=1)  # in the audit trail: so often it says who has read a ticket


class List(Paged):
    """Parameters of a list of tickets."""

    view = one_of(views.VIEWS, load_default="open")
    company = words(200, load_default="", metadata={"description": "How its name begins."})
    door = one_of(DOORS, load_default="")
    owner = words(
        320, load_default="", metadata={"description": "A name or mail address, `me`, or `nobody`."}
    )
    stage = one_of(STAGES, load_default="")
    telemedicine = fields.Boolean(load_default=False)
    q = words(
        200, load_default="", metadata={"description": "Words, looked for in all of a ticket."}
    )
    sort = one_of(Sort, load_default="")


class Call(Strict):
    """A call written down."""

    company = words()
    contacts = fields.List(
        fields.Email(), load_default=list, metadata={"description": "Mail addresses, caller first."}
    )
    name = words(metadata={"description": "Of the caller."})
    phone = words(64)
    subject = words()
    text = words(100_000, 1, required=True)
    telemedicine = fields.Boolean()
    take = fields.Boolean(
        load_default=False, metadata={"description": "It is yours; else it waits in the queue."}
    )


class Once(Schema):
    """The idempotency key of a call: sent again under the same one, it is the same ticket."""

    key = words(255, data_key="Idempotency-Key", load_default="")


class Export(Strict):
    """Parameters of an export."""

    text = fields.Boolean(
        load_default=False, metadata={"description": "Subject and text too: patient data."}
    )


@endpoint(
    "GET",
    "/tickets",
    Right.READ,
    schemas.page_of(schemas.TicketShort),
    about=ABOUT,
    query=List,
    refuses=[422],
)
def tickets(wanted: paging.Data) -> Response:
    """Answer the tickets of a view, filtered, in order, page by page."""
    asked = Asked(
        view=wanted["view"],
        words=wanted["q"],
        sort=Sort(wanted["sort"]) if wanted["sort"] else None,
        filters=Filters(
            company=wanted["company"],
            door=wanted["door"],
            owner=_owner(db(), wanted["owner"]),
            telemedicine=wanted["telemedicine"],
            stage=Stage(wanted["stage"]) if wanted["stage"] else None,
        ),
    )
    sort = asked.sort or views.VIEWS[asked.view].sort
    query = views.query(db(), asked, actor=staff().name, now=now())
    if wanted["cursor"]:
        query = query.where(paging.beyond(sort, wanted["cursor"]))
    rows = list(db().scalars(query.limit(wanted["limit"] + 1)))
    page = rows[: wanted["limit"]]
    following = paging.cursor_of(sort, page[-1]) if len(rows) > len(page) else None
    return paging.answer([ticket_presenter.short(t) for t in page], following)


@endpoint("GET", "/tickets/<int:number>", Right.READ, schemas.Ticket, about=ABOUT)
def ticket(number: int) -> Response:
    """Answer a ticket with all that is on it. Its ETag is its version, for If-Match."""
    if db().get(Ticket, number) is None:
        raise Refused(404, f"There is no ticket {number}.")
    _viewed(number)
    return shown(number)


@endpoint(
    "POST",
    "/tickets",
    Right.WORK,
    schemas.Ticket,
    about=ABOUT,
    body=Call,
    headers=Once,
    status=201,
    refuses=[409],
)
def write_down(once: paging.Data, fields: paging.Data) -> Response:
    """Write a call down: a new ticket.

    202 where it is stored and read later: do not send it again.
    """
    take, emails = fields.pop("take"), fields.pop("contacts")
    call = PhoneCall(
        contacts=[Contact(email=email) for email in emails],
        email=emails[0] if emails else "",
        call_id=_call_id(once["key"]) if once["key"] else "",
        **fields,
    )
    try:
        filed = write_call_down(house(), call, actor=actor(), take=take)
    except NotFiledYet as fault:
        answer = jsonify(detail=f"{fault}. Do not send it again.")
        answer.status_code = 202
        return answer
    if filed.outcome is not Outcome.OPENED:  # other words under the same key: nothing is lost
        raise Refused(
            409,
            "This Idempotency-Key was another call's. What you sent now stands on its ticket,"
            f" {filed.ticket}.",
        )
    answer = shown(filed.ticket)
    answer.status_code = 201
    answer.headers["Location"] = f"/api/v1/tickets/{filed.ticket}"
    return answer


@endpoint(
    "GET", "/tickets.csv/<any({}):view>".format(", ".join(f'"{name}"' for name in exports.EXPORTED)), Right.LEAD,
    None, about=ABOUT, query=Export, kind="text/csv",
)  # fmt: skip
def export(wanted: paging.Data, view: str) -> Response:
    """Answer the tickets of a view as CSV, streamed; the export is in the audit log."""
    columns = exports.chosen([], with_text=wanted["text"])
    conditions = views.VIEWS[view].where(staff().name, now())
    count = db().scalar(select(func.count()).select_from(Ticket).where(*conditions))
    with house().store.transaction() as session:
        exports.record(
            session, view, count or 0, by=staff().name, cause="API", now=now(), columns=columns
        )
    lines = exports.rows(house(), db(), view, columns, actor=staff().name)
    answer = Response(stream_with_context(exports.csv_bytes(lines)), mimetype="text/csv")
    answer.headers["Content-Disposition"] = f'attachment; filename="{view}.csv"'
    return answer


@endpoint(
    "GET",
    "/attachments/<int:number>",
    Right.READ,
    None,
    about=ABOUT,
    kind="application/octet-stream",
)
def attachment(number: int) -> Response:
    """Answer a file as it came."""
    return files.download(number)


def shown(number: int) -> Response:
    """Return the answer with a ticket as it is now, and its ETag."""
    with house().store.reading() as session:
        answer = jsonify(ticket_presenter.full(session, number, house().settings))
        answer.set_etag(str(presence.version(session, number)))
    return answer


def person(session: Session, name: str, field: str) -> Staff:
    """Return somebody on the desk, by name or address, or `me`. Raises Refused for nobody."""
    found = session.get(Staff, staff().id) if name == "me" else directory.staff_named(session, name)
    if found is None:
        raise Refused(422, fields={field: ["Nobody on the desk has this name or address."]})
    return found


def _owner(session: Session, name: str) -> int | None:
    if name == "nobody":
        return views.NOBODY
    return person(session, name, "owner").id if name else None


def _call_id(key: str) -> str:
    return "api-" + hashlib.sha256(f"{staff().id}:{key}".encode()).hexdigest()[:40]


def _viewed(number: int) -> None:
    """Record in the audit log who has read a ticket, once an hour (45 CFR 164.312(b))."""
    since = now() - VIEWED_EVERY
    lately = select(Audit.id).where(
        Audit.ticket_id == number,
        Audit.action == "viewed",
        Audit.actor == staff().name,
        Audit.at > since,
    )
    if db().scalar(lately.limit(1)) is None:
        with house().store.transaction() as session:
            audit.record(session, "viewed", by=staff().name, cause="API", now=now(), ticket=number)
