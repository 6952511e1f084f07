"""Texts in folders that a mail to a customer can begin with.

The manual's, and those that the desk makes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import String, Text, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column

from workflow import process
from workflow.audit import record as audit
from workflow.errors import ActionNotAllowed
from workflow.mail import compose
from workflow.mail.drafts import to_one_line, to_plain_text
from workflow.models.base import Base
from workflow.models.core import Ticket, WrittenMail
from workflow.process import Milestone, Template
from workflow.runtime.crypto import Signer
from workflow.settings.settings import Settings

DEFAULT_FOLDER = "Billing Support"
MAX_LENGTH, MAX_NAME_LENGTH = 20_000, 120  # characters
VARIABLES = {
    "contact_name": "the contact's name",
    "ticket_number": "the ticket's number",
    "company": "the company's name",
    "owner": "who owns the ticket",
    "stage": "the stage it is at",
    "status_link": "the page on which the customer sees how far the ticket is",
    "desk": "the name our mail is from",
}
_VARIABLE = re.compile(r"( ?)\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class CannedResponse:
    """A text as it is offered; `number` is 0 for one that the desk has not changed."""

    folder: str
    name: str
    subject: str  # "" is the usual one
    body: str
    ticks: str = ""  # name of the milestone that a mail with this text usually records
    number: int = 0


class CannedResponseVersion(Base):
    """A version of a text; the newest of its name is in use.

    One without a body takes the text away.
    """

    __tablename__ = "mail_texts"
    id: Mapped[int] = mapped_column(primary_key=True)
    current: Mapped[str | None] = mapped_column(
        String(MAX_NAME_LENGTH), unique=True
    )  # the name, of the newest version
    name: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH), index=True)
    folder: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH))
    subject: Mapped[str] = mapped_column(Text, default="")
    body: Mapped[str] = mapped_column(Text, default="")
    ticks: Mapped[str] = mapped_column(String(64), default="")
    changed_by: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime]


# What the desk starts with; a text of the same name in the table takes the place of one of these.
STANDARD_RESPONSES = (
    CannedResponse(
        DEFAULT_FOLDER,
        Template.RECAP,
        "Recap of Resolution: Billing Support Ticket #{{ ticket_number }}",
        "Hello {{ contact_name }},\n\nthis is the recap of the resolution of your Billing Support Ticket.\n\n"
        "What you asked for:\n\nWhat we did:\n\nWhat you need to do: nothing more.\n\n"
        "Ticket number: {{ ticket_number }}\nIf something is still open, answer this mail.\n\n{{ owner }}\n"
        "{{ desk }}\n",
        Milestone.RECAP_SENT.name,
    ),
    CannedResponse(
        DEFAULT_FOLDER,
        "Billing Support Follow Up",
        "",
        "Hello {{ contact_name }},\n\nI am looking after your Billing Support Ticket #{{ ticket_number }}.\n\n\n\n"
        "Where it stands: {{ status_link }}\n\n{{ owner }}\n{{ desk }}\n",
        Milestone.FOLLOW_UP_SENT.name,
    ),
    CannedResponse(
        DEFAULT_FOLDER,
        "Billing Support Please Call Us",
        "",
        "Hello {{ contact_name }},\n\nto go on with your Billing Support Ticket #{{ ticket_number }} we need to ask "
        "you something. Please call us, or tell us when we can call you. For the privacy of your patients please do "
        "not send patient data by e-mail.\n\n{{ owner }}\n{{ desk }}\n",
    ),
)


def list_responses(session: Session) -> list[CannedResponse]:
    """Every text, by folder and name."""
    rows = session.scalars(
        select(CannedResponseVersion).where(CannedResponseVersion.current.is_not(None))
    )
    changed = {r.name: r for r in rows}
    found = [w for w in STANDARD_RESPONSES if w.name not in changed] + [
        _wording(r) for r in changed.values() if r.body
    ]
    return sorted(found, key=lambda w: (w.folder.casefold(), w.name.casefold()))


def find_response(session: Session, name: str) -> CannedResponse | None:
    """The text of this name."""
    return next((w for w in list_responses(session) if w.name == name), None)


def fill_variables(text: str, values: Mapping[str, str]) -> str:
    """A text with its variables in; each value as plain text on one line.

    One without a value leaves no gap.
    """
    return _VARIABLE.sub(partial(_value, values), text)


def save_response(session: Session, given: CannedResponse, *, by: str, now: datetime) -> None:
    """Keep a new text, or a new version of one.

    Raises ActionNotAllowed when it cannot be used as it stands.
    """
    body = to_plain_text(given.body).strip("\n") + "\n"
    wording = CannedResponse(
        to_one_line(given.folder) or DEFAULT_FOLDER,
        to_one_line(given.name),
        to_one_line(given.subject),
        body,
        given.ticks,
    )
    for fault in _faults(wording):
        raise ActionNotAllowed(fault)
    _put(session, wording, by, now)
    audit.record(session, "mail text saved", by=by, cause="mail texts", now=now)


def delete_response(session: Session, name: str, *, by: str, now: datetime) -> None:
    """Take a text away; `undo_last_change` brings it again. Raises ActionNotAllowed when it cannot go."""
    known = find_response(session, name)
    if known is None:
        raise ActionNotAllowed("there is no such text any more")
    if name == Template.RECAP:
        raise ActionNotAllowed("the operations manual names this one: change it instead")
    _put(session, CannedResponse(known.folder, name, "", ""), by, now)
    audit.record(session, "mail text deleted", by=by, cause="mail texts", now=now)


def undo_last_change(session: Session, name: str, *, by: str, now: datetime) -> None:
    """Take the last change of a text back. Raises ActionNotAllowed when there is none."""
    last = session.scalar(
        select(CannedResponseVersion).where(CannedResponseVersion.current == name).with_for_update()
    )
    if last is None:
        raise ActionNotAllowed("this text is as it came: there is nothing to take back")
    older = (
        select(CannedResponseVersion)
        .where(CannedResponseVersion.name == name, CannedResponseVersion.id < last.id)
        .order_by(CannedResponseVersion.id.desc())
    )
    before = session.scalar(older.limit(1))
    session.delete(last)
    session.flush()
    if before is not None:
        before.current = name
    audit.record(session, "mail text put back", by=by, cause="mail texts", now=now)


def list_latest_versions(session: Session) -> list[CannedResponseVersion]:
    """The newest version of each text that the desk has changed, made or deleted."""
    return list(
        session.scalars(
            select(CannedResponseVersion)
            .where(CannedResponseVersion.current.is_not(None))
            .order_by(CannedResponseVersion.name)
        )
    )


def _wording(row: CannedResponseVersion) -> CannedResponse:
    return CannedResponse(row.folder, row.name, row.subject, row.body, row.ticks, row.id)


def _put(session: Session, wording: CannedResponse, by: str, now: datetime) -> None:
    known = session.scalar(
        select(CannedResponseVersion)
        .where(CannedResponseVersion.current == wording.name)
        .with_for_update()
    )
    if known is not None:
        known.current = None
        session.flush()
    row = CannedResponseVersion(
        current=wording.name,
        name=wording.name,
        folder=wording.folder,
        subject=wording.subject,
        body=wording.body,
        ticks=wording.ticks,
        changed_by=by,
        changed_at=now,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raise ActionNotAllowed(
            "somebody has saved this text a moment ago: load the page again and look at it first"
        ) from None


def _value(values: Mapping[str, str], match: re.Match[str]) -> str:
    value = to_one_line(values[match[2]])
    return f"{match[1]}{value}" if value else ""


def _faults(wording: CannedResponse) -> Iterator[str]:
    if not wording.name or len(wording.name) > MAX_NAME_LENGTH:
        yield f"give it a name of up to {MAX_NAME_LENGTH} characters: it is what you choose it by"
    if len(wording.folder) > MAX_NAME_LENGTH:
        yield f"the folder's name is longer than {MAX_NAME_LENGTH} characters"
    if not wording.body.strip():
        yield "the text is empty"
    if len(wording.body) + len(wording.subject) > MAX_LENGTH:
        yield f"the text is longer than {MAX_LENGTH:,} characters"
    if wording.ticks and wording.ticks not in {m.name for m in process.list_boxes()}:
        yield "there is no such box"
    for text in (wording.subject, wording.body):
        yield from _unknown(text)


def _unknown(text: str) -> Iterator[str]:
    allowed = ", ".join(f"{{{{ {name} }}}}" for name in VARIABLES)
    for match in _VARIABLE.finditer(text):
        if match[2] not in VARIABLES:
            yield f"nothing is known by {{{{ {match[2]} }}}}: use {allowed}"
    left = _VARIABLE.sub("", text)
    found = next((mark for mark in ("{{", "}}", "{%", "{#") if mark in left), "")
    if found:
        yield f"{found} stands there without a variable: use {allowed}"


def usual_subject(ticket: Ticket) -> str:
    """Return the usual subject of our mails: the ticket's number.

    Never the customer's own subject, which may name a patient.
    """
    return f"Billing Support Ticket #{ticket.id}"


def begin_with(
    offered: Sequence[CannedResponse],
    ticket: Ticket,
    written: WrittenMail,
    wording: CannedResponse,
    *,
    settings: Settings,
    signer: Signer,
    by: str,
) -> None:
    """Put a canned response into a mail that `by` writes.

    It replaces another one that nobody has changed, and else goes below what is typed.
    """
    values = _values(ticket, written, settings, signer, by)
    texts = {fill_variables(w.body, values).strip() for w in offered}
    typed, text = written.text.strip(), fill_variables(wording.body, values)
    written.text = text if not typed or typed in texts else f"{written.text.rstrip()}\n\n{text}"
    subjects = {
        usual_subject(ticket),
        "",
        *(fill_variables(w.subject, values) for w in offered),
    }
    if written.subject in subjects:
        written.subject = fill_variables(wording.subject, values) or usual_subject(ticket)
    usual = {w.ticks for w in offered}
    by_itself = wording.ticks != Milestone.RECAP_SENT.name or settings.recap_ticks_box
    written.ticks = [n for n in written.ticks if n not in usual] + [wording.ticks] * bool(
        wording.ticks and by_itself
    )


def _values(
    ticket: Ticket, written: WrittenMail, settings: Settings, signer: Signer, by: str
) -> dict[str, str]:
    """Return the variables of a text for this mail: of the customer's only names on record."""
    chosen = {link.contact.email: link.contact.name for link in ticket.contacts}
    return {
        "contact_name": next((name for a in written.to if (name := chosen.get(a, ""))), ""),
        "ticket_number": str(ticket.id),
        "company": ticket.company.name if ticket.company else "",
        "owner": ticket.owner.name if ticket.owner else by,
        "stage": str(ticket.stage),
        "status_link": compose.make_status_link(ticket.id, settings, signer),
        "desk": settings.from_name,
    }
