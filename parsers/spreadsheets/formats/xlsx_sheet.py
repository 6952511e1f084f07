"""Reader of the cells of a worksheet part (.xlsx), streamed with one row in memory at a time.

Why not openpyxl's read-only sheets: they keep a node a row, read a sheet twice where its dimension
is missing, fill a row up to any column a cell claims to be in, show neither hidden rows nor
formulas without a value nor links, and take two to three times as long. The tests compare the cells
read here with openpyxl's.

Handlers are set directly on expat, and text is collected by a list's own `append`: every call saved
is a second in a hundred thousand rows.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from parsers.item import ParseError
from parsers.spreadsheets.formats.model import UNMERGED, Cell, Row, read_constant
from parsers.spreadsheets.formats.xml import Feed, strip_prefix

LAST_ROW = 1_048_576
LAST_COLUMN = 16_384
MAX_TEXT = 1_000_000  # characters of one cell; Excel stops at 32,767
MAX_STRINGS = 2_000_000
MAX_MERGES = 200_000  # rows of a sheet in which merged cells begin
MAX_MERGED_COLUMNS = 100  # of one row: what a row gets from cells above stays small

MISPLACED = "a cell whose place in the sheet cannot be determined"
MISNUMBERED = "a row whose number cannot be right"
NO_SUCH_TEXT = "a text that is missing in the file: open it in Excel and save it"
TOO_LONG = f"a text of more than {MAX_TEXT:,} characters, of which the rest was not read"

_COLUMN_NAME = re.compile(r"[A-Za-z]{1,3}")
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_HYPERLINK = re.compile(
    r'\s*(?:_xlfn\.)?HYPERLINK\(\s*"((?:https?://|mailto:)[^"]{1,2000})"', re.IGNORECASE
)
_DIGITS = "0123456789"
_TRUE = {"1", "true"}
_MAX_COUNT_DIGITS = 9  # of a count or an index: all those of Excel are shorter
_MAX_PIECES = 1_000  # of text, each some kilobytes: more than any cell may hold

Links = Mapping[int, Mapping[int, str]]  # row -> column -> the address a cell leads to
Merges = dict[int, dict[int, int]]  # row -> column -> the last row that a merged cell covers


def add_merge(merges: Merges, first: int, last: int, column: int) -> None:
    """Add a merged cell, from its first row to its last one; rows and columns count from 1.

    One within a single row is left out: its value stands in its first column, as Excel has it. Nor
    are more than MAX_MERGES added: rows that would get a value from such a cell are rejected or
    name what they lack.
    """
    covers_rows = 0 < first < last <= LAST_ROW
    if covers_rows and 0 < column <= LAST_COLUMN and len(merges) < MAX_MERGES:
        row = merges.setdefault(first, {})
        if len(row) < MAX_MERGED_COLUMNS:
            row[column] = last


def iter_rows(
    chunks: Iterable[bytes],
    strings: list[str],
    links: Links | None = None,
    merges: Merges | None = None,
) -> Iterator[Row]:
    """Yield the rows of a worksheet part, those without cells left out.

    The fault of a single cell is a flaw of that cell. Raises ParseError where the part is not
    well-formed.
    """
    sheet = _Sheet(strings, links or {}, merges or {})
    for chunk in chunks:
        sheet.feed.feed(chunk)
        yield from sheet.take_rows()
    sheet.feed.feed(b"", last=True)
    yield from sheet.take_rows()


def parse_shared_strings(chunks: Iterable[bytes]) -> list[str]:
    """Return the texts of a workbook that cells refer to by index.

    Rich text is flattened; phonetic guides are left out.
    """
    table = _SharedStrings()
    for chunk in chunks:
        table.feed.feed(chunk)
        table.trim()
    table.feed.feed(b"", last=True)
    return table.strings


def unescape(text: str) -> str:
    """Return a text with `_xHHHH_` decoded (ECMA-376 §22.9.2.19), as `_x000D_` for a return."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


def find_length_flaw(text: str) -> str:
    """Return the flaw of a cell with a text that is too long, "" for any other text."""
    return TOO_LONG if len(text) > MAX_TEXT else ""


class _TextCollector:
    """Collector of the character data of `t` and `v` elements, without phonetic guides.

    Of a text at most one character more than a cell may hold is kept: it shows that there was more.
    """

    def __init__(self) -> None:
        self.feed = Feed()
        self.pieces: list[str] = []  # since the last tag that begins a text
        self.phonetic = False
        self.feed.expat.buffer_text = True
        self.feed.expat.CharacterDataHandler = self.pieces.append

    def trim(self) -> None:
        """Drop characters beyond those a cell may hold; to be called between pieces of the part."""
        if len(self.pieces) > _MAX_PIECES:
            self.pieces[:] = [self.join("")]

    def join(self, before: str) -> str:
        """Return the text collected, appended to what the cell had before."""
        return (before + "".join(self.pieces))[: MAX_TEXT + 1]


class _SharedStrings(_TextCollector):
    """Shared texts of a workbook while their part goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.strings: list[str] = []
        self._text = ""
        self.feed.expat.StartElementHandler = self._start
        self.feed.expat.EndElementHandler = self._end

    def _start(self, tag: str, _: dict[str, str]) -> None:
        if tag == "t":
            self.pieces.clear()
        elif tag == "rPh":
            self.phonetic = True
        elif ":" in tag:
            self._start(strip_prefix(tag), _)

    def _end(self, tag: str) -> None:
        if tag == "t":
            if not self.phonetic:
                self._text = self.join(self._text)
        elif tag == "si":
            self.strings.append(unescape(self._text))
            self._text = ""
            if len(self.strings) > MAX_STRINGS:
                raise ParseError(
                    "a workbook with more texts than it may have: export fewer messages"
                )
        elif tag == "rPh":
            self.phonetic = False
        elif ":" in tag:
            self._end(strip_prefix(tag))


class _Sheet(_TextCollector):
    """Rows of a worksheet while its part goes by; `take_rows` hands over the completed ones.

    The cells of the row at hand are the dicts of their attributes, with the text under "" and the
    formula under "=", which are no names of attributes. At the end of the row they are made into
    cells together, in one loop.
    """

    def __init__(self, strings: list[str], links: Links, merges: Merges) -> None:
        super().__init__()
        self._links = links
        self._merges = merges
        self._rows: list[Row] = []
        self._number = 0
        self._is_hidden = False
        self._flaw = ""
        self._raw_cells: list[dict[str, str]] = []
        self._cells = _CellMaker(strings)
        self.feed.expat.StartElementHandler = self._await_data

    def take_rows(self) -> list[Row]:
        """Return the rows completed since the last call."""
        self.trim()
        completed, self._rows = self._rows, []
        return completed

    def _await_data(self, tag: str, _: dict[str, str]) -> None:
        """Set the handlers of cells once their data begin; elements before them are left out."""
        if strip_prefix(tag) == "sheetData":
            self.feed.expat.StartElementHandler = self._start
            self.feed.expat.EndElementHandler = self._end

    def _start(self, tag: str, attrs: dict[str, str]) -> None:
        if tag == "c":
            self._raw_cells.append(attrs)
        elif tag in {"v", "t", "f"}:
            self.pieces.clear()
        elif tag == "row":
            self._start_row(attrs)
        elif tag == "rPh":
            self.phonetic = True
        elif ":" in tag:
            self._start(strip_prefix(tag), attrs)

    def _end(self, tag: str) -> None:
        # The two tags of nearly every call come first, and without a call of their own.
        if tag == "c":
            return
        if tag in {"v", "t"}:
            if self._raw_cells and not self.phonetic:
                cell, pieces = self._raw_cells[-1], self.pieces
                if len(pieces) == 1 and "" not in cell:
                    cell[""] = pieces[0]
                else:
                    cell[""] = self.join(cell.get("", ""))
        else:
            self._end_other(tag)

    def _end_other(self, tag: str) -> None:
        match tag:
            case "row":
                self._end_row()
            case "f":
                if self._raw_cells:
                    self._raw_cells[-1]["="] = self.join("")
            case "rPh":
                self.phonetic = False
            case "sheetData":
                self.feed.expat.StartElementHandler = self.feed.expat.EndElementHandler = None
            case _ if ":" in tag:
                self._end(strip_prefix(tag))

    def _start_row(self, attrs: dict[str, str]) -> None:
        number = parse_count(attrs["r"], otherwise=-1) if "r" in attrs else self._number + 1
        self._flaw = "" if self._number < number <= LAST_ROW else MISNUMBERED
        if not self._flaw:  # one wrong number must not make the rows below it wrong
            self._number = number
        self._is_hidden = attrs.get("hidden") in _TRUE
        self._raw_cells.clear()

    def _end_row(self) -> None:
        cells = self._cells.make_cells(self._raw_cells)
        self._raw_cells.clear()
        if not cells:
            return
        if self._flaw:
            first = min(cells)
            cells[first] = cells[first]._replace(flaw=self._flaw)
        if self._links:
            for column, link in self._links.get(self._number, {}).items():
                if column in cells:
                    cells[column] = cells[column]._replace(link=link)
        merged = UNMERGED
        if self._merges and not self._flaw:
            merged = self._merges.get(self._number, UNMERGED)
        self._rows.append(Row(self._number, self._is_hidden, cells, merged))


class _CellMaker:
    """Maker of the cells of a row from the attributes and texts that are stored of them.

    Columns and styles that have been met are remembered by the text that names them.
    """

    def __init__(self, strings: list[str]) -> None:
        self._strings = strings
        self._columns: dict[
            str, int
        ] = {}  # name of a column, as "AB" -> its number, 0 if it is bad
        self._styles = {"0": 0}

    def make_cells(self, row: list[dict[str, str]]) -> dict[int, Cell]:
        """Return the cells of a row by column, blank ones left out.

        This is the fast path for ordinary cells; `_add_unusual` adds the others.
        """
        cells: dict[int, Cell] = {}
        columns, styles, strings = self._columns, self._styles, self._strings
        new = tuple.__new__  # half the time of calling Cell
        last = 0
        for raw_cell in row:
            column = columns.get(raw_cell["r"].rstrip(_DIGITS), 0) if "r" in raw_cell else last + 1
            style = styles.get(raw_cell.get("s", "0"), -1)
            if not 0 < column <= LAST_COLUMN or column in cells or style < 0 or "=" in raw_cell:
                last = self._add_unusual(raw_cell, last, cells)
                continue
            last = column
            text = raw_cell.get("", "")
            if not text:
                continue
            kind = raw_cell.get("t", "n")
            if (
                kind == "s"
                and text.isdecimal()
                and len(text) <= _MAX_COUNT_DIGITS
                and int(text) < len(strings)
            ):
                text = strings[int(text)]
            elif kind != "n":
                cells[column] = self._make_cell(kind, text, style)
                continue
            if 0 < len(text) <= MAX_TEXT:
                cells[column] = new(Cell, (kind, text, style, "", ""))
            else:
                _add_cut_cell(cells, column, text, style)
        return cells

    def _add_unusual(self, raw_cell: dict[str, str], last: int, cells: dict[int, Cell]) -> int:
        """Add a cell that is a formula, the first of its column or style, or damaged.

        Returns its column; `last` is the column of the cell before it.
        """
        column = self._find_column(raw_cell.get("r", ""), last)
        is_misplaced = not 0 < column <= LAST_COLUMN or column in cells
        if is_misplaced:
            column = max(cells, default=0) + 1
        cell = self._make_unusual(raw_cell)
        if cell is not None:
            cells[column] = cell._replace(flaw=MISPLACED) if is_misplaced else cell
        return column

    def _find_column(self, reference: str, last: int) -> int:
        """Return the column in a reference as "AB12", 0 for a bad one; the next one without any."""
        name = reference.rstrip(_DIGITS)
        if not name:
            return last + 1
        return self._columns.setdefault(name, parse_column(name))

    def _find_style(self, number: str) -> int:
        """Return the id of a style, 0 for one that is no number."""
        return self._styles.setdefault(number, parse_count(number, otherwise=0))

    def _make_unusual(self, raw_cell: dict[str, str]) -> Cell | None:
        """Return the cell of a formula or of any other content, None for a blank one."""
        style = self._find_style(raw_cell.get("s", "0"))
        text, kind = raw_cell.get("", ""), raw_cell.get("t", "n")
        cell = self._make_cell(kind, text, style) if text else None
        formula = raw_cell.get("=")
        if formula is None:
            return cell
        if cell is None:  # a formula that comes to a blank text, or was never calculated
            constant = None if kind == "str" else read_constant(formula)
            is_text = kind == "str" or constant is not None
            cell = Cell("s" if is_text else "f", constant or "")
        link = _HYPERLINK.match(formula)
        return cell._replace(link=link[1] if link else "")

    def _make_cell(self, kind: str, text: str, style: int) -> Cell:
        """Return the cell with a content that is not blank."""
        if kind == "s":
            is_number = text.isdecimal() and len(text) <= _MAX_COUNT_DIGITS
            index = int(text) if is_number else -1
            if not 0 <= index < len(self._strings):
                return Cell("s", "", style, NO_SUCH_TEXT)
            text = self._strings[index]
        elif kind not in {"n", "b", "e", "d"}:
            kind, text = "s", unescape(text)
        return Cell(kind, text, style) if len(text) <= MAX_TEXT else _make_cut_cell(text, style)


def _add_cut_cell(cells: dict[int, Cell], column: int, text: str, style: int) -> None:
    """Add a cell whose text is too long, cut; none for a blank text."""
    if text:
        cells[column] = _make_cut_cell(text, style)


def _make_cut_cell(text: str, style: int) -> Cell:
    return Cell("s", text[:MAX_TEXT], style, TOO_LONG)


def parse_column(reference: str) -> int:
    """Return the number of the column in a reference as "AB12", from 1; 0 where it is bad."""
    name = reference.rstrip(_DIGITS).upper()
    if not _COLUMN_NAME.fullmatch(name):
        return 0
    number = 0
    for character in name:
        number = number * 26 + ord(character) - ord("A") + 1
    return number if number <= LAST_COLUMN else 0


def parse_count(digits: str, *, otherwise: int) -> int:
    """Return a count or an index as a number, `otherwise` for a text that is none."""
    is_count = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_COUNT_DIGITS
    return int(digits) if is_count else otherwise
