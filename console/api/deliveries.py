"""API of deliveries: list, get, read again, dismiss."""

from flask import Response, jsonify

from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import PageQuery, StrictSchema, choice_input, text_input
from console.api.paging import JsonObject
from console.presenters import deliveries as deliveries_presenter
from console.web.api_errors import ApiError
from console.web.request import get_context, get_session, get_staff, now
from ingest.replay import retry
from workflow.errors import ActionNotAllowed
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState
from workflow.permissions import Right

ABOUT = "deliveries"


class DeliveryQuery(PageQuery):
    """Query of the list of deliveries."""

    state = choice_input(DeliveryState, load_default=None)


class DismissalReason(StrictSchema):
    """Reason for dismissing a delivery; it must not contain patient data."""

    reason = text_input(500, 1, required=True)


@endpoint(
    "GET",
    "/deliveries",
    Right.AUDIT,
    schemas.make_page_schema(schemas.Delivery),
    about=ABOUT,
    query=DeliveryQuery,
)
def deliveries(filters: JsonObject) -> Response:
    """List the deliveries, newest first."""
    before = paging.parse_cursor_number(filters["cursor"]) if filters["cursor"] else None
    rows = deliveries_presenter.list_deliveries_before(
        get_session(), filters["state"], before, filters["limit"] + 1, now()
    )
    items = rows[: filters["limit"]]
    has_more = len(rows) > len(items)
    return paging.respond_with_items(items, str(items[-1]["id"]) if has_more else None)


@endpoint("GET", "/deliveries/<int:number>", Right.AUDIT, schemas.DeliveryDetails, about=ABOUT)
def delivery(number: int) -> Response:
    """Get a delivery: its receipts and what each item became; never its content."""
    # A session of its own: after a change the request's has still the state before.
    with get_context().store.read_only() as session:
        details = deliveries_presenter.find_delivery(session, number, now())
    if details is None:
        raise ApiError(404, f"There is no delivery {number}.")
    return jsonify(details)


@endpoint(
    "POST",
    "/deliveries/<int:number>/replay",
    Right.LEAD,
    schemas.DeliveryDetails,
    about=ABOUT,
    refuses=[409],
)
def replay(number: int) -> Response:
    """Read a failed or dismissed delivery again, now. 409 for a processed or pending one."""
    _require_failed_or_dismissed(number)
    retry.replay(get_context(), number, by=get_staff().name)
    return delivery(number)


@endpoint(
    "POST",
    "/deliveries/<int:number>/dismiss",
    Right.LEAD,
    schemas.DeliveryDetails,
    about=ABOUT,
    refuses=[409],
    body=DismissalReason,
)
def dismiss(body: JsonObject, number: int) -> Response:
    """Dismiss a failed delivery; it stays stored. 409 for one that has not failed."""
    if get_session().get(Delivery, number) is None:
        raise ApiError(404, f"There is no delivery {number}.")
    retry.dismiss(get_context(), [number], body["reason"], by=get_staff().name)
    return delivery(number)


def _require_failed_or_dismissed(number: int) -> None:
    row = get_session().get(Delivery, number)
    if row is None:
        raise ApiError(404, f"There is no delivery {number}.")
    if row.state not in {DeliveryState.FAILED, DeliveryState.DISMISSED}:
        raise ActionNotAllowed(
            f"it is {row.state}: only failed and dismissed ones are read again here"
        )
