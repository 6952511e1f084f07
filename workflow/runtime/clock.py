"""The system clock.

The only module that asks what time it is; every other function takes `now` as a parameter.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]


def make_clock(offset_seconds: float = 0) -> Clock:
    """Return a clock of aware UTC times, put forward by `offset_seconds`.

    INTAKE_CLOCK_OFFSET sets the offset, to try deadlines on a test system.
    """
    offset = timedelta(seconds=offset_seconds)
    return lambda: datetime.now(UTC) + offset
