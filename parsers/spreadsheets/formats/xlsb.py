"""Reader of binary workbooks of Excel (.xlsb, MS-XLSB), whose records are streamed.

Why not python-calamine: it gives no formats, so ids lose their leading zeros, and no hidden rows,
links or merged cells; damaged files can end its process (docs/decisions/0019-workbook-readers.md).
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from openpyxl.styles.numbers import BUILTIN_FORMATS

from parsers.item import ParseError
from parsers.spreadsheets.formats import binary_records
from parsers.spreadsheets.formats.binary_records import DAMAGED_CELL
from parsers.spreadsheets.formats.model import UNMERGED, Book, Cell, Row, Sheet
from parsers.spreadsheets.formats.xlsx_sheet import (
    LAST_COLUMN,
    LAST_ROW,
    MAX_STRINGS,
    MISNUMBERED,
    MISPLACED,
    NO_SUCH_TEXT,
    Merges,
    add_merge,
)
from parsers.spreadsheets.formats.xml import DAMAGED
from parsers.spreadsheets.formats.zip_package import Package

MAX_RECORD = 2**24  # bytes
# Kinds of records of rows and cells.
_ROW = 0
_BLANK = 1
_RK = 2
_ERROR = 3
_BOOL = 4
_REAL = 5
_TEXT = 6
_SHARED = 7
_FORMULAS = {8: _TEXT, 9: _REAL, 10: _BOOL, 11: _ERROR}  # by the kind of their result
_LAST_CELL = 11
_RICH = 62
# Kinds of other records.
_STRING = 19  # a shared text
_FORMAT = 44
_XF = 47
_BEGIN_XFS = 617
_END_XFS = 618
_BEGIN_DATA = 145
_BOOK = 153
_SHEET = 156
_MERGED = 176
_LINK = 494
_ROW_FLAGS = 11  # place of its flags in the record of a row
_HIDDEN_ROW = 0x10
_MISSING = 0xFFFFFFFF  # length of a text that is not there
_MAX_LINKS = 100_000
_CONTINUES = 0x80  # bit of a byte of a number: another one follows

Links = dict[int, dict[int, str]]  # row -> column -> the address a cell leads to; both from 1


def open_workbook(package: Package) -> Book:
    """Open the workbook in a package.

    Raises ParseError where a part that would be read is missing or cut short.
    """
    main = package.get_main_part("xl/workbook.bin")
    relationships = package.list_relationships(main)
    parts = {key: part for key, (_, part) in relationships.items()}
    book = Book()
    strings: list[str] = []
    try:
        for kind, data in _iter_records(package.unpack(main)):
            if kind == _BOOK:
                book.date_1904 = bool(data[0] & 1)
            elif kind == _SHEET:
                _add_sheet(book, data, parts, _Source(package, strings))
        for role, part in relationships.values():
            if role == "sharedStrings":
                strings += _parse_shared_strings(package.unpack(part))
            elif role == "styles":
                book.formats = _list_formats(package.unpack(part))
    except (struct.error, IndexError) as error:
        raise ParseError(DAMAGED) from error
    return book


def _iter_records(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of each record (MS-XLSB §2.1.4).

    Raises ParseError where the last one is cut short.
    """
    rest = b""
    for chunk in chunks:
        rest, at = rest + chunk, 0
        while (head := _parse_head(rest, at)) and head[2] <= len(rest):
            kind, begin, end = head
            yield kind, rest[begin:end]
            at = end
        rest = rest[at:]
        if len(rest) > MAX_RECORD:
            break
    if rest:
        raise ParseError(DAMAGED)


def _parse_head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return kind, start and end of the record at a place, None where its head is cut short.

    The end may be behind the data.
    """
    kind = _parse_number(data, at, 2)
    size = _parse_number(data, kind[1], 4) if kind is not None else None
    if kind is None or size is None:
        return None
    return kind[0], size[1], size[1] + size[0]


def _parse_number(data: bytes, at: int, most: int) -> tuple[int, int] | None:
    """Return a number of at most so many bytes, and where it ends; None where it is cut short.

    Each byte has seven bits of it, the lowest first.
    """
    value = 0
    for place in range(most):
        if at >= len(data):
            return None
        byte = data[at]
        at += 1
        value |= (byte & ~_CONTINUES) << 7 * place
        if byte < _CONTINUES:
            break
    return value, at


class _Source(NamedTuple):
    """Package that sheets are read from, and its shared texts.

    The texts are filled in after the sheets are listed, and before any is read.
    """

    package: Package
    strings: list[str]

    def iter_rows(self, part: str, links: Links, merges: Merges) -> Iterator[Row]:
        """Yield the rows of a sheet."""
        records = _iter_records(self.package.unpack(part))
        return _iter_rows(records, self.strings, links, merges)


def _add_sheet(book: Book, data: bytes, parts: dict[str, str], source: _Source) -> None:
    """Add a sheet to a book by its record; no chart and no dialog."""
    (state,) = struct.unpack_from("<I", data)
    key, at = _parse_text(data, 8)
    name, _ = _parse_text(data, at)
    part = parts.get(key, "")
    if state:
        book.hidden.append(name)
    elif "/chartsheets/" not in f"/{part}" and "/dialogsheets/" not in f"/{part}":
        source.package.get_root(part)
        chunks = source.package.unpack(part)
        links, merges = _read_links_and_merges(chunks, source.package.list_links(part))
        book.sheets.append(Sheet(name, partial(source.iter_rows, part, links, merges)))


def _parse_text(data: bytes, at: int) -> tuple[str, int]:
    """Return a text with its length in four bytes (MS-XLSB §2.5.168), and where it ends.

    Raises struct.error where it is cut short.
    """
    (count,) = struct.unpack_from("<I", data, at)
    end = at + 4 + (0 if count == _MISSING else 2 * count)
    if end > len(data):
        raise struct.error
    return data[at + 4 : end].decode("utf-16-le", "replace"), end


def _read_links_and_merges(
    chunks: Iterable[bytes], addresses: dict[str, str]
) -> tuple[Links, Merges]:
    """Return the addresses that cells of a sheet lead to, and its merged cells.

    `addresses` are by relationship id. Going through all of the sheet shows that no record is
    missing.
    """
    links: Links = {}
    merges: Merges = {}
    count = 0
    has_cells = False
    for kind, data in _iter_records(chunks):
        if kind == _BEGIN_DATA:
            has_cells = True
        elif kind == _MERGED:  # first and last row, first and last column (MS-XLSB §2.4.754)
            first, last, column = struct.unpack_from("<III", data)
            add_merge(merges, first + 1, last + 1, column + 1)
        elif kind == _LINK and count < _MAX_LINKS:
            count += 1
            row, column = struct.unpack_from("<I4xI", data)
            address = addresses.get(_parse_text(data, 16)[0], "")
            if address:
                links.setdefault(row + 1, {})[column + 1] = address
    if not has_cells:
        raise ParseError(DAMAGED)
    return links, merges


def _parse_shared_strings(chunks: Iterable[bytes]) -> list[str]:
    """Return the texts that cells refer to by index."""
    texts = [_parse_text(data, 1)[0] for kind, data in _iter_records(chunks) if kind == _STRING]
    if len(texts) > MAX_STRINGS:
        raise ParseError("a workbook with more texts than it may have: export fewer messages")
    return texts


def _list_formats(chunks: Iterable[bytes]) -> list[str]:
    """Return the number formats by style id."""
    codes = dict(BUILTIN_FORMATS)
    styles: list[int] = []
    in_cell_styles = False
    for kind, data in _iter_records(chunks):
        if kind == _FORMAT:
            codes[data[0] | data[1] << 8] = _parse_text(data, 2)[0]
        elif kind in {_BEGIN_XFS, _END_XFS}:
            in_cell_styles = kind == _BEGIN_XFS
        elif kind == _XF and in_cell_styles:
            styles.append(data[2] | data[3] << 8)
    return [codes.get(style, "General") for style in styles]


@dataclass(slots=True)
class _RowMaker:
    """A row while the records of its cells go by."""

    number: int
    is_hidden: bool = False
    flaw: str = ""
    cells: dict[int, Cell] = field(default_factory=dict)

    def complete(self, links: Links, merges: Merges) -> Row:
        """Return the row with the links of its cells. It has at least one cell."""
        cells = self.cells
        if self.flaw:
            first = min(cells)
            cells[first] = cells[first]._replace(flaw=self.flaw)
        for column, link in links.get(self.number, {}).items():
            if column in cells:
                cells[column] = cells[column]._replace(link=link)
        return Row(self.number, self.is_hidden, cells, merges.get(self.number, UNMERGED))

    def add(self, kind: int, data: bytes, strings: list[str]) -> None:
        """Add the cell of a record, behind all others where its place is taken or bad."""
        column = int.from_bytes(data[:4], "little") + 1
        style = int.from_bytes(data[4:7], "little")
        try:
            cell = _make_cell(_FORMULAS.get(kind, kind), data, style, strings)
        except (struct.error, IndexError):
            cell = Cell("s", "", style, DAMAGED_CELL)
        if cell is None:
            return
        if column > LAST_COLUMN or column in self.cells:
            column = max(self.cells, default=0) + 1
            cell = cell._replace(flaw=MISPLACED)
        self.cells[column] = cell


def _iter_rows(
    records: Iterator[tuple[int, bytes]], strings: list[str], links: Links, merges: Merges
) -> Iterator[Row]:
    """Yield the rows of a sheet that have cells."""
    row = _RowMaker(0)
    for kind, data in records:
        if kind == _ROW and len(data) > _ROW_FLAGS:
            if row.cells:
                yield row.complete(links, merges)
            row = _start_row(data, row.number)
        elif _BLANK < kind <= _LAST_CELL or kind == _RICH:
            row.add(kind, data, strings)
    if row.cells:
        yield row.complete(links, merges)


def _start_row(data: bytes, last: int) -> _RowMaker:
    """Return a row without cells by its record; `last` is the number of the row before it."""
    number = int.from_bytes(data[:4], "little") + 1
    is_hidden = bool(data[_ROW_FLAGS] & _HIDDEN_ROW)
    if last < number <= LAST_ROW:
        return _RowMaker(number, is_hidden=is_hidden)
    # One wrong number must not make the rows below it wrong.
    return _RowMaker(last, is_hidden=is_hidden, flaw=MISNUMBERED)


def _make_cell(kind: int, data: bytes, style: int, strings: list[str]) -> Cell | None:
    """Return the cell of a record, None for a blank one.

    Raises struct.error or IndexError where the record is cut short.
    """
    if kind == _SHARED:
        (index,) = struct.unpack_from("<I", data, 8)
        if index >= len(strings):
            return Cell("s", "", style, NO_SUCH_TEXT)
        return binary_records.make_text(strings[index], style)
    if kind == _TEXT:
        return binary_records.make_text(_parse_text(data, 8)[0], style)
    if kind == _RICH:  # a byte of flags stands before the text
        return binary_records.make_text(_parse_text(data, 9)[0], style)
    if kind == _RK:
        return binary_records.make_number(binary_records.decode_rk(data, 8), style)
    if kind == _REAL:
        return binary_records.make_number(struct.unpack_from("<d", data, 8)[0], style)
    if kind == _ERROR:
        return binary_records.make_error(data[8], style)
    return Cell("b", str(data[8]), style)
