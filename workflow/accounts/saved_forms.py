"""Saved forms: submitted after their writer was signed out, saved until they sign in again.

They may hold patient data, so they are encrypted, deleted after a day, and shown only to the
account that filled them in. They are never submitted automatically: the person looks at the form
and presses its button.
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
MAX_FORMS = 20  # of one account; the oldest are deleted first
# Of one form: more than the console accepts as fields (MAX_FORM_MEMORY_SIZE).
MAX_BYTES = 3 * 1024 * 1024


@dataclass(frozen=True)
class FormContent:
    """The content of a submitted form: path, fields in order, and the names of chosen files."""

    path: str
    fields: Sequence[tuple[str, str]] = field(repr=False)  # PHI
    files: Sequence[tuple[str, str]] = field(default=(), repr=False)  # (field, name of the file)


@dataclass(frozen=True)
class SavedForm:
    """A form saved at a time, under a random key."""

    key: str
    at: datetime
    content: FormContent


def save_form(
    session: Session, sealer: Sealer, account: int, form: FormContent, now: datetime
) -> str | None:
    """Save a form for an account; return its key, or None when it is too large to be saved."""
    lists = {"fields": [list(f) for f in form.fields], "files": [list(f) for f in form.files]}
    content = json.dumps({"path": form.path, **lists}).encode()
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
    for surplus_key in session.scalars(beyond).all():
        session.execute(delete(SavedFormRow).where(SavedFormRow.key == surplus_key))
    return key


def find_form(
    session: Session, sealer: Sealer, account: int, key: str, now: datetime
) -> SavedForm | None:
    """Return a form of this account; None when the key is unknown or the form is too old."""
    row = session.get(SavedFormRow, key)
    if row is None or row.account_id != account or row.created_at <= now - KEEP_FOR:
        return None
    try:
        stored_content = json.loads(sealer.unseal(row.content))
    except ValueError:  # its encryption key was removed: nobody can read it any more
        return None
    content = FormContent(
        path=stored_content["path"],
        fields=[(name, value) for name, value in stored_content["fields"]],
        files=[(name, file) for name, file in stored_content["files"]],
    )
    return SavedForm(key=row.key, at=row.created_at, content=content)


def list_forms(session: Session, sealer: Sealer, account: int, now: datetime) -> list[SavedForm]:
    """Return the saved forms of this account, the newest first."""
    mine = select(SavedFormRow.key).where(
        SavedFormRow.account_id == account, SavedFormRow.created_at > now - KEEP_FOR
    )
    keys = session.scalars(mine.order_by(SavedFormRow.created_at.desc(), SavedFormRow.key)).all()
    return [
        form for key in keys if (form := find_form(session, sealer, account, key, now)) is not None
    ]


def delete_form(session: Session, account: int, key: str) -> None:
    """Delete a form of this account after it was submitted, or when it is not wanted."""
    session.execute(
        delete(SavedFormRow).where(SavedFormRow.key == key, SavedFormRow.account_id == account)
    )


def delete_expired(session: Session, now: datetime) -> None:
    """Delete the forms of all accounts that are older than `KEEP_FOR`."""
    session.execute(delete(SavedFormRow).where(SavedFormRow.created_at <= now - KEEP_FOR))
