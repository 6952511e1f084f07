"""Import of tickets from another system.

Like `tickets.desk`, it takes the caller's session and never commits. Customers were notified by the
source system, so no notice, survey or reminder follows from an import, and deadlines count from it.
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
from workflow.customers import company_names, company_numbers, directory, phone_numbers
from workflow.customers.records import NO_COMPANY, NO_MANAGER
from workflow.database.text_safety import make_storable
from workflow.filing.file_item import MAX_SUBJECT
from workflow.models.core import Company, Contact, Message, Staff, Ticket, TicketMilestone
from workflow.models.states import RowOutcome, Status
from workflow.process import PIPELINE, TICKET_NAME, UNKNOWN_COMPANY, Milestone, Stage
from workflow.tickets.deadlines import set_due_at
from workflow.tickets.desk import NO, YES, Desk
from workflow.tickets.transitions import NOTIFY_TASK, NOTIFY_TASK_KIND

TRANSPORT = "import"
# Purpose of the signed record id of exported tickets, by which our own are recognised on import.
EXPORT_PURPOSE = "export"
ACTOR = "import"  # of the milestones that a stage implies
NOT_NOTIFIED = "not possible: an import mails nobody"
NO_OWNER = "its owner elsewhere is not on the desk: {}"
NO_ADDRESS = "no e-mail address came with it"
STAGE_ADVANCED = "everything it waited for was recorded: it has gone on from {}"
NO_COMPLETION_DATE = "when it was completed did not come with it"
_MAX_RECORD_ID = 700  # characters: with "crm/" it fits tickets.origin


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTicket:
    """A ticket in the source system. Times are aware; texts have the length they were received in.

    `details` are all cells as received. `milestones` are those recorded beyond what the stage
    implies, and when.
    """

    record_id: str
    stage: Stage
    status: Status  # open or completed as the stage is, or a side end
    subject: str = field(default="", repr=False)  # PHI
    text: str = field(default="", repr=False)  # PHI
    details: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # PHI
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
    milestones: tuple[tuple[Milestone, datetime | None], ...] = ()
    is_unresolved: bool = False  # its Resolution is No
    caveats: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return the deduplication key of the row within its file."""
        return self.record_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """Result of one row, or of its preview.

    `unknown_people` are names of staff that nobody on the desk has; `new_company` ("" for none) and
    `new_contacts` (addresses) are created. With `is_not_notified`, a task is raised to notify the
    customer. With `is_advanced`, all milestones of the source stage are recorded, and the ticket is
    in a later one.
    """

    outcome: RowOutcome
    reason: str = ""
    ticket_id: int | None = None
    unknown_people: tuple[str, ...] = ()
    new_company: str = ""
    new_contacts: tuple[str, ...] = ()
    is_not_notified: bool = False
    is_advanced: bool = False


@dataclass(frozen=True, slots=True)
class ImportedState:
    """Stage and milestones of a ticket after its import.

    `is_not_notified`: it came in 1-Submitted, where the customer has no notice yet and gets none.
    `is_advanced`: its milestones put it beyond the stage in the source.
    """

    stage: Stage
    milestones: tuple[Milestone, ...]
    is_not_notified: bool
    is_advanced: bool


def compute_state(source: SourceTicket) -> ImportedState:
    """Return the stage and milestones of a ticket after its import.

    The milestones that its stage implies are recorded too. No ticket may be stuck: one that waits
    in 1-Submitted for a notice goes on without, and one with all milestones of its stage goes on to
    the next.
    """
    milestones = {milestone for milestone, _ in source.milestones}
    lacks_notice = source.stage is Stage.SUBMITTED and Milestone.CUSTOMER_NOTIFIED not in milestones
    milestones |= set(process.list_implied(source.stage))
    if lacks_notice:
        milestones.add(Milestone.CUSTOMER_NOTIFIED)
    stage = source.stage
    for step in process.list_next_steps(stage, milestones):
        stage = step.stage
    # Going on without a notice is not worth a remark of its own.
    is_expected = lacks_notice and stage is process.REOPENING_STAGE
    return ImportedState(
        stage=stage,
        milestones=tuple(m for m in Milestone if m in milestones),
        is_not_notified=lacks_notice and source.status is Status.OPEN,
        is_advanced=stage is not source.stage and not is_expected,
    )


class StaffRoster:
    """The people on the desk, by name and address, whatever the case and spacing."""

    def __init__(self, session: Session) -> None:
        self._people: dict[str, Staff] = {}
        for person in session.scalars(select(Staff).order_by(Staff.id)):
            for word in (person.email, person.name):
                self._people.setdefault(_fold(word), person)
        self._people.pop("", None)

    def find(self, word: str) -> Staff | None:
        """Find the person with this name or address; None for "" and for nobody on the desk."""
        return self._people.get(_fold(word))


def _fold(word: str) -> str:
    return " ".join(word.casefold().split())


def build_origin(record_id: str) -> str:
    """Return the unique key (tickets.origin) that lets a record be imported only once."""
    return f"crm/{record_id[:_MAX_RECORD_ID]}"


def preview_ticket(
    desk: Desk, session: Session, source: SourceTicket, roster: StaffRoster
) -> ImportResult:
    """Return what `import_ticket` would do, without changing anything."""
    source = make_storable(source)
    existing = _find_ticket(desk, session, source)
    if existing is not None:
        return ImportResult(outcome=RowOutcome.KNOWN, ticket_id=existing)
    is_unknown_owner = bool(source.owner) and roster.find(source.owner) is None
    state = compute_state(source)
    return ImportResult(
        outcome=RowOutcome.ADDED,
        unknown_people=(source.owner,) if is_unknown_owner else (),
        new_company=_find_new_company(session, source),
        new_contacts=tuple(_list_new_contacts(session, source)),
        is_not_notified=state.is_not_notified,
        is_advanced=state.is_advanced,
    )


def _find_new_company(session: Session, source: SourceTicket) -> str:
    """Return the name of the ticket's company when it is not on record, else ""."""
    if not directory.build_company_key(source.company):
        return ""
    lookup = directory.CustomerLookup(session)
    number = source.company_number
    company = directory.find_company(lookup, source.company, number)
    if company is not None or directory.find_near_companies(lookup, source.company, number):
        return ""
    return source.company


def _list_new_contacts(session: Session, source: SourceTicket) -> list[str]:
    """Return the valid addresses of the ticket's contacts that are not on record."""
    emails = [a.key for a in source.contacts if directory.is_valid_address(a.key)]
    if not emails:
        return []
    existing = set(session.scalars(select(Contact.email).where(Contact.email.in_(emails))))
    return [email for email in emails if email not in existing]


def import_ticket(
    desk: Desk,
    session: Session,
    source: SourceTicket,
    roster: StaffRoster,
    *,
    cause: str,
    by: str,
    now: datetime,
) -> ImportResult:
    """Import a ticket, once: the unique index on tickets.origin decides between two workers."""
    source = make_storable(source)
    result = preview_ticket(desk, session, source, roster)
    if result.outcome is RowOutcome.KNOWN:
        return result
    try:
        with session.begin_nested():
            number = _open(desk, session, source, roster, cause=cause, by=by, now=now)
    except IntegrityError:
        existing = _find_ticket(desk, session, source)
        if existing is None:
            raise
        return ImportResult(outcome=RowOutcome.KNOWN, ticket_id=existing)
    return replace(result, ticket_id=number)


def _find_ticket(desk: Desk, session: Session, source: SourceTicket) -> int | None:
    """Find the ticket of a record: imported before, or one of ours that was exported."""
    exported = desk.signer.verify_token(EXPORT_PURPOSE, source.record_id)
    if exported is not None:
        return session.scalar(select(Ticket.id).where(Ticket.id == exported))
    origin = build_origin(source.record_id)
    return session.scalar(select(Ticket.id).where(Ticket.origin == origin))


def _open(
    desk: Desk,
    session: Session,
    source: SourceTicket,
    roster: StaffRoster,
    *,
    cause: str,
    by: str,
    now: datetime,
) -> int:
    match = directory.find_or_create_named(
        directory.CustomerLookup(session), source.company, source.company_number, now
    )
    company = match.company
    owner = roster.find(source.owner) if source.owner else None
    state = compute_state(source)
    ticket = _build_ticket(source, state, company, owner, now)
    if match.near:
        ticket.named_company = company_names.clean(source.company)
        ticket.named_number = company_numbers.normalize(source.company_number)
        ticket.near_companies = [one.id for one in match.near]
        near_caveat = directory.make_near_caveat(ticket.named_company, match.near)
        ticket.caveats = [*(c for c in ticket.caveats if c != NO_COMPANY), near_caveat]
    set_due_at(ticket, desk.settings)
    session.add(ticket)
    session.flush()
    for person in directory.deduplicate_addresses(source.contacts):
        contact = directory.find_or_create_contact(
            directory.CustomerLookup(session),
            person,
            source.phone,
            company,
            is_confirmed=True,
            now=now,
        )
        if contact is not None:
            desk.add_contact(session, ticket, contact)
    _add_message(session, ticket, source)
    audit.record(
        session, "imported", by=by, cause=cause, now=now, ticket=ticket.id, stage=ticket.stage.name
    )
    # An import sends no mail, so a person has to notify the customer.
    if state.is_not_notified:
        desk.raise_task(session, ticket, NOTIFY_TASK_KIND, NOTIFY_TASK, now=now, cause=NOT_NOTIFIED)
    return ticket.id


def _build_ticket(
    source: SourceTicket,
    state: ImportedState,
    company: Company | None,
    owner: Staff | None,
    now: datetime,
) -> Ticket:
    is_completed = state.stage is Stage.COMPLETED
    # A date in the future would keep the ticket above all others for as long.
    created_at = min(source.created_at or now, now)
    ticket = Ticket(
        # Ours, because the name in the source may be a patient's.
        name=TICKET_NAME.format(company=company.name if company else UNKNOWN_COMPANY),
        subject=source.subject[:MAX_SUBJECT],
        pipeline=source.pipeline,
        type=source.type[:64],
        stage=state.stage,
        status=_compute_status(source, is_completed=is_completed),
        owner=owner,
        company=company,
        transport=TRANSPORT,
        format=Format.CRM,
        origin=build_origin(source.record_id),
        link=source.link,
        resolution=_compute_resolution(source, state),
        caveats=_build_caveats(source, state, company, owner),
        created_at=created_at,
        period_started_at=now,  # deadlines count from the import
        completed_at=(source.completed_at or created_at) if is_completed else None,
    )
    times = dict(source.milestones)
    for milestone in state.milestones:
        at = times.get(milestone) or source.completed_at or source.created_at or now
        lacks_notice = state.is_not_notified and milestone is Milestone.CUSTOMER_NOTIFIED
        note = NOT_NOTIFIED if lacks_notice else ""
        ticket.milestones.append(
            TicketMilestone(period=1, milestone=milestone, at=at, by=ACTOR, note=note)
        )
    return ticket


def _compute_status(source: SourceTicket, *, is_completed: bool) -> Status:
    """Return the status: that of a side end (spam, withdrawn …) stays, others follow the stage."""
    if source.status not in {Status.OPEN, Status.COMPLETED}:
        return source.status
    return Status.COMPLETED if is_completed else Status.OPEN


def _compute_resolution(source: SourceTicket, state: ImportedState) -> str | None:
    if Milestone.RESOLVED in state.milestones:
        return YES
    return NO if source.is_unresolved else None


def _add_message(session: Session, ticket: Ticket, source: SourceTicket) -> None:
    sender = source.contacts[0] if source.contacts else Address()
    message = Message(
        ticket_id=ticket.id,
        direction="in",
        format=Format.CRM,
        external_id=ticket.origin,
        at=ticket.created_at,
        from_name=sender.name,
        from_email=sender.email,
        phone=source.phone,
        subject=source.subject,
        text=source.text,
        details=[list(d) for d in source.details],
        sent_at=source.created_at,
        search_words=phone_numbers.build_search_words(
            source.phone, source.text, source.details, Format.CRM
        ),
    )
    session.add(message)
    session.flush()


def _build_caveats(
    source: SourceTicket, state: ImportedState, company: Company | None, owner: Staff | None
) -> list[str]:
    """Return the caveats of the source, and those that the import adds."""
    conditions: Iterable[tuple[bool, str]] = (
        (company is None, NO_COMPANY),
        (company is not None and company.manager_id is None, NO_MANAGER),
        (bool(source.owner) and owner is None, NO_OWNER.format(source.owner)),
        (not any(directory.is_valid_address(a.key) for a in source.contacts), NO_ADDRESS),
        (state.is_advanced, STAGE_ADVANCED.format(source.stage)),
        (state.is_not_notified, NOT_NOTIFIED),
        (state.stage is Stage.COMPLETED and source.completed_at is None, NO_COMPLETION_DATE),
    )
    return [*dict.fromkeys(source.caveats), *(text for holds, text in conditions if holds)]
