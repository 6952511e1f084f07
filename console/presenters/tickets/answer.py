"""The page on which a mail to a customer is written, and its warnings about patient data."""

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
    """A change somebody else made meanwhile, with the text of its mail or message."""

    words: str
    by: str
    at: datetime
    subject: str = ""
    text: str = ""


@dataclass(frozen=True)
class AnswerPage:
    """Data of the answer page around its form."""

    recipients: Sequence[Recipient]
    boxes: Sequence[tuple[Milestone, bool]]  # unticked ones, and whether this mail ticks them
    folders: Sequence[tuple[str, Sequence[CannedResponse]]]
    messages: Sequence[Message]
    version: int  # version of the ticket the page shows
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
    # Read first: a change after it makes the page ask again, instead of being missed.
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
        version=version,
        viewers=presence.list_viewers(session, ticket.id, me, now),
        sender=f"{context.settings.from_name} <{context.settings.sender}>",
        size=sum(f.size for f in draft.files),
    )


def _list_recipients(
    session: Session, ticket: Ticket, draft: WrittenMail, settings: Settings
) -> list[Recipient]:
    """Return the contacts, people who had a copy, and chosen recipients who are neither.

    Those who had a copy are for the writer to choose: the customer has decided what they read, but
    not what the desk writes to them.
    """
    contacts = answer.list_recipients(session, ticket, settings)
    copied = [
        Recipient(person.email, person.name, "had a copy, no contact of the ticket")
        for person in answer.list_copied(session, ticket, settings)
    ]
    addresses = {r.email for r in (*contacts, *copied)}
    return [
        *contacts,
        *copied,
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
        subject=canned_responses.make_default_subject(ticket),
    )


def describe_changes(session: Session, entries: Sequence[AuditEntry]) -> list[Change]:
    """Return the newest changes others made meanwhile, in words."""
    newest = entries[-MAX_CHANGES:]
    names = load_names(session, newest)
    return [_describe_change(session, c, names) for c in newest]


def _describe_change(session: Session, row: AuditEntry, names: AuditNames) -> Change:
    subject, text = "", ""
    if (message := session.get(Message, row.detail.get("message", 0))) is not None:
        subject, text = message.subject, message.reply_text or message.text
    elif (draft := session.get(WrittenMail, row.detail.get("written", 0))) is not None:
        subject, text = draft.subject, draft.text
    elif row.action == "recap promised":
        recap_texts = select(OutgoingMail.text).where(
            OutgoingMail.ticket_id == row.ticket_id, OutgoingMail.text != ""
        )
        text = session.scalar(recap_texts.order_by(OutgoingMail.id.desc()).limit(1)) or ""
    return Change(
        describe_change(row, names),
        describe_actor(row.actor),
        row.at,
        subject,
        text[:MAX_MESSAGE_LENGTH],
    )
