"""Reader of binary workbooks of Excel (.xlsb, MS-XLSB).

Records are streamed, as the XML parts of an .xlsx are.

Why not python-calamine: it tells no formats, so ids lose their leading zeros, and no hidden rows,
links or merged cells; damaged files can end its process (docs/decisions/0019-workbook-readers.md).
"""

import struct
from collections.abc import Iterable, Iterator
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
_ROW, _BLANK, _LAST_CELL, _RICH = 0, 1, 11, 62
_RK, _ERROR, _BOOL, _REAL, _TEXT, _SHARED = 2, 3, 4, 5, 6, 7
_FORMULAS = {8: _TEXT, 9: _REAL, 10: _BOOL, 11: _ERROR}
_STRING, _FORMAT, _XF, _BEGIN_XFS, _END_XFS = 19, 44, 47, 617, 618
_BEGIN_DATA, _BOOK, _SHEET, _LINK, _MERGED = 145, 153, 156, 494, 176
_HIDDEN_ROW = 0x10
_NONE = 0xFFFFFFFF  # length of a text that is not there
_MOST_LINKS = 100_000

Links = dict[int, dict[int, str]]


def open_workbook(package: Package) -> Book:
    """Open the workbook in a package.

    Raises ParseError where a part that would be read is missing or cut short.
    """
    main = package.main_part("xl/workbook.bin")
    known = package.related(main)
    book, strings = Book(), list[str]()
    try:
        for kind, data in records(package.unpack(main)):
            if kind == _BOOK:
                book.date_1904 = bool(data[0] & 1)
            elif kind == _SHEET:
                _add_sheet(
                    book,
                    data,
                    {key: part for key, (_, part) in known.items()},
                    _Source(package, strings),
                )
        for role, part in known.values():
            if role == "sharedStrings":
                strings += _strings(package.unpack(part))
            elif role == "styles":
                book.formats = _formats(package.unpack(part))
    except (struct.error, IndexError) as error:
        raise ParseError(DAMAGED) from error
    return book


def records(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of each record (MS-XLSB §2.1.4).

    Raises ParseError where the last one is cut short.
    """
    rest = b""
    for chunk in chunks:
        rest, at = rest + chunk, 0
        while (head := _head(rest, at)) and head[2] <= len(rest):
            kind, begin, end = head
            yield kind, rest[begin:end]
            at = end
        rest = rest[at:]
        if len(rest) > MAX_RECORD:
            break
    if rest:
        raise ParseError(DAMAGED)


def _head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Kind, start and end of the record there.

    Numbers of seven bits a byte, the last one without the eighth.
    """
    kind = size = 0
    for place, most in (("kind", 2), ("size", 4)):
        value = 0
        for number in range(most):
            if at >= len(data):
                return None
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << 7 * number
            if byte < 0x80:  # noqa: PLR2004 - the eighth bit
                break
        kind, size = (value, size) if place == "kind" else (kind, value)
    return kind, at, at + size


class _Source(NamedTuple):
    """Where sheets are read from; the shared texts are filled in before any is."""

    package: Package
    strings: list[str]

    def rows(self, part: str, links: Links, merges: Merges) -> Iterator[Row]:
        return _rows(records(self.package.unpack(part)), self.strings, links, merges)


def _add_sheet(book: Book, data: bytes, parts: dict[str, str], source: _Source) -> None:
    (state,) = struct.unpack_from("<I", data)
    key, at = _wide(data, 8)
    name, _ = _wide(data, at)
    part = parts.get(key, "")
    if state:
        book.hidden.append(name)
    elif "/chartsheets/" not in f"/{part}" and "/dialogsheets/" not in f"/{part}":
        source.package.require(part)
        links, merges = _behind_the_cells(
            source.package.unpack(part), source.package.addresses(part)
        )
        book.sheets.append(Sheet(name, partial(source.rows, part, links, merges)))


def _wide(data: bytes, at: int) -> tuple[str, int]:
    """A text with its length in four bytes (MS-XLSB §2.5.168), and where it ends."""
    (count,) = struct.unpack_from("<I", data, at)
    end = at + 4 + (0 if count == _NONE else 2 * count)
    if end > len(data):
        raise struct.error
    return data[at + 4 : end].decode("utf-16-le", "replace"), end


def _behind_the_cells(chunks: Iterable[bytes], addresses: dict[str, str]) -> tuple[Links, Merges]:
    """The addresses of cells, by row and column from 1, and the merged cells.

    Going through all of the sheet shows that no record is missing.
    """
    found: Links = {}
    merges: Merges = {}
    count = 0
    seen = False
    for kind, data in records(chunks):
        seen = seen or kind == _BEGIN_DATA
        if kind == _MERGED:  # first and last row, first and last column (MS-XLSB §2.4.754)
            first, last, column = struct.unpack_from("<III", data)
            add_merge(merges, first + 1, last + 1, column + 1)
        if kind == _LINK and count < _MOST_LINKS:
            count += 1
            row, column = struct.unpack_from("<I4xI", data)
            address = addresses.get(_wide(data, 16)[0], "")
            if address:
                found.setdefault(row + 1, {})[column + 1] = address
    if not seen:
        raise ParseError(DAMAGED)
    return found, merges


def _strings(chunks: Iterable[bytes]) -> list[str]:
    found = [_wide(data, 1)[0] for kind, data in records(chunks) if kind == _STRING]
    if len(found) > MAX_STRINGS:
        raise ParseError("a workbook with more texts than it may have: export fewer messages")
    return found


def _formats(chunks: Iterable[bytes]) -> list[str]:
    codes, styles, inside = dict(BUILTIN_FORMATS), list[int](), False
    for kind, data in records(chunks):
        if kind == _FORMAT:
            codes[data[0] | data[1] << 8] = _wide(data, 2)[0]
        elif kind in {_BEGIN_XFS, _END_XFS}:
            inside = kind == _BEGIN_XFS
        elif kind == _XF and inside:
            styles.append(data[2] | data[3] << 8)
    return [codes.get(style, "General") for style in styles]


def _rows(
    found: Iterator[tuple[int, bytes]], strings: list[str], links: Links, merges: Merges
) -> Iterator[Row]:
    number, hidden, flaw = 0, False, ""
    cells: dict[int, Cell] = {}
    for kind, data in found:
        if kind == _ROW and len(data) > _LAST_CELL:
            if cells:
                yield _row(number, cells, hidden=hidden, flaw=flaw, links=links, merges=merges)
            told = int.from_bytes(data[:4], "little") + 1
            flaw = "" if number < told <= LAST_ROW else MISNUMBERED
            number, hidden, cells = number if flaw else told, bool(data[11] & _HIDDEN_ROW), {}
        elif _BLANK < kind <= _LAST_CELL or kind == _RICH:
            _add(kind, data, cells, strings)
    if cells:
        yield _row(number, cells, hidden=hidden, flaw=flaw, links=links, merges=merges)


def _row(
    number: int, cells: dict[int, Cell], *, hidden: bool, flaw: str, links: Links, merges: Merges
) -> Row:
    if flaw:
        first = min(cells)
        cells[first] = cells[first]._replace(flaw=flaw)
    for column, link in links.get(number, {}).items():
        if column in cells:
            cells[column] = cells[column]._replace(link=link)
    return Row(number, hidden, cells, merges.get(number, UNMERGED))


def _add(kind: int, data: bytes, cells: dict[int, Cell], strings: list[str]) -> None:
    column = int.from_bytes(data[:4], "little") + 1
    style = int.from_bytes(data[4:7], "little")
    try:
        cell = _cell(_FORMULAS.get(kind, kind), data, style, strings)
    except (struct.error, IndexError):
        cell = Cell("s", "", style, DAMAGED_CELL)
    if column > LAST_COLUMN or column in cells:
        column = max(cells, default=0) + 1
        cell = cell._replace(flaw=MISPLACED) if cell else None
    if cell:
        cells[column] = cell


def _cell(kind: int, data: bytes, style: int, strings: list[str]) -> Cell | None:
    if kind == _SHARED:
        (index,) = struct.unpack_from("<I", data, 8)
        if index >= len(strings):
            return Cell("s", "", style, NO_SUCH_TEXT)
        return binary_records.text(strings[index], style)
    if kind in {_TEXT, _RICH}:
        return binary_records.text(_wide(data, 8 + (kind == _RICH))[0], style)
    if kind == _RK:
        return binary_records.number(binary_records.rk(data, 8), style)
    if kind == _REAL:
        return binary_records.number(struct.unpack_from("<d", data, 8)[0], style)
    return (
        binary_records.error(data[8], style) if kind == _ERROR else Cell("b", str(data[8]), style)
    )
