"""A process of the program with crash points: `python -m tests.acceptance.chaos.armed smtp`.

The program itself has none. CHAOS_POINTS is `point=probability;…`, CHAOS_FIRED the file that a
fired point is written to before the process kills itself. CHAOS_FAKE_ACKS makes the channels
acknowledge some items without storing them: the count must find that.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

# seconds a process lives at least: one that dies at its first commit would never do anything
GRACE = 3.0
POINTS = {
    name: float(chance)
    for name, _, chance in (
        p.partition("=") for p in os.environ.get("CHAOS_POINTS", "").split(";") if p
    )
}
_started = time.monotonic()
_random = random.Random()  # noqa: S311  # no secret


def kill_at(point: str) -> None:
    """Perhaps kill this process here, as a crash would: without any clean-up."""
    if time.monotonic() - _started < GRACE or _random.random() >= POINTS.get(point, 0):
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
    event.listen(Session, "before_commit", lambda _: kill_at("before commit"))
    event.listen(Session, "after_commit", lambda _: kill_at("after commit, before reply"))

    # imported here, so that they are armed before another module imports names from them
    from ingest.imap import reader  # noqa: PLC0415
    from workflow.mail import transport  # noqa: PLC0415

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
    from ingest.intake import Arrival, Intake  # noqa: PLC0415

    original = Intake.accept

    def accept(intake: Intake, arrival: Arrival) -> int:
        return 1 if _random.random() < 0.1 else original(intake, arrival)

    Intake.accept = accept  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    arm()
    from console.cli.main import main

    sys.argv = ["intake", *sys.argv[1:]]
    main()
