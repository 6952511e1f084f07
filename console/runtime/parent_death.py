"""End child processes of `intake up` with their supervisor, even if that was killed with -9."""

import ctypes
import os
import signal
import sys

SUPERVISOR_VARIABLE = "INTAKE_SUPERVISOR"  # set by `intake up` for its children: its process id
_PR_SET_PDEATHSIG = 1  # prctl(2)


def is_under_supervisor() -> bool:
    """Return whether `intake up` started this process."""
    return os.environ.get(SUPERVISOR_VARIABLE) == str(os.getppid())


def end_with_parent() -> None:
    """Ask Linux to send SIGTERM to this process when its parent ends; no effect elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_with_supervisor() -> None:
    """Ask Linux to send SIGTERM to this process when its supervisor ends.

    No effect on other systems, or without a supervisor.
    """
    parent = os.environ.get(SUPERVISOR_VARIABLE, "")
    if not parent.isdigit() or sys.platform != "linux":
        return
    end_with_parent()
    if os.getppid() != int(parent):  # it ended before we could ask
        raise SystemExit(0)
