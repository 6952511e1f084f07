"""What the page shows on which a mail to the customer is written, and what it warns of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from console.presenters.audit import Known, actor, known_to, meanwhile
from workflow import process
from workflow.context import House
from workflow.mail import answer, canned_responses, compose, drafts, phi_check
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
class Warned:
    """A part of a mail in which something looks like patient data."""

    where: str  # subject, text or a file's name
    pieces: Sequence[tuple[str, str]]  # (piece, what it looks like)

    @property
    def kinds(self) -> list[str]:
        """Return what it looks like, each once."""
        return list(dict.fromkeys(kind for _, kind in self.pieces if kind))


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
        subject=usual_subject(ticket),
    )


def usual_subject(ticket: Ticket) -> str:
    """Return what our mails are about: the number.

    Never the customer's own subject, which may name a patient.
    """
    return f"Billing Support Ticket #{ticket.id}"


def begin_with(
    offered: Sequence[Wording],
    ticket: Ticket,
    written: Written,
    wording: Wording,
    house: House,
    me: Staff,
) -> None:
    """Put a text into a mail.

    In place of another text that nobody has changed, else below what is typed.
    """
    values = _values(ticket, written, house, me)
    texts = {canned_responses.fill(w.body, values).strip() for w in offered}
    typed, text = written.text.strip(), canned_responses.fill(wording.body, values)
    written.text = text if not typed or typed in texts else f"{written.text.rstrip()}\n\n{text}"
    subjects = {
        usual_subject(ticket),
        "",
        *(canned_responses.fill(w.subject, values) for w in offered),
    }
    if written.subject in subjects:
        written.subject = canned_responses.fill(wording.subject, values) or usual_subject(ticket)
    usual = {w.ticks for w in offered}
    by_itself = wording.ticks != Milestone.RECAP_SENT.name or house.settings.recap_ticks_box
    written.ticks = [n for n in written.ticks if n not in usual] + [wording.ticks] * bool(
        wording.ticks and by_itself
    )


def _values(ticket: Ticket, written: Written, house: House, me: Staff) -> dict[str, str]:
    """The variables of a text for this mail: no words of the customer's but names on record."""
    chosen = {link.contact.email: link.contact.name for link in ticket.contacts}
    return {
        "contact_name": next((name for a in written.to if (name := chosen.get(a, ""))), ""),
        "ticket_number": str(ticket.id),
        "company": ticket.company.name if ticket.company else "",
        "owner": ticket.owner.name if ticket.owner else me.name,
        "stage": str(ticket.stage),
        "status_link": compose.status_link(ticket.id, house.settings, house.signer),
        "desk": house.settings.from_name,
    }


def warnings(session: Session, ticket: Ticket, written: Written) -> list[Warned]:
    """The parts of a mail in which something looks like patient data."""
    known = answer.known_of(session, ticket)
    parts = [
        ("the subject", written.subject, phi_check.find_in_subject(written.subject, known)),
        ("the text", written.text, phi_check.find(written.text, known)),
    ]
    for file in written.files:
        spoken = file.name.replace("_", " ")
        parts.append((f"the name of the file {file.name}", spoken, phi_check.find(spoken, known)))
    return [
        Warned(where, list(phi_check.marked(text, found))) for where, text, found in parts if found
    ]


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
