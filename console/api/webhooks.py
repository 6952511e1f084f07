"""Webhooks by the API: registered, listed, told again, removed."""

from flask import Response, jsonify
from marshmallow import Schema, fields

from console.api import schemas
from console.api.endpoint import endpoint
from console.api.fields import Strict, count, one_of, words
from console.api.paging import Data
from console.presenters import program_data
from console.web.api_errors import Refused
from console.web.request import db, house, now, staff
from workflow.audit.webhook_events import Event
from workflow.models.webhooks import Hook
from workflow.permissions import Right
from workflow.webhooks import deliver as hooking

ABOUT = "webhooks"


class HookNew(Strict):
    """Whom to tell of what."""

    url = words(hooking.LONGEST_URL, 1, required=True)
    events = fields.List(one_of(Event), load_default=lambda: list(Event))


class Again(Schema):
    """How many events will be told again."""

    events = count()


@endpoint("GET", "/hooks", Right.ADMIN, schemas.page_of(schemas.Hook), about=ABOUT)
def hooks() -> Response:
    """The webhooks, with what waits for each and what was given up."""
    return jsonify(
        {
            "items": [program_data.hook(h, counts) for h, counts in hooking.listed(db())],
            "next": None,
        }
    )


@endpoint(
    "POST",
    "/hooks",
    Right.ADMIN,
    schemas.HookMade,
    about=ABOUT,
    body=HookNew,
    status=201,
    refuses=[409],
)
def hook_new(told: Data) -> Response:
    """Register an address. The secret that signs is in this answer, and in no other."""
    with house().store.transaction() as session:
        row, secret = hooking.add(
            house(), session, told["url"], told["events"], by=staff().name, now=now()
        )
        answer = jsonify({**program_data.hook(row, {}), "secret": secret})
    answer.status_code = 201
    return answer


@endpoint("POST", "/hooks/<int:number>/again", Right.ADMIN, Again, about=ABOUT)
def hook_again(number: int) -> Response:
    """Tell now what was given up, or what pauses between two tries."""
    _there(number)
    with house().store.transaction() as session:
        return jsonify(events=hooking.again(session, number, by=staff().name, now=now()))


@endpoint("DELETE", "/hooks/<int:number>", Right.ADMIN, None, about=ABOUT, status=204)
def hook_remove(number: int) -> Response:
    """Tell it nothing more, not even what waits."""
    _there(number)
    with house().store.transaction() as session:
        hooking.remove(session, number, by=staff().name, now=now())
    return Response(status=204)


def _there(number: int) -> None:
    row = db().get(Hook, number)
    if row is None or row.removed_at is not None:
        raise Refused(404, f"There is no webhook {number}.")
