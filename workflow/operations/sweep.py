"""Work of the clock process: missed deadlines, lost wake-ups, tickets stuck in the first stage.

It moves what was filed on a company or contact at the moment of its merge, and does the waiting
work itself when no worker does it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import selectinload

from workflow import background_jobs, process
from workflow.context import AppContext
from workflow.customers import merging
from workflow.database.visibility import DELIVERY_VISIBILITY_TIMEOUT, is_visible
from workflow.filing import linked_files
from workflow.filing.linked_files import LinkedFile
from workflow.mail.claims import is_due
from workflow.models.core import Delivery, OutgoingMail, Task, Ticket
from workflow.models.states import DeliveryState, OutboxState, Status
from workflow.models.webhooks import WebhookEvent
from workflow.operations import status
from workflow.operations.checks import SelfChecks
from workflow.process import Template
from workflow.runtime import log
from workflow.tickets.desk import Desk
from workflow.webhooks import deliver

WORKER_GRACE = timedelta(seconds=20)  # a worker that runs takes up waiting work sooner than this
BATCH_SIZE = 500  # overdue tickets listed at once
HOLD_SECONDS = 0.03  # of a transaction that raises tasks: others wait for it
NOTICE_TEMPLATES = (Template.NOTICE, Template.OVERSIZED)
FINAL_STATES = (OutboxState.SENT, OutboxState.REFUSED)


def sweep(context: AppContext, *, redis_away: Callable[[], bool]) -> None:
    """Run one round: find whatever Redis has forgotten, and raise the tasks that are due."""
    now = context.clock()
    status.record_alive(context, "clock")
    background_jobs.do_work("spool", context)
    advance_stuck_tickets(context)
    merging.follow_merges(context.store, now=now)
    tasks = raise_tasks(context, now)
    waiting = {name: _count_waiting(context, name, now) for name in background_jobs.QUEUES}
    for name in (n for n, count in waiting.items() if count):
        context.store.notify(name)
        if redis_away() or _count_waiting(context, name, now, WORKER_GRACE):
            background_jobs.do_work(name, context)
    if tasks or any(waiting.values()):
        log.sweep_finished(tasks=tasks, waiting=sum(waiting.values()))


def run_clock(
    context: AppContext,
    stop: threading.Event,
    *,
    redis_away: Callable[[], bool],
    has_lease: Callable[[], bool] = lambda: True,
) -> None:
    """Sweep at intervals until `stop` is set, as long as `has_lease` returns True.

    A round that fails is followed by the next.
    """
    checks = SelfChecks(context)
    while not stop.is_set():
        try:
            if has_lease():
                sweep(context, redis_away=redis_away)
                checks.run_due()
        except Exception as error:  # noqa: BLE001  # the top loop: no fault may end the clock
            log.fault("sweep", error)
        stop.wait(context.settings.sweep_seconds)


# -- deadlines ----


def raise_tasks(context: AppContext, now: datetime) -> int:
    """Raise the task of every missed deadline; return how many were raised.

    A ticket gets one task for each deadline and period, however often this runs.
    """
    raised_count, after = 0, 0
    while numbers := _list_overdue(context, now, after):
        after = numbers[-1]
        waiting = deque(numbers)
        while waiting:
            raised_count += _raise_some(context, waiting, now)
            if waiting:
                context.store.pause_for_writers()
    return raised_count


def _list_overdue(context: AppContext, now: datetime, after: int) -> list[int]:
    """List open tickets past a deadline that has no task yet, with numbers above `after`.

    At most BATCH_SIZE, in order.
    """
    kinds = [Desk.build_deadline_kind(d) for d in process.DEADLINES]
    deadline_tasks = (
        Task.ticket_id == Ticket.id,
        Task.period == Ticket.period,
        Task.kind.in_(kinds),
    )
    task_count = select(func.count()).where(*deadline_tasks).correlate(Ticket).scalar_subquery()
    query = (
        select(Ticket.id)
        .where(Ticket.status == Status.OPEN, Ticket.due_at <= now, Ticket.id > after)
        .where(task_count < len(kinds))
        .order_by(Ticket.id)
        .limit(BATCH_SIZE)
    )
    with context.store.read_only() as session:
        return list(session.scalars(query))


def _raise_some(context: AppContext, waiting: deque[int], now: datetime) -> int:
    """Raise the tasks of the first tickets in one short transaction; remove these tickets.

    After a weekend's stop there may be thousands, and senders wait for the database meanwhile.
    """
    raised_count = 0
    until = time.monotonic() + HOLD_SECONDS
    with context.store.transaction() as session:
        while waiting:
            ticket = session.get(
                Ticket,
                waiting.popleft(),
                options=[selectinload(Ticket.milestones), selectinload(Ticket.tasks)],
            )
            if ticket is not None:
                raised_count += len(context.desk.raise_overdue_tasks(session, ticket, now))
            if time.monotonic() >= until:
                break
    return raised_count


# -- tickets stuck in 1-Submitted ----


def advance_stuck_tickets(context: AppContext) -> int:
    """Advance the tickets in the first stage whose notice has been sent or refused.

    Returns how many such notices there were. The sender records the relay's answer even when an
    error of ours prevents the steps that follow, since asking the relay again would send the mail
    twice. Once the error is gone, these steps are made up for here.
    """
    in_first_stage = (
        Ticket.status == Status.OPEN,
        Ticket.stage == process.STEPS[0].stage,
        OutgoingMail.period == Ticket.period,
    )
    finished_notices = (
        OutgoingMail.template.in_(NOTICE_TEMPLATES),
        OutgoingMail.state.in_(FINAL_STATES),
    )
    notices = (
        select(OutgoingMail.id)
        .join(Ticket)
        .where(*in_first_stage, *finished_notices)
        .order_by(OutgoingMail.id)
    )
    with context.store.read_only() as session:
        numbers = list(session.scalars(notices))
    for number in numbers:
        try:
            _follow_notice(context, number)
        # The top of one ticket: its fault must not stop the others.
        except Exception as error:  # noqa: BLE001
            log.fault("stuck", error)
    return len(numbers)


def _follow_notice(context: AppContext, number: int) -> None:
    """Do on the ticket what follows from the state of its notice."""
    now = context.clock()
    with context.store.transaction() as session:
        mail = session.get_one(OutgoingMail, number)
        if mail.state is OutboxState.SENT:
            context.desk.record_mail_sent(session, mail, now=now)
        else:
            context.desk.record_mail_failed(session, mail, mail.reason, now=now)


# -- waiting work ----


def _count_waiting(
    context: AppContext, name: str, now: datetime, since: timedelta = timedelta()
) -> int:
    """Count the entries of a queue that have been due for at least `since`."""
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
