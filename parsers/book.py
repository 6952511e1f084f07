"""What every kind of workbook comes to: visible sheets with rows, and how their numbers are meant."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from parsers.worksheet import Row


@dataclass(frozen=True, slots=True)
class Sheet:
    """A visible sheet by the name on its tab, "" where there is none; `rows()` reads it anew each time.

    Rows come lazily and in order, blank ones left out. What is wrong with a cell is a flaw of that cell.
    """

    name: str = field(repr=False)
    rows: Callable[[], Iterator[Row]] = field(repr=False)


@dataclass(slots=True)
class Book:
    """An opened workbook. `formats` are number formats by style id, `date_1904` is the old Macintosh calendar."""

    sheets: list[Sheet] = field(default_factory=list)
    hidden_sheets: int = 0
    formats: list[str] = field(default_factory=list, repr=False)
    date_1904: bool = False
