"""Webhooks by the API: registered, listed, told again, removed."""

from flask import Response, jsonify
from marshmallow import Schema, fields

from console.api import schemas
from console.api.endpoint import endpoint
from console.api.fields import StrictSchema, choice_input, integer_field, text_input
from console.api.paging import JsonObject
from console.presenters.webhooks import present_hook
from console.web.api_errors import ApiError
from console.web.request import get_context, get_session, get_staff, now
from workflow.audit.webhook_events import EventType
from workflow.models.webhooks import Webhook
from workflow.permissions import Right
from workflow.webhooks import deliver as hooking

ABOUT = "webhooks"


class NewWebhook(StrictSchema):
    """Whom to tell of what."""

    url = text_input(hooking.MAX_URL, 1, required=True)
    events = fields.List(choice_input(EventType), load_default=lambda: list(EventType))


class RetriedEvents(Schema):
    """How many events will be told again."""

    events = integer_field()


@endpoint("GET", "/hooks", Right.ADMIN, schemas.make_page_schema(schemas.Webhook), about=ABOUT)
def hooks() -> Response:
    """The webhooks, with what waits for each and what was given up."""
    return jsonify(
        {
            "items": [
                present_hook(h, counts) for h, counts in hooking.list_webhooks(get_session())
            ],
            "next": None,
        }
    )


@endpoint(
    "POST",
    "/hooks",
    Right.ADMIN,
    schemas.WebhookWithSecret,
    about=ABOUT,
    body=NewWebhook,
    status=201,
    refuses=[409],
)
def hook_new(told: JsonObject) -> Response:
    """Register an address. The secret that signs is in this answer, and in no other."""
    with get_context().store.transaction() as session:
        row, secret = hooking.create_webhook(
            get_context(), session, told["url"], told["events"], by=get_staff().name, now=now()
        )
        answer = jsonify({**present_hook(row, {}), "secret": secret})
    answer.status_code = 201
    return answer


@endpoint("POST", "/hooks/<int:number>/again", Right.ADMIN, RetriedEvents, about=ABOUT)
def hook_again(number: int) -> Response:
    """Tell now what was given up, or what pauses between two tries."""
    _there(number)
    with get_context().store.transaction() as session:
        return jsonify(
            events=hooking.retry_webhook(session, number, by=get_staff().name, now=now())
        )


@endpoint("DELETE", "/hooks/<int:number>", Right.ADMIN, None, about=ABOUT, status=204)
def hook_remove(number: int) -> Response:
    """Tell it nothing more, not even what waits."""
    _there(number)
    with get_context().store.transaction() as session:
        hooking.delete_webhook(session, number, by=get_staff().name, now=now())
    return Response(status=204)


def _there(number: int) -> None:
    row = get_session().get(Webhook, number)
    if row is None or row.removed_at is not None:
        raise ApiError(404, f"There is no webhook {number}.")
