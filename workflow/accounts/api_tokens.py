"""API tokens: a program acts for a person, with some of the person's rights.

Only a digest of the token is stored.
"""

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session, joinedload

from workflow.audit import record as audit
from workflow.database.engine import Store
from workflow.errors import ActionNotAllowed
from workflow.models.accounts import Account, ApiToken
from workflow.models.core import Staff
from workflow.permissions import Right, may
from workflow.runtime.crypto import hash_secret

PREFIX = "intake_"  # so that people, and scanners for leaked secrets, recognise a token
LAST_USED_PRECISION = timedelta(minutes=1)  # of `used_at`: not every call writes to the database
MAX_NAME_LENGTH = 200
MAX_TOKENS_PER_PERSON = 50


def create_token(
    session: Session, person: Staff, name: str, scopes: Collection[str], *, by: str, now: datetime
) -> tuple[ApiToken, str]:
    """Create a token for a program of this person; return its row and the token itself.

    The token can be shown only now. Raises ActionNotAllowed when the name is unusable, a scope is
    beyond the person's rights, or the person has too many tokens.
    """
    clean_name = " ".join(name.split())
    if not clean_name or len(clean_name) > MAX_NAME_LENGTH or not clean_name.isprintable():
        raise ActionNotAllowed("name the program that will use it")
    rights = [right for right in Right if right in scopes]
    if not rights or set(scopes) - set(Right):
        raise ActionNotAllowed(f"choose what it may do: {', '.join(Right)}")
    if beyond := [right for right in rights if not may(person.role, right)]:
        raise ActionNotAllowed(
            f"{person.name} has not the right to {beyond[0]}, so no program of theirs can have it"
        )
    if len(list_tokens(session, person)) >= MAX_TOKENS_PER_PERSON:
        raise ActionNotAllowed(
            f"{person.name} has {MAX_TOKENS_PER_PERSON} tokens: revoke some first"
        )
    token = PREFIX + secrets.token_urlsafe(32)
    row = ApiToken(
        staff_id=person.id,
        name=clean_name,
        key=hash_secret(token),
        scopes=[str(r) for r in rights],
        created_at=now,
    )
    session.add(row)
    session.flush()
    audit.record(
        session, "token made", by=by, cause="token", now=now, token=row.id, staff=person.id
    )
    return row, token


def revoke_token(
    session: Session, number: int, *, by: str, now: datetime, of: Staff | None = None
) -> ApiToken:
    """Revoke a token at once; with `of` only a token of this person.

    Raises ActionNotAllowed when there is no such token.
    """
    row = session.get(ApiToken, number, with_for_update=True)
    if row is None or row.revoked_at is not None or (of is not None and row.staff_id != of.id):
        raise ActionNotAllowed(f"there is no token {number}")
    row.revoked_at = now
    audit.record(
        session, "token revoked", by=by, cause="token", now=now, token=number, staff=row.staff_id
    )
    return row


def list_tokens(session: Session, person: Staff | None = None) -> list[ApiToken]:
    """Return the valid tokens of a person, or of everybody, the newest first."""
    query = (
        select(ApiToken).where(ApiToken.revoked_at.is_(None)).options(joinedload(ApiToken.staff))
    )
    if person is not None:
        query = query.where(ApiToken.staff_id == person.id)
    return list(session.scalars(query.order_by(ApiToken.id.desc())))


def find_token(session: Session, token: str) -> ApiToken | None:
    """Return the row of a token that a program presents, with its person.

    None for an unknown or revoked token, and for one of a deactivated account.
    """
    if not token.startswith(PREFIX) or len(token) > MAX_NAME_LENGTH:
        return None
    query = (
        select(ApiToken)
        .outerjoin(Account, Account.staff_id == ApiToken.staff_id)
        .where(ApiToken.key == hash_secret(token), ApiToken.revoked_at.is_(None))
        .where(or_(Account.id.is_(None), Account.active))
        .options(joinedload(ApiToken.staff))
    )
    return session.scalar(query)


def get_rights(token: ApiToken) -> frozenset[Right]:
    """Return the rights of a token now: its scopes, as far as its person has these rights still."""
    return frozenset(
        right for right in Right if right in token.scopes and may(token.staff.role, right)
    )


def record_use(store: Store, token: ApiToken, now: datetime) -> None:
    """Record when the token was used, at most once a minute."""
    if token.used_at is not None and timedelta() <= now - token.used_at < LAST_USED_PRECISION:
        return
    with store.transaction() as session:
        session.execute(update(ApiToken).where(ApiToken.id == token.id).values(used_at=now))
