"""Leases: one holder of each name over several hosts, whatever the hosts' clocks show."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from tests.support.context import HandClock, Steady, count_rows, run_in_threads
from workflow.context import AppContext
from workflow.models.core import Lease
from workflow.runtime import leases
from workflow.runtime.leases import RENEW_SECONDS, SAFE_SECONDS, STALE_SECONDS, Leases


@pytest.fixture
def steady() -> Steady:
    return Steady()


Host = Callable[[], Leases]


@pytest.fixture
def host(any_context: AppContext, steady: Steady, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A process on another machine that wants to be the clock."""

    def start_host() -> Leases:
        monkeypatch.setattr(leases, "_get_place", lambda: f"host-{os.urandom(4).hex()}")
        found = Leases(any_context.store, any_context.clock, steady)
        found.request("clock")
        return found

    return start_host


def pass_time(steady: Steady, seconds: float, *alive: Leases) -> None:
    end = steady.now + seconds
    while steady.now < end:
        steady.now += RENEW_SECONDS
        for one in alive:
            one.renew_all()


def test_one_of_many_is_the_clock_and_stays_it(host: Host, steady: Steady) -> None:
    first, second = host(), host()
    first.renew_all()
    second.renew_all()
    pass_time(steady, 300, second, first)
    assert first.is_held("clock")
    assert not second.is_held("clock")


def test_a_dead_holder_is_followed_within_a_minute(host: Host, steady: Steady) -> None:
    first, second = host(), host()
    first.renew_all()
    second.renew_all()
    pass_time(steady, STALE_SECONDS - RENEW_SECONDS, second)
    assert not second.is_held("clock")
    pass_time(steady, 2 * RENEW_SECONDS, second)
    assert second.is_held("clock")
    first.renew_all()  # back from the dead, it knows that it is not the one any more
    assert not first.is_held("clock")


def test_a_holder_that_cannot_count_stops_before_another_may_begin(
    host: Host, steady: Steady
) -> None:
    first = host()
    first.renew_all()
    steady.now += SAFE_SECONDS
    assert not first.is_held("clock")
    assert SAFE_SECONDS + RENEW_SECONDS < STALE_SECONDS < 60


def test_clocks_that_jump_make_no_second_holder(
    host: Host, steady: Steady, clock: HandClock
) -> None:
    first, second = host(), host()
    first.renew_all()
    for days in (3, -6, 400):
        clock.turn(days=days)
        pass_time(steady, 2 * RENEW_SECONDS, first, second)
        assert (first.is_held("clock"), second.is_held("clock")) == (True, False)


def test_who_leaves_in_good_order_is_followed_at_once(host: Host) -> None:
    first, second = host(), host()
    first.renew_all()
    first.release_all()
    second.renew_all()
    assert second.is_held("clock")
    assert not first.is_held("clock")


def test_of_many_that_begin_or_take_over_at_once_one_wins(
    any_context: AppContext, host: Host, steady: Steady
) -> None:
    many = [host() for _ in range(6)]
    assert run_in_threads(*(one.renew_all for one in many)) == []
    assert sum(one.is_held("clock") for one in many) == 1
    rest = [one for one in many if not one.is_held("clock")]
    for one in rest:
        one.renew_all()
    steady.now += STALE_SECONDS
    assert run_in_threads(*(one.renew_all for one in rest)) == []
    assert sum(one.is_held("clock") for one in rest) == 1
    assert count_rows(any_context, Lease) == 1


def test_different_names_may_have_different_holders(host: Host) -> None:
    first, second = host(), host()
    first.renew_all()
    second.request("imap box")
    second.renew_all()
    assert (second.is_held("clock"), second.is_held("imap box")) == (False, True)


def test_a_holder_that_was_killed_on_this_machine_is_followed_at_once(
    any_context: AppContext,
) -> None:
    """`intake up` starts what was killed again within seconds.

    Nobody waits half a minute for it.
    """
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    lease = Leases(any_context.store, any_context.clock)
    lease.request("clock")
    lease.renew_all()
    if not lease.holder.partition(":")[0]:
        pytest.skip("not Linux: a dead process cannot be distinguished from one of another machine")
    next_one = Leases(any_context.store, any_context.clock)
    next_one.request("clock")
    next_one.renew_all()
    assert not next_one.is_held("clock")  # we live
    dead = lease.holder.replace(f":{os.getpid()}:", f":{child.pid}:")
    with any_context.store.transaction() as session:
        session.execute(update(Lease).values(holder=dead))
    next_one.renew_all()
    assert next_one.is_held("clock")


def test_a_database_that_is_away_costs_the_lease_and_not_the_thread(
    any_context: AppContext, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    one, stop, rounds = host(), threading.Event(), list[int]()
    whole = one.renew_all

    def away() -> None:
        rounds.append(1)
        if len(rounds) < 3:
            raise SQLAlchemyError
        whole()

    monkeypatch.setattr(one, "renew_all", away)
    thread = threading.Thread(target=one.run_until, args=(stop,))
    thread.start()
    until = time.monotonic() + 10
    while not one.is_held("clock"):
        assert time.monotonic() < until
        time.sleep(0.01)
    stop.set()
    thread.join(10)
    assert count_rows(any_context, Lease) == 0
