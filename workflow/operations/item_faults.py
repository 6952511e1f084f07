"""Items that a channel could not take.

A fault of one item must not stop the others: the channel records it here, leaves the item where it
is and goes on with the next one. The records are the list of items to try again, so they survive a
restart, and they are shown by `intake status` and on the Operations page.

There are two kinds of channels. Mailboxes, the folder and the pull of forms retry themselves, with
backoff, and delete the record once the item is taken. At SMTP, LMTP, the webhook and the pipe the
sender retries: there the record carries the digest of the bytes, and is settled once a delivery has
the same digest. A fault before any bytes were received is recorded by its place in our code, and
kept for a day.
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
SENDER_RETRY_PERIOD = timedelta(days=5)  # RFC 5321 §4.5.4.1: senders retry for so long
KEEP_WITHOUT_DIGEST = timedelta(days=1)
# How long a fault may last before a person is needed: a mail server that restarts comes back by
# itself.
GRACE_BY_CHANNEL = {"imap": timedelta(minutes=5)}
# A mailbox not seen for so long was taken out of service on purpose.
OUT_OF_SERVICE_AFTER = timedelta(days=7)
MAX_SHOWN_ITEMS = 5
MAX_ITEM_LENGTH = 300  # characters; see ItemFault.item


@dataclass(frozen=True, slots=True)
class PendingRetry:
    """An item to try again, and when; `message_id` is that of a mail, "" where not known."""

    item: str
    attempts: int
    not_before: datetime
    message_id: str = ""

    def is_due(self, now: datetime) -> bool:
        """Return whether it may be tried now, also after the clock has jumped back."""
        return not now < self.not_before <= now + BACKOFF.maximum + CLOCK_TOLERANCE


@dataclass(frozen=True, slots=True)
class FaultyItem:
    """Name of an item that cannot be taken, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChannelFault:
    """Items that one place of a channel cannot take: a mailbox, the folder, a form, a listener.

    `reason` is that of all items, "" where they differ; `items` are the first few of `count`.
    """

    channel: str
    place: str
    count: int
    since: datetime
    reason: str
    items: tuple[FaultyItem, ...]
    next_attempt: datetime
    needs_person: bool  # it has lasted longer than what passes by itself

    @property
    def display_place(self) -> str:
        """Return the place as shown to people; "" where the channel has only one."""
        return self.place if "{place}" in self._wording.place else ""

    @property
    def description(self) -> str:
        """Return the fault, since when it lasts, and what to do about it, in one line."""
        wording = self._wording
        items = [
            item.name if self.reason else f"{item.name} ({item.reason})" for item in self.items
        ]
        names = ", ".join(items) + (", …" if self.count > len(items) else "")
        fault = wording.singular if self.count == 1 else wording.plural.format(count=self.count)
        reason = f" ({self.reason})" if self.reason else ""
        return (
            f"{wording.place.format(place=self.place, channel=self.channel)}: {fault} since "
            f"{self.since:%Y-%m-%d %H:%M} UTC{reason}. "
            f"{wording.advice.format(names=names, remedy=_find_remedy(self.place))}"
        )

    @property
    def _wording(self) -> "FaultWording":
        return WORDING_BY_CHANNEL.get(self.channel, DEFAULT_WORDING)


@dataclass(frozen=True, slots=True)
class FaultWording:
    """Texts that describe the faults of a channel.

    Placeholders: {channel} and {place} in `place`, {count} in `plural`, {names} of the items and
    {remedy} of the place in `advice`.
    """

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
# Channels of what was refused: their count is that of attempts, and they end by themselves.
REFUSED_FORM, REFUSED_MAIL = "refused form", "refused mail"
REFUSAL_LIFETIMES = {REFUSED_FORM: timedelta(days=2), REFUSED_MAIL: timedelta(days=1)}
# What to do about refusals, by the place of their record (`refusals`).
REMEDIES = {
    "401 no signature": (
        "Set an HMAC key at the webhook in Formstack, the same as INTAKE_FORMSTACK_KEY, unless"
        " strangers sent them"
    ),
    "401 signature": (
        "The key at Formstack's webhook and INTAKE_FORMSTACK_KEY (or that of the form in"
        " intake.toml) are not the same: set both to one key"
    ),
    "401 key of the form": "Sign them with the key under [form.ID] in intake.toml, or correct it",
    "413": "Let the webhook send links instead of files, or raise INTAKE_WEBHOOK_LIMIT",
    "415": (
        "Set the content type of the webhook to JSON or urlencoded; what was signed is among the"
        " failed deliveries"
    ),
    "503 no key": "Set INTAKE_FORMSTACK_KEY to the HMAC key of the webhook",
    "smtp 550 5.7.1": (
        "They are for a domain that is not ours: if customers write there, add it to"
        " INTAKE_ADDRESSES; else strangers have tried to send through this server"
    ),
    "smtp 550 5.6.11": "Ask the sender to correct the mail program, which breaks lines wrongly",
    "smtp 550": (
        "If customers write to another address of yours, add it to INTAKE_ADDRESSES; else it is"
        " somebody's mistake, or spam"
    ),
    "lmtp 550": "Add the address to INTAKE_ADDRESSES, or let the mail server refuse it itself",
    "smtp 552": "Raise INTAKE_MAIL_LIMIT, or ask for smaller files",
    "lmtp 552": "Raise INTAKE_MAIL_LIMIT, or set a lower limit at the mail server",
    "smtp 554": "A mail goes round between two servers: look at the forwarding rules",
    "lmtp 554": "A mail goes round between two servers: look at the forwarding rules",
}
_REFUSED = "{count} were refused"
_FETCH = ". Once that is done, `intake backfill --once` fetches the forms that are missing."
WORDING_BY_CHANNEL = {
    REFUSED_FORM: FaultWording(
        place="forms (webhook)",
        singular="1 was refused",
        plural=_REFUSED,
        advice=f"{{remedy}}{_FETCH}",
    ),
    REFUSED_MAIL: FaultWording(
        place="mail ({place})", singular="1 was refused", plural=_REFUSED, advice="{remedy}."
    ),
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
            "Left where it is and tried again automatically. Correct it or take it out of the"
            " folder: {names}"
        ),
    ),
    "watched folder": FaultWording(
        place="Excel folder",
        singular="it cannot be read",
        plural="it cannot be read",
        advice=(
            "No file is taken. Put it back or mount it, or set INTAKE_FOLDER to its new place and"
            " start `intake folder` again: {names}"
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


def _find_remedy(place: str) -> str:
    """Return what to do about refusals at a place, by the beginning of its name; "" for none."""
    return next((remedy for name, remedy in REMEDIES.items() if place.startswith(name)), "")


class ItemFaults:
    """Records of the items that one place of a channel could not take.

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

    def record(
        self,
        item: str,
        reason: str,
        *,
        digest: str = "",
        message_id: str = "",
        soon: bool = False,
        count: int = 1,
    ) -> int:
        """Record that an item could not be taken; return how often it was tried.

        With `soon` it may be tried again at once, and the attempt does not count. `count` is the
        number of refusals since the last record. Those that ended are counted anew. The Message-ID
        of an earlier record stays where none is given.
        """
        now = self._clock()
        key = (self.channel, self.place, truncate_item_name(item))
        with self._store.transaction() as session:
            row = session.get(ItemFault, key, with_for_update=True)
            if row is None:
                row = ItemFault(channel=key[0], place=key[1], item=key[2], since=now, attempts=0)
                row.digest = digest
                session.add(row)
            elif self.channel in REFUSAL_LIFETIMES and now - row.last_at > _get_lifetime(row):
                row.since, row.attempts = now, 0
            row.attempts += 0 if soon else count
            row.last_at, row.reason = now, reason
            row.message_id = make_storable(message_id) or row.message_id or ""
            row.not_before = now if soon else now + self._pause(row.attempts)
            if self.channel not in WORDING_BY_CHANNEL:
                _delete_settled(session, now)
            return row.attempts

    def list_pending(self) -> list[PendingRetry]:
        """Return the items to try again, the earliest first."""
        rows = (
            select(ItemFault)
            .where(*self._match_place())
            .order_by(ItemFault.not_before, ItemFault.item)
        )
        with self._store.read_only() as session:
            return [
                PendingRetry(r.item, r.attempts, r.not_before, r.message_id)
                for r in session.scalars(rows)
            ]

    def delete(self, items: Iterable[str]) -> None:
        """Delete the records of items that were taken, or are gone."""
        names = [truncate_item_name(item) for item in items]
        if names:
            with self._store.transaction() as session:
                session.execute(
                    delete(ItemFault).where(*self._match_place(), ItemFault.item.in_(names))
                )

    def delete_others(self, items: Collection[str]) -> None:
        """Delete the records of all items but these."""
        names = {truncate_item_name(item) for item in items}
        self.delete([one.item for one in self.list_pending() if one.item not in names])

    def get_time(self) -> datetime:
        """Return the time to compare `PendingRetry.not_before` with."""
        return self._clock()

    def _match_place(self) -> tuple[ColumnElement[bool], ...]:
        return ItemFault.channel == self.channel, ItemFault.place == self.place


def truncate_item_name(item: str) -> str:
    """Return the name of an item in the length and characters that the database takes."""
    return make_storable(item)[:MAX_ITEM_LENGTH]


def list_channel_faults(
    session: Session, now: datetime, last_seen: Mapping[str, datetime]
) -> list[ChannelFault]:
    """Return the faults that last, one for each place of a channel, the oldest first.

    `last_seen` is when each mailbox was last read: one taken out of service needs nobody.
    """
    stored = select(Delivery.id).where(Delivery.digest == ItemFault.digest, ItemFault.digest != "")
    unsettled = select(ItemFault).where(~stored.exists()).order_by(ItemFault.since, ItemFault.item)
    by_place: dict[tuple[str, str], list[ItemFault]] = {}
    for row in session.scalars(unsettled):
        if now - row.last_at <= _get_lifetime(row):
            by_place.setdefault((row.channel, row.place), []).append(row)
    faults = (
        _build_fault(rows, now, in_service=_is_in_service(last_seen.get(place), now))
        for (_, place), rows in by_place.items()
    )
    return sorted(faults, key=lambda fault: fault.since)


def _get_lifetime(row: ItemFault) -> timedelta:
    """Return how long a record counts after the last attempt."""
    if row.channel in REFUSAL_LIFETIMES:
        return REFUSAL_LIFETIMES[row.channel]
    if row.channel in WORDING_BY_CHANNEL:
        return timedelta.max
    return SENDER_RETRY_PERIOD if row.digest else KEEP_WITHOUT_DIGEST


def _is_in_service(last_seen: datetime | None, now: datetime) -> bool:
    return last_seen is None or now - last_seen < OUT_OF_SERVICE_AFTER


def _build_fault(rows: Sequence[ItemFault], now: datetime, *, in_service: bool) -> ChannelFault:
    first, reasons = rows[0], {row.reason for row in rows}
    grace = GRACE_BY_CHANNEL.get(first.channel, timedelta())
    return ChannelFault(
        channel=first.channel,
        place=first.place,
        count=sum(row.attempts for row in rows)
        if first.channel in REFUSAL_LIFETIMES
        else len(rows),
        since=first.since,
        reason=first.reason if len(reasons) == 1 else "",
        items=tuple(FaultyItem(row.item, row.reason) for row in rows[:MAX_SHOWN_ITEMS]),
        next_attempt=min(row.not_before for row in rows),
        needs_person=in_service and now - first.since >= grace,
    )


def _delete_settled(session: Session, now: datetime) -> None:
    """Delete the records of senders' items that were stored since, or are not retried any more."""
    stored = select(Delivery.id).where(Delivery.digest == ItemFault.digest)
    senders = ItemFault.channel.not_in(WORDING_BY_CHANNEL)
    settled = delete(ItemFault).where(
        senders, stored.exists() | (ItemFault.last_at < now - SENDER_RETRY_PERIOD)
    )
    session.execute(settled, execution_options={"synchronize_session": False})


def record_unexpected_fault(
    store: Store, clock: Clock, channel: str, error: Exception, *, digest: str = ""
) -> None:
    """Record and log an unexpected error of a channel whose sender retries.

    Never raises, because it is called where something has failed already.
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
    """Return the reason text of an unexpected exception: its class, never its own text.

    The text may quote patient data.
    """
    return f"an error of ours, {type(error).__name__}"
