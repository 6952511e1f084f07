"""A process that ends again and again is not alive, whatever it says when it starts."""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy.exc import OperationalError

from console.presenters.operations import present_status
from console.presenters.terminal import describe_process
from console.runtime import lifecycle
from console.runtime.crash_recorder import CrashRecorder, write_ends
from console.runtime.lifecycle import LoopProgress, open_process
from console.runtime.supervisor import Supervisor
from tests.support.context import HandClock
from tests.support.signed_in_client import sign_in_at_desk
from workflow.context import AppContext, open_context
from workflow.models.core import ProcessEnd
from workflow.models.states import Role
from workflow.operations import crash_loops, status
from workflow.runtime.clock import make_clock

ENDS = [sys.executable, "-c", "raise SystemExit(3)"]


def until(true: Callable[[], object], seconds: float = 30) -> None:
    latest = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < latest, "it did not happen in time"
        time.sleep(0.02)


def end(context: AppContext, process: str, times: int, how: str = "exit 1") -> None:
    with context.store.transaction() as session:
        ends = [
            ProcessEnd(host="one", process=process, at=context.clock(), how=how)
            for _ in range(times)
        ]
        crash_loops.record_ends(session, ends, context.clock())


def test_status_reports_a_crash_loop_as_long_as_it_lasts(
    any_context: AppContext, clock: HandClock
) -> None:
    end(any_context, "folder", 2)
    end(any_context, "worker", 1, "signal 9")
    status.record_alive(any_context, "folder")
    assert present_status(any_context)["processes"]["folder"]["alive"], "once or twice is no loop"
    clock.turn(minutes=2)
    end(any_context, "folder", 1)
    status.record_alive(any_context, "folder")
    status.record_alive(any_context, "worker one 1")
    report = present_status(any_context)
    (need,) = [need for need in report["needs"] if "ended" in need]
    assert need.startswith(
        "folder on one ended 3 times within 10 minutes, the last time at 2026-03-02 15:02 UTC"
        " (exit 1)"
    )
    assert (report["ok"], report["processes"]["folder"]["alive"]) == (False, False)
    assert describe_process(report["processes"]["folder"]) == "ends again and again"
    assert report["processes"]["worker one 1"]["alive"]
    page = sign_in_at_desk(any_context, Role.LEAD).get("/operations").text
    assert "crashes repeatedly" in page
    assert "folder on one ended 3 times within 10 minutes" in page
    clock.turn(minutes=11)
    status.record_alive(any_context, "folder")
    assert present_status(any_context)["processes"]["folder"]["alive"]


def test_the_supervisor_has_each_end_written_down(context: AppContext) -> None:
    """A real child that ends at once, restarted by the real supervisor, in the real database."""
    recorder = CrashRecorder(partial(write_ends, context.settings))
    supervisor = Supervisor(dict(os.environ), recorder.record_end)
    child = supervisor.add_command("folder", ENDS)
    other = open_context(context.settings, clock=make_clock())
    try:

        def loops() -> list[crash_loops.CrashLoop]:
            child.restart_at = 0  # the pauses between two starts are not what this is about
            supervisor.wait_for(lambda: True, 1)
            supervisor._check_children()
            with other.store.read_only() as session:
                return crash_loops.find_crash_loops(session, other.clock())

        until(loops)
        (loop,) = loops()
        assert (loop.process, loop.last_exit) == ("folder", "exit 3")
    finally:
        supervisor.stop()
        recorder.close()
        other.close()


def test_a_process_that_cannot_be_started_is_tried_again() -> None:
    ends: list[tuple[str, str]] = []
    supervisor = Supervisor(dict(os.environ), lambda name, how: ends.append((name, how)))
    child = supervisor.add_command("folder", ["/no/such/program"])
    assert ends == [("folder", "not started, FileNotFoundError")]
    child.restart_at = 0
    supervisor._check_children()
    assert len(ends) == 2
    supervisor.stop()


def test_a_child_that_is_stopped_on_purpose_is_no_end(context: AppContext) -> None:
    recorder = CrashRecorder(partial(write_ends, context.settings))
    supervisor = Supervisor(dict(os.environ), recorder.record_end)
    supervisor.add_command("folder", [sys.executable, "-c", "import time; time.sleep(60)"])
    supervisor._count_signal(signal.SIGTERM, None)
    supervisor.stop()
    recorder.close()
    with context.store.read_only() as session:
        assert session.query(ProcessEnd).count() == 0


def test_ends_that_could_not_be_written_are_written_with_the_next_one(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, tried = [True, True], []
    whole = crash_loops.record_ends

    def record(session: object, ends: list[ProcessEnd], now: object) -> None:
        tried.append(len(ends))
        if failing and failing.pop():
            raise OperationalError("", {}, Exception())
        whole(session, ends, now)  # type: ignore[arg-type]

    monkeypatch.setattr(crash_loops, "record_ends", record)
    recorder = CrashRecorder(partial(write_ends, context.settings))
    for _ in range(3):
        recorder.record_end("folder", "exit 1")
    recorder.close()
    assert tried == [1, 2, 3]
    with context.store.read_only() as session:
        assert session.query(ProcessEnd).count() == 3


def test_a_process_whose_loop_hangs_at_an_item_says_no_longer_that_it_is_alive(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "HEARTBEAT_SECONDS", 0.02)
    progress = LoopProgress()
    with open_process(context.settings, "folder", progress) as (other, _):
        until(lambda: "folder" in status.collect_status(other).last_seen)
        monkeypatch.setattr(lifecycle, "STALLED_SECONDS", -1.0)
        time.sleep(0.1)  # a beat that had begun ends
        before = status.collect_status(other).last_seen["folder"]
        time.sleep(0.2)
        assert status.collect_status(other).last_seen["folder"] == before
        monkeypatch.setattr(lifecycle, "STALLED_SECONDS", 900.0)
        progress.record_round()
        until(lambda: status.collect_status(other).last_seen["folder"] > before)
