"""A process of the program with crash points, forked as `intake up` forks its own.

The program itself has none. CHAOS_POINTS is `point=probability;…`, CHAOS_FIRED the file that a
fired point is written to before the process kills itself, CHAOS_LOG the file of its output.
CHAOS_FAKE_ACKS makes the channels acknowledge some items without storing them: the count must find
that.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

from console.cli.main import run_command
from ingest.imap import reader
from ingest.intake import Arrival, Intake
from workflow.mail import transport

# seconds a process lives at least: one that dies at its first commit would never do anything
GRACE = 3.0
_probabilities: dict[str, float] = {}
_armed_at = 0.0
_random = random.Random()  # noqa: S311  # no secret


def run_armed(name: str) -> None:
    """Become the process `intake NAME` with crash points. Raises SystemExit with its exit code."""
    log = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)
    arm()
    run_command(name)


def kill_at(point: str) -> None:
    """Perhaps kill this process here, as a crash would: without any clean-up."""
    if time.monotonic() - _armed_at < GRACE or _random.random() >= _probabilities.get(point, 0):
        return
    with Path(os.environ["CHAOS_FIRED"]).open("a", encoding="ascii") as file:
        file.write(f"{point}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def kill_before(
    owner: Any, name: str, point: str, when: Callable[..., bool] = lambda *_: True
) -> None:
    """Arm a function: the process may be killed before a call begins."""
    original = getattr(owner, name)

    def kill_then_call(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            kill_at(point)
        return original(*args, **kwargs)

    setattr(owner, name, kill_then_call)


def kill_after(owner: Any, name: str, point: str) -> None:
    """Arm a function: the process may be killed after a call has done its work."""
    original = getattr(owner, name)

    def call_then_kill(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        kill_at(point)
        return result

    setattr(owner, name, call_then_kill)


def arm() -> None:
    """Set the crash points of this process."""
    global _armed_at  # noqa: PLW0603
    _armed_at = time.monotonic()
    for setting in filter(None, os.environ.get("CHAOS_POINTS", "").split(";")):
        point, _, probability = setting.partition("=")
        _probabilities[point] = float(probability)
    event.listen(Session, "before_commit", lambda _: kill_at("before commit"))
    event.listen(Session, "after_commit", lambda _: kill_at("after commit, before reply"))

    kill_after(transport.Relay, "post", "after send, before mark")
    kill_before(reader, "mark_handled", "after storing, before IMAP mark")
    kill_before(
        Path, "rename", "after reading, before file moves", lambda path, *_: path.suffix == ".xlsx"
    )
    kill_before(
        Path,
        "unlink",
        "after draining, before spool file goes",
        lambda path, *_: path.suffix == ".sealed",
    )
    if os.environ.get("CHAOS_FAKE_ACKS"):
        fake_acks()


def fake_acks() -> None:
    """Acknowledge a tenth of all arrivals without storing them."""
    original = Intake.accept

    def accept(intake: Intake, arrival: Arrival) -> int:
        return 1 if _random.random() < 0.1 else original(intake, arrival)

    Intake.accept = accept  # type: ignore[assignment, method-assign]
