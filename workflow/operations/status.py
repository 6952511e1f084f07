"""What is alive, what waits and what needs a person."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from workflow.context import House
from workflow.models.core import Check, Delivery, Filing, FormCheckpoint, Receipt, Seen
from workflow.models.states import DeliveryState
from workflow.operations import oauth_tokens
from workflow.operations.backlog import Backlog, Queue, backlog
from workflow.operations.crash_loops import CrashLoop, crash_loops
from workflow.operations.failed import overdue, rejected
from workflow.operations.item_faults import FORGOTTEN, Trouble, troubles
from workflow.settings.settings import Settings

QUIET = timedelta(minutes=2)  # processes say every 20 seconds that they are alive
UNSENT = timedelta(hours=1)
UNPULLED = timedelta(hours=1)  # a fault at Formstack that may pass is nobody's concern before
PUBLIC_DOORS = ("smtp", "lmtp", "imap", "formstack")  # customers are never silent here for days


@dataclass(frozen=True)
class Progress:
    """How far a delivery with many items has been read."""

    delivery: int
    filed: int
    of: int | None  # None where its parser does not know before the end


@dataclass(frozen=True)
class Report:
    """The state of the house; `needs` is empty when no person is needed."""

    seen: dict[str, datetime]  # processes and mailboxes, when they last said they are alive
    doors: dict[str, datetime]  # transports, when something last came through
    pending: int
    failed: int
    rejected: int  # deliveries that were read but for some rows
    reading: list[Progress]  # those with many items that are being read
    oldest_pending: datetime | None
    oldest_untouched: (
        datetime | None
    )  # of those that nobody reads just now: a large workbook takes its time
    backlog: Backlog
    overdue: tuple[
        int, datetime | None
    ]  # failed deliveries nobody has looked after for too long, and the oldest's age
    grants: list[oauth_tokens.Left]  # mailboxes with OAuth
    checks: list[Check]  # what the house has found when it looked at itself
    forms: list[FormCheckpoint]  # that backfill has looked at; without a token none
    troubles: list[Trouble]  # items that a channel cannot take just now
    crash_loops: list[CrashLoop]  # processes that end again and again
    needs: list[str]


def alive(house: House, name: str, detail: str = "") -> None:
    """Say that a process or mailbox is alive."""
    with house.store.transaction() as session:
        session.merge(Seen(name=name, at=house.clock(), detail=detail))


def report(house: House) -> Report:
    """Look at everything once."""
    pending = Delivery.state == DeliveryState.PENDING
    with house.store.reading() as session:
        count = dict(
            session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all()
        )
        promised, tokens = backlog(session), oauth_tokens.left(session, house.settings)
        seen = dict(session.execute(select(Seen.name, Seen.at).order_by(Seen.name)).all())
        last = (
            select(Receipt.transport, func.max(Receipt.at))
            .group_by(Receipt.transport)
            .order_by(Receipt.transport)
        )
        doors = dict(session.execute(last).all())
        first = func.min(Delivery.received_at)
        free = Delivery.not_before <= house.clock()
        oldest, untouched = session.execute(select(first, first.filter(free)).where(pending)).one()
        limit = timedelta(hours=house.settings.failed_alarm_hours)
        with_rejected, progress = rejected(session), reading(session)
        late = overdue(session, house.clock(), limit)
        forms = list(session.scalars(select(FormCheckpoint).order_by(FormCheckpoint.form)))
        held, loops = troubles(session, house.clock(), seen), crash_loops(session, house.clock())
        checks = list(session.scalars(select(Check).order_by(Check.name)))
    found = Report(
        seen=seen,
        doors=doors,
        pending=count.get(DeliveryState.PENDING, 0),
        failed=count.get(DeliveryState.FAILED, 0),
        rejected=with_rejected,
        reading=progress,
        oldest_pending=oldest,
        oldest_untouched=untouched,
        backlog=promised,
        grants=tokens,
        overdue=late,
        checks=checks,
        forms=forms if house.settings.formstack_token.get_secret_value() else [],
        troubles=held,
        crash_loops=loops,
        needs=[],
    )
    found.needs.extend(_needs(found, house.settings, house.clock()))
    return found


def reading(session: Session) -> list[Progress]:
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


def _unread(found: Report) -> Iterator[str]:
    if found.failed:
        yield f"failed deliveries: {found.failed}, see `intake deliveries --state failed`"
    if found.rejected:
        yield (
            f"deliveries with rejected rows: {found.rejected}, see `intake deliveries --state"
            " failed`"
        )
    late, oldest = found.overdue
    if oldest is not None:
        since = f"{oldest:%Y-%m-%d %H:%M} UTC"
        yield (
            f"of those, waiting too long: {late}, the oldest since {since}; replay or dismiss them"
        )


def _needs(found: Report, settings: Settings, now: datetime) -> list[str]:
    faults = (check.fault for check in found.checks if check.fault)
    needs = [
        *faults,
        *_unread(found),
        *_untold(found.backlog.events, now),
        *oauth_tokens.needs(found.grants, now),
    ]
    needs += [loop.words for loop in found.crash_loops]
    needs += [trouble.words for trouble in found.troubles if trouble.needs_person]
    needs += [
        f"backfill{row.form and ' of form '}{row.form}: {row.fault}"
        for row in found.forms
        if _is_alarm(row, now)
    ]
    if "clock" not in found.seen:
        needs.append("the clock process has never been seen: start `intake clock`, or `intake up`")
    for name, at in found.seen.items():
        if QUIET < now - at < FORGOTTEN:
            needs.append(
                f"{name} has not been seen since {at:%Y-%m-%d %H:%M} UTC: is it running? `intake"
                " up` runs all"
            )
    if found.oldest_untouched and now - found.oldest_untouched > QUIET:
        needs.append(
            "a delivery has waited for more than two minutes: is a worker running? start `intake"
            " worker`"
        )
    if found.backlog.mails.oldest and now - found.backlog.mails.oldest > UNSENT:
        needs.append(
            "a mail has waited for more than an hour: does the relay of INTAKE_RELAY_URL take mail?"
        )
    for door, last in found.doors.items():
        if door in PUBLIC_DOORS and now - last > timedelta(hours=settings.stale_door_hours):
            needs.append(
                f"nothing has come by {door} since {last:%Y-%m-%d %H:%M} UTC: is that right?"
            )
    return needs


def _untold(events: Queue, now: datetime) -> Iterator[str]:
    if events.failed:
        yield (
            f"events given up that a webhook did not take: {events.failed}, see `intake hook list`"
        )
    if events.oldest and now - events.oldest > UNSENT:
        yield "an event has waited for its webhook for more than an hour: see `intake hook list`"


def _is_alarm(row: FormCheckpoint, now: datetime) -> bool:
    return row.lasting or (row.failing_since is not None and now - row.failing_since > UNPULLED)
