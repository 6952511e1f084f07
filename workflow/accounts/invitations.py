"""Links by which people make an account or a new password: random, for one use, for a day."""

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
    """Make a link's token, for this person; without one for whoever comes first, as this role."""
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
    """A token for the first admin while nobody has an account; None from then on."""
    if session.scalar(select(Account.id).limit(1)) is not None:
        return None
    return create_invitation(session, None, Role.ADMIN, by="rule", now=now)


def find_valid_invitation(session: Session, token: str, now: datetime) -> Invitation | None:
    """The invitation behind a link, held for this transaction.

    None when it was used, is too old, or was never ours.

    One for the first admin is void once anybody has an account.
    """
    found = session.get(Invitation, hash_secret(token), with_for_update=True)
    if found is None or found.used_at is not None or now >= found.expires_at:
        return None
    void = found.staff_id is None and session.scalar(select(Account.id).limit(1)) is not None
    return None if void else found
