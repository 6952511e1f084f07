"""Webhooks: how each of them answers, what waits for it or was given up, and telling it again."""

from flask import Blueprint, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from console.presenters import webhooks
from console.web.request import allowed, db, house, needs, now, staff
from workflow.audit.webhook_events import Event
from workflow.errors import Missing
from workflow.permissions import Right
from workflow.webhooks import deliver

pages = Blueprint("hooks", __name__)


@pages.get("/operations/webhooks")
@needs(Right.AUDIT)
def listed() -> str:
    """Every webhook with what it has not taken, and those that were removed."""
    whole = allowed(Right.ADMIN)
    return render_template(
        "operations/webhooks.html",
        found=webhooks.shown(db(), whole=whole),
        off=webhooks.off(db()),
        now=now(),
        every=len(Event),
        address=lambda hook: webhooks.address(hook.url, whole=whole),
    )


@pages.post("/operations/webhooks/<int:number>/again")
@needs(Right.ADMIN)
def again(number: int) -> AnyResponse:
    """Have everything told now that was given up, or that pauses."""
    try:
        with house().store.transaction() as session:
            count = deliver.again(session, number, by=staff().name, now=now())
        flash(
            f"{count} events are told again now."
            if count
            else "Nothing pauses: all is due already.",
            "success",
        )
    except Missing:
        flash("There is no such webhook, or no longer.", "error")
    return redirect(url_for("hooks.listed"))
