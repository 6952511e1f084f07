"""An Excel export of Kareo secure messages: one item a row, columns found by their headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from parsers import headings, message_row
from parsers.headings import Heading
from parsers.item import WHY, InboundItem, Parsed, ParseError, RejectedRow
from parsers.message_row import Line, Rows
from parsers.options import PLAIN, Options
from parsers.tables import Table, tables

MAX_ROWS = 1_000_000  # in one file: what tells them apart is kept until its end, some 200 bytes of each

_FOOTER = re.compile(r"(?:grand )?totals?\b|page \d+ of \d+|(?:report )?generated\b|end of report", re.IGNORECASE)
_FOOTER_CELLS = 3  # "Total", a count and perhaps a date


def parse(raw: bytes, options: Options = PLAIN) -> list[InboundItem]:
    """List the items of `stream`; that rows were rejected is a caveat of the first. Raises ParseError without items."""
    items: list[InboundItem] = []
    wrong: list[RejectedRow] = []
    for parsed in stream(raw, options):
        (wrong if isinstance(parsed, RejectedRow) else items).append(parsed)  # type: ignore[arg-type]  # as it is told
    if not wrong:
        return items
    said = f"row {wrong[0].row}: {wrong[0].reason}"
    if not items:
        raise ParseError(f"no row of the file is a request: {said}")
    told = f"{len(wrong)} rows of the file are no requests and were not read: {said}"
    return [replace(items[0], caveats=(*items[0].caveats, told)), *items[1:]]


def stream(raw: bytes, options: Options = PLAIN) -> Iterator[Parsed]:
    """Read the messages in a workbook or a text file one after the other; the file's name plays no part.

    `external_id` is the message id, or "row-" and a digest of practice, sender, time, subject and text, so overlapping
    exports give the same. What counts rows or was rounded by Excel is no id: it is `given_id`. Rows that stand there
    twice are one item. A row that is no request is a RejectedRow, and stops no other; it may come before the item above
    it. The same bytes and options give the same, in the same order.

    Raises ParseError when it is no such file, when headings for the message text and for practice or sender are not
    found ("mapping needed: …"), or without any row: all before anything is yielded. Later it is raised only beyond
    MAX_ROWS messages.
    """
    sheets, notes = _sheets(raw, options)
    rows = _told(sheets, notes)
    first = next(rows, None)
    if first is None:
        raise ParseError("no rows found under the heading: export the messages again")
    yield first
    yield from rows


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A table of messages: its heading, and how its rows are read."""

    table: Table
    heading: Heading
    rows: Rows
    first: Iterator[Line] | None = field(repr=False)  # its lines, as far as they have been read; None: from the start

    def lines(self) -> Iterator[Line]:
        """Yield what is below the heading."""
        return self.first or islice(_lines(self.table), self.heading.rows, None)


def _sheets(raw: bytes, options: Options) -> tuple[list[_Sheet], list[str]]:
    """The tables with messages, and what was left out. Raises ParseError where there are none."""
    read, notes = tables(raw, options)
    sheets: list[_Sheet] = []
    wanting: list[Heading] = []
    for table in read:
        lines = _lines(table)
        first = list(islice(lines, headings.SEARCHED))
        heading = headings.find([line.texts for line in first], options.profiles)
        if heading is None or heading.missing:
            notes += ["a sheet of the file has no headings for messages and was not read"] if first else []
            wanting += [heading] if heading else []
            continue
        # One table is kept open and goes on where it is; of many, each would hold memory until its turn comes.
        below = chain(first[heading.rows :], lines) if not sheets else None
        counting = message_row.counting_fields(heading, [line.values for line in first[heading.rows :]])
        rows = Rows(heading, table.name, table.cells, options, counting=counting)
        sheets.append(_Sheet(table, heading, rows, below))
    if not sheets:
        raise ParseError(_why_nothing(wanting))
    return sheets, notes


def _lines(table: Table) -> Iterator[Line]:
    """Yield the rows with anything in them."""
    read, ours = table.cells.value, set[int]()
    for at, row in enumerate(table.rows()):
        told = {}
        for column, cell in row.cells.items():
            value = read(cell)
            if value.text or value.flaw:
                told[column] = value
        if at < headings.SEARCHED:
            ours |= {column for column, value in told.items() if value.text == WHY}
        if ours:
            told = {column: value for column, value in told.items() if column not in ours}
        if told:
            yield Line(row.number, row.hidden, told)


def _told(sheets: list[_Sheet], notes: list[str]) -> Iterator[Parsed]:
    """Yield the rows, an item only when the next has come: what is found out until then stands with it."""
    seen = _Seen()
    for sheet in sheets:
        for line in _messages(sheet, notes):
            parsed = sheet.rows.parsed(line)
            if isinstance(parsed, RejectedRow):
                yield parsed
            elif (done := seen.next(parsed, notes)) is not None:
                yield done
    if (last := seen.last(notes)) is not None:
        yield last


class _Seen:
    """Tells repeated rows, and other content under a taken id; holds the last item back."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}  # of content, by id
        self._held: InboundItem | None = None
        self._count = 1  # rows, one after the other, that say what the held one says
        self._repeats = 0  # of those further up

    def next(self, item: InboundItem, notes: list[str]) -> InboundItem | None:
        """Take an item; the one before it, once there is one. Raises ParseError beyond MAX_ROWS."""
        placed = self._placed(item)
        if placed is None:
            return None
        if len(self._digests) > MAX_ROWS:
            raise ParseError(f"more than {MAX_ROWS} messages: export fewer at a time")
        done, self._held = self._released(notes), placed
        return done

    def last(self, notes: list[str]) -> InboundItem | None:
        """The one held back, with what the file has to say at its end."""
        if self._repeats:
            notes.append(f"rows of the file that repeat an earlier one and were not read again: {self._repeats}")
        return self._released(notes)

    def _placed(self, item: InboundItem) -> InboundItem | None:
        """The item under an id of its own; None where it has been seen."""
        key, told = item.external_id, message_row.digest(item)[:32]
        if self._digests.get(key, told) != told:
            key = f"{key}#{told[:16]}"
            caveat = "another message of the file has the same message id"
            given = item.given_id or item.external_id
            item = replace(item, external_id=key, given_id=given, caveats=(*item.caveats, caveat))
        if key not in self._digests:
            self._digests[key] = told
            return item
        if self._held is not None and self._held.external_id == key:
            self._count += 1
        else:
            self._repeats += 1
        return None

    def _released(self, notes: list[str]) -> InboundItem | None:
        held, told = self._held, list(dict.fromkeys(notes))
        if held is None:
            return None
        if self._count > 1:
            told.insert(0, f"this message stands in the file {self._count} times")
        notes.clear()
        self._held, self._count = None, 1
        return replace(held, caveats=(*held.caveats, *told)) if told else held


def _messages(sheet: _Sheet, notes: list[str]) -> Iterator[Line]:
    """Yield the rows that are messages: no repeated headings, no footers, nothing beside the table.

    After a footer only rows with a text count, until the heading is repeated: a printed report goes on after "page 1
    of 3", and what else stands below a table is no message.
    """
    heading, texts = sheet.heading, sheet.heading.columns["body"]
    ended = aside = False
    for line in sheet.lines():
        text = line.values.get(texts[0])
        is_long = text is not None and len(text.text) > headings.LONGEST  # as most messages are: no heading repeated
        if not is_long and heading.repeats(line.texts):
            ended = False
        elif _is_footer(line, texts):
            ended = True
        elif line.values.keys().isdisjoint(heading.labels):
            notes += [] if aside else [f"something beside or below the table was not read, first in row {line.number}"]
            aside = True
        elif not (ended and line.values.keys().isdisjoint(texts)):
            yield line


def _is_footer(line: Line, texts: list[int]) -> bool:
    if len(line.values) > _FOOTER_CELLS or not _FOOTER.match(line.values[min(line.values)].text):
        return False
    return len(line.values) == 1 or line.values.keys().isdisjoint(texts)


def _why_nothing(wanting: list[Heading]) -> str:
    how = "`intake map FILE` shows what there is and saves what it means"
    if not wanting:
        return (
            f"mapping needed: no row of headings among the first {headings.SEARCHED} rows of any visible sheet; {how}"
        )
    nearest = min(wanting, key=lambda heading: len(heading.missing))
    return f"mapping needed: no column found for {' nor for '.join(nearest.missing)}; {how}"
