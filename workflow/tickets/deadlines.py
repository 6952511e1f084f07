"""When a deadline falls: elapsed hours from our receipt, or business days by setting. Pure."""

from collections.abc import Collection
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from workflow.process import DEADLINES, Deadline, Milestone
from workflow.settings.settings import Settings

if TYPE_CHECKING:
    from holidays import HolidayBase


def due_at(deadline: Deadline, started_at: datetime, settings: Settings) -> datetime:
    """The moment a deadline falls, as aware UTC.

    By default 2 days are 48 elapsed hours, whatever the wall clock does in between. With
    INTAKE_BUSINESS_DAYS the days are working days of the holiday country, at the same time of day
    in the time zone of the desk.
    """
    if not settings.business_days:
        return started_at + deadline.within
    zone = ZoneInfo(settings.time_zone)
    calendar = _calendar(settings.holiday_country)
    day = started_at.astimezone(zone)
    left = deadline.within.days
    while left:
        day += timedelta(days=1)
        left -= calendar.is_working_day(day.date())
    return day.astimezone(started_at.tzinfo)


def compute_next_due(
    started_at: datetime, reached: Collection[Milestone], settings: Settings
) -> datetime | None:
    """The earliest deadline whose milestone is not recorded; None when there is none left."""
    open_ones = (d for d in DEADLINES if d.milestone not in reached)
    return min((due_at(d, started_at, settings) for d in open_ones), default=None)


@lru_cache(maxsize=4)
def _calendar(country: str) -> "HolidayBase":
    import holidays  # noqa: PLC0415  # a tenth of a second that only business days have to wait for

    return holidays.country_holidays(country)
