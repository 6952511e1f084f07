"""A person's mail to a customer.

Promised once, held up so that it can be taken back, sent with its files.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from parsers.mail import evidence
from workflow.audit import record as audit
from workflow.customers import directory, mixed_companies
from workflow.database.engine import notify_workers
from workflow.database.locks import lock_ticket
from workflow.errors import ActionNotAllowed
from workflow.mail import drafts, phi_check
from workflow.mail.compose import OpenedFile
from workflow.mail.phi_check import KnownPatientData
from workflow.models.core import (
    Contact,
    Message,
    OutgoingMail,
    StoredAttachment,
    Ticket,
    WrittenMail,
)
from workflow.models.states import OutboxState
from workflow.process import Milestone, Template
from workflow.runtime.blobs import BlobStore
from workflow.settings.settings import Settings
from workflow.tickets.actions import Done, Handlers, Run, SendMail, handler, refusal_by_status
from workflow.tickets.desk import Desk, require_one_company
from workflow.tickets.outbox import SEND

SEND_DELAY = timedelta(seconds=10)  # so long a mail can be taken back
MAX_RECIPIENTS = 20
MAX_TEXT_LENGTH = 100_000  # characters of a text
TOO_LATE_MESSAGE = "too late: the mail is on its way to the customer. Write another one"


@dataclass(frozen=True)
class Recipient:
    """Somebody on the ticket that the mail can go to, and why it perhaps should not."""

    email: str
    name: str
    obstacle: str
    is_reachable: bool = True
    is_foreign: bool = False  # of another company, brought by a merge

    @property
    def is_default(self) -> bool:
        """Return whether they get it unless somebody says otherwise."""
        return not self.obstacle


def list_recipients(session: Session, ticket: Ticket, settings: Settings) -> list[Recipient]:
    """The contacts of a ticket that have an address of theirs."""
    found = []
    for link in ticket.contacts:
        contact = link.contact
        if not directory.is_valid_address(contact.email) or directory.is_our_address(
            contact.email, settings
        ):
            continue
        foreign = mixed_companies.is_foreign_contact(session, link)
        obstacle = _obstacle(contact)
        reachable = not obstacle
        if foreign:
            party = mixed_companies.find_contact_party(session, link)
            of_whom = "another customer, as far as is known"
            if party is not None and not party.address:
                of_whom = f"of another company, {party.name}"
            obstacle = f"{of_whom}; {obstacle}" if obstacle else of_whom
        found.append(Recipient(contact.email, contact.name, obstacle, reachable, foreign))
    return found


def _obstacle(contact: Contact) -> str:
    if contact.unreachable:
        return "mail to this address came back before"
    return "an address nobody reads" if evidence.is_unread_address(contact.email) else ""


def list_companies(session: Session, ticket: Ticket, written: WrittenMail) -> list[str]:
    """The companies whose people a mail goes to.

    More than one only once a person has confirmed it.
    """
    return mixed_companies.list_recipient_companies(session, ticket, [*written.to, *written.cc])


def list_faults(ticket: Ticket, written: WrittenMail, settings: Settings) -> list[str]:
    """Everything that is in the way of sending a mail as it stands.

    In words that say what to do.
    """
    if refusal := refusal_by_status(ticket, SendMail):
        return [refusal]
    return [words for words, wrong in _rules(written, settings) if wrong]


def _rules(written: WrittenMail, settings: Settings) -> Iterable[tuple[str, bool]]:
    everybody = [*written.to, *written.cc]
    unusable = [a for a in everybody if not directory.is_valid_address(a)]
    ours = [a for a in everybody if directory.is_our_address(a, settings)]
    beyond = [a for a in everybody if not a.isascii()]
    size = sum(f.size for f in written.files)
    return (
        ("choose who gets it", not written.to),
        (f"this is no mail address: {', '.join(unusable)[:200]}", bool(unusable)),
        (
            (
                f"{', '.join(ours)[:200]} is the desk's own address: what is sent there becomes a"
                " ticket"
            ),
            bool(ours),
        ),
        (
            f"it goes to more than {MAX_RECIPIENTS} addresses: leave some out",
            len(everybody) > MAX_RECIPIENTS,
        ),
        (
            (
                f"{', '.join(beyond)[:200]} needs a mail of its own: not every server knows such"
                " addresses"
            ),
            bool(beyond) and len(everybody) > 1,
        ),
        ("the subject is empty", not written.subject),
        ("the text is empty: write what the customer should know", not written.text.strip()),
        (
            f"the text is longer than {MAX_TEXT_LENGTH:,} characters: attach a file instead",
            len(written.text) > MAX_TEXT_LENGTH,
        ),
        (
            f"all files together may be {drafts.MAX_BYTES // 1_000_000} MB: leave some out",
            size > drafts.MAX_BYTES,
        ),
    )


def enqueue(
    session: Session,
    desk: Desk,
    ticket: Ticket,
    written: WrittenMail,
    *,
    by: str,
    now: datetime,
    warned: Sequence[str] = (),
    across_companies: bool = False,
) -> list[OutgoingMail]:
    """Promise the mail to each who is to get it, once, to go in ten seconds.

    `warned` are the kinds of patient data that its writer was told of, `across_companies` says that
    they have confirmed that people of two companies get it. Raises ActionNotAllowed when it cannot be sent
    as it stands, or was promised before; AcrossCompanies without the latter.
    """
    lock_ticket(session, ticket)
    if written.promised_at is not None:
        raise ActionNotAllowed("it was sent already")
    for fault in list_faults(ticket, written, desk.settings):
        raise ActionNotAllowed(fault)
    if not across_companies:
        require_one_company(session, ticket, [*written.to, *written.cc])
    written.promised_at = now
    records = directory.CustomerLookup(session)
    everybody = [*written.to, *(a for a in written.cc if a not in written.to)]
    whose = {
        email: contact.id
        for email in everybody
        if (contact := records.find_contact(email)) is not None
    }
    mails = [
        OutgoingMail(
            rule_key=f"written:{written.id}:{nth}",
            ticket_id=ticket.id,
            contact_id=whose.get(email),
            to=email,
            template=choose_template(written),
            period=ticket.period,
            state=OutboxState.WAITING,
            not_before=now + SEND_DELAY,
            created_at=now,
            by=by,
            written_id=written.id,
        )
        for nth, email in enumerate(everybody)
    ]
    session.add_all(mails)
    session.flush()
    told: dict[str, Any] = {
        "written": written.id,
        "mails": len(mails),
        **({"warned": list(warned)} if warned else {}),
    }
    audit.record(
        session, "answer promised", by=by, cause="answer", now=now, ticket=ticket.id, **told
    )
    notify_workers(session, SEND)
    return mails


def choose_template(written: WrittenMail) -> Template:
    """Return which of our mails it is: the recap where it ticks the recap's box."""
    return Template.RECAP if Milestone.RECAP_SENT.name in written.ticks else Template.ANSWER


def undo_send(session: Session, written: WrittenMail, *, by: str, now: datetime) -> WrittenMail:
    """Withhold a promised mail that nobody has begun to send, from everybody.

    Its words as a draft again.

    Raises ActionNotAllowed when it is too late, or somebody else's. The rows of the outbox are held, and the
    ticket not at all: it stays as it is, so nobody who holds it and waits for these rows, as a
    sender may, is waited for here.
    """
    rows = (
        select(OutgoingMail).where(OutgoingMail.written_id == written.id).order_by(OutgoingMail.id)
    )
    mails = list(session.scalars(rows.with_for_update().execution_options(populate_existing=True)))
    if not mails or any(m.by != by for m in mails):
        raise ActionNotAllowed("only who sent it can take it back")
    if all(m.state is OutboxState.WITHHELD for m in mails):
        raise ActionNotAllowed("it is taken back already")
    if any(
        m.state is not OutboxState.WAITING or m.attempts for m in mails
    ):  # claimed: it may be with the relay
        raise ActionNotAllowed(TOO_LATE_MESSAGE)
    for mail in mails:
        mail.state, mail.reason = OutboxState.WITHHELD, f"taken back by {by}"
    told = {"written": written.id, "mails": len(mails)}
    audit.record(
        session,
        "answer taken back",
        by=by,
        cause="answer",
        now=now,
        ticket=written.ticket_id,
        **told,
    )
    return drafts.copy_to_draft(session, written, now=now)


def list_undoable(ticket: Ticket, by: str) -> list[OutgoingMail]:
    """The first row of each mail that this person has sent and can still take back.

    `ticket.outbox` is looked at.
    """
    first: dict[int, OutgoingMail] = {}
    for mail in ticket.outbox:
        if (
            mail.written_id
            and mail.by == by
            and mail.state is OutboxState.WAITING
            and not mail.attempts
        ):
            first.setdefault(mail.written_id, mail)
    return list(first.values())


def _send(run: Run, command: SendMail) -> Done:
    written = run.session.get(WrittenMail, command.written_id)
    if written is None or written.ticket_id != run.ticket.id:
        raise ActionNotAllowed("there is no such mail on this ticket")
    mails = enqueue(
        run.session,
        run.desk,
        run.ticket,
        written,
        by=run.actor.name,
        now=run.now,
        warned=command.warned,
        across_companies=command.across_companies,
    )
    return Done(f"The mail goes to {', '.join(mail.to for mail in mails)}")


HANDLERS: Handlers = dict([handler(SendMail, _send)])


# -- what it must not say ----


def collect_known_patient_data(session: Session, ticket: Ticket) -> KnownPatientData:
    """What the ticket says of its patients.

    Fields of its forms and exports, and the subjects customers wrote.
    """
    theirs = select(Message.details, Message.subject).where(
        Message.ticket_id == ticket.id, Message.direction == "in"
    )
    rows = session.execute(theirs.order_by(Message.id.desc()).limit(100)).all()
    # as stored
    details = [(str(d[0]), str(d[1])) for row in rows for d in row.details if len(d) == 2]  # noqa: PLR2004
    besides = [name for link in ticket.contacts for name in (link.contact.name,) if name]
    if ticket.company:
        besides.append(ticket.company.name)
    return phi_check.collect_known(
        details, [ticket.subject, *(row.subject for row in rows)], besides
    )


@dataclass(frozen=True)
class Warned:
    """A part of a mail in which something looks like patient data."""

    where: str  # subject, text or a file's name
    pieces: Sequence[tuple[str, str]]  # (piece, what it looks like)

    @property
    def kinds(self) -> list[str]:
        """Return what it looks like, each once."""
        return list(dict.fromkeys(kind for _, kind in self.pieces if kind))


def warnings(session: Session, ticket: Ticket, written: WrittenMail) -> list[Warned]:
    """The parts of a mail in which something looks like patient data."""
    known = collect_known_patient_data(session, ticket)
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
        Warned(where, list(phi_check.split_by_finding(text, found)))
        for where, text, found in parts
        if found
    ]


# -- what the outbox asks of it ----


def open_files(vault: BlobStore, mail: OutgoingMail) -> list[OpenedFile]:
    """The files of a mail, opened. Raises OSError where one is gone."""
    files = mail.written.files if mail.written else []
    return [OpenedFile(f.name, f.mime, vault.read(f.content, f.blob)) for f in files]


def make_attachments(written: WrittenMail) -> list[StoredAttachment]:
    """The files of a mail as attachments of its message on the timeline: the same sealed bytes."""
    return [
        StoredAttachment(
            name=f.name, mime=f.mime, size=f.size, sha256=f.sha256, content=f.content, blob=f.blob
        )
        for f in written.files
    ]


def parse_addresses(typed: str) -> list[str]:
    """Return the addresses of a line as people write them.

    `Ann <ann@x.example>; bob@x.example`; what is no address is returned as it stands.
    """
    parts = re.split(r"[;\n]" if ";" in typed else r"[,\n]", typed)
    found = [
        (m[1] if (m := re.search(r"<([^<>]*)>\s*$", part)) else part).strip().casefold()
        for part in parts
    ]
    return list(dict.fromkeys(a for a in found if a))
