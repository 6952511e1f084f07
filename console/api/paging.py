"""Long lists in pages: each says where the next one begins."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from flask import Response, jsonify
from sqlalchemy import ColumnElement, Select, and_, or_
from sqlalchemy.orm import InstrumentedAttribute, Session

from console.web.api_errors import ApiError
from workflow.database.ids import parse_id
from workflow.models.core import Ticket
from workflow.tickets.views import Sort

T = TypeVar("T")
JsonObject = dict[str, Any]
_STAMP = "%Y%m%dT%H%M%S.%fZ"


def respond_with_rows(
    session: Session,
    query: Select[T],
    by: InstrumentedAttribute[int],
    told: JsonObject,
    shape: Callable[[T], JsonObject],
    *,
    newest: bool = False,
) -> Response:
    """A page of rows in the order of their numbers.

    Raises ApiError for a cursor that is none of ours.
    """
    query = query.order_by(None).order_by(by.desc() if newest else by)
    if told["cursor"]:
        after = parse_cursor_number(told["cursor"])
        query = query.where(by < after if newest else by > after)
    rows = list(session.scalars(query.limit(told["limit"] + 1)))
    shown = rows[: told["limit"]]
    return respond_with_items(
        [shape(row) for row in shown],
        str(getattr(shown[-1], by.key)) if len(rows) > len(shown) else None,
    )


def respond_with_items(items: list[JsonObject], following: str | None) -> Response:
    """A page as it is sent."""
    return jsonify({"items": items, "next": following})


def after_cursor(sort: Sort, cursor: str) -> ColumnElement[bool]:
    """Return what comes after a ticket in a list of this order.

    Raises ApiError for a cursor that is none of ours.
    """
    due, _, tail = cursor.rpartition("~")
    last = parse_cursor_number(tail)
    if sort is Sort.DUE:
        later = Ticket.id > last
        if not due:
            return and_(Ticket.due_at.is_(None), later)
        at = _moment(due)
        return or_(Ticket.due_at > at, and_(Ticket.due_at == at, later), Ticket.due_at.is_(None))
    return Ticket.id < last if sort is Sort.NEWEST else Ticket.id > last


def make_cursor(sort: Sort, ticket: Ticket) -> str:
    """Return what `after_cursor` reads."""
    if sort is not Sort.DUE:
        return str(ticket.id)
    due = ticket.due_at.astimezone(UTC).strftime(_STAMP) if ticket.due_at else ""
    return f"{due}~{ticket.id}"


def _moment(said: str) -> datetime:
    try:
        return datetime.strptime(said, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        raise _no_cursor() from None


def parse_cursor_number(said: str) -> int:
    """A number of the database in a cursor. Raises ApiError for anything else."""
    if (found := parse_id(said)) is None:
        raise _no_cursor()
    return found


def _no_cursor() -> ApiError:
    return ApiError(422, fields={"cursor": ["It is no cursor: take `next` of the page before."]})
