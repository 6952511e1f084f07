"""Store what a channel hands over: `accept` commits the bytes before the sender is acknowledged.

Parsing the stored bytes is a later, separate step (`ingest.processing.process`).
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

READ_QUEUE = "read"  # the workers' queue for deliveries
BATCH = 50  # arrivals that share one commit at most
# Large arrivals sealed side by side: each takes twice its size in memory beside its own bytes.
MAX_SEALING = 3
MAX_REFERENCE = 800  # characters; see Receipt.reference


DELIVERIES, RECEIPTS = cast("Table", Delivery.__table__), cast("Table", Receipt.__table__)


def _insert(into: Any) -> Any:
    """Return the INSERT of new deliveries for one dialect; a known digest inserts nothing."""
    new_rows = into.insert(DELIVERIES).on_conflict_do_nothing(index_elements=["digest"])
    return new_rows.returning(DELIVERIES.c.id, DELIVERIES.c.digest)


INSERT_DELIVERY = {"sqlite": _insert(sqlite), "postgresql": _insert(postgresql)}


class Transport(StrEnum):
    """Channel that the bytes of a delivery came by."""

    SMTP = "smtp"
    LMTP = "lmtp"
    IMAP = "imap"
    FORMSTACK = "formstack"
    BACKFILL = "backfill"  # pulled from Formstack's API, because no webhook brought it
    FOLDER = "folder"
    CONSOLE = "console"
    PIPE = "pipe"


# The senders of these try again; the other channels keep a list of what they could not take.
SENDER_RETRIES = frozenset({Transport.SMTP, Transport.LMTP, Transport.FORMSTACK, Transport.PIPE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Bytes as a channel hands them over, with what the channel knows about them."""

    transport: Transport
    format: Format
    raw: bytes = field(repr=False)
    # JSON: mail_from, rcpt_to[], tls, name …
    envelope: dict[str, object] = field(default_factory=dict, repr=False)
    unreadable_reason: str = ""  # why the channel finds it unreadable: stored as failed
    # when the sender was acknowledged, where that was before (a form in the local spool)
    received_at: datetime | None = None
    # the channel's own name for it: mailbox and UID, form and submission, a file's digest
    reference: str = ""


class Accept(Protocol):
    """Signature of `Intake.accept`, as the listeners need it."""

    def __call__(self, arrival: Arrival) -> int:
        """Store an arrival durably and return the delivery's id.

        Blocking, safe from any thread, safe to repeat. Raises SQLAlchemyError or OSError when it
        could not be stored: the caller must then ask its sender to try again and never acknowledge.
        """
        ...


class AcceptAll(Protocol):
    """Signature of `Intake.accept_all`, as the webhook needs it."""

    def __call__(self, arrivals: Sequence[Arrival]) -> "list[int | Exception]":
        """Store several arrivals durably, in one transaction if possible.

        Returns for each arrival, in order, the delivery's id or the reason why it is not stored.
        Blocking, safe from any thread, safe to repeat. Raises nothing: SQLAlchemyError and OSError
        are among the answers.
        """
        ...


class _PendingArrival:
    """An arrival whose caller waits for the commit that holds its bytes."""

    def __init__(self, arrival: Arrival, blob_store: BlobStore) -> None:
        # Sealed and, if large, synced before the shared transaction begins: nobody waits for
        # another's 25 MB.
        self.arrival = arrival
        digest = hashlib.sha256(arrival.format.encode() + b"\0")
        digest.update(arrival.raw)
        self.digest = digest.hexdigest()
        self.content, self.blob = blob_store.store(arrival.raw, self.digest)
        self.delivery = 0
        self.is_repeated = False
        self.error: Exception | None = None
        self.is_done = False

    def fail(self, error: Exception) -> None:
        """Record that the arrival was not stored; the caller gets this error."""
        self.error, self.is_done = _strip_error(error), True

    def log_result(self) -> int | Exception:
        """Return the delivery's id or the error, and log which of them it is."""
        if self.error is None:
            log.delivery_stored(self.arrival.transport, self.delivery, repeated=self.is_repeated)
            return self.delivery
        log.delivery_not_stored(self.arrival.transport, self.error)
        return self.error

    def get_id_or_raise(self) -> int:
        """Return the delivery's id. Raises the error that kept the arrival from being stored."""
        result = self.log_result()
        if isinstance(result, int):
            return result
        try:
            raise result
        finally:
            del result
            self.error = None  # it leads to this frame now, and must not lead on to itself


class Intake:
    """Stores arrivals in the database.

    Callers that wait at the same time share one synced transaction (group commit).
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._queue: list[_PendingArrival] = []
        self._queueing = threading.Lock()
        self._committing = threading.Lock()
        self._notifying = threading.Lock()
        self._must_notify = False
        self._sealing = threading.BoundedSemaphore(MAX_SEALING)

    def accept(self, arrival: Arrival) -> int:
        """Store an arrival durably and return the delivery's id.

        The same bytes again give the id they have. Raises SQLAlchemyError or OSError when the
        arrival could not be stored, or when it is not known whether it was.
        """
        large = len(arrival.raw) > self._context.settings.inline_limit
        with self._sealing if large else nullcontext():
            pending = self._seal(arrival)
        with self._queueing:
            self._queue.append(pending)
        with self._committing:  # the first one in commits for all who queued meanwhile
            while not pending.is_done:  # more than one batch may be queued before it
                with self._queueing:
                    batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                if not batch:
                    raise OSError("the commit this arrival was part of was interrupted")
                self._commit(batch)
        self._notify_workers()
        self._report_refused(pending)
        return pending.get_id_or_raise()

    def accept_all(self, arrivals: Sequence[Arrival]) -> list[int | Exception]:
        """Store several arrivals durably, in one transaction if possible.

        Returns for each, in order, the delivery's id or the reason why it is not stored. Meant for
        small arrivals, which are sealed one after the other. Safe to repeat.
        """
        results = [self._try_seal(arrival) for arrival in arrivals]
        waiting = [one for one in results if isinstance(one, _PendingArrival)]
        with self._committing:
            for at in range(0, len(waiting), BATCH):
                self._commit(waiting[at : at + BATCH])
        self._notify_workers()
        for one in waiting:
            self._report_refused(one)
        return [one.log_result() if isinstance(one, _PendingArrival) else one for one in results]

    def _try_seal(self, arrival: Arrival) -> "_PendingArrival | Exception":
        """Seal an arrival; return the error when that does not work."""
        try:
            return self._seal(arrival)
        # OSError: a blob cannot be written; else this one's own fault
        except Exception as error:  # noqa: BLE001
            return error

    def _seal(self, arrival: Arrival) -> "_PendingArrival":
        """Seal an arrival's bytes. Raises OSError when a blob cannot be written."""
        try:
            return _PendingArrival(arrival, self._context.blob_store)
        except OSError:
            raise
        except Exception as error:
            self._report_fault(arrival, error)
            raise

    def _report_refused(self, one: "_PendingArrival") -> None:
        """Report an arrival that was refused because of its own content.

        `intake status` names it; its sender is asked to try again.
        """
        if one.error is not None and not isinstance(one.error, (*DATABASE_UNAVAILABLE, OSError)):
            self._report_fault(one.arrival, one.error, one.digest)

    def _report_fault(self, arrival: Arrival, error: Exception, digest: str = "") -> None:
        """Record a fault of one arrival, unless its channel keeps a list of faults itself."""
        if arrival.transport in SENDER_RETRIES:
            item_faults.record_unexpected_fault(
                self._context.store, self._context.clock, arrival.transport, error, digest=digest
            )

    def _notify_workers(self) -> None:
        """Notify the workers that something was stored, once for all arrivals stored meanwhile.

        Nobody who still stores waits for the notification.
        """
        while self._must_notify and self._notifying.acquire(blocking=False):
            try:
                self._must_notify = False
                self._context.store.notify(READ_QUEUE)
            finally:
                self._notifying.release()

    def _commit(self, batch: list[_PendingArrival]) -> None:
        """Store a batch in one transaction.

        Every arrival in it is stored or has its error afterwards.
        """
        try:
            self._commit_together(batch)
        # whatever it was, every caller that waits here must get it
        except Exception as error:  # noqa: BLE001
            if len(batch) > 1 and not isinstance(error, DATABASE_UNAVAILABLE):
                self._commit_one_by_one(batch)
                return
            for one in batch:
                # the database is away: asking once for each would keep them waiting as many times
                one.fail(error)

    def _commit_one_by_one(self, batch: list[_PendingArrival]) -> None:
        """Store each arrival in its own transaction: one bad arrival must not refuse the others."""
        for at, one in enumerate(batch):
            self._commit([one])
            if isinstance(one.error, DATABASE_UNAVAILABLE):
                for other in batch[at + 1 :]:
                    other.fail(one.error)
                return

    def _commit_together(self, batch: list[_PendingArrival]) -> None:
        """Store a batch in one transaction. Raises what the database raises."""
        now = self._context.clock()
        with self._context.store.transaction() as session:
            _store(session, batch, now)
        self._must_notify = True
        for one in batch:
            one.is_done = True


def _strip_error(error: Exception) -> Exception:
    """Return the error without tracebacks and parameters.

    They hold the bytes of the whole batch, in reference cycles. Only the garbage collector undoes
    those, and it does not count how large they are.
    """
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        if isinstance(cause, StatementError):
            cause.params = None
        cause = cause.__cause__ or cause.__context__
    return error


def _store(session: Session, batch: list[_PendingArrival], now: datetime) -> None:
    """Write a batch in three statements, however many arrivals wait.

    The unique digest shows which bytes were here before.
    """
    first_by_digest = {one.digest: one for one in reversed(batch)}
    # Sorted, so that all processes insert in one order: two that insert the same digests in
    # different orders would wait for each other.
    new_ids = _insert_new(
        session, sorted(first_by_digest.values(), key=lambda one: one.digest), now
    )
    repeats = [
        one for one in batch if one is not first_by_digest[one.digest] or one.digest not in new_ids
    ]
    deliveries_by_digest = {}
    if repeats:
        rows = session.scalars(
            select(Delivery).where(Delivery.digest.in_([one.digest for one in repeats]))
        )
        deliveries_by_digest = {d.digest: d for d in rows}
    for one in batch:
        one.is_repeated = one in repeats
        one.delivery = (
            deliveries_by_digest[one.digest].id if one.is_repeated else new_ids[one.digest]
        )
    for one in repeats:
        delivery = deliveries_by_digest[one.digest]
        _requeue_failed(delivery, one.arrival, now)
        if delivery.blob is not None and one.blob is not None:
            # The same bytes; 0.1.0 named them otherwise, and its blob may be gone.
            delivery.blob = one.blob
    receipts = [
        {
            "delivery_id": one.delivery,
            "transport": one.arrival.transport,
            "at": now,
            "repeated": one.is_repeated,
            "reference": make_storable(one.arrival.reference)[:MAX_REFERENCE],
        }
        for one in batch
    ]
    session.connection().execute(RECEIPTS.insert(), receipts)


def _insert_new(session: Session, arrivals: list[_PendingArrival], now: datetime) -> dict[str, int]:
    """Insert the deliveries that are new; return their ids by digest."""
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
        for one in arrivals
    ]
    # Rows beside the statement, not in it: it is compiled once, not for each number of rows.
    new_rows = session.connection().execute(INSERT_DELIVERY[session.get_bind().dialect.name], rows)
    return {digest: number for number, digest in new_rows}


def _requeue_failed(delivery: Delivery, arrival: Arrival, now: datetime) -> None:
    """Process failed bytes once more, since somebody has handed them over again."""
    if delivery.state is DeliveryState.FAILED and not arrival.unreadable_reason:
        delivery.state, delivery.not_before, delivery.attempts = DeliveryState.PENDING, now, 0
