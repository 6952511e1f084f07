"""An Excel export of Kareo secure messages: one item a row, columns found by their headings."""

from collections.abc import Iterator
from dataclasses import replace

from parsers.item import InboundItem, ParseError, ParseResult, RejectedRow, SheetCounts
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.secure_message import row
from parsers.secure_message.columns import Heading
from parsers.secure_message.layout import Layout
from parsers.spreadsheets.reader import HIDDEN_SHEETS, open_tables

MAX_ROWS = (
    1_000_000  # in one file: what tells them apart is kept until its end, some 200 bytes of each
)

SAME_ID = "another message of the file has the same message id"
OTHER_DETAILS = "another row of the file says the same with other details"


def parse(raw: bytes, options: Options = DEFAULT_OPTIONS) -> list[InboundItem]:
    """List the items of `stream`; that rows were rejected is a caveat of the first.

    Raises ParseError without items.
    """
    items: list[InboundItem] = []
    wrong: list[RejectedRow] = []
    for parsed in stream(raw, options):
        # as it is told
        (wrong if isinstance(parsed, RejectedRow) else items).append(parsed)  # type: ignore[arg-type]
    if not wrong:
        return items
    said = f"row {wrong[0].row}: {wrong[0].reason}"
    if not items:
        raise ParseError(f"no row of the file is a request: {said}")
    told = f"{len(wrong)} rows of the file are no requests and were not read: {said}"
    return [replace(items[0], caveats=(*items[0].caveats, told)), *items[1:]]


def stream(raw: bytes, options: Options = DEFAULT_OPTIONS) -> "MessageStream":
    """Read the messages in a workbook or a text file one after the other.

    The file's name plays no part.

    `external_id` is the message id, or "row-" and a digest of practice, sender, time, subject and
    text, so overlapping exports give the same. What counts rows or was rounded by Excel is no id:
    it is `given_id`. Rows that stand there twice are one item. A row that is no request is a
    RejectedRow, and stops no other; it may come before the item above it. The same bytes and
    options give the same, in the same order.

    Raises ParseError when it is no such file, when headings for the message text and for practice
    or sender are not found ("mapping needed: …"), or without any row: all before anything is
    yielded. Later it is raised only beyond MAX_ROWS messages.
    """
    return MessageStream(raw, options)


class MessageStream(Iterator[ParseResult]):
    """The items and rejected rows of a file.

    And after the last one what its sheets were read as.
    """

    def __init__(self, raw: bytes, options: Options) -> None:
        self.sheets: tuple[SheetCounts, ...] = ()  # filled in at the end
        self._parsed = self._read(raw, options)

    def __next__(self) -> ParseResult:
        """Return the next one."""
        return next(self._parsed)

    def _read(self, raw: bytes, options: Options) -> Iterator[ParseResult]:
        tables, hidden = open_tables(raw, options)
        notes = [HIDDEN_SHEETS] if hidden else []
        layouts = _looked_at([Layout(table, options) for table in tables])
        rows = _parsed(layouts, notes)
        first = next(rows, None)
        if first is None:
            raise ParseError("no rows found under the heading: export the messages again")
        yield first
        yield from rows
        counts = [layout.tally.counts(layout.name) for layout in layouts]
        self.sheets = (*counts, *(SheetCounts(sheet=name, hidden=True) for name in hidden))


def _looked_at(layouts: list[Layout]) -> list[Layout]:
    """Return the sheets, ready to be read. Raises ParseError where none has a table of messages."""
    # Before the file is refused, every row is looked at: what stands above the headings may be
    # long.
    if not (
        any(one.is_readable for one in layouts) or any(one.has_table_below() for one in layouts)
    ):
        raise ParseError(_why_nothing([layout.heading for layout in layouts if layout.heading]))
    # One sheet is kept open and goes on where it is; of many, each would hold memory until its turn
    # comes.
    for layout in layouts[1:]:
        layout.rewind()
    return layouts


def _parsed(layouts: list[Layout], notes: list[str]) -> Iterator[ParseResult]:
    """Yield the rows, an item only when the next has come.

    What is found out until then stands with it.
    """
    seen = _Seen()
    for layout in layouts:
        tally = layout.tally
        for line, rows, reason in layout.iter_requests():
            parsed = rows.parse(line) if rows else row.reject_stray(line, layout.name, reason)
            if isinstance(parsed, RejectedRow):
                tally.rejected += 1
                yield parsed
                continue
            assert rows is not None
            placed = seen.placed(parsed, len(rows.table_details))
            if placed is None:
                tally.repeated += 1
                continue
            tally.items += 1
            done = seen.next(placed, notes)
            if done is not None:
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

    def next(self, placed: InboundItem, notes: list[str]) -> InboundItem | None:
        """Take an item under its own id; return the one before it, once there is one.

        Raises ParseError beyond MAX_ROWS.
        """
        if len(self._digests) > MAX_ROWS:
            raise ParseError(f"more than {MAX_ROWS} messages: export fewer at a time")
        done, self._held = self._released(notes), placed
        return done

    def last(self, notes: list[str]) -> InboundItem | None:
        """The one held back, with what the file has to say at its end."""
        if self._repeats:
            notes.append(
                "rows of the file that repeat an earlier one and were not read again:"
                f" {self._repeats}"
            )
        return self._released(notes)

    def placed(self, item: InboundItem, around: int) -> InboundItem | None:
        """Return the item under an id of its own; None where all of it has been seen.

        `around` of its details stand around its table: the same row on another sheet says nothing
        new.
        """
        key, told = item.external_id, row.digest_content(item, around)[:32]
        if self._digests.get(key, told) != told:
            caveat = OTHER_DETAILS if row.is_digest_id(key) else SAME_ID
            key = f"{key}#{told[:16]}"
            given = item.unreliable_id or (
                "" if row.is_digest_id(key.partition("#")[0]) else item.external_id
            )
            item = replace(
                item, external_id=key, unreliable_id=given, caveats=(*item.caveats, caveat)
            )
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


def _why_nothing(wanting: list[Heading]) -> str:
    how = "`intake map FILE` shows what there is and saves what it means"
    if not wanting:
        return f"mapping needed: no row of headings in any visible sheet; {how}"
    nearest = min(wanting, key=lambda heading: len(heading.missing_fields))
    return f"mapping needed: no column found for {' nor for '.join(nearest.missing_fields)}; {how}"
