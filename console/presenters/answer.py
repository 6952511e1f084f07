"""What the page shows on which a mail to the customer is written, and what it warns of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from console.presenters.audit import AuditNames, describe_actor, describe_change, load_names
from workflow import process
from workflow.context import AppContext
from workflow.mail import answer, canned_responses, drafts
from workflow.mail.answer import Recipient
from workflow.mail.canned_responses import CannedResponse
from workflow.models.core import AuditEntry, Message, OutgoingMail, Staff, Ticket, WrittenMail
from workflow.models.milestones import list_reached
from workflow.process import WRITTEN_BY_PERSON, Milestone, Template
from workflow.settings.settings import Settings
from workflow.tickets import presence

MAX_MESSAGES = 4  # messages shown beside the form
MAX_MESSAGE_LENGTH = 6000  # characters of each
MAX_CHANGES = 12


@dataclass(frozen=True)
class Change:
    """What somebody did meanwhile, with the words of the mail or message it was."""

    words: str
    by: str
    at: datetime
    subject: str = ""
    text: str = ""


@dataclass(frozen=True)
class AnswerPage:
    """What stands around the mail."""

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
    """Everything around the form."""
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
    """The contacts, and who is chosen though they are none any more: what was chosen shows."""
    found = answer.list_recipients(session, ticket, settings)
    known = {r.email for r in found}
    return [
        *found,
        *(Recipient(a, "", "no contact of the ticket") for a in written.to if a not in known),
    ]


def start_draft(
    session: Session, ticket: Ticket, settings: Settings, me: Staff, now: datetime
) -> WrittenMail:
    """An empty mail to everybody of the ticket's company who can be reached.

    It is kept once something is typed.
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
        subject=canned_responses.usual_subject(ticket),
    )


def describe_changes(session: Session, changed: Sequence[AuditEntry]) -> list[Change]:
    """Return what others did meanwhile, the newest of it, in words."""
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
