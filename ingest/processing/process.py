"""Process stored deliveries: parse and file them, or mark them failed with the reason."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import NamedTuple

from sqlalchemy import Update, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, defer

from ingest.imap.unfetched import reject_mail_url
from ingest.intake import READ_QUEUE
from ingest.parser_options import load_parser_options
from ingest.processing import parser_pool
from ingest.processing.parser_pool import Frame, ParserAnswer, ParserBugError, ParserEndedError
from parsers.item import Format, ParseError
from workflow.context import AppContext
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.database.visibility import DELIVERY_VISIBILITY_TIMEOUT, is_visible
from workflow.filing import sheet_counts
from workflow.filing.bulk import PendingItem, file_pending
from workflow.models.core import Delivery, Filing
from workflow.models.states import DeliveryState
from workflow.runtime import log

MAX_ATTEMPTS = 3  # then it is failed: a person sees it, and it is not tried for ever
RETRY_DELAY = timedelta(seconds=10)  # until the second attempt; twice as long until the third
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
# the time that items wait for the one before them, so that they are filed in order
PATIENCE_SECONDS = 0.5
POLL_SECONDS = 0.05
# Deliveries claimed for each free parser: they are parsed ahead, and filed several at once.
AHEAD_PER_PARSER = 16
BATCH = 50  # deliveries filed in one transaction
# frames filed in one transaction: channels wait for it, but not for a workbook of 100,000 rows
FRAMES_PER_COMMIT = 5
PROGRESS_SECONDS = 5.0  # between two log lines about a delivery that takes long
# the database, a blob store or a process is away: not the item's fault
OUTAGES = (*DATABASE_UNAVAILABLE, OSError)


class _Claim(NamedTuple):
    """A delivery taken up for processing.

    `attempts` includes this one; `filed_count` counts the items that an earlier attempt has filed.
    """

    number: int
    attempts: int  # this one included
    transport: str
    format: Format
    content: bytes | None
    blob: str | None
    filed_count: int  # items that an earlier attempt has filed

    @property
    def is_suspect(self) -> bool:
        """Return whether an earlier attempt did not come to its end."""
        return self.attempts > 1

    @property
    def is_large(self) -> bool:
        """Return whether its bytes are in the blob store, and the parsed item is large, too."""
        return self.blob is not None


@dataclass
class _InProgress:
    """A claimed delivery, whose answer comes from a parser."""

    claim: _Claim
    answer: Future[ParserAnswer] = field(default_factory=Future, repr=False)

    @property
    def is_small(self) -> bool:
        """Return whether it is parsed completely, into one frame, and can be filed with others.

        Storing the files of a large one would keep the database from everybody else.
        """
        return (
            self.claim.format is not Format.SECURE_MESSAGE
            and not self.claim.is_large
            and not self.claim.is_suspect
            and self.answer.done()
            and self.answer.exception() is None
        )


class _ParseQueue:
    """Claimed deliveries that wait for a free parser, which takes the next one by itself."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._waiting: deque[_InProgress] = deque()
        # Reentrant: without a pool, parsing ends before `begin_parsing` returns.
        self._lock = threading.RLock()

    def add(self, claim: _Claim) -> _InProgress:
        """Queue a delivery."""
        one = _InProgress(claim)
        with self._lock:
            self._waiting.append(one)
        self._begin_next()
        return one

    def cancel_from(self, first: _InProgress) -> list[_Claim]:
        """Remove and return a delivery and all behind it; none when a parser has begun it."""
        with self._lock:
            if not (self._waiting and self._waiting[0] is first):
                return []
            claims = [one.claim for one in self._waiting]
            self._waiting.clear()
        return claims

    def _begin_next(self) -> None:
        with self._lock:
            while self._waiting and parser_pool.count_free_parsers():
                one = self._waiting.popleft()
                answer = _begin_parsing(self._context, one.claim)
                answer.add_done_callback(partial(self._pass_on, one))

    def _pass_on(self, one: _InProgress, future: Future[ParserAnswer]) -> None:
        error = future.exception()
        if error is not None:
            one.answer.set_exception(error)
        else:
            one.answer.set_result(future.result())
        self._begin_next()


def process_waiting(context: AppContext) -> int:
    """Process pending deliveries, oldest first, for about five seconds; return how many were tried.

    Workers are notified when some are left. Items are parsed side by side and filed in the order
    they came, those that are ready in one transaction. One that keeps its parser busy is filed when
    it is ready, without delaying those behind it.
    """
    latest, count = time.monotonic() + SLICE_SECONDS, 0
    parse_queue = _ParseQueue(context)
    in_progress: deque[_InProgress] = deque()
    while True:
        is_late = time.monotonic() >= latest
        if not is_late:
            parsers = parser_pool.count_free_parsers()
            large = sum(one.claim.is_large for one in in_progress)
            claims = _claim(
                context, parsers * AHEAD_PER_PARSER - len(in_progress), max_large=parsers - large
            )
            in_progress.extend(parse_queue.add(claim) for claim in claims)
        if not in_progress:
            break
        count += _file_next(context, in_progress, parse_queue)
    if is_late:
        context.store.notify(READ_QUEUE)
    return count


def process_delivery(context: AppContext, number: int, patience: float = 0.0) -> None:
    """Process one delivery now: its items are filed, or it is failed with its reason.

    One that another process works on is left to it, and waited for up to `patience` seconds. A
    fault that is not the delivery's (the database away, a bug) leaves it pending until it has been
    tried three times; then it is failed too, so that a person sees it.
    """
    until = time.monotonic() + patience
    while (
        (claim := _claim_one(context, number)) is None
        and _is_pending(context, number)
        and time.monotonic() < until
    ):
        time.sleep(POLL_SECONDS)
    if claim is not None:
        in_progress = _InProgress(claim, _begin_parsing(context, claim))
        wait([in_progress.answer])
        _settle(context, in_progress)


def _claim_one(context: AppContext, number: int) -> _Claim | None:
    """Take up one delivery; None when it is not pending or another process has it."""
    pending = (Delivery.id == number, Delivery.state == DeliveryState.PENDING)
    with context.store.transaction() as session:
        now = context.clock()
        delivery = session.scalar(
            select(Delivery)
            .where(*pending, is_visible(Delivery.not_before, now, DELIVERY_VISIBILITY_TIMEOUT))
            .with_for_update()
        )
        return _count_attempt(context, session, delivery) if delivery is not None else None


def _is_pending(context: AppContext, number: int) -> bool:
    """Return whether the delivery is pending."""
    with context.store.read_only() as session:
        return (
            session.scalar(select(Delivery.state).where(Delivery.id == number))
            is DeliveryState.PENDING
        )


def _claim(context: AppContext, most: int, max_large: int = 1) -> list[_Claim]:
    """Take up at most so many deliveries, and so many large ones: each is held in memory.

    Those that have been tried before come last, and one at a time.
    """
    if most <= 0:
        return []
    now, suspects = context.clock(), 1 if parser_pool.has_spare_parser() else 0
    waiting = select(Delivery).where(
        Delivery.state == DeliveryState.PENDING,
        is_visible(Delivery.not_before, now, DELIVERY_VISIBILITY_TIMEOUT),
    )
    oldest = waiting.order_by(Delivery.attempts, Delivery.id).with_for_update(skip_locked=True)
    with context.store.transaction() as session:
        deliveries = _limit_large_deliveries(list(session.scalars(oldest.limit(most))), max_large)
        retries = [d for d in deliveries if d.attempts]
        return [
            _count_attempt(context, session, d) for d in deliveries if d not in retries[suspects:]
        ]


def _limit_large_deliveries(deliveries: list[Delivery], most: int) -> list[Delivery]:
    """Return the deliveries before the first large one that is too many, to keep their order."""
    large = 0
    for at, delivery in enumerate(deliveries):
        large += delivery.blob is not None
        if large > most:
            return deliveries[:at]
    return deliveries


def _count_attempt(context: AppContext, session: Session, delivery: Delivery) -> _Claim:
    """Count the attempt before it is made, so that a crash is remembered."""
    delivery.attempts = delivery.attempts + 1
    delivery.not_before = context.clock() + DELIVERY_VISIBILITY_TIMEOUT
    filed_count = 0 if delivery.format is Format.MAIL else _count_filed(session, delivery.id)
    return _Claim(
        number=delivery.id,
        attempts=delivery.attempts,
        transport=delivery.transport,
        format=delivery.format,
        content=delivery.content,
        blob=delivery.blob,
        filed_count=filed_count,
    )


def _begin_parsing(context: AppContext, claim: _Claim) -> Future[ParserAnswer]:
    """Begin to parse a delivery; errors are in the future."""
    failed_future: Future[ParserAnswer] = Future()
    if claim.attempts > MAX_ATTEMPTS:
        failed_future.set_exception(ParserEndedError("each time, the worker reading it ended"))
        return failed_future
    try:
        raw = read_raw(context, claim.content, claim.blob)
        reject_mail_url(claim.transport, claim.format, raw)
        parser_options = load_parser_options(context, claim.format)
        return parser_pool.start_parsing(claim.format, raw, parser_options, claim.filed_count)
    # settled with this one: those claimed with it are parsed all the same
    except Exception as error:  # noqa: BLE001
        failed_future.set_exception(error)
    return failed_future


def read_raw(context: AppContext, content: bytes | None, blob: str | None) -> bytes:
    """Return the bytes of a delivery as they came.

    Raises ParserEndedError where they are gone or do not open, OSError where they are away.
    """
    try:
        return context.blob_store.read(content, blob)
    except FileNotFoundError:
        raise ParserEndedError("its stored bytes are gone: is INTAKE_BLOBS_URL right?") from None
    except ValueError:
        raise ParserEndedError(
            "its stored bytes do not open: is a key missing in INTAKE_SECRET_KEYS?"
        ) from None


def _file_next(
    context: AppContext, in_progress: deque[_InProgress], parse_queue: _ParseQueue
) -> int:
    """File the next delivery once it is parsed, with those behind it that are ready.

    One that takes long is filed in a thread of its own. Returns how many were taken off the queue
    and not given back.
    """
    one = in_progress.popleft()
    wait([one.answer], timeout=0 if one.claim.is_suspect else PATIENCE_SECONDS)
    if not one.answer.done():
        if unbegun := parse_queue.cancel_from(one):  # slow items keep every parser busy
            _give_back(context, unbegun, delay=timedelta())
            in_progress.clear()  # they were behind it
            return 0
        one.answer.add_done_callback(lambda _: _settle_late(context, one))
    elif one.is_small:
        batch = [one]
        while in_progress and len(batch) < BATCH and in_progress[0].is_small:
            batch.append(in_progress.popleft())
        _settle_batch(context, batch)
        return len(batch)
    elif one.answer.exception() is None and one.answer.result().has_more:
        parser_pool.run_in_background(lambda: _settle_late(context, one))
    else:
        _settle(context, one)
    return 1


def _settle_late(context: AppContext, one: _InProgress) -> None:
    """File a delivery in a thread of its own; notify the workers that a parser is free."""
    _settle(context, one)
    context.store.notify(READ_QUEUE)  # a parser is free again


def _settle(context: AppContext, one: _InProgress) -> None:
    """File what was parsed, or record why not; raises nothing."""
    try:
        _settle_or_raise(context, one)
    # the database is away: the lease ends, and the delivery is taken up again
    except Exception as error:  # noqa: BLE001
        log.fault("read", error)


def _settle_or_raise(context: AppContext, one: _InProgress) -> None:
    """File what was parsed, or record why not."""
    claim = one.claim
    try:
        _file(context, claim, one.answer.result())
    except ParseError as error:
        _fail(context, claim.number, str(error))
    except ParserEndedError as error:
        _retry_or_fail(context, claim, f"it could not be read, tried {MAX_ATTEMPTS} times: {error}")
    except ParserBugError as error:
        log.parser_failed(claim.number, error.kind, error.place)
        _retry_or_fail(context, claim, _describe_bug(error.kind))
    except OUTAGES as error:
        log.fault("read", error)
        _give_back(context, [claim])
    # top of the worker's loop: one poison item must not stop the others
    except Exception as error:  # noqa: BLE001
        log.fault("read", error)
        _retry_or_fail(context, claim, _describe_bug(type(error).__name__))


def _settle_batch(context: AppContext, batch: list[_InProgress]) -> None:
    """File small deliveries in one transaction, or each by itself when that fails.

    Raises nothing.
    """
    frames = [_take_frame(one.answer.result()) for one in batch]
    if len(batch) > 1:
        try:
            with context.store.transaction() as session:
                _file_batch(context, session, [one.claim for one in batch], frames)
        except OUTAGES as error:  # each by itself would wait for the database again
            log.fault("read", error)
            _give_back(context, [one.claim for one in batch])
            return
        # Each is tried by itself, and its error is then recorded with it.
        except Exception as error:  # noqa: BLE001
            log.fault("read", error)
        else:
            return
    for one, frame in zip(batch, frames, strict=True):
        answer: Future[ParserAnswer] = Future()
        answer.set_result(ParserAnswer([frame], iter(()), has_more=False))
        _settle(context, _InProgress(one.claim, answer))


def _take_frame(answer: ParserAnswer) -> Frame:
    """Return the items of a small delivery, which come in one frame."""
    with closing(answer):
        [frame] = answer
    return frame


def _file_batch(
    context: AppContext, session: Session, batch: list[_Claim], frames: list[Frame]
) -> None:
    """File the items of deliveries that came in one frame each, and mark those processed."""
    numbers = [claim.number for claim in batch]
    query = (
        select(Delivery)
        .where(Delivery.id.in_(numbers), Delivery.state == DeliveryState.PENDING)
        .options(defer(Delivery.content))
        .order_by(Delivery.id)
        .with_for_update()
    )
    # Another process may have completed some of them.
    deliveries = {delivery.id: delivery for delivery in session.scalars(query)}
    filed_counts = _count_filed_of(session, numbers)
    now = context.clock()
    pending: list[PendingItem] = []
    for claim, frame in zip(batch, frames, strict=True):
        delivery = deliveries.get(claim.number)
        if delivery is None:
            continue
        filed_count = max(claim.filed_count, filed_counts.get(claim.number, 0))
        items = frame.items[filed_count - claim.filed_count :]
        pending += [PendingItem(item, delivery, n) for n, item in enumerate(items, filed_count)]
        _complete(session, delivery, claim.filed_count + len(frame.items), frame, now)
    file_pending(context.desk, session, pending, now)


def _complete(
    session: Session, delivery: Delivery, items: int, frame: Frame, now: datetime
) -> None:
    """Mark a delivery processed, with the number of its items."""
    delivery.items = items
    delivery.not_before = now + DELIVERY_VISIBILITY_TIMEOUT
    delivery.state, delivery.reason, delivery.processed_at = DeliveryState.PROCESSED, "", now
    if delivery.format is Format.SECURE_MESSAGE:
        sheet_counts.store_counts(session, delivery.id, frame.sheets)


def _describe_bug(kind: str) -> str:
    """Return the reason shown for a bug of ours."""
    return f"could not be processed: an error of ours ({kind}); replay it once corrected"


def _file(context: AppContext, claim: _Claim, answer: ParserAnswer) -> None:
    """File all items as they are parsed, a transaction a frame.

    After a crash the next attempt goes on where this one was.
    """
    at, logged_at = claim.filed_count, time.monotonic()
    with closing(answer):
        for frame, last in _mark_last(answer):
            with context.store.transaction() as session:
                done = _file_some(context, session, claim.number, at, frame, last=last)
            if done:
                break
            at += len(frame.items)
            if time.monotonic() - logged_at > PROGRESS_SECONDS:
                logged_at = time.monotonic()
                log.reading_progress(claim.number, at, frame.total)


def _mark_last(answer: ParserAnswer) -> Iterator[tuple[Frame, bool]]:
    """Yield each frame and whether it is the last one.

    Raises what the answer raises, after what was parsed until then.
    """
    frames = _join_frames(answer)
    one: Frame | None = next(frames)
    while one is not None:
        try:
            after = next(frames, None)
        except (ParseError, ParserEndedError, ParserBugError):
            yield one, False
            raise
        yield one, after is None
        one = after


def _join_frames(answer: ParserAnswer) -> Iterator[Frame]:
    """Yield several frames as one: the fixed cost of a transaction is shared by more rows."""
    frames = iter(answer)
    for first in frames:
        items, total, counts = list(first.items), first.total, first.sheets
        try:
            for following in islice(frames, FRAMES_PER_COMMIT - 1):
                items += following.items
                total = following.total
                counts = following.sheets or counts
        except (ParseError, ParserEndedError, ParserBugError):
            yield Frame(items, total)
            raise
        yield Frame(items, total, counts)


def _file_some(
    context: AppContext, session: Session, number: int, first: int, frame: Frame, *, last: bool
) -> bool:
    """File the items of a frame that are not filed yet; return whether the delivery is done.

    It may have been completed by another process.
    """
    query = (
        select(Delivery)
        .where(Delivery.id == number)
        .options(defer(Delivery.content))
        .with_for_update()
    )
    delivery = session.scalar(query)
    if delivery is None or delivery.state is not DeliveryState.PENDING:
        return True
    now = context.clock()
    filed_count = max(first, _count_filed(session, number))  # another process may have got further
    items = enumerate(frame.items[filed_count - first :], filed_count)
    pending = [PendingItem(item, delivery, position) for position, item in items]
    file_pending(context.desk, session, pending, now)
    filed_count = max(filed_count, first + len(frame.items))
    if last:
        _complete(session, delivery, filed_count, frame, now)
        return True
    delivery.items = max(frame.total, filed_count + 1)
    delivery.not_before = now + DELIVERY_VISIBILITY_TIMEOUT
    if frame.items:
        delivery.attempts = 1  # progress: a crash from here on is a new one
    return False


def _count_filed(session: Session, number: int) -> int:
    """Return how many items of a delivery are filed; they are filed in order."""
    return _count_filed_of(session, [number]).get(number, 0)


def _count_filed_of(session: Session, numbers: list[int]) -> dict[int, int]:
    """Return how many items of each delivery are filed; those without any are left out."""
    last = (
        select(Filing.delivery_id, func.max(Filing.position))
        .where(Filing.delivery_id.in_(numbers))
        .group_by(Filing.delivery_id)
    )
    return {number: position + 1 for number, position in session.execute(last)}


def _retry_or_fail(context: AppContext, claim: _Claim, reason: str) -> None:
    """Schedule the next attempt, or fail the delivery after the last one."""
    if claim.attempts >= MAX_ATTEMPTS:
        _fail(context, claim.number, reason)
        return
    not_before = context.clock() + RETRY_DELAY * claim.attempts
    with context.store.transaction() as session:
        session.execute(_update_pending(claim.number).values(not_before=not_before))


def _give_back(
    context: AppContext, claims: Sequence[_Claim], delay: timedelta = RETRY_DELAY
) -> None:
    """Return deliveries to the queue without counting the attempt: the fault was not their own."""
    values = {"attempts": Delivery.attempts - 1, "not_before": context.clock() + delay}
    try:
        with context.store.transaction() as session:
            session.execute(_update_pending(*(one.number for one in claims)).values(values))
    except SQLAlchemyError as error:  # still away: their visibility timeout ends
        log.fault("read", error)


def _fail(context: AppContext, number: int, reason: str) -> None:
    """Mark a delivery failed with its reason."""
    with context.store.transaction() as session:
        values = {"state": DeliveryState.FAILED, "reason": reason, "processed_at": context.clock()}
        session.execute(_update_pending(number).values(values))
    log.delivery_failed(number)


def _update_pending(*numbers: int) -> Update:
    """Return an UPDATE of deliveries that applies only to those that are pending."""
    return update(Delivery).where(Delivery.id.in_(numbers), Delivery.state == DeliveryState.PENDING)
