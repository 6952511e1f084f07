"""Page of the people on the desk and their accounts: roles, links, locks, second factors.

The audit log records each change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from console import perform
from console.web.request import get_context, get_session, get_staff, now, requires
from workflow.accounts import accounts, departures
from workflow.accounts.accounts import LastAdminError, StaffMember
from workflow.accounts.departures import Workload
from workflow.accounts.invitations import VALID_FOR
from workflow.customers import directory
from workflow.database.ids import parse_id
from workflow.errors import ActionNotAllowed
from workflow.models.accounts import Account
from workflow.models.core import Staff
from workflow.models.states import Role
from workflow.permissions import RIGHTS_BY_ROLE, Right, may

# The buttons of an account: what each does, and the message after it.
ACTIONS: dict[str, tuple[Callable[..., Staff], str]] = {
    "let-go": (
        accounts.deactivate,
        "{name} can no longer sign in and is signed out everywhere.",
    ),
    "let-in": (accounts.reactivate, "{name} can sign in again, as before."),
    "unlock": (accounts.unlock, "{name} can try to sign in again."),
    "reset-second-factor": (
        accounts.reset_second_factor,
        "{name} signs in with the password alone until they set up another.",
    ),
}

pages = Blueprint("staff", __name__)


@dataclass(frozen=True)
class PersonCard:
    """A person on the page: their account, and the values of the form that changes them."""

    staff: Staff
    account: Account | None
    link_until: datetime | None  # when their newest unused link expires
    is_locked: bool
    role: str
    email: str
    work: Workload | None  # of somebody whose account is deactivated; None for anybody else


@pages.get("/people")
@requires(Right.ADMIN)
def list_staff() -> str:
    """List the people on the desk with their accounts."""
    return _render_page()


@pages.post("/people")
@requires(Right.ADMIN)
def add_person() -> str | tuple[str, int]:
    """Add a person, and show the link with which they create their account.

    422 and the form as it was filled in when that is not allowed.
    """
    try:
        with get_context().store.transaction() as session:
            name, email = request.form.get("name", ""), request.form.get("email", "")
            person, token = accounts.create_person(
                session, name, email, _parse_role(), by=get_staff().name, now=now()
            )
    except ActionNotAllowed as error:
        return _render_page(error=str(error)), 422
    return _render_link(person, token)


@pages.post("/people/<int:number>/link")
@requires(Right.ADMIN)
def create_link(number: int) -> str | tuple[str, int]:
    """Create a new link and show it, only once: the database has only its digest.

    409 for an account that is deactivated.
    """
    try:
        with get_context().store.transaction() as session:
            person, token = accounts.create_link(session, number, by=get_staff().name, now=now())
    except ActionNotAllowed as error:
        return _render_page(error=str(error)), 409
    return _render_link(person, token)


@pages.post("/people/<int:number>")
@requires(Right.ADMIN)
def change_person(number: int) -> AnyResponse | tuple[str, int]:
    """Change a person's role and mail address.

    409 when no admin would be left, 422 for an invalid role or address.
    """
    try:
        with get_context().store.transaction() as session:
            person = accounts.update_person(
                session,
                number,
                _parse_role(),
                request.form.get("email", ""),
                by=get_staff().name,
                now=now(),
            )
    except LastAdminError as error:
        return _render_page(error=str(error), at=number), 409
    except ActionNotAllowed as error:
        return _render_page(error=str(error), at=number), 422
    address = person.email or "no address"
    flash(f"{person.name} is now {person.role}, with {address}.", "success")
    return redirect(url_for("staff.list_staff"))


@pages.post("/people/<int:number>/do/<name>")
@requires(Right.ADMIN)
def change_account(number: int, name: str) -> AnyResponse | tuple[str, int]:
    """Deactivate, reactivate, unlock, or reset the second factor; 409 when not allowed."""
    change, message = ACTIONS.get(name) or abort(404)
    try:
        with get_context().store.transaction() as session:
            person = change(session, number, by=get_staff().name, now=now())
    except ActionNotAllowed as error:
        return _render_page(error=str(error)), 409
    flash(message.format(name=person.name), "success")
    work = departures.count_work(get_session(), person) if name == "let-go" else None
    if work:
        flash(f"{person.name} still has {work}: hand it over to a colleague below.", "warning")
    return redirect(url_for("staff.list_staff"))


@pages.post("/people/<int:number>/hand-over")
@requires(Right.ADMIN)
def hand_over(number: int) -> AnyResponse | tuple[str, int]:
    """Give everything a person has to a colleague; 409 when not allowed."""
    to = parse_id(request.form.get("to")) or 0
    try:
        person, colleague, work = perform.hand_over(get_context(), number, to, by=get_staff().name)
    except ActionNotAllowed as error:
        return _render_page(error=str(error)), 409
    flash(f"{colleague} has taken over from {person}: {work}.", "success")
    return redirect(url_for("staff.list_staff"))


def _render_page(error: str = "", at: int | None = None) -> str:
    """Return the page.

    After an error the form keeps what was filled in: the form of the person with the number `at`,
    or the form for a new person.
    """
    return render_template(
        "people_admin/people.html",
        people=[
            _build_card(member, request.form if member.staff.id == at else None)
            for member in accounts.list_staff(get_session(), now())
        ],
        new_person=request.form if at is None else {},
        colleagues=[
            staff
            for staff in get_session().scalars(directory.select_present_staff())
            if may(staff.role, Right.WORK)
        ],
        roles=list(Role),
        role_headings=["Role", *map(str, Right)],
        rights=RIGHTS_BY_ROLE,
        error=error,
        second_factor=get_context().settings.second_factor,
    )


def _build_card(member: StaffMember, form: Mapping[str, str] | None) -> PersonCard:
    """Return a person as the page shows them; with `form` as somebody tried to change them."""
    staff, account = member.staff, member.account
    locked_until = account.locked_until if account else None
    return PersonCard(
        staff=staff,
        account=account,
        link_until=member.link_until,
        is_locked=locked_until is not None and locked_until > now(),
        role=staff.role if form is None else form.get("role", ""),
        email=staff.email if form is None else form.get("email", ""),
        work=departures.count_work(get_session(), staff)
        if account is not None and not account.active
        else None,
    )


def _render_link(person: Staff, token: str) -> str:
    # The public address, not that of the request, which a proxy or a forged Host header decides.
    address = f"{get_context().settings.public_url}/join/{token}"
    return render_template(
        "people_admin/link.html", person=person, link=address, until=now() + VALID_FOR
    )


def _parse_role() -> Role:
    try:
        return Role(request.form.get("role", ""))
    except ValueError:
        raise ActionNotAllowed("Choose a role.") from None
