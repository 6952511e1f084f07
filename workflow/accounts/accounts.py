"""Staff and their accounts: an admin creates, changes, deactivates and reactivates them.

Every change is recorded in the audit log.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from workflow.accounts import invitations
from workflow.audit import record as audit
from workflow.customers import directory
from workflow.errors import ActionNotAllowed
from workflow.models.accounts import Account, Invitation, WebSession, make_uniquifier
from workflow.models.core import Staff
from workflow.models.states import Role
from workflow.permissions import Right, may

LAST_ADMIN_MESSAGE = "This is the last admin who can sign in: make somebody else an admin first."
NO_ACCOUNT_MESSAGE = "{name} has no account yet: nobody signs in with it. Make a link."
AUDIT_CAUSE = "people"
MAX_NAME_LENGTH = 200


class LastAdminError(ActionNotAllowed):
    """Raised for a change after which no admin could sign in any more."""


@dataclass(frozen=True)
class StaffMember:
    """A person on the desk with their account, if they have one.

    `link_until` is when their newest unused link expires, None without one.
    """

    staff: Staff
    account: Account | None
    link_until: datetime | None


def list_staff(session: Session, now: datetime) -> list[StaffMember]:
    """Return everybody on the desk, by name."""
    rows = (
        select(Staff, Account).outerjoin(Account, Account.staff_id == Staff.id).order_by(Staff.name)
    )
    links = select(Invitation.staff_id, Invitation.expires_at).where(
        Invitation.staff_id.is_not(None), Invitation.used_at.is_(None), Invitation.expires_at > now
    )
    until = dict(session.execute(links.order_by(Invitation.expires_at)).all())
    return [
        StaffMember(staff, account, until.get(staff.id)) for staff, account in session.execute(rows)
    ]


def create_person(
    session: Session, name: str, email: str, role: Role, *, by: str, now: datetime
) -> tuple[Staff, str]:
    """Create a person on the desk; return them and the token of a link to create their account.

    Raises ActionNotAllowed when the name or the address is unusable, or somebody else has it.
    """
    person = Staff(
        name=_clean_name(name), email=_clean_address(session, email), role=role, created_at=now
    )
    try:
        with session.begin_nested():
            session.add(person)
    except IntegrityError:
        raise ActionNotAllowed(
            f"{person.name} is on the desk already: names tell people apart."
        ) from None
    audit.record(
        session, "person added", by=by, cause=AUDIT_CAUSE, now=now, staff=person.id, role=role
    )
    return person, invitations.create_invitation(session, person, role, by=by, now=now)


def create_link(session: Session, number: int, *, by: str, now: datetime) -> tuple[Staff, str]:
    """Return a person and the token of a new link to create an account or set a new password.

    Earlier links of the person expire. Raises ActionNotAllowed when there is no such person, or
    their account is deactivated.
    """
    person, account = _lock_person(session, number)
    if account is not None and not account.active:
        raise ActionNotAllowed(f"{person.name} was let go: let them in again first.")
    _expire_links(session, person, now)
    return person, invitations.create_invitation(session, person, person.role, by=by, now=now)


def update_person(
    session: Session, number: int, role: Role, email: str, *, by: str, now: datetime
) -> Staff:
    """Give a person another role or address; the audit log has the role they had.

    Raises LastAdminError when nobody would be an admin any more, ActionNotAllowed when there is no
    such person or the address is unusable.
    """
    admins = _lock_admins(session)
    person, account = _lock_person(session, number)
    if role is not person.role:
        if not may(role, Right.ADMIN):
            _require_another_admin(person, admins)
        audit.record(
            session,
            "role changed",
            by=by,
            cause=AUDIT_CAUSE,
            now=now,
            staff=number,
            before=person.role,
            after=role,
        )
        person.role = role
        session.execute(update(Invitation).where(*_is_open_link(person, now)).values(role=role))
    new_email = _clean_address(session, email, person)
    if new_email != person.email:
        person.email = new_email
        if account is not None and new_email:
            account.email = new_email
        audit.record(session, "address changed", by=by, cause=AUDIT_CAUSE, now=now, staff=number)
    try:
        session.flush()
    except IntegrityError:
        raise ActionNotAllowed("somebody else has taken this address a moment ago.") from None
    return person


def deactivate(session: Session, number: int, *, by: str, now: datetime) -> Staff:
    """Deactivate an account and end its sessions and links; the person keeps their tickets.

    Raises LastAdminError for the last admin, ActionNotAllowed when there is no such person or no
    active account.
    """
    admins = _lock_admins(session)
    person, account = _lock_account(session, number)
    if not account.active:
        raise ActionNotAllowed(f"{person.name} was let go already.")
    _require_another_admin(person, admins)
    account.active = False
    _expire_links(session, person, now)
    _end_sessions(session, account)
    audit.record(
        session,
        "account ended",
        by=by,
        cause=AUDIT_CAUSE,
        now=now,
        staff=number,
        account=account.id,
    )
    return person


def reactivate(session: Session, number: int, *, by: str, now: datetime) -> Staff:
    """Reactivate an account, with the password and second factor it had.

    Raises ActionNotAllowed when there is no such person or no deactivated account.
    """
    person, account = _lock_account(session, number)
    if account.active:
        raise ActionNotAllowed(f"{person.name} can sign in.")
    account.active = True
    audit.record(
        session,
        "account restored",
        by=by,
        cause=AUDIT_CAUSE,
        now=now,
        staff=number,
        account=account.id,
    )
    return person


def unlock(session: Session, number: int, *, by: str, now: datetime) -> Staff:
    """Unlock an account after wrong passwords, so that the person may try again at once.

    Raises ActionNotAllowed when there is no such person or account.
    """
    person, account = _lock_account(session, number)
    account.failures, account.locked_until = 0, None
    audit.record(
        session,
        "account unlocked",
        by=by,
        cause=AUDIT_CAUSE,
        now=now,
        staff=number,
        account=account.id,
    )
    return person


def reset_second_factor(session: Session, number: int, *, by: str, now: datetime) -> Staff:
    """Remove a lost second factor from an account and end its sessions.

    The password alone is enough until the person sets up a new factor. Raises ActionNotAllowed
    when there is no such person or account.
    """
    person, account = _lock_account(session, number)
    account.second_factor, account.totp_secret, account.recovery_codes = None, None, []
    _end_sessions(session, account)
    audit.record(
        session,
        "second factor reset",
        by=by,
        cause=AUDIT_CAUSE,
        now=now,
        staff=number,
        account=account.id,
    )
    return person


def _lock_person(session: Session, number: int) -> tuple[Staff, Account | None]:
    person = session.get(Staff, number, with_for_update=True)
    if person is None:
        raise ActionNotAllowed("There is nobody with this number on the desk.")
    return person, session.scalar(
        select(Account).where(Account.staff_id == number).with_for_update()
    )


def _lock_account(session: Session, number: int) -> tuple[Staff, Account]:
    person, account = _lock_person(session, number)
    if account is None:
        raise ActionNotAllowed(NO_ACCOUNT_MESSAGE.format(name=person.name))
    return person, account


def _lock_admins(session: Session) -> set[int]:
    """Return the admins who can sign in, their rows locked.

    The order of locking is fixed, so that two admins who deactivate each other at the same moment
    wait for one another and not both.
    """
    admin_roles = [role for role in Role if may(role, Right.ADMIN)]
    active = (
        select(Staff.id)
        .join(Account, Account.staff_id == Staff.id)
        .where(Staff.role.in_(admin_roles), Account.active)
    )
    return set(session.scalars(active.order_by(Staff.id).with_for_update()))


def _require_another_admin(person: Staff, admins: set[int]) -> None:
    if admins == {person.id}:
        raise LastAdminError(LAST_ADMIN_MESSAGE)


def _end_sessions(session: Session, account: Account) -> None:
    account.uniquifier = make_uniquifier()
    session.execute(delete(WebSession).where(WebSession.account_id == account.id))


def _expire_links(session: Session, person: Staff, now: datetime) -> None:
    session.execute(update(Invitation).where(*_is_open_link(person, now)).values(expires_at=now))


def _is_open_link(person: Staff, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        Invitation.staff_id == person.id,
        Invitation.used_at.is_(None),
        Invitation.expires_at > now,
    )


def _clean_name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ActionNotAllowed(f"A name has one to {MAX_NAME_LENGTH} characters.")
    return name


def _clean_address(session: Session, text: str, person: Staff | None = None) -> str:
    """Return a mail address as it is stored: trimmed and case-folded, "" for none.

    Raises ActionNotAllowed when it is not an address, or somebody else signs in with it.
    """
    email = text.strip().casefold()
    if email and not directory.is_valid_address(email):
        raise ActionNotAllowed("That is no mail address.")
    other = select(Account.id).where(
        Account.email == email, Account.staff_id != (person.id if person else 0)
    )
    if email and session.scalar(other) is not None:
        raise ActionNotAllowed("Somebody else signs in with this address.")
    return email
