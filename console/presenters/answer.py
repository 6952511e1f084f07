"""What the page shows on which a mail to the customer is written, and what it warns of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from console.presenters.audit import Known, actor, known_to, meanwhile
from workflow import process
from workflow.context import House
from workflow.mail import answer, canned_responses, drafts
from workflow.mail.answer import Recipient
from workflow.mail.canned_responses import Wording
from workflow.models.core import Audit, Message, Outgoing, Staff, Ticket, Written
from workflow.models.milestones import reached
from workflow.process import BY_PERSON, Milestone, Template
from workflow.settings.settings import Settings
from workflow.tickets import presence

NEWEST = 4  # messages shown beside the form
READ = 6000  # characters of each
CHANGES = 12


@dataclass(frozen=True)
class Change:
    """What somebody did meanwhile, with the words of the mail or message it was."""

    words: str
    by: str
    at: datetime
    subject: str = ""
    text: str = ""


@dataclass(frozen=True)
class Page:
    """What stands around the mail."""

    recipients: Sequence[Recipient]
    boxes: Sequence[
        tuple[Milestone, bool]
    ]  # those not ticked yet, and whether this mail ticks them
    folders: Sequence[tuple[str, Sequence[Wording]]]
    messages: Sequence[Message]
    seen: int
    viewers: Sequence[tuple[str, datetime]]
    sender: str
    size: int  # bytes of all files


def page(
    session: Session, ticket: Ticket, written: Written, house: House, *, me: Staff, now: datetime
) -> Page:
    """Everything around the form."""
    seen = presence.version(session, ticket.id)
    done = reached(ticket)
    offered = canned_responses.offered(session)
    by_itself = [
        t.value for t in Template if t not in BY_PERSON
    ]  # fixed words: nobody answers to them
    said = (Message.direction != "out") | Message.subject.not_in(by_itself)
    rows = (
        select(Message)
        .where(Message.ticket_id == ticket.id, said)
        .order_by(Message.at.desc(), Message.id.desc())
    )
    return Page(
        recipients=_recipients(session, ticket, written, house.settings),
        boxes=[(m, m.name in written.ticks) for m in process.boxes() if m not in done],
        folders=[
            (f, [w for w in offered if w.folder == f])
            for f in dict.fromkeys(w.folder for w in offered)
        ],
        messages=list(session.scalars(rows.limit(NEWEST))),
        seen=seen,
        viewers=presence.others(session, ticket.id, me, now),
        sender=f"{house.settings.from_name} <{house.settings.sender}>",
        size=sum(f.size for f in written.files),
    )


def _recipients(
    session: Session, ticket: Ticket, written: Written, settings: Settings
) -> list[Recipient]:
    """The contacts, and who is chosen though they are none any more: what was chosen shows."""
    found = answer.recipients(session, ticket, settings)
    known = {r.email for r in found}
    return [
        *found,
        *(Recipient(a, "", "no contact of the ticket") for a in written.to if a not in known),
    ]


def fresh(
    session: Session, ticket: Ticket, settings: Settings, me: Staff, now: datetime
) -> Written:
    """An empty mail to everybody of the ticket's company who can be reached.

    It is kept once something is typed.
    """
    return Written(
        key=drafts.new_key(),
        ticket_id=ticket.id,
        staff_id=me.id,
        changed_at=now,
        text="",
        ticks=[],
        cc=[],
        to=[r.email for r in answer.recipients(session, ticket, settings) if r.usual],
        subject=canned_responses.usual_subject(ticket),
    )


def told(session: Session, changed: Sequence[Audit]) -> list[Change]:
    """Return what others did meanwhile, the newest of it, in words."""
    newest = changed[-CHANGES:]
    known = known_to(session, newest)
    return [_told(session, c, known) for c in newest]


def _told(session: Session, row: Audit, known: Known) -> Change:
    subject, text = "", ""
    if (said := session.get(Message, row.detail.get("message", 0))) is not None:
        subject, text = said.subject, said.reply_text or said.text
    elif (mail := session.get(Written, row.detail.get("written", 0))) is not None:
        subject, text = mail.subject, mail.text
    elif row.action == "recap promised":
        sent = select(Outgoing.text).where(Outgoing.ticket_id == row.ticket_id, Outgoing.text != "")
        text = session.scalar(sent.order_by(Outgoing.id.desc()).limit(1)) or ""
    return Change(meanwhile(row, known), actor(row.actor), row.at, subject, text[:READ])
