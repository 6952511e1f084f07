"""Failed deliveries are an alarm by their age."""

from datetime import timedelta

import pytest

from ingest.intake import Arrival, Intake, Transport
from parsers.item import Format
from tests.support.context import HandClock, make_call_arrival
from workflow.context import AppContext
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState
from workflow.operations.backlog import count_overdue

DAY = timedelta(hours=24)


def fail(context: AppContext, raw: bytes) -> int:
    return Intake(context).accept(
        Arrival(
            transport=Transport.FORMSTACK,
            format=Format.FORMSTACK,
            raw=raw,
            unreadable_reason="not a form",
        )
    )


def test_a_failed_delivery_is_overdue_from_the_limit_on(
    any_context: AppContext, clock: HandClock
) -> None:
    context, came = any_context, clock()
    fail(context, b"1")
    clock.turn(hours=1)
    fail(context, b"2")
    Intake(context).accept(make_call_arrival())  # waits, and is not failed
    counts = []
    for hours in (22.9, 0.1, 1):
        clock.turn(hours=hours)
        with context.store.read_only() as session:
            counts.append(count_overdue(session, clock(), DAY))
    assert counts == [(0, None), (1, came), (2, came)]


@pytest.mark.parametrize(
    "state", [DeliveryState.DISMISSED, DeliveryState.PROCESSED, DeliveryState.PENDING]
)
def test_what_is_dismissed_read_or_pending_is_no_alarm(
    context: AppContext, clock: HandClock, state: DeliveryState
) -> None:
    number = fail(context, b"1")
    with context.store.transaction() as session:
        session.get_one(Delivery, number).state = state
    clock.turn(days=9)
    with context.store.read_only() as session:
        assert count_overdue(session, clock(), DAY) == (0, None)


def test_reading_it_again_in_vain_does_not_make_it_younger(
    context: AppContext, clock: HandClock
) -> None:
    number, came = fail(context, b"1"), clock()
    clock.turn(days=2)
    with context.store.transaction() as session:
        session.get_one(Delivery, number).processed_at = clock()
    with context.store.read_only() as session:
        assert count_overdue(session, clock(), DAY) == (1, came)
