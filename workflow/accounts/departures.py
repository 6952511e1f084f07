"""Work of somebody who leaves the desk: what it is, and its hand-over to a colleague."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.customers import records
from workflow.errors import ActionNotAllowed
from workflow.models.core import Company, Staff, Task, Ticket
from workflow.models.states import Status
from workflow.tickets.actions import require_may_own
from workflow.tickets.desk import Desk, get_ticket

AUDIT_CAUSE = "hand-over"


@dataclass(frozen=True, slots=True)
class Workload:
    """Numbers of what is in somebody's hands."""

    tickets: int  # open ones that they own
    tasks: int  # open ones
    managed: int  # companies whose manager they are
    consulted: int  # companies whose Operations Consultant they are

    def __bool__(self) -> bool:
        """Return whether there is anything to hand over."""
        return any((self.tickets, self.tasks, self.managed, self.consulted))

    def __str__(self) -> str:
        counts = (
            (self.tickets, "open ticket", "open tickets"),
            (self.tasks, "open task", "open tasks"),
            (self.managed, "company as its manager", "companies as their manager"),
            (self.consulted, "company as its consultant", "companies as their consultant"),
        )
        parts = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
        return ", ".join(parts) or "nothing"


def count_work(session: Session, person: Staff) -> Workload:
    """Return what a person has in their hands."""

    def count(table: type[Ticket | Task | Company], *conditions: object) -> int:
        query = select(func.count()).select_from(table).where(*conditions)  # type: ignore[arg-type]
        return session.scalar(query) or 0

    return Workload(
        tickets=count(Ticket, Ticket.owner_id == person.id, Ticket.status == Status.OPEN),
        tasks=count(Task, Task.assignee == person.name, Task.done_at.is_(None)),
        managed=count(Company, Company.manager_id == person.id),
        consulted=count(Company, Company.consultant_id == person.id),
    )


def hand_over(
    session: Session, desk: Desk, person: Staff | None, to: Staff | None, *, by: str, now: datetime
) -> Workload:
    """Give everything a person has to a colleague; return what that was.

    Raises ActionNotAllowed where the colleague has left, may own no tickets, or is the person.
    """
    if person is None:
        raise ActionNotAllowed("There is nobody with this number on the desk.")
    if to is None or to.id == person.id:
        raise ActionNotAllowed("choose a colleague to hand over to")
    require_may_own(to)
    records.require_present(session, to)
    work = count_work(session, person)
    owned = select(Ticket.id).where(Ticket.owner_id == person.id, Ticket.status == Status.OPEN)
    for number in session.scalars(owned.order_by(Ticket.id)).all():
        desk.assign(session, get_ticket(session, number), to, by=by, now=now)
    tasks = select(Task).where(Task.assignee == person.name, Task.done_at.is_(None))
    for task in session.scalars(tasks.order_by(Task.id)).all():
        task.assignee = to.name
        audit.record(
            session,
            "task handed over",
            by=by,
            cause=AUDIT_CAUSE,
            now=now,
            ticket=task.ticket_id,
            task=task.id,
        )
    managed = select(Company).where(Company.manager_id == person.id).order_by(Company.id)
    for company in session.scalars(managed).all():
        records.set_manager(session, company, to, by=by, now=now)
    consulted = select(Company).where(Company.consultant_id == person.id).order_by(Company.id)
    for company in session.scalars(consulted).all():
        company.consultant = to
        audit.record(session, "company", by=by, cause=AUDIT_CAUSE, now=now, company=company.id)
    return work
