"""Who works at the desk and how they sign in.

Added, changed, let go and let in again by an admin, all on record.
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
    """Nobody could let anybody in any more."""


@dataclass(frozen=True)
class StaffMember:
    """Somebody on the desk, their account where they have one.

    And until when a link of theirs is good.
    """

    staff: Staff
    account: Account | None
    link_until: datetime | None


def list_staff(session: Session, now: datetime) -> list[StaffMember]:
    """Return who is on the desk, by name."""
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
    """Put somebody on the desk; they, and the token of a link by which they make their account.

    Raises ActionNotAllowed when the name or the address is none, or is another's.
    """
    person = Staff(name=_name(name), email=_address(session, email), role=role, created_at=now)
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
    """A new link for a person, to make an account or a new password; those made before are void.

    Raises ActionNotAllowed when there is no such person, or they were let go.
    """
    person, account = _held(session, number)
    if account is not None and not account.active:
        raise ActionNotAllowed(f"{person.name} was let go: let them in again first.")
    _void_links(session, person, now)
    return person, invitations.create_invitation(session, person, person.role, by=by, now=now)


def update_person(
    session: Session, number: int, role: Role, email: str, *, by: str, now: datetime
) -> Staff:
    """Give a person another role or address. What it was stands in the audit trail.

    Raises LastAdminError when nobody would be admin any more; Missing for a person or address there
    cannot be.
    """
    admins = _held_admins(session)
    person, account = _held(session, number)
    if role is not person.role:
        if not may(role, Right.ADMIN):
            _spare_last(person, admins)
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
        session.execute(update(Invitation).where(*_open_links(person, now)).values(role=role))
    if (wanted := _address(session, email, person)) != person.email:
        person.email = wanted
        if account is not None and wanted:
            account.email = wanted
        audit.record(session, "address changed", by=by, cause=AUDIT_CAUSE, now=now, staff=number)
    try:
        session.flush()
    except IntegrityError:
        raise ActionNotAllowed("somebody else has taken this address a moment ago.") from None
    return person


def deactivate(session: Session, number: int, *, by: str, now: datetime) -> Staff:
    """End an account: every session of it, and every link. What the person did stays theirs.

    Raises LastAdminError for the last admin; Missing when there is no such person, or nothing to
    end.
    """
    admins = _held_admins(session)
    person, account = _account(session, number)
    if not account.active:
        raise ActionNotAllowed(f"{person.name} was let go already.")
    _spare_last(person, admins)
    account.active = False
    _void_links(session, person, now)
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
    """Take back that somebody was let go: password and second factor are as they were.

    Raises ActionNotAllowed.
    """
    person, account = _account(session, number)
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
    """Forget wrong passwords: the person may try again at once. Raises ActionNotAllowed."""
    person, account = _account(session, number)
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
    """Take a lost second factor off an account and end its sessions.

    The password alone opens it, until a new one.
    """
    person, account = _account(session, number)
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


def _held(session: Session, number: int) -> tuple[Staff, Account | None]:
    person = session.get(Staff, number, with_for_update=True)
    if person is None:
        raise ActionNotAllowed("There is nobody with this number on the desk.")
    return person, session.scalar(
        select(Account).where(Account.staff_id == number).with_for_update()
    )


def _account(session: Session, number: int) -> tuple[Staff, Account]:
    person, account = _held(session, number)
    if account is None:
        raise ActionNotAllowed(NO_ACCOUNT_MESSAGE.format(name=person.name))
    return person, account


def _held_admins(session: Session) -> set[int]:
    """The admins who can sign in, their rows held in one order.

    Two who let each other go at once come one by one.
    """
    admins = [role for role in Role if may(role, Right.ADMIN)]
    able = (
        select(Staff.id)
        .join(Account, Account.staff_id == Staff.id)
        .where(Staff.role.in_(admins), Account.active)
    )
    return set(session.scalars(able.order_by(Staff.id).with_for_update()))


def _spare_last(person: Staff, admins: set[int]) -> None:
    if admins == {person.id}:
        raise LastAdminError(LAST_ADMIN_MESSAGE)


def _end_sessions(session: Session, account: Account) -> None:
    account.uniquifier = make_uniquifier()
    session.execute(delete(WebSession).where(WebSession.account_id == account.id))


def _void_links(session: Session, person: Staff, now: datetime) -> None:
    session.execute(update(Invitation).where(*_open_links(person, now)).values(expires_at=now))


def _open_links(person: Staff, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        Invitation.staff_id == person.id,
        Invitation.used_at.is_(None),
        Invitation.expires_at > now,
    )


def _name(text: str) -> str:
    name = " ".join(text.split())
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ActionNotAllowed(f"A name has one to {MAX_NAME_LENGTH} characters.")
    return name


def _address(session: Session, text: str, person: Staff | None = None) -> str:
    """A mail address as we keep it, "" for none.

    Raises ActionNotAllowed where it is none, or another's to sign in with.
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
