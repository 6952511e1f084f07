"""One's own tokens: made for a program, shown once, revoked."""

from flask import Blueprint, abort, flash, redirect, render_template, request
from werkzeug.wrappers import Response

from console.web.request import get_context, get_session, get_staff, now, requires
from workflow.accounts import api_tokens
from workflow.errors import ActionNotAllowed
from workflow.models.core import Staff
from workflow.permissions import RIGHTS_BY_ROLE, Right

pages = Blueprint("tokens", __name__)
SCOPE_DESCRIPTIONS = {
    Right.READ: "see tickets, contacts, companies, tasks",
    Right.WORK: "change them, and write to customers",
    Right.LEAD: "exports, and failed deliveries",
    Right.AUDIT: "the audit trail, deliveries, the state of the house",
    Right.ADMIN: "webhooks",
}


@pages.get("/account/tokens")
@requires(Right.READ)
def show() -> str:
    """The tokens one has, and the form for another."""
    return _page()


@pages.post("/account/tokens")
@requires(Right.READ)
def make() -> str | tuple[str, int]:
    """Make one, and show it in this answer only. 422 and what was typed when it cannot be."""
    try:
        with get_context().store.transaction() as session:
            me = session.get_one(Staff, get_staff().id)
            name, scopes = request.form.get("name", ""), request.form.getlist("scope")
            _, token = api_tokens.create_token(session, me, name, scopes, by=me.name, now=now())
    except ActionNotAllowed as missing:
        return _page(fault=str(missing)), 422
    return _page(made=token)


@pages.post("/account/tokens/<int:number>/revoke")
@requires(Right.READ)
def revoke(number: int) -> Response:
    """End one, at once and for good."""
    try:
        with get_context().store.transaction() as session:
            row = api_tokens.revoke_token(
                session, number, by=get_staff().name, now=now(), of=get_staff()
            )
    except ActionNotAllowed:
        abort(404)
    flash(f"“{row.name}” is revoked: it opens nothing any more.", "success")
    return redirect("/account/tokens")


def _page(fault: str = "", made: str = "") -> str:
    typed = request.form if fault else {}
    chosen = request.form.getlist("scope") if fault else [str(Right.READ)]
    mine = [
        (right, SCOPE_DESCRIPTIONS[right])
        for right in Right
        if right in RIGHTS_BY_ROLE[get_staff().role]
    ]
    return render_template(
        "tokens.html",
        tokens=api_tokens.list_tokens(get_session(), get_staff()),
        scopes=mine,
        fault=fault,
        made=made,
        typed=typed,
        chosen=chosen,
    )
