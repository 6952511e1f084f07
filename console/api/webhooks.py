"""API of webhooks: list, create, retry, delete."""

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
from workflow.webhooks import deliver

ABOUT = "webhooks"


class NewWebhook(StrictSchema):
    """Address of a new webhook, and the events it gets; all of them by default."""

    url = text_input(deliver.MAX_URL, 1, required=True)
    events = fields.List(choice_input(EventType), load_default=lambda: list(EventType))


class RetriedEvents(Schema):
    """Number of events that will be sent again."""

    events = integer_field()


@endpoint("GET", "/hooks", Right.ADMIN, schemas.make_page_schema(schemas.Webhook), about=ABOUT)
def hooks() -> Response:
    """List the webhooks with the number of events that wait or were given up."""
    return jsonify(
        {
            "items": [
                present_hook(h, counts) for h, counts in deliver.list_webhooks(get_session())
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
def hook_new(body: JsonObject) -> Response:
    """Create a webhook. Its signing secret is in this answer and in no other."""
    with get_context().store.transaction() as session:
        row, secret = deliver.create_webhook(
            get_context(), session, body["url"], body["events"], by=get_staff().name, now=now()
        )
        response = jsonify({**present_hook(row, {}), "secret": secret})
    response.status_code = 201
    return response


@endpoint("POST", "/hooks/<int:number>/again", Right.ADMIN, RetriedEvents, about=ABOUT)
def hook_again(number: int) -> Response:
    """Send the events again, now, that were given up or wait between two attempts."""
    _require_webhook(number)
    with get_context().store.transaction() as session:
        return jsonify(
            events=deliver.retry_webhook(session, number, by=get_staff().name, now=now())
        )


@endpoint("DELETE", "/hooks/<int:number>", Right.ADMIN, None, about=ABOUT, status=204)
def hook_remove(number: int) -> Response:
    """Delete a webhook and its undelivered events."""
    _require_webhook(number)
    with get_context().store.transaction() as session:
        deliver.delete_webhook(session, number, by=get_staff().name, now=now())
    return Response(status=204)


def _require_webhook(number: int) -> None:
    row = get_session().get(Webhook, number)
    if row is None or row.removed_at is not None:
        raise ApiError(404, f"There is no webhook {number}.")
