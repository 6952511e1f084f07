"""The ticket page beside its timeline: process, contacts, tasks, related tickets."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from console.presenters.audit import AuditNames, describe_task
from console.presenters.tickets.timeline import Entry, MessageEntry, build_timeline
from workflow import process
from workflow.customers import directory
from workflow.customers.callers import Caller, list_callers
from workflow.customers.records import list_near_companies
from workflow.mail import answer, drafts
from workflow.models.core import (
    Company,
    Staff,
    Task,
    Ticket,
    TicketContact,
    TicketMilestone,
    TicketRelation,
    WrittenMail,
)
from workflow.models.milestones import list_reached
from workflow.models.presence import UndoRecord
from workflow.models.states import Status, Verdict
from workflow.permissions import Right, may
from workflow.process import Milestone, Stage
from workflow.settings.settings import Settings
from workflow.tickets import presence, undo
from workflow.tickets.deadlines import compute_due_at, list_deadlines

KINDS = {True: "property", False: "box"}


@dataclass(frozen=True)
class MilestoneBox:
    """A milestone on the page: a box to tick, a property, or one recorded automatically."""

    milestone: Milestone
    kind: str  # box, property or automatic
    stage: Stage  # the stage that waits for it
    record: TicketMilestone | None  # when and by whom it was reached
    deadline: "RunningDeadline | None"


@dataclass(frozen=True)
class RunningDeadline:
    """A deadline whose milestone is not reached yet."""

    milestone: Milestone
    task: str
    at: datetime
    is_late: bool


@dataclass(frozen=True)
class RelatedTicket:
    """Another ticket that may belong to this one, is linked with it, or is marked unrelated."""

    number: int
    name: str
    stage: Stage
    status: Status
    reason: str
    verdict: Verdict
    is_own_relation: bool  # whether the relation was made when this ticket was opened


@dataclass(frozen=True)
class UndoableMail:
    """A mail whose writer can still undo sending it."""

    written_id: int
    to: str
    seconds_left: int  # until it is sent, at least 1; 0 for one that waits for a sender


@dataclass(frozen=True)
class TicketPage:
    """Data of the ticket page."""

    ticket: Ticket
    boxes: Sequence[MilestoneBox]
    missing: Sequence[str]  # what the stage waits for, in words
    after: Stage | None  # the stage it moves to then
    back: Sequence[Stage]  # the stages it can be moved back to
    related_tickets: Sequence[RelatedTicket]
    staff: Sequence[Staff]  # who can own it
    entries: Sequence[Entry]
    older: bool
    version: int  # the version of the ticket this page shows
    undo: UndoRecord | None
    viewers: Sequence[tuple[str, datetime]]
    near_companies: Sequence[Company]  # the nearest first; empty unless its company is in doubt
    callers: Sequence[Caller]  # numbers given with messages that stand on no contact's record
    telemedicine: Task | None  # the hand-over of this period, if it was made
    undoable_mails: Sequence[UndoableMail]
    draft: WrittenMail | None  # the viewer's reply that was not sent

    @property
    def web_link(self) -> str:
        """Return the link to the original, "" where it is none of the web.

        It comes from outside: a `javascript:` address would run as our own page.
        """
        link = self.ticket.link
        return link if link.startswith(("https://", "http://")) else ""

    @property
    def has_several_requests(self) -> bool:
        """Return whether a message can be split off: another one of a customer is to stay.

        What older pages show is not loaded, and taken for one.
        """
        messages = [e for e in self.entries if isinstance(e, MessageEntry)]
        return self.older or len([m for m in messages if m.direction == "in"]) > 1

    @property
    def open_tasks(self) -> list[Task]:
        """Return the open tasks, oldest first."""
        return [t for t in self.ticket.tasks if t.done_at is None]


def find_ticket(session: Session, number: int) -> Ticket | None:
    """Load the ticket with everything beside the timeline; None if there is none."""
    query = select(Ticket).where(Ticket.id == number)
    query = query.options(
        joinedload(Ticket.owner),
        joinedload(Ticket.company).joinedload(Company.manager),
        selectinload(Ticket.contacts).joinedload(TicketContact.contact),
        selectinload(Ticket.milestones),
        selectinload(Ticket.tasks),
        selectinload(Ticket.outbox),
    )
    return session.scalar(query)


def build_page(
    session: Session, ticket: Ticket, settings: Settings, *, me: Staff, now: datetime, nth: int = 0
) -> TicketPage:
    """Return everything on the page of a ticket, in about fifteen queries whatever its length.

    `nth` is the page of the timeline, 0 the newest.
    """
    staff = directory.list_all_staff(session)
    tasks = {t.id: describe_task(t.text, t.assignee) for t in ticket.tasks}
    # read first: a change after it makes the page reload, instead of being missed
    version = presence.get_version(session, ticket.id)
    entries, older = build_timeline(
        session, ticket, AuditNames({s.id: s.name for s, _ in staff}, tasks), nth
    )
    waits = (
        process.list_missing(ticket.stage, list_reached(ticket))
        if ticket.status is Status.OPEN
        else []
    )
    may_write = may(me.role, Right.WORK)
    order = [s.stage for s in process.STEPS]
    here = order.index(ticket.stage)
    return TicketPage(
        ticket=ticket,
        boxes=_build_boxes(ticket, settings, now),
        missing=[process.describe_milestone(m) for m in waits],
        after=order[here + 1] if here + 1 < len(order) else None,
        back=order[1:here][::-1],
        related_tickets=_list_related_tickets(session, ticket),
        staff=[s for s, has_left in staff if may(s.role, Right.WORK) and not has_left],
        entries=entries,
        older=older,
        version=version,
        undo=undo.find_undo(session, ticket.id, me.name, now),
        viewers=presence.list_viewers(session, ticket.id, me, now),
        callers=list_callers(session, ticket),
        near_companies=list_near_companies(session, ticket),
        telemedicine=next(
            (t for t in ticket.tasks if (t.period, t.kind) == (ticket.period, "telemedicine")), None
        ),
        undoable_mails=_list_undoable_mails(ticket, me, now),
        draft=drafts.find_latest_draft(session, ticket.id, me) if may_write else None,
    )


def _list_undoable_mails(ticket: Ticket, me: Staff, now: datetime) -> list[UndoableMail]:
    return [
        UndoableMail(
            written_id=mail.written_id or 0,
            to=mail.to,
            # "0 seconds" would look as if it were sent already.
            seconds_left=max((mail.not_before - now).seconds, 1) if mail.not_before > now else 0,
        )
        for mail in answer.list_undoable(ticket, me.name)
    ]


def _build_boxes(ticket: Ticket, settings: Settings, now: datetime) -> list[MilestoneBox]:
    records = {r.milestone: r for r in ticket.milestones if r.period == ticket.period}
    deadlines = {
        d.milestone: d
        for d in _list_running_deadlines(ticket, settings, now)
        if d.milestone not in records
    }
    return [
        MilestoneBox(
            milestone=m,
            kind=_choose_kind(m),
            stage=s.stage,
            record=records.get(m),
            deadline=deadlines.get(m),
        )
        for s in process.STEPS
        for m in s.waits_for
    ]


def _choose_kind(milestone: Milestone) -> str:
    return (
        "automatic"
        if milestone in process.RECORDED_BY_RULE
        else KINDS[milestone in process.PROPERTY_MILESTONES]
    )


def _list_running_deadlines(
    ticket: Ticket, settings: Settings, now: datetime
) -> list[RunningDeadline]:
    if ticket.status is not Status.OPEN:
        return []
    times = [
        (d, compute_due_at(d, ticket.period_started_at, settings)) for d in list_deadlines(ticket)
    ]
    return [
        RunningDeadline(milestone=d.milestone, task=d.task, at=at, is_late=at <= now)
        for d, at in times
    ]


def _list_related_tickets(session: Session, ticket: Ticket) -> list[RelatedTicket]:
    r = TicketRelation
    other = or_(
        (r.ticket_id == ticket.id) & (Ticket.id == r.other_id),
        (r.other_id == ticket.id) & (Ticket.id == r.ticket_id),
    )
    rows = (
        select(r, Ticket.id, Ticket.name, Ticket.stage, Ticket.status)
        .join(Ticket, other)
        .order_by(Ticket.id.desc())
    )
    return [
        RelatedTicket(
            number=number,
            name=name,
            stage=stage,
            status=status,
            reason=relation.reason,
            verdict=relation.verdict,
            is_own_relation=relation.ticket_id == ticket.id,
        )
        for relation, number, name, stage, status in session.execute(rows.limit(20))
    ]
