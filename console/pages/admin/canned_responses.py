"""The texts that mails begin with, in folders.

A lead adds, changes, deletes them and takes a change back.
"""

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
    """Every text, and what was changed last; `?change=NAME` opens one."""
    name = request.args.get("change", "")
    return _page(
        canned_responses.find_response(get_session(), name)
        or CannedResponse(canned_responses.DEFAULT_FOLDER, "", "", "")
    )


@pages.post("/mail-texts")
@requires(Right.LEAD)
def save() -> Response | tuple[str, int]:
    """Keep a text; 422 and the form with what was typed where it cannot be used."""
    form = request.form
    folder, name, subject, body, ticks = (
        form.get(n, "") for n in ("folder", "name", "subject", "body", "ticks")
    )
    given = CannedResponse(folder, name, subject, body, ticks)
    try:
        with get_context().store.transaction() as session:
            if (
                form.get("new")
                and canned_responses.find_response(session, " ".join(given.name.split()))
                is not None
            ):
                raise ActionNotAllowed(  # noqa: TRY301
                    "there is a text of this name: change that one, or choose another name"
                )  # said as the others are
            canned_responses.save_response(session, given, by=get_staff().name, now=now())
    except ActionNotAllowed as missing:
        return _page(given, str(missing), new=bool(form.get("new"))), 422
    flash(f"Saved: {given.name}.", "success")
    return redirect(url_for("mail_texts.show"))


@pages.post("/mail-texts/delete")
@requires(Right.LEAD)
def delete() -> Response:
    """Take a text away."""
    return _change(
        "Deleted",
        lambda s, name: canned_responses.delete_response(s, name, by=get_staff().name, now=now()),
    )


@pages.post("/mail-texts/undo")
@requires(Right.LEAD)
def undo() -> Response:
    """Take the last change of a text back."""
    return _change(
        "Taken back",
        lambda s, name: canned_responses.undo_last_change(s, name, by=get_staff().name, now=now()),
    )


def _change(done: str, change: Callable[[Session, str], None]) -> Response:
    name = request.form.get("name", "")
    try:
        with get_context().store.transaction() as session:
            change(session, name)
    except ActionNotAllowed as missing:
        flash(f"Not done: {missing}.", "error")
    else:
        flash(f"{done}: {name}.", "success")
    return redirect(url_for("mail_texts.show"))


def _page(shown: CannedResponse, fault: str = "", *, new: bool | None = None) -> str:
    return render_template(
        "answer/texts.html",
        texts=canned_responses.list_responses(get_session()),
        changes=canned_responses.list_latest_versions(get_session()),
        shown=shown,
        fault=fault,
        new=not shown.name if new is None else new,
        variables=VARIABLES,
        boxes=process.list_boxes(),
        recap=process.Template.RECAP,
    )
