"""What every kind of workbook comes to.

Visible sheets with rows, and how their numbers are meant.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

UNMERGED: Mapping[int, int] = MappingProxyType({})


class Cell(NamedTuple):
    """A cell as stored.

    `kind` is "n" number, "s" text, "b" boolean, "e" error, "d" ISO date, "f" formula unsolved.

    `flaw` says what is wrong with how it is stored, `link` is the address it leads to where its
    text may be another.
    """

    kind: str
    text: str
    style: int = 0
    flaw: str = ""
    link: str = ""


class Row(NamedTuple):
    """A row: its number from 1, whether it is hidden.

    And its cells by column from 1, blank ones left out.

    `merged` are the cells that cover rows below: by column, the number of the last row they cover.
    """

    number: int
    hidden: bool
    cells: dict[int, Cell]
    merged: Mapping[int, int] = UNMERGED


@dataclass(frozen=True, slots=True)
class Sheet:
    """A visible sheet by the name on its tab, "" where there is none.

    `rows()` reads it anew each time.

    Rows come lazily and in order, blank ones left out. What is wrong with a cell is a flaw of that
    cell. `totals` are the numbers of rows that the workbook itself declares as totals of a table.
    """

    name: str = field(repr=False)
    rows: Callable[[], Iterator[Row]] = field(repr=False)
    totals: frozenset[int] = frozenset()


@dataclass(slots=True)
class Book:
    """An opened workbook.

    `hidden` are the names of hidden sheets, which nobody reads; `formats` are number formats by
    style id, `date_1904` is the old Macintosh calendar.
    """

    sheets: list[Sheet] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list, repr=False)
    formats: list[str] = field(default_factory=list, repr=False)
    date_1904: bool = False
