"""The page on which a mail to a customer is written, and its warnings about patient data."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from console.presenters.audit import AuditNames, describe_actor, describe_change, load_names
from workflow import process
from workflow.context import AppContext
from workflow.mail import answer, canned_responses, compose, drafts, phi_check
from workflow.mail.answer import Recipient
from workflow.mail.canned_responses import CannedResponse
from workflow.models.core import AuditEntry, Message, OutgoingMail, Staff, Ticket, WrittenMail
from workflow.process import WRITTEN_BY_PERSON, Milestone, Template
from workflow.settings.settings import Settings
from workflow.tickets import presence
from workflow.tickets.desk import list_reached

MAX_MESSAGES = 4  # messages shown beside the form
MAX_MESSAGE_LENGTH = 6000  # characters of each
MAX_CHANGES = 12


@dataclass(frozen=True)
class PatientDataWarning:
    """A part of a mail that may contain patient data."""

    where: str  # subject, text or a file's name
    pieces: Sequence[tuple[str, str]]  # (piece, what it looks like)

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of data it looks like, each once."""
        return list(dict.fromkeys(kind for _, kind in self.pieces if kind))


@dataclass(frozen=True)
class Change:
    """A change somebody else made meanwhile, with the text of its mail or message."""

    words: str
    by: str
    at: datetime
    subject: str = ""
    text: str = ""


@dataclass(frozen=True)
class AnswerPage:
    """Everything around the form."""

    recipients: Sequence[Recipient]
    boxes: Sequence[
        tuple[Milestone, bool]
    ]  # those not ticked yet, and whether this mail ticks them
    folders: Sequence[tuple[str, Sequence[CannedResponse]]]
    messages: Sequence[Message]
    seen: int
    viewers: Sequence[tuple[str, datetime]]
    sender: str
    size: int  # bytes of all files


def build_page(
    session: Session,
    ticket: Ticket,
    written: WrittenMail,
    context: AppContext,
    *,
    me: Staff,
    now: datetime,
) -> AnswerPage:
    """Return everything around the form."""
    seen = presence.get_version(session, ticket.id)
    done = list_reached(ticket)
    offered = canned_responses.list_responses(session)
    by_itself = [
        t.value for t in Template if t not in WRITTEN_BY_PERSON
    ]  # fixed words: nobody answers to them
    said = (Message.direction != "out") | Message.subject.not_in(by_itself)
    rows = (
        select(Message)
        .where(Message.ticket_id == ticket.id, said)
        .order_by(Message.at.desc(), Message.id.desc())
    )
    return AnswerPage(
        recipients=_recipients(session, ticket, written, context.settings),
        boxes=[(m, m.name in written.ticks) for m in process.list_boxes() if m not in done],
        folders=[
            (f, [w for w in offered if w.folder == f])
            for f in dict.fromkeys(w.folder for w in offered)
        ],
        messages=list(session.scalars(rows.limit(MAX_MESSAGES))),
        seen=seen,
        viewers=presence.list_viewers(session, ticket.id, me, now),
        sender=f"{context.settings.from_name} <{context.settings.sender}>",
        size=sum(f.size for f in written.files),
    )


def _recipients(
    session: Session, ticket: Ticket, written: WrittenMail, settings: Settings
) -> list[Recipient]:
    """Return the contacts, and chosen recipients who are no contacts any more."""
    found = answer.list_recipients(session, ticket, settings)
    known = {r.email for r in found}
    return [
        *found,
        *(Recipient(a, "", "no contact of the ticket") for a in written.to if a not in known),
    ]


def start_draft(
    session: Session, ticket: Ticket, settings: Settings, me: Staff, now: datetime
) -> WrittenMail:
    """Return an empty mail to every reachable contact of the ticket's own company.

    It is stored once something is typed.
    """
    return WrittenMail(
        key=drafts.make_key(),
        ticket_id=ticket.id,
        staff_id=me.id,
        changed_at=now,
        text="",
        ticks=[],
        cc=[],
        to=[r.email for r in answer.list_recipients(session, ticket, settings) if r.is_default],
        subject=make_default_subject(ticket),
    )


def make_default_subject(ticket: Ticket) -> str:
    """Return the subject of our mails: the ticket's number.

    Never the customer's own subject, which may name a patient.
    """
    return f"Billing Support Ticket #{ticket.id}"


def apply_canned_response(
    offered: Sequence[CannedResponse],
    ticket: Ticket,
    written: WrittenMail,
    wording: CannedResponse,
    context: AppContext,
    me: Staff,
) -> None:
    """Insert a canned response into a mail.

    It replaces another one that nobody has edited; otherwise it goes below the typed text.
    """
    values = _values(ticket, written, context, me)
    texts = {canned_responses.fill_variables(w.body, values).strip() for w in offered}
    typed, text = written.text.strip(), canned_responses.fill_variables(wording.body, values)
    written.text = text if not typed or typed in texts else f"{written.text.rstrip()}\n\n{text}"
    subjects = {
        make_default_subject(ticket),
        "",
        *(canned_responses.fill_variables(w.subject, values) for w in offered),
    }
    if written.subject in subjects:
        written.subject = canned_responses.fill_variables(
            wording.subject, values
        ) or make_default_subject(ticket)
    usual = {w.ticks for w in offered}
    by_itself = wording.ticks != Milestone.RECAP_SENT.name or context.settings.recap_ticks_box
    written.ticks = [n for n in written.ticks if n not in usual] + [wording.ticks] * bool(
        wording.ticks and by_itself
    )


def _values(ticket: Ticket, written: WrittenMail, context: AppContext, me: Staff) -> dict[str, str]:
    """Return the variables of a canned response.

    Of the customer they hold names on record, never words.
    """
    chosen = {link.contact.email: link.contact.name for link in ticket.contacts}
    return {
        "contact_name": next((name for a in written.to if (name := chosen.get(a, ""))), ""),
        "ticket_number": str(ticket.id),
        "company": ticket.company.name if ticket.company else "",
        "owner": ticket.owner.name if ticket.owner else me.name,
        "stage": str(ticket.stage),
        "status_link": compose.make_status_link(ticket.id, context.settings, context.signer),
        "desk": context.settings.from_name,
    }


def find_warnings(
    session: Session, ticket: Ticket, written: WrittenMail
) -> list[PatientDataWarning]:
    """Return the parts of a mail that may contain patient data."""
    known = answer.collect_known_patient_data(session, ticket)
    parts = [
        (
            "the subject",
            written.subject,
            phi_check.find_patient_data_in_subject(written.subject, known),
        ),
        ("the text", written.text, phi_check.find_patient_data(written.text, known)),
    ]
    for file in written.files:
        spoken = file.name.replace("_", " ")
        parts.append(
            (
                f"the name of the file {file.name}",
                spoken,
                phi_check.find_patient_data(spoken, known),
            )
        )
    return [
        PatientDataWarning(where, list(phi_check.split_by_finding(text, found)))
        for where, text, found in parts
        if found
    ]


def describe_changes(session: Session, changed: Sequence[AuditEntry]) -> list[Change]:
    """Return the newest changes others made meanwhile, in words."""
    newest = changed[-MAX_CHANGES:]
    known = load_names(session, newest)
    return [_told(session, c, known) for c in newest]


def _told(session: Session, row: AuditEntry, known: AuditNames) -> Change:
    subject, text = "", ""
    if (said := session.get(Message, row.detail.get("message", 0))) is not None:
        subject, text = said.subject, said.reply_text or said.text
    elif (mail := session.get(WrittenMail, row.detail.get("written", 0))) is not None:
        subject, text = mail.subject, mail.text
    elif row.action == "recap promised":
        sent = select(OutgoingMail.text).where(
            OutgoingMail.ticket_id == row.ticket_id, OutgoingMail.text != ""
        )
        text = session.scalar(sent.order_by(OutgoingMail.id.desc()).limit(1)) or ""
    return Change(
        describe_change(row, known),
        describe_actor(row.actor),
        row.at,
        subject,
        text[:MAX_MESSAGE_LENGTH],
    )
