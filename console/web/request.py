"""What one request needs: the house, a database session that reads, and who is asking."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar, cast
from zoneinfo import ZoneInfo

from flask import Flask, current_app, g
from sqlalchemy.orm import Session
from werkzeug.exceptions import Forbidden
from werkzeug.routing import IntegerConverter, Map

from workflow.context import AppContext
from workflow.models.core import Staff
from workflow.permissions import Right, may
from workflow.tickets.actions import Actor

CONTEXT_KEY = "intake.house"
RIGHT_ATTRIBUTE, PUBLIC = "intake_right", "public"
SCRIPT_ATTRIBUTE, EXPIRED_ATTRIBUTE = "intake_by_script", "intake_too_late"
MAX_ID = 2**31 - 1  # as wide as the database's numbers
F = TypeVar("F", bound=Callable[..., object])


class IdConverter(IntegerConverter):
    """`<int:…>` in an address: no wider than the database's numbers, which would fail on it.

    404 beyond.
    """

    # werkzeug's name for it
    def __init__(self, url_map: Map, max: int = MAX_ID) -> None:  # noqa: A002
        super().__init__(url_map, max=min(max, MAX_ID))


def register_context(app: Flask, context: AppContext) -> None:
    """Give the app its house; what a request opened is closed at its end."""
    app.extensions[CONTEXT_KEY] = context
    app.url_map.converters["int"] = IdConverter
    app.teardown_appcontext(_close)


def get_context() -> AppContext:
    """The house this app serves."""
    return cast("AppContext", current_app.extensions[CONTEXT_KEY])


def now() -> datetime:
    """The moment of this request: the same wherever it is asked for."""
    if "now" not in g:
        g.now = get_context().clock()
    return cast("datetime", g.now)


def get_session() -> Session:
    """The request's session for reading; changes are made in `house().store.transaction()`."""
    if "reading" not in g:
        g.reading = get_context().store.read_only()
        g.session = g.reading.__enter__()
    return cast("Session", g.session)


def get_staff() -> Staff:
    """Return who is asking.

    Raises Forbidden where nobody has signed in: a page that needs a right never sees that.
    """
    found = cast("Staff | None", g.get("staff"))
    if found is None:
        raise Forbidden
    return found


def actor() -> Actor:
    """Return who is asking, with the rights of their role, or of the token they present."""
    return Actor.person(get_staff(), g.get("rights"))


def get_time_zone() -> ZoneInfo:
    """The zone in which this viewer reads times."""
    return ZoneInfo(g.get("time_zone") or get_context().settings.time_zone)


def parse_id(said: str | None) -> int | None:
    """A number of the database that an address or a form names; None for anything else."""
    plain = said and said.isascii() and said.isdigit() and len(said) <= len(str(MAX_ID))
    return int(said) if said and plain and int(said) <= MAX_ID else None


def is_allowed(right: Right) -> bool:
    """Return whether who is asking may do this."""
    found = cast("Staff | None", g.get("staff"))
    held = g.get("rights")  # of a token
    return found is not None and may(found.role, right) and (held is None or right in held)


def requires(right: Right) -> Callable[[F], F]:
    """Say which right a view needs. A view that says nothing is nobody's."""

    def mark(view: F) -> F:
        setattr(view, RIGHT_ATTRIBUTE, right)
        return view

    return mark


def public(view: F) -> F:
    """Say that a view is for everybody: it shows nothing without a signed link of ours."""
    setattr(view, RIGHT_ATTRIBUTE, PUBLIC)
    return view


def only_for_scripts(view: F) -> F:
    """Mark a view that only a script of a page asks.

    Signed out, it gets a status, nothing is kept.
    """
    setattr(view, SCRIPT_ATTRIBUTE, True)
    return view


def when_expired(answer: Callable[..., object]) -> Callable[[F], F]:
    """Mark a view whose form has an answer of its own when it is older than the session.

    The answer gets the view's arguments. All other forms are kept (pages/kept_forms.py).
    """

    def mark(view: F) -> F:
        setattr(view, EXPIRED_ATTRIBUTE, answer)
        return view

    return mark


def mark_as_background() -> None:
    """Say that no person asked this.

    The page did by itself, and that must not keep an idle session alive.
    """
    g.background = True


def _close(error: BaseException | None) -> None:
    reading = g.pop("reading", None)
    g.pop("session", None)
    if reading is not None:
        reading.__exit__(type(error) if error else None, error, None)
