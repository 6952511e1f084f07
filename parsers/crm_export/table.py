"""Parser of a CRM's export, .xlsx or CSV: rows of named properties.

Columns are recognised by label or internal name.
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

# A spreadsheet takes a cell that starts with one of these for a formula.
FORMULA_STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_ESCAPED = re.compile(rf"'+[{re.escape(FORMULA_STARTS)}]")
_MAX_SEARCHED_ROWS = 30  # titles above an export's heading are fewer
_SAMPLE = 2**16  # characters; the heading is among them
_DELIMITERS = ",;\t|"
_ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_BLANK = Value("")


@dataclass(frozen=True, slots=True)
class Column:
    """A column by its label in the file and its property; "" where the label is unknown.

    `number` counts from 1.
    """

    number: int
    label: str
    property: str


@dataclass(frozen=True, slots=True)
class Record:
    """A row: its number in the file, the properties it has, and every cell as (label, text)."""

    number: int
    values: Mapping[str, Value] = field(repr=False)
    cells: tuple[tuple[str, str], ...] = field(repr=False)

    def get_value(self, name: str) -> Value:
        """Return the value of a property; a blank one where the row has none."""
        return self.values.get(name, _BLANK)

    def get_text(self, name: str) -> str:
        """Return a property as text, "" where the row has none."""
        return self.get_value(name).text


@dataclass(frozen=True, slots=True)
class Export:
    """The one table of a file: its columns, notes on parts left out, and its rows.

    Each call of `records` reads the rows anew. It raises ParseError where the file is damaged.
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    records: Callable[[], Iterator[Record]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Heading:
    """A row of headings, by its number in the file."""

    row: int
    columns: tuple[Column, ...]

    @property
    def known_count(self) -> int:
        """Number of properties that have a column."""
        return len({column.property for column in self.columns} - {""})


# A folded heading -> its property, and how much doubt the heading leaves, the lower the less.
_Ranks = Mapping[str, tuple[str, int]]


def parse_export(
    raw: bytes,
    words: ColumnNames,
    needed_properties: Sequence[str],
    columns: Mapping[str, str],
    options: Options = DEFAULT_OPTIONS,
) -> Export:
    """Find the table of a file whose heading has most of our words.

    `columns` maps headings of the file to properties of ours; it goes before `words`.

    Raises ParseError when the file is none we read, when no column holds a needed property, or
    when `columns` names a column or property that is not there; later, from `records`, when the
    file turns out to be damaged.
    """
    ranks = _rank_headings(words, columns)
    tables, notes = _find_tables(raw, ranks, options)
    headings = [(table, _find_heading(table, ranks)) for table in tables]
    with_heading = [(table, heading) for table, heading in headings if heading is not None]
    if not with_heading:
        raise ParseError(
            f"no row of headings found: a column for {_write_as_words(needed_properties[0])}"
            " is needed, under a name we know"
        )
    table, heading = max(with_heading, key=lambda pair: pair[1].known_count)  # the first of equals
    _check(heading, words, needed_properties, columns)
    if len(tables) > 1:
        notes = [*notes, f"{len(tables) - 1} other sheets of the file were not read"]
    return Export(heading.columns, tuple(notes), partial(_iter_records, table, heading, ranks))


def escape_formula(text: str) -> str:
    """Return a text with an apostrophe before what a spreadsheet would take for a formula.

    `unescape_formula` takes the apostrophe off. A text that only looks escaped is escaped too, so
    that every text comes back as it was. Source: OWASP, "CSV Injection".
    """
    starts_formula = text != "" and text[0] in FORMULA_STARTS
    return f"'{text}" if starts_formula or _ESCAPED.match(text) else text


def unescape_formula(text: str) -> str:
    """Return a text without the apostrophe that a CRM, or we, put before it against formulas."""
    return text[1:] if _ESCAPED.match(text) else text


def _rank_headings(words: ColumnNames, columns: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Return the property and the rank of each folded heading; a person's choice ranks first."""
    ranks = {
        label: (name, rank) for name, labels in words.items() for rank, label in enumerate(labels)
    }
    chosen = {normalize.fold_label(label, ranks): (name, -1) for label, name in columns.items()}
    return ranks | chosen


def _write_as_words(name: str) -> str:
    return name.replace("_", " ")


def _check(
    heading: _Heading,
    words: ColumnNames,
    needed_properties: Sequence[str],
    columns: Mapping[str, str],
) -> None:
    """Raise ParseError where a chosen column or property, or a needed property, is missing."""
    labels = {normalize.fold_label(column.label) for column in heading.columns}
    for label, name in columns.items():
        if name and name not in words:
            raise ParseError(f"there is no property {name}: there are {', '.join(words)}")
        if normalize.fold_label(label) not in labels:
            raise ParseError(f"the file has no column {label}")
    properties = {column.property for column in heading.columns}
    for name in needed_properties:
        if name not in properties:
            raise ParseError(
                f"no column holds the {_write_as_words(name)}: say which does, as in"
                f' --map "Column={name}"'
            )


def _find_heading(table: Table, ranks: _Ranks) -> _Heading | None:
    """Return the one of the first rows that has most of our words; None where none has any."""
    rows = islice(table.rows(), _MAX_SEARCHED_ROWS)
    candidates = [_make_heading(row, table.cells, ranks) for row in rows]
    best = max(candidates, key=lambda heading: heading.known_count, default=None)
    return best if best is not None and best.known_count else None


def _make_heading(row: Row, reader: CellReader, ranks: _Ranks) -> _Heading:
    columns = []
    for number, cell in sorted(row.cells.items()):
        label = normalize.to_one_line(reader.read_value(cell).text)
        if label:
            name, _ = ranks.get(normalize.fold_label(label, ranks), ("", 0))
            columns.append(Column(number, label, name))
    return _Heading(row.number, tuple(columns))


def _iter_records(table: Table, heading: _Heading, ranks: _Ranks) -> Iterator[Record]:
    """Yield the rows below a heading that have any value."""

    def rank(column: Column) -> int:
        """Return the rank of a column's heading among those of its property."""
        return ranks[normalize.fold_label(column.label, ranks)][1]

    ranked_columns = sorted((column for column in heading.columns if column.property), key=rank)
    labels = {column.number: column.label for column in heading.columns}
    for row in table.rows():
        if row.number <= heading.row:
            continue
        values = _read_values(table.cells, row)
        if not values:
            continue
        cells = (
            (labels.get(number, f"column {number}"), value.text)
            for number, value in sorted(values.items())
        )
        yield Record(row.number, _assign_properties(ranked_columns, values), tuple(cells))


def _read_values(reader: CellReader, row: Row) -> dict[int, Value]:
    """Return the values of a row by column, without those that are blank and undamaged."""
    values = {number: _read_value(reader, cell) for number, cell in row.cells.items()}
    return {number: value for number, value in values.items() if value.text or value.flaw}


def _assign_properties(
    ranked_columns: Sequence[Column], values: Mapping[int, Value]
) -> dict[str, Value]:
    """Return the value of each property.

    Of two columns for one property the first that has a value counts; `ranked_columns` are in that
    order.
    """
    properties: dict[str, Value] = {}
    for column in ranked_columns:
        if column.number in values:
            properties.setdefault(column.property, values[column.number])
    return properties


def _read_value(reader: CellReader, cell: Cell) -> Value:
    value = reader.read_value(cell)
    return value._replace(text=unescape_formula(value.text)) if cell.kind == "s" else value


def _find_tables(raw: bytes, ranks: _Ranks, options: Options) -> tuple[list[Table], list[str]]:
    """Return the tables of a file, and notes on what was left out.

    Text files are read here, because their delimiter shows by the headings of a CRM, not by those
    of messages: the one counts that makes most headings known.
    """
    if not delimited.is_text(raw):
        return find_tables(raw, options)
    text = _decode(raw)
    known = [_count_known(_make_table(text[:_SAMPLE], delim), ranks) for delim in _DELIMITERS]
    return [_make_table(text, _DELIMITERS[known.index(max(known))])], []


def _make_table(text: str, delimiter: str) -> Table:
    return Table("", partial(_iter_text_rows, text, delimiter), CellReader([]))


def _count_known(table: Table, ranks: _Ranks) -> int:
    try:
        heading = _find_heading(table, ranks)
    except ParseError:
        return 0
    return heading.known_count if heading else 0


def _decode(raw: bytes) -> str:
    encoding = next((name for bom, name in _ENCODINGS.items() if raw.startswith(bom)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        # Excel on Windows saves CSV in this charset unless it is asked for UTF-8.
        return raw.decode("cp1252", errors="replace")


def _iter_text_rows(text: str, delimiter: str) -> Iterator[Row]:
    """Yield the rows of a text file that have any cell. Raises ParseError for unmatched quotes."""
    lines = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
    try:
        for number, line in enumerate(lines, start=1):
            cells = {
                column: Cell("s", value) for column, value in enumerate(line, start=1) if value
            }
            if cells:
                yield Row(number, hidden=False, cells=cells)
    except csv.Error as error:
        raise ParseError(
            "a text file whose quotes do not match: export it again, or as .xlsx"
        ) from error
