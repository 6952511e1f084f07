"""Automated mail by the API: what is on no ticket, and making one of it."""

from flask import Response

from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import Paged
from console.api.paging import Data
from console.api.tickets import shown
from console.presenters import automated as automated_presenter
from console.web.api_errors import Refused
from console.web.request import actor, db, house
from ingest.replay.automated_mail import RIGHT, make_ticket
from workflow.filing import automated_mail
from workflow.models.core import AutomatedMail
from workflow.permissions import Right

ABOUT = "automated mail"


@endpoint(
    "GET",
    "/automated",
    Right.READ,
    schemas.page_of(schemas.AutomatedMail),
    about=ABOUT,
    query=Paged,
)
def automated(told: Data) -> Response:
    """Mail that is on no ticket, newest first."""
    before = paging.number(told["cursor"]) if told["cursor"] else None
    found = automated_mail.page(db(), before=before, limit=told["limit"] + 1)
    rows = [automated_presenter.row(mail) for mail in found[: told["limit"]]]
    return paging.answer(rows, str(rows[-1]["id"]) if len(found) > len(rows) else None)


@endpoint(
    "POST", "/automated/<int:number>/ticket", RIGHT, schemas.Ticket, about=ABOUT, refuses=[409]
)
def automated_ticket(number: int) -> Response:
    """File it as a person's message; the ticket it opened or joined."""
    if db().get(AutomatedMail, number) is None:
        raise Refused(404, f"There is no automated mail {number}.")
    return shown(make_ticket(house(), number, actor=actor()))
