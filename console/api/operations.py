"""The state of the house by the API: status, ledger, audit trail."""

from datetime import date

from flask import Response, jsonify
from marshmallow import fields

from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import PageQuery, number_input, text_input
from console.api.paging import JsonObject
from console.presenters.operations import present_status
from console.presenters.times import format_iso
from console.web.request import get_context, get_session, get_time_zone
from workflow.audit import search
from workflow.models.core import AuditEntry
from workflow.operations.ledger import compute_balance
from workflow.permissions import Right

ABOUT = "the house"


class AuditQuery(PageQuery):
    """Which rows of the audit trail."""

    person = text_input(200, load_default="")
    action = text_input(100, load_default="")
    ticket = number_input(load_default=None)
    day = fields.Date(load_default=None, metadata={"description": "As the desk's calendar has it."})


@endpoint("GET", "/status", Right.AUDIT, schemas.Status, about=ABOUT)
def status() -> Response:
    """Doors, processes, backlog, and what needs a person."""
    return jsonify(present_status(get_context()))


@endpoint("GET", "/ledger", Right.AUDIT, schemas.Report, about=ABOUT)
def ledger() -> Response:
    """Return what was received against what has become of it, for each door."""
    return jsonify(compute_balance(get_session()).as_dict())


@endpoint(
    "GET",
    "/audit",
    Right.AUDIT,
    schemas.make_page_schema(schemas.AuditEntry),
    about=ABOUT,
    query=AuditQuery,
)
def audit_rows(told: JsonObject) -> Response:
    """Return who did what, when and why, newest first."""
    day: date | None = told["day"]
    wanted = search.AuditFilter(
        person=told["person"], action=told["action"], ticket=told["ticket"], day=day
    )
    return paging.respond_with_rows(
        get_session(),
        search.build_query(wanted, get_time_zone()),
        AuditEntry.id,
        told,
        _change,
        newest=True,
    )


def _change(row: AuditEntry) -> JsonObject:
    return {
        "id": row.id,
        "at": format_iso(row.at),
        "actor": row.actor,
        "action": row.action,
        "cause": row.cause,
        "ticket": row.ticket_id,
        "detail": row.detail,
    }
