"""Cells of a worksheet part, streamed: one row in memory at a time, whatever the sheet claims of its size.

Why not openpyxl's read-only sheets: they keep a node a row, read a sheet twice where its dimension is missing, fill a
row up to any column a cell claims to be in, and tell neither hidden rows nor formulas without a value. The tests hold
the cells read here against openpyxl's.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from parsers.item import ParseError
from parsers.xml_part import Reader

LAST_ROW = 1_048_576
LAST_COLUMN = 16_384
MAX_TEXT = 1_000_000  # characters of one cell; Excel stops at 32,767
MAX_STRINGS = 2_000_000

_DAMAGED = "a damaged workbook: open it in Excel and save it as .xlsx, or export the messages again"
_REFERENCE = re.compile(r"([A-Za-z]{1,3})[0-9]{1,7}")
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_TRUE = {"1", "true"}


class Cell(NamedTuple):
    """A cell as stored: `kind` is "n" number, "s" text, "b" boolean, "e" error, "d" ISO date, "f" formula unsolved."""

    kind: str
    text: str
    style: int = 0


class Row(NamedTuple):
    """A row: its number from 1, whether it is hidden, and its cells by column from 1, blank ones left out."""

    number: int
    hidden: bool
    cells: dict[int, Cell]


def rows(chunks: Iterable[bytes], strings: list[str]) -> Iterator[Row]:
    """Yield the rows of a worksheet part. Raises ParseError when it is damaged or no worksheet at all."""
    sheet = _Sheet(strings)
    reader = Reader(sheet.start, sheet.end, sheet.text)
    for chunk in chunks:
        reader.feed(chunk)
        yield from sheet.take()
    reader.feed(b"", last=True)
    yield from sheet.take()
    if not sheet.seen:
        raise ParseError(_DAMAGED)


def shared_strings(chunks: Iterable[bytes]) -> list[str]:
    """Read the texts that cells point to by number; rich text is flattened, phonetic guides are left out."""
    table = _Strings()
    reader = Reader(table.start, table.end, table.text)
    for chunk in chunks:
        reader.feed(chunk)
    reader.feed(b"", last=True)
    return table.found


def unescape(text: str) -> str:
    """Decode `_xHHHH_` (ECMA-376 §22.9.2.19), as in `_x000D_` for the return key."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


class _Texts:
    """Collect character data of `t` and `v` elements, but not of phonetic guides."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._wanted = self._phonetic = False

    def text(self, data: str) -> None:
        if not self._wanted:
            return
        self._length += len(data)
        if self._length > MAX_TEXT:
            raise ParseError("a cell longer than Excel allows: export the messages again")
        self._pieces.append(data)

    def _joined(self) -> str:
        joined = "".join(self._pieces)
        self._pieces.clear()
        self._length = 0
        return joined


class _Strings(_Texts):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def start(self, tag: str, _: dict[str, str]) -> None:
        if tag == "t":
            self._wanted = not self._phonetic
        elif tag == "rPh":
            self._phonetic = True

    def end(self, tag: str) -> None:
        if tag == "t":
            self._wanted = False
        elif tag == "rPh":
            self._phonetic = False
        elif tag == "si":
            self.found.append(unescape(self._joined()))
            if len(self.found) > MAX_STRINGS:
                raise ParseError("a workbook with more texts than it may have: export fewer messages")


class _Sheet(_Texts):
    """The state between expat's calls; `take` hands over the rows completed since."""

    def __init__(self, strings: list[str]) -> None:
        super().__init__()
        self.seen = False
        self._strings = strings
        self._inside = self._formula = False
        self._rows: list[Row] = []
        self._row = Row(0, hidden=False, cells={})
        self._column = self._style = 0
        self._kind = "n"
        self._columns: dict[str, int] = {}

    def take(self) -> list[Row]:
        taken, self._rows = self._rows, []
        return taken

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        if not self._inside:
            self._inside = tag == "sheetData"
            self.seen = self.seen or tag in {"sheetData", "chartsheet", "dialogsheet"}
        elif tag == "c":
            self._start_cell(attrs)
        elif tag in {"v", "t"}:
            self._wanted = not self._phonetic
        elif tag == "f":
            self._formula = True
        elif tag == "row":
            self._start_row(attrs)
        elif tag == "rPh":
            self._phonetic = True

    def end(self, tag: str) -> None:
        if not self._inside:
            return
        if tag in {"v", "t"}:
            self._wanted = False
        elif tag == "c":
            self._end_cell()
        elif tag == "row":
            if self._row.cells:
                self._rows.append(self._row)
        elif tag == "rPh":
            self._phonetic = False
        elif tag == "sheetData":
            self._inside = False

    def _start_row(self, attrs: dict[str, str]) -> None:
        number = _whole(attrs["r"]) if "r" in attrs else self._row.number + 1
        if not self._row.number < number <= LAST_ROW:
            raise ParseError(_DAMAGED)
        self._row = Row(number, attrs.get("hidden") in _TRUE, {})
        self._column = 0

    def _start_cell(self, attrs: dict[str, str]) -> None:
        column = self._column_of(attrs["r"]) if "r" in attrs else self._column + 1
        if not self._column < column <= LAST_COLUMN:
            raise ParseError(_DAMAGED)
        self._column = column
        self._kind = attrs.get("t", "n")
        self._style = _whole(attrs["s"]) if "s" in attrs else 0
        self._formula = False
        self._joined()

    def _end_cell(self) -> None:
        text = self._joined()
        if text:
            self._row.cells[self._column] = self._cell(text)
        elif self._formula and self._kind != "str":
            self._row.cells[self._column] = Cell("f", "")

    def _cell(self, text: str) -> Cell:
        match self._kind:
            case "n" | "b" | "e" | "d":
                return Cell(self._kind, text, self._style)
            case "s":
                index = _whole(text.strip())
                if index >= len(self._strings):
                    raise ParseError(_DAMAGED)
                return Cell("s", self._strings[index])
            case _:
                return Cell("s", unescape(text))

    def _column_of(self, reference: str) -> int:
        match = _REFERENCE.fullmatch(reference)
        if not match:
            raise ParseError(_DAMAGED)
        letters = match[1]
        if letters not in self._columns:
            self._columns[letters] = _column(letters)
        return self._columns[letters]


def _column(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _whole(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):  # noqa: PLR2004 - fits any count in Excel
        raise ParseError(_DAMAGED)
    return int(digits)
