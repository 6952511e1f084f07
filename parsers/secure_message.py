"""An Excel export of Kareo secure messages: one item a row, columns found by their headings."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

from parsers import headings, message_row
from parsers.headings import Heading
from parsers.item import InboundItem, ParseError
from parsers.message_row import Line
from parsers.options import PLAIN, Options
from parsers.tables import Table, tables

MAX_ROWS = 150_000  # in one file, repeated ones too; an export of a year has fewer

_FOOTER = re.compile(r"(?:grand )?totals?\b|page \d+ of \d+|(?:report )?generated\b|end of report", re.IGNORECASE)
_FOOTER_CELLS = 3  # "Total", a count and perhaps a date


def parse(raw: bytes, options: Options = PLAIN) -> list[InboundItem]:
    """Read one item a message from an .xlsx or .xlsm, or from CSV; the file's name plays no part.

    `external_id` is the message id, or "row-" and a digest of practice, sender, time, subject and text, so overlapping
    exports give the same. Rows that stand there twice are one item. Raises ParseError when it is no such file, when
    headings for the message text and for practice or sender are not found ("mapping needed: …"), or without any row.
    """
    read, notes = tables(raw, options)
    found: list[Heading] = []
    items = _Items()
    for table in read:
        lines = _lines(table)
        first = list(islice(lines, headings.SEARCHED))
        heading = headings.find([line.texts for line in first])
        if heading is None or heading.missing:
            notes += ["a sheet of the file has no headings for messages and was not read"] if first else []
            found += [heading] if heading else []
            continue
        found.append(heading)
        for line in _messages(chain(first[heading.rows :], lines), heading, notes):
            items.add(message_row.item(line, heading, table.cells))
    if not items.by_id:
        raise ParseError(_why_nothing(found))
    return items.listed(notes)


def _lines(table: Table) -> Iterator[Line]:
    """Yield the rows with anything in them."""
    for row in table.rows():
        values = {column: table.cells.value(cell) for column, cell in row.cells.items()}
        told = {column: value for column, value in values.items() if value.text or value.flaw}
        if told:
            yield Line(row.number, row.hidden, told)


def _messages(lines: Iterator[Line], heading: Heading, notes: list[str]) -> Iterator[Line]:
    """Yield the rows that are messages: no repeated headings, no footers, nothing beside the table.

    After a footer only rows with a text count, until the heading is repeated: a printed report goes on after "page 1
    of 3", and what else stands below a table is no message.
    """
    texts = heading.columns["body"]
    ended = False
    for line in lines:
        if heading.repeats(line.texts):
            ended = False
        elif _is_footer(line, texts):
            ended = True
        elif line.values.keys().isdisjoint(heading.labels):
            notes.append("something beside or below the table was not read")
        elif not (ended and line.values.keys().isdisjoint(texts)):
            yield line


def _is_footer(line: Line, texts: list[int]) -> bool:
    if len(line.values) > _FOOTER_CELLS or not _FOOTER.match(line.values[min(line.values)].text):
        return False
    return len(line.values) == 1 or line.values.keys().isdisjoint(texts)


class _Items:
    """Items by id, in the order of the file: equal rows once, other content under a taken id beside it."""

    def __init__(self) -> None:
        self.by_id: dict[str, InboundItem] = {}
        self._counts: Counter[str] = Counter()
        self._rows = 0

    def add(self, item: InboundItem) -> None:
        """Take an item. Raises ParseError beyond MAX_ROWS."""
        key = item.external_id
        known = self.by_id.get(key)
        if known is not None and message_row.digest(known) != message_row.digest(item):
            key = f"{key}#{message_row.digest(item)[:16]}"
            caveat = "another message of the file has the same message id"
            item = replace(item, external_id=key, caveats=(*item.caveats, caveat))
        self.by_id.setdefault(key, item)
        self._counts[key] += 1
        self._rows += 1
        if self._rows > MAX_ROWS:
            raise ParseError(f"more than {MAX_ROWS} messages: export fewer at a time")

    def listed(self, notes: list[str]) -> list[InboundItem]:
        """List them, repeated ones with a caveat, the first one with the notes on the file."""
        listed = [self._counted(item) for item in self.by_id.values()]
        listed[0] = replace(listed[0], caveats=(*listed[0].caveats, *dict.fromkeys(notes)))
        return listed

    def _counted(self, item: InboundItem) -> InboundItem:
        count = self._counts[item.external_id]
        if count == 1:
            return item
        return replace(item, caveats=(*item.caveats, f"this message stands in the file {count} times"))


def _why_nothing(found: list[Heading]) -> str:
    if not found:
        return f"mapping needed: no row of headings among the first {headings.SEARCHED} rows of any visible sheet"
    nearest = min(found, key=lambda heading: len(heading.missing))
    if nearest.missing:
        return f"mapping needed: no column found for {' nor for '.join(nearest.missing)}"
    return "no rows found under the heading: export the messages again"
