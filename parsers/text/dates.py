"""Parser of dates and times as people in the United States type them, and of ISO 8601."""

import re
from datetime import datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, start=1)}
# Only names that mean one thing in the United States; any other leaves the time without a zone.
_ZONES = {
    "z": "UTC",
    "utc": "UTC",
    "gmt": "UTC",
    "est": "America/New_York",
    "edt": "America/New_York",
    "et": "America/New_York",
    "cst": "America/Chicago",
    "cdt": "America/Chicago",
    "ct": "America/Chicago",
    "mst": "America/Denver",
    "mdt": "America/Denver",
    "mt": "America/Denver",
    "pst": "America/Los_Angeles",
    "pdt": "America/Los_Angeles",
    "pt": "America/Los_Angeles",
}
_LONGEST = 80
_DATE = re.compile(
    r"""(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?
    (?: (?P<y1>\d{4})[-/.](?P<m1>\d{1,2})[-/.](?P<d1>\d{1,2})
      | (?P<a>\d{1,2})[-/.](?P<b>\d{1,2})[-/.](?P<c>\d{4}|\d{2})
      | (?P<m3>[a-z]{3})[a-z]*\.?\s+(?P<d3>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<y3>\d{4})
      | (?P<d4>\d{1,2})[-\s](?P<m4>[a-z]{3})[a-z]*\.?,?[-\s](?P<y4>\d{4}|\d{2})
    )""",
    re.VERBOSE,
)
_TIME = re.compile(
    r"""(?P<h>\d{1,2}) (?: :(?P<min>\d{2}) (?: :(?P<s>\d{2})(?:\.\d{1,9})? )? )?
    \s* (?P<half>[ap]\.?m\.?)? \s* \(?(?P<zone>[a-z]{1,3}|[+-]\d{2}:?\d{2})?\)?""",
    re.VERBOSE,
)


def parse_moment(text: str, order: str = "mdy") -> datetime | time | None:
    """Parse a date, with or without time and zone, or a time of day alone.

    None where it is neither for certain. The result is naive where no zone is named. `order` is the
    order of a date of numbers that can be read two ways: mdy, dmy, or ymd where the year has two
    digits and stands first; where that gives no month, the other way round.
    """
    plain = " ".join(text[: _LONGEST + 1].casefold().split())
    if len(plain) > _LONGEST:
        return None
    match = _DATE.match(plain)
    try:
        if not match:
            return _parse_time(plain)
        rest = plain[match.end() :].removeprefix(",").removeprefix("t").removeprefix(" at ")
        rest = rest.strip(" -")
        clock = _parse_time(rest) if rest else time(0)
        return None if clock is None else datetime.combine(_parse_day(match, order), clock)
    except ValueError:
        return None


def find_numeric_day(text: str) -> tuple[int, int] | None:
    """Return the first two numbers of a date such as 03/08/2026, where one may be day or month.

    None for any other text, also for a date that names its year first or its month by name.
    """
    plain = " ".join(text[: _LONGEST + 1].casefold().split())
    match = _DATE.match(plain)
    if match is None or not match["a"]:
        return None
    return int(match["a"]), int(match["b"])


def _parse_day(match: re.Match[str], order: str) -> datetime:
    if match["a"]:
        return _parse_numeric_day(match["a"], match["b"], match["c"], order)
    groups = {key[0]: value for key, value in match.groupdict().items() if value}
    month = _MONTHS[groups["m"]] if groups["m"] in _MONTHS else int(groups["m"])
    # The zone comes with the time.
    return datetime(_parse_year(groups["y"]), month, int(groups["d"]))  # noqa: DTZ001


def _parse_numeric_day(first: str, second: str, last: str, order: str) -> datetime:
    if order == "ymd" and len(first) == len(last) == len("yy"):
        return datetime(_parse_year(first), int(second), int(last))  # noqa: DTZ001
    month, day = (int(second), int(first)) if order == "dmy" else (int(first), int(second))
    if month > 12 >= day:  # noqa: PLR2004 - months of a year
        month, day = day, month
    return datetime(_parse_year(last), month, day)  # noqa: DTZ001


def _parse_year(digits: str) -> int:
    return int(digits) + (2000 if len(digits) == len("yy") else 0)


def _parse_time(text: str) -> time | None:
    match = _TIME.fullmatch(text)
    if not match or not (match["min"] or match["half"]):
        return None
    hour = int(match["h"])
    if match["half"]:
        if not 1 <= hour <= 12:  # noqa: PLR2004 - hours of half a day
            return None
        hour = hour % 12 + (12 if match["half"][0] == "p" else 0)
    return time(
        hour, int(match["min"] or 0), int(match["s"] or 0), tzinfo=_parse_zone(match["zone"] or "")
    )


def _parse_zone(name: str) -> timezone | ZoneInfo | None:
    if name[:1] in {"+", "-"} and name:
        offset = timedelta(hours=int(name[1:3]), minutes=int(name[-2:]))
        return timezone(offset if name[0] == "+" else -offset)
    return ZoneInfo(_ZONES[name]) if name in _ZONES else None
