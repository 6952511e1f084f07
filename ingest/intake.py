"""The one door: accept(raw bytes) stores what a listener hands over.

Reading it is another act (reading.py).
"""

import hashlib
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, cast

from sqlalchemy import Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from parsers.item import Format
from workflow.context import AppContext
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.database.text_safety import make_json_storable, make_storable
from workflow.models.core import Delivery, Receipt
from workflow.models.states import DeliveryState
from workflow.operations import item_faults
from workflow.runtime import log
from workflow.runtime.blobs import BlobStore

READ_QUEUE = "read"  # what wakes a worker for deliveries
BATCH = 50  # arrivals that share one commit at most
# large arrivals: sealing one takes seven times its size in memory, and the processors are few
MAX_SEALING = 1
MAX_REFERENCE = 800  # characters; see Receipt.reference


DELIVERIES, RECEIPTS = cast("Table", Delivery.__table__), cast("Table", Receipt.__table__)


def _insert(into: Any) -> Any:  # one clause, two classes
    fresh = into.insert(DELIVERIES).on_conflict_do_nothing(index_elements=["digest"])
    return fresh.returning(DELIVERIES.c.id, DELIVERIES.c.digest)


INSERT_DELIVERY = {"sqlite": _insert(sqlite), "postgresql": _insert(postgresql)}


class Transport(StrEnum):
    """How bytes came to us."""

    SMTP = "smtp"
    LMTP = "lmtp"
    IMAP = "imap"
    FORMSTACK = "formstack"
    BACKFILL = "backfill"  # pulled from Formstack's API, because no webhook brought it
    FOLDER = "folder"
    CONSOLE = "console"
    PIPE = "pipe"


# Whoever brings these tries again; the other channels keep a list of what they could not take
# themselves.
SENDER_RETRIES = frozenset({Transport.SMTP, Transport.LMTP, Transport.FORMSTACK, Transport.PIPE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Bytes as one door hands them over, with what the door knows of them."""

    transport: Transport
    format: Format
    raw: bytes = field(repr=False)
    envelope: dict[str, object] = field(
        default_factory=dict, repr=False
    )  # JSON: mail_from, rcpt_to[], tls, name …
    unreadable_reason: str = ""  # the door saw that it cannot be read, and why: stored as failed
    received_at: datetime | None = (
        None  # when the sender heard yes, if that was before it came to the intake
    )
    reference: str = (
        ""  # the door's own name for it: mailbox and UID, form and submission, a file's digest
    )


class Accept(Protocol):
    """What a listener needs of the intake."""

    def __call__(self, arrival: Arrival) -> int:
        """Store durably and return the delivery's id.

        Blocking, safe from any thread, safe to repeat.

        Raises SQLAlchemyError or OSError when it could not be stored: say "try again", never yes.
        """
        ...


class AcceptAll(Protocol):
    """What a listener needs of the intake that has others wait for it."""

    def __call__(self, arrivals: Sequence[Arrival]) -> "list[int | Exception]":
        """Store several durably, in one transaction if they can be.

        Of each the delivery's id, or why it is not stored.

        Blocking, safe from any thread, safe to repeat. Raises nothing: SQLAlchemyError and OSError
        are answers.
        """
        ...


class _Waiting:
    """One caller of accept, until the commit that holds its bytes."""

    def __init__(self, arrival: Arrival, vault: BlobStore) -> None:
        # Sealed and, if large, synced before the shared transaction begins: nobody waits for
        # another's 25 MB.
        self.arrival = arrival
        self.digest = hashlib.sha256(arrival.format.encode() + b"\0" + arrival.raw).hexdigest()
        self.content, self.blob = vault.store(arrival.raw)
        self.delivery = 0
        self.repeated = False
        self.error: Exception | None = None
        self.done = False

    def fail(self, error: Exception) -> None:
        self.error, self.done = _bare(error), True

    def told(self) -> int | Exception:
        """The delivery's id, or the error; it stands in the log."""
        if self.error is None:
            log.delivery_stored(self.arrival.transport, self.delivery, repeated=self.repeated)
            return self.delivery
        log.delivery_not_stored(self.arrival.transport, self.error)
        return self.error

    def outcome(self) -> int:
        """The delivery's id, or the error raised."""
        told = self.told()
        if isinstance(told, int):
            return told
        try:
            raise told
        finally:
            del told
            self.error = None  # it leads to this frame now, and must not lead on to itself


class Intake:
    """Stores arrivals.

    Callers that wait at the same time share one synced transaction (group commit).
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._queue: list[_Waiting] = []
        self._queueing = threading.Lock()
        self._committing = threading.Lock()
        self._waking = threading.Lock()
        self._unwoken = False
        self._sealing = threading.BoundedSemaphore(MAX_SEALING)

    def accept(self, arrival: Arrival) -> int:
        """Store durably and return the delivery's id.

        A repeat of the same bytes gives the id they have.

        Raises SQLAlchemyError or OSError when it could not be stored, or when it is not known
        whether it was.
        """
        large = len(arrival.raw) > self._context.settings.inline_limit
        with self._sealing if large else nullcontext():
            mine = self._seal(arrival)
        with self._queueing:
            self._queue.append(mine)
        with self._committing:  # the first one in commits for all who queued meanwhile
            while not mine.done:  # more than one batch may stand before mine
                with self._queueing:
                    batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                if not batch:
                    raise OSError("the commit this arrival was part of was interrupted")
                self._commit(batch)
        self._wake()
        self._report(mine)
        return mine.outcome()

    def accept_all(self, arrivals: Sequence[Arrival]) -> list[int | Exception]:
        """Store several durably, in one transaction if they can be.

        Of each the delivery's id, or why it is not stored.

        For small ones: they are sealed one after the other. Safe to repeat.
        """
        ones = [self._sealed_or_error(arrival) for arrival in arrivals]
        waiting = [one for one in ones if isinstance(one, _Waiting)]
        with self._committing:
            for at in range(0, len(waiting), BATCH):
                self._commit(waiting[at : at + BATCH])
        self._wake()
        for one in waiting:
            self._report(one)
        return [one.told() if isinstance(one, _Waiting) else one for one in ones]

    def _sealed_or_error(self, arrival: Arrival) -> "_Waiting | Exception":
        try:
            return self._seal(arrival)
        # OSError: a blob cannot be written; else this one's own fault
        except Exception as error:  # noqa: BLE001
            return error

    def _seal(self, arrival: Arrival) -> "_Waiting":
        try:
            return _Waiting(arrival, self._context.blob_store)
        except OSError:
            raise
        except Exception as error:
            self._report_fault(arrival, error)
            raise

    def _report(self, one: "_Waiting") -> None:
        """Have `intake status` name an arrival that was refused for its own sake.

        Its sender hears "try again".
        """
        if one.error is not None and not isinstance(one.error, (*DATABASE_UNAVAILABLE, OSError)):
            self._report_fault(one.arrival, one.error, one.digest)

    def _report_fault(self, arrival: Arrival, error: Exception, digest: str = "") -> None:
        if arrival.transport in SENDER_RETRIES:
            item_faults.record_unexpected_fault(
                self._context.store, self._context.clock, arrival.transport, error, digest=digest
            )

    def _wake(self) -> None:
        """Hint that something was stored, once for all who did meanwhile.

        Nobody who still stores waits for it.
        """
        while self._unwoken and self._waking.acquire(blocking=False):
            try:
                self._unwoken = False
                self._context.store.notify(READ_QUEUE)
            finally:
                self._waking.release()

    def _commit(self, batch: list[_Waiting]) -> None:
        try:
            self._together(batch)
        # whatever it was, everyone who waits here must hear of it
        except Exception as error:  # noqa: BLE001
            if len(batch) > 1 and not isinstance(error, DATABASE_UNAVAILABLE):
                self._one_by_one(batch)
                return
            for one in (
                batch
            ):  # the database is away: asking once for each would keep them waiting as many times
                one.fail(error)

    def _one_by_one(self, batch: list[_Waiting]) -> None:
        """Store each by itself: one bad arrival must not refuse the others."""
        for at, one in enumerate(batch):
            self._commit([one])
            if isinstance(one.error, DATABASE_UNAVAILABLE):
                for other in batch[at + 1 :]:
                    other.fail(one.error)
                return

    def _together(self, batch: list[_Waiting]) -> None:
        now = self._context.clock()
        with self._context.store.transaction() as session:
            _store(session, batch, now)
        self._unwoken = True
        for one in batch:
            one.done = True


def _bare(error: Exception) -> Exception:
    """The error without tracebacks and parameters.

    They hold the bytes of the whole batch, in circles.

    Nothing but the collector undoes those, and it does not count how large they are.
    """
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        if isinstance(one, StatementError):
            one.params = None
        one = one.__cause__ or one.__context__
    return error


def _store(session: Session, batch: list[_Waiting], now: datetime) -> None:
    """Write a batch in three statements, however many wait.

    The unique digest says which bytes were here before.
    """
    firsts = {one.digest: one for one in reversed(batch)}
    # In one order whoever inserts: two doors with the same bytes in two orders would wait for each
    # other.
    fresh = _insert_new(session, sorted(firsts.values(), key=lambda one: one.digest), now)
    again = [one for one in batch if one is not firsts[one.digest] or one.digest not in fresh]
    known = {}
    if again:
        rows = session.scalars(
            select(Delivery).where(Delivery.digest.in_([one.digest for one in again]))
        )
        known = {d.digest: d for d in rows}
    for one in batch:
        one.repeated = one in again
        one.delivery = known[one.digest].id if one.repeated else fresh[one.digest]
    for one in again:
        _look_again(known[one.digest], one.arrival, now)
    receipts = [
        {
            "delivery_id": one.delivery,
            "transport": one.arrival.transport,
            "at": now,
            "repeated": one.repeated,
            "reference": make_storable(one.arrival.reference)[:MAX_REFERENCE],
        }
        for one in batch
    ]
    session.connection().execute(RECEIPTS.insert(), receipts)


def _insert_new(session: Session, ones: list[_Waiting], now: datetime) -> dict[str, int]:
    """Insert what is not there yet.

    The digests that were new, with the number each delivery got.
    """
    rows = [
        {
            "transport": one.arrival.transport,
            "format": one.arrival.format,
            "digest": one.digest,
            "content": one.content,
            "blob": one.blob,
            "size": len(one.arrival.raw),
            "envelope": make_json_storable(one.arrival.envelope),
            "received_at": one.arrival.received_at or now,
            "not_before": now,
            "state": DeliveryState.FAILED
            if one.arrival.unreadable_reason
            else DeliveryState.PENDING,
            "reason": one.arrival.unreadable_reason,
            "items": 1,
            "attempts": 0,
        }
        for one in ones
    ]
    # Rows beside the statement, not in it: it is written once then, and not anew for each number of
    # rows.
    found = session.connection().execute(INSERT_DELIVERY[session.get_bind().dialect.name], rows)
    return {digest: number for number, digest in found}


def _look_again(known: Delivery, arrival: Arrival, now: datetime) -> None:
    """Have failed bytes read once more when they are handed over once more.

    Someone took the trouble.
    """
    if known.state is DeliveryState.FAILED and not arrival.unreadable_reason:
        known.state, known.not_before, known.attempts = DeliveryState.PENDING, now, 0
