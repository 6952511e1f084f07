"""What is alive, what waits and what needs a person."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from workflow.failed import overdue
from workflow.house import House
from workflow.models import Check, Delivery, FormCheckpoint, Outgoing, Receipt, Seen
from workflow.settings import Settings
from workflow.states import DeliveryState, OutboxState

QUIET = timedelta(minutes=2)  # processes say every 20 seconds that they are alive
UNSENT = timedelta(hours=1)
UNPULLED = timedelta(hours=1)  # a fault at Formstack that may pass is nobody's concern before
FORGOTTEN = timedelta(days=7)  # one not seen for so long was taken out of service on purpose
PUBLIC_DOORS = ("smtp", "lmtp", "imap", "formstack")  # customers are never silent here for days


@dataclass(frozen=True)
class Report:
    """The state of the house; `needs` is empty when no person is needed."""

    seen: dict[str, datetime]  # processes and mailboxes, when they last said they are alive
    doors: dict[str, datetime]  # transports, when something last came through
    pending: int
    failed: int
    oldest_pending: datetime | None
    mails_waiting: int
    mails_refused: int
    oldest_mail: datetime | None  # when the mail that waits longest was promised
    overdue: tuple[int, datetime | None]  # failed deliveries nobody has looked after for too long, and the oldest's age
    faults: list[str]  # what the house has found wrong with itself
    forms: list[FormCheckpoint]  # that backfill has looked at; without a token none
    needs: list[str]


def alive(house: House, name: str, detail: str = "") -> None:
    """Say that a process or mailbox is alive."""
    with house.store.transaction() as session:
        session.merge(Seen(name=name, at=house.clock(), detail=detail))


def report(house: House) -> Report:
    """Look at everything once."""
    pending = Delivery.state == DeliveryState.PENDING
    with house.store.reading() as session:
        count = dict(session.execute(select(Delivery.state, func.count()).group_by(Delivery.state)).all())
        mails = dict(session.execute(select(Outgoing.state, func.count()).group_by(Outgoing.state)).all())
        seen = dict(session.execute(select(Seen.name, Seen.at).order_by(Seen.name)).all())
        last = select(Receipt.transport, func.max(Receipt.at)).group_by(Receipt.transport).order_by(Receipt.transport)
        doors = dict(session.execute(last).all())
        oldest = session.scalar(select(func.min(Delivery.received_at)).where(pending))
        waiting = Outgoing.state == OutboxState.WAITING
        oldest_mail = session.scalar(select(func.min(Outgoing.created_at)).where(waiting))
        limit = timedelta(hours=house.settings.failed_alarm_hours)
        late = overdue(session, house.clock(), limit)
        forms = list(session.scalars(select(FormCheckpoint).order_by(FormCheckpoint.form)))
        faults = list(session.scalars(select(Check.fault).where(Check.fault != "").order_by(Check.name)))
    found = Report(
        seen=seen,
        doors=doors,
        pending=count.get(DeliveryState.PENDING, 0),
        failed=count.get(DeliveryState.FAILED, 0),
        oldest_pending=oldest,
        mails_waiting=mails.get(OutboxState.WAITING, 0),
        mails_refused=mails.get(OutboxState.REFUSED, 0),
        oldest_mail=oldest_mail,
        overdue=late,
        faults=faults,
        forms=forms if house.settings.formstack_token.get_secret_value() else [],
        needs=[],
    )
    found.needs.extend(_needs(found, house.settings, house.clock()))
    return found


def _needs(found: Report, settings: Settings, now: datetime) -> list[str]:
    needs = list(found.faults)
    if found.failed:
        needs.append(f"{found.failed} failed deliveries: see `intake deliveries --state failed`")
    late, oldest = found.overdue
    if oldest is not None:
        since = f"{oldest:%Y-%m-%d %H:%M} UTC"
        needs.append(f"{late} of them have waited too long, the oldest since {since}: replay or dismiss them")
    needs += [
        f"backfill{row.form and ' of form '}{row.form}: {row.fault}" for row in found.forms if _is_alarm(row, now)
    ]
    if "clock" not in found.seen:
        needs.append("the clock process has never been seen: start `intake clock`, or `intake up`")
    for name, at in found.seen.items():
        if QUIET < now - at < FORGOTTEN:
            needs.append(f"{name} has not been seen since {at:%Y-%m-%d %H:%M} UTC: is it running? `intake up` runs all")
    if found.oldest_pending and now - found.oldest_pending > QUIET:
        needs.append("a delivery has waited for more than two minutes: is a worker running? start `intake worker`")
    if found.oldest_mail and now - found.oldest_mail > UNSENT:
        needs.append("a mail has waited for more than an hour: does the relay of INTAKE_RELAY_URL take mail?")
    for door, last in found.doors.items():
        if door in PUBLIC_DOORS and now - last > timedelta(hours=settings.stale_door_hours):
            needs.append(f"nothing has come by {door} since {last:%Y-%m-%d %H:%M} UTC: is that right?")
    return needs


def _is_alarm(row: FormCheckpoint, now: datetime) -> bool:
    return row.lasting or (row.failing_since is not None and now - row.failing_since > UNPULLED)
