"""Recognition of the tables of a sheet: its headings, titles, footers and requests.

A row is classified by where it stands and by its whole form, never by how it begins. Whatever
stands under a heading for the message text is read as a request, or rejected. Titles and footers
are counted with their places; every other row is handed on, so that it becomes an item or a
rejected row.
"""

import re
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise
from typing import NamedTuple

from parsers.item import REJECTION_HEADING, SheetCounts
from parsers.options import Options
from parsers.secure_message import headings, unquoted
from parsers.secure_message.headings import Heading, HeadingFinder
from parsers.secure_message.row import (
    NO_CONTEXT,
    NO_FIELDS,
    NO_MERGED_VALUES,
    DateOrder,
    RowContext,
    RowReader,
    SheetRow,
    can_be_read_two_ways,
    find_counting_fields,
    find_date_order,
    name_column,
)
from parsers.spreadsheets.cell_values import UNSOLVED, Value
from parsers.spreadsheets.formats.model import Cell, Row
from parsers.spreadsheets.formats.xlsx_sheet import MAX_MERGED_COLUMNS
from parsers.spreadsheets.reader import Table
from parsers.text import normalize

NO_HEADINGS = (
    "no headings for messages stand above this row: write who asks and the message into the columns"
    " of these names"
)
BESIDE_TABLE = (
    "this stands beside or below the table: write who asks and the message into the columns of"
    " these names"
)
INCOMPLETE = (
    "the headings above this row have no column for {missing}: write who asks and the message into"
    " the columns of these names"
)
DOUBTFUL = (
    "this was taken for the headings of the rows below: if it is a request, write it into the"
    " columns of these names"
)
DOUBTFUL_TITLE = (
    "this was taken for a title of the table below: if it is a request, write it into the columns"
    " of these names"
)
CONTINUED = (
    "rows below it have only a text, and were read as its continuation ({rows}): see whether each"
    " is a message of its own"
)
ABOVE_LABEL = "Above the table"  # label of the titles among an item's details
SHEET_LABEL = "Sheet"
GROUP_LABEL = "Group of rows"  # label of a row that stands above those it is about

_MAX_PENDING = 50  # rows without a message that wait until it is clear what follows them
_MAX_TITLE_LENGTH = 200  # characters of a cell; a longer one is somebody's text
_MAX_TITLE_CELLS = 8  # labels and values beside each other, as filters of a report
_MAX_TITLE_WORDS = 6  # of a title between tables: with more it may be somebody's sentence
_MAX_FOOTER_CELLS = 4  # as "Page", 1, "of", 3
_MAX_GROUP_ROWS = 3  # practice, location and month above each other
_MIN_WRAPPED = 60  # characters of a line that was broken because it was full
_OPEN_ENDS = ",;:-\u2013\u2014&(/"  # signs behind which a text is not at its end
_MAX_CONTINUED = 200  # rows of one message
_MAX_PLACES = 20  # runs of rows named; a report of 3,000 pages repeats its heading as often

_SENTENCE_END = re.compile(r"[.!?]$|[a-z]{3}[.!?] ")
_COUNT = re.compile(r"[\d.,%$ ()+-]*")
_TOTAL = re.compile(
    r"(?:grand |sub-? ?)?totals?"
    r"(?: (?:number|count|of|open|closed|messages?|rows?|records?|items?|requests?|tickets?)){0,3}"
    r" ?[:=]?(?: ?\d[\d.,]*)*",
    re.IGNORECASE,
)
_MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec|mär|mai|okt|dez)[a-z]*\.?"
_DATE = (
    r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? )?"
    rf"(?:\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}"
    rf"|{_MONTH} \d{{1,2}},? \d{{4}}"
    rf"|\d{{1,2}}\.?[ -]{_MONTH}[ -]\d{{2,4}})"
)
_TIME = (
    r"(?:T|,? (?:at )?)\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]\.?m\.?)?"
    r"(?:Z| ?[+-]\d{2}:?\d{2}| [a-z]{2,4}T)?"
)
# A name begins with a capital: "by mistake" and the like are somebody's words.
_BY = r"(?: by:? (?:[^\s@]+@[^\s@]+|(?-i:[A-Z][\w.'-]*(?: [A-Z][\w.'-]*){0,2})))"
_FOOTER = re.compile(
    r"(?:page|seite) \d+(?: ?(?:of|/|von) ?\d+)?"
    r"|-* ?end of (?:report|list|file|export|document|page)\.? ?-*"
    r"|(?:report )?(?:generated|printed|created|exported|run)(?: date)?:?"
    rf"{_BY}?(?: (?:on|at))?:? {_DATE}(?:{_TIME})?{_BY}?\.?"
    r"|\d+ (?:rows|records|messages|items|entries)(?: (?:in total|total|found|exported))?",
    re.IGNORECASE,
)
# Rows by which Excel's "Subtotal" and reports end a group: its name, then one of these.
_SUBTOTAL = re.compile(
    r"(.*?)[ :,-]*\b(?:sub-?total|total|count|sum|gesamt|summe)s?:?", re.IGNORECASE | re.DOTALL
)
_GROUP_COUNT = re.compile(r"\s*\(\s*\d+(?: [a-z]+)?\s*\)$", re.IGNORECASE)  # as "(2 messages)"
_ANY_PRACTICE = re.compile(r"(?:all|any|every|multiple|various|several)\b", re.IGNORECASE)
_PAGE = re.compile(r"(?:page|seite) \d+(?: ?(?:of|/|von) ?\d+)?", re.IGNORECASE)
_USUAL_NAME = re.compile(
    r"(?:(?:work)?sheet|table|tabelle|feuil|hoja|foglio|blad|planilha|export|report|data)?"
    r"[ _-]*\d*",
    re.IGNORECASE,
)


class RequestRow(NamedTuple):
    """A row to be read under its table's headings.

    For a row under none `reader` is None, and `reason` is the text for its rejection.
    """

    row: SheetRow
    reader: RowReader | None
    reason: str = ""


class _TableColumns(NamedTuple):
    """The columns of one table, and the reader of its rows."""

    heading: Heading
    reader: RowReader
    first: int
    last: int | None  # None for the last column of the sheet
    # Number of the heading's last row, where it is another than that of the tables beside.
    heading_row: int = 0

    def select(self, row: SheetRow) -> dict[int, Value]:
        """Return the values of a row that stand in the columns of this table."""
        return {
            column: value
            for column, value in row.values.items()
            if column >= self.first and (self.last is None or column <= self.last)
        }


class _OpenTables:
    """The table, or the tables side by side, under the last heading so far.

    `heading_row` is the number of the heading's last row: a cell that is merged from above it
    belongs to no message. `width` is the number of fields of the heading in a text file, else 0.
    """

    def __init__(
        self, heading: Heading, tables: list[_TableColumns], heading_row: int, width: int = 0
    ) -> None:
        self.heading, self.tables, self.heading_row = heading, tables, heading_row
        self.labels = heading.labels.keys()
        columns = [table.reader.columns for table in tables]
        self.width = width
        self.text_columns = frozenset(column for names in columns for column in names["body"])
        subjects = frozenset(column for names in columns for column in names["subject"])
        self.message_columns = self.text_columns | subjects
        self.first_text_column = min(self.text_columns)


class Tally:
    """Counts of the rows of a sheet by kind, and the places of headings, titles and footers."""

    def __init__(self) -> None:
        self.rows = self.blank = self.hidden_rows = 0
        self.items = self.repeated = self.rejected = self.continued = 0
        self._places = {kind: _RowNumbers() for kind in ("headings", "titles", "footers")}

    def add(self, kind: str, row: int) -> None:
        """Count the row of a heading, title or footer; `kind` is its plural."""
        self._places[kind].add(row)

    def get_counts(self, sheet: str) -> SheetCounts:
        """Return the counts so far."""
        heading_rows, title_rows, footer_rows = self._places.values()
        return SheetCounts(
            sheet=sheet,
            rows=self.rows,
            items=self.items,
            repeated=self.repeated,
            rejected=self.rejected,
            continued=self.continued,
            headings=heading_rows.count,
            titles=title_rows.count,
            footers=footer_rows.count,
            blank=self.blank,
            hidden_rows=self.hidden_rows,
            heading_places=str(heading_rows),
            title_places=str(title_rows),
            footer_places=str(footer_rows),
        )


class _RowNumbers:
    """Row numbers, written as runs: "1-3, 9"; of many runs the first ones and "…"."""

    def __init__(self) -> None:
        self.count = 0
        self._runs: list[list[int]] = []
        self._is_cut = False

    def add(self, row: int) -> None:
        """Add a row number; they come in ascending order."""
        self.count += 1
        if self._runs and self._runs[-1][1] <= row <= self._runs[-1][1] + 1:
            self._runs[-1][1] = row
        elif len(self._runs) < _MAX_PLACES:
            self._runs.append([row, row])
        else:
            self._is_cut = True

    def __str__(self) -> str:
        runs = [str(first) if first == last else f"{first}-{last}" for first, last in self._runs]
        return ", ".join([*runs, "…"] if self._is_cut else runs)


class Layout:
    """The tables of one sheet, found while its rows go by.

    Memory stays the same however many rows there are.
    """

    def __init__(self, table: Table, options: Options) -> None:
        self.tally = Tally()
        self._table, self._options = table, options
        self._finder = HeadingFinder(options.profiles)
        self._rows = self._iter_filled_rows()
        self._first_rows = list(islice(self._rows, headings.MAX_SEARCHED_ROWS))
        self.heading = headings.find_heading(
            [row.texts for row in self._first_rows], options.profiles
        )
        self._open: _OpenTables | None = None
        self._pending: list[SheetRow] = []
        self._reason = NO_HEADINGS
        self._doubtful_titles: list[SheetRow] = []  # handed on as rejected rows already
        self._titles: set[str] = set()  # of the table above: a report repeats them on every page
        self._ahead = _LookAhead(iter(()))
        self._is_next_taken = False  # the next row is the second one of a heading
        self._groups: list[SheetRow] = []  # rows that name what the rows below them are about
        self._context = NO_CONTEXT  # of the rows below the groups
        self._is_group_open = False  # no request has followed the last of the groups yet
        self._last_values: dict[int, Value] = {}  # of the last request

    @property
    def name(self) -> str:
        """Name of the sheet."""
        return self._table.name

    @property
    def is_readable(self) -> bool:
        """True where a table of messages begins near the top."""
        return self.heading is not None and not self.heading.missing_fields

    def rewind(self) -> None:
        """Forget the rows read so far, and read them again when their turn comes.

        Of many sheets, each would hold memory until then.
        """
        self._first_rows, self._rows = [], self._iter_filled_rows()
        self.tally = Tally()

    def has_table_below(self) -> bool:
        """Return whether there is a table of messages further down.

        It reads the whole sheet, and rewinds it.
        """
        self.rewind()
        candidates = (
            self._find_heading_at(row.texts, following)
            for row, following in _pair_with_following(self._rows)
        )
        has_table = any(
            heading is not None and not heading.missing_fields for heading in candidates
        )
        self.rewind()
        return has_table

    def iter_requests(self) -> Iterator[RequestRow]:
        """Yield the rows that are to be read, or to be rejected; the others are in the tally.

        Rows that continue the text of the one above are one with it.
        """
        held: RequestRow | None = None
        rows: list[int] = []
        for request in self._iter_single_requests():
            if held is not None and _continues(held, request, held.row.number + len(rows)):
                rows.append(request.row.number)
                held = held._replace(row=_append_text(held.row, request.row))
                self.tally.continued += 1
                continue
            if held is not None:
                yield _note_continued(held, rows)
            held, rows = request, []
        if held is not None:
            yield _note_continued(held, rows)

    def _iter_single_requests(self) -> Iterator[RequestRow]:
        begin = self.heading.start if self.heading and self.is_readable else -1
        self._ahead = _LookAhead(chain(self._first_rows, self._rows))
        for place, row in enumerate(self._ahead):
            following = next(iter(self._ahead.peek(1)), None)
            if self._is_next_taken:
                self._is_next_taken = False
            elif place == begin:
                yield from self._begin_table(self.heading, row, following)
            elif place < begin:  # the first heading was found among all of these
                yield from self._take_above(row)
            else:
                yield from self._classify(row, following)
        yield from self._end_table()

    # -- reading ----

    def _iter_filled_rows(self) -> Iterator[SheetRow]:
        """Yield the rows with any value, and with the values of merged cells from above.

        Counts all rows as they go by, also the blank ones between those of the sheet.
        """
        tally, merged_cells = self.tally, _MergedCells()
        last_number, is_after_blank = 0, False
        for row, values in self._iter_values():
            skipped_rows = max(row.number - last_number - 1, 0)
            tally.rows += skipped_rows + 1
            tally.blank += skipped_rows if values else skipped_rows + 1
            tally.hidden_rows += row.hidden
            last_number = max(last_number, row.number)
            is_after_blank = is_after_blank or skipped_rows > 0 or not values
            if values:
                merged = merged_cells.take_reaching(row.number, values)
                yield SheetRow(
                    row.number,
                    row.hidden,
                    values,
                    merged,
                    is_after_blank=is_after_blank,
                    fields=row.fields,
                )
                is_after_blank = False
                merged_cells.add(row, values)

    def _iter_values(self) -> Iterator[tuple[Row, dict[int, Value]]]:
        """Yield each row with its values by column, without a column of ours for rejected rows."""
        read_value = self._table.cells.read_value
        our_columns = set[int]()
        for place, row in enumerate(self._table.rows()):
            values = {}
            for column, cell in row.cells.items():
                value = read_value(cell)
                if value.text or value.flaw:
                    values[column] = value
            if place < headings.MAX_SEARCHED_ROWS:
                our_columns.update(_find_our_columns(values))
            if our_columns:
                values = {c: value for c, value in values.items() if c not in our_columns}
                row = row._replace(fields=())  # noqa: PLW2901 - they would count our column too
            yield row, values

    def _is_whole(self, texts: dict[int, str]) -> bool:
        """Return whether a row has as many cells as the open heading, or that has two rows."""
        if self._open is None:
            return False
        return self._open.heading.has_two_rows or len(texts) == len(self._open.labels)

    def _adds_nothing(self, heading: Heading) -> bool:
        """Return whether the rows under a doubtful heading would have the same fields as before.

        The heading is a request then.
        """
        if heading.is_sure or self._open is None:
            return False
        open_columns = self._open.heading.columns
        return all(
            set(columns) <= set(open_columns.get(name, ()))
            for name, columns in heading.columns.items()
        )

    def _find_heading_at(self, texts: dict[int, str], following: SheetRow | None) -> Heading | None:
        if not self._finder.may_begin(texts):
            return None
        return self._finder.find_at(texts, following.texts if following else {}, 0)

    # -- classification of a row ----

    def _classify(self, row: SheetRow, following: SheetRow | None) -> Iterator[RequestRow]:
        """Hand a row on, or count it, or keep it until it is clear what follows."""
        beside = self._find_heading_beside(row, following)
        if beside is not None:
            yield from self._begin_beside(beside, row)
        elif self._is_certain_request(row):
            yield from self._settle_within()
            yield from self._emit(row)
        else:
            yield from self._classify_short(row, following)

    def _is_certain_request(self, row: SheetRow) -> bool:
        """Return whether a row is a request at first sight, as nearly all are."""
        if self._open is None:
            return False
        return self._is_repeated_in_part(row) or _is_long(row, self._open.first_text_column)

    def _classify_short(self, row: SheetRow, following: SheetRow | None) -> Iterator[RequestRow]:
        """Classify a row that may be a heading, title or footer as well."""
        texts = row.texts
        if self._is_repeated_alone(texts, following):
            yield from self._continue_below(row)
            return
        heading = self._find_heading_at(texts, following)
        if heading is not None and not self._adds_nothing(heading):
            yield from self._begin_table(heading, row, following)
        elif self._open is None:
            yield from self._take_above(row)
        elif self._is_title_of_next(row):
            self._doubtful_titles.append(row)
            yield self._reject(row, DOUBTFUL_TITLE)
        else:
            yield from self._take_inside(row)

    def _is_repeated_alone(self, texts: dict[int, str], following: SheetRow | None) -> bool:
        """Return whether a row repeats the open heading, and is not part of a heading of two rows.

        A row with fewer cells than the heading may be the upper row of another one.
        """
        if self._open is None or not self._open.heading.is_repeated_in(texts):
            return False
        if self._is_whole(texts):
            return True
        heading = self._find_heading_at(texts, following)
        return heading is None or not heading.has_two_rows

    def _begin_table(
        self, heading: Heading | None, row: SheetRow, following: SheetRow | None
    ) -> Iterator[RequestRow]:
        """Begin a new table, or note that the following one is none of messages."""
        assert heading is not None
        if heading.missing_fields:
            yield from self._end_table()
            self._open = None
            self._reason = INCOMPLETE.format(missing=" nor for ".join(heading.missing_fields))
            yield self._reject(row)
            return
        self._is_next_taken = heading.has_two_rows
        titles = (yield from self._settle_above()) or []
        rows = [row, following] if heading.has_two_rows and following else [row]
        for heading_row in rows:
            if heading.is_sure or heading is self.heading:
                self.tally.add("headings", heading_row.number)
            else:  # read as a heading, and shown as well: it may be a request
                yield self._reject(heading_row, DOUBTFUL)
        tables = list(self._make_tables(heading, titles))
        width = max(len(heading_row.fields) for heading_row in rows)
        self._open = _OpenTables(heading, tables, rows[-1].number, width)
        self._groups, self._context, self._last_values = [], NO_CONTEXT, {}

    def _continue_below(self, row: SheetRow) -> Iterator[RequestRow]:
        """Continue the table below its repeated heading.

        Titles right above the heading belong to the rows below, as of a table of its own.
        """
        assert self._open is not None
        heading = self._open.heading
        titles = yield from self._settle_above()
        self.tally.add("headings", row.number)
        if titles is not None:
            tables = list(self._make_tables(heading, titles))
            self._open = _OpenTables(heading, tables, row.number, self._open.width)

    def _find_heading_beside(self, row: SheetRow, following: SheetRow | None) -> Heading | None:
        """Return the heading of a table that begins beside the open one, while that goes on.

        It stands in columns in which the open table has none, all on one side of it.
        """
        table = self._open
        if table is None or row.values.keys() <= table.labels or table.heading.has_two_rows:
            return None
        texts = {column: text for column, text in row.texts.items() if column not in table.labels}
        heading = self._find_heading_at(texts, None)
        if heading is None or not heading.is_sure_and_complete:
            return None
        if _is_around(texts, table.labels) or not self._goes_on(table, row, following):
            return None
        return heading

    def _goes_on(self, table: _OpenTables, row: SheetRow, following: SheetRow | None) -> bool:
        """Return whether the open table goes on in this row.

        Its cells here are no headings; where there are none, the next row has some.
        """
        inside = {column: text for column, text in row.texts.items() if column in table.labels}
        if not inside:
            return following is not None and not following.values.keys().isdisjoint(table.labels)
        recognised = headings.parse_heading([inside], 0, None).recognised_count
        return 2 * recognised < len(inside)

    def _begin_beside(self, heading: Heading, row: SheetRow) -> Iterator[RequestRow]:
        """Open a table beside the open one, and hand on the cells of the row that belong to it."""
        table = self._open
        assert table is not None
        yield from self._settle_within()
        self.tally.add("headings", row.number)
        values = {
            column: value for column, value in row.values.items() if column not in heading.labels
        }
        if values:
            self.tally.rows += 1  # a row of each of the tables
            yield from self._emit(row._replace(values=values))
        tables = [
            one if one.heading_row else one._replace(heading_row=table.heading_row)
            for one in table.tables
        ]
        for block in heading.split_tables():
            reader = self._make_reader(
                block, self._name_table(heading), self._list_details([], (1, None))
            )
            tables.append(_TableColumns(block, reader, 1, None, row.number))
        tables.sort(key=lambda one: min(one.heading.labels))
        spans = headings.find_column_spans([one.heading for one in tables])
        tables = [
            one._replace(first=first, last=last)
            for one, (first, last) in zip(tables, spans, strict=True)
        ]
        self._open = _OpenTables(
            table.heading.join(heading), tables, table.heading_row, table.width
        )

    def _is_repeated_in_part(self, row: SheetRow) -> bool:
        """Return whether one of the tables side by side repeats its heading here.

        Another one has a request in the same row.
        """
        if self._open is None or len(self._open.tables) == 1:
            return False
        parts = ((table, table.select(row)) for table in self._open.tables)
        repeats = [
            table.heading.is_repeated_in({column: value.text for column, value in part.items()})
            for table, part in parts
            if part
        ]
        return any(repeats) and not all(repeats)

    def _settle_above(self) -> Generator[RequestRow, None, list[SheetRow] | None]:
        """Settle the rows above a heading, and return those that are titles of its table.

        None where no row above may be a title. Below another table it may be somebody's note on
        that one: a row that does not look like a title is rejected, and shown with no request of
        the table below.
        """
        candidates, doubtful = self._take_titles(), self._doubtful_titles
        self._doubtful_titles = []
        yield from self._end_table()
        titles = list(doubtful)
        for row in candidates:
            is_known = self._open is None or _join_texts(row) in self._titles
            if is_known or _is_short_title(row):
                titles.append(row)
                self.tally.add("titles", row.number)
            else:
                yield self._reject(row, DOUBTFUL_TITLE)
        if not candidates and not doubtful:
            return None
        self._titles = {_join_texts(row) for row in titles}
        return sorted(titles, key=lambda row: row.number)

    def _is_title_of_next(self, row: SheetRow) -> bool:
        """Return whether a row under the message heading stands where a title of the next table is.

        Blank rows separate it from the table above, and a heading follows it at once.
        """
        table = self._open
        assert table is not None
        if not row.is_after_blank or len(row.values) >= len(table.labels) or not _is_title(row):
            return False
        if len(row.values) == 1 or row.values.keys().isdisjoint(table.message_columns):
            return False
        return not self._is_total(row, table) and self._is_heading_below(table)

    def _is_heading_below(self, table: _OpenTables) -> bool:
        """Return whether the next row is a heading of messages, new or repeated."""
        below = self._ahead.peek(2)
        if not below:
            return False
        if table.heading.is_repeated_in(below[0].texts):
            return True
        heading = self._find_heading_at(below[0].texts, below[1] if len(below) > 1 else None)
        return heading is not None and heading.is_sure_and_complete

    def _list_details(
        self, titles: list[SheetRow], span: tuple[int, int | None]
    ) -> tuple[tuple[str, str], ...]:
        """Return the titles above a table and the sheet's name, as details of each of its rows.

        `span` are the first and last column of the table, None for the last one of the sheet. A
        name that every workbook has is left out.
        """
        texts = map(_join_texts, _select_columns(titles, span))
        above = "\n".join(filter(None, texts))
        details = [(ABOVE_LABEL, above)] if above else []
        if not _USUAL_NAME.fullmatch(self.name):
            details.append((SHEET_LABEL, self.name))
        return tuple(details)

    def _make_tables(self, heading: Heading, titles: list[SheetRow]) -> Iterator[_TableColumns]:
        """Yield the tables under a heading; those side by side are named by their columns.

        A title belongs to the table it stands over. Where all of them stand over the first table,
        they are titles of the whole sheet.
        """
        blocks = heading.split_tables()
        if len(blocks) == 1:
            details = self._list_details(titles, (1, None))
            reader = self._make_reader(blocks[0], self.name, details, _find_practice(titles))
            yield _TableColumns(blocks[0], reader, 1, None)
            return
        spans = headings.find_column_spans(blocks)
        is_of_sheet = all(column < spans[1][0] for title in titles for column in title.values)
        for block, (first, last) in zip(blocks, spans, strict=True):
            span = (1, None) if is_of_sheet else (first, last)
            details = self._list_details(titles, span)
            fields = _find_practice(_select_columns(titles, span))
            reader = self._make_reader(block, self._name_table(block), details, fields)
            yield _TableColumns(block, reader, first, last)

    def _name_table(self, heading: Heading) -> str:
        """Return a name for a table beside others: the sheet's name and its columns."""
        first, last = name_column(min(heading.labels)), name_column(max(heading.labels))
        columns = f"columns {first} to {last}"
        return f"{self.name}, {columns}" if self.name else columns

    def _make_reader(
        self,
        heading: Heading,
        name: str,
        details: tuple[tuple[str, str], ...],
        fields: Mapping[str, str] = NO_FIELDS,
    ) -> RowReader:
        """Return a reader of the rows under a heading.

        The rows that follow show which ids count rows.
        """
        following = [row.values for row in self._ahead.peek(headings.MAX_SEARCHED_ROWS)]
        if heading.has_two_rows:  # its second row has not been taken yet
            following = following[1:]
        counting = find_counting_fields(heading, following)
        return RowReader(
            heading,
            name,
            self._table.cells,
            self._options,
            details,
            counting=counting,
            table_fields=fields,
            date_order=self._find_date_order(heading, following),
        )

    def _find_date_order(
        self, heading: Heading, following: Sequence[Mapping[int, Value]]
    ) -> DateOrder:
        """Return the order of the dates under a heading, by the whole column.

        Where the rows that are in memory leave it open, the sheet is read once more for it. What a
        profile says needs no caveat.
        """
        profile = heading.profile
        default = profile.date_order if profile else "mdy"
        columns = heading.columns.get("sent_at", ())
        days = [values[c] for values in following for c in columns if c in values]
        order = find_date_order(days, default)
        if order.is_open and any(map(can_be_read_two_ways, days)):
            order = find_date_order(self._iter_days(columns), default)
        return order if profile is None else order._replace(is_open=False)

    def _iter_days(self, columns: Collection[int]) -> Iterator[Value]:
        """Yield the values of these columns in all rows of the sheet."""
        read_value = self._table.cells.read_value
        for row in self._table.rows():
            for column in columns:
                if column in row.cells:
                    yield read_value(row.cells[column])

    def _take_above(self, row: SheetRow) -> Iterator[RequestRow]:
        """Keep a row that may be a title of the table to come; any other is under no heading."""
        if not _is_title(row):
            yield self._reject(row)
            return
        self._pending.append(row)
        if len(self._pending) > headings.MAX_SEARCHED_ROWS:
            yield self._reject(self._pending.pop(0))

    def _take_inside(self, row: SheetRow) -> Iterator[RequestRow]:
        """Hand on a row under the headings, or keep it until it is clear what follows.

        Rows without a message may be the footer of their table, or titles of the next.
        """
        assert self._open is not None
        if self._is_total(row, self._open) or self._is_subtotal(row, self._open):
            self._pending.append(row)
        elif row.values.keys().isdisjoint(self._open.message_columns):
            self._pending.append(row)
            if len(self._pending) > _MAX_PENDING:
                yield from self._settle_row_within(self._pending.pop(0))
        else:
            yield from self._settle_within(row)
            yield from self._emit(row)

    def _settle_within(self, following: SheetRow | None = None) -> Iterator[RequestRow]:
        """Settle the pending rows: they stand in the middle of a table.

        Those right above the row that follows may name what it and the rows below it are about.
        """
        groups = self._take_groups(following) if following is not None else []
        while self._pending:
            yield from self._settle_row_within(self._pending.pop(0))
        if groups:
            self._begin_group(groups)

    def _take_groups(self, following: SheetRow) -> list[SheetRow]:
        """Take those of the pending rows that name a group of the rows that follow."""
        start = len(self._pending)
        while start and len(self._pending) - start < _MAX_GROUP_ROWS:
            if not self._is_group(self._pending[start - 1], following):
                break
            start -= 1
        groups = self._pending[start:]
        self._pending = self._pending[:start]
        return groups

    def _is_group(self, row: SheetRow, following: SheetRow) -> bool:
        """Return whether a row names a group: the practice or the month of the rows below it.

        It is a short text alone in its row, with a label of ours, in a column for neither text nor
        sender, or in one that is blank in the next row. In a table without a column for the
        practice it may stand in the first one.
        """
        table = self._open
        assert table is not None
        if len(table.tables) > 1 or row.merged_values or not _is_title(row):
            return False
        if self._ends_table(row) or not self._is_beside_texts(row) or not _is_short_title(row):
            return False
        if _find_practice([row]):
            return True
        [column, *others] = sorted(row.values)
        is_alone = not others and column in table.labels
        return is_alone and self._stands_for_group(column, following, table)

    def _stands_for_group(self, column: int, following: SheetRow, table: _OpenTables) -> bool:
        """Return whether a cell alone in its row, in this column, names the rows below it."""
        reader = table.tables[0].reader
        practice_columns = {*reader.columns["company"], *reader.columns["company_number"]}
        if column in practice_columns:
            return practice_columns.isdisjoint(following.values)
        if column not in {*reader.list_sender_columns(), *table.message_columns}:
            return True  # neither a text nor who asks: it is no request by itself
        is_first = column == min(table.labels) and not practice_columns
        return is_first or column not in following.values

    def _begin_group(self, groups: list[SheetRow]) -> None:
        """Let the rows that follow be about what these rows name."""
        assert self._open is not None
        for row in groups:
            self.tally.add("titles", row.number)
        self._groups = groups
        columns = self._open.tables[0].reader.columns
        fields = _find_practice(groups)
        for row in groups if not fields else ():
            for name in ("company", "company_number"):
                texts = [row.values[c].text for c in columns[name] if c in row.values]
                if texts:
                    fields[name] = _GROUP_COUNT.sub("", normalize.to_one_line(texts[0]))
        text = "\n".join(map(_join_texts, groups))
        self._context = RowContext(tuple(fields.items()), ((GROUP_LABEL, text),))

    def _is_subtotal(self, row: SheetRow, table: _OpenTables) -> bool:
        """Return whether a row ends a group: what the group is about and "Total", with counts.

        The name has to be one of the group or of the row above.
        """
        first, *others = sorted(row.values)
        text = row.values[first].text
        if first in table.text_columns or len(text) > _MAX_TITLE_LENGTH:
            return False
        match = _SUBTOTAL.fullmatch(text)
        if match is None or not match[1].strip():
            return False
        if not all(_is_count(row.values[column]) for column in others):
            return False
        return normalize.fold_label(match[1]) in self._list_group_names(first)

    def _list_group_names(self, column: int) -> set[str]:
        """Return the folded names of the open group, with and without its label.

        A table grouped by one of its columns has the name in that column of the row above.
        """
        titles = [_GROUP_COUNT.sub("", _join_texts(group)) for group in self._groups]
        names = [*titles, *(title.partition(":")[2] for title in titles)]
        if column in self._last_values:
            names.append(self._last_values[column].text)
        return {normalize.fold_label(name) for name in names}

    def _settle_row_within(self, row: SheetRow) -> Iterator[RequestRow]:
        assert self._open is not None
        is_page = _PAGE.fullmatch(_join_texts(row)) and self._is_beside_texts(row)
        is_sum = self._is_total(row, self._open) or self._is_subtotal(row, self._open)
        if is_page or is_sum:
            self.tally.add("footers", row.number)
        else:
            yield from self._emit(row)

    def _end_table(self) -> Iterator[RequestRow]:
        """Settle the pending rows: no row of the same table or page follows."""
        pending, self._pending = self._pending, []
        for row in pending:
            if self._open is None:
                yield self._reject(row)
            elif (
                self._is_total(row, self._open)
                or self._is_subtotal(row, self._open)
                or (self._is_beside_texts(row) and _is_footer(row))
            ):
                self.tally.add("footers", row.number)
            else:  # also notes below a footer: they may be somebody's words
                yield from self._emit(row)

    def _take_titles(self) -> list[SheetRow]:
        """Take those of the pending rows that are titles of a table that begins below them."""
        pending = self._pending
        if self._open is None:
            self._pending = []
            return pending
        start = len(pending)
        while start and _is_title(pending[start - 1]) and not self._ends_table(pending[start - 1]):
            start -= 1
        # Two cells may be a request that lacks its text, unless blank rows separate them from the
        # table above.
        while start < len(pending) and not (
            pending[start].is_after_blank or all(map(_is_note, pending[start:]))
        ):
            start += 1
        self._pending = pending[:start]
        return pending[start:]

    def _ends_table(self, row: SheetRow) -> bool:
        assert self._open is not None
        is_sum = self._is_total(row, self._open) or self._is_subtotal(row, self._open)
        return _is_footer(row) or is_sum

    def _is_beside_texts(self, row: SheetRow) -> bool:
        """Return whether a row has no cell in a column of message texts."""
        assert self._open is not None
        return row.values.keys().isdisjoint(self._open.text_columns)

    def _is_total(self, row: SheetRow, table: _OpenTables) -> bool:
        """Return whether a row is the total below a table.

        The workbook declares it as such, or it is "Total" with nothing but counts.
        """
        if row.number in self._table.totals:
            message_columns = table.message_columns & row.values.keys()
            return all(_is_count_or_total(row.values[column]) for column in message_columns)
        first, *others = sorted(row.values)
        if first in table.message_columns or not _TOTAL.fullmatch(row.values[first].text):
            return False
        if not others and row.merged_values:
            return False  # it may be the practice of a message that is merged over rows
        return all(_is_count(row.values[column]) for column in others)

    def _emit(self, row: SheetRow) -> Iterator[RequestRow]:
        """Hand a row on, to be read under the headings of its table or tables."""
        table = self._open
        assert table is not None
        if row.values.keys().isdisjoint(table.labels):
            yield self._reject(row, BESIDE_TABLE)
            return
        if len(table.tables) == 1:
            self._last_values = row.values
            reader = table.tables[0].reader
            if table.width and len(row.fields) > table.width:
                row = self._repair_fields(row, table)
            filled = row.fill_merged(table.heading_row)
            if self._context is not NO_CONTEXT:
                filled = filled._replace(context=_join_contexts(self._context, filled.context))
            yield RequestRow(filled, reader)
            return
        count = 0
        for one in table.tables:
            values = one.select(row.fill_merged(one.heading_row or table.heading_row))
            if not values:
                continue
            count += 1
            if one.heading.is_repeated_in({column: value.text for column, value in values.items()}):
                self.tally.add("headings", row.number)
            else:
                yield RequestRow(row._replace(values=values), one.reader)
        self.tally.rows += count - 1  # a row of each of the tables

    def _reject(self, row: SheetRow, reason: str = "") -> RequestRow:
        return RequestRow(row, None, reason or self._reason)

    def _repair_fields(self, row: SheetRow, table: _OpenTables) -> SheetRow:
        """Return a row of a text file whose fields are more than the headings, put together.

        An unquoted comma in a text makes two fields of it.
        """
        texts = unquoted.join_fields(
            row.fields,
            table.width,
            table.tables[0].reader.columns,
            self._table.delimiter,
        )
        if texts is None:
            return row
        read_value = self._table.cells.read_value
        values = {
            column: value
            for column, text in enumerate(texts.fields, start=1)
            if (value := read_value(Cell("s", text, flaw=texts.flaw))).text
        }
        details = ((unquoted.LINE_LABEL, self._table.delimiter.join(row.fields)),)
        context = RowContext((), details, (unquoted.JOINED,))
        return row._replace(values=values, context=context)


class _MergedCells:
    """Merged cells that reach down from rows above, by column."""

    def __init__(self) -> None:
        # Last row, first row and value of each.
        self._cells: dict[int, tuple[int, int, Value]] = {}

    def take_reaching(
        self, number: int, values: Collection[int]
    ) -> Mapping[int, tuple[int, Value]]:
        """Return first row and value of the cells that reach down to a row, and forget the others.

        A cell ends where its column has a value of its own, in `values`.
        """
        if not self._cells:
            return NO_MERGED_VALUES
        self._cells = {
            column: cell
            for column, cell in self._cells.items()
            if cell[0] >= number and column not in values
        }
        return {column: (first, value) for column, (_, first, value) in self._cells.items()}

    def add(self, row: Row, values: Mapping[int, Value]) -> None:
        """Add the merged cells that begin in a row."""
        for column, last in row.merged.items():
            if column in values and len(self._cells) < MAX_MERGED_COLUMNS:
                self._cells[column] = (last, row.number, values[column])


class _LookAhead(Iterator[SheetRow]):
    """Rows of which the next ones can be seen before their turn."""

    def __init__(self, rows: Iterator[SheetRow]) -> None:
        self._rows = rows
        self._waiting: deque[SheetRow] = deque()

    def __next__(self) -> SheetRow:
        """Return the next row."""
        return self._waiting.popleft() if self._waiting else next(self._rows)

    def peek(self, most: int) -> list[SheetRow]:
        """Return up to so many of the rows that follow, without taking them."""
        if len(self._waiting) < most:
            self._waiting.extend(islice(self._rows, most - len(self._waiting)))
        return list(islice(self._waiting, most))


def _pair_with_following(rows: Iterator[SheetRow]) -> Iterator[tuple[SheetRow, SheetRow | None]]:
    """Yield each row with the one that follows it."""
    row = next(rows, None)
    while row is not None:
        following = next(rows, None)
        yield row, following
        row = following


def _continues(held: RequestRow, request: RequestRow, last: int) -> bool:
    """Return whether a row has nothing but more text of the request above it.

    `last` is the number of that request's last row.
    """
    row, above = request.row, held.row.values
    if held.reader is None or request.reader is not held.reader:
        return False
    is_right_below = row.number == last + 1 and not row.is_after_blank
    if not is_right_below or row.number - held.row.number > _MAX_CONTINUED:
        return False
    if row.context.caveats or _is_footer(row) or not _has_only_text(row, held.reader):
        return False
    if held.reader.list_sender_columns().isdisjoint(above):
        return False
    blank = Value("")
    return all(_goes_on_in(above.get(c, blank).text, row.values[c].text) for c in row.values)


def _has_only_text(row: SheetRow, reader: RowReader) -> bool:
    """Return whether a row has nothing but whole texts in the columns of message texts."""
    bodies = reader.columns["body"]
    return all(column in bodies and not value.flaw for column, value in row.values.items())


def _goes_on_in(text: str, below: str) -> bool:
    """Return whether a text was broken off, and goes on in the one below it.

    A text that begins like a sentence of its own may be somebody's message.
    """
    if not text or not below:
        return False
    last_line = text.rpartition("\n")[2]
    is_wrapped = len(last_line) >= _MIN_WRAPPED and last_line[-1].isalnum()
    return below[0].islower() or last_line[-1] in _OPEN_ENDS or is_wrapped


def _append_text(row: SheetRow, other: SheetRow) -> SheetRow:
    """Return a row with the texts of another below its own."""
    values = dict(row.values)
    for column, value in other.values.items():
        values[column] = values[column]._replace(text=f"{values[column].text}\n{value.text}")
    return row._replace(values=values)


def _note_continued(request: RequestRow, rows: list[int]) -> RequestRow:
    """Return a request with a caveat that names the rows that were joined with it."""
    if not rows:
        return request
    span = f"row {rows[0]}" if len(rows) == 1 else f"rows {rows[0]}-{rows[-1]}"
    noted = RowContext(caveats=(CONTINUED.format(rows=span),))
    context = _join_contexts(request.row.context, noted)
    return request._replace(row=request.row._replace(context=context))


def _join_contexts(one: RowContext, other: RowContext) -> RowContext:
    return RowContext(
        one.fields + other.fields, one.details + other.details, one.caveats + other.caveats
    )


def _select_columns(titles: Iterable[SheetRow], span: tuple[int, int | None]) -> Iterator[SheetRow]:
    """Yield the cells of titles that stand in the columns of a table."""
    first, last = span
    for title in titles:
        values = {
            column: value
            for column, value in title.values.items()
            if column >= first and (last is None or column <= last)
        }
        if values:
            yield title._replace(values=values)


def _find_practice(titles: Iterable[SheetRow]) -> dict[str, str]:
    """Return the practice that titles name with a label, by field; {} for none, or for several.

    For example {"company": "Elm Clinic"} for "Practice: Elm Clinic", in one cell or two.
    """
    found: dict[str, str] = {}
    for row in titles:
        for label, text in _list_labelled(row):
            name = headings.find_practice_field(label)
            value = _GROUP_COUNT.sub("", normalize.to_one_line(text))
            if not name or not value or _ANY_PRACTICE.match(value):
                continue
            if found.setdefault(name, value) != value:
                return {}
    return found


def _list_labelled(row: SheetRow) -> list[tuple[str, str]]:
    """Return the labels of a title with their values: "Practice: Elm", or a cell for each."""
    texts = [row.values[column].text for column in sorted(row.values)]
    pairs = [(label, value) for label, colon, value in (t.partition(":") for t in texts) if colon]
    cells = [(label.rstrip(" :"), value) for label, value in pairwise(texts)]
    return [(label, value) for label, value in (*pairs, *cells) if value.strip()]


def _is_long(row: SheetRow, column: int) -> bool:
    """Return whether a text is too long for a heading or a count."""
    value = row.values.get(column)
    return value is not None and len(value.text) > headings.MAX_HEADING_LENGTH


def _join_texts(row: SheetRow) -> str:
    return " ".join(row.values[column].text for column in sorted(row.values))


def _is_footer(row: SheetRow) -> bool:
    """Return whether a row is, as a whole, one that reports print below their rows."""
    if len(row.values) > _MAX_FOOTER_CELLS or not _has_short_cells(row):
        return False
    text = _join_texts(row)
    return _FOOTER.fullmatch(text) is not None or _TOTAL.fullmatch(text) is not None


def _has_short_cells(row: SheetRow) -> bool:
    return all(len(value.text) <= _MAX_TITLE_LENGTH for value in row.values.values())


def _is_note(row: SheetRow) -> bool:
    """Return whether a row is a single short cell."""
    return len(row.values) == 1 and _has_short_cells(row)


def _is_title(row: SheetRow) -> bool:
    """Return whether a row may be a title above a table.

    It is a cell or two, or labels and their values in turn.
    """
    values = [row.values[column] for column in sorted(row.values)]
    if not _has_short_cells(row) or any(value.flaw for value in values):
        return False
    if len(values) <= len(("label", "value")):
        return True
    labels = values[::2]
    return len(values) <= _MAX_TITLE_CELLS and all(value.text.endswith(":") for value in labels)


def _is_short_title(row: SheetRow) -> bool:
    """Return whether a row has few words, or a label of ours with its value ("Practice: Elm")."""
    text = _join_texts(row)
    label, colon, _ = text.partition(":")
    if colon and headings.is_sender_label(label):
        return True
    return len(text.split()) <= _MAX_TITLE_WORDS and not _SENTENCE_END.search(text)


def _is_around(columns: Collection[int], others: Iterable[int]) -> bool:
    """Return whether some columns stand on both sides of any of the others."""
    return any(min(columns) < other < max(columns) for other in others)


def _is_count(value: Value) -> bool:
    """Return whether a value is a bare number, or a formula whose value is not stored."""
    return bool(_COUNT.fullmatch(value.text)) and value.flaw in {"", UNSOLVED}


def _is_count_or_total(value: Value) -> bool:
    return _is_count(value) or _TOTAL.fullmatch(value.text) is not None


def _find_our_columns(values: Mapping[int, Value]) -> list[int]:
    """Return the columns with the heading of ours in a workbook of rejected rows."""
    return [column for column, value in values.items() if value.text == REJECTION_HEADING]
