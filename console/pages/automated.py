"""Page of automated mail that is on no ticket: make it a ticket, undo that, set its sender."""

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from console.web.request import get_actor, get_context, get_session, get_staff, now, requires
from ingest.replay import automated_mail as filing
from parsers.mail import evidence
from workflow.database.ids import parse_id
from workflow.errors import ActionNotAllowed, NotPermitted
from workflow.filing import automated_mail
from workflow.models.core import AutomatedMail
from workflow.permissions import Right

PAGE_SIZE = 50
pages = Blueprint("automated", __name__)


@pages.get("/automated")
@requires(Right.READ)
def list_mails() -> str:
    """List the mail that is on no ticket, newest first."""
    before = parse_id(request.args.get("before"))
    made = _find_made(parse_id(request.args.get("made")))
    mails = automated_mail.list_automated_mail(get_session(), before=before, limit=PAGE_SIZE + 1)
    return render_template(
        "queue/automated.html",
        mails=mails[:PAGE_SIZE],
        before=before,
        made=made,
        older=mails[PAGE_SIZE - 1].id if len(mails) > PAGE_SIZE else None,
        describe=evidence.describe,
    )


@pages.post("/automated/<int:number>/ticket")
@requires(Right.READ)  # filing says which right it takes
def make_ticket(number: int) -> Response:
    """File a mail as a person's message, and show the ticket."""
    try:
        ticket = filing.make_ticket(get_context(), number, actor=get_actor())
    except NotPermitted:
        abort(403)
    except ActionNotAllowed as error:
        flash(f"It could not be made a ticket: {error}", "error")
        return redirect(url_for("automated.list_mails"))
    flash(f"It is ticket #{ticket} now.", "success")
    return redirect(url_for("automated.list_mails", made=number))


@pages.post("/automated/<int:number>/undo")
@requires(Right.READ)  # as above
def undo_ticket(number: int) -> Response:
    """Undo that a mail was made a ticket."""
    try:
        ticket = filing.undo_ticket(get_context(), number, actor=get_actor())
    except NotPermitted:
        abort(403)
    except ActionNotAllowed as error:
        flash(f"It was not undone: {error}.", "error")
    else:
        flash(f"Undone: ticket #{ticket} is withdrawn, and the mail is here again.", "success")
    return redirect(url_for("automated.list_mails"))


def _find_made(number: int | None) -> AutomatedMail | None:
    """Return the mail with this number where the person can undo that they made a ticket of it."""
    mail = get_session().get(AutomatedMail, number) if number is not None else None
    if mail is None or not filing.can_undo(get_session(), mail, get_staff().name, now()):
        return None
    return mail
