"""Records that the reader of every format returns: book, sheets, rows and cells."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

UNMERGED: Mapping[int, int] = MappingProxyType({})
# A formula that is nothing but a text, as `="00471"`: exports guard leading zeros with it. Of a
# link the words that are shown count, else its address.
_CONSTANT = re.compile(
    r'\s*(?:of:|oooc:)?=?\s*(?:HYPERLINK\(\s*"[^"]*"\s*[,;]\s*)?"((?:[^"]|"")*)"\s*\)?\s*',
    re.IGNORECASE,
)
_MAX_CONSTANT = 2_000  # characters; Excel takes 255 in a text of a formula


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
    `fields` are all fields of a line of a text file as they stand there, blank ones included; other
    formats have none.
    """

    number: int
    hidden: bool
    cells: dict[int, Cell]
    merged: Mapping[int, int] = UNMERGED
    fields: Sequence[str] = ()


def read_constant(formula: str) -> str | None:
    """Return the text that a formula stands for without any calculation, else None.

    For example 00471 for `="00471"`, and "Claim" for `=HYPERLINK("https://…","Claim")`.
    """
    match = _CONSTANT.fullmatch(formula) if len(formula) <= _MAX_CONSTANT else None
    return match[1].replace('""', '"') if match else None


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
    delimiter: str = ""  # of a text file


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
