"""The tables in a file, told by its content alone: the one place that knows every kind of file there is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from parsers import delimited
from parsers.cells import Cells
from parsers.item import ParseError
from parsers.options import Options
from parsers.workbook import open_workbook, what_else
from parsers.worksheet import Row


@dataclass(frozen=True, slots=True)
class Table:
    """A sheet by the name on its tab, or a text file, whose name is ""; `rows()` reads it anew each time.

    Rows come lazily and in order, blank ones left out; `cells` says how what stands in them is meant.
    """

    name: str = field(repr=False)
    rows: Callable[[], Iterator[Row]] = field(repr=False)
    cells: Cells


def tables(raw: bytes, options: Options) -> tuple[list[Table], list[str]]:  # noqa: ARG001
    """Find the tables to read in a file, and caveats on what was left out; the file's name plays no part.

    Raises ParseError, saying what the file is and what to do, where it is none of these kinds or damaged.
    """
    if raw.startswith(b"PK"):
        book = open_workbook(raw)
        cells = Cells(book.formats, date_1904=book.date_1904)
        notes = ["a hidden sheet of the file was not read"] if book.hidden_sheets else []
        return [Table(sheet.name, sheet.rows, cells) for sheet in book.sheets], notes
    if not delimited.is_text(raw):
        raise ParseError(what_else(raw))
    return [Table("", lambda: delimited.rows(raw), Cells([]))], []
