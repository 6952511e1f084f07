"""Conservation: each cell is in an item, in a rejected row, or in a row counted by its place."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import openpyxl
from hypothesis import given, settings
from hypothesis import strategies as st
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


def numbered(word: str, number: int) -> str:
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
    sheet: Worksheet, content: Sequence[Block], merged: Sequence[tuple[int, int, int, int]]
) -> None:
    row = 0
    for block in content:
        for line in block.rows:
            row += 1
            for at, word in enumerate(line, start=1):
                if word is not None:
                    heading = any(word in heading for heading in HEADINGS)
                    sheet.cell(
                        row, at + block.offset, word if heading else numbered(word, row * 100 + at)
                    )
    for top, left, down, across in merged:
        taken = {cell for area in sheet.merged_cells.ranges for cell in area.cells}
        area = {(r, c) for r in range(top, top + down + 1) for c in range(left, left + across + 1)}
        if (down or across) and not area & taken:
            sheet.merge_cells(
                start_row=top, start_column=left, end_row=top + down, end_column=left + across
            )


def saved(book: openpyxl.Workbook) -> bytes:
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def parsed(raw: bytes) -> tuple[list[ParseResult], tuple[SheetCounts, ...]]:
    stream = parsers.stream(Format.SECURE_MESSAGE, raw)
    return list(stream), parsers.get_sheet_counts(stream)


def plain(text: str) -> str:
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


def rows_of(places: str) -> set[int]:
    runs = (run.partition("-") for run in places.split(", ") if run)
    return {row for first, _, last in runs for row in range(int(first), int(last or first) + 1)}


def lost(
    book: openpyxl.Workbook, items: list[ParseResult], counts: Sequence[SheetCounts]
) -> list[tuple[str, str, str]]:
    """The cells that are nowhere: sheet, place and text."""
    everything = "\0".join(plain(text) for item in items for text in list_texts(item))
    moments = {item.sent_at for item in items if isinstance(item, InboundItem)}
    by_name = {one.sheet: one for one in counts}
    missing = []
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            continue
        one = by_name[sheet.title]
        reported = (
            rows_of(one.heading_places) | rows_of(one.title_places) | rows_of(one.footer_places)
        )
        for cell in (cell for row in sheet.iter_rows() for cell in row if cell.value is not None):
            text = str(cell.value)
            if cell.row in reported or plain(text) in everything or cell.data_type == "f":
                continue
            if CellReader([]).read_moment(Value(text)) in moments - {None} or _is_clock(
                text, moments
            ):
                continue
            missing.append((sheet.title, cell.coordinate, text))
    return missing


def _is_clock(text: str, moments: set[object]) -> bool:
    return text == "14:00" and any(
        f"{moment:%H:%M}" in {"19:00", "18:00"} for moment in moments if moment
    )


@settings(deadline=None, max_examples=120)
@given(st.lists(sheets_of_blocks, min_size=1, max_size=2), merges, st.booleans())
def test_every_cell_of_every_visible_sheet_is_somewhere(
    contents: list[list[Block]],
    merged: list[tuple[int, int, int, int]],
    hidden: bool,  # noqa: FBT001 - drawn
) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].title = "June"
    for number, content in enumerate(contents):
        fill(
            book.worksheets[0] if not number else book.create_sheet(f"More {number}"),
            content,
            merged,
        )
    if hidden:
        secret = book.create_sheet("Secret")
        secret.append(["nobody reads this"])
        secret.sheet_state = "hidden"
    try:
        items, counts = parsed(saved(book))
    except ParseError:  # then the delivery has failed as a whole, and a person sees it
        return
    assert lost(book, items, counts) == []
    visible = [one for one in counts if not one.hidden]
    assert [one.accounted for one in visible] == [one.rows for one in visible]
    kinds = Counter(type(item) for item in items)
    assert sum(one.items for one in visible) == kinds[InboundItem]
    assert sum(one.rejected for one in visible) == kinds[RejectedRow]
    assert [one.sheet for one in counts if one.hidden] == (["Secret"] if hidden else [])


@settings(deadline=None, max_examples=60)
@given(sheets_of_blocks, st.integers(0, 3), st.integers(0, 3))
def test_blank_rows_above_and_columns_on_the_left_change_no_request(
    content: list[Block], down: int, right: int
) -> None:
    def requests(above: int, left: int) -> list[tuple[str, str, str]]:
        book = openpyxl.Workbook()
        blank = [Block([[None]], 0)] * above
        fill(
            book.worksheets[0],
            [*blank, *(Block(one.rows, one.offset + left) for one in content)],
            [],
        )
        try:
            items, _ = parsed(saved(book))
        except ParseError:
            return []
        # The texts are numbered by their places: only the words count.
        words = [
            (item.text, item.company, item.sender.name)
            for item in items
            if isinstance(item, InboundItem)
        ]
        return [tuple(word.rstrip(" 0123456789") for word in one) for one in words]  # type: ignore[misc]

    assert requests(0, 0) == requests(down, right)
