"""Page of the webhooks: their state, their undelivered events, and a button that retries them."""

from flask import Blueprint, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from console.presenters import webhooks
from console.web.request import get_context, get_session, get_staff, is_allowed, now, requires
from workflow.errors import ActionNotAllowed
from workflow.permissions import Right
from workflow.webhooks import deliver

pages = Blueprint("hooks", __name__)


@pages.get("/operations/webhooks")
@requires(Right.AUDIT)
def list_webhooks() -> str:
    """List the webhooks with their undelivered events, and those that were removed."""
    # The path of an address may be a secret of the other system: only admins see it.
    whole = is_allowed(Right.ADMIN)
    return render_template(
        "operations/webhooks.html",
        webhooks=webhooks.list_webhooks(get_session(), whole=whole),
        removed=webhooks.list_removed_webhooks(get_session()),
        now=now(),
        address=lambda hook: webhooks.shorten_address(hook.url, whole=whole),
    )


@pages.post("/operations/webhooks/<int:number>/again")
@requires(Right.ADMIN)
def retry_webhook(number: int) -> AnyResponse:
    """Send again, now, every event that was given up or waits between two attempts."""
    try:
        with get_context().store.transaction() as session:
            count = deliver.retry_webhook(session, number, by=get_staff().name, now=now())
        flash(
            f"{count} events are being sent again."
            if count
            else "No event waits: all are due already.",
            "success",
        )
    except ActionNotAllowed:
        flash("There is no such webhook.", "error")
    return redirect(url_for("hooks.list_webhooks"))
