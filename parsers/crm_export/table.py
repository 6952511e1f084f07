"""A CRM's export, .xlsx or CSV, as rows of named properties.

Columns are known by label or internal name.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from itertools import islice

from parsers.crm_export.column_names import ColumnNames
from parsers.item import ParseError
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.spreadsheets.cell_values import CellReader, Value
from parsers.spreadsheets.formats import delimited
from parsers.spreadsheets.formats.model import Cell, Row
from parsers.spreadsheets.reader import Table, find_tables
from parsers.text import normalize

FORMULA_STARTS = (  # a spreadsheet computes what starts with one of these
    "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
)
_ESCAPED = re.compile(rf"'+[{re.escape(FORMULA_STARTS)}]")
_SEARCHED = 30  # rows: titles above an export's heading are fewer
_SAMPLE = 2**16  # characters: the heading is in there
_DELIMITERS = ",;\t|"
_ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_BLANK = Value("")


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the file heads it, and the property it holds; "" for one we have no word for."""

    number: int
    label: str
    property: str


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its number in the file, the properties it gives, and every cell under its label.

    As received.
    """

    number: int
    values: Mapping[str, Value] = field(repr=False)
    cells: tuple[tuple[str, str], ...] = field(repr=False)

    def value(self, name: str) -> Value:
        """A property's value; a blank one where the row gives none."""
        return self.values.get(name, _BLANK)

    def text(self, name: str) -> str:
        """A property as text, "" where the row gives none."""
        return self.value(name).text


@dataclass(frozen=True, slots=True)
class Export:
    """The one table of a file.

    Its columns, what was left out, and its rows, read anew each time.
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    records: Callable[[], Iterator[Record]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Heading:
    row: int  # the number of the row it is
    columns: tuple[Column, ...]

    @property
    def known(self) -> int:
        return len({column.property for column in self.columns} - {""})


def parse_export(
    raw: bytes,
    words: ColumnNames,
    needed: Sequence[str],
    told: Mapping[str, str],
    options: Options = DEFAULT_OPTIONS,
) -> Export:
    """Find the table whose heading has most of our words.

    `told` maps headings of theirs to properties of ours.

    Raises ParseError when the file is none we read, when no column holds a `needed` property, or
    when `told` names a column or property that is not there; later, from `records`, when the file
    turns out to be damaged.
    """
    by_label = _by_label(words, told)
    found, notes = _tables(raw, by_label, options)
    headed = [
        (table, heading) for table in found if (heading := _heading(table, by_label)) is not None
    ]
    if not headed:
        raise ParseError(
            f"no row of headings found: a column for {_spoken(needed[0])} is needed, under a name"
            " we know"
        )
    table, heading = max(headed, key=lambda one: one[1].known)  # the first of equals
    _check(heading, words, needed, told)
    left_out = len(found) - 1
    notes += [f"{left_out} other sheets of the file were not read"] if left_out else []
    return Export(heading.columns, tuple(notes), partial(_records, table, heading, by_label))


def escape_formula(text: str) -> str:
    """A text no spreadsheet takes for a formula: an apostrophe before what starts like one.

    `unescape_formula` takes it off.

    OWASP, "CSV Injection". What only looks escaped is escaped too, so that every text comes back as
    it was.
    """
    return f"'{text}" if (text[:1] in FORMULA_STARTS and text) or _ESCAPED.match(text) else text


def unescape_formula(text: str) -> str:
    """The text as it was before a CRM, or we, put an apostrophe before what would be a formula."""
    return text[1:] if _ESCAPED.match(text) else text


def _by_label(words: ColumnNames, told: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Each heading we know -> its property, and how telling it is.

    What a person has said comes first.
    """
    known = {
        label: (name, rank) for name, labels in words.items() for rank, label in enumerate(labels)
    }
    return known | {normalize.fold_label(label, known): (name, -1) for label, name in told.items()}


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _check(
    heading: _Heading, words: ColumnNames, needed: Sequence[str], told: Mapping[str, str]
) -> None:
    there = {normalize.fold_label(column.label): column for column in heading.columns}
    for label, name in told.items():
        if name and name not in words:
            raise ParseError(f"there is no property {name}: there are {', '.join(words)}")
        if normalize.fold_label(label) not in there:
            raise ParseError(f"the file has no column {label}")
    given = {column.property for column in heading.columns}
    for name in needed:
        if name not in given:
            raise ParseError(
                f'no column holds the {_spoken(name)}: say which does, as in --map "Column={name}"'
            )


def _heading(table: Table, by_label: Mapping[str, tuple[str, int]]) -> _Heading | None:
    """The one of the first rows that has most of our words; None where none has any."""
    candidates = [
        _as_heading(row, table.cells, by_label) for row in islice(table.rows(), _SEARCHED)
    ]
    best = max(candidates, key=lambda one: one.known, default=None)
    return best if best is not None and best.known else None


def _as_heading(row: Row, how: CellReader, by_label: Mapping[str, tuple[str, int]]) -> _Heading:
    labels = {
        number: normalize.to_one_line(how.read_value(cell).text)
        for number, cell in row.cells.items()
    }
    columns = (
        Column(number, label, by_label.get(normalize.fold_label(label, by_label), ("", 0))[0])
        for number, label in sorted(labels.items())
        if label
    )
    return _Heading(row.number, tuple(columns))


def _records(
    table: Table, heading: _Heading, by_label: Mapping[str, tuple[str, int]]
) -> Iterator[Record]:
    def rank(column: Column) -> int:
        return by_label[normalize.fold_label(column.label, by_label)][1]

    named = sorted((column for column in heading.columns if column.property), key=rank)
    labels = {column.number: column.label for column in heading.columns}
    for row in table.rows():
        if row.number <= heading.row:
            continue
        values = {number: _value(table.cells, cell) for number, cell in row.cells.items()}
        values = {number: value for number, value in values.items() if value.text or value.flaw}
        if not values:
            continue
        given: dict[str, Value] = {}
        for column in named:  # of two columns for one property the more telling that says something
            if column.number in values:
                given.setdefault(column.property, values[column.number])
        cells = tuple(
            (labels.get(number, f"column {number}"), v.text) for number, v in sorted(values.items())
        )
        yield Record(row.number, given, cells)


def _value(how: CellReader, cell: Cell) -> Value:
    value = how.read_value(cell)
    return value._replace(text=unescape_formula(value.text)) if cell.kind == "s" else value


def _tables(
    raw: bytes, by_label: Mapping[str, tuple[str, int]], options: Options
) -> tuple[list[Table], list[str]]:
    """The tables of a file.

    Text is read here: which delimiter it has shows by a CRM's headings, not by a message's.
    """
    if not delimited.is_text(raw):
        return find_tables(raw, options)
    text = _decode(raw)
    candidates = [
        Table("", partial(_text_rows, text, delimiter), CellReader([])) for delimiter in _DELIMITERS
    ]
    samples = [
        Table("", partial(_text_rows, text[:_SAMPLE], delimiter), CellReader([]))
        for delimiter in _DELIMITERS
    ]
    known = [_known(sample, by_label) for sample in samples]
    return [candidates[known.index(max(known))]], []


def _known(table: Table, by_label: Mapping[str, tuple[str, int]]) -> int:
    try:
        heading = _heading(table, by_label)
    except ParseError:
        return 0
    return heading.known if heading else 0


def _decode(raw: bytes) -> str:
    encoding = next((name for bom, name in _ENCODINGS.items() if raw.startswith(bom)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return raw.decode(
            "cp1252", errors="replace"
        )  # what is no UTF-8 was saved by Excel on Windows


def _text_rows(text: str, delimiter: str) -> Iterator[Row]:
    try:
        for number, line in enumerate(
            csv.reader(StringIO(text, newline=""), delimiter=delimiter), start=1
        ):
            cells = {
                column: Cell("s", value) for column, value in enumerate(line, start=1) if value
            }
            if cells:
                yield Row(number, hidden=False, cells=cells)
    except csv.Error as error:
        raise ParseError(
            "a text file whose quotes do not match: export it again, or as .xlsx"
        ) from error
