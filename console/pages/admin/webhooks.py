"""Webhooks: how each of them answers, what waits for it or was given up, and telling it again."""

from flask import Blueprint, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from console.presenters import webhooks
from console.web.request import get_context, get_session, get_staff, is_allowed, now, requires
from workflow.audit.webhook_events import EventType
from workflow.errors import ActionNotAllowed
from workflow.permissions import Right
from workflow.webhooks import deliver

pages = Blueprint("hooks", __name__)


@pages.get("/operations/webhooks")
@requires(Right.AUDIT)
def listed() -> str:
    """Every webhook with what it has not taken, and those that were removed."""
    whole = is_allowed(Right.ADMIN)
    return render_template(
        "operations/webhooks.html",
        found=webhooks.list_webhooks(get_session(), whole=whole),
        off=webhooks.list_removed_webhooks(get_session()),
        now=now(),
        every=len(EventType),
        address=lambda hook: webhooks.shorten_address(hook.url, whole=whole),
    )


@pages.post("/operations/webhooks/<int:number>/again")
@requires(Right.ADMIN)
def again(number: int) -> AnyResponse:
    """Have everything told now that was given up, or that pauses."""
    try:
        with get_context().store.transaction() as session:
            count = deliver.retry_webhook(session, number, by=get_staff().name, now=now())
        flash(
            f"{count} events are told again now."
            if count
            else "Nothing pauses: all is due already.",
            "success",
        )
    except ActionNotAllowed:
        flash("There is no such webhook, or no longer.", "error")
    return redirect(url_for("hooks.listed"))
