"""Long lists in pages: each says where the next one begins."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from flask import Response, jsonify
from sqlalchemy import ColumnElement, Select, and_, or_
from sqlalchemy.orm import InstrumentedAttribute, Session

from console.web.api_errors import Refused
from console.web.request import number_of
from workflow.models.core import Ticket
from workflow.tickets.views import Sort

T = TypeVar("T")
Data = dict[str, Any]
_STAMP = "%Y%m%dT%H%M%S.%fZ"


def listed(
    session: Session,
    query: Select[T],
    by: InstrumentedAttribute[int],
    told: Data,
    shape: Callable[[T], Data],
    *,
    newest: bool = False,
) -> Response:
    """A page of rows in the order of their numbers.

    Raises Refused for a cursor that is none of ours.
    """
    query = query.order_by(None).order_by(by.desc() if newest else by)
    if told["cursor"]:
        after = number(told["cursor"])
        query = query.where(by < after if newest else by > after)
    rows = list(session.scalars(query.limit(told["limit"] + 1)))
    shown = rows[: told["limit"]]
    return answer(
        [shape(row) for row in shown],
        str(getattr(shown[-1], by.key)) if len(rows) > len(shown) else None,
    )


def answer(items: list[Data], following: str | None) -> Response:
    """A page as it is sent."""
    return jsonify({"items": items, "next": following})


def beyond(sort: Sort, cursor: str) -> ColumnElement[bool]:
    """Return what comes after a ticket in a list of this order.

    Raises Refused for a cursor that is none of ours.
    """
    due, _, tail = cursor.rpartition("~")
    last = number(tail)
    if sort is Sort.DUE:
        later = Ticket.id > last
        if not due:
            return and_(Ticket.due_at.is_(None), later)
        at = _moment(due)
        return or_(Ticket.due_at > at, and_(Ticket.due_at == at, later), Ticket.due_at.is_(None))
    return Ticket.id < last if sort is Sort.NEWEST else Ticket.id > last


def cursor_of(sort: Sort, ticket: Ticket) -> str:
    """Return what `beyond` reads."""
    if sort is not Sort.DUE:
        return str(ticket.id)
    due = ticket.due_at.astimezone(UTC).strftime(_STAMP) if ticket.due_at else ""
    return f"{due}~{ticket.id}"


def _moment(said: str) -> datetime:
    try:
        return datetime.strptime(said, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        raise _no_cursor() from None


def number(said: str) -> int:
    """A number of the database in a cursor. Raises Refused for anything else."""
    if (found := number_of(said)) is None:
        raise _no_cursor()
    return found


def _no_cursor() -> Refused:
    return Refused(422, fields={"cursor": ["It is no cursor: take `next` of the page before."]})
