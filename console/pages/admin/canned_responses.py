"""The texts that mails begin with, in folders.

A lead adds, changes, deletes them and takes a change back.
"""

from collections.abc import Callable

from flask import Blueprint, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from console.web.request import db, house, needs, now, staff
from workflow import process
from workflow.errors import Missing
from workflow.mail import canned_responses
from workflow.mail.canned_responses import VARIABLES, Wording
from workflow.permissions import Right

pages = Blueprint("mail_texts", __name__)


@pages.get("/mail-texts")
@needs(Right.LEAD)
def show() -> str:
    """Every text, and what was changed last; `?change=NAME` opens one."""
    name = request.args.get("change", "")
    return _page(canned_responses.named(db(), name) or Wording(canned_responses.FOLDER, "", "", ""))


@pages.post("/mail-texts")
@needs(Right.LEAD)
def save() -> Response | tuple[str, int]:
    """Keep a text; 422 and the form with what was typed where it cannot be used."""
    form = request.form
    folder, name, subject, body, ticks = (
        form.get(n, "") for n in ("folder", "name", "subject", "body", "ticks")
    )
    given = Wording(folder, name, subject, body, ticks)
    try:
        with house().store.transaction() as session:
            if (
                form.get("new")
                and canned_responses.named(session, " ".join(given.name.split())) is not None
            ):
                raise Missing(  # noqa: TRY301
                    "there is a text of this name: change that one, or choose another name"
                )  # said as the others are
            canned_responses.save(session, given, by=staff().name, now=now())
    except Missing as missing:
        return _page(given, str(missing), new=bool(form.get("new"))), 422
    flash(f"Saved: {given.name}.", "success")
    return redirect(url_for("mail_texts.show"))


@pages.post("/mail-texts/delete")
@needs(Right.LEAD)
def delete() -> Response:
    """Take a text away."""
    return _change(
        "Deleted", lambda s, name: canned_responses.delete(s, name, by=staff().name, now=now())
    )


@pages.post("/mail-texts/undo")
@needs(Right.LEAD)
def undo() -> Response:
    """Take the last change of a text back."""
    return _change(
        "Taken back", lambda s, name: canned_responses.put_back(s, name, by=staff().name, now=now())
    )


def _change(done: str, change: Callable[[Session, str], None]) -> Response:
    name = request.form.get("name", "")
    try:
        with house().store.transaction() as session:
            change(session, name)
    except Missing as missing:
        flash(f"Not done: {missing}.", "error")
    else:
        flash(f"{done}: {name}.", "success")
    return redirect(url_for("mail_texts.show"))


def _page(shown: Wording, fault: str = "", *, new: bool | None = None) -> str:
    return render_template(
        "answer/texts.html",
        texts=canned_responses.offered(db()),
        changes=canned_responses.last_changes(db()),
        shown=shown,
        fault=fault,
        new=not shown.name if new is None else new,
        variables=VARIABLES,
        boxes=process.boxes(),
        recap=process.Template.RECAP,
    )
