"""Reader of the tables in a file, whose format is detected by its content alone.

This is the one place that knows every format.
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

_OPENERS = {
    PackageKind.WORKBOOK: xlsx.open_workbook,
    PackageKind.BINARY: xlsb.open_workbook,
    PackageKind.OPEN_DOCUMENT: ods.open_document,
}


@dataclass(frozen=True, slots=True)
class Table:
    """A sheet by the name on its tab, or a text file, whose name is "".

    Each call of `rows` reads the table anew; it yields rows lazily and in order, blank ones left
    out. `cells` reads the values of their cells.
    """

    name: str = field(repr=False)
    rows: Callable[[], Iterator[Row]] = field(repr=False)
    cells: CellReader
    totals: frozenset[int] = frozenset()  # rows that the workbook itself declares as totals
    delimiter: str = ""  # of a text file


HIDDEN_SHEETS = "a hidden sheet of the file was not read"


def find_tables(raw: bytes, options: Options) -> tuple[list[Table], list[str]]:
    """Return the visible tables of a file, and caveats on hidden sheets.

    Raises ParseError as `open_tables`.
    """
    visible, hidden = open_tables(raw, options)
    return visible, [HIDDEN_SHEETS] if hidden else []


def open_tables(raw: bytes, options: Options) -> tuple[list[Table], list[str]]:
    """Return the visible tables of a file, and the names of its hidden sheets.

    Raises ParseError, with the format and the remedy, where the file is of no format we read or is
    damaged as a whole. Once rows are yielded, they go on to the end: the fault of a single cell is
    a flaw of that cell.
    """
    book = _open_book(raw, options)
    cells = CellReader(book.formats, date_1904=book.date_1904)
    tables = [
        Table(sheet.name, sheet.rows, cells, sheet.totals, sheet.delimiter) for sheet in book.sheets
    ]
    return tables, book.hidden


def _open_book(raw: bytes, options: Options) -> Book:
    if raw.startswith(detect.OLE):
        content = ole_container.open_container(raw, options.passwords)
        is_zip = content.startswith(detect.ZIP)
        return _open_zip(content) if is_zip else xls.open_workbook(content)
    if raw.startswith(detect.ZIP):
        return _open_zip(raw)
    if spreadsheetml.is_spreadsheet(raw):
        return spreadsheetml.open_spreadsheet(raw)
    if html_table.is_page(raw):
        return html_table.open_page(raw)
    if delimited.is_text(raw):
        return delimited.open_text(raw)
    raise ParseError(detect.explain_unreadable(raw))


def _open_zip(raw: bytes) -> Book:
    package = open_package(raw)
    return _OPENERS[detect.detect_package(package)](package)
