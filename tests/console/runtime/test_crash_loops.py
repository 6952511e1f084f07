"""A process that ends again and again is not alive, whatever it says when it starts."""

import os
import signal
import sys
import time
from collections.abc import Callable

import pytest
from sqlalchemy.exc import OperationalError

from console.presenters.house_data import status_data
from console.presenters.terminal import process_state
from console.runtime import lifecycle
from console.runtime.crash_recorder import EndRecorder
from console.runtime.lifecycle import Progress, opened
from console.runtime.supervisor import Supervisor
from tests.support.context import HandClock
from tests.support.signed_in_client import at_desk
from workflow.context import House, open_house
from workflow.models.core import ProcessEnd
from workflow.models.states import Role
from workflow.operations import crash_loops, status
from workflow.runtime.clock import wall

ENDS = [sys.executable, "-c", "raise SystemExit(3)"]


def until(true: Callable[[], object], seconds: float = 30) -> None:
    latest = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < latest, "it did not happen in time"
        time.sleep(0.02)


def end(house: House, process: str, times: int, how: str = "exit 1") -> None:
    with house.store.transaction() as session:
        ends = [
            ProcessEnd(host="one", process=process, at=house.clock(), how=how) for _ in range(times)
        ]
        crash_loops.record(session, ends, house.clock())


def test_a_process_that_ends_again_and_again_is_told_by_the_status_for_as_long_as_it_does(
    any_house: House, clock: HandClock
) -> None:
    end(any_house, "folder", 2)
    end(any_house, "worker", 1, "signal 9")
    status.alive(any_house, "folder")
    assert status_data(any_house)["processes"]["folder"]["alive"], "once or twice is no loop"
    clock.turn(minutes=2)
    end(any_house, "folder", 1)
    status.alive(any_house, "folder")
    status.alive(any_house, "worker one 1")
    said = status_data(any_house)
    (need,) = [need for need in said["needs"] if "ended" in need]
    assert need.startswith(
        "folder on one ended 3 times within 10 minutes, the last time at 2026-03-02 15:02 UTC"
        " (exit 1)"
    )
    assert (said["ok"], said["processes"]["folder"]["alive"]) == (False, False)
    assert process_state(said["processes"]["folder"]) == "ends again and again"
    assert said["processes"]["worker one 1"]["alive"]
    page = at_desk(any_house, Role.LEAD).get("/operations").text
    assert "ends again and again" in page
    assert "folder on one ended 3 times within 10 minutes" in page
    clock.turn(minutes=11)
    status.alive(any_house, "folder")
    assert status_data(any_house)["processes"]["folder"]["alive"]


def test_the_supervisor_has_each_end_written_down(house: House) -> None:
    """A real child that ends at once, restarted by the real supervisor, in the real database."""
    recorder = EndRecorder(house.settings)
    supervisor = Supervisor(dict(os.environ), recorder.ended)
    child = supervisor.add("folder", ENDS)
    told = open_house(house.settings, clock=wall())
    try:

        def loops() -> list[crash_loops.CrashLoop]:
            child.again_at = 0  # the pauses between two starts are not what this is about
            supervisor.wait_for(lambda: True, 1)
            supervisor._look()
            with told.store.reading() as session:
                return crash_loops.crash_loops(session, told.clock())

        until(loops)
        (loop,) = loops()
        assert (loop.process, loop.how) == ("folder", "exit 3")
    finally:
        supervisor.stop()
        recorder.close()
        told.close()


def test_a_child_that_is_stopped_on_purpose_is_no_end(house: House) -> None:
    recorder = EndRecorder(house.settings)
    supervisor = Supervisor(dict(os.environ), recorder.ended)
    supervisor.add("folder", [sys.executable, "-c", "import time; time.sleep(60)"])
    supervisor._signalled(signal.SIGTERM, None)
    supervisor.stop()
    recorder.close()
    with house.store.reading() as session:
        assert session.query(ProcessEnd).count() == 0


def test_ends_that_could_not_be_written_are_written_with_the_next_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, tried = [True, True], []
    whole = crash_loops.record

    def record(session: object, ends: list[ProcessEnd], now: object) -> None:
        tried.append(len(ends))
        if failing and failing.pop():
            raise OperationalError("", {}, Exception())
        whole(session, ends, now)  # type: ignore[arg-type]

    monkeypatch.setattr(crash_loops, "record", record)
    recorder = EndRecorder(house.settings)
    for _ in range(3):
        recorder.ended("folder", "exit 1")
    recorder.close()
    assert tried == [1, 2, 3]
    with house.store.reading() as session:
        assert session.query(ProcessEnd).count() == 3


def test_a_process_whose_loop_hangs_at_an_item_says_no_longer_that_it_is_alive(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "BEAT_SECONDS", 0.02)
    progress = Progress()
    with opened(house.settings, "folder", progress) as (other, _):
        until(lambda: "folder" in status.report(other).seen)
        monkeypatch.setattr(lifecycle, "STALLED_SECONDS", -1.0)
        time.sleep(0.1)  # a beat that had begun ends
        before = status.report(other).seen["folder"]
        time.sleep(0.2)
        assert status.report(other).seen["folder"] == before
        monkeypatch.setattr(lifecycle, "STALLED_SECONDS", 900.0)
        progress.made()
        until(lambda: status.report(other).seen["folder"] > before)
