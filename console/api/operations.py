"""API of operations: status, ledger, audit log."""

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

ABOUT = "operations"


class AuditQuery(PageQuery):
    """Query of the audit log."""

    person = text_input(200, load_default="")
    action = text_input(100, load_default="")
    ticket = number_input(load_default=None)
    day = fields.Date(load_default=None, metadata={"description": "A day in the desk's time zone."})


@endpoint("GET", "/status", Right.AUDIT, schemas.Status, about=ABOUT)
def status() -> Response:
    """Get the state of channels and processes, the backlog, and what needs attention."""
    return jsonify(present_status(get_context()))


@endpoint("GET", "/ledger", Right.AUDIT, schemas.Report, about=ABOUT)
def ledger() -> Response:
    """Get the ledger: for each channel, items received against what became of them."""
    return jsonify(compute_balance(get_session()).as_dict())


@endpoint(
    "GET",
    "/audit",
    Right.AUDIT,
    schemas.make_page_schema(schemas.AuditEntry),
    about=ABOUT,
    query=AuditQuery,
)
def audit_rows(filters: JsonObject) -> Response:
    """List the entries of the audit log, newest first."""
    day: date | None = filters["day"]
    audit_filter = search.AuditFilter(
        person=filters["person"], action=filters["action"], ticket=filters["ticket"], day=day
    )
    return paging.respond_with_rows(
        get_session(),
        search.build_query(audit_filter, get_time_zone()),
        AuditEntry.id,
        filters,
        _present_entry,
        newest=True,
    )


def _present_entry(row: AuditEntry) -> JsonObject:
    return {
        "id": row.id,
        "at": format_iso(row.at),
        "actor": row.actor,
        "action": row.action,
        "cause": row.cause,
        "ticket": row.ticket_id,
        "detail": row.detail,
    }
