"""What every kind of workbook comes to: visible sheets with rows, and how their numbers are meant."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from parsers.worksheet import Row


@dataclass(frozen=True, slots=True)
class Sheet:
    """A visible sheet by the name on its tab, "" where there is none; `rows()` reads it anew each time.

    Rows come lazily and in order, blank ones left out. What is wrong with a cell is a flaw of that cell. `totals` are
    the numbers of rows that the workbook itself declares as totals of a table.
    """

    name: str = field(repr=False)
    rows: Callable[[], Iterator[Row]] = field(repr=False)
    totals: frozenset[int] = frozenset()


@dataclass(slots=True)
class Book:
    """An opened workbook.

    `hidden` are the names of hidden sheets, which nobody reads; `formats` are number formats by style id, `date_1904`
    is the old Macintosh calendar.
    """

    sheets: list[Sheet] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list, repr=False)
    formats: list[str] = field(default_factory=list, repr=False)
    date_1904: bool = False
