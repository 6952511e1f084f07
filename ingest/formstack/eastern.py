"""Formstack's times.

US/Eastern by the wall, where one hour comes twice in November and one never in March.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

EASTERN = ZoneInfo("America/New_York")
WALL_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
CLOCK_CHANGE = timedelta(hours=1)  # what the wall clock is put back by


def format_wall_time_before(moment: datetime) -> str:
    """The wall time to ask from, so that nothing at or after `moment` is left out.

    An hour early: in November 1:50 may be followed by 1:10, and Formstack may mean either of the
    two when it hears 1:50. Counted in UTC, so that no time is made up that March leaves out.
    """
    return (moment.astimezone(UTC) - CLOCK_CHANGE).astimezone(EASTERN).strftime(WALL_TIME_FORMAT)


def parse_moment(told: str) -> datetime | None:
    """The moment of a wall time or an ISO 8601 one, in UTC; None if it is neither.

    A wall time that comes twice is the first of the two, one that never comes the earlier of what
    may be meant: who goes on from there goes on early enough.
    """
    try:
        found = datetime.fromisoformat(told.strip())
        if found.tzinfo is None:
            return min(found.replace(tzinfo=EASTERN, fold=fold).astimezone(UTC) for fold in (0, 1))
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
