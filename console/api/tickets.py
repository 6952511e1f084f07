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
from console.api.fields import PageQuery, StrictSchema, choice_input, text_input
from console.pages.tickets import files
from console.presenters.csv_text import encode_csv
from console.presenters.tickets import ticket as ticket_presenter
from console.presenters.tickets.queue import STAGES, TRANSPORTS
from console.web.api_errors import ApiError
from console.web.request import get_actor, get_context, get_session, get_staff, now
from ingest import attached_files
from ingest.phone_call import NotFiledYet, PhoneCall
from ingest.phone_call import write_down as write_call_down
from ingest.replay.reprocess import UnreadableError
from parsers.phone_call import Contact
from workflow.audit import record as audit
from workflow.customers import directory
from workflow.models.core import AuditEntry, Staff, Ticket
from workflow.models.states import Outcome
from workflow.permissions import Right
from workflow.process import Stage
from workflow.tickets import presence, views
from workflow.tickets.views import Filters, Sort, TicketQuery

ABOUT = "tickets"
VIEW_RECORD_INTERVAL = timedelta(hours=1)  # the audit log says so often who has read a ticket


class List(PageQuery):
    """Parameters of a list of tickets."""

    view = choice_input(views.VIEWS, load_default="open")
    company = text_input(200, load_default="", metadata={"description": "How its name begins."})
    door = choice_input(TRANSPORTS, load_default="")
    owner = text_input(
        320, load_default="", metadata={"description": "A name or mail address, `me`, or `nobody`."}
    )
    stage = choice_input(STAGES, load_default="")
    telemedicine = fields.Boolean(load_default=False)
    q = text_input(
        200, load_default="", metadata={"description": "Words, looked for in all of a ticket."}
    )
    sort = choice_input(Sort, load_default="")


class Call(StrictSchema):
    """A call written down."""

    company = text_input()
    contacts = fields.List(
        fields.Email(), load_default=list, metadata={"description": "Mail addresses, caller first."}
    )
    name = text_input(metadata={"description": "Of the caller."})
    phone = text_input(64)
    subject = text_input()
    text = text_input(100_000, 1, required=True)
    telemedicine = fields.Boolean()
    take = fields.Boolean(
        load_default=False, metadata={"description": "It is yours; else it waits in the queue."}
    )


class Once(Schema):
    """The idempotency key of a call: sent again under the same one, it is the same ticket."""

    key = text_input(255, data_key="Idempotency-Key", load_default="")


class Export(StrictSchema):
    """Parameters of an export."""

    text = fields.Boolean(
        load_default=False, metadata={"description": "Subject and text too: patient data."}
    )


@endpoint(
    "GET",
    "/tickets",
    Right.READ,
    schemas.make_page_schema(schemas.TicketSummary),
    about=ABOUT,
    query=List,
    refuses=[422],
)
def tickets(parameters: paging.JsonObject) -> Response:
    """Answer the tickets of a view, filtered, in order, page by page."""
    ticket_query = TicketQuery(
        view=parameters["view"],
        words=parameters["q"],
        sort=Sort(parameters["sort"]) if parameters["sort"] else None,
        filters=Filters(
            company=parameters["company"],
            channel=parameters["door"],
            owner=_find_owner_id(get_session(), parameters["owner"]),
            telemedicine=parameters["telemedicine"],
            stage=Stage(parameters["stage"]) if parameters["stage"] else None,
        ),
    )
    sort = ticket_query.sort or views.VIEWS[ticket_query.view].sort
    query = views.build_select(get_session(), ticket_query, actor=get_staff().name, now=now())
    if parameters["cursor"]:
        query = query.where(paging.build_cursor_condition(sort, parameters["cursor"]))
    # One row more than asked for: it says whether there is a next page.
    rows = list(get_session().scalars(query.limit(parameters["limit"] + 1)))
    page = rows[: parameters["limit"]]
    following = paging.make_cursor(sort, page[-1]) if len(rows) > len(page) else None
    return paging.respond_with_items(
        [ticket_presenter.present_ticket_row(t) for t in page], following
    )


@endpoint("GET", "/tickets/<int:number>", Right.READ, schemas.Ticket, about=ABOUT)
def ticket(number: int) -> Response:
    """Answer a ticket with all that is on it. Its ETag is its version, for If-Match."""
    if get_session().get(Ticket, number) is None:
        raise ApiError(404, f"There is no ticket {number}.")
    _record_view(number)
    return respond_with_ticket(number)


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
    other_answers={202: schemas.StoredCall},
)
def write_down(once: paging.JsonObject, fields: paging.JsonObject) -> Response:
    """Write a call down: a new ticket.

    202 where it is stored and read later: do not send it again.
    """
    take, emails = fields.pop("take"), fields.pop("contacts")
    call = PhoneCall(
        contacts=[Contact(email=email) for email in emails],
        # The first contact is the caller, as the document of the API says.
        email=emails[0] if emails else "",
        call_id=_make_call_id(once["key"]) if once["key"] else "",
        **fields,
    )
    try:
        result = write_call_down(get_context(), call, actor=get_actor(), take=take)
    except NotFiledYet as fault:
        answer = jsonify(detail=f"{fault}. Do not send it again.")
        answer.status_code = 202
        return answer
    if result.outcome is not Outcome.OPENED:  # other words under the same key: nothing is lost
        raise ApiError(
            409,
            "This Idempotency-Key was another call's. What you sent now stands on its ticket,"
            f" {result.ticket}.",
        )
    answer = respond_with_ticket(result.ticket)
    answer.status_code = 201
    answer.headers["Location"] = f"/api/v1/tickets/{result.ticket}"
    return answer


@endpoint(
    "GET",
    "/tickets.csv/<any({}):view>".format(", ".join(f'"{name}"' for name in exports.VIEW_NAMES)),
    Right.LEAD,
    None,
    about=ABOUT,
    query=Export,
    kind="text/csv",
)
def export(parameters: paging.JsonObject, view: str) -> Response:
    """Answer the tickets of a view as CSV, streamed; the export is in the audit log."""
    columns = exports.select_columns([], with_text=parameters["text"])
    conditions = views.VIEWS[view].where(get_staff().name, now())
    count = get_session().scalar(select(func.count()).select_from(Ticket).where(*conditions))
    with get_context().store.transaction() as session:
        exports.record_export(
            session, view, count or 0, by=get_staff().name, cause="API", now=now(), columns=columns
        )
    lines = exports.iterate_rows(
        get_context(), get_session(), view, columns, actor=get_staff().name
    )
    answer = Response(stream_with_context(encode_csv(lines)), mimetype="text/csv")
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


@endpoint(
    "GET",
    "/attachments/<int:number>/message",
    Right.READ,
    schemas.AttachedMessage,
    about=ABOUT,
    refuses=[409],
)
def attached_message(number: int) -> Response:
    """Answer the message in a file: an attached mail, or one that Outlook saved (.msg)."""
    files.record_attachment_access(number)
    try:
        item = attached_files.read_message(get_context(), number)
    except UnreadableError as error:
        raise ApiError(409, f"The file cannot be read as a message: {error}.") from None
    return jsonify(ticket_presenter.present_attached_message(item))


@endpoint(
    "POST",
    "/attachments/<int:number>/rows",
    Right.WORK,
    schemas.DeliveryNumber,
    about=ABOUT,
    refuses=[409],
)
def attached_rows(number: int) -> Response:
    """Make tickets of the rows of an attached workbook; answer the delivery that files them."""
    files.record_attachment_access(number)
    try:
        delivery = attached_files.file_rows(get_context(), number, actor=get_actor())
    except UnreadableError as error:
        raise ApiError(409, f"No tickets can be made of its rows: {error}.") from None
    return jsonify({"delivery": delivery})


def respond_with_ticket(number: int) -> Response:
    """Return the answer with a ticket as it is now, and its ETag."""
    with get_context().store.read_only() as session:
        answer = jsonify(ticket_presenter.present_ticket(session, number, get_context().settings))
        answer.set_etag(str(presence.get_version(session, number)))
    return answer


def find_person(session: Session, name: str, field: str) -> Staff:
    """Return somebody on the desk, by name or address, or `me`. Raises ApiError for nobody."""
    staff = (
        session.get(Staff, get_staff().id) if name == "me" else directory.find_staff(session, name)
    )
    if staff is None:
        raise ApiError(422, fields={field: ["Nobody on the desk has this name or address."]})
    return staff


def _find_owner_id(session: Session, name: str) -> int | None:
    if name == "nobody":
        return views.NOBODY
    return find_person(session, name, "owner").id if name else None


def _make_call_id(key: str) -> str:
    # With the person: programs of two people may choose the same key.
    return "api-" + hashlib.sha256(f"{get_staff().id}:{key}".encode()).hexdigest()[:40]


def _record_view(number: int) -> None:
    """Record in the audit log who has read a ticket, once an hour (45 CFR 164.312(b))."""
    since = now() - VIEW_RECORD_INTERVAL
    recent_views = select(AuditEntry.id).where(
        AuditEntry.ticket_id == number,
        AuditEntry.action == "viewed",
        AuditEntry.actor == get_staff().name,
        AuditEntry.at > since,
    )
    # A program that reads a ticket each minute would fill the audit log.
    if get_session().scalar(recent_views.limit(1)) is None:
        with get_context().store.transaction() as session:
            audit.record(
                session, "viewed", by=get_staff().name, cause="API", now=now(), ticket=number
            )
