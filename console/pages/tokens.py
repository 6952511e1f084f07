"""Page of the signed-in person's API tokens: create, list, revoke."""

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
    Right.AUDIT: "the audit log, deliveries, the state of the system",
    Right.ADMIN: "webhooks",
}


@pages.get("/account/tokens")
@requires(Right.READ)
def show_tokens() -> str:
    """Show the person's tokens, and the form for a new one."""
    return _render_page()


@pages.post("/account/tokens")
@requires(Right.READ)
def create_token() -> str | tuple[str, int]:
    """Create a token and show it, in this answer only.

    422 and the form as it was filled in when that is not allowed.
    """
    try:
        with get_context().store.transaction() as session:
            me = session.get_one(Staff, get_staff().id)
            name, scopes = request.form.get("name", ""), request.form.getlist("scope")
            _, token = api_tokens.create_token(session, me, name, scopes, by=me.name, now=now())
    except ActionNotAllowed as error:
        return _render_page(error=str(error)), 422
    return _render_page(new_token=token)


@pages.post("/account/tokens/<int:number>/revoke")
@requires(Right.READ)
def revoke(number: int) -> Response:
    """Revoke a token at once and for good. 404 for another person's."""
    try:
        with get_context().store.transaction() as session:
            row = api_tokens.revoke_token(
                session, number, by=get_staff().name, now=now(), of=get_staff()
            )
    except ActionNotAllowed:
        abort(404)
    flash(f"“{row.name}” is revoked and can no longer be used.", "success")
    return redirect("/account/tokens")


def _render_page(error: str = "", new_token: str = "") -> str:
    """Return the page; after an error with the form as it was filled in."""
    own_rights = RIGHTS_BY_ROLE[get_staff().role]
    return render_template(
        "tokens.html",
        tokens=api_tokens.list_tokens(get_session(), get_staff()),
        scopes=[(right, SCOPE_DESCRIPTIONS[right]) for right in Right if right in own_rights],
        error=error[:1].upper() + error[1:],
        new_token=new_token,
        values=request.form if error else {},
        chosen=request.form.getlist("scope") if error else [str(Right.READ)],
    )
