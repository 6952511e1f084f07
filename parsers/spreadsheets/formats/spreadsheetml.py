"""An XML spreadsheet of Excel 2003 (SpreadsheetML), which many programs save as .xls.

Streamed, nothing expanded.
"""

from collections.abc import Iterator
from functools import partial

from parsers.item import ParseError
from parsers.spreadsheets.formats.model import Book, Cell, Row, Sheet
from parsers.spreadsheets.formats.xlsx_sheet import (
    LAST_COLUMN,
    LAST_ROW,
    MAX_MERGED_COLUMNS,
    MAX_TEXT,
    MISPLACED,
    TOO_LONG,
)
from parsers.spreadsheets.formats.xml import DAMAGED, Reader, local_name
from parsers.spreadsheets.formats.zip_package import LINK

NAMESPACE = "urn:schemas-microsoft-com:office:spreadsheet"
_CHUNK = 2**16
_SNIFF = 4096
_KINDS = {"Number": "n", "String": "s", "DateTime": "d", "Boolean": "b", "Error": "e"}


def is_spreadsheet(raw: bytes) -> bool:
    """Tell such a file by its first bytes."""
    start = raw[:_SNIFF].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    return start.startswith(b"<") and NAMESPACE.encode() in start and b"<html" not in start.lower()


def open_spreadsheet(raw: bytes) -> Book:
    """Open such a file.

    Raises ParseError where it is not well-formed, nested too deep or declares a document type.
    """
    outline = _Outline()
    Reader(outline.start, outline.end, outline.text).whole(_chunks(raw))
    if not outline.names:
        raise ParseError(DAMAGED)
    book = Book(formats=list(outline.styles.values()))
    styles = {name: number for number, name in enumerate(outline.styles)}
    for number, name in enumerate(outline.names):
        if number in outline.hidden:
            book.hidden.append(name)
        else:
            book.sheets.append(Sheet(name, partial(_rows, raw, number, styles)))
    return book


def _chunks(raw: bytes) -> Iterator[bytes]:
    view = memoryview(raw)
    return (bytes(view[at : at + _CHUNK]) for at in range(0, len(raw), _CHUNK))


def _rows(raw: bytes, number: int, styles: dict[str, int]) -> Iterator[Row]:
    table = _Table(number, styles)
    reader = Reader(table.start, table.end, table.text)
    for chunk in _chunks(raw):
        reader.feed(chunk)
        yield from table.take()
        if table.ended:
            return


def _plain(attrs: dict[str, str]) -> dict[str, str]:
    return {local_name(name): value for name, value in attrs.items()}


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0  # noqa: PLR2004 - any index


class _Outline:
    """The sheets by name, which of them are hidden, and the number formats by style."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.hidden: set[int] = set()
        self.styles: dict[str, str] = {"Default": "General"}
        self._style = ""
        self._visible = False
        self._word = ""

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        if tag == "Worksheet":
            self.names.append(_plain(attrs).get("Name", ""))
        elif tag == "Style":
            told = _plain(attrs)
            self._style = told.get("ID", "")
            self.styles[self._style] = self.styles.get(told.get("Parent", "Default"), "General")
        elif tag == "NumberFormat":
            self.styles[self._style] = _plain(attrs).get("Format", "General")
        elif tag == "Visible":
            self._visible, self._word = True, ""

    def text(self, data: str) -> None:
        if self._visible and len(self._word) < _SNIFF:
            self._word += data

    def end(self, tag: str) -> None:
        if tag == "Visible":
            self._visible = False
            if self._word.strip() in {"SheetHidden", "SheetVeryHidden"}:
                self.hidden.add(len(self.names) - 1)


class _Table:
    """The state between expat's calls while one sheet goes by."""

    def __init__(self, number: int, styles: dict[str, int]) -> None:
        self.ended = False
        self._left = number + 1  # sheets to come to
        self._styles = styles
        self._rows: list[Row] = []
        self._number = self._column = self._next_row = self._next_column = 0
        self._hidden = self._wanted = self._noted = False
        self._cells: dict[int, Cell] = {}
        self._merged: dict[int, int] = {}  # by column, the last row that a cell covers
        self._cell: dict[str, str] = {}
        self._kind, self._pieces, self._length = "", [""], 0

    def take(self) -> list[Row]:
        taken, self._rows = self._rows, []
        return taken

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        if tag == "Worksheet":
            self._left -= 1
        elif self._left != 0 or self.ended:
            return
        elif tag == "Row":
            self._start_row(_plain(attrs))
        elif tag == "Cell":
            self._start_cell(_plain(attrs))
        elif tag == "Data" and not self._noted:
            self._kind, self._wanted = _KINDS.get(_plain(attrs).get("Type", ""), "s"), True
        elif tag == "Comment":
            self._noted = True

    def text(self, data: str) -> None:
        if self._wanted and self._length <= MAX_TEXT:
            self._length += len(data)
            self._pieces.append(data)

    def end(self, tag: str) -> None:
        if self._left != 0 or self.ended:
            return
        if tag == "Data":
            self._wanted = False
        elif tag == "Comment":
            self._noted = False
        elif tag == "Cell":
            self._end_cell()
        elif tag == "Row" and self._cells:
            self._rows.append(Row(self._number, self._hidden, self._cells, self._merged))
        elif tag == "Worksheet":
            self.ended = True

    def _start_row(self, told: dict[str, str]) -> None:
        self._number = max(self._number + 1, min(_whole(told.get("Index", "")), LAST_ROW))
        self._hidden = told.get("Hidden") == "1"
        self._cells, self._column, self._next_column, self._merged = {}, 0, 1, {}

    def _start_cell(self, told: dict[str, str]) -> None:
        self._cell = told
        self._column = _whole(told["Index"]) if "Index" in told else self._next_column
        self._kind, self._length = "", 0
        self._pieces.clear()
        self._next_column = self._column + 1 + min(_whole(told.get("MergeAcross", "")), LAST_COLUMN)

    def _end_cell(self) -> None:
        text, flaw = "".join(self._pieces), ""
        if not text and not self._kind and "Formula" not in self._cell:
            return
        column = self._column
        if not 0 < column <= LAST_COLUMN or column in self._cells:
            column, flaw = max(self._cells, default=0) + 1, MISPLACED
            self._next_column = column + 1
        link = self._cell.get("HRef", "")
        style = self._styles.get(self._cell.get("StyleID", "Default"), 0)
        kind = self._kind if self._kind and (text or self._kind == "s") else "f"
        if text or kind == "f":
            told = Cell(kind, text[:MAX_TEXT], style, TOO_LONG if len(text) > MAX_TEXT else flaw)
            self._cells[column] = told._replace(link=link) if link.startswith(LINK) else told
            down = _whole(self._cell.get("MergeDown", ""))
            if down and len(self._merged) < MAX_MERGED_COLUMNS:
                self._merged[column] = min(self._number + down, LAST_ROW)
