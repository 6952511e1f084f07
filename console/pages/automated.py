"""The page of automated mail: what is on no ticket, and making one of it."""

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from console.web.request import actor, db, house, needs, number_of
from ingest.replay import automated_mail as filing
from parsers.mail import evidence
from workflow.errors import Missing, NotPermitted
from workflow.filing import automated_mail
from workflow.permissions import Right

PAGE = 50
pages = Blueprint("automated", __name__)


@pages.get("/automated")
@needs(Right.READ)
def listed() -> str:
    """Mail that is on no ticket, the newest first."""
    before = number_of(request.args.get("before"))
    found = automated_mail.page(db(), before=before, limit=PAGE + 1)
    return render_template(
        "queue/automated.html",
        mails=found[:PAGE],
        before=before,
        older=found[PAGE - 1].id if len(found) > PAGE else None,
        describe=evidence.describe,
    )


@pages.post("/automated/<int:number>/ticket")
@needs(Right.READ)  # filing says which right it takes
def make_ticket(number: int) -> Response:
    """File it as a person's message, and show the ticket."""
    try:
        ticket = filing.make_ticket(house(), number, actor=actor())
    except NotPermitted:
        abort(403)
    except Missing as error:
        flash(f"It could not be made a ticket: {error}", "error")
        return redirect(url_for("automated.listed"))
    flash("It is a ticket now.", "success")
    return redirect(url_for("ticket.show", number=ticket))
