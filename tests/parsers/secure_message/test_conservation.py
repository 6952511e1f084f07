"""Conservation: each cell is in an item, in a rejected row, or in a row counted by its place."""

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import openpyxl
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.cell import Cell
from openpyxl.worksheet.worksheet import Worksheet

import parsers
from parsers.item import Format, InboundItem, ParseError, ParseResult, RejectedRow, SheetCounts
from parsers.spreadsheets.cell_values import CellReader, Value

HEADINGS: list[list[str | None]] = [
    ["Practice", "From", "Message"],
    ["Date", "Practice Name", "Sender", "Email", "Subject", "Message"],
    ["Message", "Phone", "Client"],
    [
        "Message ID",
        "Thread ID",
        "Received",
        "Time",
        "Practice ID",
        "From",
        "Notes",
        "Comments",
        "Link",
        "Attachments",
    ],
    ["Practice", "From", "Region", "Message", "Status"],
    ["Practice", None, "From", "Message"],
    ["Practice", "From", "Message", None, "Practice", "From", "Message"],
    ["From", "Message", None, "Practice", "Count"],
    ["Klinik", "Absender", "Anliegen"],
    ["Date", "Status", "Phone"],
    ["Message"],
]
NOTES = [
    "Total",
    "Grand Total",
    "Total:",
    "Total balance is wrong",
    "Page 1 of 2",
    "Generated 1/5/2026",
    "Generated twice",
    "End of report",
    "Confidential",
    "Practice: Quillfield",
    "Message",
    "From",
    "Open",
    "Printed for",
    "3",
    "14.5",
    "=1+2",
    "=SUBTOTAL(103,A1:A3)",
]
WORDS = [
    "Nora",
    "Harbor",
    "nora@quill.example",
    "Nora Quill <n@quill.example>",
    "a@x.example; b@y.example",
    "11/02/2026",
    "11/02/2026 09:30",
    "14:00",
    "soon",
    "12",
    "https://k.example/1",
    "eob.pdf",
    "Total of Nora",
    "two\nlines",
    (
        "Please call us back about the claim that Aetna denied twice, and about the statements of"
        " last week"
    ),
]


@dataclass(frozen=True)
class Block:
    """Some rows of a sheet, as they are written from a column on."""

    rows: list[list[str | None]]
    offset: int


def make_unique(word: str, number: int) -> str:
    """Make a text unlike all others where that leaves its kind as it is."""
    return word if word in NOTES or any(c.isdigit() for c in word) else f"{word} {number}"


cell_texts = st.one_of(
    st.none(), st.sampled_from(WORDS), st.sampled_from(WORDS), st.sampled_from(NOTES)
)
rows_of_data = st.lists(st.lists(cell_texts, min_size=1, max_size=8), min_size=0, max_size=5)
heads = st.sampled_from(HEADINGS).map(lambda heading: [list(heading)])
heads_of_two = st.just([["Practice", None, "Message", None], ["Name", "ID", "Date", "Text"]])
lone_rows = st.sampled_from(NOTES).map(lambda note: [[note]])
pairs = st.tuples(st.sampled_from(NOTES), st.sampled_from(WORDS)).map(lambda two: [list(two)])
blank_rows = st.integers(1, 3).map(lambda count: [[None]] * count)
offsets = st.sampled_from([0, 0, 0, 1, 4])
blocks = st.builds(
    Block,
    st.one_of(heads, heads_of_two, rows_of_data, rows_of_data, lone_rows, pairs, blank_rows),
    offsets,
)
good = st.builds(
    lambda heading, rows: Block(
        [list(heading), *rows, ["Harbor", "Sam", "Fax broken", "Sam", "x", "y"]], 0
    ),
    st.sampled_from(HEADINGS[:4]),
    rows_of_data,
)
sheets_of_blocks = st.tuples(st.lists(blocks, max_size=5), good, st.lists(blocks, max_size=5)).map(
    lambda parts: [*parts[0], parts[1], *parts[2]]
)
merges = st.lists(
    st.tuples(st.integers(1, 15), st.integers(1, 5), st.integers(0, 4), st.integers(0, 2)),
    max_size=3,
)


def fill(
    sheet: Worksheet, content: Sequence[Block], merged_areas: Sequence[tuple[int, int, int, int]]
) -> None:
    """Write blocks one below another, then merge areas: top, left, rows and columns more than 1."""
    lines = [(line, block.offset) for block in content for line in block.rows]
    for row, (line, offset) in enumerate(lines, start=1):
        write_line(sheet, row, line, offset)
    for area in merged_areas:
        merge(sheet, *area)


def write_line(sheet: Worksheet, row: int, line: Sequence[str | None], offset: int) -> None:
    for at, word in enumerate(line, start=1):
        if word is None:
            continue
        is_heading = any(word in heading for heading in HEADINGS)
        text = word if is_heading else make_unique(word, row * 100 + at)
        sheet.cell(row, at + offset, text)


def merge(sheet: Worksheet, top: int, left: int, down: int, across: int) -> None:
    """Merge an area of several cells, unless a part of it is merged already."""
    bottom, right = top + down, left + across
    area = {(row, col) for row in range(top, bottom + 1) for col in range(left, right + 1)}
    taken = {cell for merged in sheet.merged_cells.ranges for cell in merged.cells}
    if len(area) > 1 and not area & taken:
        sheet.merge_cells(start_row=top, start_column=left, end_row=bottom, end_column=right)


def save_book(book: openpyxl.Workbook) -> bytes:
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def parse_book(raw: bytes) -> tuple[list[ParseResult], tuple[SheetCounts, ...]]:
    stream = parsers.stream(Format.SECURE_MESSAGE, raw)
    return list(stream), parsers.get_sheet_counts(stream)


def strip_text(text: str) -> str:
    """A text without spaces and what stands around addresses and links."""
    return "".join(c for c in text if not c.isspace() and c not in "<>,;()\"'")


def list_texts(item: ParseResult) -> list[str]:
    if isinstance(item, RejectedRow):
        return [text for pair in item.values for text in pair]
    fields = [
        item.external_id,
        item.sender.name,
        item.sender.email,
        item.company,
        item.company_number,
        item.phone,
        item.category,
        item.subject,
        item.text,
        item.link,
        item.thread_id,
    ]
    return [
        *fields,
        f"{item.sender.name}{item.sender.email}{item.sender.name}",
        *item.caveats,
        *(t for pair in item.details for t in pair),
    ]


def list_rows(places: str) -> set[int]:
    runs = (run.partition("-") for run in places.split(", ") if run)
    return {row for first, _, last in runs for row in range(int(first), int(last or first) + 1)}


def list_lost_cells(
    book: openpyxl.Workbook, items: list[ParseResult], counts: Sequence[SheetCounts]
) -> list[tuple[str, str, str]]:
    """Return the cells that are nowhere: sheet, place and text."""
    everything = "\0".join(strip_text(text) for item in items for text in list_texts(item))
    moments = {item.sent_at for item in items if isinstance(item, InboundItem)} - {None}
    counts_by_name = {one.sheet: one for one in counts}
    return [
        (sheet.title, cell.coordinate, str(cell.value))
        for sheet in book.worksheets
        if sheet.sheet_state == "visible"
        for cell in iter_uncounted_cells(sheet, counts_by_name[sheet.title])
        if not is_kept(cell, everything, moments)
    ]


def iter_uncounted_cells(sheet: Worksheet, counts: SheetCounts) -> Iterator[Cell]:
    """Yield the cells of a sheet but for those in rows that are counted by their place."""
    counted = list_reported_rows(counts)
    return (cell for cell in iter_cells(sheet) if cell.row not in counted)


def is_kept(cell: Cell, everything: str, moments: set[datetime | None]) -> bool:
    """Return whether a cell's text or time is in an item; a formula has no value here to look for.

    `everything` has the texts of all items, and `moments` their times.
    """
    text = str(cell.value)
    return cell.data_type == "f" or strip_text(text) in everything or is_moment(text, moments)


def iter_cells(sheet: Worksheet) -> Iterator[Cell]:
    """Yield the cells of a sheet that hold anything."""
    for row in sheet.iter_rows():
        yield from (cell for cell in row if isinstance(cell, Cell) and cell.value is not None)


def list_reported_rows(counts: SheetCounts) -> set[int]:
    """Return the rows that are counted by their place instead of being in an item."""
    headings, titles = list_rows(counts.heading_places), list_rows(counts.title_places)
    return headings | titles | list_rows(counts.footer_places)


def is_moment(text: str, moments: set[datetime | None]) -> bool:
    """Return whether a text is the time of an item, or its time of day."""
    moment = CellReader([]).read_moment(Value(text))
    # The time of day may come from another column.
    is_day = moment is not None and any(
        one is not None and timedelta() <= one - moment < timedelta(days=1) for one in moments
    )
    return is_day or _is_clock(text, moments)


def _is_clock(text: str, moments: set[datetime | None]) -> bool:
    return text == "14:00" and any(
        f"{moment:%H:%M}" in {"19:00", "18:00"} for moment in moments if moment
    )


@settings(deadline=None, max_examples=120)
@given(st.lists(sheets_of_blocks, min_size=1, max_size=2), merges, st.booleans())
def test_every_cell_of_every_visible_sheet_is_somewhere(
    contents: list[list[Block]],
    merged_areas: list[tuple[int, int, int, int]],
    has_hidden_sheet: bool,  # noqa: FBT001 - drawn
) -> None:
    book = make_book(contents, merged_areas)
    if has_hidden_sheet:
        secret = book.create_sheet("Secret")
        secret.append(["nobody reads this"])
        secret.sheet_state = "hidden"
    try:
        items, counts = parse_book(save_book(book))
    except ParseError:  # then the delivery has failed as a whole, and a person sees it
        return
    assert list_lost_cells(book, items, counts) == []
    check_counts(items, [one for one in counts if not one.hidden])
    assert [one.sheet for one in counts if one.hidden] == (["Secret"] if has_hidden_sheet else [])


def make_book(
    contents: list[list[Block]], merged_areas: list[tuple[int, int, int, int]]
) -> openpyxl.Workbook:
    """Return a workbook with a sheet for each of these contents, all with the same merged areas."""
    book = openpyxl.Workbook()
    first = book.worksheets[0]
    first.title = "June"
    more = [book.create_sheet(f"More {number}") for number in range(1, len(contents))]
    for sheet, content in zip([first, *more], contents, strict=True):
        fill(sheet, content, merged_areas)
    return book


def check_counts(items: list[ParseResult], counts: list[SheetCounts]) -> None:
    """Assert that each row is counted once, and as what it was read as."""
    assert [one.accounted for one in counts] == [one.rows for one in counts]
    kinds = Counter(type(item) for item in items)
    assert sum(one.items for one in counts) == kinds[InboundItem]
    assert sum(one.rejected for one in counts) == kinds[RejectedRow]


@settings(deadline=None, max_examples=60)
@given(sheets_of_blocks, st.integers(0, 3), st.integers(0, 3))
def test_blank_rows_above_and_columns_on_the_left_change_no_request(
    content: list[Block], down: int, right: int
) -> None:
    def requests(above: int, left: int) -> list[list[str]]:
        book = openpyxl.Workbook()
        blank = [Block([[None]], 0)] * above
        fill(
            book.worksheets[0],
            [*blank, *(Block(one.rows, one.offset + left) for one in content)],
            [],
        )
        try:
            items, _ = parse_book(save_book(book))
        except ParseError:
            return []
        # The texts are numbered by their places: only the words count.
        words = [
            (item.text, item.company, item.sender.name)
            for item in items
            if isinstance(item, InboundItem)
        ]
        # A text may go on over several rows, each with its number.
        numbers = re.compile(r"[ \d]+$", re.MULTILINE)
        return [[numbers.sub("", word) for word in one] for one in words]

    assert requests(0, 0) == requests(down, right)
