"""API of mail that is on no ticket: list it, and make tickets of it or of duplicates."""

from flask import Response

from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import PageQuery, StrictSchema, number_input
from console.api.paging import JsonObject
from console.api.tickets import shown
from console.presenters import automated as automated_presenter
from console.web.api_errors import ApiError
from console.web.request import get_context, get_session, get_staff
from ingest.replay.automated_mail import make_ticket
from ingest.replay.duplicates import file_separately
from ingest.replay.reprocess import UnreadableError
from workflow.filing import automated_mail
from workflow.models.core import AutomatedMail, Ticket
from workflow.permissions import Right
from workflow.tickets.desk import ActionNotAllowed

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


class DuplicateChoice(StrictSchema):
    """Delivery that is not a duplicate; by default the newest that was taken for one."""

    delivery = number_input()


@endpoint(
    "POST",
    "/tickets/<int:number>/not-duplicate",
    Right.WORK,
    schemas.Ticket,
    about=ABOUT,
    refuses=[409],
    body=DuplicateChoice,
)
def ticket_not_duplicate(body: JsonObject, number: int) -> Response:
    """Make a ticket of a message that was taken for a duplicate; answer with the new ticket."""
    if get_session().get(Ticket, number) is None:
        raise ApiError(404, f"There is no ticket {number}.")
    try:
        return shown(
            file_separately(get_context(), number, body.get("delivery") or 0, by=get_staff().name)
        )
    except UnreadableError as error:
        raise ActionNotAllowed(str(error)) from None


@endpoint(
    "POST", "/automated/<int:number>/ticket", Right.WORK, schemas.Ticket, about=ABOUT, refuses=[409]
)
def automated_ticket(number: int) -> Response:
    """File it as a person's message; answer with the ticket it opened or was added to."""
    if get_session().get(AutomatedMail, number) is None:
        raise ApiError(404, f"There is no automated mail {number}.")
    try:
        return shown(make_ticket(get_context(), number, by=get_staff().name))
    except UnreadableError as error:
        raise ActionNotAllowed(str(error)) from None
