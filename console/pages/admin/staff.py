"""People and their accounts: who is on the desk, what they may do, how they sign in.

Each change is on record.
"""

from collections.abc import Callable

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from console.web.request import db, house, needs, now, staff
from workflow.accounts import accounts
from workflow.accounts.accounts import LastAdminError
from workflow.accounts.invitations import GOOD_FOR
from workflow.errors import Missing
from workflow.models.core import Staff
from workflow.models.states import Role
from workflow.permissions import RIGHTS, Right

# What each button does, and what is said when it is done.
ACTIONS: dict[str, tuple[Callable[..., Staff], str]] = {
    "let-go": (accounts.let_go, "{name} cannot sign in any more, and is signed out everywhere."),
    "let-in": (accounts.let_in, "{name} can sign in again, as before."),
    "unlock": (accounts.unlock, "{name} may try to sign in again."),
    "reset-second-factor": (
        accounts.reset_second_factor,
        "{name} signs in with the password alone until they set up another.",
    ),
}

pages = Blueprint("staff", __name__)


@pages.get("/people")
@needs(Right.ADMIN)
def everybody() -> str:
    """Return who is on the desk, with their accounts."""
    return _page()


@pages.post("/people")
@needs(Right.ADMIN)
def add() -> str | tuple[str, int]:
    """Put somebody on the desk; the page has their link, this once.

    422 with what was typed where that cannot be.
    """
    try:
        with house().store.transaction() as session:
            name, email = request.form.get("name", ""), request.form.get("email", "")
            person, token = accounts.add(session, name, email, _role(), by=staff().name, now=now())
    except Missing as missing:
        return _page(fault=str(missing)), 422
    return _link(person, token)


@pages.post("/people/<int:number>/link")
@needs(Right.ADMIN)
def link(number: int) -> str | tuple[str, int]:
    """A new link, shown this once: the database has only its digest.

    409 where there is no use for one.
    """
    try:
        with house().store.transaction() as session:
            person, token = accounts.link(session, number, by=staff().name, now=now())
    except Missing as missing:
        return _page(fault=str(missing)), 409
    return _link(person, token)


@pages.post("/people/<int:number>")
@needs(Right.ADMIN)
def change(number: int) -> AnyResponse | tuple[str, int]:
    """Another role or address.

    409 where nobody would be admin any more, 422 for what is no address.
    """
    try:
        with house().store.transaction() as session:
            person = accounts.change(
                session, number, _role(), request.form.get("email", ""), by=staff().name, now=now()
            )
    except Missing as missing:
        return _page(fault=str(missing), at=number), 409 if isinstance(
            missing, LastAdminError
        ) else 422
    flash(f"{person.name} is {person.role} now, at {person.email or 'no address'}.", "success")
    return redirect(url_for("staff.everybody"))


@pages.post("/people/<int:number>/do/<name>")
@needs(Right.ADMIN)
def do(number: int, name: str) -> AnyResponse | tuple[str, int]:
    """Let go, let in, unlock, reset the second factor. 409 where that cannot be."""
    act, said = ACTIONS.get(name) or abort(404)
    try:
        with house().store.transaction() as session:
            person = act(session, number, by=staff().name, now=now())
    except Missing as missing:
        return _page(fault=str(missing)), 409
    flash(said.format(name=person.name), "success")
    return redirect(url_for("staff.everybody"))


def _page(fault: str = "", at: int | None = None) -> str:
    """`at` is whose line has what was typed; without one it is the form for a new person."""
    return render_template(
        "people_admin/people.html",
        people=accounts.everybody(db(), now()),
        roles=list(Role),
        rights=RIGHTS,
        fault=fault,
        at=at,
        typed=request.form,
        now=now(),
        second_factor=house().settings.second_factor,
    )


def _link(person: Staff, token: str) -> str:
    address = f"{house().settings.public_url}/join/{token}"
    return render_template(
        "people_admin/link.html", person=person, link=address, until=now() + GOOD_FOR
    )


def _role() -> Role:
    try:
        return Role(request.form.get("role", ""))
    except ValueError:
        raise Missing("Choose a role.") from None
