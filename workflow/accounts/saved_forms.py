"""Forms that were sent after their writer had been signed out.

Kept for that person until they have signed in again.

They may hold patient data, so they are sealed, stay for a day and are shown to the account that
filled them in and to nobody else. Nothing here sends one: the person looks at it and presses its
button.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from workflow.models.accounts import KeptForm
from workflow.runtime.crypto import Sealer

KEPT_FOR = timedelta(hours=24)
MOST_FORMS = 20  # of one account; the oldest go first
MOST_BYTES = (
    3 * 1024 * 1024
)  # of one form, above what the console takes as fields (MAX_FORM_MEMORY_SIZE)


@dataclass(frozen=True)
class Filled:
    """What was typed into a form.

    Where it was sent, its fields in order, the files that were chosen in it.
    """

    path: str
    fields: Sequence[tuple[str, str]] = field(repr=False)  # PHI
    files: Sequence[tuple[str, str]] = field(default=(), repr=False)  # (field, name of the file)


@dataclass(frozen=True)
class Kept:
    """A form as it was kept."""

    key: str
    at: datetime
    filled: Filled


def keep(
    session: Session, sealer: Sealer, account: int, filled: Filled, now: datetime
) -> str | None:
    """Keep a form for an account.

    The key it is shown under, None where it is too large to be kept.
    """
    lists = {"fields": [list(f) for f in filled.fields], "files": [list(f) for f in filled.files]}
    content = json.dumps({"path": filled.path, **lists}).encode()
    if len(content) > MOST_BYTES:
        return None
    forget_old(session, now)
    key = secrets.token_urlsafe(24)
    session.add(KeptForm(key=key, account_id=account, content=sealer.seal(content), created_at=now))
    session.flush()
    newest = select(KeptForm.key).where(KeptForm.account_id == account)
    beyond = newest.order_by(KeptForm.created_at.desc(), KeptForm.key).offset(MOST_FORMS)
    for old in session.scalars(beyond).all():
        session.execute(delete(KeptForm).where(KeptForm.key == old))
    return key


def find(session: Session, sealer: Sealer, account: int, key: str, now: datetime) -> Kept | None:
    """Return a form of this account; None where there is none under this key, or no longer."""
    row = session.get(KeptForm, key)
    if row is None or row.account_id != account or row.created_at <= now - KEPT_FOR:
        return None
    try:
        content = json.loads(sealer.open(row.content))
    except ValueError:  # its key has been taken away: nobody can read it any more
        return None
    filled = Filled(
        path=content["path"],
        fields=[(name, value) for name, value in content["fields"]],
        files=[(name, file) for name, file in content["files"]],
    )
    return Kept(key=row.key, at=row.created_at, filled=filled)


def list_kept(session: Session, sealer: Sealer, account: int, now: datetime) -> list[Kept]:
    """Return the forms of this account, the newest first."""
    mine = select(KeptForm.key).where(
        KeptForm.account_id == account, KeptForm.created_at > now - KEPT_FOR
    )
    keys = session.scalars(mine.order_by(KeptForm.created_at.desc(), KeptForm.key)).all()
    return [form for key in keys if (form := find(session, sealer, account, key, now)) is not None]


def forget(session: Session, account: int, key: str) -> None:
    """Delete a form of this account: it was sent, or is not wanted."""
    session.execute(delete(KeptForm).where(KeptForm.key == key, KeptForm.account_id == account))


def forget_old(session: Session, now: datetime) -> None:
    """Delete the forms of everybody that have been kept long enough."""
    session.execute(delete(KeptForm).where(KeptForm.created_at <= now - KEPT_FOR))
