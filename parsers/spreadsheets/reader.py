"""The tables in a file, told by its content alone.

The one place that knows every kind of file there is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from parsers.item import ParseError
from parsers.options import Options
from parsers.spreadsheets.cell_values import CellReader
from parsers.spreadsheets.formats import (
    delimited,
    detect,
    html_table,
    ods,
    ole_container,
    spreadsheetml,
    xls,
    xlsb,
    xlsx,
)
from parsers.spreadsheets.formats.detect import PackageKind
from parsers.spreadsheets.formats.model import Book, Row
from parsers.spreadsheets.formats.zip_package import open_package

_PACKED = {
    PackageKind.WORKBOOK: xlsx.open_workbook,
    PackageKind.BINARY: xlsb.open_workbook,
    PackageKind.OPEN_DOCUMENT: ods.open_document,
}


@dataclass(frozen=True, slots=True)
class Table:
    """A sheet by the name on its tab, or a text file, whose name is "".

    `rows()` reads it anew each time.

    Rows come lazily and in order, blank ones left out; `cells` says how what stands in them is
    meant.
    """

    name: str = field(repr=False)
    rows: Callable[[], Iterator[Row]] = field(repr=False)
    cells: CellReader
    totals: frozenset[int] = frozenset()  # rows that the workbook itself declares as totals


HIDDEN_SHEETS = "a hidden sheet of the file was not read"


def find_tables(raw: bytes, options: Options) -> tuple[list[Table], list[str]]:
    """Find the tables to read in a file, and caveats on what was left out.

    Raises as `open_tables`.
    """
    visible, hidden = open_tables(raw, options)
    return visible, [HIDDEN_SHEETS] if hidden else []


def open_tables(raw: bytes, options: Options) -> tuple[list[Table], list[str]]:
    """Find the tables to read in a file, and the names of hidden sheets.

    The file's name plays no part.

    Raises ParseError, saying what the file is and what to do, where it is none of these kinds, or
    damaged as a whole: once rows are yielded, they go on to the end, and what is wrong with a cell
    is a flaw of that cell.
    """
    book = _book(raw, options)
    cells = CellReader(book.formats, date_1904=book.date_1904)
    return [
        Table(sheet.name, sheet.rows, cells, sheet.totals) for sheet in book.sheets
    ], book.hidden


def _book(raw: bytes, options: Options) -> Book:
    if raw.startswith(detect.OLE):
        held = ole_container.open_container(raw, options.passwords)
        return _packed(held) if held.startswith(detect.ZIP) else xls.open_workbook(held)
    if raw.startswith(detect.ZIP):
        return _packed(raw)
    if spreadsheetml.is_spreadsheet(raw):
        return spreadsheetml.open_spreadsheet(raw)
    if html_table.is_page(raw):
        return html_table.open_page(raw)
    if delimited.is_text(raw):
        return delimited.open_text(raw)
    raise ParseError(detect.explain_unreadable(raw))


def _packed(raw: bytes) -> Book:
    package = open_package(raw)
    return _PACKED[detect.detect_package(package)](package)
