"""Automated mail by the API: what is on no ticket, and making one of it."""

from flask import Response

from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import PageQuery
from console.api.paging import JsonObject
from console.api.tickets import shown
from console.presenters import automated as automated_presenter
from console.web.api_errors import ApiError
from console.web.request import actor, get_context, get_session
from ingest.replay.automated_mail import RIGHT, make_ticket
from workflow.filing import automated_mail
from workflow.models.core import AutomatedMail
from workflow.permissions import Right

ABOUT = "automated mail"


@endpoint(
    "GET",
    "/automated",
    Right.READ,
    schemas.make_page_schema(schemas.AutomatedMail),
    about=ABOUT,
    query=PageQuery,
)
def automated(told: JsonObject) -> Response:
    """Mail that is on no ticket, newest first."""
    before = paging.parse_cursor_number(told["cursor"]) if told["cursor"] else None
    found = automated_mail.list_automated_mail(
        get_session(), before=before, limit=told["limit"] + 1
    )
    rows = [automated_presenter.present_automated_mail(mail) for mail in found[: told["limit"]]]
    return paging.respond_with_items(rows, str(rows[-1]["id"]) if len(found) > len(rows) else None)


@endpoint(
    "POST", "/automated/<int:number>/ticket", RIGHT, schemas.Ticket, about=ABOUT, refuses=[409]
)
def automated_ticket(number: int) -> Response:
    """File it as a person's message; the ticket it opened or joined."""
    if get_session().get(AutomatedMail, number) is None:
        raise ApiError(404, f"There is no automated mail {number}.")
    return shown(make_ticket(get_context(), number, actor=actor()))
