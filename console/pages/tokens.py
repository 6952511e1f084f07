"""One's own tokens: made for a program, shown once, revoked."""

from flask import Blueprint, abort, flash, redirect, render_template, request
from werkzeug.wrappers import Response

from console.web.request import db, house, needs, now, staff
from workflow.accounts import api_tokens
from workflow.errors import Missing
from workflow.models.core import Staff
from workflow.permissions import RIGHTS, Right

pages = Blueprint("tokens", __name__)
MEANING = {
    Right.READ: "see tickets, contacts, companies, tasks",
    Right.WORK: "change them, and write to customers",
    Right.LEAD: "exports, and failed deliveries",
    Right.AUDIT: "the audit trail, deliveries, the state of the house",
    Right.ADMIN: "webhooks",
}


@pages.get("/account/tokens")
@needs(Right.READ)
def show() -> str:
    """The tokens one has, and the form for another."""
    return _page()


@pages.post("/account/tokens")
@needs(Right.READ)
def make() -> str | tuple[str, int]:
    """Make one, and show it in this answer only. 422 and what was typed when it cannot be."""
    try:
        with house().store.transaction() as session:
            me = session.get_one(Staff, staff().id)
            name, scopes = request.form.get("name", ""), request.form.getlist("scope")
            _, token = api_tokens.make(session, me, name, scopes, by=me.name, now=now())
    except Missing as missing:
        return _page(fault=str(missing)), 422
    return _page(made=token)


@pages.post("/account/tokens/<int:number>/revoke")
@needs(Right.READ)
def revoke(number: int) -> Response:
    """End one, at once and for good."""
    try:
        with house().store.transaction() as session:
            row = api_tokens.revoke(session, number, by=staff().name, now=now(), of=staff())
    except Missing:
        abort(404)
    flash(f"“{row.name}” is revoked: it opens nothing any more.", "success")
    return redirect("/account/tokens")


def _page(fault: str = "", made: str = "") -> str:
    typed = request.form if fault else {}
    chosen = request.form.getlist("scope") if fault else [str(Right.READ)]
    mine = [(right, MEANING[right]) for right in Right if right in RIGHTS[staff().role]]
    return render_template(
        "tokens.html",
        tokens=api_tokens.of(db(), staff()),
        scopes=mine,
        fault=fault,
        made=made,
        typed=typed,
        chosen=chosen,
    )
