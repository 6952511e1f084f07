"""Drafts of mails to customers, saved while a person types.

Nothing is lost by an error, a sign-out or an undo.
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

MAX_BYTES = 20_000_000  # of all files of a mail: encoded in base64, most servers accept that
MAX_FILES = 20
# Characters saved of a text; a mail may have fewer (answer.MAX_TEXT_LENGTH).
MAX_DRAFT_LENGTH = 200_000
_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
_MIME = re.compile(r"(?:application|audio|font|image|model|text|video)/[A-Za-z0-9!#$&^_.+-]{1,100}")


@dataclass(frozen=True)
class DraftForm:
    """The fields of the form in which a person writes a mail.

    `to` and `cc` are addresses, `ticks` names of milestones to record when the mail is sent.
    """

    to: Sequence[str]
    cc: Sequence[str]
    subject: str
    text: str
    ticks: Sequence[str]


def make_key() -> str:
    """Return the key of a new form: the form is one mail, however often it is submitted."""
    return secrets.token_urlsafe(18)


def find_latest_draft(session: Session, ticket: int, by: Staff) -> WrittenMail | None:
    """Return the newest draft of this person on the ticket, None without one."""
    own_drafts = (
        WrittenMail.ticket_id == ticket,
        WrittenMail.staff_id == by.id,
        WrittenMail.queued_at.is_(None),
    )
    return session.scalar(
        select(WrittenMail)
        .where(*own_drafts)
        .order_by(WrittenMail.changed_at.desc(), WrittenMail.id.desc())
        .limit(1)
    )


def save_draft(
    session: Session, ticket: Ticket, key: str, form: DraftForm, *, by: Staff, now: datetime
) -> WrittenMail:
    """Save what is typed and return the mail of this form; a mail that was queued stays as it is.

    Raises ActionNotAllowed when the key is malformed or belongs to another ticket or person.
    """
    if not _KEY.fullmatch(key):
        raise ActionNotAllowed("the form is incomplete: load the page again")
    written_mail = _lock_draft(session, key) or _create_draft(session, ticket, key, by, now)
    if (written_mail.ticket_id, written_mail.staff_id) != (ticket.id, by.id):
        raise ActionNotAllowed("the form is of another ticket: load the page again")
    if written_mail.queued_at is None:
        box_names = {m.name for m in process.list_boxes()}
        written_mail.to = list(dict.fromkeys(form.to))
        written_mail.cc = list(dict.fromkeys(form.cc))
        written_mail.subject = to_one_line(form.subject)[:300]
        written_mail.text = to_plain_text(form.text)[:MAX_DRAFT_LENGTH]
        written_mail.ticks = [name for name in form.ticks if name in box_names]
        written_mail.changed_at = now
    return written_mail


def attach_file(
    session: Session,
    blob_store: BlobStore,
    written_mail: WrittenMail,
    name: str,
    mime: str,
    content: bytes,
) -> None:
    """Attach a file to the mail; `name` must be a safe file name.

    Attaching the same file again changes nothing. Raises ActionNotAllowed when it is empty or the
    mail has too many files or bytes.
    """
    if not content:
        raise ActionNotAllowed(f"{name} is empty")
    if len(written_mail.files) >= MAX_FILES:
        raise ActionNotAllowed(f"{name} is left out: a mail takes {MAX_FILES} files")
    if sum(f.size for f in written_mail.files) + len(content) > MAX_BYTES:
        raise ActionNotAllowed(
            f"{name} is left out: all files together may be {MAX_BYTES // 1_000_000} MB"
        )
    digest = hashlib.sha256(content).hexdigest()
    # The form may be submitted twice.
    if any((f.name, f.sha256) == (name, digest) for f in written_mail.files):
        return
    sealed_content, blob = blob_store.store(content)
    written_mail.files.append(
        WrittenFile(
            name=to_one_line(name),
            mime=mime if _MIME.fullmatch(mime) else "application/octet-stream",
            size=len(content),
            sha256=digest,
            content=sealed_content,
            blob=blob,
        )
    )
    session.flush()


def remove_file(session: Session, written: WrittenMail, number: int) -> None:
    """Remove a file from a draft."""
    if written.queued_at is None:
        written.files = [f for f in written.files if f.id != number]
        session.flush()


def delete_draft(session: Session, written: WrittenMail) -> None:
    """Delete a draft with its files; a mail that was queued stays."""
    if written.queued_at is None:
        session.delete(written)


def copy_to_draft(session: Session, written_mail: WrittenMail, *, now: datetime) -> WrittenMail:
    """Create a draft with the same text and files, for a new form."""
    draft = WrittenMail(
        key=make_key(),
        ticket_id=written_mail.ticket_id,
        staff_id=written_mail.staff_id,
        to=written_mail.to,
        cc=written_mail.cc,
        subject=written_mail.subject,
        text=written_mail.text,
        ticks=written_mail.ticks,
        changed_at=now,
    )
    draft.files = [
        WrittenFile(
            name=f.name, mime=f.mime, size=f.size, sha256=f.sha256, content=f.content, blob=f.blob
        )
        for f in written_mail.files
    ]
    session.add(draft)
    session.flush()
    return draft


def to_one_line(text: str) -> str:
    """Return a text as one line of printable characters, as a header needs it."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def to_plain_text(text: str) -> str:
    """Return a text of lines with plain spaces and printable characters only.

    Lone surrogates go as well: they cannot be encoded.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(map(_to_plain_character, lines))


def _to_plain_character(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return " " if character.isspace() else ""


def _lock_draft(session: Session, key: str) -> WrittenMail | None:
    return session.scalar(select(WrittenMail).where(WrittenMail.key == key).with_for_update())


def _create_draft(
    session: Session, ticket: Ticket, key: str, by: Staff, now: datetime
) -> WrittenMail:
    draft = WrittenMail(key=key, ticket_id=ticket.id, staff_id=by.id, changed_at=now)
    try:
        with session.begin_nested():
            session.add(draft)
    except IntegrityError:  # the page saved the draft at the moment its button was pressed
        return session.scalars(
            select(WrittenMail).where(WrittenMail.key == key).with_for_update()
        ).one()
    return draft
