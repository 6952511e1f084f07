"""read(delivery): what a door has stored is parsed and filed, or failed with its reason."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, defer

from ingest import parsing
from ingest.intake import READ
from ingest.options import options
from ingest.parsing import BrokenError, EndedError
from parsers.item import Format, InboundItem, ParseError
from workflow import journal
from workflow.due import READING, due
from workflow.house import House
from workflow.models import Delivery, Filing
from workflow.reception import receive
from workflow.states import DeliveryState
from workflow.store import AWAY

MOST_ATTEMPTS = 3  # then it is failed: what a person sees is better than what is tried for ever
AGAIN = timedelta(seconds=10)  # until the second attempt; twice as long until the third
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
PATIENCE_SECONDS = 0.5  # how long those behind wait for an item, so that they are filed in the order they came
LOOK_SECONDS = 0.05
AT_ONCE = 100  # items filed in one transaction: nobody waits for a workbook of 100,000 rows
OURS = (*AWAY, OSError)  # the database, a blob store or a process is away: not the item


class _Claimed(NamedTuple):
    number: int
    attempts: int  # this one included
    format: Format
    content: bytes | None
    blob: str | None

    @property
    def suspect(self) -> bool:
        """Whether it has not been read at the first attempt."""
        return self.attempts > 1


@dataclass
class _InHand:
    claimed: _Claimed
    parsed: Future[list[InboundItem]] = field(repr=False)


def read_waiting(house: House) -> int:
    """Read what waits, oldest first, for about five seconds; how many were tried. Those left wake a worker again.

    Items are parsed side by side and filed in the order they came. One that keeps its parser busy is filed when it is
    ready: nobody behind it waits for it.
    """
    until, done = time.monotonic() + SLICE_SECONDS, 0
    ahead: deque[_InHand] = deque()
    while True:
        late = time.monotonic() >= until
        ahead.extend(_begin(house, one) for one in ([] if late else _claim(house, parsing.room())))
        if not ahead:
            break
        _file_in_order(house, ahead.popleft())
        done += 1
    if late:
        house.store.waker(READ)
    return done


def read(house: House, number: int, patience: float = 0.0) -> None:
    """Read one delivery now: its items filed, or the delivery failed with its reason; never neither.

    One that somebody else reads is left to them, and waited for up to `patience` seconds. A fault that is not the
    delivery's (the database away, a bug) leaves it pending until it has been tried three times; then it is failed too,
    so that a person sees it.
    """
    until = time.monotonic() + patience
    while (claimed := _claim_one(house, number)) is None and _pends(house, number) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    if claimed is not None:
        in_hand = _begin(house, claimed)
        wait([in_hand.parsed])
        _settle(house, in_hand)


def _claim_one(house: House, number: int) -> _Claimed | None:
    mine = (Delivery.id == number, Delivery.state == DeliveryState.PENDING)
    with house.store.transaction() as session:
        now = house.clock()
        found = session.scalar(select(Delivery).where(*mine, due(Delivery.not_before, now, READING)).with_for_update())
        return _claimed(house, found) if found is not None else None


def _pends(house: House, number: int) -> bool:
    with house.store.reading() as session:
        return session.scalar(select(Delivery.state).where(Delivery.id == number)) is DeliveryState.PENDING


def _claim(house: House, most: int) -> list[_Claimed]:
    """Take up to so many for reading; of those not read at the first attempt one at a time, and last."""
    if not most:
        return []
    now, suspects = house.clock(), 1 if parsing.spare() else 0
    waiting = select(Delivery).where(Delivery.state == DeliveryState.PENDING, due(Delivery.not_before, now, READING))
    oldest = waiting.order_by(Delivery.attempts, Delivery.id).with_for_update(skip_locked=True)
    with house.store.transaction() as session:
        found = list(session.scalars(oldest.limit(most)))
        again = [d for d in found if d.attempts]
        return [_claimed(house, d) for d in found if d not in again[suspects:]]


def _claimed(house: House, delivery: Delivery) -> _Claimed:
    """Count the attempt before it is made: whatever the item does to us then is remembered."""
    delivery.attempts, delivery.not_before = delivery.attempts + 1, house.clock() + READING
    return _Claimed(delivery.id, delivery.attempts, delivery.format, delivery.content, delivery.blob)


def _begin(house: House, claimed: _Claimed) -> _InHand:
    failed: Future[list[InboundItem]] = Future()
    if claimed.attempts > MOST_ATTEMPTS:
        failed.set_exception(EndedError("each time, the worker reading it ended"))
        return _InHand(claimed, failed)
    try:
        raw = opened(house, claimed.content, claimed.blob)
        return _InHand(claimed, parsing.start(claimed.format, raw, options(house, claimed.format)))
    except (EndedError, *OURS) as error:
        failed.set_exception(error)
    return _InHand(claimed, failed)


def opened(house: House, content: bytes | None, blob: str | None) -> bytes:
    """The bytes of a delivery as they came. Raises EndedError where they are gone, OSError where they are away."""
    try:
        return house.vault.open(content, blob)
    except FileNotFoundError:
        raise EndedError("its stored bytes are gone: is INTAKE_BLOBS_URL right?") from None
    except ValueError:
        raise EndedError("its stored bytes do not open: is a key missing in INTAKE_SECRET_KEYS?") from None


def _file_in_order(house: House, one: _InHand) -> None:
    """File it as soon as it is parsed; one that takes its time, or did before, is filed by its own thread then."""
    wait([one.parsed], timeout=0 if one.claimed.suspect else PATIENCE_SECONDS)
    if one.parsed.done():
        _settle(house, one)
    else:
        one.parsed.add_done_callback(lambda _: _settle_late(house, one))


def _settle_late(house: House, one: _InHand) -> None:
    _settle(house, one)
    house.store.waker(READ)  # a parser is free again


def _settle(house: House, one: _InHand) -> None:
    """File what was parsed, or put down why not; raises nothing."""
    try:
        _settled(house, one)
    except Exception as error:  # noqa: BLE001  # the database is away: the lease ends, and it is taken up again
        journal.fault("read", error)


def _settled(house: House, one: _InHand) -> None:
    claimed = one.claimed
    try:
        _file(house, claimed.number, one.parsed.result())
    except ParseError as error:
        _fail(house, claimed.number, str(error))
    except EndedError as error:
        _again(house, claimed, f"it could not be read, tried {MOST_ATTEMPTS} times: {error}")
    except BrokenError as error:
        journal.broken(claimed.number, error.kind, error.place)
        _again(house, claimed, _bug(error.kind))
    except OURS as error:
        journal.fault("read", error)
        _give_back(house, claimed.number)
    except Exception as error:  # noqa: BLE001  # top of the worker's loop: one poison item must not stop the others
        journal.fault("read", error)
        _again(house, claimed, _bug(type(error).__name__))


def _bug(kind: str) -> str:
    return f"could not be processed: an error of ours ({kind}); replay it once mended"


def _file(house: House, number: int, items: Sequence[InboundItem]) -> None:
    """File all items, a transaction for some at a time; after a crash the next reader goes on where this one was."""
    done = False
    while not done:
        with house.store.transaction() as session:
            done = _file_some(house, session, number, items)


def _file_some(house: House, session: Session, number: int, items: Sequence[InboundItem]) -> bool:
    """File the next items; whether the delivery is done, by us or by somebody else."""
    whose = select(Delivery).where(Delivery.id == number).options(defer(Delivery.content)).with_for_update()
    delivery = session.scalar(whose)
    if delivery is None or delivery.state is not DeliveryState.PENDING:
        return True
    now = house.clock()
    filed = session.scalar(select(func.count()).where(Filing.delivery_id == number)) or 0
    for position in range(filed, min(filed + AT_ONCE, len(items))):
        receive(house.desk, session, items[position], delivery, position, now)
    delivery.items, delivery.not_before = len(items), now + READING
    if filed + AT_ONCE < len(items):
        return False
    delivery.state, delivery.reason, delivery.processed_at = DeliveryState.PROCESSED, "", now
    return True


def _again(house: House, claimed: _Claimed, reason: str) -> None:
    """Try once more in a while, or fail it if that was the last time."""
    if claimed.attempts >= MOST_ATTEMPTS:
        _fail(house, claimed.number, reason)
        return
    not_before = house.clock() + AGAIN * claimed.attempts
    with house.store.transaction() as session:
        session.execute(_pending(claimed.number).values(not_before=not_before))


def _give_back(house: House, number: int) -> None:
    """Not the item's fault: the attempt does not count."""
    values = {"attempts": Delivery.attempts - 1, "not_before": house.clock() + AGAIN}
    try:
        with house.store.transaction() as session:
            session.execute(_pending(number).values(values))
    except SQLAlchemyError as error:  # still away
        journal.fault("read", error)


def _fail(house: House, number: int, reason: str) -> None:
    with house.store.transaction() as session:
        values = {"state": DeliveryState.FAILED, "reason": reason, "processed_at": house.clock()}
        session.execute(_pending(number).values(values))
    journal.failed(number)


def _pending(number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  # SQLAlchemy's Update
    return update(Delivery).where(Delivery.id == number, Delivery.state == DeliveryState.PENDING)
