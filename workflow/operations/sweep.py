"""The clock process.

Missed deadlines, lost wake-ups, and the waiting work itself when no worker does it.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from workflow import background_jobs, process
from workflow.context import AppContext
from workflow.database.visibility import DELIVERY_VISIBILITY_TIMEOUT, is_visible
from workflow.filing import linked_files
from workflow.filing.linked_files import LinkedFile
from workflow.mail.sender import is_due
from workflow.models.core import Delivery, OutgoingMail, Task, Ticket
from workflow.models.states import DeliveryState, Status
from workflow.models.webhooks import WebhookEvent
from workflow.operations import status, stuck
from workflow.operations.checks import SelfChecks
from workflow.runtime import log
from workflow.tickets.desk import Desk
from workflow.webhooks import deliver

WORKER_GRACE = timedelta(seconds=20)  # what waits longer than this has no worker looking after it
BATCH_SIZE = 500  # tickets a transaction


def sweep(context: AppContext, *, redis_away: Callable[[], bool]) -> None:
    """One round. Whatever Redis has forgotten is found here."""
    now = context.clock()
    status.record_alive(context, "clock")
    background_jobs.do_work("spool", context)
    stuck.advance_stuck_tickets(context)
    tasks = raise_tasks(context, now)
    late = {name: _waiting(context, name, now) for name in background_jobs.QUEUES}
    for name in (n for n, waiting in late.items() if waiting):
        context.store.notify(name)
        if redis_away() or _waiting(context, name, now, WORKER_GRACE):
            background_jobs.do_work(name, context)
    if tasks or any(late.values()):
        log.sweep_finished(tasks=tasks, waiting=sum(late.values()))


def run_clock(
    context: AppContext,
    stop: threading.Event,
    *,
    redis_away: Callable[[], bool],
    mine: Callable[[], bool] = lambda: True,
) -> None:
    """Sweep until told to stop, while this is `mine` to do.

    A round that fails is followed by the next.
    """
    checks = SelfChecks(context)
    while not stop.is_set():
        try:
            if mine():
                sweep(context, redis_away=redis_away)
                checks.run_due()
        except Exception as error:  # noqa: BLE001  # the top loop: no fault may end the clock
            log.fault("sweep", error)
        stop.wait(context.settings.sweep_seconds)


def raise_tasks(context: AppContext, now: datetime) -> int:
    """Raise the task of every missed deadline; how many.

    One a ticket, period and deadline, however often it runs.
    """
    raised, after = 0, 0
    while True:
        with context.store.transaction() as session:
            tickets = _overdue(session, now, after)
            raised += sum(len(context.desk.raise_overdue_tasks(session, t, now)) for t in tickets)
        if len(tickets) < BATCH_SIZE:
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
        .limit(BATCH_SIZE)
    )
    return list(session.scalars(query))


def _waiting(context: AppContext, name: str, now: datetime, since: timedelta = timedelta()) -> int:
    """Return how much of a name's work has been due for so long."""
    by_name = {
        "read": select(func.count()).where(
            Delivery.state == DeliveryState.PENDING,
            is_visible(Delivery.not_before, now - since, DELIVERY_VISIBILITY_TIMEOUT + since),
        ),
        "send": select(func.count()).select_from(OutgoingMail).where(is_due(now, since)),
        "fetch": select(func.count())
        .select_from(LinkedFile)
        .where(linked_files.is_due(now, since)),
        "hook": select(func.count()).select_from(WebhookEvent).where(deliver.is_due(now, since)),
    }
    with context.store.read_only() as session:
        return session.scalar(by_name[name]) or 0
