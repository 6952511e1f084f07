"""Saved views of the signed-in person: save, rename, delete, undo the deletion."""

from collections.abc import Callable
from urllib.parse import parse_qsl

from flask import Blueprint, flash, redirect, request, session
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from console.presenters.tickets import queue
from console.web.request import get_context, get_staff, now, requires
from workflow.errors import ActionNotAllowed
from workflow.models.accounts import SavedView
from workflow.permissions import Right
from workflow.tickets import saved_views

DELETED_VIEW = "deleted_view"  # key of the session: [name, query] of the view just deleted
pages = Blueprint("saved_views", __name__)


@pages.post("/views")
@requires(Right.READ)
def save() -> AnyResponse:
    """Save a list under a name; undoing a deletion does the same."""
    name = request.form.get("name", "")
    # Parsed and built again: only parameters that lists know are saved.
    parameters = dict(parse_qsl(request.form.get("query", "")))
    query = queue.build_query_string(queue.parse_query(parameters))
    return _change(
        lambda s: saved_views.save_view(s, get_staff(), name, query, now=now()), "saved", query
    )


@pages.post("/views/<int:number>")
@requires(Right.READ)
def rename(number: int) -> AnyResponse:
    """Rename a saved view."""
    name = request.form.get("name", "")
    return _change(
        lambda s: saved_views.rename_view(s, get_staff(), number, name, now=now()), "renamed"
    )


@pages.post("/views/<int:number>/delete")
@requires(Right.READ)
def delete(number: int) -> AnyResponse:
    """Delete a saved view; the next page offers to undo that."""

    def delete_view(writing: Session) -> SavedView:
        view = saved_views.delete_view(writing, get_staff(), number, now=now())
        session[DELETED_VIEW] = [view.name, view.query]
        return view

    return _change(delete_view, "deleted")


def _change(
    change: Callable[[Session], SavedView], participle: str, query: str = ""
) -> AnyResponse:
    """Make a change and show the view; or the list of the query with the reason why not."""
    try:
        with get_context().store.transaction() as writing:
            view = change(writing)
    except ActionNotAllowed as error:
        flash(f"Not {participle}: {error}.", "error")
        return redirect(f"/?{query}")
    flash(f"“{view.name}” is {participle}.", "success")
    return redirect(f"/?{view.query}")
