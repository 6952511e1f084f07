"""Reader of workbooks of Excel 97 to 2003 (.xls, MS-XLS): cells, formats, hidden rows and links.

Why not xlrd: it refuses good workbooks whose emoji fall on the seam of two records, replaces the
first of two cells in one place, and believes what a file says of its links. The damage that
it refuses is refused here too, before the first row (docs/decisions/0019-workbook-readers.md).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from openpyxl.styles.numbers import BUILTIN_FORMATS

from parsers.item import ParseError
from parsers.spreadsheets.formats import binary_records, detect
from parsers.spreadsheets.formats.binary_records import DAMAGED_CELL
from parsers.spreadsheets.formats.model import UNMERGED, Book, Cell, Row, Sheet
from parsers.spreadsheets.formats.xlsx_sheet import (
    MAX_STRINGS,
    MISNUMBERED,
    MISPLACED,
    Merges,
    add_merge,
)
from parsers.spreadsheets.formats.zip_package import LINK

_BOF_8 = 0x0600
# Version and kind in the BOF record of a worksheet.
_BEGIN_WORKSHEET = struct.pack("<HH", _BOF_8, 0x0010)
_WORKSHEET = 0
_HIDDEN_ROW = 0x20
_NO_NUMBER = 0xFFFF  # ends the result of a formula that is no number
_URL_MONIKER = bytes.fromhex("e0c9ea79f9bace118c8200aa004ba90b")
_MOST_LINKS = 100_000

_FORMULA, _RK, _MULTIPLE_RK, _NUMBER, _SHARED, _LABEL, _RICH_LABEL, _BOOL_OR_ERROR = (
    0x06,
    0x27E,
    0xBD,
    0x203,
    0xFD,
    0x204,
    0xD6,
    0x205,
)
_CELLS = {_FORMULA, _RK, _MULTIPLE_RK, _NUMBER, _SHARED, _LABEL, _RICH_LABEL, _BOOL_OR_ERROR}
_LENGTHS = {_SHARED: 10, _RK: 10, _BOOL_OR_ERROR: 8}  # bytes; a record of another length is damaged
_SHORTEST = 8  # bytes of a cell's record
_ROW, _STRING, _CONTINUE, _HLINK, _MERGED = 0x208, 0x207, 0x3C, 0x1B8, 0xE5
_DATE_MODE, _FORMAT, _XF, _BOUND_SHEET, _SST, _BOF = 0x22, 0x41E, 0xE0, 0x85, 0xFC, 0x809


@dataclass(slots=True)
class _Globals:
    """What stands before the sheets."""

    strings: list[str] = field(default_factory=list)
    codes: dict[int, str] = field(default_factory=lambda: dict(BUILTIN_FORMATS))
    styles: list[int] = field(default_factory=list)  # number format by style
    sheets: list[tuple[int, int, int, str]] = field(
        default_factory=list
    )  # place, state, kind, name
    date_1904: bool = False


def open_workbook(stream: bytes) -> Book:
    """Open the records of an .xls.

    Raises ParseError for other versions, and where a sheet's records are cut short.
    """
    if (
        len(stream) < 8  # noqa: PLR2004
        or struct.unpack_from("<HHH", stream)[0] != _BOF
        or stream[4:6] != _BOF_8.to_bytes(2, "little")
    ):
        raise ParseError(detect.OLD_FORMAT)
    try:
        told = _globals(stream)
    except (struct.error, IndexError) as error:
        raise ParseError(detect.OLD_DAMAGED) from error
    book = Book(
        date_1904=told.date_1904, formats=[told.codes.get(code, "General") for code in told.styles]
    )
    for place, state, kind, name in told.sheets:
        if kind == _WORKSHEET and state == 0:
            links, merges = _behind_the_cells(
                stream, place, len(told.strings), max(len(told.styles), 1)
            )
            book.sheets.append(
                Sheet(name, partial(_rows, stream, place, told.strings, links, merges))
            )
        elif kind == _WORKSHEET:
            book.hidden.append(name)
    if not told.sheets:
        raise ParseError(detect.OLD_DAMAGED)
    return book


def _globals(stream: bytes) -> _Globals:
    told, shared = _Globals(), list[bytes]()
    last = 0
    for kind, start, end in binary_records.records(stream, 0, whole=False):
        data = stream[start:end]
        if kind == _SST or (kind == _CONTINUE and last == _SST):
            shared.append(data)
        elif kind == _DATE_MODE:
            told.date_1904 = data[0] == 1
        elif kind == _FORMAT:
            told.codes[data[0] | data[1] << 8] = _unicode(data, 2)
        elif kind == _XF:
            told.styles.append(data[2] | data[3] << 8)
        elif kind == _BOUND_SHEET:
            told.sheets.append(
                (struct.unpack_from("<I", data)[0], data[4] & 3, data[5], _short(data[6:]))
            )
        if kind != _CONTINUE:
            last = kind
    told.strings = _shared_strings(shared)
    return told


def _unicode(data: bytes, at: int) -> str:
    """A text with its length in two bytes (MS-XLS §2.5.294)."""
    count, wide = struct.unpack_from("<HB", data, at)
    return _characters(data[at + 3 :], count, wide & 1)


def _short(data: bytes) -> str:
    return _characters(data[2:], data[0], data[1] & 1)


def _characters(data: bytes, count: int, wide: int) -> str:
    """Decode so many characters. Raises struct.error where there are fewer."""
    if len(data) < count * (1 + wide):
        raise struct.error
    return (
        data[: 2 * count].decode("utf-16-le", "replace") if wide else data[:count].decode("latin-1")
    )


def _shared_strings(parts: list[bytes]) -> list[str]:
    """The texts that cells point to.

    One stream over several records, at whose seams a text may change its width.
    """
    if not parts:
        return []
    source = _Seams(parts)
    (count,) = struct.unpack("<4xI", source.take(8))
    if count > MAX_STRINGS:
        raise ParseError("a workbook with more texts than it may have: export fewer messages")
    return [source.text() for _ in range(count)]


class _Seams:
    """Bytes over the seams between a record and those that continue it."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = iter(parts)
        self._part, self._at = next(self._parts), 0

    def take(self, count: int) -> bytes:
        found = b""
        while count > len(found):
            self._turn()
            piece = self._part[self._at : self._at + count - len(found)]
            self._at += len(piece)
            found += piece
        return found

    def text(self) -> str:
        count, flags = struct.unpack("<HB", self.take(3))
        runs = 4 * int.from_bytes(self.take(2), "little") if flags & 8 else 0
        more = int.from_bytes(self.take(4), "little") if flags & 4 else 0
        found, wide = b"", flags & 1  # UTF-16, decoded as one: a seam may part an emoji
        while count:
            if self._at >= len(self._part):
                self._turn()
                wide = self.take(1)[0] & 1
            piece = self._part[self._at : self._at + count * (1 + wide)]
            found += piece if wide else piece.decode("latin-1").encode("utf-16-le")
            self._at += len(piece)
            count -= max(len(piece) // (1 + wide), 1)
        self.take(runs + more)
        return found.decode("utf-16-le", "replace")

    def _turn(self) -> None:
        """Go on to the next record that holds anything. Raises IndexError after the last."""
        while self._at >= len(self._part):
            part = next(self._parts, None)
            if part is None:
                raise IndexError
            self._part, self._at = part, 0


def _behind_the_cells(
    stream: bytes, place: int, strings: int, styles: int
) -> tuple[dict[int, dict[int, str]], Merges]:
    """The web addresses of cells, by row and column from 1, and the merged cells.

    Going through all of the sheet shows that no record is missing, and that each cell is in a
    column that there is and points to one of so many texts and styles. Raises ParseError for a
    record that does not: it has been damaged, and its neighbours perhaps with it, which nobody sees.
    """
    if stream[place + 4 : place + 8] != _BEGIN_WORKSHEET:
        raise ParseError(detect.OLD_DAMAGED)
    found: dict[int, dict[int, str]] = {}
    merges: Merges = {}
    count = 0
    for kind, start, end in binary_records.records(stream, place, whole=False):
        if (
            kind == _MERGED
        ):  # a count, then first and last row, first and last column of each (MS-XLS §2.4.168)
            for at in range(start + 2, end - 7, 8):
                first, last, column = struct.unpack_from("<HHH", stream, at)
                add_merge(merges, first + 1, last + 1, column + 1)
        elif kind in _CELLS and not _is_sound(kind, stream[start:end], strings, styles):
            raise ParseError(detect.OLD_DAMAGED)
        if kind != _HLINK or count >= _MOST_LINKS or end - start < 32:  # noqa: PLR2004 - the least a link has
            continue
        count += 1
        data = stream[start:end]
        at = data.find(_URL_MONIKER, 24)
        if at >= 0:
            size = int.from_bytes(data[at + 16 : at + 20], "little")
            address = (
                data[at + 20 : at + 20 + size].decode("utf-16-le", "replace").partition("\0")[0]
            )
            row, column = data[0] | data[1] << 8, data[4] | data[5] << 8
            if address.startswith(LINK):
                found.setdefault(row + 1, {})[column + 1] = address
    return found, merges


def _is_sound(kind: int, data: bytes, strings: int, styles: int) -> bool:
    """Return whether a cell's record has its length, and a column, text and style that there are."""
    size = len(data)
    if (
        size != _LENGTHS.get(kind, size) or size < _SHORTEST or data[3]
    ):  # data[3]: 256 columns and no more
        return False
    if kind == _SHARED:
        return int.from_bytes(data[6:10], "little") < strings
    if kind in {
        _NUMBER,
        _RK,
    }:  # without its style nobody knows whether it is a date or has leading zeros
        return data[4] | data[5] << 8 < styles
    return True


def _rows(
    stream: bytes, place: int, strings: list[str], links: dict[int, dict[int, str]], merges: Merges
) -> Iterator[Row]:
    hidden: set[int] = set()
    row = _Row(0, strings)
    result: list[bytes] = []  # the text of a formula, in one record and those that continue it
    for kind, start, end in binary_records.records(stream, place, whole=False):
        if result and kind != _CONTINUE:
            row.add_result(result)
            result = []
        if kind == _ROW and end - start >= 14:  # noqa: PLR2004 - the flags of a row are its bytes 12 and 13
            if stream[start + 12] & _HIDDEN_ROW:
                hidden.add((stream[start] | stream[start + 1] << 8) + 1)
        elif kind == _STRING or result:
            result.append(stream[start:end])
        elif kind in _CELLS and end - start >= 6:  # noqa: PLR2004 - row, column and style
            number = (stream[start] | stream[start + 1] << 8) + 1
            if number != row.number:
                yield from row.finished(hidden, links, merges)
                row = _Row(number, strings, MISNUMBERED if number < row.number else "")
            row.add(kind, stream[start:end])
    if result:
        row.add_result(result)
    yield from row.finished(hidden, links, merges)


class _Row:
    """A row while its cells go by."""

    def __init__(self, number: int, strings: list[str], flaw: str = "") -> None:
        self.number = number
        self._strings, self._flaw = strings, flaw
        self._cells: dict[int, Cell] = {}
        # Column and style of a formula whose text is still to come.
        self._awaited: tuple[int, int] | None = None

    def finished(
        self, hidden: set[int], links: dict[int, dict[int, str]], merges: Merges
    ) -> Iterator[Row]:
        self._miss_result()
        cells = self._cells
        if not cells:
            return
        if self._flaw:
            first = min(cells)
            cells[first] = cells[first]._replace(flaw=self._flaw)
        for column, link in links.get(self.number, {}).items():
            if column in cells:
                cells[column] = cells[column]._replace(link=link)
        yield Row(self.number, self.number in hidden, cells, merges.get(self.number, UNMERGED))

    def add(self, kind: int, data: bytes) -> None:
        """Take a record of one cell, or of several numbers beside each other."""
        self._miss_result()
        column, style = (data[2] | data[3] << 8) + 1, data[4] | data[5] << 8
        try:
            if kind == _MULTIPLE_RK:
                for at in range(4, len(data) - 2, 6):
                    (style,) = struct.unpack_from("<H", data, at)
                    self._put(
                        column + (at - 4) // 6,
                        binary_records.number(binary_records.rk(data, at + 2), style),
                    )
            elif kind == _FORMULA and _has_text(data):
                self._awaited = (column, style)
            else:
                self._put(column, self._cell(kind, data, style))
        except struct.error:
            self._put(column, Cell("s", "", style, DAMAGED_CELL))

    def add_result(self, parts: list[bytes]) -> None:
        """Take the text that the formula before it comes to."""
        if not self._awaited:
            return
        (column, style), self._awaited = self._awaited, None
        try:
            cell = binary_records.text(_Seams(parts).text(), style)
        except (struct.error, IndexError):
            cell = Cell("s", "", style, DAMAGED_CELL)
        self._put(column, cell)

    def _miss_result(self) -> None:
        """Say of a formula whose text never came that its cell is damaged."""
        if self._awaited:
            (column, style), self._awaited = self._awaited, None
            self._put(column, Cell("s", "", style, DAMAGED_CELL))

    def _put(self, column: int, cell: Cell | None) -> None:
        if cell and column in self._cells:
            cell = cell._replace(flaw=MISPLACED)
        if cell:
            self._cells[column] = cell

    def _cell(self, kind: int, data: bytes, style: int) -> Cell | None:
        if kind in {_NUMBER, _RK}:
            read = (
                struct.unpack_from("<d", data, 6)[0]
                if kind == _NUMBER
                else binary_records.rk(data, 6)
            )
            return binary_records.number(read, style)
        if kind in {_LABEL, _RICH_LABEL}:
            return binary_records.text(_unicode(data, 6), style)
        if kind == _BOOL_OR_ERROR:
            value, is_error = struct.unpack_from("<BB", data, 6)
            return binary_records.error(value, style) if is_error else Cell("b", str(value), style)
        return self._shared(data, style) if kind == _SHARED else self._formula(data, style)

    def _shared(self, data: bytes, style: int) -> Cell | None:
        (index,) = struct.unpack_from("<I", data, 6)
        return binary_records.text(self._strings[index], style)

    def _formula(self, data: bytes, style: int) -> Cell | None:
        """Read the result of a formula that is no text.

        It is a number, or by its first byte a boolean, an error or a blank. Raises struct.error for
        any other.
        """
        kind, value, mark = struct.unpack_from("<BxBxxxH", data, 6)
        if mark != _NO_NUMBER:
            return binary_records.number(struct.unpack_from("<d", data, 6)[0], style)
        match kind:
            case 1:
                return Cell("b", str(value), style)
            case 2:
                return binary_records.error(value, style)
            case 3:
                return None
            case _:
                raise struct.error


def _has_text(data: bytes) -> bool:
    """Return whether a formula comes to a text, which the next record holds (MS-XLS §2.5.133)."""
    kind, mark = struct.unpack_from("<B5xH", data, 6)
    return bool(kind == 0 and mark == _NO_NUMBER)
