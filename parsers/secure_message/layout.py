"""Find the tables of a sheet.

Which rows are headings, titles or footers, and which are read as requests.

A row is judged by where it stands and by its whole form, never by how it begins. Whatever stands
under a heading for the message text is read as a request, or rejected. Titles and footers are
counted with their places; every other row is handed on, so that it becomes an item or a rejected
row.
"""

import re
from collections import deque
from collections.abc import Generator, Iterator
from itertools import chain, islice
from typing import NamedTuple

from parsers.item import REJECTION_HEADING, SheetCounts
from parsers.options import Options
from parsers.secure_message import columns as secure_message_columns
from parsers.secure_message.columns import Heading, HeadingFinder
from parsers.secure_message.row import RowReader, SheetRow, find_counting_fields, name_column
from parsers.spreadsheets.cell_values import UNSOLVED, Value
from parsers.spreadsheets.formats.xlsx_sheet import MAX_MERGED_COLUMNS
from parsers.spreadsheets.reader import Table

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
ABOVE_LABEL = "Above the table"  # labels the titles among an item's details
SHEET_LABEL = "Sheet"

_MOST_PENDING = 50  # rows without a message, kept until it is clear what follows them
_LONGEST_TITLE = 200  # characters of a cell; what is longer is somebody's text
_TITLE_CELLS = 8  # labels and values beside each other, as filters of a report
_TITLE_WORDS = 6  # of a title between tables: what has more may be somebody's sentence
_FOOTER_CELLS = 4  # as "Page", 1, "of", 3
_MOST_PLACES = 20  # runs of rows named; a report of 3,000 pages repeats its heading as often

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
    rf"(?:\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}|{_MONTH} \d{{1,2}},? \d{{4}}|\d{{1,2}}\.?["
    rf" -]{_MONTH}[ -]\d{{2,4}})"
)
_TIME = (
    r"(?:T|,? (?:at )?)\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]\.?m\.?)?(?:Z| ?[+-]\d{2}:?\d{2}|"
    r" [a-z]{2,4}T)?"
)
# A name begins with a capital: "by mistake" and what else may follow are somebody's words.
_BY = r"(?: by:? (?:[^\s@]+@[^\s@]+|(?-i:[A-Z][\w.'-]*(?: [A-Z][\w.'-]*){0,2})))"
_FOOTER = re.compile(
    r"(?:page|seite) \d+(?: ?(?:of|/|von) ?\d+)?"
    r"|-* ?end of (?:report|list|file|export|document|page)\.? ?-*"
    rf"|(?:report )?(?:generated|printed|created|exported|run)(?: date)?:?{_BY}?(?: (?:on|at))?:?"
    rf" {_DATE}(?:{_TIME})?{_BY}?\.?"
    r"|\d+ (?:rows|records|messages|items|entries)(?: (?:in total|total|found|exported))?",
    re.IGNORECASE,
)
_PAGE = re.compile(r"(?:page|seite) \d+(?: ?(?:of|/|von) ?\d+)?", re.IGNORECASE)
_USUAL_NAME = re.compile(
    r"(?:(?:work)?sheet|table|tabelle|feuil|hoja|foglio|blad|planilha|export|report|data)?["
    r" _-]*\d*",
    re.IGNORECASE,
)


class RequestRow(NamedTuple):
    """A row to be read under its table's headings, or one under none.

    `rows` is None, and `reason` says why.
    """

    line: SheetRow
    reader: RowReader | None
    reason: str = ""


class _TableColumns(NamedTuple):
    """The columns of one table, and how its rows are read."""

    heading: Heading
    rows: RowReader
    first: int
    last: int | None
    row: int = (
        0  # number of the heading's last row, where it is another than that of the tables beside
    )

    def part(self, line: SheetRow) -> dict[int, Value]:
        """Return the values of a row that stand in the columns of this table."""
        return {
            c: v
            for c, v in line.values.items()
            if c >= self.first and (self.last is None or c <= self.last)
        }


class _Open:
    """The table, or the tables side by side, under the heading that was met last."""

    def __init__(self, heading: Heading, places: list[_TableColumns], row: int) -> None:
        self.heading, self.places = heading, places
        self.row = (
            row  # number of the heading's last row: what is merged above it belongs to no message
        )
        self.labels = heading.labels.keys()
        columns = [place.rows.columns for place in places]
        self.texts = frozenset(column for of in columns for column in of["body"])
        self.says = self.texts | {column for of in columns for column in of["subject"]}
        self.body = min(self.texts)


class Tally:
    """Counts what the rows of a sheet are, and where its headings, titles and footers stand."""

    def __init__(self) -> None:
        self.rows = self.blank = self.hidden_rows = 0
        self.items = self.repeated = self.rejected = 0
        self._places = {kind: _RowNumbers() for kind in ("headings", "titles", "footers")}

    def add(self, kind: str, row: int) -> None:
        """Count a heading, title or footer."""
        self._places[kind].add(row)

    def counts(self, sheet: str) -> SheetCounts:
        """Return the counts as they are now."""
        headings_, titles, footers = self._places.values()
        return SheetCounts(
            sheet=sheet,
            rows=self.rows,
            items=self.items,
            repeated=self.repeated,
            rejected=self.rejected,
            headings=headings_.count,
            titles=titles.count,
            footers=footers.count,
            blank=self.blank,
            hidden_rows=self.hidden_rows,
            heading_places=str(headings_),
            title_places=str(titles),
            footer_places=str(footers),
        )


class _RowNumbers:
    """Row numbers in as few words as they need."""

    def __init__(self) -> None:
        self.count = 0
        self._runs: list[list[int]] = []
        self._cut = False

    def add(self, row: int) -> None:
        self.count += 1
        if self._runs and self._runs[-1][1] <= row <= self._runs[-1][1] + 1:
            self._runs[-1][1] = row
        elif len(self._runs) < _MOST_PLACES:
            self._runs.append([row, row])
        else:
            self._cut = True

    def __str__(self) -> str:
        runs = [str(first) if first == last else f"{first}-{last}" for first, last in self._runs]
        return ", ".join([*runs, "…"] if self._cut else runs)


class Layout:
    """The tables of one sheet, found while its rows go by.

    Memory stays the same however many there are.
    """

    def __init__(self, table: Table, options: Options) -> None:
        self.tally = Tally()
        self._table, self._options = table, options
        self._finder = HeadingFinder(options.profiles)
        self._lines = self._filled()
        self._first = list(islice(self._lines, secure_message_columns.MAX_SEARCHED_ROWS))
        self.heading = secure_message_columns.find_heading(
            [line.texts for line in self._first], options.profiles
        )
        self._open: _Open | None = None
        self._pending: list[SheetRow] = []
        self._reason = NO_HEADINGS
        self._doubtful_titles: list[SheetRow] = []  # shown as rejected rows already
        self._titles: set[str] = set()  # of the table above: a report repeats them on every page
        self._ahead = _Ahead(iter(()))

    @property
    def name(self) -> str:
        """Return the name of the sheet."""
        return self._table.name

    @property
    def is_readable(self) -> bool:
        """Tell whether there is a table of messages near the top."""
        return self.heading is not None and not self.heading.missing_fields

    def rewind(self) -> None:
        """Let go of the rows read so far, and read them anew when their turn comes.

        Of many sheets, each would hold memory until then.
        """
        self._first, self._lines = [], self._filled()
        self.tally = Tally()

    def has_table_below(self) -> bool:
        """Tell whether there is a table of messages further down.

        Reads the whole sheet; rewinds it.
        """
        self.rewind()
        found = (
            self._heading_at(line.texts, following) for line, following in _with_next(self._lines)
        )
        readable = any(heading is not None and not heading.missing_fields for heading in found)
        self.rewind()
        return readable

    def iter_requests(self) -> Iterator[RequestRow]:
        """Yield the rows that are to be read, or to be rejected; the others are in the tally."""
        begin = self.heading.start if self.heading and not self.heading.missing_fields else -1
        skip = False
        self._ahead = _Ahead(chain(self._first, self._lines))
        for at, line in enumerate(self._ahead):
            following = next(iter(self._ahead.peek(1)), None)
            if skip:  # it was the second row of a heading
                skip = False
                continue
            if at == begin:
                yield from self._begin(self.heading, line, following)
                skip = self._open is not None and self._open.heading.has_two_rows
                continue
            if at < begin:  # the first heading has been found by looking at all of these
                yield from self._above(line)
                continue
            beside = self._heading_beside(line, following)
            if beside is not None:
                yield from self._begin_beside(beside, line)
                continue
            if self._repeats_in_part(line):
                yield from self._rows_follow()
                yield from self._emit(line)
                continue
            if self._open is not None and _is_long(
                line, self._open.body
            ):  # nearly all rows: no need to look closer
                yield from self._rows_follow()
                yield from self._emit(line)
                continue
            texts = line.texts
            repeated = self._open is not None and self._open.heading.is_repeated_in(texts)
            found = (
                None if repeated and self._is_whole(texts) else self._heading_at(texts, following)
            )
            if repeated and not (found and found.has_two_rows):
                yield from self._repeat(line)
            elif found is not None and not self._adds_nothing(found):
                yield from self._begin(found, line, following)
                skip = found.has_two_rows and not found.missing_fields
            elif self._open is None:
                yield from self._above(line)
            elif self._is_title_of_next(line):
                self._doubtful_titles.append(line)
                yield self._stray(line, DOUBTFUL_TITLE)
            else:
                yield from self._inside(line)
        yield from self._table_ends()

    # -- reading ----

    def _filled(self) -> Iterator[SheetRow]:
        """Yield the rows with anything in them.

        And with the values of merged cells that reach down into them.
        """
        read, ours = self._table.cells.read_value, set[int]()
        covering: dict[int, tuple[int, int, Value]] = {}  # column -> last row, first row, value
        last, blank, tally = 0, False, self.tally
        for at, row in enumerate(self._table.rows()):
            values = {}
            for column, cell in row.cells.items():
                value = read(cell)
                if value.text or value.flaw:
                    values[column] = value
            if at < secure_message_columns.MAX_SEARCHED_ROWS:
                ours |= {
                    column for column, value in values.items() if value.text == REJECTION_HEADING
                }
            if ours:
                values = {column: value for column, value in values.items() if column not in ours}
            skipped = max(row.number - last - 1, 0)
            tally.rows += skipped + 1
            tally.blank += skipped if values else skipped + 1
            tally.hidden_rows += row.hidden
            last = max(last, row.number)
            blank = blank or skipped > 0 or not values
            if not values:
                continue
            if covering:
                covering = {
                    c: one
                    for c, one in covering.items()
                    if one[0] >= row.number and c not in values
                }
                carried = {c: one[1:] for c, one in covering.items()}
                yield SheetRow(row.number, row.hidden, values, carried, is_after_blank=blank)
            else:
                yield SheetRow(row.number, row.hidden, values, is_after_blank=blank)
            blank = False
            for column, end in row.merged.items():
                if column in values and len(covering) < MAX_MERGED_COLUMNS:
                    covering[column] = (end, row.number, values[column])

    def _is_whole(self, texts: dict[int, str]) -> bool:
        """Tell a row with as many cells as the heading.

        A shorter one may be the upper row of another heading.
        """
        return self._open is not None and (
            self._open.heading.has_two_rows or len(texts) == len(self._open.labels)
        )

    def _adds_nothing(self, heading: Heading) -> bool:
        """Tell a doubtful heading under which the rows would mean what they mean already.

        It is a request then.
        """
        if heading.is_sure or self._open is None:
            return False
        columns = self._open.heading.columns
        return all(
            set(taken) <= set(columns.get(name, ())) for name, taken in heading.columns.items()
        )

    def _heading_at(self, texts: dict[int, str], following: SheetRow | None) -> Heading | None:
        if not self._finder.may_begin(texts):
            return None
        return self._finder.find_at(texts, following.texts if following else {}, 0)

    # -- what becomes of a row ----

    def _begin(
        self, heading: Heading | None, line: SheetRow, following: SheetRow | None
    ) -> Iterator[RequestRow]:
        """Begin a new table, or note that what follows is none of ours."""
        assert heading is not None
        if heading.missing_fields:
            yield from self._table_ends()
            self._open = None
            self._reason = INCOMPLETE.format(missing=" nor for ".join(heading.missing_fields))
            yield self._stray(line)
            return
        titles = (yield from self._settle_above()) or []
        rows = [line, following] if heading.has_two_rows and following else [line]
        for row in rows:
            if heading.is_sure or heading is self.heading:
                self.tally.add("headings", row.number)
            else:  # read as a heading, and shown as well: it may be a request
                yield self._stray(row, DOUBTFUL)
        places = list(self._places(heading, titles))
        self._open = _Open(heading, places, rows[-1].number)

    def _repeat(self, line: SheetRow) -> Iterator[RequestRow]:
        """Go on below a repeated heading.

        Titles right above it belong to what follows, as of a table of its own.
        """
        assert self._open is not None
        heading = self._open.heading
        above = yield from self._settle_above()
        self.tally.add("headings", line.number)
        if above is not None:
            self._open = _Open(heading, list(self._places(heading, above)), line.number)

    def _heading_beside(self, line: SheetRow, following: SheetRow | None) -> Heading | None:
        """Return the heading of a table that begins beside the open one, while that goes on.

        It stands in columns in which the open table has none. The other cells of the row are no
        headings: they are a row of the open table; where there are none, the next row tells whether
        that table goes on.
        """
        table = self._open
        if table is None or line.values.keys() <= table.labels or table.heading.has_two_rows:
            return None
        texts = {column: text for column, text in line.texts.items() if column not in table.labels}
        if not self._finder.may_begin(texts):
            return None
        heading = self._finder.find_at(texts, {}, 0)
        if heading is None or heading.missing_fields or not heading.is_sure:
            return None
        if any(min(texts) < column < max(texts) for column in table.labels):
            return None
        inside = {column: text for column, text in line.texts.items() if column in table.labels}
        if not inside:
            goes_on = following is not None and not following.values.keys().isdisjoint(table.labels)
            return heading if goes_on else None
        known = secure_message_columns.parse_heading([inside], 0, None).recognised_count
        return heading if 2 * known < len(inside) else None

    def _begin_beside(self, heading: Heading, line: SheetRow) -> Iterator[RequestRow]:
        """Open a table beside the open one.

        And read what else stands in the row under the headings of that one.
        """
        table = self._open
        assert table is not None
        yield from self._rows_follow()
        self.tally.add("headings", line.number)
        values = {
            column: value for column, value in line.values.items() if column not in heading.labels
        }
        if values:
            self.tally.rows += 1  # a row of each of the tables
            yield from self._emit(line._replace(values=values))
        places = [place if place.row else place._replace(row=table.row) for place in table.places]
        for block in heading.split_tables():
            rows = self._rows(block, self._name_of_block(heading), self._around([], (1, None)))
            places.append(_TableColumns(block, rows, 1, None, line.number))
        places.sort(key=lambda place: min(place.heading.labels))
        spans = secure_message_columns.find_column_spans([place.heading for place in places])
        places = [
            place._replace(first=first, last=last)
            for place, (first, last) in zip(places, spans, strict=True)
        ]
        self._open = _Open(table.heading.join(heading), places, table.row)

    def _repeats_in_part(self, line: SheetRow) -> bool:
        """Return whether one of the tables side by side repeats its heading here.

        Another one has a request in the same row.
        """
        if self._open is None or len(self._open.places) == 1:
            return False
        parts = ((place, place.part(line)) for place in self._open.places)
        repeats = [
            place.heading.is_repeated_in({c: v.text for c, v in part.items()})
            for place, part in parts
            if part
        ]
        return any(repeats) and not all(repeats)

    def _settle_above(self) -> Generator[RequestRow, None, list[SheetRow] | None]:
        """Settle the rows above a heading, and return those that are titles of what follows.

        None where nothing stands there that may be a title. Below another table it may be
        somebody's note on that one: what does not look like a title is rejected, and shown with no
        request of the table below.
        """
        taken, doubtful = self._take_titles(), self._doubtful_titles
        self._doubtful_titles = []
        yield from self._table_ends()
        titles = list(doubtful)
        for line in taken:
            if self._open is None or _joined(line) in self._titles or _is_short_title(line):
                titles.append(line)
                self.tally.add("titles", line.number)
            else:
                yield self._stray(line, DOUBTFUL_TITLE)
        if not (taken or doubtful):
            return None
        self._titles = {_joined(line) for line in titles}
        return sorted(titles, key=lambda line: line.number)

    def _is_title_of_next(self, line: SheetRow) -> bool:
        """Tell a row that reaches under the message heading.

        And yet stands where a title of the next table does.

        Blank rows part it from the table above, and a heading follows it at once.
        """
        assert self._open is not None
        if (
            not line.is_after_blank
            or len(line.values) >= len(self._open.labels)
            or not _is_title(line)
        ):
            return False
        if (
            len(line.values) == 1
            or line.values.keys().isdisjoint(self._open.says)
            or self._is_total(line, self._open)
        ):
            return False
        below = self._ahead.peek(2)
        if not below:
            return False
        if self._open.heading.is_repeated_in(below[0].texts):
            return True
        heading = self._heading_at(below[0].texts, below[1] if len(below) > 1 else None)
        return heading is not None and heading.is_sure and not heading.missing_fields

    def _around(
        self, titles: list[SheetRow], place: tuple[int, int | None]
    ) -> tuple[tuple[str, str], ...]:
        """Return what stands around a table and belongs to each of its rows, as details.

        `place` are the columns of the table, to the last one where that is None.
        """
        first, last = place
        texts = (
            " ".join(
                value.text
                for column, value in title.values.items()
                if value.text and column >= first and (last is None or column <= last)
            )
            for title in titles
        )
        above = "\n".join(filter(None, texts))
        around = [(ABOVE_LABEL, above)] if above else []
        if not _USUAL_NAME.fullmatch(self.name):
            around.append((SHEET_LABEL, self.name))
        return tuple(around)

    def _places(self, heading: Heading, titles: list[SheetRow]) -> Iterator[_TableColumns]:
        """Yield where the tables under a heading are.

        Those side by side are named by their columns.

        A title belongs to the table it stands over. Where all of them stand over the first table,
        they are titles of the whole sheet.
        """
        blocks = heading.split_tables()
        if len(blocks) == 1:
            yield _TableColumns(
                blocks[0],
                self._rows(blocks[0], self.name, self._around(titles, (1, None))),
                1,
                None,
            )
            return
        spans = secure_message_columns.find_column_spans(blocks)
        of_all = all(column < spans[1][0] for title in titles for column in title.values)
        for block, (first, last) in zip(blocks, spans, strict=True):
            around = self._around(titles, (1, None) if of_all else (first, last))
            rows = self._rows(block, self._name_of_block(block), around)
            yield _TableColumns(block, rows, first, last)

    def _name_of_block(self, heading: Heading) -> str:
        """Return what a table beside others is called: the sheet's name and its columns."""
        columns = (
            f"columns {name_column(min(heading.labels))} to {name_column(max(heading.labels))}"
        )
        return f"{self.name}, {columns}" if self.name else columns

    def _rows(self, heading: Heading, name: str, around: tuple[tuple[str, str], ...]) -> RowReader:
        """Return how the rows under a heading are read.

        Those that follow say which ids count rows.
        """
        following = [
            line.values for line in self._ahead.peek(secure_message_columns.MAX_SEARCHED_ROWS)
        ]
        if heading.has_two_rows:  # its second row has not been taken yet
            following = following[1:]
        counting = find_counting_fields(heading, following)
        return RowReader(heading, name, self._table.cells, self._options, around, counting=counting)

    def _above(self, line: SheetRow) -> Iterator[RequestRow]:
        """Keep what may be a title of the table to come; what is none has no headings."""
        if not _is_title(line):
            yield self._stray(line)
            return
        self._pending.append(line)
        if len(self._pending) > secure_message_columns.MAX_SEARCHED_ROWS:
            yield self._stray(self._pending.pop(0))

    def _inside(self, line: SheetRow) -> Iterator[RequestRow]:
        """Read what stands under the headings.

        Keep a row without a message until it is clear what follows it.
        """
        assert self._open is not None
        if self._is_total(line, self._open):
            self._pending.append(line)
        elif line.values.keys().isdisjoint(self._open.says):
            self._pending.append(line)
            if len(self._pending) > _MOST_PENDING:
                yield from self._one_row_follows(self._pending.pop(0))
        else:
            yield from self._rows_follow()
            yield from self._emit(line)

    def _rows_follow(self) -> Iterator[RequestRow]:
        """Settle the pending rows: they stand in the middle of a table."""
        while self._pending:
            yield from self._one_row_follows(self._pending.pop(0))

    def _one_row_follows(self, line: SheetRow) -> Iterator[RequestRow]:
        assert self._open is not None
        if self._is_total(line, self._open) or (
            _PAGE.fullmatch(_joined(line)) and self._is_outside(line)
        ):
            self.tally.add("footers", line.number)
        else:
            yield from self._emit(line)

    def _table_ends(self) -> Iterator[RequestRow]:
        """Settle the pending rows: no row of the same table or page follows."""
        pending, self._pending = self._pending, []
        for line in pending:
            if self._open is None:
                yield self._stray(line)
            elif self._is_total(line, self._open) or (self._is_outside(line) and _is_footer(line)):
                self.tally.add("footers", line.number)
            else:  # also notes below a footer: they may be somebody's words
                yield from self._emit(line)

    def _take_titles(self) -> list[SheetRow]:
        """Take from the pending rows those that are titles of a table that begins below them."""
        pending = self._pending
        if self._open is None:
            self._pending = []
            return pending
        at = len(pending)
        while at and _is_title(pending[at - 1]) and not self._ends_a_table(pending[at - 1]):
            at -= 1
        # Two cells may be a request that lacks its text, unless blank rows part them from the table
        # above.
        while at < len(pending) and not (
            pending[at].is_after_blank or all(map(_is_note, pending[at:]))
        ):
            at += 1
        self._pending = pending[:at]
        return pending[at:]

    def _ends_a_table(self, line: SheetRow) -> bool:
        assert self._open is not None
        return _is_footer(line) or self._is_total(line, self._open)

    def _is_outside(self, line: SheetRow) -> bool:
        assert self._open is not None
        return line.values.keys().isdisjoint(self._open.texts)

    def _is_total(self, line: SheetRow, table: _Open) -> bool:
        """Tell the total below a table.

        Declared as such by the workbook, or "Total" with nothing but counts.
        """
        if line.number in self._table.totals:
            counted = (value for column, value in line.values.items() if column in table.says)
            return all(_is_count(value) or _TOTAL.fullmatch(value.text) for value in counted)
        first = min(line.values)
        if not _TOTAL.fullmatch(line.values[first].text) or first in table.says:
            return False
        if (
            len(line.values) == 1 and line.merged_values
        ):  # it may be the practice of a message that is merged over rows
            return False
        return all(_is_count(value) for column, value in line.values.items() if column != first)

    def _emit(self, line: SheetRow) -> Iterator[RequestRow]:
        """Hand a row on, to be read under the headings of its table."""
        table = self._open
        assert table is not None
        if line.values.keys().isdisjoint(table.labels):
            yield self._stray(line, BESIDE_TABLE)
            return
        if len(table.places) == 1:
            yield RequestRow(line.fill_merged(table.row), table.places[0].rows)
            return
        beside = -1
        for place in table.places:
            values = place.part(line.fill_merged(place.row or table.row))
            if values:
                beside += 1
                if place.heading.is_repeated_in(
                    {column: value.text for column, value in values.items()}
                ):
                    self.tally.add("headings", line.number)
                else:
                    yield RequestRow(line._replace(values=values), place.rows)
        self.tally.rows += beside  # a row of each of the tables

    def _stray(self, line: SheetRow, reason: str = "") -> RequestRow:
        return RequestRow(line, None, reason or self._reason)


class _Ahead(Iterator[SheetRow]):
    """Rows of which the next ones can be looked at before their turn."""

    def __init__(self, lines: Iterator[SheetRow]) -> None:
        self._lines = lines
        self._waiting: deque[SheetRow] = deque()

    def __next__(self) -> SheetRow:
        """Return the next row."""
        return self._waiting.popleft() if self._waiting else next(self._lines)

    def peek(self, most: int) -> list[SheetRow]:
        """Return up to so many of the rows that follow, without taking them."""
        if len(self._waiting) < most:
            self._waiting.extend(islice(self._lines, most - len(self._waiting)))
        return list(islice(self._waiting, most))


def _with_next(lines: Iterator[SheetRow]) -> Iterator[tuple[SheetRow, SheetRow | None]]:
    """Yield each row with the one that follows it."""
    this = next(lines, None)
    while this is not None:
        following = next(lines, None)
        yield this, following
        this = following


def _is_long(line: SheetRow, column: int) -> bool:
    """Tell a text that is too long for a heading or a count."""
    value = line.values.get(column)
    return value is not None and len(value.text) > secure_message_columns.MAX_HEADING_LENGTH


def _joined(line: SheetRow) -> str:
    return " ".join(line.values[column].text for column in sorted(line.values))


def _is_footer(line: SheetRow) -> bool:
    """Tell a row that is, as a whole, what a report prints below its rows."""
    if len(line.values) > _FOOTER_CELLS or any(
        len(value.text) > _LONGEST_TITLE for value in line.values.values()
    ):
        return False
    joined = _joined(line)
    return bool(_FOOTER.fullmatch(joined) or _TOTAL.fullmatch(joined))


def _is_note(line: SheetRow) -> bool:
    """Tell a single short cell."""
    return len(line.values) == 1 and all(
        len(value.text) <= _LONGEST_TITLE for value in line.values.values()
    )


def _is_title(line: SheetRow) -> bool:
    """Tell a row that may be a title above a table.

    A cell or two, or labels and their values in turn.
    """
    values = [line.values[column] for column in sorted(line.values)]
    if any(len(value.text) > _LONGEST_TITLE or value.flaw for value in values):
        return False
    pairs = len(values) <= _TITLE_CELLS and all(value.text.endswith(":") for value in values[::2])
    return len(values) <= 2 or pairs  # noqa: PLR2004 - a title, or a label and a value


def _is_short_title(line: SheetRow) -> bool:
    """Tell a row of few words, or of a label of ours with its value, as "Practice: Elm Dental"."""
    joined = _joined(line)
    label, colon, _ = joined.partition(":")
    if colon and secure_message_columns.is_sender_label(label):
        return True
    return len(joined.split()) <= _TITLE_WORDS and not _SENTENCE_END.search(joined)


def _is_count(value: Value) -> bool:
    """Tell a bare number, or a formula whose value is not stored."""
    return bool(_COUNT.fullmatch(value.text)) and value.flaw in {"", UNSOLVED}
