"""One of our processes with crash points: `python -m tests.acceptance.chaos.armed smtp`.

The program itself carries none.

CHAOS_POINTS is `point=probability;…`, CHAOS_FIRED the file that a fired point is written to before
the process kills itself. CHAOS_LIE makes a door say yes without storing, now and then: to see that
the count finds it.
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


def die(point: str) -> None:
    """Perhaps end here, as a crash would: nothing is cleaned up, nobody is told."""
    if time.monotonic() - _started < GRACE or _random.random() >= POINTS.get(point, 0):
        return
    with Path(os.environ["CHAOS_FIRED"]).open("a", encoding="ascii") as file:
        file.write(f"{point}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, point: str, when: Callable[..., bool] = lambda *_: True) -> None:
    """Have calls of a function perhaps never begin."""
    whole = getattr(owner, name)

    def armed(*given: Any, **named: Any) -> Any:
        if when(*given):
            die(point)
        return whole(*given, **named)

    setattr(owner, name, armed)


def after(owner: Any, name: str, point: str) -> None:
    """Have calls of a function perhaps never return, though they did their work."""
    whole = getattr(owner, name)

    def armed(*given: Any, **named: Any) -> Any:
        result = whole(*given, **named)
        die(point)
        return result

    setattr(owner, name, armed)


def arm() -> None:
    event.listen(Session, "before_commit", lambda _: die("before commit"))
    event.listen(Session, "after_commit", lambda _: die("after commit, before reply"))

    # armed before the process has names of its own for it
    from ingest.imap import reader  # noqa: PLC0415
    from workflow.mail import transport  # noqa: PLC0415

    after(transport.Relay, "post", "after send, before mark")
    before(reader, "mark_handled", "after storing, before IMAP mark")
    before(
        Path, "rename", "after reading, before file moves", lambda path, *_: path.suffix == ".xlsx"
    )
    before(
        Path,
        "unlink",
        "after draining, before spool file goes",
        lambda path, *_: path.suffix == ".sealed",
    )
    if os.environ.get("CHAOS_LIE"):
        lie()


def lie() -> None:
    from ingest.intake import Intake  # noqa: PLC0415

    whole = Intake.accept
    Intake.accept = lambda self, one: 1 if _random.random() < 0.1 else whole(self, one)  # type: ignore[method-assign]


if __name__ == "__main__":
    arm()
    from console.cli.main import main

    sys.argv = ["intake", *sys.argv[1:]]
    main()
