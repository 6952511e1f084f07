"""Reader of OpenDocument spreadsheets (.ods): cells as they are shown, repeated ones too, streamed.

Why not python-calamine: it gives ids without their leading zeros, no hidden rows, links or merged
cells, and reads damaged files without a word of what is missing
(docs/decisions/0019-workbook-readers.md).
"""

import re
from collections.abc import Iterator
from functools import partial

from parsers.item import ParseError
from parsers.spreadsheets.formats import binary_records
from parsers.spreadsheets.formats.model import Book, Cell, Row, Sheet, read_constant
from parsers.spreadsheets.formats.xlsx_sheet import (
    LAST_COLUMN,
    LAST_ROW,
    MAX_MERGED_COLUMNS,
    MAX_TEXT,
    find_length_flaw,
    parse_count,
)
from parsers.spreadsheets.formats.xml import Reader, strip_prefix
from parsers.spreadsheets.formats.zip_package import LINK, Package

CONTENT = "content.xml"
_LOCKED = "a password-protected workbook: save it without a password"
# A number that is shown like this is an identity rather than an amount.
_IDENTITY = re.compile(r"[\d\-/() ]{1,40}")
_EXACT_DIGITS = 15  # of a number that are kept
# Type of a value -> the attribute that holds it, and the kind of our cell.
_VALUES = {
    "float": ("value", "n"),
    "percentage": ("value", "n"),
    "currency": ("value", "n"),
    "boolean": ("boolean-value", "b"),
    "date": ("date-value", "d"),
}
_CELL_TAGS = {"table-cell", "covered-table-cell"}
# Of a cell or row with content; more is a filled-up sheet, or a bomb.
_MAX_REPEATED = 1_000
_MAX_BLANKS = 1_000  # of one `text:s` element


def open_document(package: Package) -> Book:
    """Open the spreadsheet in a package (OpenDocument 1.3 part 3 §9).

    Raises ParseError where it is none, or locked.
    """
    if _is_locked(package):
        raise ParseError(_LOCKED)
    package.get_root(CONTENT)
    outline = _Outline()
    Reader(outline.start_element, outline.end_element).parse_all(package.unpack(CONTENT))
    if not outline.is_spreadsheet:
        raise ParseError(
            "an OpenDocument file, but no spreadsheet: save the messages as an Excel workbook"
            " (.xlsx)"
        )
    book = Book()
    for number, (name, style) in enumerate(outline.tables):
        if style in outline.hiding_styles:
            book.hidden.append(name)
        else:
            book.sheets.append(Sheet(name, partial(_iter_rows, package, number)))
    return book


def _is_locked(package: Package) -> bool:
    """Return whether the manifest of a package names an encrypted part."""
    if "meta-inf/manifest.xml" not in package.names:
        return False
    elements = package.list_elements("META-INF/manifest.xml")
    return any(tag == "encryption-data" for _, tag, _ in elements)


def _iter_rows(package: Package, number: int) -> Iterator[Row]:
    """Yield the rows of the table with this number, from 0, in the document."""
    table = _Table(number)
    reader = Reader(table.start_element, table.end_element, table.add_text)
    for chunk in package.unpack(CONTENT):
        reader.feed(chunk)
        yield from table.take_rows()
        if table.is_complete:
            return


def _is_identity(text: str) -> bool:
    """Return whether a number is shown as an identity: with leading zeros or marks, not rounded."""
    if not _IDENTITY.fullmatch(text) or text.startswith("-"):
        return False
    return sum(map(str.isdigit, text)) <= _EXACT_DIGITS


def _strip_prefixes(attrs: dict[str, str]) -> dict[str, str]:
    return {strip_prefix(name): value for name, value in attrs.items()}


class _Outline:
    """Tables of a document, each with the name of its style, and the styles that hide a table."""

    def __init__(self) -> None:
        self.is_spreadsheet = False
        self.tables: list[tuple[str, str]] = []
        self.hiding_styles: set[str] = set()
        self._style = ""
        self._depth = 0  # of tables inside of cells of tables

    def start_element(self, tag: str, attrs: dict[str, str]) -> None:
        """Take note of an element that begins."""
        match tag:
            case "table":
                self._depth += 1
                if self._depth == 1:
                    plain = _strip_prefixes(attrs)
                    self.tables.append((plain.get("name", ""), plain.get("style-name", "")))
            case "style":
                self._style = _strip_prefixes(attrs).get("name", "")
            case "table-properties":
                if _strip_prefixes(attrs).get("display") == "false":
                    self.hiding_styles.add(self._style)
            case "spreadsheet":
                self.is_spreadsheet = True

    def end_element(self, tag: str) -> None:
        """Take note of an element that ends."""
        if tag == "table":
            self._depth -= 1


class _Table:
    """Rows of one table while the document goes by; `take_rows` hands over the completed ones.

    Tables inside of cells are not looked into.
    """

    def __init__(self, number: int) -> None:
        self.is_complete = False
        self._tables_before = number  # that are still to end before this one begins
        self._depth = 0  # of tables inside of cells of tables
        self._notes = 0  # annotations that are open: their text is none of the cell
        self._rows: list[Row] = []
        # The row at hand: its attributes, and the number of the row before it.
        self._row: dict[str, str] = {}
        self._number = 0
        self._cells: dict[int, Cell] = {}
        self._merged: dict[int, int] = {}  # by column, the last row that a cell covers
        # The cell at hand: its attributes, and the column of the cell before it.
        self._cell: dict[str, str] = {}
        self._column = 0
        self._pieces: list[str] = []
        self._length = 0  # of these, in characters
        self._paragraphs = 0
        self._in_paragraph = False
        self._link = ""

    def take_rows(self) -> list[Row]:
        """Return the rows completed since the last call."""
        completed, self._rows = self._rows, []
        return completed

    @property
    def _is_inside(self) -> bool:
        """True between the beginning and the end of this table, but for tables in its cells."""
        return self._depth == 1 and self._tables_before == 0 and not self.is_complete

    def start_element(self, tag: str, attrs: dict[str, str]) -> None:
        """Begin a row, a cell or a piece of a cell's content."""
        if tag == "table":
            self._depth += 1
        elif not self._is_inside:
            return
        elif tag == "table-row":
            self._start_row(attrs)
        elif tag in _CELL_TAGS:
            self._start_cell(attrs)
        elif tag == "annotation":
            self._notes += 1
        elif not self._notes:
            self._start_content(tag, attrs)

    def end_element(self, tag: str) -> None:
        """End a table, a row, a cell or a paragraph."""
        if tag == "table":
            self._end_table()
        elif not self._is_inside:
            return
        elif tag == "p" and not self._notes:
            self._in_paragraph = False
        elif tag == "annotation":
            self._notes -= 1
        elif tag in _CELL_TAGS:
            self._end_cell()
        elif tag == "table-row":
            self._end_row()

    def add_text(self, data: str) -> None:
        """Add characters to the cell at hand, up to a little more than it may hold."""
        if self._in_paragraph and not self._notes and self._length <= MAX_TEXT:
            self._length += len(data)
            self._pieces.append(data)

    def _start_row(self, attrs: dict[str, str]) -> None:
        self._row = _strip_prefixes(attrs)
        self._cells = {}
        self._merged = {}
        self._column = 0

    def _start_cell(self, attrs: dict[str, str]) -> None:
        self._cell = _strip_prefixes(attrs)
        self._pieces.clear()
        self._length = 0
        self._paragraphs = 0
        self._link = ""

    def _start_content(self, tag: str, attrs: dict[str, str]) -> None:
        """Begin a paragraph or link, or add the blanks that an element stands for."""
        match tag:
            case "p":
                self._in_paragraph = True
                self._paragraphs += 1
                if self._paragraphs > 1:
                    self.add_text("\n")
            case "tab":
                self.add_text("\t")
            case "line-break":
                self.add_text("\n")
            case "s":
                count = parse_count(_strip_prefixes(attrs).get("c", ""), otherwise=1)
                self.add_text(" " * min(count, _MAX_BLANKS))
            case "a":
                address = _strip_prefixes(attrs).get("href", "")
                if not self._link and address.startswith(LINK):
                    self._link = address

    def _end_table(self) -> None:
        self.is_complete = self.is_complete or self._is_inside
        self._depth -= 1
        if self._depth == 0:
            self._tables_before -= 1

    def _end_cell(self) -> None:
        """Add the cell at hand to its row, as often as it is repeated."""
        repeat_count = parse_count(self._cell.get("number-columns-repeated", ""), otherwise=1)
        cell = self._make_cell("".join(self._pieces))
        if cell is not None:
            first = self._column + 1
            last = min(self._column + min(repeat_count, _MAX_REPEATED), LAST_COLUMN)
            self._cells.update(dict.fromkeys(range(first, last + 1), cell))
            spanned = parse_count(self._cell.get("number-rows-spanned", ""), otherwise=1)
            if spanned > 1 and len(self._merged) < MAX_MERGED_COLUMNS:
                self._merged[first] = min(self._number + spanned, LAST_ROW)
        self._column += repeat_count

    def _make_cell(self, text: str) -> Cell | None:
        """Return the cell at hand with the text that is shown of it, None for a blank one."""
        has_formula = "formula" in self._cell
        has_type = self._cell.get("value-type", "") != ""
        if has_formula and not has_type and not text:
            constant = read_constant(self._cell["formula"])
            return Cell("f", "") if constant is None else Cell("s", constant)
        if _is_error(text, has_formula=has_formula):
            return Cell("e", text)
        return self._make_value_cell(text)

    def _make_value_cell(self, text: str) -> Cell | None:
        """Return the cell at hand with its value, or with its text where it has none.

        A number is a number, unless it is shown as an identity: then its text counts.
        """
        attribute, kind = _VALUES.get(self._cell.get("value-type", ""), ("", ""))
        value = self._cell.get(attribute, "")
        if value and kind in {"b", "d"}:
            return Cell(kind, value, link=self._link)
        flaw = find_length_flaw(text)
        if value and not _is_identity(text):
            return Cell(kind, value, flaw=flaw, link=self._link)
        text = text or self._cell.get("string-value", "")
        return Cell("s", text[:MAX_TEXT], flaw=flaw, link=self._link) if text else None

    def _end_row(self) -> None:
        """Complete the row at hand, as often as it is repeated; one without cells is left out."""
        repeat_count = parse_count(self._row.get("number-rows-repeated", ""), otherwise=1)
        if self._cells:
            is_hidden = self._row.get("visibility") in {"collapse", "filter"}
            last = min(self._number + min(repeat_count, _MAX_REPEATED), LAST_ROW)
            for number in range(self._number + 1, last + 1):
                self._rows.append(Row(number, is_hidden, self._cells, self._merged))
        self._number += repeat_count


def _is_error(text: str, *, has_formula: bool) -> bool:
    """Return whether a cell shows an error of Excel, or one of LibreOffice's own as Err:502."""
    if text in binary_records.ERRORS.values():
        return True
    return has_formula and text.startswith("Err:5")
