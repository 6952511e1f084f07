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
    boxes: Sequence[tuple[Milestone, bool]]  # unticked ones, and whether this mail ticks them
    folders: Sequence[tuple[str, Sequence[CannedResponse]]]
    messages: Sequence[Message]
    seen: int  # version of the ticket the page shows
    viewers: Sequence[tuple[str, datetime]]
    sender: str
    size: int  # bytes of all files


def build_page(
    session: Session,
    ticket: Ticket,
    draft: WrittenMail,
    context: AppContext,
    *,
    me: Staff,
    now: datetime,
) -> AnswerPage:
    """Return everything around the form."""
    version = presence.get_version(session, ticket.id)
    milestones = list_reached(ticket)
    responses = canned_responses.list_responses(session)
    # our automatic mails are left out: nobody refers to their fixed text
    automatic = [t.value for t in Template if t not in WRITTEN_BY_PERSON]
    by_people = (Message.direction != "out") | Message.subject.not_in(automatic)
    rows = (
        select(Message)
        .where(Message.ticket_id == ticket.id, by_people)
        .order_by(Message.at.desc(), Message.id.desc())
    )
    return AnswerPage(
        recipients=_list_recipients(session, ticket, draft, context.settings),
        boxes=[(m, m.name in draft.ticks) for m in process.list_boxes() if m not in milestones],
        folders=[
            (folder, [r for r in responses if r.folder == folder])
            for folder in dict.fromkeys(r.folder for r in responses)
        ],
        messages=list(session.scalars(rows.limit(MAX_MESSAGES))),
        seen=version,
        viewers=presence.list_viewers(session, ticket.id, me, now),
        sender=f"{context.settings.from_name} <{context.settings.sender}>",
        size=sum(f.size for f in draft.files),
    )


def _list_recipients(
    session: Session, ticket: Ticket, draft: WrittenMail, settings: Settings
) -> list[Recipient]:
    """Return the contacts, and chosen recipients who are no contacts any more."""
    contacts = answer.list_recipients(session, ticket, settings)
    addresses = {r.email for r in contacts}
    return [
        *contacts,
        *(Recipient(a, "", "no contact of the ticket") for a in draft.to if a not in addresses),
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
    draft: WrittenMail,
    response: CannedResponse,
    context: AppContext,
    me: Staff,
) -> None:
    """Insert a canned response into a mail.

    It replaces another one that nobody has edited; otherwise it goes below the typed text.
    """
    values = _build_variables(ticket, draft, context, me)
    texts = {canned_responses.fill_variables(w.body, values).strip() for w in offered}
    typed, text = draft.text.strip(), canned_responses.fill_variables(response.body, values)
    draft.text = text if not typed or typed in texts else f"{draft.text.rstrip()}\n\n{text}"
    subjects = {
        make_default_subject(ticket),
        "",
        *(canned_responses.fill_variables(w.subject, values) for w in offered),
    }
    if draft.subject in subjects:
        draft.subject = canned_responses.fill_variables(
            response.subject, values
        ) or make_default_subject(ticket)
    usual = {w.ticks for w in offered}
    by_itself = response.ticks != Milestone.RECAP_SENT.name or context.settings.recap_ticks_box
    draft.ticks = [n for n in draft.ticks if n not in usual] + [response.ticks] * bool(
        response.ticks and by_itself
    )


def _build_variables(
    ticket: Ticket, draft: WrittenMail, context: AppContext, me: Staff
) -> dict[str, str]:
    """Return the variables of a canned response.

    Of the customer they hold names on record, never words.
    """
    names = {link.contact.email: link.contact.name for link in ticket.contacts}
    return {
        "contact_name": next((name for a in draft.to if (name := names.get(a, ""))), ""),
        "ticket_number": str(ticket.id),
        "company": ticket.company.name if ticket.company else "",
        "owner": ticket.owner.name if ticket.owner else me.name,
        "stage": str(ticket.stage),
        "status_link": compose.make_status_link(ticket.id, context.settings, context.signer),
        "desk": context.settings.from_name,
    }


def find_warnings(session: Session, ticket: Ticket, draft: WrittenMail) -> list[PatientDataWarning]:
    """Return the parts of a mail that may contain patient data."""
    patient_data = answer.collect_known_patient_data(session, ticket)
    parts = [
        (
            "the subject",
            draft.subject,
            phi_check.find_patient_data_in_subject(draft.subject, patient_data),
        ),
        ("the text", draft.text, phi_check.find_patient_data(draft.text, patient_data)),
    ]
    for file in draft.files:
        file_name = file.name.replace("_", " ")
        parts.append(
            (
                f"the name of the file {file.name}",
                file_name,
                phi_check.find_patient_data(file_name, patient_data),
            )
        )
    return [
        PatientDataWarning(where, list(phi_check.split_by_finding(text, matches)))
        for where, text, matches in parts
        if matches
    ]


def describe_changes(session: Session, changed: Sequence[AuditEntry]) -> list[Change]:
    """Return the newest changes others made meanwhile, in words."""
    newest = changed[-MAX_CHANGES:]
    names = load_names(session, newest)
    return [_describe_change(session, c, names) for c in newest]


def _describe_change(session: Session, row: AuditEntry, names: AuditNames) -> Change:
    subject, text = "", ""
    if (message := session.get(Message, row.detail.get("message", 0))) is not None:
        subject, text = message.subject, message.reply_text or message.text
    elif (draft := session.get(WrittenMail, row.detail.get("written", 0))) is not None:
        subject, text = draft.subject, draft.text
    elif row.action == "recap promised":
        sent = select(OutgoingMail.text).where(
            OutgoingMail.ticket_id == row.ticket_id, OutgoingMail.text != ""
        )
        text = session.scalar(sent.order_by(OutgoingMail.id.desc()).limit(1)) or ""
    return Change(
        describe_change(row, names),
        describe_actor(row.actor),
        row.at,
        subject,
        text[:MAX_MESSAGE_LENGTH],
    )
