"""Mails that a person writes to a customer: checked, queued once, undoable for ten seconds."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from parsers.item import Address
from parsers.mail import evidence
from workflow.audit import record as audit
from workflow.customers import directory, mixed_companies
from workflow.database.engine import notify_workers
from workflow.database.locks import lock_ticket
from workflow.errors import (
    ActionNotAllowed,
    NoSuchMail,
    PatientDataWarning,
    SeemsPatientData,
)
from workflow.filing.correspondents import DeskPeople
from workflow.mail import drafts, phi_check
from workflow.mail.compose import OpenedFile
from workflow.mail.phi_check import KnownPatientData, PatientDataKind
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
from workflow.tickets.actions import (
    CommandContext,
    HandlerResult,
    Handlers,
    SendMail,
    UndoSend,
    find_status_refusal,
    make_handler,
)
from workflow.tickets.desk import Desk, require_one_company
from workflow.tickets.outbox import SEND

SEND_DELAY = timedelta(seconds=10)  # a queued mail waits this long, so that it can be undone
MAX_RECIPIENTS = 20
MAX_MESSAGES = 50  # messages whose recipients are offered
MAX_TEXT_LENGTH = 100_000  # characters
TOO_LATE_MESSAGE = "too late: the mail is on its way to the customer. Write another one"


@dataclass(frozen=True)
class Recipient:
    """A contact of the ticket who can get the mail; `obstacle` says why they perhaps should not."""

    email: str
    name: str
    obstacle: str
    is_reachable: bool = True
    is_foreign: bool = False  # of another company, brought by a merge

    @property
    def is_default(self) -> bool:
        """True when the form selects this recipient at first."""
        return not self.obstacle


def list_recipients(session: Session, ticket: Ticket, settings: Settings) -> list[Recipient]:
    """Return the contacts of a ticket that have a usable address, not one of the desk's own."""
    recipients = []
    for link in ticket.contacts:
        contact = link.contact
        if not directory.is_valid_address(contact.email) or directory.is_our_address(
            contact.email, settings
        ):
            continue
        is_foreign = mixed_companies.is_foreign_contact(session, link)
        obstacle = _find_obstacle(contact)
        is_reachable = not obstacle
        if is_foreign:
            party = mixed_companies.find_contact_party(session, link)
            whose = "another customer, as far as is known"
            if party is not None and not party.address:
                whose = f"of another company, {party.name}"
            obstacle = f"{whose}; {obstacle}" if obstacle else whose
        recipients.append(
            Recipient(contact.email, contact.name, obstacle, is_reachable, is_foreign)
        )
    return recipients


def list_copied(session: Session, ticket: Ticket, settings: Settings) -> list[Address]:
    """Return the people in To and Cc of a ticket's messages who are no contacts of it, each once.

    Those of the newest message come first. The desk's own people, and addresses that nobody reads,
    are left out.
    """
    people = DeskPeople.load(session, settings)
    contacts = {link.contact.email for link in ticket.contacts}
    rows = select(Message.to, Message.cc).where(
        Message.ticket_id == ticket.id, Message.direction != "note"
    )
    newest_first = session.execute(rows.order_by(Message.id.desc()).limit(MAX_MESSAGES)).all()
    copied = (Address(name, email) for to, cc in newest_first for name, email in (*to, *cc))
    usable = (
        person
        for person in copied
        if person.key not in contacts
        and people.is_customer(person)
        and not evidence.is_unread_address(person.key)
    )
    return directory.deduplicate_addresses(usable)[:MAX_RECIPIENTS]


def _find_obstacle(contact: Contact) -> str:
    if contact.unreachable:
        return "mail to this address came back before"
    if evidence.is_unread_address(contact.email):
        return "an address nobody reads"
    return ""


def list_companies(session: Session, ticket: Ticket, written_mail: WrittenMail) -> list[str]:
    """Return the companies of a mail's recipients; more than one needs a person's confirmation."""
    return mixed_companies.list_recipient_companies(
        session, ticket, [*written_mail.to, *written_mail.cc]
    )


def list_faults(ticket: Ticket, written_mail: WrittenMail, settings: Settings) -> list[str]:
    """Return everything that prevents sending the mail, as texts that say what to do."""
    if refusal := find_status_refusal(ticket, SendMail):
        return [refusal]
    return [*_find_address_faults(written_mail, settings), *_find_content_faults(written_mail)]


def _find_address_faults(written_mail: WrittenMail, settings: Settings) -> Iterator[str]:
    addresses = [*written_mail.to, *written_mail.cc]
    if not written_mail.to:
        yield "choose who gets it"
    if len(addresses) > MAX_RECIPIENTS:
        yield f"it goes to more than {MAX_RECIPIENTS} addresses: leave some out"
    if unusable := [a for a in addresses if not directory.is_valid_address(a)]:
        yield f"this is no mail address: {_join(unusable)}"
    if ours := [a for a in addresses if directory.is_our_address(a, settings)]:
        yield f"{_join(ours)} is the desk's own address: what is sent there becomes a ticket"
    if len(addresses) > 1:
        yield from _find_smtputf8_faults(addresses)


def _find_smtputf8_faults(addresses: list[str]) -> Iterator[str]:
    """Yield a fault when one of several addresses needs the extension SMTPUTF8.

    A server without that extension refuses the whole mail.
    """
    if not_ascii := [a for a in addresses if not a.isascii()]:
        yield f"{_join(not_ascii)} needs a mail of its own: not every server knows such addresses"


def _join(addresses: list[str]) -> str:
    return ", ".join(addresses)[:200]


def _find_content_faults(written_mail: WrittenMail) -> Iterator[str]:
    if not written_mail.subject:
        yield "the subject is empty"
    if not written_mail.text.strip():
        yield "the text is empty: write what the customer should know"
    if len(written_mail.text) > MAX_TEXT_LENGTH:
        yield f"the text is longer than {MAX_TEXT_LENGTH:,} characters: attach a file instead"
    if sum(f.size for f in written_mail.files) > drafts.MAX_BYTES:
        yield f"all files together may be {drafts.MAX_BYTES // 1_000_000} MB: leave some out"


def enqueue(
    session: Session,
    desk: Desk,
    ticket: Ticket,
    written_mail: WrittenMail,
    *,
    by: str,
    now: datetime,
    warned_kinds: Sequence[str] = (),
    across_companies: bool = False,
) -> list[OutgoingMail]:
    """Queue the mail once for each recipient, to be sent after SEND_DELAY; return the rows.

    `warned_kinds` are the kinds of patient data that its writer was warned about;
    `across_companies` says that the writer has confirmed that people of two companies get it.
    Raises ActionNotAllowed when the mail has faults or was queued before, AcrossCompanies when the
    confirmation is missing.
    """
    lock_ticket(session, ticket)
    if written_mail.queued_at is not None:
        raise ActionNotAllowed("it was sent already")
    for fault in list_faults(ticket, written_mail, desk.settings):
        raise ActionNotAllowed(fault)
    if not across_companies:
        require_one_company(session, ticket, [*written_mail.to, *written_mail.cc])
    written_mail.queued_at = now
    lookup = directory.CustomerLookup(session)
    addresses = [*written_mail.to, *(a for a in written_mail.cc if a not in written_mail.to)]
    contact_ids = {
        email: contact.id
        for email in addresses
        if (contact := lookup.find_contact(email)) is not None
    }
    mails = [
        OutgoingMail(
            rule_key=f"written:{written_mail.id}:{number}",
            ticket_id=ticket.id,
            contact_id=contact_ids.get(email),
            to=email,
            template=choose_template(written_mail),
            period=ticket.period,
            state=OutboxState.WAITING,
            not_before=now + SEND_DELAY,
            created_at=now,
            by=by,
            written_id=written_mail.id,
        )
        for number, email in enumerate(addresses)
    ]
    session.add_all(mails)
    session.flush()
    details: dict[str, Any] = {"written": written_mail.id, "mails": len(mails)}
    if warned_kinds:
        details["warned"] = list(warned_kinds)
    audit.record(
        session, "answer promised", by=by, cause="answer", now=now, ticket=ticket.id, **details
    )
    notify_workers(session, SEND)
    return mails


def choose_template(written_mail: WrittenMail) -> Template:
    """Return the kind of the mail: the recap when it ticks the recap's box, else an answer."""
    return Template.RECAP if Milestone.RECAP_SENT.name in written_mail.ticks else Template.ANSWER


def undo_send(
    session: Session, written_mail: WrittenMail, *, by: str, now: datetime
) -> WrittenMail:
    """Withhold a queued mail from all recipients, and return its text and files as a new draft.

    Raises ActionNotAllowed when the sending has begun, or the mail is somebody else's. A caller
    that locks the ticket as well does so before, as `mail.sender` does, which holds the ticket
    while it waits for the rows of the outbox: else the two could wait for each other.
    """
    rows = (
        select(OutgoingMail)
        .where(OutgoingMail.written_id == written_mail.id)
        .order_by(OutgoingMail.id)
    )
    mails = list(session.scalars(rows.with_for_update().execution_options(populate_existing=True)))
    if not mails or any(m.by != by for m in mails):
        raise ActionNotAllowed("only who sent it can undo that")
    if all(m.state is OutboxState.WITHHELD for m in mails):
        raise ActionNotAllowed("it is undone already")
    # A mail with an attempt is claimed: the relay may have it already.
    if any(m.state is not OutboxState.WAITING or m.attempts for m in mails):
        raise ActionNotAllowed(TOO_LATE_MESSAGE)
    for mail in mails:
        mail.state, mail.reason = OutboxState.WITHHELD, f"undone by {by}"
    details = {"written": written_mail.id, "mails": len(mails)}
    audit.record(
        session,
        "answer taken back",
        by=by,
        cause="answer",
        now=now,
        ticket=written_mail.ticket_id,
        **details,
    )
    return drafts.copy_to_draft(session, written_mail, now=now)


def list_undoable(ticket: Ticket, by: str) -> list[OutgoingMail]:
    """Return the first row of each mail in `ticket.outbox` that this person can still undo."""
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


def _send(run: CommandContext, command: SendMail) -> HandlerResult:
    written_mail = _get_written_mail(run, command.written_id)
    lock_ticket(run.session, written_mail)  # what is checked here is what is sent
    warnings = find_warnings(run.session, run.ticket, written_mail)
    mails = enqueue(
        run.session,
        run.desk,
        run.ticket,
        written_mail,
        by=run.actor.name,
        now=run.now,
        warned_kinds=require_checked(
            warnings, is_checked=command.confirmed_content == compute_content_digest(written_mail)
        ),
        across_companies=command.confirmed_recipients == compute_recipients_digest(written_mail),
    )
    return HandlerResult(f"The mail goes to {', '.join(mail.to for mail in mails)}")


def _undo_send(run: CommandContext, command: UndoSend) -> HandlerResult:
    written_mail = _get_written_mail(run, command.written_id)
    undo_send(run.session, written_mail, by=run.actor.name, now=run.now)
    return HandlerResult("Sending is undone: nobody got the mail. It is a draft again")


def _get_written_mail(run: CommandContext, number: int) -> WrittenMail:
    """Return a mail that a person wrote on this ticket. Raises NoSuchMail."""
    written = run.session.get(WrittenMail, number)
    if written is None or written.ticket_id != run.ticket.id:
        raise NoSuchMail
    return written


HANDLERS: Handlers = dict([make_handler(SendMail, _send), make_handler(UndoSend, _undo_send)])


# -- patient data ----


def collect_known_patient_data(session: Session, ticket: Ticket) -> KnownPatientData:
    """Return the patient data that the ticket holds, to be looked for in a mail.

    It comes from the fields of forms and exports, and from the subjects that customers wrote.
    """
    received = select(Message.details, Message.subject).where(
        Message.ticket_id == ticket.id, Message.direction == "in"
    )
    rows = session.execute(received.order_by(Message.id.desc()).limit(100)).all()
    pairs = [pair for row in rows for pair in row.details if len(pair) == 2]  # noqa: PLR2004
    details = [(str(label), str(value)) for label, value in pairs]
    other_names = [link.contact.name for link in ticket.contacts if link.contact.name]
    if ticket.company:
        other_names.append(ticket.company.name)
    return phi_check.collect_known_data(
        details, [ticket.subject, *(row.subject for row in rows)], other_names
    )


def find_warnings(
    session: Session, ticket: Ticket, written_mail: WrittenMail
) -> list[PatientDataWarning]:
    """Return the parts of a mail that may contain patient data."""
    patient_data = collect_known_patient_data(session, ticket)
    parts = [
        (
            "the subject",
            written_mail.subject,
            phi_check.find_patient_data_in_subject(written_mail.subject, patient_data),
        ),
        (
            "the text",
            written_mail.text,
            phi_check.find_patient_data(written_mail.text, patient_data),
        ),
    ]
    for file in written_mail.files:
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


def require_checked(warnings: Sequence[PatientDataWarning], *, is_checked: bool) -> list[str]:
    """Return the names of the kinds of data in the warnings, for the audit log.

    Raises SeemsPatientData where there are warnings and nobody has looked at them (`is_checked`).
    """
    if warnings and not is_checked:
        raise SeemsPatientData(warnings)
    return sorted({PatientDataKind(kind).name for warning in warnings for kind in warning.kinds})


# -- what a writer confirms ----


@dataclass(frozen=True)
class Questions:
    """The questions about a mail that its writer has not answered: empty lists for none."""

    warnings: Sequence[PatientDataWarning]
    companies: Sequence[str]  # of the recipients, where there is more than one


def list_questions(
    session: Session, ticket: Ticket, written_mail: WrittenMail, command: SendMail
) -> Questions:
    """Return everything that the writer has to confirm before the command sends the mail."""
    warnings = find_warnings(session, ticket, written_mail)
    if command.confirmed_content == compute_content_digest(written_mail):
        warnings = []
    companies = list_companies(session, ticket, written_mail)
    is_confirmed = command.confirmed_recipients == compute_recipients_digest(written_mail)
    if is_confirmed or len(companies) < 2:  # noqa: PLR2004
        companies = []
    return Questions(warnings, companies)


def compute_recipients_digest(written_mail: WrittenMail) -> str:
    """Return a digest of the recipients: who confirms two companies confirms these addresses."""
    everybody = sorted({*written_mail.to, *written_mail.cc})
    return hashlib.sha256("\0".join(everybody).encode()).hexdigest()[:32]


def compute_content_digest(written_mail: WrittenMail) -> str:
    """Return a digest of text and files: who confirms a warning confirms exactly these."""
    files = (file.name + file.sha256 for file in written_mail.files)
    content = "\0".join([written_mail.subject, written_mail.text, *files])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


# -- files ----


def open_files(blob_store: BlobStore, mail: OutgoingMail) -> list[OpenedFile]:
    """Return the files of a mail with their content.

    Raises OSError when a blob is gone.
    """
    files = mail.written.files if mail.written else []
    return [OpenedFile(f.name, f.mime, blob_store.read(f.content, f.blob)) for f in files]


def make_attachments(written_mail: WrittenMail) -> list[StoredAttachment]:
    """Return the files of a mail as attachments of its message on the timeline.

    They share the encrypted bytes.
    """
    return [
        StoredAttachment(
            name=f.name, mime=f.mime, size=f.size, sha256=f.sha256, content=f.content, blob=f.blob
        )
        for f in written_mail.files
    ]


def parse_addresses(text: str) -> list[str]:
    """Return the addresses of a line as people write it, case-folded, each once.

    An example is `Ann <ann@x.example>; bob@x.example`. Text that is not an address is returned as
    it is, for the message that refuses it.
    """
    separator = r"[;\n]" if ";" in text else r"[,\n]"
    addresses = []
    for part in re.split(separator, text):
        in_brackets = re.search(r"<([^<>]*)>\s*$", part)
        address = in_brackets[1] if in_brackets else part
        addresses.append(address.strip().casefold())
    return list(dict.fromkeys(a for a in addresses if a))
