"""read(delivery): what a door has stored is parsed and filed, or failed with its reason."""

from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

import parsers
from parsers.item import ParseError
from workflow import journal
from workflow.house import House
from workflow.models import Delivery
from workflow.reception import receive
from workflow.states import DeliveryState

BATCH = 50  # deliveries claimed at a time
LEASE = timedelta(seconds=60)  # a claimed delivery is left alone this long, then taken up again
MOST_ATTEMPTS = 3


def read_waiting(house: House) -> int:
    """Read every delivery that waits, oldest first; how many were tried. A batch that fails whole is left for later."""
    done = 0
    while batch := _claim(house):
        for number in batch:
            read(house, number)
        done += len(batch)
    return done


def _claim(house: House) -> list[int]:
    now = house.clock()
    with house.store.transaction() as session:
        waiting = select(Delivery.id).where(Delivery.state == DeliveryState.PENDING, Delivery.not_before <= now)
        chosen = waiting.order_by(Delivery.id).limit(BATCH).with_for_update(skip_locked=True)
        batch = list(session.scalars(chosen))
        claim = {"not_before": now + LEASE, "attempts": Delivery.attempts + 1}
        session.execute(update(Delivery).where(Delivery.id.in_(batch)).values(claim))
    return batch


def read(house: House, number: int) -> None:
    """Read one delivery: its items filed, or the delivery failed with its reason; never neither.

    A fault that is not the delivery's (the database away, a bug) leaves it pending until it has been tried three
    times; then it is failed too, so that a person sees it.
    """
    try:
        with house.store.transaction() as session:
            _read(house, session, number)
    except ParseError as error:
        _fail(house, number, str(error))
    except (OperationalError, InterfaceError) as error:
        journal.fault("read", error)
    except Exception as error:  # noqa: BLE001  # top of the worker's loop: one poison item must not stop the others
        journal.fault("read", error)
        with house.store.reading() as session:
            attempts = session.scalar(select(Delivery.attempts).where(Delivery.id == number)) or 0
        if attempts >= MOST_ATTEMPTS:
            _fail(
                house,
                number,
                f"could not be processed: an error of ours ({type(error).__name__}); replay it once mended",
            )


def _read(house: House, session: Session, number: int) -> None:
    delivery = session.scalar(select(Delivery).where(Delivery.id == number).with_for_update())
    if delivery is None or delivery.state is not DeliveryState.PENDING:
        return
    raw = house.vault.open(delivery.content, delivery.blob)
    items = parsers.parse(delivery.format, raw)
    now = house.clock()
    for position, item in enumerate(items):
        receive(house.desk, session, item, delivery, position, now)
    delivery.state, delivery.reason, delivery.processed_at = DeliveryState.PROCESSED, "", now
    delivery.items = len(items)


def _fail(house: House, number: int, reason: str) -> None:
    with house.store.transaction() as session:
        delivery = session.get_one(Delivery, number)
        delivery.state, delivery.reason, delivery.processed_at = DeliveryState.FAILED, reason, house.clock()
    journal.failed(number)
