"""read(delivery): what a door has stored is parsed and filed, or failed with its reason."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import NamedTuple

from sqlalchemy import func, select, update
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
from workflow.filing.bulk import file_items
from workflow.models.core import Delivery, Filing
from workflow.models.states import DeliveryState
from workflow.runtime import log

MAX_ATTEMPTS = 3  # then it is failed: what a person sees is better than what is tried for ever
RETRY_DELAY = timedelta(seconds=10)  # until the second attempt; twice as long until the third
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
PATIENCE_SECONDS = (
    0.5  # how long those behind wait for an item, so that they are filed in the order they came
)
POLL_SECONDS = 0.05
AT_ONCE = (
    5  # frames filed in one transaction: doors wait for it, but not for a workbook of 100,000 rows
)
PROGRESS_SECONDS = 5.0  # between two lines of the log about one that takes long
OUTAGES = (
    *DATABASE_UNAVAILABLE,
    OSError,
)  # the database, a blob store or a process is away: not the item


class _Claimed(NamedTuple):
    number: int
    attempts: int  # this one included
    transport: str
    format: Format
    content: bytes | None
    blob: str | None
    filed: int  # items that whoever read it before has filed

    @property
    def suspect(self) -> bool:
        """Return whether it has not been read at the first attempt."""
        return self.attempts > 1


@dataclass
class _InHand:
    claimed: _Claimed
    parsed: Future[ParserAnswer] = field(repr=False)


def process_waiting(context: AppContext) -> int:
    """Read what waits, oldest first, for about five seconds; how many were tried.

    Those left wake a worker again.

    Items are parsed side by side and filed in the order they came. One that keeps its parser busy
    is filed when it is ready: nobody behind it waits for it.
    """
    until, done = time.monotonic() + SLICE_SECONDS, 0
    ahead: deque[_InHand] = deque()
    while True:
        late = time.monotonic() >= until
        ahead.extend(
            _begin(context, one)
            for one in ([] if late else _claim(context, parser_pool.count_free_parsers()))
        )
        if not ahead:
            break
        _file_in_order(context, ahead.popleft())
        done += 1
    if late:
        context.store.notify(READ_QUEUE)
    return done


def process_delivery(context: AppContext, number: int, patience: float = 0.0) -> None:
    """Read one delivery now: its items filed, or the delivery failed with its reason.

    Never neither.

    One that somebody else reads is left to them, and waited for up to `patience` seconds. A fault
    that is not the delivery's (the database away, a bug) leaves it pending until it has been tried
    three times; then it is failed too, so that a person sees it.
    """
    until = time.monotonic() + patience
    while (
        (claimed := _claim_one(context, number)) is None
        and _pends(context, number)
        and time.monotonic() < until
    ):
        time.sleep(POLL_SECONDS)
    if claimed is not None:
        in_hand = _begin(context, claimed)
        wait([in_hand.parsed])
        _settle(context, in_hand)


def _claim_one(context: AppContext, number: int) -> _Claimed | None:
    mine = (Delivery.id == number, Delivery.state == DeliveryState.PENDING)
    with context.store.transaction() as session:
        now = context.clock()
        found = session.scalar(
            select(Delivery)
            .where(*mine, is_visible(Delivery.not_before, now, DELIVERY_VISIBILITY_TIMEOUT))
            .with_for_update()
        )
        return _claimed(context, session, found) if found is not None else None


def _pends(context: AppContext, number: int) -> bool:
    with context.store.read_only() as session:
        return (
            session.scalar(select(Delivery.state).where(Delivery.id == number))
            is DeliveryState.PENDING
        )


def _claim(context: AppContext, most: int) -> list[_Claimed]:
    """Take up to so many for reading.

    Of those not read at the first attempt one at a time, and last.
    """
    if not most:
        return []
    now, suspects = context.clock(), 1 if parser_pool.has_spare_parser() else 0
    waiting = select(Delivery).where(
        Delivery.state == DeliveryState.PENDING,
        is_visible(Delivery.not_before, now, DELIVERY_VISIBILITY_TIMEOUT),
    )
    oldest = waiting.order_by(Delivery.attempts, Delivery.id).with_for_update(skip_locked=True)
    with context.store.transaction() as session:
        found = list(session.scalars(oldest.limit(most)))
        again = [d for d in found if d.attempts]
        return [_claimed(context, session, d) for d in found if d not in again[suspects:]]


def _claimed(context: AppContext, session: Session, delivery: Delivery) -> _Claimed:
    """Count the attempt before it is made: whatever the item does to us then is remembered."""
    delivery.attempts, delivery.not_before = (
        delivery.attempts + 1,
        context.clock() + DELIVERY_VISIBILITY_TIMEOUT,
    )
    filed = 0 if delivery.format is Format.MAIL else _filed(session, delivery.id)
    return _Claimed(
        number=delivery.id,
        attempts=delivery.attempts,
        transport=delivery.transport,
        format=delivery.format,
        content=delivery.content,
        blob=delivery.blob,
        filed=filed,
    )


def _begin(context: AppContext, claimed: _Claimed) -> _InHand:
    failed: Future[ParserAnswer] = Future()
    if claimed.attempts > MAX_ATTEMPTS:
        failed.set_exception(ParserEndedError("each time, the worker reading it ended"))
        return _InHand(claimed, failed)
    try:
        raw = read_raw(context, claimed.content, claimed.blob)
        reject_mail_url(claimed.transport, claimed.format, raw)
        how = load_parser_options(context, claimed.format)
        return _InHand(claimed, parser_pool.start_parsing(claimed.format, raw, how, claimed.filed))
    # settled with this one: those claimed with it are read all the same
    except Exception as error:  # noqa: BLE001
        failed.set_exception(error)
    return _InHand(claimed, failed)


def read_raw(context: AppContext, content: bytes | None, blob: str | None) -> bytes:
    """The bytes of a delivery as they came.

    Raises ParserEndedError where they are gone, OSError where they are away.
    """
    try:
        return context.blob_store.read(content, blob)
    except FileNotFoundError:
        raise ParserEndedError("its stored bytes are gone: is INTAKE_BLOBS_URL right?") from None
    except ValueError:
        raise ParserEndedError(
            "its stored bytes do not open: is a key missing in INTAKE_SECRET_KEYS?"
        ) from None


def _file_in_order(context: AppContext, one: _InHand) -> None:
    """File it as soon as it is parsed.

    One that takes its time, or did before, is filed by its own thread then.
    """
    wait([one.parsed], timeout=0 if one.claimed.suspect else PATIENCE_SECONDS)
    if not one.parsed.done():
        one.parsed.add_done_callback(lambda _: _settle_late(context, one))
    elif one.parsed.exception() is None and one.parsed.result().more:
        parser_pool.run_in_background(lambda: _settle_late(context, one))
    else:
        _settle(context, one)


def _settle_late(context: AppContext, one: _InHand) -> None:
    _settle(context, one)
    context.store.notify(READ_QUEUE)  # a parser is free again


def _settle(context: AppContext, one: _InHand) -> None:
    """File what was parsed, or put down why not; raises nothing."""
    try:
        _settled(context, one)
    # the database is away: the lease ends, and it is taken up again
    except Exception as error:  # noqa: BLE001
        log.fault("read", error)


def _settled(context: AppContext, one: _InHand) -> None:
    claimed = one.claimed
    try:
        _file(context, claimed, one.parsed.result())
    except ParseError as error:
        _fail(context, claimed.number, str(error))
    except ParserEndedError as error:
        _again(context, claimed, f"it could not be read, tried {MAX_ATTEMPTS} times: {error}")
    except ParserBugError as error:
        log.parser_failed(claimed.number, error.kind, error.place)
        _again(context, claimed, _bug(error.kind))
    except OUTAGES as error:
        log.fault("read", error)
        _give_back(context, claimed.number)
    # top of the worker's loop: one poison item must not stop the others
    except Exception as error:  # noqa: BLE001
        log.fault("read", error)
        _again(context, claimed, _bug(type(error).__name__))


def _bug(kind: str) -> str:
    return f"could not be processed: an error of ours ({kind}); replay it once mended"


def _file(context: AppContext, claimed: _Claimed, answer: ParserAnswer) -> None:
    """File all items as they are read, a transaction a frame.

    After a crash the next reader goes on where this was.
    """
    at, told = claimed.filed, time.monotonic()
    with closing(answer):
        for frame, last in _marked(answer):
            with context.store.transaction() as session:
                done = _file_some(context, session, claimed.number, at, frame, last=last)
            if done:
                break
            at += len(frame.items)
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                log.reading_progress(claimed.number, at, frame.total)


def _marked(answer: ParserAnswer) -> Iterator[tuple[Frame, bool]]:
    """Yield each frame, and whether it is the last one.

    Raises what the answer does, after what was read until then.
    """
    frames = _joined(answer)
    one: Frame | None = next(frames)
    while one is not None:
        try:
            after = next(frames, None)
        except (ParseError, ParserEndedError, ParserBugError):
            yield one, False
            raise
        yield one, after is None
        one = after


def _joined(answer: ParserAnswer) -> Iterator[Frame]:
    """Yield a few frames as one: what a transaction costs by itself is shared by more rows."""
    frames = iter(answer)
    for first in frames:
        items, of, counts = list(first.items), first.total, first.sheets
        try:
            for more in islice(frames, AT_ONCE - 1):
                items, of, counts = items + more.items, more.total, more.sheets or counts
        except (ParseError, ParserEndedError, ParserBugError):
            yield Frame(items, of)
            raise
        yield Frame(items, of, counts)


def _file_some(
    context: AppContext, session: Session, number: int, first: int, frame: Frame, *, last: bool
) -> bool:
    """File the items of a frame that are not filed yet.

    Whether the delivery is done, by us or by somebody else.
    """
    whose = (
        select(Delivery)
        .where(Delivery.id == number)
        .options(defer(Delivery.content))
        .with_for_update()
    )
    delivery = session.scalar(whose)
    if delivery is None or delivery.state is not DeliveryState.PENDING:
        return True
    now, filed = (
        context.clock(),
        max(first, _filed(session, number)),
    )  # somebody else may have got further
    file_items(context.desk, session, frame.items[filed - first :], delivery, filed, now)
    filed = max(filed, first + len(frame.items))
    delivery.items, delivery.not_before = (
        filed if last else max(frame.total, filed + 1),
        now + DELIVERY_VISIBILITY_TIMEOUT,
    )
    if last:
        delivery.state, delivery.reason, delivery.processed_at = DeliveryState.PROCESSED, "", now
        sheet_counts.store_counts(session, number, frame.sheets)
    elif frame.items:
        delivery.attempts = 1  # it gets on: what ends its reader now has not ended it here before
    return last


def _filed(session: Session, number: int) -> int:
    """Return how many items are filed; they are filed in order."""
    last = session.scalar(select(func.max(Filing.position)).where(Filing.delivery_id == number))
    return 0 if last is None else last + 1


def _again(context: AppContext, claimed: _Claimed, reason: str) -> None:
    """Try once more in a while, or fail it if that was the last time."""
    if claimed.attempts >= MAX_ATTEMPTS:
        _fail(context, claimed.number, reason)
        return
    not_before = context.clock() + RETRY_DELAY * claimed.attempts
    with context.store.transaction() as session:
        session.execute(_pending(claimed.number).values(not_before=not_before))


def _give_back(context: AppContext, number: int) -> None:
    """Not the item's fault: the attempt does not count."""
    values = {"attempts": Delivery.attempts - 1, "not_before": context.clock() + RETRY_DELAY}
    try:
        with context.store.transaction() as session:
            session.execute(_pending(number).values(values))
    except SQLAlchemyError as error:  # still away
        log.fault("read", error)


def _fail(context: AppContext, number: int, reason: str) -> None:
    with context.store.transaction() as session:
        values = {"state": DeliveryState.FAILED, "reason": reason, "processed_at": context.clock()}
        session.execute(_pending(number).values(values))
    log.delivery_failed(number)


def _pending(number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  # SQLAlchemy's Update
    return update(Delivery).where(Delivery.id == number, Delivery.state == DeliveryState.PENDING)
