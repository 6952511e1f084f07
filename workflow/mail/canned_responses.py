"""Canned responses: texts in folders that a mail to a customer can start from.

Those of the operations manual are built in; the desk changes them and adds its own.
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
MAX_LENGTH = 20_000  # characters of subject and text
MAX_NAME_LENGTH = 120  # characters
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
    """A canned response; `number` is 0 for a built-in one that the desk has not changed."""

    folder: str
    name: str
    subject: str  # "" = the usual subject
    body: str
    ticks: str = ""  # name of the milestone that a mail with this text usually records
    number: int = 0


class CannedResponseVersion(Base):
    """A version of a canned response; the newest one of a name is in use.

    A version without a body deletes the response.
    """

    __tablename__ = "mail_texts"
    id: Mapped[int] = mapped_column(primary_key=True)
    # The name in the newest version, None in the others: a name has one current version.
    current: Mapped[str | None] = mapped_column(String(MAX_NAME_LENGTH), unique=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH), index=True)
    folder: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH))
    subject: Mapped[str] = mapped_column(Text, default="")
    body: Mapped[str] = mapped_column(Text, default="")
    ticks: Mapped[str] = mapped_column(String(64), default="")
    changed_by: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime]


# Built in; a row of the same name replaces one of these.
STANDARD_RESPONSES = (
    CannedResponse(
        DEFAULT_FOLDER,
        Template.RECAP,
        "Recap of Resolution: Billing Support Ticket #{{ ticket_number }}",
        "Hello {{ contact_name }},\n\n"
        "this is the recap of the resolution of your Billing Support Ticket.\n\n"
        "What you asked for:\n\nWhat we did:\n\nWhat you need to do: nothing more.\n\n"
        "Ticket number: {{ ticket_number }}\n"
        "If something is still open, answer this mail.\n\n{{ owner }}\n{{ desk }}\n",
        Milestone.RECAP_SENT.name,
    ),
    CannedResponse(
        DEFAULT_FOLDER,
        "Billing Support Follow Up",
        "",
        "Hello {{ contact_name }},\n\n"
        "I am working on your Billing Support Ticket #{{ ticket_number }}.\n\n\n\n"
        "Where it stands: {{ status_link }}\n\n{{ owner }}\n{{ desk }}\n",
        Milestone.FOLLOW_UP_SENT.name,
    ),
    CannedResponse(
        DEFAULT_FOLDER,
        "Billing Support Please Call Us",
        "",
        "Hello {{ contact_name }},\n\n"
        "to go on with your Billing Support Ticket #{{ ticket_number }} we need to ask you "
        "something. Please call us, or tell us when we can call you. For the privacy of your "
        "patients please do not send patient data by e-mail.\n\n{{ owner }}\n{{ desk }}\n",
    ),
)


def list_responses(session: Session) -> list[CannedResponse]:
    """Return every canned response, by folder and name."""
    rows = session.scalars(
        select(CannedResponseVersion).where(CannedResponseVersion.current.is_not(None))
    )
    changed = {r.name: r for r in rows}
    standard = [w for w in STANDARD_RESPONSES if w.name not in changed]
    own = [_to_response(r) for r in changed.values() if r.body]
    return sorted([*standard, *own], key=lambda w: (w.folder.casefold(), w.name.casefold()))


def find_response(session: Session, name: str) -> CannedResponse | None:
    """Return the canned response of this name, None without one."""
    return next((w for w in list_responses(session) if w.name == name), None)


def fill_variables(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables replaced by values, each on one line.

    A variable with an empty value goes together with the space before it.
    """
    return _VARIABLE.sub(partial(_get_value, values), text)


def save_response(session: Session, draft: CannedResponse, *, by: str, now: datetime) -> None:
    """Save a canned response, as a new version when there is one of this name.

    Raises ActionNotAllowed when it has a fault.
    """
    body = to_plain_text(draft.body).strip("\n") + "\n"
    clean_response = CannedResponse(
        to_one_line(draft.folder) or DEFAULT_FOLDER,
        to_one_line(draft.name),
        to_one_line(draft.subject),
        body,
        draft.ticks,
    )
    for fault in _find_faults(clean_response):
        raise ActionNotAllowed(fault)
    _insert_version(session, clean_response, by, now)
    audit.record(session, "mail text saved", by=by, cause="mail texts", now=now)


def delete_response(session: Session, name: str, *, by: str, now: datetime) -> None:
    """Delete a canned response; `undo_last_change` restores it.

    Raises ActionNotAllowed when there is none of this name, or the manual requires it.
    """
    response = find_response(session, name)
    if response is None:
        raise ActionNotAllowed("there is no such text any more")
    if name == Template.RECAP:
        raise ActionNotAllowed("the operations manual names this one: change it instead")
    _insert_version(session, CannedResponse(response.folder, name, "", ""), by, now)
    audit.record(session, "mail text deleted", by=by, cause="mail texts", now=now)


def undo_last_change(session: Session, name: str, *, by: str, now: datetime) -> None:
    """Undo the last change of a canned response.

    Raises ActionNotAllowed when it was never changed.
    """
    last = session.scalar(
        select(CannedResponseVersion).where(CannedResponseVersion.current == name).with_for_update()
    )
    if last is None:
        raise ActionNotAllowed("this text is as it came: there is nothing to undo")
    older = (
        select(CannedResponseVersion)
        .where(CannedResponseVersion.name == name, CannedResponseVersion.id < last.id)
        .order_by(CannedResponseVersion.id.desc())
    )
    previous = session.scalar(older.limit(1))
    session.delete(last)
    session.flush()
    if previous is not None:
        previous.current = name
    audit.record(session, "mail text put back", by=by, cause="mail texts", now=now)


def list_latest_versions(session: Session) -> list[CannedResponseVersion]:
    """Return the newest version of each canned response that the desk has changed or deleted."""
    return list(
        session.scalars(
            select(CannedResponseVersion)
            .where(CannedResponseVersion.current.is_not(None))
            .order_by(CannedResponseVersion.name)
        )
    )


def _to_response(row: CannedResponseVersion) -> CannedResponse:
    return CannedResponse(row.folder, row.name, row.subject, row.body, row.ticks, row.id)


def _insert_version(session: Session, response: CannedResponse, by: str, now: datetime) -> None:
    previous = session.scalar(
        select(CannedResponseVersion)
        .where(CannedResponseVersion.current == response.name)
        .with_for_update()
    )
    if previous is not None:
        previous.current = None
        session.flush()
    row = CannedResponseVersion(
        current=response.name,
        name=response.name,
        folder=response.folder,
        subject=response.subject,
        body=response.body,
        ticks=response.ticks,
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


def _get_value(values: Mapping[str, str], match: re.Match[str]) -> str:
    value = to_one_line(values[match[2]])
    return f"{match[1]}{value}" if value else ""


def _find_faults(response: CannedResponse) -> Iterator[str]:
    if not response.name or len(response.name) > MAX_NAME_LENGTH:
        yield f"give it a name of up to {MAX_NAME_LENGTH} characters: it is what you choose it by"
    if len(response.folder) > MAX_NAME_LENGTH:
        yield f"the folder's name is longer than {MAX_NAME_LENGTH} characters"
    if not response.body.strip():
        yield "the text is empty"
    if len(response.body) + len(response.subject) > MAX_LENGTH:
        yield f"the text is longer than {MAX_LENGTH:,} characters"
    if response.ticks and response.ticks not in {m.name for m in process.list_boxes()}:
        yield "there is no such box"
    for text in (response.subject, response.body):
        yield from _find_variable_faults(text)


def _find_variable_faults(text: str) -> Iterator[str]:
    variable_names = ", ".join(f"{{{{ {name} }}}}" for name in VARIABLES)
    for match in _VARIABLE.finditer(text):
        if match[2] not in VARIABLES:
            yield f"nothing is known by {{{{ {match[2]} }}}}: use {variable_names}"
    left = _VARIABLE.sub("", text)
    stray_mark = next((mark for mark in ("{{", "}}", "{%", "{#") if mark in left), "")
    if stray_mark:
        yield f"{stray_mark} stands there without a variable: use {variable_names}"


def make_default_subject(ticket: Ticket) -> str:
    """Return the subject of our mails: the ticket's number.

    Never the customer's own subject, which may name a patient.
    """
    return f"Billing Support Ticket #{ticket.id}"


def apply_canned_response(
    responses: Sequence[CannedResponse],
    ticket: Ticket,
    draft: WrittenMail,
    response: CannedResponse,
    *,
    settings: Settings,
    signer: Signer,
    by: str,
) -> None:
    """Insert a canned response into a mail that `by` writes.

    It replaces another one that nobody has edited; otherwise it goes below the typed text.
    """
    values = _build_variables(ticket, draft, settings, signer, by)
    texts = {fill_variables(other.body, values).strip() for other in responses}
    typed, text = draft.text.strip(), fill_variables(response.body, values)
    draft.text = text if not typed or typed in texts else f"{draft.text.rstrip()}\n\n{text}"
    subjects = {
        make_default_subject(ticket),
        "",
        *(fill_variables(other.subject, values) for other in responses),
    }
    if draft.subject in subjects:
        draft.subject = fill_variables(response.subject, values) or make_default_subject(ticket)
    offered_ticks = {other.ticks for other in responses}
    draft.ticks = [name for name in draft.ticks if name not in offered_ticks]
    ticks_recap = response.ticks == Milestone.RECAP_SENT.name
    if response.ticks and (settings.recap_ticks_box or not ticks_recap):
        draft.ticks = [*draft.ticks, response.ticks]


def _build_variables(
    ticket: Ticket, draft: WrittenMail, settings: Settings, signer: Signer, by: str
) -> dict[str, str]:
    """Return the variables of a canned response.

    Of the customer they hold names on record, never words.
    """
    names = {link.contact.email: link.contact.name for link in ticket.contacts}
    return {
        "contact_name": next((name for a in draft.to if (name := names.get(a, ""))), ""),
        "ticket_number": str(ticket.id),
        "company": ticket.company.name if ticket.company else "",
        "owner": ticket.owner.name if ticket.owner else by,
        "stage": str(ticket.stage),
        "status_link": compose.make_status_link(ticket.id, settings, signer),
        "desk": settings.from_name,
    }
