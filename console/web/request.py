"""The state of one request: application context, read session, signed-in person, permissions."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar, cast
from zoneinfo import ZoneInfo

from flask import Flask, current_app, g
from sqlalchemy.orm import Session
from werkzeug.exceptions import Forbidden
from werkzeug.routing import IntegerConverter, Map

from workflow.context import AppContext
from workflow.database.ids import MAX_ID
from workflow.models.core import Staff
from workflow.permissions import Right, may
from workflow.tickets.actions import Actor

CONTEXT_KEY = "intake.context"
RIGHT_ATTRIBUTE, PUBLIC = "intake_right", "public"
SCRIPT_ATTRIBUTE, EXPIRED_ATTRIBUTE = "intake_by_script", "intake_too_late"
F = TypeVar("F", bound=Callable[..., object])


class IdConverter(IntegerConverter):
    """`<int:…>` in a URL, limited to the range of the database's ids; larger numbers get 404."""

    # werkzeug's name for it
    def __init__(self, url_map: Map, max: int = MAX_ID) -> None:  # noqa: A002
        super().__init__(url_map, max=min(max, MAX_ID))


def register_context(app: Flask, context: AppContext) -> None:
    """Give the app its context; close what a request opened at its end."""
    app.extensions[CONTEXT_KEY] = context
    app.url_map.converters["int"] = IdConverter
    app.teardown_appcontext(_close)


def get_context() -> AppContext:
    """Return the context this app serves."""
    return cast("AppContext", current_app.extensions[CONTEXT_KEY])


def now() -> datetime:
    """Return the time of this request: the same at every call."""
    if "now" not in g:
        g.now = get_context().clock()
    return cast("datetime", g.now)


def get_session() -> Session:
    """Return the request's read session; changes use `get_context().store.transaction()`."""
    if "reading" not in g:
        g.reading = get_context().store.read_only()
        g.session = g.reading.__enter__()
    return cast("Session", g.session)


def get_staff() -> Staff:
    """Return the signed-in person.

    Raises Forbidden where nobody has signed in; views that require a right never see that.
    """
    person = cast("Staff | None", g.get("staff"))
    if person is None:
        raise Forbidden
    return person


def get_actor() -> Actor:
    """Return who is asking, with the rights of their role, or of the token they present."""
    return Actor.person(get_staff(), g.get("rights"))


def get_time_zone() -> ZoneInfo:
    """Return the viewer's time zone."""
    return ZoneInfo(g.get("time_zone") or get_context().settings.time_zone)


def is_allowed(right: Right) -> bool:
    """Return whether the signed-in person, or the token, has this right."""
    person = cast("Staff | None", g.get("staff"))
    token_rights = g.get("rights")  # of an API token; None in a browser session
    return (
        person is not None
        and may(person.role, right)
        and (token_rights is None or right in token_rights)
    )


def requires(right: Right) -> Callable[[F], F]:
    """Mark a view with the right it needs. A view without a mark is refused to everybody."""

    def mark(view: F) -> F:
        setattr(view, RIGHT_ATTRIBUTE, right)
        return view

    return mark


def public(view: F) -> F:
    """Mark a view that needs no sign-in: it shows nothing without a signed link of ours."""
    setattr(view, RIGHT_ATTRIBUTE, PUBLIC)
    return view


def only_for_scripts(view: F) -> F:
    """Mark a view that only a page's script calls.

    Signed out, it gets a status, and nothing is saved.
    """
    setattr(view, SCRIPT_ATTRIBUTE, True)
    return view


def when_expired(answer: Callable[..., object]) -> Callable[[F], F]:
    """Mark a view whose form has its own answer when it is older than the session.

    `answer` gets the view's arguments. All other forms are saved (pages/saved_forms.py).
    """

    def mark(view: F) -> F:
        setattr(view, EXPIRED_ATTRIBUTE, answer)
        return view

    return mark


def mark_as_background() -> None:
    """Mark this request as sent by a script: it must not keep an idle session alive."""
    g.background = True


def _close(error: BaseException | None) -> None:
    reading = g.pop("reading", None)
    g.pop("session", None)
    if reading is not None:
        reading.__exit__(type(error) if error else None, error, None)
