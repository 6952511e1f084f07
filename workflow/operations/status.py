"""System status: which processes are alive, what waits, and what needs a person."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from workflow.context import AppContext
from workflow.models.core import (
    Delivery,
    Filing,
    FormCheckpoint,
    Heartbeat,
    MailboxCheckpoint,
    Receipt,
    SelfCheck,
)
from workflow.models.states import DeliveryState
from workflow.operations import oauth_tokens
from workflow.operations.backlog import (
    Backlog,
    QueueCounts,
    count_backlog,
    count_overdue,
    count_with_rejected_rows,
)
from workflow.operations.crash_loops import CrashLoop, find_crash_loops
from workflow.operations.item_faults import OUT_OF_SERVICE_AFTER, ChannelFault, list_channel_faults
from workflow.settings.settings import Settings

MAX_SILENCE = timedelta(minutes=2)  # processes report every 20 seconds that they are alive
MAX_UNSENT = timedelta(hours=1)
MAX_UNPULLED = timedelta(hours=1)  # a passing fault at Formstack needs nobody before that
PUBLIC_CHANNELS = ("smtp", "lmtp", "imap", "formstack")  # customers are never silent here for days


@dataclass(frozen=True)
class Progress:
    """Progress of reading a delivery with many items.

    `total` is None where the parser does not know it before the end.
    """

    delivery: int
    filed: int
    total: int | None


@dataclass(frozen=True)
class SystemStatus:
    """State of the whole system; `needs` is empty when no person is needed.

    Each line of `needs` names a fault and what to do about it. A time is None when there is nothing
    of its kind.
    """

    last_seen: dict[str, datetime]  # processes and mailboxes, when they last reported
    channels: dict[str, datetime]  # transports, when something was last received
    pending: int
    failed: int
    with_rejected_rows: int  # deliveries that were read except for some rows
    progress: list[Progress]  # deliveries with many items that are being read
    oldest_pending: datetime | None
    oldest_unread: datetime | None  # pending and not being read: a large workbook takes its time
    backlog: Backlog
    overdue: tuple[int, datetime | None]  # see backlog.count_overdue
    tokens: list[oauth_tokens.TokenStatus]  # of mailboxes with OAuth
    older_mails: dict[str, int]  # mails that the first look left in a mailbox, by its key
    checks: list[SelfCheck]
    forms: list[FormCheckpoint]  # that backfill pulls; none without a token
    channel_faults: list[ChannelFault]
    crash_loops: list[CrashLoop]
    needs: list[str] = field(default_factory=list)


def record_alive(context: AppContext, name: str, detail: str = "") -> None:
    """Record that a process or mailbox is alive now."""
    with context.store.transaction() as session:
        session.merge(Heartbeat(name=name, at=context.clock(), detail=detail))


def collect_status(context: AppContext) -> SystemStatus:
    """Read the state of everything, in one transaction."""
    now, settings = context.clock(), context.settings
    with context.store.read_only() as session:
        by_state = select(Delivery.state, func.count()).group_by(Delivery.state)
        counts = dict(session.execute(by_state).all())
        heartbeats = select(Heartbeat.name, Heartbeat.at).order_by(Heartbeat.name)
        last_seen = dict(session.execute(heartbeats).all())
        oldest_pending, oldest_unread = _find_oldest_pending(session, now)
        status = SystemStatus(
            last_seen=last_seen,
            channels=_list_channels(session),
            pending=counts.get(DeliveryState.PENDING, 0),
            failed=counts.get(DeliveryState.FAILED, 0),
            with_rejected_rows=count_with_rejected_rows(session),
            progress=list_progress(session),
            oldest_pending=oldest_pending,
            oldest_unread=oldest_unread,
            backlog=count_backlog(session),
            overdue=count_overdue(session, now, timedelta(hours=settings.failed_alarm_hours)),
            tokens=oauth_tokens.list_token_status(session, settings),
            older_mails=_count_older_mails(session),
            checks=list(session.scalars(select(SelfCheck).order_by(SelfCheck.name))),
            forms=_list_forms(session) if settings.formstack_token.get_secret_value() else [],
            channel_faults=list_channel_faults(session, now, last_seen),
            crash_loops=find_crash_loops(session, now),
        )
    status.needs.extend(_list_needs(status, settings, now))
    return status


def _list_forms(session: Session) -> list[FormCheckpoint]:
    return list(session.scalars(select(FormCheckpoint).order_by(FormCheckpoint.form)))


def _count_older_mails(session: Session) -> dict[str, int]:
    """Return how many older mails were left in each mailbox; those without any are left out."""
    left = select(MailboxCheckpoint.mailbox, MailboxCheckpoint.older_count).where(
        MailboxCheckpoint.older_count > 0
    )
    return {
        mailbox: count or 0
        for mailbox, count in session.execute(left.order_by(MailboxCheckpoint.mailbox))
    }


def _find_oldest_pending(
    session: Session, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return when the oldest pending delivery arrived, and the oldest that nobody reads now."""
    oldest = func.min(Delivery.received_at)
    unread = oldest.filter(Delivery.not_before <= now)
    pending = select(oldest, unread).where(Delivery.state == DeliveryState.PENDING)
    oldest_pending, oldest_unread = session.execute(pending).one()
    return oldest_pending, oldest_unread


def _list_channels(session: Session) -> dict[str, datetime]:
    """Return when something was last received by each transport, by name."""
    last = select(Receipt.transport, func.max(Receipt.at)).group_by(Receipt.transport)
    return dict(session.execute(last.order_by(Receipt.transport)).all())


def list_progress(session: Session) -> list[Progress]:
    """Return the progress of deliveries that are filed in part, oldest first."""
    rows = (
        select(Delivery.id, Delivery.items, func.count())
        .join(Filing, Filing.delivery_id == Delivery.id)
        .where(Delivery.state == DeliveryState.PENDING)
        .group_by(Delivery.id, Delivery.items)
        .order_by(Delivery.id)
    )
    # While the total is not known, the parser sets one item more than it has seen.
    return [
        Progress(number, filed, total if total > filed + 1 else None)
        for number, total, filed in session.execute(rows)
    ]


# -- what needs a person ----


def _list_needs(status: SystemStatus, settings: Settings, now: datetime) -> Iterator[str]:
    yield from (check.fault for check in status.checks if check.fault)
    yield from _list_failed_deliveries(status)
    yield from _list_undelivered_events(status.backlog.events, now)
    yield from oauth_tokens.describe_needs(status.tokens, now)
    yield from (loop.description for loop in status.crash_loops)
    yield from (fault.description for fault in status.channel_faults if fault.needs_person)
    for row in status.forms:
        if _is_alarm(row, now):
            yield f"backfill{row.form and ' of form '}{row.form}: {row.fault}"
    yield from _list_silent_processes(status, now)
    yield from _list_waiting_work(status, now)
    yield from _list_silent_channels(status, settings, now)


def _list_failed_deliveries(status: SystemStatus) -> Iterator[str]:
    if status.failed:
        yield f"failed deliveries: {status.failed}, see `intake deliveries --state failed`"
    if status.with_rejected_rows:
        yield (
            f"deliveries with rejected rows: {status.with_rejected_rows}, see `intake deliveries"
            " --state failed`"
        )
    count, oldest = status.overdue
    if oldest is not None:
        since = f"{oldest:%Y-%m-%d %H:%M} UTC"
        yield (
            f"of those, waiting too long: {count}, the oldest since {since}; replay or dismiss them"
        )


def _list_undelivered_events(events: QueueCounts, now: datetime) -> Iterator[str]:
    if events.failed:
        yield (
            f"events given up that a webhook did not take: {events.failed}, see `intake hook list`"
        )
    if events.oldest and now - events.oldest > MAX_UNSENT:
        yield "an event has waited for its webhook for more than an hour: see `intake hook list`"


def _is_alarm(row: FormCheckpoint, now: datetime) -> bool:
    """Return whether a fault of backfill needs a person: it will not pass, or lasts too long."""
    return row.lasting or (row.failing_since is not None and now - row.failing_since > MAX_UNPULLED)


def _list_silent_processes(status: SystemStatus, now: datetime) -> Iterator[str]:
    if "clock" not in status.last_seen:
        yield "the clock process has never been seen: start `intake clock`, or `intake up`"
    for name, at in status.last_seen.items():
        if MAX_SILENCE < now - at < OUT_OF_SERVICE_AFTER:
            yield (
                f"{name} has not been seen since {at:%Y-%m-%d %H:%M} UTC: is it running? `intake"
                " up` runs all"
            )


def _list_waiting_work(status: SystemStatus, now: datetime) -> Iterator[str]:
    if status.oldest_unread and now - status.oldest_unread > MAX_SILENCE:
        yield (
            "a delivery has waited for more than two minutes: is a worker running? start `intake"
            " worker`"
        )
    if status.backlog.mails.oldest and now - status.backlog.mails.oldest > MAX_UNSENT:
        yield (
            "a mail has waited for more than an hour: does the relay of INTAKE_RELAY_URL take mail?"
        )


def _list_silent_channels(status: SystemStatus, settings: Settings, now: datetime) -> Iterator[str]:
    longest = timedelta(hours=settings.stale_door_hours)
    for channel, last in status.channels.items():
        if channel in PUBLIC_CHANNELS and now - last > longest:
            yield (f"nothing has come by {channel} since {last:%Y-%m-%d %H:%M} UTC: is that right?")
