"""Lists in pages: each answer has the cursor with which the next page is asked for."""

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
_TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"  # UTC, with microseconds: two deadlines are rarely the same


def respond_with_rows(
    session: Session,
    query: Select[T],
    by: InstrumentedAttribute[int],
    page: JsonObject,
    present: Callable[[T], JsonObject],
    *,
    newest: bool = False,
) -> Response:
    """Answer with a page of rows in the order of the id column `by`.

    `page` is a loaded `PageQuery`. Raises ApiError (422) for a cursor that is not ours.
    """
    query = query.order_by(None).order_by(by.desc() if newest else by)
    if page["cursor"]:
        after = parse_cursor_number(page["cursor"])
        query = query.where(by < after if newest else by > after)
    # One row more than asked for: it says whether there is a next page.
    rows = list(session.scalars(query.limit(page["limit"] + 1)))
    items = rows[: page["limit"]]
    return respond_with_items(
        [present(row) for row in items],
        str(getattr(items[-1], by.key)) if len(rows) > len(items) else None,
    )


def respond_with_items(items: list[JsonObject], next_cursor: str | None) -> Response:
    """Answer with a page; `next_cursor` is None on the last one."""
    return jsonify({"items": items, "next": next_cursor})


def build_cursor_condition(sort: Sort, cursor: str) -> ColumnElement[bool]:
    """Return the condition for tickets that come after the cursor's in a list of this order.

    Tickets without a deadline come last. Raises ApiError (422) for a cursor that is not ours.
    """
    due_text, _, id_text = cursor.rpartition("~")
    last_id = parse_cursor_number(id_text)
    if sort is Sort.NEWEST:
        return Ticket.id < last_id
    later_id = Ticket.id > last_id
    if sort is not Sort.DUE:
        return later_id
    if not due_text:
        return and_(Ticket.due_at.is_(None), later_id)
    due = _parse_time(due_text)
    same_time = and_(Ticket.due_at == due, later_id)
    return or_(Ticket.due_at > due, same_time, Ticket.due_at.is_(None))


def make_cursor(sort: Sort, ticket: Ticket) -> str:
    """Return the cursor after this ticket: `41`, by deadline `20261125T134900.000000Z~41` or `~41`.

    `build_cursor_condition` reads it.
    """
    if sort is not Sort.DUE:
        return str(ticket.id)
    due = ticket.due_at.astimezone(UTC).strftime(_TIME_FORMAT) if ticket.due_at else ""
    return f"{due}~{ticket.id}"


def parse_cursor_number(text: str) -> int:
    """Return the id in a cursor. Raises ApiError (422) for anything else."""
    number = parse_id(text)
    if number is None:
        raise _make_cursor_error()
    return number


def _parse_time(text: str) -> datetime:
    try:
        return datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise _make_cursor_error() from None


def _make_cursor_error() -> ApiError:
    return ApiError(422, fields={"cursor": ["It is no cursor: use `next` of the previous page."]})
