"""The state of the house by the API: status, ledger, audit trail."""

from datetime import date

from flask import Response, jsonify
from marshmallow import fields

from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import Paged, number, words
from console.api.paging import Data
from console.presenters.house_data import status_data
from console.presenters.times import iso
from console.web.request import db, house, zone
from workflow.audit import search
from workflow.models.core import Audit
from workflow.operations.ledger import balance
from workflow.permissions import Right

ABOUT = "the house"


class Rows(Paged):
    """Which rows of the audit trail."""

    person = words(200, load_default="")
    action = words(100, load_default="")
    ticket = number(load_default=None)
    day = fields.Date(load_default=None, metadata={"description": "As the desk's calendar has it."})


@endpoint("GET", "/status", Right.AUDIT, schemas.Status, about=ABOUT)
def status() -> Response:
    """Doors, processes, backlog, and what needs a person."""
    return jsonify(status_data(house()))


@endpoint("GET", "/ledger", Right.AUDIT, schemas.Anything, about=ABOUT)
def ledger() -> Response:
    """Return what was received against what has become of it, for each door."""
    return jsonify(balance(db()).as_dict())


@endpoint("GET", "/audit", Right.AUDIT, schemas.page_of(schemas.Change), about=ABOUT, query=Rows)
def audit_rows(told: Data) -> Response:
    """Return who did what, when and why, newest first."""
    day: date | None = told["day"]
    wanted = search.Filter(
        person=told["person"], action=told["action"], ticket=told["ticket"], day=day
    )
    return paging.listed(db(), search.rows(wanted, zone()), Audit.id, told, _change, newest=True)


def _change(row: Audit) -> Data:
    return {
        "id": row.id,
        "at": iso(row.at),
        "actor": row.actor,
        "action": row.action,
        "cause": row.cause,
        "ticket": row.ticket_id,
        "detail": row.detail,
    }
