"""Reader of XML spreadsheets of Excel 2003 (SpreadsheetML), which many programs save as .xls."""

from collections.abc import Iterator
from functools import partial

from parsers.item import ParseError
from parsers.spreadsheets.formats.model import Book, Cell, Row, Sheet, read_constant
from parsers.spreadsheets.formats.xlsx_sheet import (
    LAST_COLUMN,
    LAST_ROW,
    MAX_MERGED_COLUMNS,
    MAX_TEXT,
    MISPLACED,
    find_length_flaw,
    parse_count,
)
from parsers.spreadsheets.formats.xml import DAMAGED, Reader, strip_prefix
from parsers.spreadsheets.formats.zip_package import LINK

NAMESPACE = "urn:schemas-microsoft-com:office:spreadsheet"
_CHUNK = 2**16
_SNIFFED = 4096  # bytes at the beginning that show the format
_MAX_VISIBLE = 4096  # characters of a sheet's visibility that are kept
# Type of a cell's data -> the kind of our cell.
_KINDS = {"Number": "n", "String": "s", "DateTime": "d", "Boolean": "b", "Error": "e"}


def is_spreadsheet(raw: bytes) -> bool:
    """Return whether the first bytes of a file are those of an XML spreadsheet."""
    start = raw[:_SNIFFED].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    return start.startswith(b"<") and NAMESPACE.encode() in start and b"<html" not in start.lower()


def open_spreadsheet(raw: bytes) -> Book:
    """Open an XML spreadsheet.

    Raises ParseError where it is not well-formed, nested too deep or declares a document type.
    """
    outline = _Outline()
    reader = Reader(outline.start_element, outline.end_element, outline.add_text)
    reader.parse_all(_iter_chunks(raw))
    if not outline.names:
        raise ParseError(DAMAGED)
    book = Book(formats=list(outline.styles.values()))
    styles = {name: number for number, name in enumerate(outline.styles)}
    for number, name in enumerate(outline.names):
        if number in outline.hidden_sheets:
            book.hidden.append(name)
        else:
            book.sheets.append(Sheet(name, partial(_iter_rows, raw, number, styles)))
    return book


def _iter_chunks(raw: bytes) -> Iterator[bytes]:
    view = memoryview(raw)
    return (bytes(view[at : at + _CHUNK]) for at in range(0, len(raw), _CHUNK))


def _iter_rows(raw: bytes, number: int, styles: dict[str, int]) -> Iterator[Row]:
    """Yield the rows of the sheet with this number, from 0, in the file."""
    table = _Table(number, styles)
    reader = Reader(table.start_element, table.end_element, table.add_text)
    for chunk in _iter_chunks(raw):
        reader.feed(chunk)
        yield from table.take_rows()
        if table.is_complete:
            return


def _strip_prefixes(attrs: dict[str, str]) -> dict[str, str]:
    return {strip_prefix(name): value for name, value in attrs.items()}


class _Outline:
    """Names of the sheets, numbers of the hidden ones, and number formats by style."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.hidden_sheets: set[int] = set()
        self.styles: dict[str, str] = {"Default": "General"}
        self._style = ""
        self._in_visible = False
        self._visible = ""  # text of the element `Visible`

    def start_element(self, tag: str, attrs: dict[str, str]) -> None:
        """Take note of an element that begins."""
        match tag:
            case "Worksheet":
                self.names.append(_strip_prefixes(attrs).get("Name", ""))
            case "Style":
                plain = _strip_prefixes(attrs)
                parent = plain.get("Parent", "Default")
                self._style = plain.get("ID", "")
                self.styles[self._style] = self.styles.get(parent, "General")
            case "NumberFormat":
                self.styles[self._style] = _strip_prefixes(attrs).get("Format", "General")
            case "Visible":
                self._in_visible = True
                self._visible = ""

    def add_text(self, data: str) -> None:
        """Add characters of a sheet's visibility."""
        if self._in_visible and len(self._visible) < _MAX_VISIBLE:
            self._visible += data

    def end_element(self, tag: str) -> None:
        """Take note of an element that ends."""
        if tag == "Visible":
            self._in_visible = False
            if self._visible.strip() in {"SheetHidden", "SheetVeryHidden"}:
                self.hidden_sheets.add(len(self.names) - 1)


class _Table:
    """Rows of one sheet while the file goes by; `take_rows` hands over the completed ones."""

    def __init__(self, number: int, styles: dict[str, int]) -> None:
        self.is_complete = False
        self._sheets_ahead = number + 1  # that are still to begin, this one among them
        self._styles = styles
        self._rows: list[Row] = []
        # The row at hand.
        self._number = 0
        self._is_hidden = False
        self._cells: dict[int, Cell] = {}
        self._merged: dict[int, int] = {}  # by column, the last row that a cell covers
        # The cell at hand: its attributes, its place, and its kind, "" until its data begin.
        self._cell: dict[str, str] = {}
        self._column = 0
        self._next_column = 0
        self._kind = ""
        self._pieces: list[str] = []
        self._length = 0  # of these, in characters
        self._in_data = False
        self._in_comment = False

    def take_rows(self) -> list[Row]:
        """Return the rows completed since the last call."""
        completed, self._rows = self._rows, []
        return completed

    @property
    def _is_outside(self) -> bool:
        """True before the beginning of this sheet, and after its end."""
        return self._sheets_ahead != 0 or self.is_complete

    def start_element(self, tag: str, attrs: dict[str, str]) -> None:
        """Begin a sheet, a row, a cell or its data."""
        if tag == "Worksheet":
            self._sheets_ahead -= 1
        elif self._is_outside:
            return
        elif tag == "Row":
            self._start_row(_strip_prefixes(attrs))
        elif tag == "Cell":
            self._start_cell(_strip_prefixes(attrs))
        elif tag == "Data" and not self._in_comment:
            self._kind = _KINDS.get(_strip_prefixes(attrs).get("Type", ""), "s")
            self._in_data = True
        elif tag == "Comment":
            self._in_comment = True

    def add_text(self, data: str) -> None:
        """Add characters to the cell at hand, up to a little more than it may hold."""
        if self._in_data and self._length <= MAX_TEXT:
            self._length += len(data)
            self._pieces.append(data)

    def end_element(self, tag: str) -> None:
        """End a sheet, a row, a cell or its data."""
        if self._is_outside:
            return
        match tag:
            case "Data":
                self._in_data = False
            case "Comment":
                self._in_comment = False
            case "Cell":
                self._end_cell()
            case "Row":
                if self._cells:
                    row = Row(self._number, self._is_hidden, self._cells, self._merged)
                    self._rows.append(row)
            case "Worksheet":
                self.is_complete = True

    def _start_row(self, attrs: dict[str, str]) -> None:
        index = parse_count(attrs.get("Index", ""), otherwise=0)
        self._number = max(self._number + 1, min(index, LAST_ROW))
        self._is_hidden = attrs.get("Hidden") == "1"
        self._cells = {}
        self._merged = {}
        self._column = 0
        self._next_column = 1

    def _start_cell(self, attrs: dict[str, str]) -> None:
        self._cell = attrs
        self._column = self._next_column
        if "Index" in attrs:
            self._column = parse_count(attrs["Index"], otherwise=0)
        self._kind = ""
        self._pieces.clear()
        self._length = 0
        across = parse_count(attrs.get("MergeAcross", ""), otherwise=0)
        self._next_column = self._column + 1 + min(across, LAST_COLUMN)

    def _end_cell(self) -> None:
        """Add the cell at hand to its row, behind all others where its place is taken or bad."""
        text = "".join(self._pieces)
        if not text and not self._kind and "Formula" not in self._cell:
            return
        column, flaw = self._column, ""
        if not 0 < column <= LAST_COLUMN or column in self._cells:
            column, flaw = max(self._cells, default=0) + 1, MISPLACED
            self._next_column = column + 1
        cell = self._make_cell(text, flaw)
        if cell is None:
            return
        self._cells[column] = cell
        down = parse_count(self._cell.get("MergeDown", ""), otherwise=0)
        if down and len(self._merged) < MAX_MERGED_COLUMNS:
            self._merged[column] = min(self._number + down, LAST_ROW)

    def _make_cell(self, text: str, flaw: str) -> Cell | None:
        """Return the cell at hand with its text, None for a blank one.

        Without data, or without text where a number, date or the like should be, it is a formula
        that has no value.
        """
        kind = self._kind
        if not kind or (not text and kind != "s"):
            kind = "f"
        if not text and kind != "f":
            return None
        constant = read_constant(self._cell.get("Formula", "")) if kind == "f" else None
        if constant is not None:
            kind, text = "s", constant
        style = self._styles.get(self._cell.get("StyleID", "Default"), 0)
        address = self._cell.get("HRef", "")
        return Cell(
            kind,
            text[:MAX_TEXT],
            style,
            flaw=find_length_flaw(text) or flaw,
            link=address if address.startswith(LINK) else "",
        )
