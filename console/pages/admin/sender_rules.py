"""Page of rules for senders: always a ticket, or never; set, remove, undo."""

from collections.abc import Callable

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from console.presenters import sender_rules as presenter
from console.web.request import get_actor, get_context, get_session, now, requires
from workflow.customers import sender_rules
from workflow.customers.sender_rules import Author
from workflow.errors import ActionNotAllowed, NotPermitted
from workflow.models.states import Treatment
from workflow.permissions import Right

pages = Blueprint("sender_rules", __name__)


@pages.get("/operations/senders")
@requires(Right.AUDIT)
def show() -> str:
    """Show the rules, those that have ended, and the form for a new one."""
    return _render_page()


@pages.post("/operations/senders")
@requires(Right.READ)  # the rules say which right it takes
def save() -> Response | tuple[str, int]:
    """Set the rule of a sender; 422 and the form as it was filled in when it cannot be set."""
    sender, chosen = request.form.get("sender", ""), request.form.get("treatment", "")
    if chosen not in list(Treatment):
        abort(400)
    error = _change(
        lambda session, by: sender_rules.set_rule(
            session, sender, Treatment(chosen), by=by, now=now()
        )
    )
    from_list = request.form.get("back") == "automated"
    if error and not from_list:
        return _render_page(sender, chosen, error), 422
    _flash_result(error, f"Set: {sender.strip()} is {sender_rules.LABELS[Treatment(chosen)]}.")
    return redirect(url_for("automated.list_mails" if from_list else "sender_rules.show"))


@pages.post("/operations/senders/<int:number>/remove")
@requires(Right.READ)  # as above
def remove(number: int) -> Response:
    """Remove a rule."""
    error = _change(lambda session, by: sender_rules.remove_rule(session, number, by=by, now=now()))
    _flash_result(error, "Removed. It can be undone below.")
    return redirect(url_for("sender_rules.show"))


@pages.post("/operations/senders/<int:number>/undo")
@requires(Right.READ)  # as above
def undo(number: int) -> Response:
    """Undo the last change of the sender that a rule is about."""
    error = _change(
        lambda session, by: sender_rules.undo_last_change(session, number, by=by, now=now())
    )
    _flash_result(error, "Undone.")
    return redirect(url_for("sender_rules.show"))


def _change(change: Callable[[Session, Author], object]) -> str:
    """Carry out a change of the rules; return why it is not allowed, "" where it was made."""
    actor = get_actor()
    try:
        with get_context().store.transaction() as session:
            change(session, Author(actor.name, actor.rights))
    except NotPermitted:
        abort(403)
    except ActionNotAllowed as error:
        return str(error)
    return ""


def _flash_result(error: str, result: str) -> None:
    if error:
        flash(f"Nothing was changed: {error}.", "error")
    else:
        flash(result, "success")


def _render_page(sender: str = "", treatment: str = Treatment.NEVER, error: str = "") -> str:
    rules = presenter.list_rules(get_session())
    return render_template(
        "operations/senders.html",
        rules=[rule for rule in rules if not rule["ended_at"]],
        ended=[rule for rule in rules if rule["ended_at"]],
        labels=sender_rules.LABELS,
        sender=sender,
        treatment=treatment,
        error=error,
        right=sender_rules.RIGHT,
    )
