"""What is alive, what waits and what needs a person."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from workflow.context import AppContext
from workflow.models.core import Delivery, Filing, FormCheckpoint, Heartbeat, Receipt, SelfCheck
from workflow.models.states import DeliveryState
from workflow.operations import oauth_tokens
from workflow.operations.backlog import Backlog, QueueCounts, count_backlog
from workflow.operations.crash_loops import CrashLoop, find_crash_loops
from workflow.operations.failed import count_overdue, count_with_rejected_rows
from workflow.operations.item_faults import OUT_OF_SERVICE_AFTER, ChannelFault, list_channel_faults
from workflow.settings.settings import Settings

MAX_SILENCE = timedelta(minutes=2)  # processes say every 20 seconds that they are alive
MAX_UNSENT = timedelta(hours=1)
MAX_UNPULLED = timedelta(hours=1)  # a fault at Formstack that may pass is nobody's concern before
PUBLIC_CHANNELS = ("smtp", "lmtp", "imap", "formstack")  # customers are never silent here for days


@dataclass(frozen=True)
class Progress:
    """How far a delivery with many items has been read."""

    delivery: int
    filed: int
    total: int | None  # None where its parser does not know before the end


@dataclass(frozen=True)
class SystemStatus:
    """The state of the house; `needs` is empty when no person is needed."""

    last_seen: dict[str, datetime]  # processes and mailboxes, when they last said they are alive
    channels: dict[str, datetime]  # transports, when something last came through
    pending: int
    failed: int
    with_rejected_rows: int  # deliveries that were read but for some rows
    progress: list[Progress]  # those with many items that are being read
    oldest_pending: datetime | None
    oldest_unread: (
        datetime | None
    )  # of those that nobody reads just now: a large workbook takes its time
    backlog: Backlog
    overdue: tuple[
        int, datetime | None
    ]  # failed deliveries nobody has looked after for too long, and the oldest's age
    tokens: list[oauth_tokens.TokenStatus]  # mailboxes with OAuth
    checks: list[SelfCheck]  # what the house has found when it looked at itself
    forms: list[FormCheckpoint]  # that backfill has looked at; without a token none
    channel_faults: list[ChannelFault]  # items that a channel cannot take just now
    crash_loops: list[CrashLoop]  # processes that end again and again
    needs: list[str]


def record_alive(context: AppContext, name: str, detail: str = "") -> None:
    """Say that a process or mailbox is alive."""
    with context.store.transaction() as session:
        session.merge(Heartbeat(name=name, at=context.clock(), detail=detail))


def collect_status(context: AppContext) -> SystemStatus:
    """Look at everything once."""
    pending = Delivery.state == DeliveryState.PENDING
    with context.store.read_only() as session:
        count = dict(
            session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all()
        )
        promised, tokens = (
            count_backlog(session),
            oauth_tokens.list_token_status(session, context.settings),
        )
        seen = dict(
            session.execute(select(Heartbeat.name, Heartbeat.at).order_by(Heartbeat.name)).all()
        )
        last = (
            select(Receipt.transport, func.max(Receipt.at))
            .group_by(Receipt.transport)
            .order_by(Receipt.transport)
        )
        doors = dict(session.execute(last).all())
        first = func.min(Delivery.received_at)
        free = Delivery.not_before <= context.clock()
        oldest, untouched = session.execute(select(first, first.filter(free)).where(pending)).one()
        limit = timedelta(hours=context.settings.failed_alarm_hours)
        with_rejected, progress = count_with_rejected_rows(session), list_progress(session)
        late = count_overdue(session, context.clock(), limit)
        forms = list(session.scalars(select(FormCheckpoint).order_by(FormCheckpoint.form)))
        held, loops = (
            list_channel_faults(session, context.clock(), seen),
            find_crash_loops(session, context.clock()),
        )
        checks = list(session.scalars(select(SelfCheck).order_by(SelfCheck.name)))
    found = SystemStatus(
        last_seen=seen,
        channels=doors,
        pending=count.get(DeliveryState.PENDING, 0),
        failed=count.get(DeliveryState.FAILED, 0),
        with_rejected_rows=with_rejected,
        progress=progress,
        oldest_pending=oldest,
        oldest_unread=untouched,
        backlog=promised,
        tokens=tokens,
        overdue=late,
        checks=checks,
        forms=forms if context.settings.formstack_token.get_secret_value() else [],
        channel_faults=held,
        crash_loops=loops,
        needs=[],
    )
    found.needs.extend(_needs(found, context.settings, context.clock()))
    return found


def list_progress(session: Session) -> list[Progress]:
    """The deliveries of which some items are filed and others are yet to come, oldest first."""
    rows = (
        select(Delivery.id, Delivery.items, func.count())
        .join(Filing, Filing.delivery_id == Delivery.id)
        .where(Delivery.state == DeliveryState.PENDING)
        .group_by(Delivery.id, Delivery.items)
        .order_by(Delivery.id)
    )
    # While it is not known how many there are, one more is expected.
    return [
        Progress(n, filed, of if of > filed + 1 else None) for n, of, filed in session.execute(rows)
    ]


def _unread(found: SystemStatus) -> Iterator[str]:
    if found.failed:
        yield f"failed deliveries: {found.failed}, see `intake deliveries --state failed`"
    if found.with_rejected_rows:
        yield (
            f"deliveries with rejected rows: {found.with_rejected_rows}, see `intake deliveries --state"
            " failed`"
        )
    late, oldest = found.overdue
    if oldest is not None:
        since = f"{oldest:%Y-%m-%d %H:%M} UTC"
        yield (
            f"of those, waiting too long: {late}, the oldest since {since}; replay or dismiss them"
        )


def _needs(found: SystemStatus, settings: Settings, now: datetime) -> list[str]:
    faults = (check.fault for check in found.checks if check.fault)
    needs = [
        *faults,
        *_unread(found),
        *_untold(found.backlog.events, now),
        *oauth_tokens.describe_needs(found.tokens, now),
    ]
    needs += [loop.description for loop in found.crash_loops]
    needs += [trouble.description for trouble in found.channel_faults if trouble.needs_person]
    needs += [
        f"backfill{row.form and ' of form '}{row.form}: {row.fault}"
        for row in found.forms
        if _is_alarm(row, now)
    ]
    if "clock" not in found.last_seen:
        needs.append("the clock process has never been seen: start `intake clock`, or `intake up`")
    for name, at in found.last_seen.items():
        if MAX_SILENCE < now - at < OUT_OF_SERVICE_AFTER:
            needs.append(
                f"{name} has not been seen since {at:%Y-%m-%d %H:%M} UTC: is it running? `intake"
                " up` runs all"
            )
    if found.oldest_unread and now - found.oldest_unread > MAX_SILENCE:
        needs.append(
            "a delivery has waited for more than two minutes: is a worker running? start `intake"
            " worker`"
        )
    if found.backlog.mails.oldest and now - found.backlog.mails.oldest > MAX_UNSENT:
        needs.append(
            "a mail has waited for more than an hour: does the relay of INTAKE_RELAY_URL take mail?"
        )
    for door, last in found.channels.items():
        if door in PUBLIC_CHANNELS and now - last > timedelta(hours=settings.stale_door_hours):
            needs.append(
                f"nothing has come by {door} since {last:%Y-%m-%d %H:%M} UTC: is that right?"
            )
    return needs


def _untold(events: QueueCounts, now: datetime) -> Iterator[str]:
    if events.failed:
        yield (
            f"events given up that a webhook did not take: {events.failed}, see `intake hook list`"
        )
    if events.oldest and now - events.oldest > MAX_UNSENT:
        yield "an event has waited for its webhook for more than an hour: see `intake hook list`"


def _is_alarm(row: FormCheckpoint, now: datetime) -> bool:
    return row.lasting or (row.failing_since is not None and now - row.failing_since > MAX_UNPULLED)
