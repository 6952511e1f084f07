"""API of mail that is on no ticket: list it, and make tickets of it."""

from flask import Response

from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import PageQuery
from console.api.paging import JsonObject
from console.api.tickets import respond_with_ticket
from console.presenters import automated as automated_presenter
from console.web.api_errors import ApiError
from console.web.request import get_actor, get_context, get_session
from ingest.replay.automated_mail import RIGHT, make_ticket, undo_ticket
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
def automated(page: JsonObject) -> Response:
    """List mail that is on no ticket, newest first."""
    before = paging.parse_cursor_number(page["cursor"]) if page["cursor"] else None
    mails = automated_mail.list_automated_mail(
        get_session(), before=before, limit=page["limit"] + 1
    )
    items = [automated_presenter.present_automated_mail(mail) for mail in mails[: page["limit"]]]
    has_more = len(mails) > len(items)
    return paging.respond_with_items(items, str(items[-1]["id"]) if has_more else None)


@endpoint(
    "POST", "/automated/<int:number>/ticket", RIGHT, schemas.Ticket, about=ABOUT, refuses=[409]
)
def automated_ticket(number: int) -> Response:
    """File it as a person's message; answer with the ticket it opened or was added to."""
    if get_session().get(AutomatedMail, number) is None:
        raise ApiError(404, f"There is no automated mail {number}.")
    return respond_with_ticket(make_ticket(get_context(), number, actor=get_actor()))


@endpoint("POST", "/automated/<int:number>/undo", RIGHT, schemas.Ticket, about=ABOUT, refuses=[409])
def automated_undo(number: int) -> Response:
    """Undo that it was made a ticket, within ten minutes; answer with the withdrawn ticket."""
    if get_session().get(AutomatedMail, number) is None:
        raise ApiError(404, f"There is no automated mail {number}.")
    return respond_with_ticket(undo_ticket(get_context(), number, actor=get_actor()))
