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

from workflow.models.accounts import SavedFormRow
from workflow.runtime.crypto import Sealer

KEEP_FOR = timedelta(hours=24)
MAX_FORMS = 20  # of one account; the oldest go first
MAX_BYTES = (
    3 * 1024 * 1024
)  # of one form, above what the console takes as fields (MAX_FORM_MEMORY_SIZE)


@dataclass(frozen=True)
class FormContent:
    """What was typed into a form.

    Where it was sent, its fields in order, the files that were chosen in it.
    """

    path: str
    fields: Sequence[tuple[str, str]] = field(repr=False)  # PHI
    files: Sequence[tuple[str, str]] = field(default=(), repr=False)  # (field, name of the file)


@dataclass(frozen=True)
class SavedForm:
    """A form as it was kept."""

    key: str
    at: datetime
    content: FormContent


def save_form(
    session: Session, sealer: Sealer, account: int, filled: FormContent, now: datetime
) -> str | None:
    """Keep a form for an account.

    The key it is shown under, None where it is too large to be kept.
    """
    lists = {"fields": [list(f) for f in filled.fields], "files": [list(f) for f in filled.files]}
    content = json.dumps({"path": filled.path, **lists}).encode()
    if len(content) > MAX_BYTES:
        return None
    delete_expired(session, now)
    key = secrets.token_urlsafe(24)
    session.add(
        SavedFormRow(key=key, account_id=account, content=sealer.seal(content), created_at=now)
    )
    session.flush()
    newest = select(SavedFormRow.key).where(SavedFormRow.account_id == account)
    beyond = newest.order_by(SavedFormRow.created_at.desc(), SavedFormRow.key).offset(MAX_FORMS)
    for old in session.scalars(beyond).all():
        session.execute(delete(SavedFormRow).where(SavedFormRow.key == old))
    return key


def find_form(
    session: Session, sealer: Sealer, account: int, key: str, now: datetime
) -> SavedForm | None:
    """Return a form of this account; None where there is none under this key, or no longer."""
    row = session.get(SavedFormRow, key)
    if row is None or row.account_id != account or row.created_at <= now - KEEP_FOR:
        return None
    try:
        content = json.loads(sealer.unseal(row.content))
    except ValueError:  # its key has been taken away: nobody can read it any more
        return None
    filled = FormContent(
        path=content["path"],
        fields=[(name, value) for name, value in content["fields"]],
        files=[(name, file) for name, file in content["files"]],
    )
    return SavedForm(key=row.key, at=row.created_at, content=filled)


def list_forms(session: Session, sealer: Sealer, account: int, now: datetime) -> list[SavedForm]:
    """Return the forms of this account, the newest first."""
    mine = select(SavedFormRow.key).where(
        SavedFormRow.account_id == account, SavedFormRow.created_at > now - KEEP_FOR
    )
    keys = session.scalars(mine.order_by(SavedFormRow.created_at.desc(), SavedFormRow.key)).all()
    return [
        form for key in keys if (form := find_form(session, sealer, account, key, now)) is not None
    ]


def delete_form(session: Session, account: int, key: str) -> None:
    """Delete a form of this account: it was sent, or is not wanted."""
    session.execute(
        delete(SavedFormRow).where(SavedFormRow.key == key, SavedFormRow.account_id == account)
    )


def delete_expired(session: Session, now: datetime) -> None:
    """Delete the forms of everybody that have been kept long enough."""
    session.execute(delete(SavedFormRow).where(SavedFormRow.created_at <= now - KEEP_FOR))
