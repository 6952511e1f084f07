"""What came in, by the API: deliveries listed, read again, dismissed."""

from flask import Response, jsonify

from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import PageQuery, StrictSchema, choice_input, text_input
from console.api.paging import JsonObject
from console.presenters import deliveries as deliveries_presenter
from console.web.api_errors import ApiError
from console.web.request import get_context, get_session, get_staff, now
from ingest.replay import retry as replaying
from workflow.errors import ActionNotAllowed
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState
from workflow.permissions import Right

ABOUT = "deliveries"


class DeliveryQuery(PageQuery):
    """Which deliveries."""

    state = choice_input(DeliveryState, load_default=None)


class DismissalReason(StrictSchema):
    """Why nothing is to come of it; no patient data."""

    reason = text_input(500, 1, required=True)


@endpoint(
    "GET",
    "/deliveries",
    Right.AUDIT,
    schemas.make_page_schema(schemas.Delivery),
    about=ABOUT,
    query=DeliveryQuery,
)
def deliveries(told: JsonObject) -> Response:
    """Return what came in, newest first."""
    before = paging.parse_cursor_number(told["cursor"]) if told["cursor"] else None
    found = deliveries_presenter.list_deliveries_before(
        get_session(), told["state"], before, told["limit"] + 1, now()
    )
    shown = found[: told["limit"]]
    return paging.respond_with_items(
        shown, str(shown[-1]["id"]) if len(found) > len(shown) else None
    )


@endpoint("GET", "/deliveries/<int:number>", Right.AUDIT, schemas.DeliveryDetails, about=ABOUT)
def delivery(number: int) -> Response:
    """Return how a delivery came, how often, and what has become of each item; not what it says."""
    with get_context().store.read_only() as session:
        found = deliveries_presenter.find_delivery(session, number, now())
    if found is None:
        raise ApiError(404, f"There is no delivery {number}.")
    return jsonify(found)


@endpoint(
    "POST",
    "/deliveries/<int:number>/replay",
    Right.LEAD,
    schemas.DeliveryDetails,
    about=ABOUT,
    refuses=[409],
)
def replay(number: int) -> Response:
    """Read a failed or dismissed one again, now. 409 for one that is processed or pending."""
    _settled(number)
    replaying.replay(get_context(), number, by=get_staff().name)
    return delivery(number)


@endpoint(
    "POST", "/deliveries/<int:number>/dismiss", Right.LEAD, schemas.DeliveryDetails, about=ABOUT, refuses=[409],
    body=DismissalReason,
)  # fmt: skip
def dismiss(told: JsonObject, number: int) -> Response:
    """Say that nothing is to come of a failed one; it stays stored.

    409 for one that has not failed.
    """
    if get_session().get(Delivery, number) is None:
        raise ApiError(404, f"There is no delivery {number}.")
    replaying.dismiss(get_context(), [number], told["reason"], by=get_staff().name)
    return delivery(number)


def _settled(number: int) -> None:
    row = get_session().get(Delivery, number)
    if row is None:
        raise ApiError(404, f"There is no delivery {number}.")
    if row.state not in {DeliveryState.FAILED, DeliveryState.DISMISSED}:
        raise ActionNotAllowed(
            f"it is {row.state}: only failed and dismissed ones are read again here"
        )
