"""Records that the reader of every format returns: book, sheets, rows and cells."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

UNMERGED: Mapping[int, int] = MappingProxyType({})


class Cell(NamedTuple):
    """A cell as it is stored.

    `kind` is "n" for a number, "s" text, "b" boolean, "e" error, "d" ISO date and "f" a formula
    without a stored value. `style` is an index into the formats of its book. `flaw` is the fault in
    how it is stored, "" without one. `link` is the address that it leads to, "" without one.
    """

    kind: str
    text: str
    style: int = 0
    flaw: str = ""
    link: str = ""


class Row(NamedTuple):
    """A row, by its number from 1; its cells by column from 1, blank ones left out.

    `merged` has the cells that cover rows below: by column, the number of the last row they cover.
    """

    number: int
    hidden: bool
    cells: dict[int, Cell]
    merged: Mapping[int, int] = UNMERGED


@dataclass(frozen=True, slots=True)
class Sheet:
    """A visible sheet by the name on its tab, "" where there is none.

    Each call of `rows` reads the sheet anew; it yields rows lazily and in order, blank ones left
    out. The fault of a single cell is a flaw of that cell. `totals` are the numbers of rows that
    the workbook itself declares as totals of a table.
    """

    name: str = field(repr=False)
    rows: Callable[[], Iterator[Row]] = field(repr=False)
    totals: frozenset[int] = frozenset()


@dataclass(slots=True)
class Book:
    """An opened workbook.

    `hidden` are the names of hidden sheets, which are not read. `formats` are number formats by
    style id. `date_1904` is true for the calendar of old Macintosh workbooks.
    """

    sheets: list[Sheet] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list, repr=False)
    formats: list[str] = field(default_factory=list, repr=False)
    date_1904: bool = False
