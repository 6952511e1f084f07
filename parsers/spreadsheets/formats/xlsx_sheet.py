"""Cells of a worksheet part, streamed.

One row in memory at a time, whatever the sheet claims of its size.

Why not openpyxl's read-only sheets: they keep a node a row, read a sheet twice where its dimension
is missing, fill a row up to any column a cell claims to be in, tell neither hidden rows nor
formulas without a value nor links, and take two to three times as long. The tests hold the cells
read here against openpyxl's.

Handlers stand directly on expat, and text is gathered by a list's own `append`: every call saved is
a second in a hundred thousand rows.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from parsers.item import ParseError
from parsers.spreadsheets.formats.model import UNMERGED, Cell, Row
from parsers.spreadsheets.formats.xml import Feed, local_name

LAST_ROW = 1_048_576
LAST_COLUMN = 16_384
MAX_TEXT = 1_000_000  # characters of one cell; Excel stops at 32,767
MAX_STRINGS = 2_000_000
MAX_MERGES = 200_000  # rows of a sheet in which merged cells begin
MAX_MERGED_COLUMNS = 100  # of one row: what a row gets from cells above stays small

MISPLACED = "a cell whose place in the sheet cannot be told"
MISNUMBERED = "a row whose number cannot be right"
NO_SUCH_TEXT = "a text that is missing in the file: open it in Excel and save it"
TOO_LONG = f"a text of more than {MAX_TEXT:,} characters, of which the rest was not read"

_LETTERS = re.compile(r"[A-Za-z]{1,3}")
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_HYPERLINK = re.compile(
    r'\s*(?:_xlfn\.)?HYPERLINK\(\s*"((?:https?://|mailto:)[^"]{1,2000})"', re.IGNORECASE
)
_DIGITS = "0123456789"
_TRUE = {"1", "true"}
_INDEX = 9  # digits of the number of a shared text
_PIECES = 1_000  # of text, each some kilobytes: more than any cell may hold

Links = Mapping[int, Mapping[int, str]]  # row -> column -> the address a cell leads to
Merges = dict[int, dict[int, int]]  # row -> column -> the last row that a merged cell covers


def add_merge(merges: Merges, first: int, last: int, column: int) -> None:
    """Note a merged cell, from its first row to its last one, all counted from 1.

    One within a single row is not noted: its value stands in its first column, as Excel has it. Nor
    are more than MAX_MERGES: rows that would get a value from such a cell are rejected or name what
    they lack.
    """
    if 0 < first < last <= LAST_ROW and 0 < column <= LAST_COLUMN and len(merges) < MAX_MERGES:
        row = merges.setdefault(first, {})
        if len(row) < MAX_MERGED_COLUMNS:
            row[column] = last


def rows(
    chunks: Iterable[bytes],
    strings: list[str],
    links: Links | None = None,
    merges: Merges | None = None,
) -> Iterator[Row]:
    """Yield the rows of a worksheet part, those without cells left out.

    What is wrong with one cell is a flaw of that cell. Raises ParseError where the part is not
    well-formed.
    """
    sheet = _Sheet(strings, links or {}, merges or {})
    for chunk in chunks:
        sheet.feed.feed(chunk)
        yield from sheet.take()
    sheet.feed.feed(b"", last=True)
    yield from sheet.take()


def shared_strings(chunks: Iterable[bytes]) -> list[str]:
    """Read the texts that cells point to by number.

    Rich text is flattened, phonetic guides are left out.
    """
    table = _Strings()
    for chunk in chunks:
        table.feed.feed(chunk)
        table.trim()
    table.feed.feed(b"", last=True)
    return table.found


def unescape(text: str) -> str:
    """Decode `_xHHHH_` (ECMA-376 §22.9.2.19), as in `_x000D_` for the return key."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


class _Texts:
    """Gather the character data of `t` and `v` elements, but not of phonetic guides.

    At most one character more than a cell may hold is kept, which tells those that held more.
    """

    def __init__(self) -> None:
        self.feed = Feed()
        self.pieces: list[str] = []  # since the last tag that begins a text
        self.phonetic = False
        self.feed.expat.buffer_text = True
        self.feed.expat.CharacterDataHandler = self.pieces.append

    def trim(self) -> None:
        """Let go of what no cell may hold; call it between pieces of the part."""
        if len(self.pieces) > _PIECES:
            self.pieces[:] = [self.joined("")]

    def joined(self, before: str) -> str:
        """The text gathered, after what the cell held before."""
        return (before + "".join(self.pieces))[: MAX_TEXT + 1]


class _Strings(_Texts):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._text = ""
        self.feed.expat.StartElementHandler = self._start
        self.feed.expat.EndElementHandler = self._end

    def _start(self, tag: str, _: dict[str, str]) -> None:
        if tag == "t":
            self.pieces.clear()
        elif tag == "rPh":
            self.phonetic = True
        elif ":" in tag:
            self._start(local_name(tag), _)

    def _end(self, tag: str) -> None:
        if tag == "t":
            if not self.phonetic:
                self._text = self.joined(self._text)
        elif tag == "si":
            self.found.append(unescape(self._text))
            self._text = ""
            if len(self.found) > MAX_STRINGS:
                raise ParseError(
                    "a workbook with more texts than it may have: export fewer messages"
                )
        elif tag == "rPh":
            self.phonetic = False
        elif ":" in tag:
            self._end(local_name(tag))


class _Sheet(_Texts):
    """The state between expat's calls; `take` hands over the rows completed since.

    While a row goes by, its cells are the dicts of their attributes, with the text under "" and the
    formula under "=", which are no names of attributes. They are made into cells together at its
    end, in one loop.
    """

    def __init__(self, strings: list[str], links: Links, merges: Merges) -> None:
        super().__init__()
        self._links, self._merges = links, merges
        self._rows: list[Row] = []
        self._number, self._hidden, self._flaw = 0, False, ""
        self._stored: list[dict[str, str]] = []
        self._cells = _Cells(strings)
        self.feed.expat.StartElementHandler = self._before

    def take(self) -> list[Row]:
        self.trim()
        taken, self._rows = self._rows, []
        return taken

    def _before(self, tag: str, _: dict[str, str]) -> None:
        if local_name(tag) == "sheetData":
            self.feed.expat.StartElementHandler = self._start
            self.feed.expat.EndElementHandler = self._end

    def _start(self, tag: str, attrs: dict[str, str]) -> None:
        if tag == "c":
            self._stored.append(attrs)
        elif tag in {"v", "t", "f"}:
            self.pieces.clear()
        elif tag == "row":
            self._start_row(attrs)
        elif tag == "rPh":
            self.phonetic = True
        elif ":" in tag:
            self._start(local_name(tag), attrs)

    def _end(self, tag: str) -> None:
        if tag == "c":
            return
        if tag in {"v", "t"}:
            if self._stored and not self.phonetic:
                cell, pieces = self._stored[-1], self.pieces
                cell[""] = (
                    pieces[0]
                    if len(pieces) == 1 and "" not in cell
                    else self.joined(cell.get("", ""))
                )
        elif tag == "row":
            self._end_row()
        elif tag == "f":
            if self._stored:
                self._stored[-1]["="] = self.joined("")
        elif tag == "rPh":
            self.phonetic = False
        elif tag == "sheetData":
            self.feed.expat.StartElementHandler = self.feed.expat.EndElementHandler = None
        elif ":" in tag:
            self._end(local_name(tag))

    def _start_row(self, attrs: dict[str, str]) -> None:
        number = _whole(attrs["r"]) if "r" in attrs else self._number + 1
        self._flaw = "" if self._number < number <= LAST_ROW else MISNUMBERED
        if not self._flaw:  # one wrong number must not make the rows below it wrong
            self._number = number
        self._hidden = attrs.get("hidden") in _TRUE
        self._stored.clear()

    def _end_row(self) -> None:
        cells = self._cells.made(self._stored)
        self._stored.clear()
        if not cells:
            return
        if self._flaw:
            first = min(cells)
            cells[first] = cells[first]._replace(flaw=self._flaw)
        if self._links:
            for column, link in self._links.get(self._number, {}).items():
                if column in cells:
                    cells[column] = cells[column]._replace(link=link)
        if self._merges and not self._flaw:
            self._rows.append(
                Row(self._number, self._hidden, cells, self._merges.get(self._number, UNMERGED))
            )
        else:
            self._rows.append(Row(self._number, self._hidden, cells))


class _Cells:
    """Makes the cells of a row out of what is stored of them."""

    def __init__(self, strings: list[str]) -> None:
        self._strings = strings
        self._columns: dict[str, int] = {}  # by their letters
        self._styles = {"0": 0}

    def made(self, row: list[dict[str, str]]) -> dict[int, Cell]:
        """The cells by column, blank ones left out.

        What most cells are like is made here, the others apart.
        """
        cells: dict[int, Cell] = {}
        columns, styles, strings, new, last = (
            self._columns,
            self._styles,
            self._strings,
            tuple.__new__,
            0,
        )
        for stored in row:
            column = columns.get(stored["r"].rstrip(_DIGITS), 0) if "r" in stored else last + 1
            style = styles.get(stored.get("s", "0"), -1)
            text, kind = stored.get("", ""), stored.get("t", "n")
            if not 0 < column <= LAST_COLUMN or column in cells or style < 0 or "=" in stored:
                last = self._unusual(stored, last, cells)
                continue
            last = column
            if (
                kind == "s"
                and text.isdecimal()
                and len(text) <= _INDEX
                and int(text) < len(strings)
            ):
                text = strings[int(text)]
            elif kind != "n" and text:
                cells[column] = self._cell(kind, text, style)
                continue
            if text:
                cells[column] = (
                    new(Cell, (kind, text, style, "", ""))
                    if len(text) <= MAX_TEXT
                    else _cut(text, style)
                )
        return cells

    def _unusual(self, stored: dict[str, str], last: int, cells: dict[int, Cell]) -> int:
        """Add a cell that is a formula, or the first of its column or style, or damaged.

        Its column.
        """
        letters = stored.get("r", "").rstrip(_DIGITS)
        column = self._columns.setdefault(letters, column_of(letters)) if letters else last + 1
        style = self._styles.setdefault(stored.get("s", "0"), max(_whole(stored.get("s", "0")), 0))
        misplaced = not 0 < column <= LAST_COLUMN or column in cells
        if misplaced:
            column = max(cells, default=0) + 1
        text, kind = stored.get("", ""), stored.get("t", "n")
        cell = self._cell(kind, text, style) if text else None
        if "=" in stored:
            match = _HYPERLINK.match(stored["="])
            cell = (cell or Cell("s" if kind == "str" else "f", ""))._replace(
                link=match[1] if match else ""
            )
        if cell:
            cells[column] = cell._replace(flaw=MISPLACED) if misplaced else cell
        return column

    def _cell(self, kind: str, text: str, style: int) -> Cell:
        if kind == "s":
            index = int(text) if text.isdecimal() and len(text) <= _INDEX else -1
            if not 0 <= index < len(self._strings):
                return Cell("s", "", style, NO_SUCH_TEXT)
            text = self._strings[index]
        elif kind not in {"n", "b", "e", "d"}:
            kind, text = "s", unescape(text)
        return Cell(kind, text, style) if len(text) <= MAX_TEXT else _cut(text, style)


def _cut(text: str, style: int) -> Cell:
    return Cell("s", text[:MAX_TEXT], style, TOO_LONG)


def column_of(reference: str) -> int:
    """The number of the column in a reference as "AB12", 0 for what is none."""
    letters = reference.rstrip(_DIGITS).upper()
    if not _LETTERS.fullmatch(letters):
        return 0
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number if number <= LAST_COLUMN else 0


def _whole(digits: str) -> int:
    """A count as a number, -1 for what is none."""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 9 else -1  # noqa: PLR2004 - fits any count in Excel
