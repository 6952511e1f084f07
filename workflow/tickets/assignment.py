"""Tickets given to somebody, many at once: only those that are still as they were seen.

And taken back again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from workflow.audit import record as audit
from workflow.errors import Missing
from workflow.models.core import Audit, Staff, Ticket
from workflow.models.states import Status
from workflow.permissions import Right, may
from workflow.tickets.desk import Desk

MOST = 200  # tickets at once
TAKEN_BACK_WITHIN = timedelta(minutes=10)
GIVEN, LET_GO = "assigned", "unassigned"


@dataclass
class Assigned:
    """What was done: to which tickets, which were left because they are not as they were seen.

    And how to undo it.
    """

    done: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # rows of the audit trail, for `take_back`


def give(
    desk: Desk,
    session: Session,
    seen: Mapping[int, int | None],
    owner: Staff,
    *,
    by: str,
    now: datetime,
) -> Assigned:
    """Give open tickets to somebody.

    `seen` has their numbers, and who owned each when they were looked at.
    """
    made = Assigned()
    for ticket in _held(session, list(seen)[:MOST]):
        if (
            ticket.status is Status.OPEN
            and ticket.owner_id == seen[ticket.id]
            and ticket.owner_id != owner.id
        ):
            desk.assign(session, ticket, owner, by=by, now=now)
            made.done.append(ticket.id)
    made.left = sorted(seen.keys() - set(made.done))
    session.flush()
    last = select(func.max(Audit.id)).where(Audit.ticket_id.in_(made.done), Audit.action == GIVEN)
    made.marks = sorted(session.scalars(last.group_by(Audit.ticket_id)))
    return made


def take_back(
    desk: Desk, session: Session, marks: Collection[int], *, by: str, now: datetime
) -> Assigned:
    """Give tickets back to whom they belonged to before.

    Where nobody has given them to anybody since.

    `by` can take back what `by` has done, for ten minutes; other marks mean nothing.
    """
    mine = (Audit.actor == by, Audit.action == GIVEN, Audit.at >= now - TAKEN_BACK_WITHIN)
    rows = session.scalars(select(Audit).where(Audit.id.in_(sorted(marks)[:MOST]), *mine))
    given = {row.ticket_id: row for row in rows if row.ticket_id is not None}
    since = set(_given_since(session, given))
    undone = Assigned()
    for ticket in _held(session, list(given)):
        row = given[ticket.id]
        if (
            ticket.owner_id != row.detail["owner"]
            or ticket.status is not Status.OPEN
            or ticket.id in since
        ):
            undone.left.append(ticket.id)
            continue
        before = session.get(Staff, row.detail["before"]) if row.detail.get("before") else None
        if before is None:
            let_go(desk, session, ticket, by=by, now=now)
        else:
            desk.assign(session, ticket, before, by=by, now=now)
        undone.done.append(ticket.id)
    return undone


def can_own(person: Staff) -> Staff:
    """The person, as somebody's owner-to-be.

    Raises Missing where their role only looks on: nobody would work it.
    """
    if not may(person.role, Right.WORK):
        raise Missing(
            f"{person.name} only looks on ({person.role}): choose somebody who works tickets"
        )
    return person


def let_go(desk: Desk, session: Session, ticket: Ticket, *, by: str, now: datetime) -> None:
    """Put the ticket back into the queue of those without an owner.

    The owner's tasks go to the desk lead.
    """
    before, ticket.owner = ticket.owner_id, None
    for task in ticket.tasks:
        if task.follows_owner and task.done_at is None:
            task.assignee = desk.settings.desk_lead
    audit.record(session, LET_GO, by=by, cause="undo", now=now, ticket=ticket.id, before=before)


def _held(session: Session, numbers: list[int]) -> list[Ticket]:
    """The tickets as they are now, kept to this transaction, in order.

    Two at once do not wait for each other.
    """
    query = select(Ticket).where(Ticket.id.in_(numbers)).order_by(Ticket.id)
    people = (joinedload(Ticket.owner), selectinload(Ticket.tasks))
    held = query.with_for_update(of=Ticket, key_share=True).options(*people)
    return list(session.scalars(held.execution_options(populate_existing=True)))


def _given_since(session: Session, given: Mapping[int, Audit]) -> list[int]:
    """Those that somebody has given or let go after the row of ours."""
    of_these = (Audit.ticket_id.in_(given), Audit.action.in_((GIVEN, LET_GO)))
    last = session.execute(
        select(Audit.ticket_id, func.max(Audit.id)).where(*of_these).group_by(Audit.ticket_id)
    )
    return [ticket for ticket, mark in last if ticket is not None and mark > given[ticket].id]
