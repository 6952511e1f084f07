"""Failed deliveries are an alarm by their age."""

from datetime import timedelta

import pytest

from ingest.intake import Arrival, Intake, Transport
from parsers.item import Format
from tests.support.context import HandClock, call
from workflow.context import House
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState
from workflow.operations.failed import overdue

DAY = timedelta(hours=24)


def fail(house: House, raw: bytes) -> int:
    return Intake(house).accept(
        Arrival(
            transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=raw, unreadable="not a form"
        )
    )


def test_a_failed_delivery_is_overdue_from_the_limit_on(any_house: House, clock: HandClock) -> None:
    house, came = any_house, clock()
    fail(house, b"1")
    clock.turn(hours=1)
    fail(house, b"2")
    Intake(house).accept(call())  # waits, and is not failed
    told = []
    for hours in (22.9, 0.1, 1):
        clock.turn(hours=hours)
        with house.store.reading() as session:
            told.append(overdue(session, clock(), DAY))
    assert told == [(0, None), (1, came), (2, came)]


@pytest.mark.parametrize(
    "state", [DeliveryState.DISMISSED, DeliveryState.PROCESSED, DeliveryState.PENDING]
)
def test_what_has_been_looked_after_is_no_alarm(
    house: House, clock: HandClock, state: DeliveryState
) -> None:
    number = fail(house, b"1")
    with house.store.transaction() as session:
        session.get_one(Delivery, number).state = state
    clock.turn(days=9)
    with house.store.reading() as session:
        assert overdue(session, clock(), DAY) == (0, None)


def test_reading_it_again_in_vain_does_not_make_it_younger(house: House, clock: HandClock) -> None:
    number, came = fail(house, b"1"), clock()
    clock.turn(days=2)
    with house.store.transaction() as session:
        session.get_one(Delivery, number).processed_at = clock()
    with house.store.reading() as session:
        assert overdue(session, clock(), DAY) == (1, came)
