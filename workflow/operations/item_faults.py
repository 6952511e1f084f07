"""Items that a channel could not take.

Whatever one item does stays with that item: a channel records it here, leaves it where it is and
goes on with the next one. The record is the list of what is to be tried again, so it survives a
restart, and it is what `intake status` and the Operations page show.

Two kinds of channels use it. A mailbox, the folder and the pull of forms try again themselves, with
backoff, and remove the record afterwards. At SMTP, LMTP, the webhook and the pipe the sender tries
again: there the record carries the digest of the bytes, and is settled once a delivery has it. A
fault before the bytes were there is recorded by its place in our code, for a day.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from workflow.database.engine import Store
from workflow.database.text_safety import make_storable
from workflow.database.visibility import CLOCK_TOLERANCE
from workflow.models.core import Delivery, ItemFault
from workflow.runtime import log
from workflow.runtime.backoff import Backoff
from workflow.runtime.clock import Clock

# At most a minute, so that after an outage of a day everything is taken within that minute.
BACKOFF = Backoff(first=timedelta(seconds=5), maximum=timedelta(minutes=1))
SENDER_RETRY_PERIOD = timedelta(days=5)  # RFC 5321, section 4.5.4.1: so long a sender tries again
KEEP_WITHOUT_DIGEST = timedelta(days=1)
# A mail server that restarts is nobody's concern: it comes back, and what it kept from us is
# fetched.
GRACE_BY_CHANNEL = {"imap": timedelta(minutes=5)}
OUT_OF_SERVICE_AFTER = timedelta(
    days=7
)  # a mailbox not seen for so long was taken out of service on purpose
MAX_SHOWN_ITEMS = 5
MAX_ITEM_LENGTH = 300  # characters; see ItemFault.item


@dataclass(frozen=True, slots=True)
class PendingRetry:
    """An item that is to be tried again."""

    item: str
    attempts: int
    not_before: datetime

    def is_due(self, now: datetime) -> bool:
        """Return whether it may be tried now, also after the clock has jumped back."""
        return not now < self.not_before <= now + BACKOFF.maximum + CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class FaultyItem:
    """An item that cannot be taken, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChannelFault:
    """What one place of a channel cannot take now: a mailbox, the folder, a form, a listener."""

    channel: str
    place: str
    count: int
    since: datetime
    reason: str  # of all items; "" where they have several
    items: tuple[FaultyItem, ...]  # the first few
    next_attempt: datetime
    needs_person: bool  # it did not pass by itself

    @property
    def display_place(self) -> str:
        """Return the place as people know it.

        "" where it is only a number of ours, or there is one only.
        """
        return (
            self.place
            if "{place}" in WORDING_BY_CHANNEL.get(self.channel, DEFAULT_WORDING).place
            else ""
        )

    @property
    def description(self) -> str:
        """Return what is wrong, since when, and what to do, in one line."""
        kind = WORDING_BY_CHANNEL.get(self.channel, DEFAULT_WORDING)
        shown = [one.name if self.reason else f"{one.name} ({one.reason})" for one in self.items]
        names = ", ".join(shown) + (", …" if self.count > len(shown) else "")
        what = kind.singular if self.count == 1 else kind.plural.format(count=self.count)
        why = f" ({self.reason})" if self.reason else ""
        return (
            f"{kind.place.format(place=self.place, channel=self.channel)}: {what} since "
            f"{self.since:%Y-%m-%d %H:%M} UTC{why}. {kind.advice.format(names=names)}"
        )


@dataclass(frozen=True, slots=True)
class FaultWording:
    """How a channel's trouble is put into words; `names` are the items'."""

    place: str
    singular: str
    plural: str
    advice: str


DEFAULT_WORDING = FaultWording(
    place="{channel}",
    singular="1 item cannot be stored",
    plural="{count} items cannot be stored",
    advice=(
        "The sender was asked to try again. Please report this with the lines “fault” of the log:"
        " {names}"
    ),
)
WORDING_BY_CHANNEL = {
    "imap": FaultWording(
        place="mailbox {place}",
        singular="1 mail cannot be fetched",
        plural="{count} mails cannot be fetched",
        advice=(
            "Tried again automatically. Look into the mail server's log, or open the mail in the"
            " mailbox: UIDVALIDITY/UID {names}"
        ),
    ),
    "folder": FaultWording(
        place="Excel folder",
        singular="1 file cannot be taken",
        plural="{count} files cannot be taken",
        advice=(
            "Left where it is and tried again automatically. Mend it or take it out of the folder:"
            " {names}"
        ),
    ),
    "backfill": FaultWording(
        place="form {place}",
        singular="1 submission cannot be stored",
        plural="{count} submissions cannot be stored",
        advice=(
            "Pulled again automatically. Open it at Formstack, and report this: submission {names}"
        ),
    ),
}


class ItemFaults:
    """The items of one place of a channel that could not be taken, in the database.

    Every method raises SQLAlchemyError when the database is away.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        channel: str,
        place: str = "",
        *,
        pause: Callable[[int], timedelta] = BACKOFF.delay,
    ) -> None:
        self._store, self._clock, self._pause = store, clock, pause
        self.channel, self.place = channel, place

    def record(self, item: str, reason: str, *, digest: str = "", soon: bool = False) -> int:
        """Remember durably that an item could not be taken; return how often it was tried.

        `soon`: it may be tried again at once.
        """
        now = self._clock()
        key = (self.channel, self.place, truncate_item_name(item))
        with self._store.transaction() as session:
            row = session.get(ItemFault, key, with_for_update=True)
            if row is None:
                row = ItemFault(channel=key[0], place=key[1], item=key[2], since=now, attempts=0)
                row.digest = digest
                session.add(row)
            row.attempts, row.last_at, row.reason = row.attempts + (not soon), now, reason
            row.not_before = now if soon else now + self._pause(row.attempts)
            if self.channel not in WORDING_BY_CHANNEL:
                _forget_settled(session, now)
            return row.attempts

    def list_pending(self) -> list[PendingRetry]:
        """Return what is to be tried again, that which may be tried first first."""
        rows = select(ItemFault).where(*self._mine()).order_by(ItemFault.not_before, ItemFault.item)
        with self._store.read_only() as session:
            return [PendingRetry(r.item, r.attempts, r.not_before) for r in session.scalars(rows)]

    def delete(self, items: Iterable[str]) -> None:
        """Forget items: they were taken, or are gone."""
        names = [truncate_item_name(item) for item in items]
        if names:
            with self._store.transaction() as session:
                session.execute(delete(ItemFault).where(*self._mine(), ItemFault.item.in_(names)))

    def delete_others(self, items: Collection[str]) -> None:
        """Forget all items but these."""
        names = {truncate_item_name(item) for item in items}
        self.delete([one.item for one in self.list_pending() if one.item not in names])

    def now(self) -> datetime:
        """Return the time that `Waiting.not_before` is held against."""
        return self._clock()

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return ItemFault.channel == self.channel, ItemFault.place == self.place


def truncate_item_name(item: str) -> str:
    """Return the name of an item as the database takes it."""
    return make_storable(item)[:MAX_ITEM_LENGTH]


def list_channel_faults(
    session: Session, now: datetime, seen: Mapping[str, datetime]
) -> list[ChannelFault]:
    """Return what cannot be taken now, one for each place of a channel, the oldest first.

    `seen` says when each mailbox was last read: one that is no longer in service needs nobody.
    """
    by_place: dict[tuple[str, str], list[ItemFault]] = {}
    stored = select(Delivery.id).where(Delivery.digest == ItemFault.digest, ItemFault.digest != "")
    for row in session.scalars(
        select(ItemFault).where(~stored.exists()).order_by(ItemFault.since, ItemFault.item)
    ):
        if now - row.last_at <= _kept(row):
            by_place.setdefault((row.channel, row.place), []).append(row)
    return sorted(
        (
            _trouble(rows, now, in_service=_in_service(seen.get(place), now))
            for (_, place), rows in by_place.items()
        ),
        key=lambda trouble: trouble.since,
    )


def _kept(row: ItemFault) -> timedelta:
    """Return how long a record stands after the last attempt."""
    if row.channel in WORDING_BY_CHANNEL:
        return timedelta.max
    return SENDER_RETRY_PERIOD if row.digest else KEEP_WITHOUT_DIGEST


def _in_service(seen: datetime | None, now: datetime) -> bool:
    return seen is None or now - seen < OUT_OF_SERVICE_AFTER


def _trouble(rows: Sequence[ItemFault], now: datetime, *, in_service: bool) -> ChannelFault:
    first, reasons = rows[0], {row.reason for row in rows}
    passes = GRACE_BY_CHANNEL.get(first.channel, timedelta())
    return ChannelFault(
        channel=first.channel,
        place=first.place,
        count=len(rows),
        since=first.since,
        reason=first.reason if len(reasons) == 1 else "",
        items=tuple(FaultyItem(row.item, row.reason) for row in rows[:MAX_SHOWN_ITEMS]),
        next_attempt=min(row.not_before for row in rows),
        needs_person=in_service and now - first.since >= passes,
    )


def _forget_settled(session: Session, now: datetime) -> None:
    """Delete the records of senders' items that were stored later.

    Or that no sender tries any more.
    """
    stored = select(Delivery.id).where(Delivery.digest == ItemFault.digest)
    senders = ItemFault.channel.not_in(WORDING_BY_CHANNEL)
    settled = delete(ItemFault).where(
        senders, stored.exists() | (ItemFault.last_at < now - SENDER_RETRY_PERIOD)
    )
    session.execute(settled, execution_options={"synchronize_session": False})


def record_unexpected_fault(
    store: Store, clock: Clock, channel: str, error: Exception, *, digest: str = ""
) -> None:
    """Record what an item did to a channel whose sender tries again, and write it into the log.

    Raises nothing: it is called where something has failed already.
    """
    log.fault(channel, error)
    place = log.describe_place(error)
    item = f"{digest[:12]} {place}".strip() if digest else place or type(error).__name__
    try:
        ItemFaults(store, clock, channel).record(
            item, describe_unexpected_error(error), digest=digest
        )
    except (SQLAlchemyError, OSError) as away:
        log.fault("item faults", away)


def describe_unexpected_error(error: BaseException) -> str:
    """Return the reason for an exception nobody foresaw: its class, never its text."""
    return f"an error of ours, {type(error).__name__}"
