"""The clock process.

Missed deadlines, lost wake-ups, and the waiting work itself when no worker does it.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from workflow import background_jobs, process
from workflow.context import House
from workflow.database.visibility import READING, due
from workflow.filing import linked_files
from workflow.filing.linked_files import LinkedFile
from workflow.mail.sender import waits
from workflow.models.core import Delivery, Outgoing, Task, Ticket
from workflow.models.states import DeliveryState, Status
from workflow.models.webhooks import HookEvent
from workflow.operations import status, stuck
from workflow.operations.checks import Checks
from workflow.runtime import log
from workflow.tickets.desk import Desk
from workflow.webhooks import deliver

GRACE = timedelta(seconds=20)  # what waits longer than this has no worker looking after it
CHUNK = 500  # tickets a transaction


def sweep(house: House, *, redis_away: Callable[[], bool]) -> None:
    """One round. Whatever Redis has forgotten is found here."""
    now = house.clock()
    status.alive(house, "clock")
    background_jobs.do("spool", house)
    stuck.move_on(house)
    tasks = raise_tasks(house, now)
    late = {name: _waiting(house, name, now) for name in background_jobs.QUEUES}
    for name in (n for n, waiting in late.items() if waiting):
        house.store.waker(name)
        if redis_away() or _waiting(house, name, now, GRACE):
            background_jobs.do(name, house)
    if tasks or any(late.values()):
        log.swept(tasks=tasks, waiting=sum(late.values()))


def run(
    house: House,
    stop: threading.Event,
    *,
    redis_away: Callable[[], bool],
    mine: Callable[[], bool] = lambda: True,
) -> None:
    """Sweep until told to stop, while this is `mine` to do.

    A round that fails is followed by the next.
    """
    checks = Checks(house)
    while not stop.is_set():
        try:
            if mine():
                sweep(house, redis_away=redis_away)
                checks.round()
        except Exception as error:  # noqa: BLE001  # the top loop: no fault may end the clock
            log.fault("sweep", error)
        stop.wait(house.settings.sweep_seconds)


def raise_tasks(house: House, now: datetime) -> int:
    """Raise the task of every missed deadline; how many.

    One a ticket, period and deadline, however often it runs.
    """
    raised, after = 0, 0
    while True:
        with house.store.transaction() as session:
            tickets = _overdue(session, now, after)
            raised += sum(len(house.desk.raise_tasks(session, t, now)) for t in tickets)
        if len(tickets) < CHUNK:
            return raised
        after = tickets[-1].id


def _overdue(session: Session, now: datetime, after: int) -> list[Ticket]:
    """Open tickets past a deadline that has no task yet; loaded with what the desk will look at."""
    kinds = [Desk.deadline_kind(d) for d in process.DEADLINES]
    mine = (Task.ticket_id == Ticket.id, Task.period == Ticket.period, Task.kind.in_(kinds))
    raised = select(func.count()).where(*mine).correlate(Ticket).scalar_subquery()
    query = (
        select(Ticket)
        .where(Ticket.status == Status.OPEN, Ticket.due_at <= now, Ticket.id > after)
        .where(raised < len(kinds))
        .options(selectinload(Ticket.milestones), selectinload(Ticket.tasks))
        .order_by(Ticket.id)
        .limit(CHUNK)
    )
    return list(session.scalars(query))


def _waiting(house: House, name: str, now: datetime, since: timedelta = timedelta()) -> int:
    """Return how much of a name's work has been due for so long."""
    by_name = {
        "read": select(func.count()).where(
            Delivery.state == DeliveryState.PENDING,
            due(Delivery.not_before, now - since, READING + since),
        ),
        "send": select(func.count()).select_from(Outgoing).where(waits(now, since)),
        "fetch": select(func.count()).select_from(LinkedFile).where(linked_files.waits(now, since)),
        "hook": select(func.count()).select_from(HookEvent).where(deliver.waits(now, since)),
    }
    with house.store.reading() as session:
        return session.scalar(by_name[name]) or 0
