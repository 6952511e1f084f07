"""The edge's clock: the only place that asks what time it is. Everything else takes `now`."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]


def make_clock(offset_seconds: float = 0) -> Clock:
    """Return a clock of aware UTC times.

    Put forward by INTAKE_CLOCK_OFFSET, to try deadlines on a test system.
    """
    ahead = timedelta(seconds=offset_seconds)
    return lambda: datetime.now(UTC) + ahead
