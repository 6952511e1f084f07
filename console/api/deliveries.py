"""What came in, by the API: deliveries listed, read again, dismissed."""

from flask import Response, jsonify

from console.api import paging, schemas
from console.api.endpoint import endpoint
from console.api.fields import Paged, Strict, one_of, words
from console.api.paging import Data
from console.presenters import deliveries as deliveries_presenter
from console.web.api_errors import Refused
from console.web.request import db, house, now, staff
from ingest.replay import retry as replaying
from workflow.errors import Missing
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState
from workflow.permissions import Right

ABOUT = "deliveries"


class Deliveries(Paged):
    """Which deliveries."""

    state = one_of(DeliveryState, load_default=None)


class Reason(Strict):
    """Why nothing is to come of it; no patient data."""

    reason = words(500, 1, required=True)


@endpoint(
    "GET",
    "/deliveries",
    Right.AUDIT,
    schemas.page_of(schemas.Delivery),
    about=ABOUT,
    query=Deliveries,
)
def deliveries(told: Data) -> Response:
    """Return what came in, newest first."""
    before = paging.number(told["cursor"]) if told["cursor"] else None
    found = deliveries_presenter.page(db(), told["state"], before, told["limit"] + 1, now())
    shown = found[: told["limit"]]
    return paging.answer(shown, str(shown[-1]["id"]) if len(found) > len(shown) else None)


@endpoint("GET", "/deliveries/<int:number>", Right.AUDIT, schemas.DeliveryWhole, about=ABOUT)
def delivery(number: int) -> Response:
    """Return how a delivery came, how often, and what has become of each item; not what it says."""
    with house().store.reading() as session:
        found = deliveries_presenter.one(session, number, now())
    if found is None:
        raise Refused(404, f"There is no delivery {number}.")
    return jsonify(found)


@endpoint(
    "POST",
    "/deliveries/<int:number>/replay",
    Right.LEAD,
    schemas.DeliveryWhole,
    about=ABOUT,
    refuses=[409],
)
def replay(number: int) -> Response:
    """Read a failed or dismissed one again, now. 409 for one that is processed or pending."""
    _settled(number)
    replaying.replay(house(), number, by=staff().name)
    return delivery(number)


@endpoint(
    "POST", "/deliveries/<int:number>/dismiss", Right.LEAD, schemas.DeliveryWhole, about=ABOUT, refuses=[409],
    body=Reason,
)  # fmt: skip
def dismiss(told: Data, number: int) -> Response:
    """Say that nothing is to come of a failed one; it stays stored.

    409 for one that has not failed.
    """
    if db().get(Delivery, number) is None:
        raise Refused(404, f"There is no delivery {number}.")
    replaying.dismiss(house(), [number], told["reason"], by=staff().name)
    return delivery(number)


def _settled(number: int) -> None:
    row = db().get(Delivery, number)
    if row is None:
        raise Refused(404, f"There is no delivery {number}.")
    if row.state not in {DeliveryState.FAILED, DeliveryState.DISMISSED}:
        raise Missing(f"it is {row.state}: only failed and dismissed ones are read again here")
