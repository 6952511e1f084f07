"""Backoff: the delays grow, stop at the maximum, and vary only with jitter."""

from datetime import timedelta

import pytest

from workflow.runtime.backoff import Backoff

MINUTE = timedelta(minutes=1)


def test_delays_double_up_to_the_maximum() -> None:
    backoff = Backoff(first=timedelta(seconds=5), maximum=MINUTE)
    assert [backoff.seconds(n) for n in range(1, 8)] == [5, 10, 20, 40, 60, 60, 60]
    assert backoff.delay(2) == timedelta(seconds=10)


def test_delays_grow_by_the_factor() -> None:
    backoff = Backoff(first=MINUTE, maximum=timedelta(days=1), factor=4)
    assert [backoff.delay(n) / MINUTE for n in range(1, 5)] == [1, 4, 16, 64]


@pytest.mark.parametrize("attempt", [-3, 0, 1])
def test_an_attempt_before_the_first_waits_as_long_as_the_first(attempt: int) -> None:
    assert Backoff(first=MINUTE, maximum=10 * MINUTE).delay(attempt) == MINUTE


@pytest.mark.parametrize("attempt", [100, 10_000, 10**30])
def test_any_number_of_attempts_waits_for_the_maximum(attempt: int) -> None:
    backoff = Backoff(first=MINUTE, maximum=timedelta(hours=1), factor=9)
    assert backoff.delay(attempt) == timedelta(hours=1)


def test_jitter_takes_off_no_more_than_its_share() -> None:
    backoff = Backoff(first=MINUTE, maximum=10 * MINUTE, jitter=0.5)
    delays = [backoff.seconds(2) for _ in range(200)]
    assert all(60 <= delay <= 120 for delay in delays)
    assert len(set(delays)) > 1
