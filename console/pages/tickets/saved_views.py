"""Lists of one's own: saved, renamed, deleted, and brought back."""

from collections.abc import Callable
from urllib.parse import parse_qsl

from flask import Blueprint, flash, redirect, request, session
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from console.presenters import queue
from console.web.request import get_context, get_staff, now, requires
from workflow.errors import ActionNotAllowed
from workflow.models.accounts import SavedView
from workflow.permissions import Right
from workflow.tickets import saved_views

DELETED_VIEW = "deleted_view"  # in the session: [name, query] of the one that can be brought back
pages = Blueprint("saved_views", __name__)


@pages.post("/views")
@requires(Right.READ)
def save() -> AnyResponse:
    """Keep the list under a name; also how a deleted one comes back."""
    name, asked = (
        request.form.get("name", ""),
        queue.parse_query(dict(parse_qsl(request.form.get("query", "")))),
    )
    query = queue.build_query_string(asked)
    return _done(
        lambda s: saved_views.save_view(s, get_staff(), name, query, now=now()), "saved", query
    )


@pages.post("/views/<int:number>")
@requires(Right.READ)
def rename(number: int) -> AnyResponse:
    """Give it another name."""
    name = request.form.get("name", "")
    return _done(
        lambda s: saved_views.rename_view(s, get_staff(), number, name, now=now()), "renamed"
    )


@pages.post("/views/<int:number>/delete")
@requires(Right.READ)
def delete(number: int) -> AnyResponse:
    """Forget it; the next page offers to bring it back."""

    def work(writing: Session) -> SavedView:
        gone = saved_views.delete_view(writing, get_staff(), number, now=now())
        session[DELETED_VIEW] = [gone.name, gone.query]
        return gone

    return _done(work, "deleted")


def _done(work: Callable[[Session], SavedView], what: str, query: str = "") -> AnyResponse:
    try:
        with get_context().store.transaction() as writing:
            view = work(writing)
    except ActionNotAllowed as missing:
        flash(f"Not {what}: {missing}.", "error")
        return redirect(f"/?{query}")
    flash(f"“{view.name}” is {what}.", "success")
    return redirect(f"/?{view.query}")
