"""Invitations: links to create an account or set a new password, for one use within a day."""

import secrets
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.models.accounts import Account, Invitation
from workflow.models.core import Staff
from workflow.models.states import Role
from workflow.runtime.crypto import hash_secret

VALID_FOR = timedelta(hours=24)


def create_invitation(
    session: Session, staff: Staff | None, role: Role, *, by: str, now: datetime
) -> str:
    """Create a link and return its token.

    The link is for `staff`, or, when that is None, for whoever uses it first, in this role.
    """
    token = secrets.token_urlsafe(24)
    session.add(
        Invitation(
            key=hash_secret(token),
            staff_id=staff.id if staff else None,
            role=role,
            created_at=now,
            expires_at=now + VALID_FOR,
        )
    )
    audit.record(
        session,
        "invited",
        by=by,
        cause="invitation",
        now=now,
        staff=staff.id if staff else None,
        role=role,
    )
    return token


def create_first_invitation(session: Session, *, now: datetime) -> str | None:
    """Return the token of a link for the first admin, None once anybody has an account."""
    if session.scalar(select(Account.id).limit(1)) is not None:
        return None
    return create_invitation(session, None, Role.ADMIN, by="rule", now=now)


def find_valid_invitation(session: Session, token: str, now: datetime) -> Invitation | None:
    """Return the invitation of a link's token, locked; None when it is used, expired or unknown.

    The invitation of the first admin is void once anybody has an account.
    """
    invitation = session.get(Invitation, hash_secret(token), with_for_update=True)
    if invitation is None or invitation.used_at is not None or now >= invitation.expires_at:
        return None
    if invitation.staff_id is None and session.scalar(select(Account.id).limit(1)) is not None:
        return None
    return invitation
