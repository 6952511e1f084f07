"""A ticket that was in another system before: what it becomes here, and why it mails nobody.

Like desk.py it takes the caller's session and never commits. Whatever the other system's customers
were told, they were told there: no notice, no survey and no reminder follows from an import, and
deadlines count from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from parsers.item import Address, Format
from workflow import process
from workflow.audit import record as audit
from workflow.customers import directory, phone_numbers
from workflow.customers.records import NO_COMPANY, NO_MANAGER
from workflow.database.text_safety import make_storable
from workflow.filing.file_item import MAX_SUBJECT
from workflow.models.core import Company, Contact, Message, Staff, Ticket, TicketMilestone
from workflow.models.states import RowOutcome, Status
from workflow.process import PIPELINE, TICKET_NAME, UNKNOWN_COMPANY, Milestone, Stage
from workflow.tickets.desk import NO, YES, Desk
from workflow.tickets.dues import reckon

TRANSPORT = "import"
# purpose of the signed record id under which our own tickets leave, and are known again
EXPORT_PURPOSE = "export"
ACTOR = "import"  # who has recorded the milestones that a stage implies
NOT_NOTIFIED = "not possible: an import mails nobody"
NOTIFY_TASK = "tell the customer by other means"
NO_OWNER = "its owner elsewhere is not on the desk: {}"
NO_ADDRESS = "no e-mail address came with it"
STAGE_ADVANCED = "everything it waited for was recorded: it has gone on from {}"
NO_COMPLETION_DATE = "when it was completed did not come with it"
_ID = 700  # characters of a record id: with "crm/" it fits tickets.origin


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTicket:
    """A ticket as another system has it. Times are aware; text fields are as long as they came."""

    record_id: str
    stage: Stage
    status: Status  # open or completed as the stage is, or a side end
    subject: str = field(default="", repr=False)  # PHI
    text: str = field(default="", repr=False)  # PHI
    details: tuple[tuple[str, str], ...] = field(
        default=(), repr=False
    )  # PHI; every cell as received
    pipeline: str = PIPELINE
    type: str = process.TICKET_TYPE
    owner: str = ""  # a name or address
    company: str = ""
    company_number: str = ""
    contacts: tuple[Address, ...] = ()
    phone: str = ""
    link: str = ""
    created_at: datetime | None = None
    completed_at: datetime | None = None
    milestones: tuple[
        tuple[Milestone, datetime | None], ...
    ] = ()  # recorded beyond what the stage implies, and when
    unresolved: bool = False  # Resolution says No
    caveats: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return what no second row of a file may share."""
        return self.record_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What has become of one row, or would; names are what was not on record."""

    outcome: RowOutcome
    reason: str = ""
    ticket_id: int | None = None
    unknown_people: tuple[str, ...] = ()
    new_company: str = ""
    new_contacts: tuple[str, ...] = ()
    is_not_notified: bool = False  # nobody has told the customer: somebody gets the task to
    is_advanced: bool = False  # everything that the stage which came with it waits for is recorded


@dataclass(frozen=True, slots=True)
class ImportedState:
    """Where a ticket stands after an import.

    What is recorded, and the stage the table puts that into.
    """

    stage: Stage
    milestones: tuple[Milestone, ...]
    is_not_notified: bool  # in 1-Submitted nobody has told the customer, and an import does not
    is_advanced: bool  # beyond the stage that came with it, because of what is recorded


def compute_state(past: SourceTicket) -> ImportedState:
    """The stage and milestones of a past ticket.

    What its stage implies is recorded. A ticket never sticks: what waits in 1-Submitted for a
    notice goes on without one, and what has everything its stage waits for is in the next.
    """
    ticked = {milestone for milestone, _ in past.milestones}
    untold = past.stage is Stage.SUBMITTED and Milestone.CUSTOMER_NOTIFIED not in ticked
    done = {
        *process.list_implied(past.stage),
        *ticked,
        *((Milestone.CUSTOMER_NOTIFIED,) if untold else ()),
    }
    stage = past.stage
    for step in process.list_next_steps(stage, done):
        stage = step.stage
    done_in_order = tuple(m for m in Milestone if m in done)
    further = stage is not past.stage and not (untold and stage is process.REOPENING_STAGE)
    return ImportedState(stage, done_in_order, untold and past.status is Status.OPEN, further)


class StaffRoster:
    """Who is on the desk, by name and address, however it is written."""

    def __init__(self, session: Session) -> None:
        self._people: dict[str, Staff] = {}
        for person in session.scalars(select(Staff).order_by(Staff.id)):
            for word in (person.email, person.name):
                self._people.setdefault(_folded(word), person)
        self._people.pop("", None)

    def find(self, word: str) -> Staff | None:
        """The person with this name or address; None for nobody on the desk."""
        return self._people.get(_folded(word))


def _folded(word: str) -> str:
    return " ".join(word.casefold().split())


def build_origin(record_id: str) -> str:
    """Return what an imported ticket is opened by at most once."""
    return f"crm/{record_id[:_ID]}"


def preview_ticket(
    desk: Desk, session: Session, past: SourceTicket, roster: StaffRoster
) -> ImportResult:
    """Return what `import_ticket` would do; changes nothing."""
    past = make_storable(past)
    known = _known(desk, session, past)
    if known is not None:
        return ImportResult(outcome=RowOutcome.KNOWN, ticket_id=known)
    company = directory.find_company(
        directory.CustomerLookup(session), past.company, past.company_number
    )
    emails = [a.key for a in past.contacts if directory.is_valid_address(a.key)]
    stands = compute_state(past)
    there = (
        set(session.scalars(select(Contact.email).where(Contact.email.in_(emails))))
        if emails
        else set()
    )
    return ImportResult(
        outcome=RowOutcome.ADDED,
        unknown_people=(past.owner,) if past.owner and roster.find(past.owner) is None else (),
        new_company=past.company
        if company is None and directory.build_company_key(past.company)
        else "",
        new_contacts=tuple(e for e in emails if e not in there),
        is_not_notified=stands.is_not_notified,
        is_advanced=stands.is_advanced,
    )


def import_ticket(
    desk: Desk,
    session: Session,
    past: SourceTicket,
    roster: StaffRoster,
    *,
    cause: str,
    by: str,
    now: datetime,
) -> ImportResult:
    """Move a ticket in, once; the unique index on tickets.origin decides who was first."""
    past = make_storable(past)
    found = preview_ticket(desk, session, past, roster)
    if found.outcome is RowOutcome.KNOWN:
        return found
    try:
        with session.begin_nested():
            number = _open(desk, session, past, roster, cause=cause, by=by, now=now)
    except IntegrityError:
        known = _known(desk, session, past)
        if known is None:
            raise
        return ImportResult(outcome=RowOutcome.KNOWN, ticket_id=known)
    return replace(found, ticket_id=number)


def _known(desk: Desk, session: Session, past: SourceTicket) -> int | None:
    """The ticket this one is already.

    One imported before, or our own come back under the id it was exported with.
    """
    ours = desk.signer.verify_token(EXPORT_PURPOSE, past.record_id)
    same = Ticket.id == ours if ours is not None else Ticket.origin == build_origin(past.record_id)
    return session.scalar(select(Ticket.id).where(same))


def _open(
    desk: Desk,
    session: Session,
    past: SourceTicket,
    roster: StaffRoster,
    *,
    cause: str,
    by: str,
    now: datetime,
) -> int:
    company = directory.find_company(
        directory.CustomerLookup(session), past.company, past.company_number
    )
    if company is None and directory.build_company_key(past.company):
        company = directory.create_company(
            directory.CustomerLookup(session), past.company, past.company_number, now
        )
    owner = roster.find(past.owner) if past.owner else None
    stands = compute_state(past)
    ticket = _ticket(past, stands, company, owner, now)
    reckon(ticket, desk.settings)
    session.add(ticket)
    session.flush()
    for person in directory.deduplicate_addresses(past.contacts):
        contact = directory.find_or_create_contact(
            directory.CustomerLookup(session), person, past.phone, company, vouched=True, now=now
        )
        if contact is not None:
            desk.add_contact(session, ticket, contact)
    _tell(session, ticket, past)
    audit.record(
        session, "imported", by=by, cause=cause, now=now, ticket=ticket.id, stage=ticket.stage.name
    )
    if stands.is_not_notified:
        desk.raise_task(session, ticket, "tell-customer", NOTIFY_TASK, now=now, cause=NOT_NOTIFIED)
    return ticket.id


def _ticket(
    past: SourceTicket,
    stands: ImportedState,
    company: Company | None,
    owner: Staff | None,
    now: datetime,
) -> Ticket:
    done = stands.stage is Stage.COMPLETED
    status = past.status if past.status not in {Status.OPEN, Status.COMPLETED} else None
    created = min(past.created_at or now, now)
    ticket = Ticket(
        name=TICKET_NAME.format(
            company=company.name if company else UNKNOWN_COMPANY
        ),  # theirs may name a patient
        subject=past.subject[:MAX_SUBJECT],
        pipeline=past.pipeline,
        type=past.type[:64],
        stage=stands.stage,
        status=status or (Status.COMPLETED if done else Status.OPEN),
        owner=owner,
        company=company,
        transport=TRANSPORT,
        format=Format.CRM,
        origin=build_origin(past.record_id),
        link=past.link,
        resolution=YES
        if Milestone.RESOLVED in stands.milestones
        else NO
        if past.unresolved
        else None,
        caveats=_caveats(past, stands, company, owner),
        created_at=created,
        period_started_at=now,
        completed_at=(past.completed_at or created) if done else None,
    )
    when = dict(past.milestones)
    for milestone in stands.milestones:
        at = when.get(milestone) or past.completed_at or past.created_at or now
        note = (
            NOT_NOTIFIED
            if stands.is_not_notified and milestone is Milestone.CUSTOMER_NOTIFIED
            else ""
        )
        ticket.milestones.append(
            TicketMilestone(period=1, milestone=milestone, at=at, by=ACTOR, note=note)
        )
    return ticket


def _tell(session: Session, ticket: Ticket, past: SourceTicket) -> None:
    sender = past.contacts[0] if past.contacts else Address()
    message = Message(
        ticket_id=ticket.id,
        direction="in",
        format=Format.CRM,
        external_id=ticket.origin,
        at=ticket.created_at,
        from_name=sender.name,
        from_email=sender.email,
        phone=past.phone,
        subject=past.subject,
        text=past.text,
        details=[list(d) for d in past.details],
        sent_at=past.created_at,
        search_words=phone_numbers.build_search_words(
            past.phone, past.text, past.details, Format.CRM
        ),
    )
    session.add(message)
    session.flush()


def _caveats(
    past: SourceTicket, stands: ImportedState, company: Company | None, owner: Staff | None
) -> list[str]:
    said = dict.fromkeys(past.caveats)
    wrong: Iterable[tuple[bool, str]] = (
        (company is None, NO_COMPANY),
        (company is not None and company.manager_id is None, NO_MANAGER),
        (bool(past.owner) and owner is None, NO_OWNER.format(past.owner)),
        (not any(directory.is_valid_address(a.key) for a in past.contacts), NO_ADDRESS),
        (stands.is_advanced, STAGE_ADVANCED.format(past.stage)),
        (stands.is_not_notified, NOT_NOTIFIED),
        (stands.stage is Stage.COMPLETED and past.completed_at is None, NO_COMPLETION_DATE),
    )
    return [*said, *(text for holds, text in wrong if holds)]
