"""An OpenDocument spreadsheet (.ods) as LibreOffice saves it.

Cells as shown, repeated ones counted, streamed.

Why not python-calamine: it gives ids without their leading zeros, no hidden rows, links or merged
cells, and reads damaged files without a word of what is missing
(docs/decisions/0019-workbook-readers.md).
"""

import re
from collections.abc import Iterator
from functools import partial

from parsers.item import ParseError
from parsers.spreadsheets.formats import binary_records
from parsers.spreadsheets.formats.model import Book, Cell, Row, Sheet
from parsers.spreadsheets.formats.xlsx_sheet import (
    LAST_COLUMN,
    LAST_ROW,
    MAX_MERGED_COLUMNS,
    MAX_TEXT,
    TOO_LONG,
)
from parsers.spreadsheets.formats.xml import Reader, local
from parsers.spreadsheets.formats.zip_package import LINK, Package

CONTENT = "content.xml"
_LOCKED = "a password-protected workbook: save it without a password"
_IDENTITY = re.compile(
    r"[\d\-/() ]{1,40}"
)  # how a number is shown that is an identity rather than an amount
_EXACT = 15  # digits of a number that are kept
_VALUES = {
    "float": "value",
    "percentage": "value",
    "currency": "value",
    "boolean": "boolean-value",
    "date": "date-value",
}
_MOST_REPEATED = (
    1_000  # of a cell or row with something in it; more is somebody's filling, or a bomb
)


def open_document(package: Package) -> Book:
    """Open the spreadsheet in a package (OpenDocument 1.3 part 3 §9).

    Raises ParseError where it is none, or locked.
    """
    if "meta-inf/manifest.xml" in package.names and any(
        tag == "encryption-data" for _, tag, _ in package.elements("META-INF/manifest.xml")
    ):
        raise ParseError(_LOCKED)
    package.require(CONTENT)
    outline = _Outline()
    Reader(outline.start, outline.end).whole(package.unpack(CONTENT))
    if not outline.spreadsheet:
        raise ParseError(
            "an OpenDocument file, but no spreadsheet: save the messages as an Excel workbook"
            " (.xlsx)"
        )
    book = Book()
    for number, (name, style) in enumerate(outline.tables):
        if style in outline.hidden:
            book.hidden.append(name)
        else:
            book.sheets.append(Sheet(name, partial(_rows, package, number)))
    return book


def _rows(package: Package, number: int) -> Iterator[Row]:
    table = _Table(number)
    reader = Reader(table.start, table.end, table.text)
    for chunk in package.unpack(CONTENT):
        reader.feed(chunk)
        yield from table.take()
        if table.ended:
            return


def _is_identity(shown: str) -> bool:
    """Return whether a number is shown as an identity, with leading zeros or marks.

    And not as an amount or rounded.
    """
    return (
        bool(_IDENTITY.fullmatch(shown))
        and shown[0] != "-"
        and sum(map(str.isdigit, shown)) <= _EXACT
    )


def _plain(attrs: dict[str, str]) -> dict[str, str]:
    return {local(name): value for name, value in attrs.items()}


def _count(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 9 else 1  # noqa: PLR2004 - any count


class _Outline:
    """The tables of a document with the names of their styles, and which styles hide a table."""

    def __init__(self) -> None:
        self.spreadsheet = False
        self.tables: list[tuple[str, str]] = []
        self.hidden: set[str] = set()
        self._style = ""
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        if tag == "table":
            self._depth += 1
            if self._depth == 1:
                told = _plain(attrs)
                self.tables.append((told.get("name", ""), told.get("style-name", "")))
        elif tag == "style":
            self._style = _plain(attrs).get("name", "")
        elif tag == "table-properties" and _plain(attrs).get("display") == "false":
            self.hidden.add(self._style)
        elif tag == "spreadsheet":
            self.spreadsheet = True

    def end(self, tag: str) -> None:
        if tag == "table":
            self._depth -= 1


class _Table:
    """The state between expat's calls while one table goes by.

    Tables inside of cells are not looked into.
    """

    def __init__(self, number: int) -> None:
        self.ended = False
        self._left = number  # tables still to pass by
        self._depth = self._note = 0
        self._rows: list[Row] = []
        self._row: dict[str, str] = {}
        self._number = self._column = 0
        self._cells: dict[int, Cell] = {}
        self._merged: dict[int, int] = {}  # by column, the last row that a cell covers
        self._cell: dict[str, str] = {}
        self._pieces: list[str] = []
        self._length = self._paragraphs = 0
        self._wanted, self._link = False, ""

    def take(self) -> Iterator[Row]:
        """The rows completed since."""
        taken, self._rows = self._rows, []
        return iter(taken)

    @property
    def _here(self) -> bool:
        return self._depth == 1 and self._left == 0 and not self.ended

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        if tag == "table":
            self._depth += 1
        elif not self._here:
            return
        elif tag == "table-row":
            self._row, self._cells, self._column, self._merged = _plain(attrs), {}, 0, {}
        elif tag in {"table-cell", "covered-table-cell"}:
            self._cell, self._link, self._length, self._paragraphs = _plain(attrs), "", 0, 0
            self._pieces.clear()
        elif tag == "annotation":
            self._note += 1
        elif not self._note:
            self._inside(tag, attrs)

    def _inside(self, tag: str, attrs: dict[str, str]) -> None:
        if tag == "p":
            self._wanted = True
            self._paragraphs += 1
            if self._paragraphs > 1:
                self.text("\n")
        elif tag in {"tab", "line-break"}:
            self.text("\t" if tag == "tab" else "\n")
        elif tag == "s":
            self.text(" " * min(_count(_plain(attrs).get("c")), 1_000))
        elif tag == "a":
            href = _plain(attrs).get("href", "")
            self._link = self._link or (href if href.startswith(LINK) else "")

    def text(self, data: str) -> None:
        if self._wanted and not self._note and self._length <= MAX_TEXT:
            self._length += len(data)
            self._pieces.append(data)

    def end(self, tag: str) -> None:
        if tag == "table":
            self._end_table()
        elif not self._here:
            return
        elif tag == "p" and not self._note:
            self._wanted = False
        elif tag == "annotation":
            self._note -= 1
        elif tag in {"table-cell", "covered-table-cell"}:
            self._end_cell()
        elif tag == "table-row":
            self._end_row()

    def _end_table(self) -> None:
        self.ended = self.ended or self._here
        self._depth -= 1
        if self._depth == 0:
            self._left -= 1

    def _end_cell(self) -> None:
        repeated = _count(self._cell.get("number-columns-repeated"))
        cell = self._made("".join(self._pieces))
        if cell:
            last = min(self._column + min(repeated, _MOST_REPEATED), LAST_COLUMN)
            self._cells.update(dict.fromkeys(range(self._column + 1, last + 1), cell))
            spanned = _count(self._cell.get("number-rows-spanned"))
            if spanned > 1 and len(self._merged) < MAX_MERGED_COLUMNS:
                self._merged[self._column + 1] = min(self._number + spanned, LAST_ROW)
        self._column += repeated

    def _made(self, shown: str) -> Cell | None:
        kind, flaw = self._cell.get("value-type", ""), TOO_LONG if len(shown) > MAX_TEXT else ""
        if "formula" in self._cell and not kind and not shown:
            return Cell("f", "")
        if shown in binary_records.ERRORS.values() or (
            shown.startswith("Err:5") and "formula" in self._cell
        ):
            return Cell("e", shown)
        value = self._cell.get(_VALUES.get(kind, ""), "")
        if value and kind in {"boolean", "date"}:
            return Cell("b" if kind == "boolean" else "d", value, link=self._link)
        if value and not _is_identity(shown):
            return Cell("n", value, flaw=flaw, link=self._link)
        text = shown or self._cell.get("string-value", "")
        return Cell("s", text[:MAX_TEXT], flaw=flaw, link=self._link) if text else None

    def _end_row(self) -> None:
        hidden = self._row.get("visibility") in {"collapse", "filter"}
        repeated = _count(self._row.get("number-rows-repeated"))
        if self._cells:
            last = min(self._number + min(repeated, _MOST_REPEATED), LAST_ROW)
            for number in range(self._number + 1, last + 1):
                self._rows.append(Row(number, hidden, self._cells, self._merged))
        self._number += repeated
