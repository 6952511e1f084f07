"""What a person is writing to a customer, kept as it is typed.

Nothing is lost on an error, a sign-off or an undo.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from workflow import process
from workflow.errors import ActionNotAllowed
from workflow.models.core import Staff, Ticket, WrittenFile, WrittenMail
from workflow.runtime.blobs import BlobStore

MAX_BYTES = 20_000_000  # of all files of a mail: with their base64, most servers take that
MAX_FILES = 20
MAX_DRAFT_LENGTH = 200_000  # characters of a text kept, however much cannot be sent
_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
_MIME = re.compile(r"(?:application|audio|font|image|model|text|video)/[A-Za-z0-9!#$&^_.+-]{1,100}")


@dataclass(frozen=True)
class DraftForm:
    """What a form says."""

    to: Sequence[str]
    cc: Sequence[str]
    subject: str
    text: str
    ticks: Sequence[str]


def make_key() -> str:
    """The key of a fresh form: what is typed into it is one mail, however often it is sent."""
    return secrets.token_urlsafe(18)


def find_latest_draft(session: Session, ticket: int, by: Staff) -> WrittenMail | None:
    """Return what this person began to write on the ticket last and has not sent."""
    mine = (
        WrittenMail.ticket_id == ticket,
        WrittenMail.staff_id == by.id,
        WrittenMail.promised_at.is_(None),
    )
    return session.scalar(
        select(WrittenMail)
        .where(*mine)
        .order_by(WrittenMail.changed_at.desc(), WrittenMail.id.desc())
        .limit(1)
    )


def save_draft(
    session: Session, ticket: Ticket, key: str, typed: DraftForm, *, by: Staff, now: datetime
) -> WrittenMail:
    """The mail of this form, as it is typed now; as it was once it is promised.

    Raises ActionNotAllowed when the key is nobody's or somebody else's.
    """
    if not _KEY.fullmatch(key):
        raise ActionNotAllowed("the form is incomplete: load the page again")
    written = _held(session, key) or _begun(session, ticket, key, by, now)
    if (written.ticket_id, written.staff_id) != (ticket.id, by.id):
        raise ActionNotAllowed("the form is of another ticket: load the page again")
    if written.promised_at is None:
        boxes = {m.name for m in process.list_boxes()}
        written.to, written.cc = list(dict.fromkeys(typed.to)), list(dict.fromkeys(typed.cc))
        written.subject, written.text = (
            to_one_line(typed.subject)[:300],
            to_plain_text(typed.text)[:MAX_DRAFT_LENGTH],
        )
        written.ticks = [name for name in typed.ticks if name in boxes]
        written.changed_at = now
    return written


def attach_file(
    session: Session, vault: BlobStore, written: WrittenMail, name: str, mime: str, content: bytes
) -> None:
    """Put a file with the mail. `name` is a safe one.

    Raises ActionNotAllowed when it is empty or too much.
    """
    if not content:
        raise ActionNotAllowed(f"{name} is empty")
    if len(written.files) >= MAX_FILES:
        raise ActionNotAllowed(f"{name} is left out: a mail takes {MAX_FILES} files")
    if sum(f.size for f in written.files) + len(content) > MAX_BYTES:
        raise ActionNotAllowed(
            f"{name} is left out: all files together may be {MAX_BYTES // 1_000_000} MB"
        )
    digest = hashlib.sha256(content).hexdigest()
    if any((f.name, f.sha256) == (name, digest) for f in written.files):  # the form was sent twice
        return
    sealed, blob = vault.store(content)
    written.files.append(
        WrittenFile(
            name=to_one_line(name),
            mime=mime if _MIME.fullmatch(mime) else "application/octet-stream",
            size=len(content),
            sha256=digest,
            content=sealed,
            blob=blob,
        )
    )
    session.flush()


def remove_file(session: Session, written: WrittenMail, number: int) -> None:
    """Take a file away from a mail that is not sent."""
    if written.promised_at is None:
        written.files = [f for f in written.files if f.id != number]
        session.flush()


def delete_draft(session: Session, written: WrittenMail) -> None:
    """Forget a mail that was not sent, with its files."""
    if written.promised_at is None:
        session.delete(written)


def copy_to_draft(session: Session, written: WrittenMail, *, now: datetime) -> WrittenMail:
    """The same words and files as a draft, in a form of its own."""
    draft = WrittenMail(
        key=make_key(),
        ticket_id=written.ticket_id,
        staff_id=written.staff_id,
        to=written.to,
        cc=written.cc,
        subject=written.subject,
        text=written.text,
        ticks=written.ticks,
        changed_at=now,
    )
    draft.files = [
        WrittenFile(
            name=f.name, mime=f.mime, size=f.size, sha256=f.sha256, content=f.content, blob=f.blob
        )
        for f in written.files
    ]
    session.add(draft)
    session.flush()
    return draft


def to_one_line(text: str) -> str:
    """A text as a header takes it: one line, nothing that does not print."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def to_plain_text(text: str) -> str:
    """A text as a mail takes it.

    Lines, plain spaces, nothing that does not print, lone surrogates among it.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        c if c.isprintable() or c in "\n\t" else " " if c.isspace() else "" for c in lines
    )


def _held(session: Session, key: str) -> WrittenMail | None:
    return session.scalar(select(WrittenMail).where(WrittenMail.key == key).with_for_update())


def _begun(session: Session, ticket: Ticket, key: str, by: Staff, now: datetime) -> WrittenMail:
    written = WrittenMail(key=key, ticket_id=ticket.id, staff_id=by.id, changed_at=now)
    try:
        with session.begin_nested():
            session.add(written)
    except IntegrityError:  # the page keeps what is typed while its button is pressed
        return session.scalars(
            select(WrittenMail).where(WrittenMail.key == key).with_for_update()
        ).one()
    return written
