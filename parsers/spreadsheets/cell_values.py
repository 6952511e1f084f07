"""A cell as it was meant.

Text as Excel shows it, moments as aware times, and what got lost on the way.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from openpyxl.styles.numbers import is_date_format

from parsers.spreadsheets import number_formats
from parsers.spreadsheets.formats.model import Cell
from parsers.text import dates, normalize

DEFAULT_ZONE = ZoneInfo(
    "America/New_York"
)  # exports name none; the desk and most practices keep this one

UNSOLVED = "a formula without a stored value: open the file in Excel and save it"
LONG_NUMBER = "a number of more than 15 digits, of which Excel keeps only the first 15"
ERROR = "an Excel error instead of a value"
NOT_A_DATE = "a date that cannot be read"

_MAX_EXACT = 10**15
_MAX_SERIAL = 2_958_466  # 10000-01-01
_FIRST_SERIAL, _LAST_SERIAL = (
    32_874,
    73_051,
)  # 1990 to 2099: where a bare number in a date column is a date
_FIRST_YEAR, _LAST_YEAR = 1990, 2100
_LEAP_BUG = 60  # Excel's 29 February 1900, a day that never was
_NUMBER = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?")


class Value(NamedTuple):
    """A cell's text as people see it, what is wrong with it, and the moment it stands for.

    Naive, or a time of day.

    `link` is the web or mail address the cell leads to, where it has one: its text may say anything
    else.
    """

    text: str
    flaw: str = ""
    moment: datetime | time | None = None
    link: str = ""


@dataclass(frozen=True, slots=True)
class CellReader:
    """How a workbook means its numbers: formats by style id, and the calendar."""

    formats: list[str]
    date_1904: bool = False

    def read_value(self, cell: Cell) -> Value:
        """Read a cell; blank text for a blank one.

        Nothing is refused: what is wrong is a `flaw`.
        """
        if not (cell.flaw or cell.link):
            return self._meant(cell)
        value = self._meant(cell)
        return value._replace(flaw=cell.flaw or value.flaw, link=cell.link)

    def _meant(self, cell: Cell) -> Value:
        match cell.kind:
            case "s":
                return Value(normalize.clean(cell.text))
            case "n":
                return self._number(cell)
            case "f":
                return Value("", UNSOLVED)
            case "e":
                return Value(normalize.clean(cell.text), ERROR)
            case "b":
                return Value("yes" if cell.text.strip() in {"1", "true"} else "no")
            case _:
                return _iso(cell.text)

    def read_moment(
        self,
        day: Value,
        clock: Value | None = None,
        *,
        zone: ZoneInfo = DEFAULT_ZONE,
        order: str = "mdy",
    ) -> datetime | None:
        """Make the moment out of a date column and perhaps a time column: aware, in UTC.

        None if unreadable.

        `zone` is where a moment names none, `order` how a date in text is meant that can be read
        two ways.
        """
        found = self._moment(day, order)
        if isinstance(found, time) or found is None:
            return None
        of_day = self._moment(clock, order) if clock else None
        if isinstance(of_day, datetime):
            of_day = of_day.time()
        if of_day and found.time() == time(0):
            found = datetime.combine(found.date(), of_day, found.tzinfo or of_day.tzinfo)
        if not _FIRST_YEAR <= found.year < _LAST_YEAR:
            return None
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)

    def _moment(self, value: Value, order: str) -> datetime | time | None:
        if value.moment is not None:
            return value.moment
        if _NUMBER.fullmatch(value.text) and (
            0 < float(value.text) < 1 or _is_recent(float(value.text))
        ):
            return self._from_serial(float(value.text))
        return dates.parse_moment(value.text, order)

    def _number(self, cell: Cell) -> Value:
        text = cell.text.strip()
        number = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(number):
            return Value(normalize.clean(cell.text), ERROR)
        code = self.formats[cell.style] if cell.style < len(self.formats) else "General"
        if _is_date(code):
            return self._date(number)
        shown = _plain(text, number)
        if code != "General" and shown.isdigit():
            shown = number_formats.format_digits(shown, code)
        return Value(shown, LONG_NUMBER if abs(number) >= _MAX_EXACT else "")

    def _date(self, serial: float) -> Value:
        moment = self._from_serial(serial)
        return (
            Value(_plain(str(serial), serial), NOT_A_DATE)
            if moment is None
            else Value(_shown(moment), "", moment)
        )

    def _from_serial(self, serial: float) -> datetime | time | None:
        """Turn days since the calendar's start into a moment.

        Below one day it is a time of day (ECMA-376 §18.17.4).
        """
        if not 0 <= serial < _MAX_SERIAL:
            return None
        windows = (1899, 12, 30) if serial >= _LEAP_BUG else (1899, 12, 31)
        epoch = datetime(*((1904, 1, 1) if self.date_1904 else windows))  # noqa: DTZ001 - a workbook's days are local
        moment = epoch + timedelta(seconds=round(serial * 86_400))
        return moment.time() if serial < 1 else moment


def _iso(text: str) -> Value:
    """A date stored as such (ISO 8601), as newer workbooks and OpenDocument have them."""
    for read in (datetime.fromisoformat, time.fromisoformat):
        try:
            moment = read(text.strip())
        except ValueError:
            continue
        return Value(_shown(moment), "", moment)
    return Value(normalize.clean(text), NOT_A_DATE)


def _shown(moment: datetime | time) -> str:
    if isinstance(moment, time):
        return f"{moment:%H:%M:%S}".removesuffix(":00")
    return f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00").removesuffix(" 00:00")


def _is_recent(serial: float) -> bool:
    return _FIRST_SERIAL <= serial < _LAST_SERIAL


@cache
def _is_date(code: str) -> bool:
    return bool(is_date_format(code))


def _plain(text: str, number: float) -> str:
    """Write a number as Excel's General does: whole ones without a point, at most 15 digits."""
    if text.isdigit() and (text[0] != "0" or len(text) == 1):
        return text
    return f"{number:.0f}" if number == int(number) else f"{number:.15g}"
