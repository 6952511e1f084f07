"""Reader of workbooks of Excel 97 to 2003 (.xls, MS-XLS): cells, formats, hidden rows and links.

Why not xlrd: it refuses good workbooks whose emoji fall on the seam of two records, replaces the
first of two cells in one place, and believes what a file says of its links. The damage that
it refuses is refused here too, before the first row (docs/decisions/0019-workbook-readers.md).
"""

import struct
from collections.abc import Iterator, Mapping
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

_BIFF_8 = 0x0600  # version of Excel 97 to 2003
# Version and kind in the BOF record of a worksheet.
_BEGIN_WORKSHEET = struct.pack("<HH", _BIFF_8, 0x0010)
_WORKSHEET = 0  # kind of a sheet, beside charts and macros
_VISIBLE = 0  # state of a sheet
_HIDDEN_ROW = 0x20
_NO_NUMBER = 0xFFFF  # ends the result of a formula that is no number
_URL_MONIKER = bytes.fromhex("e0c9ea79f9bace118c8200aa004ba90b")
_MAX_LINKS = 100_000
_MIN_LINK = 32  # bytes of a link's record
_BOF_HEAD = 8  # bytes of the first record: kind, length, version, kind of stream

# Kinds of records of cells.
_FORMULA = 0x06
_RK = 0x27E
_MULTIPLE_RK = 0xBD
_NUMBER = 0x203
_SHARED = 0xFD
_LABEL = 0x204
_RICH_LABEL = 0xD6
_BOOL_OR_ERROR = 0x205
_CELLS = {_FORMULA, _RK, _MULTIPLE_RK, _NUMBER, _SHARED, _LABEL, _RICH_LABEL, _BOOL_OR_ERROR}
_LENGTHS = {_SHARED: 10, _RK: 10, _BOOL_OR_ERROR: 8}  # bytes; a record of another length is damaged
_SHORTEST = 8  # bytes of a cell's record
_CELL_HEAD = 6  # bytes of row, column and style
# Kinds of other records of a sheet.
_ROW = 0x208
_STRING = 0x207  # text of the formula before it
_CONTINUE = 0x3C
_HLINK = 0x1B8
_MERGED = 0xE5
_ROW_FLAGS = 12  # place of its flags in the record of a row
# Kinds of records before the sheets.
_DATE_MODE = 0x22
_FORMAT = 0x41E
_XF = 0xE0
_BOUND_SHEET = 0x85
_SST = 0xFC
_BOF = 0x809

Links = dict[int, dict[int, str]]  # row -> column -> the address a cell leads to; both from 1


@dataclass(frozen=True, slots=True)
class _BoundSheet:
    """A sheet as the list before the sheets has it; `place` is its first byte in the stream."""

    place: int
    state: int
    kind: int
    name: str


@dataclass(slots=True)
class _Globals:
    """Content of the records before the sheets."""

    strings: list[str] = field(default_factory=list)
    codes: dict[int, str] = field(default_factory=lambda: dict(BUILTIN_FORMATS))
    styles: list[int] = field(default_factory=list)  # number format by style
    sheets: list[_BoundSheet] = field(default_factory=list)
    date_1904: bool = False

    def list_formats(self) -> list[str]:
        """Return the number formats by style id."""
        return [self.codes.get(code, "General") for code in self.styles]


@dataclass(frozen=True, slots=True)
class _CellCheck:
    """Check of the records of cells, by the number of texts and styles of their workbook."""

    strings: int
    styles: int

    def is_sound(self, kind: int, data: bytes) -> bool:
        """Return whether a record has its length, and a column, text and style that exist."""
        size = len(data)
        if size != _LENGTHS.get(kind, size) or size < _SHORTEST:
            return False
        if data[3]:  # the upper byte of a column: there are 256 and no more
            return False
        if kind == _SHARED:
            return int.from_bytes(data[6:10], "little") < self.strings
        # Without its style nobody knows whether a number is a date or has leading zeros.
        if kind in {_NUMBER, _RK}:
            return data[4] | data[5] << 8 < self.styles
        return True


def open_workbook(stream: bytes) -> Book:
    """Open the records of an .xls.

    Raises ParseError for other versions, and where a sheet's records are cut short or damaged.
    """
    if len(stream) < _BOF_HEAD or struct.unpack_from("<HxxH", stream) != (_BOF, _BIFF_8):
        raise ParseError(detect.OLD_FORMAT)
    try:
        head = _read_globals(stream)
    except (struct.error, IndexError) as error:
        raise ParseError(detect.OLD_DAMAGED) from error
    if not head.sheets:
        raise ParseError(detect.OLD_DAMAGED)
    book = Book(date_1904=head.date_1904, formats=head.list_formats())
    for sheet in head.sheets:
        if sheet.kind != _WORKSHEET:
            continue
        if sheet.state != _VISIBLE:
            book.hidden.append(sheet.name)
            continue
        check = _CellCheck(len(head.strings), max(len(head.styles), 1))
        links, merges = _check_sheet(stream, sheet.place, check)
        iter_rows = partial(_iter_rows, stream, sheet.place, head.strings, links, merges)
        book.sheets.append(Sheet(sheet.name, iter_rows))
    return book


def _read_globals(stream: bytes) -> _Globals:
    """Return the content of the records before the sheets.

    Raises struct.error or IndexError where a record is too short.
    """
    head = _Globals()
    string_records: list[bytes] = []  # the record of shared texts, and those that continue it
    last = 0
    for kind, start, end in binary_records.iter_records(stream, 0, whole=False):
        data = stream[start:end]
        if kind == _SST or (kind == _CONTINUE and last == _SST):
            string_records.append(data)
        elif kind == _DATE_MODE:
            head.date_1904 = data[0] == 1
        elif kind == _FORMAT:
            head.codes[data[0] | data[1] << 8] = _parse_text(data, 2)
        elif kind == _XF:
            head.styles.append(data[2] | data[3] << 8)
        elif kind == _BOUND_SHEET:
            (place,) = struct.unpack_from("<I", data)
            head.sheets.append(_BoundSheet(place, data[4] & 3, data[5], _parse_name(data[6:])))
        if kind != _CONTINUE:
            last = kind
    head.strings = _parse_shared_strings(string_records)
    return head


def _parse_text(data: bytes, at: int) -> str:
    """Return a text with its length in two bytes (MS-XLS §2.5.294)."""
    count, flags = struct.unpack_from("<HB", data, at)
    return _decode(data[at + 3 :], count, is_wide=bool(flags & 1))


def _parse_name(data: bytes) -> str:
    """Return a text with its length in one byte (MS-XLS §2.5.240)."""
    return _decode(data[2:], data[0], is_wide=bool(data[1] & 1))


def _decode(data: bytes, count: int, *, is_wide: bool) -> str:
    """Return so many characters. Raises struct.error where there are fewer."""
    size = 2 * count if is_wide else count
    if len(data) < size:
        raise struct.error
    return data[:size].decode("utf-16-le", "replace") if is_wide else data[:size].decode("latin-1")


def _parse_shared_strings(parts: list[bytes]) -> list[str]:
    """Return the texts that cells refer to by index.

    They are one stream over several records, at whose seams a text may change its width.
    """
    if not parts:
        return []
    source = _ContinuedRecord(parts)
    (count,) = struct.unpack("<4xI", source.read(8))
    if count > MAX_STRINGS:
        raise ParseError("a workbook with more texts than it may have: export fewer messages")
    return [source.read_text() for _ in range(count)]


class _ContinuedRecord:
    """Bytes of a record and those that continue it, read across the seams between them.

    Raises IndexError where they end too early.
    """

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = iter(parts)
        self._part = next(self._parts)
        self._at = 0  # position in the part at hand

    def read(self, count: int) -> bytes:
        """Return the next bytes."""
        data = b""
        while count > len(data):
            self._skip_seam()
            piece = self._part[self._at : self._at + count - len(data)]
            self._at += len(piece)
            data += piece
        return data

    def read_text(self) -> str:
        """Return the next text, without its formatting (MS-XLS §2.5.293)."""
        count, flags = struct.unpack("<HB", self.read(3))
        runs = 4 * int.from_bytes(self.read(2), "little") if flags & 8 else 0
        more = int.from_bytes(self.read(4), "little") if flags & 4 else 0
        data = b""  # UTF-16, decoded at the end: a seam may divide an emoji
        wide = flags & 1
        while count:
            if self._at >= len(self._part):
                self._skip_seam()
                wide = self.read(1)[0] & 1  # behind a seam the width is given anew
            piece = self._part[self._at : self._at + count * (1 + wide)]
            data += piece if wide else piece.decode("latin-1").encode("utf-16-le")
            self._at += len(piece)
            count -= max(len(piece) // (1 + wide), 1)
        self.read(runs + more)
        return data.decode("utf-16-le", "replace")

    def _skip_seam(self) -> None:
        """Go on to the next record with any content, where the one at hand is used up."""
        while self._at >= len(self._part):
            part = next(self._parts, None)
            if part is None:
                raise IndexError
            self._part = part
            self._at = 0


def _check_sheet(stream: bytes, place: int, check: _CellCheck) -> tuple[Links, Merges]:
    """Return the web addresses that cells of a sheet lead to, and its merged cells.

    Going through all of the sheet shows that no record is missing, and that each cell is in a
    column that exists and refers to a text and a style that exist. Raises ParseError for a record
    that does not: it has been damaged, and its neighbours perhaps with it, unnoticed.
    """
    if stream[place + 4 : place + 8] != _BEGIN_WORKSHEET:
        raise ParseError(detect.OLD_DAMAGED)
    links: Links = {}
    merges: Merges = {}
    count = 0
    for kind, start, end in binary_records.iter_records(stream, place, whole=False):
        if kind == _MERGED:
            _add_merges(merges, stream[start:end])
        elif kind == _HLINK and count < _MAX_LINKS and end - start >= _MIN_LINK:
            count += 1
            _add_link(links, stream[start:end])
        elif kind in _CELLS and not check.is_sound(kind, stream[start:end]):
            raise ParseError(detect.OLD_DAMAGED)
    return links, merges


def _add_merges(merges: Merges, data: bytes) -> None:
    """Add the merged cells of a record.

    It has a count, then first and last row, first and last column of each (MS-XLS §2.4.168).
    """
    for at in range(2, len(data) - 7, 8):
        first, last, column = struct.unpack_from("<HHH", data, at)
        add_merge(merges, first + 1, last + 1, column + 1)


def _add_link(links: Links, data: bytes) -> None:
    """Add the address in the record of a link, if it is of the web or of mail."""
    at = data.find(_URL_MONIKER, 24)
    if at < 0:
        return
    size = int.from_bytes(data[at + 16 : at + 20], "little")
    text = data[at + 20 : at + 20 + size].decode("utf-16-le", "replace")
    address = text.partition("\0")[0]
    if address.startswith(LINK):
        row, column = data[0] | data[1] << 8, data[4] | data[5] << 8
        links.setdefault(row + 1, {})[column + 1] = address


def _iter_rows(
    stream: bytes, place: int, strings: list[str], links: Links, merges: Merges
) -> Iterator[Row]:
    """Yield the rows of the sheet at a place of the stream."""
    sheet = _Sheet(strings, links, merges)
    for kind, start, end in binary_records.iter_records(stream, place, whole=False):
        row = sheet.add_record(kind, stream[start:end])
        if row is not None:
            yield row
    row = sheet.end_row()
    if row is not None:
        yield row


class _Sheet:
    """Rows of a sheet while its records go by."""

    def __init__(self, strings: list[str], links: Links, merges: Merges) -> None:
        self._strings = strings
        self._links = links
        self._merges = merges
        self._hidden_rows: set[int] = set()  # numbers of hidden rows
        self._row = _RowMaker(0, strings)
        # Text of a formula, in one record and those that continue it.
        self._result: list[bytes] = []

    def add_record(self, kind: int, data: bytes) -> Row | None:
        """Take the next record; return the row before it, where it is the first of another one."""
        if kind == _CONTINUE:
            if self._result:
                self._result.append(data)
            return None
        self._end_result()
        if kind == _ROW:
            self._note_hidden_row(data)
        elif kind == _STRING:
            self._result.append(data)
        elif kind in _CELLS and len(data) >= _CELL_HEAD:
            return self._add_cell(kind, data)
        return None

    def end_row(self) -> Row | None:
        """Return the row at hand, None where it has no cells."""
        self._end_result()
        number = self._row.number
        links, merged = self._links.get(number, {}), self._merges.get(number, UNMERGED)
        return self._row.complete(links, merged, is_hidden=number in self._hidden_rows)

    def _add_cell(self, kind: int, data: bytes) -> Row | None:
        completed_row = None
        number = (data[0] | data[1] << 8) + 1
        if number != self._row.number:
            completed_row = self.end_row()
            flaw = MISNUMBERED if number < self._row.number else ""
            self._row = _RowMaker(number, self._strings, flaw)
        self._row.add(kind, data)
        return completed_row

    def _note_hidden_row(self, data: bytes) -> None:
        if len(data) > _ROW_FLAGS + 1 and data[_ROW_FLAGS] & _HIDDEN_ROW:
            self._hidden_rows.add((data[0] | data[1] << 8) + 1)

    def _end_result(self) -> None:
        """Add the collected text, if any, as the result of the formula before it."""
        if self._result:
            self._row.add_result(self._result)
            self._result = []


class _RowMaker:
    """Maker of a row while the records of its cells go by."""

    def __init__(self, number: int, strings: list[str], flaw: str = "") -> None:
        self.number = number
        self._strings = strings
        self._flaw = flaw
        self._cells: dict[int, Cell] = {}
        # Column and style of a formula whose text is still to come.
        self._awaited_cell: tuple[int, int] | None = None

    def complete(
        self, links: Mapping[int, str], merged: Mapping[int, int], *, is_hidden: bool
    ) -> Row | None:
        """Return the row with the links of its cells, None where it has no cells."""
        self._end_awaited_cell()
        cells = self._cells
        if not cells:
            return None
        if self._flaw:
            first = min(cells)
            cells[first] = cells[first]._replace(flaw=self._flaw)
        for column, link in links.items():
            if column in cells:
                cells[column] = cells[column]._replace(link=link)
        return Row(self.number, is_hidden, cells, merged)

    def add(self, kind: int, data: bytes) -> None:
        """Add the record of one cell, or of several numbers beside each other."""
        self._end_awaited_cell()
        column, style = (data[2] | data[3] << 8) + 1, data[4] | data[5] << 8
        try:
            if kind == _MULTIPLE_RK:
                self._put_numbers(column, data)
            elif kind == _FORMULA and _has_text(data):
                self._awaited_cell = (column, style)
            else:
                self._put(column, self._make_cell(kind, data, style))
        except struct.error:
            self._put(column, Cell("s", "", style, DAMAGED_CELL))

    def add_result(self, parts: list[bytes]) -> None:
        """Add the text of the formula before it."""
        if self._awaited_cell is None:
            return
        (column, style), self._awaited_cell = self._awaited_cell, None
        try:
            cell = binary_records.make_text(_ContinuedRecord(parts).read_text(), style)
        except (struct.error, IndexError):
            cell = Cell("s", "", style, DAMAGED_CELL)
        self._put(column, cell)

    def _end_awaited_cell(self) -> None:
        """Add a damaged cell for a formula whose text never came."""
        if self._awaited_cell is not None:
            (column, style), self._awaited_cell = self._awaited_cell, None
            self._put(column, Cell("s", "", style, DAMAGED_CELL))

    def _put_numbers(self, first: int, data: bytes) -> None:
        """Add the numbers of a record, each with its style, from a column on."""
        for at in range(4, len(data) - 2, 6):
            (style,) = struct.unpack_from("<H", data, at)
            number = binary_records.decode_rk(data, at + 2)
            self._put(first + (at - 4) // 6, binary_records.make_number(number, style))

    def _put(self, column: int, cell: Cell | None) -> None:
        """Add a cell in its place; one that takes the place of another is marked."""
        if cell is None:
            return
        self._cells[column] = cell._replace(flaw=MISPLACED) if column in self._cells else cell

    def _make_cell(self, kind: int, data: bytes, style: int) -> Cell | None:
        """Return the cell of a record, None for a blank one. Raises struct.error if it is short."""
        if kind == _NUMBER:
            return binary_records.make_number(struct.unpack_from("<d", data, 6)[0], style)
        if kind == _RK:
            return binary_records.make_number(binary_records.decode_rk(data, 6), style)
        if kind in {_LABEL, _RICH_LABEL}:
            return binary_records.make_text(_parse_text(data, 6), style)
        if kind == _BOOL_OR_ERROR:
            value, is_error = struct.unpack_from("<BB", data, 6)
            if is_error:
                return binary_records.make_error(value, style)
            return Cell("b", str(value), style)
        if kind == _SHARED:
            (index,) = struct.unpack_from("<I", data, 6)
            return binary_records.make_text(self._strings[index], style)
        return _make_result(data, style)


def _make_result(data: bytes, style: int) -> Cell | None:
    """Return the cell of a formula whose result is no text, None for a blank one.

    It is a number, or by its first byte a boolean, an error or a blank. Raises struct.error for any
    other.
    """
    kind, value, mark = struct.unpack_from("<BxBxxxH", data, 6)
    if mark != _NO_NUMBER:
        return binary_records.make_number(struct.unpack_from("<d", data, 6)[0], style)
    match kind:
        case 1:
            return Cell("b", str(value), style)
        case 2:
            return binary_records.make_error(value, style)
        case 3:
            return None
        case _:
            raise struct.error


def _has_text(data: bytes) -> bool:
    """Return whether the result of a formula is a text, in the next record (MS-XLS §2.5.133)."""
    kind, mark = struct.unpack_from("<B5xH", data, 6)
    return bool(kind == 0 and mark == _NO_NUMBER)
