"""Values of cells: text as Excel shows it, moments as aware times, and faults."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from openpyxl.styles.numbers import is_date_format

from parsers.spreadsheets import number_formats
from parsers.spreadsheets.formats.model import Cell, read_constant
from parsers.text import dates, normalize

# Exports name no zone; the desk and most practices keep this one.
DEFAULT_ZONE = ZoneInfo("America/New_York")

UNSOLVED = "a formula without a stored value: open the file in Excel and save it"
LONG_NUMBER = "a number of more than 15 digits, of which Excel keeps only the first 15"
ERROR = "an Excel error instead of a value"
NOT_A_DATE = "a date that cannot be read"
PERHAPS_CUT = "a text as long as an Excel cell can hold: it is perhaps cut, ask for the rest"

_CELL_LIMIT = 32_767  # characters of an Excel cell, counted as UTF-16

_MAX_EXACT = 10**15
_MAX_SERIAL = 2_958_466  # 10000-01-01
# 1990 to 2099: a bare number in a date column is a date only there.
_FIRST_SERIAL, _LAST_SERIAL = 32_874, 73_051
_FIRST_YEAR, _LAST_YEAR = 1990, 2100
_SECONDS_A_DAY = 86_400
_LEAP_BUG = 60  # Excel's 29 February 1900, a day that never was; later days count it
# Day 0 of both calendars; a workbook's days have no zone.
_EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001
_EPOCH_1904 = datetime(1904, 1, 1)  # noqa: DTZ001
_NUMBER = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?")


class Value(NamedTuple):
    """A cell's text as people see it, its fault, and the moment it stands for.

    `flaw` is "" for a sound cell. `moment` is naive or a time of day, None for anything but a date.
    `link` is the web or mail address that the cell leads to, "" without one; the text may differ
    from it.
    """

    text: str
    flaw: str = ""
    moment: datetime | time | None = None
    link: str = ""


@dataclass(frozen=True, slots=True)
class CellReader:
    """Reader of the cells of one workbook, by its number formats and its calendar.

    `formats` are by style id; `date_1904` is true for the calendar of old Macintosh workbooks.
    """

    formats: list[str]
    date_1904: bool = False

    def read_value(self, cell: Cell) -> Value:
        """Return the value of a cell; one with blank text for a blank cell.

        No cell is refused: a fault is the value's `flaw`.
        """
        if not (cell.flaw or cell.link):
            return self._read_content(cell)
        value = self._read_content(cell)
        return value._replace(flaw=cell.flaw or value.flaw, link=cell.link)

    def _read_content(self, cell: Cell) -> Value:
        match cell.kind:
            case "s":
                return _read_text(cell.text)
            case "n":
                return self._read_number(cell)
            case "f":
                return Value("", UNSOLVED)
            case "e":
                return Value(normalize.clean(cell.text), ERROR)
            case "b":
                return Value("yes" if cell.text.strip() in {"1", "true"} else "no")
            case _:
                return _parse_iso(cell.text)

    def read_moment(
        self,
        day: Value,
        clock: Value | None = None,
        *,
        zone: ZoneInfo = DEFAULT_ZONE,
        order: str = "mdy",
    ) -> datetime | None:
        """Return the moment in a date column, and perhaps a time column: aware, in UTC.

        `zone` is for a moment that names none, `order` for a date in text that can be read two
        ways: "mdy", "dmy" or "ymd". None where there is no date, or none from 1990 to 2099.
        """
        moment = self._find_moment(day, order)
        if isinstance(moment, time) or moment is None:
            return None
        time_of_day = self._find_moment(clock, order) if clock else None
        if isinstance(time_of_day, datetime):
            time_of_day = time_of_day.time()
        if time_of_day and moment.time() == time(0):
            zone_given = moment.tzinfo or time_of_day.tzinfo
            moment = datetime.combine(moment.date(), time_of_day, zone_given)
        if not _FIRST_YEAR <= moment.year < _LAST_YEAR:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        return moment.astimezone(UTC)

    def _find_moment(self, value: Value, order: str) -> datetime | time | None:
        """Return the moment of a value, of a number that may be a day's, or of a text."""
        if value.moment is not None:
            return value.moment
        if _NUMBER.fullmatch(value.text):
            serial = float(value.text)
            if 0 < serial < 1 or _FIRST_SERIAL <= serial < _LAST_SERIAL:
                return self._convert_serial(serial)
        return dates.parse_moment(value.text, order)

    def _read_number(self, cell: Cell) -> Value:
        text = cell.text.strip()
        number = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(number):
            return Value(normalize.clean(cell.text), ERROR)
        code = self.formats[cell.style] if cell.style < len(self.formats) else "General"
        if _is_date(code):
            return self._read_date(number)
        formatted = _format_number(text, number)
        if code != "General" and formatted.isdigit():
            formatted = number_formats.format_digits(formatted, code)
        return Value(formatted, LONG_NUMBER if abs(number) >= _MAX_EXACT else "")

    def _read_date(self, serial: float) -> Value:
        moment = self._convert_serial(serial)
        if moment is None:
            return Value(_format_number(str(serial), serial), NOT_A_DATE)
        return Value(_format_moment(moment), "", moment)

    def _convert_serial(self, serial: float) -> datetime | time | None:
        """Return the moment so many days after the calendar's start; None outside the calendar.

        Below one day it is a time of day (ECMA-376 §18.17.4).
        """
        if not 0 <= serial < _MAX_SERIAL:
            return None
        epoch = _EPOCH_1904
        if not self.date_1904:
            epoch = _EPOCH if serial >= _LEAP_BUG else _EPOCH + timedelta(days=1)
        moment = epoch + timedelta(seconds=round(serial * _SECONDS_A_DAY))
        return moment.time() if serial < 1 else moment


def _read_text(text: str) -> Value:
    """Return a text cell, without the formula by which exports guard it (`="00471"`)."""
    constant = read_constant(text) if text.startswith("=") else None
    if constant is not None:
        return Value(normalize.clean(constant))
    is_cut = len(text) > _CELL_LIMIT // 2 and len(text.encode("utf-16-le", "replace")) == (
        2 * _CELL_LIMIT
    )
    return Value(normalize.clean(text), PERHAPS_CUT if is_cut else "")


def _parse_iso(text: str) -> Value:
    """Return a date that is stored as text (ISO 8601), as in OpenDocument and newer workbooks."""
    for parse in (datetime.fromisoformat, time.fromisoformat):
        try:
            moment = parse(text.strip())
        except ValueError:
            continue
        return Value(_format_moment(moment), "", moment)
    return Value(normalize.clean(text), NOT_A_DATE)


def _format_moment(moment: datetime | time) -> str:
    """Return a moment as text, without seconds and a time of day that are zero."""
    if isinstance(moment, time):
        return f"{moment:%H:%M:%S}".removesuffix(":00")
    return f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00").removesuffix(" 00:00")


@cache
def _is_date(code: str) -> bool:
    return bool(is_date_format(code))


def _format_number(text: str, number: float) -> str:
    """Return a number as Excel's General shows it: a whole one without a point, 15 digits."""
    if text.isdigit() and (text[0] != "0" or len(text) == 1):
        return text
    return f"{number:.0f}" if number == int(number) else f"{number:.15g}"
