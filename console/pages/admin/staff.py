"""People and their accounts: who is on the desk, what they may do, how they sign in.

Each change is on record.
"""

from collections.abc import Callable

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from console.web.request import get_context, get_session, get_staff, now, requires
from workflow.accounts import accounts
from workflow.accounts.accounts import LastAdminError
from workflow.accounts.invitations import VALID_FOR
from workflow.errors import ActionNotAllowed
from workflow.models.core import Staff
from workflow.models.states import Role
from workflow.permissions import RIGHTS_BY_ROLE, Right

# What each button does, and what is said when it is done.
ACTIONS: dict[str, tuple[Callable[..., Staff], str]] = {
    "let-go": (
        accounts.deactivate,
        "{name} cannot sign in any more, and is signed out everywhere.",
    ),
    "let-in": (accounts.reactivate, "{name} can sign in again, as before."),
    "unlock": (accounts.unlock, "{name} may try to sign in again."),
    "reset-second-factor": (
        accounts.reset_second_factor,
        "{name} signs in with the password alone until they set up another.",
    ),
}

pages = Blueprint("staff", __name__)


@pages.get("/people")
@requires(Right.ADMIN)
def everybody() -> str:
    """Return who is on the desk, with their accounts."""
    return _page()


@pages.post("/people")
@requires(Right.ADMIN)
def add() -> str | tuple[str, int]:
    """Put somebody on the desk; the page has their link, this once.

    422 with what was typed where that cannot be.
    """
    try:
        with get_context().store.transaction() as session:
            name, email = request.form.get("name", ""), request.form.get("email", "")
            person, token = accounts.create_person(
                session, name, email, _role(), by=get_staff().name, now=now()
            )
    except ActionNotAllowed as missing:
        return _page(fault=str(missing)), 422
    return _link(person, token)


@pages.post("/people/<int:number>/link")
@requires(Right.ADMIN)
def link(number: int) -> str | tuple[str, int]:
    """A new link, shown this once: the database has only its digest.

    409 where there is no use for one.
    """
    try:
        with get_context().store.transaction() as session:
            person, token = accounts.create_link(session, number, by=get_staff().name, now=now())
    except ActionNotAllowed as missing:
        return _page(fault=str(missing)), 409
    return _link(person, token)


@pages.post("/people/<int:number>")
@requires(Right.ADMIN)
def change(number: int) -> AnyResponse | tuple[str, int]:
    """Another role or address.

    409 where nobody would be admin any more, 422 for what is no address.
    """
    try:
        with get_context().store.transaction() as session:
            person = accounts.update_person(
                session,
                number,
                _role(),
                request.form.get("email", ""),
                by=get_staff().name,
                now=now(),
            )
    except ActionNotAllowed as missing:
        return _page(fault=str(missing), at=number), 409 if isinstance(
            missing, LastAdminError
        ) else 422
    flash(f"{person.name} is {person.role} now, at {person.email or 'no address'}.", "success")
    return redirect(url_for("staff.everybody"))


@pages.post("/people/<int:number>/do/<name>")
@requires(Right.ADMIN)
def do(number: int, name: str) -> AnyResponse | tuple[str, int]:
    """Let go, let in, unlock, reset the second factor. 409 where that cannot be."""
    act, said = ACTIONS.get(name) or abort(404)
    try:
        with get_context().store.transaction() as session:
            person = act(session, number, by=get_staff().name, now=now())
    except ActionNotAllowed as missing:
        return _page(fault=str(missing)), 409
    flash(said.format(name=person.name), "success")
    return redirect(url_for("staff.everybody"))


def _page(fault: str = "", at: int | None = None) -> str:
    """`at` is whose line has what was typed; without one it is the form for a new person."""
    return render_template(
        "people_admin/people.html",
        people=accounts.list_staff(get_session(), now()),
        roles=list(Role),
        rights=RIGHTS_BY_ROLE,
        fault=fault,
        at=at,
        typed=request.form,
        now=now(),
        second_factor=get_context().settings.second_factor,
    )


def _link(person: Staff, token: str) -> str:
    address = f"{get_context().settings.public_url}/join/{token}"
    return render_template(
        "people_admin/link.html", person=person, link=address, until=now() + VALID_FOR
    )


def _role() -> Role:
    try:
        return Role(request.form.get("role", ""))
    except ValueError:
        raise ActionNotAllowed("Choose a role.") from None
