"""Parser of an Excel export of Kareo secure messages: one item a row."""

from collections.abc import Iterator
from dataclasses import replace

from parsers.item import InboundItem, ParseError, ParseResult, RejectedRow, SheetCounts
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.secure_message import row
from parsers.secure_message.headings import Heading
from parsers.secure_message.layout import Layout
from parsers.spreadsheets.formats import detect
from parsers.spreadsheets.reader import HIDDEN_SHEETS, open_tables

# Messages in one file: a digest of each is held until its end, some 200 bytes.
MAX_ROWS = 1_000_000

SAME_ID = "another message of the file has the same message id"
OTHER_DETAILS = "another row of the file says the same with other details"


def parse(raw: bytes, options: Options = DEFAULT_OPTIONS) -> list[InboundItem]:
    """Return the items of `stream`; rejected rows are a caveat of the first one.

    Raises ParseError as `stream` does, and when there is no item.
    """
    items: list[InboundItem] = []
    rejected_rows: list[RejectedRow] = []
    for result in stream(raw, options):
        if isinstance(result, RejectedRow):
            rejected_rows.append(result)
        else:
            items.append(result)
    if not rejected_rows:
        return items
    first = f"row {rejected_rows[0].row}: {rejected_rows[0].reason}"
    if not items:
        raise ParseError(f"no row of the file is a request: {first}")
    caveat = f"{len(rejected_rows)} rows of the file are no requests and were not read: {first}"
    return [replace(items[0], caveats=(*items[0].caveats, caveat)), *items[1:]]


def stream(raw: bytes, options: Options = DEFAULT_OPTIONS) -> "MessageStream":
    """Parse the messages in a workbook or a text file one after the other, whatever its name.

    `external_id` is the message id, or "row-" and a digest of practice, sender, time, subject and
    text, so overlapping exports give the same. A value that counts rows or was rounded by Excel is
    no id: it is `unreliable_id`. Rows that stand there twice are one item. A row that is no request
    is a RejectedRow, and stops no other; it may come before the item above it. The same bytes and
    options give the same, in the same order.

    Raises ParseError when it is no such file, when headings for the message text and for practice
    or sender are not found ("mapping needed: …"), or without any row: all before anything is
    yielded. Later it is raised only beyond MAX_ROWS messages.
    """
    return MessageStream(raw, options)


class MessageStream(Iterator[ParseResult]):
    """The items and rejected rows of a file; after the last one `sheets` has the counts of rows."""

    def __init__(self, raw: bytes, options: Options) -> None:
        self.sheets: tuple[SheetCounts, ...] = ()
        self._results = self._iter_results(raw, options)

    def __next__(self) -> ParseResult:
        """Return the next item or rejected row."""
        return next(self._results)

    def _iter_results(self, raw: bytes, options: Options) -> Iterator[ParseResult]:
        tables, hidden_sheets = open_tables(raw, options)
        notes = [HIDDEN_SHEETS] if hidden_sheets else []
        layouts = [Layout(table, options) for table in tables]
        _check_layouts(layouts, raw)
        results = _parse_rows(layouts, notes)
        first = next(results, None)
        if first is None:
            raise ParseError("no rows found under the heading: export the messages again")
        yield first
        yield from results
        counts = [layout.tally.get_counts(layout.name) for layout in layouts]
        self.sheets = (*counts, *(SheetCounts(sheet=name, hidden=True) for name in hidden_sheets))


def _check_layouts(layouts: list[Layout], raw: bytes) -> None:
    """Raise ParseError where no sheet has a table of messages; make the others ready to be read."""
    has_table = any(layout.is_readable for layout in layouts)
    # The rows above the headings may be many, so all of them are searched before the file is
    # refused.
    if not has_table and not any(layout.has_table_below() for layout in layouts):
        nearest = [one.heading for one in layouts if one.heading]
        raise ParseError(detect.explain_text(raw) or _explain_missing(nearest))
    # The first sheet stays open and goes on where it is; of many, each would hold memory until its
    # turn comes.
    for layout in layouts[1:]:
        layout.rewind()


def _parse_rows(layouts: list[Layout], notes: list[str]) -> Iterator[ParseResult]:
    """Yield items and rejected rows, an item only when the next has come.

    Notes on rows between the two become caveats of the earlier one.
    """
    unique = _UniqueItems()
    for layout in layouts:
        tally = layout.tally
        for sheet_row, reader, reason in layout.iter_requests():
            if reader is None:
                tally.rejected += 1
                yield row.reject_stray(sheet_row, layout.name, reason)
                continue
            result = reader.parse(sheet_row)
            if isinstance(result, RejectedRow):
                tally.rejected += 1
                yield result
                continue
            item = unique.identify(result, len(reader.table_details))
            if item is None:
                tally.repeated += 1
                continue
            tally.items += 1
            earlier = unique.hold(item, notes)
            if earlier is not None:
                yield earlier
    last = unique.release_last(notes)
    if last is not None:
        yield last


class _UniqueItems:
    """Recogniser of repeated rows, and of other content under an id that is in use.

    It holds the last item back, so that repetitions right below it can be counted.
    """

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}  # of content, by id
        self._held_item: InboundItem | None = None
        self._count = 1  # consecutive rows with the content of the held one
        self._repeats = 0  # rows with the content of an earlier one

    def identify(self, item: InboundItem, table_details: int) -> InboundItem | None:
        """Return the item under an id of its own; None where its whole content has been seen.

        The last `table_details` details stand around its table: the same row on another sheet has
        no new content.
        """
        external_id, digest = item.external_id, row.digest_content(item, table_details)[:32]
        if self._digests.get(external_id, digest) != digest:
            has_own_id = not row.is_digest_id(external_id)
            own_id = item.external_id if has_own_id else ""
            external_id = f"{external_id}#{digest[:16]}"
            item = replace(
                item,
                external_id=external_id,
                unreliable_id=item.unreliable_id or own_id,
                caveats=(*item.caveats, SAME_ID if has_own_id else OTHER_DETAILS),
            )
        if external_id not in self._digests:
            self._digests[external_id] = digest
            return item
        if self._held_item is not None and self._held_item.external_id == external_id:
            self._count += 1
        else:
            self._repeats += 1
        return None

    def hold(self, item: InboundItem, notes: list[str]) -> InboundItem | None:
        """Hold an identified item back; return the one before it, None for the first.

        Raises ParseError beyond MAX_ROWS.
        """
        if len(self._digests) > MAX_ROWS:
            raise ParseError(f"more than {MAX_ROWS} messages: export fewer at a time")
        earlier, self._held_item = self._release(notes), item
        return earlier

    def release_last(self, notes: list[str]) -> InboundItem | None:
        """Return the last item, with a caveat on the rows that were not read again."""
        if self._repeats:
            notes.append(
                "rows of the file that repeat an earlier one and were not read again:"
                f" {self._repeats}"
            )
        return self._release(notes)

    def _release(self, notes: list[str]) -> InboundItem | None:
        """Return the held item with the notes as caveats, and clear them; None without one."""
        item, caveats = self._held_item, list(dict.fromkeys(notes))
        if item is None:
            return None
        if self._count > 1:
            caveats.insert(0, f"this message stands in the file {self._count} times")
        notes.clear()
        self._held_item, self._count = None, 1
        return replace(item, caveats=(*item.caveats, *caveats)) if caveats else item


def _explain_missing(headings: list[Heading]) -> str:
    """Return why no table was found, and the remedy, by the headings that came nearest."""
    remedy = "`intake map FILE` shows what there is and saves what it means"
    if not headings:
        return f"mapping needed: no row of headings in any visible sheet; {remedy}"
    nearest = min(headings, key=lambda heading: len(heading.missing_fields))
    missing = " nor for ".join(nearest.missing_fields)
    return f"mapping needed: no column found for {missing}; {remedy}"
