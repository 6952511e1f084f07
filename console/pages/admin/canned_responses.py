"""Page of the canned responses: add, change, delete, undo the last change."""

from collections.abc import Callable

from flask import Blueprint, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from console.web.request import get_context, get_session, get_staff, now, requires
from workflow import process
from workflow.errors import ActionNotAllowed
from workflow.mail import canned_responses
from workflow.mail.canned_responses import VARIABLES, CannedResponse
from workflow.permissions import Right

pages = Blueprint("mail_texts", __name__)


@pages.get("/mail-texts")
@requires(Right.LEAD)
def show() -> str:
    """Show the canned responses and their latest changes; `?change=NAME` opens one to edit."""
    name = request.args.get("change", "")
    return _render_page(
        canned_responses.find_response(get_session(), name)
        or CannedResponse(canned_responses.DEFAULT_FOLDER, "", "", "")
    )


@pages.post("/mail-texts")
@requires(Right.LEAD)
def save() -> Response | tuple[str, int]:
    """Save a canned response; 422 and the form as it was filled in when it cannot be used."""
    form = request.form
    response = CannedResponse(
        folder=form.get("folder", ""),
        name=form.get("name", ""),
        subject=form.get("subject", ""),
        body=form.get("body", ""),
        ticks=form.get("ticks", ""),
    )
    is_new = bool(form.get("new"))
    try:
        with get_context().store.transaction() as session:
            if is_new:
                _require_new_name(session, response.name)
            canned_responses.save_response(session, response, by=get_staff().name, now=now())
    except ActionNotAllowed as error:
        return _render_page(response, str(error), new=is_new), 422
    flash(f"Saved: {response.name}.", "success")
    return redirect(url_for("mail_texts.show"))


@pages.post("/mail-texts/delete")
@requires(Right.LEAD)
def delete() -> Response:
    """Delete a canned response."""
    return _change(
        "Deleted",
        lambda s, name: canned_responses.delete_response(s, name, by=get_staff().name, now=now()),
    )


@pages.post("/mail-texts/undo")
@requires(Right.LEAD)
def undo() -> Response:
    """Undo the last change of a canned response."""
    return _change(
        "Undone",
        lambda s, name: canned_responses.undo_last_change(s, name, by=get_staff().name, now=now()),
    )


def _require_new_name(session: Session, name: str) -> None:
    """Raise ActionNotAllowed where a canned response has this name: it would be overwritten."""
    if canned_responses.find_response(session, " ".join(name.split())) is not None:
        raise ActionNotAllowed(
            "a canned response has this name: change that one, or choose another name"
        )


def _change(result: str, change: Callable[[Session, str], None]) -> Response:
    name = request.form.get("name", "")
    try:
        with get_context().store.transaction() as session:
            change(session, name)
    except ActionNotAllowed as error:
        flash(f"Nothing was changed: {error}.", "error")
    else:
        flash(f"{result}: {name}.", "success")
    return redirect(url_for("mail_texts.show"))


def _render_page(response: CannedResponse, error: str = "", *, new: bool | None = None) -> str:
    return render_template(
        "answer/texts.html",
        texts=canned_responses.list_responses(get_session()),
        changes=canned_responses.list_latest_versions(get_session()),
        response=response,
        error=error,
        new=not response.name if new is None else new,
        variables=VARIABLES,
        boxes=process.list_boxes(),
        recap=process.Template.RECAP,
    )
