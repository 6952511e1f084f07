"""Records of an .xls written by hand: what programs write rarely, and what only damage does."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.item import ParseError
from parsers.spreadsheets.formats import xls
from parsers.spreadsheets.formats.binary_records import DAMAGED_CELL
from parsers.spreadsheets.formats.xlsx_sheet import MISNUMBERED, MISPLACED

EMOJI = "claim denied 😀 twice"
SHARED, NUMBER, RK, LABEL, FORMULA, BOOL = 0xFD, 0x203, 0x27E, 0x204, 0x06, 0x205
STRING, CONTINUE = 0x207, 0x3C
WORKBOOK, WORKSHEET = 0x05, 0x10


def record(kind: int, data: bytes = b"") -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def build_begin(kind: int) -> bytes:
    return record(0x809, struct.pack("<HHHHII", 0x600, kind, 0, 0, 0, 0))


def build_cell(kind: int, row: int, column: int, data: bytes, style: int = 0) -> bytes:
    return record(kind, struct.pack("<HHH", row, column, style) + data)


def build_shared_cell(row: int, column: int, index: int) -> bytes:
    return build_cell(SHARED, row, column, struct.pack("<I", index))


def build_number(row: int, column: int, value: float, style: int = 0) -> bytes:
    return build_cell(NUMBER, row, column, struct.pack("<d", value), style)


def build_formula(row: int, column: int, result: bytes) -> bytes:
    return build_cell(FORMULA, row, column, result + bytes(8))


TEXT_FOLLOWS = b"\0\0\0\0\0\0\xff\xff"
BLANK = b"\3\0\0\0\0\0\xff\xff"


def encode_wide(text: str) -> bytes:
    return struct.pack("<HB", len(text.encode("utf-16-le")) // 2, 1) + text.encode("utf-16-le")


def build_shared_texts(*texts: str) -> bytes:
    return record(
        0xFC, struct.pack("<II", len(texts), len(texts)) + b"".join(map(encode_wide, texts))
    )


def build_workbook(
    *cells: bytes, texts: bytes = b"", first: bytes | None = None, styles: int = 2
) -> bytes:
    """A workbook of one sheet; `first` is the record its sheet begins with."""
    xfs = record(0xE0, bytes(20)) * styles
    size = len(build_begin(WORKBOOK) + xfs + record(0x85, bytes(13)) + texts + record(0x0A))
    sheet = record(0x85, struct.pack("<IBBBB", size, 0, 0, 5, 0) + b"Sheet")
    head = build_begin(WORKBOOK) + xfs + sheet + texts + record(0x0A)
    return (
        head + (build_begin(WORKSHEET) if first is None else first) + b"".join(cells) + record(0x0A)
    )


def read_cells(stream: bytes) -> list[dict[int, tuple[str, str]]]:
    (sheet,) = xls.open_workbook(stream).sheets
    return [{at: (cell.text, cell.flaw) for at, cell in row.cells.items()} for row in sheet.rows()]


@pytest.mark.parametrize("cut", range(1, 2 * len(EMOJI) + 2, 2))
def test_a_seam_between_records_parts_no_emoji(cut: int) -> None:
    """A text goes on behind a byte that says its width again (MS-XLS §2.4.265)."""
    whole = struct.pack("<II", 1, 1) + encode_wide(EMOJI)
    at = 11 + 2 * (cut // 2)
    texts = record(0xFC, whole[:at]) + record(CONTINUE, b"\1" + whole[at:])
    assert read_cells(build_workbook(build_shared_cell(0, 0, 0), texts=texts)) == [{1: (EMOJI, "")}]


def test_a_text_may_change_its_width_at_a_seam() -> None:
    texts = record(0xFC, struct.pack("<IIHB", 1, 1, 4, 0) + b"\xe9a") + record(
        CONTINUE, b"\1" + "漢b".encode("utf-16-le")
    )
    assert read_cells(build_workbook(build_shared_cell(0, 0, 0), texts=texts)) == [
        {1: ("éa漢b", "")}
    ]


def test_the_text_of_a_formula_goes_on_in_the_next_record() -> None:
    text = "m" * 9_000
    parts = (
        record(STRING, struct.pack("<HB", len(text), 0) + text[:8_000].encode()),
        record(CONTINUE, b"\0" + b"m" * 1_000),
    )
    assert read_cells(
        build_workbook(build_formula(0, 0, TEXT_FOLLOWS), *parts, build_number(0, 1, 7))
    ) == [{1: (text, ""), 2: ("7", "")}]


def test_a_formula_whose_text_is_missing_or_cut_is_a_damaged_cell() -> None:
    for parts in ([], [record(STRING, struct.pack("<HB", 9, 0) + b"abc")]):
        rows = read_cells(
            build_workbook(
                build_formula(0, 0, TEXT_FOLLOWS),
                *parts,
                build_number(0, 1, 7),
                build_formula(1, 0, TEXT_FOLLOWS),
            )
        )
        assert rows == [{1: ("", DAMAGED_CELL), 2: ("7", "")}, {1: ("", DAMAGED_CELL)}]


def test_a_formula_may_be_blank_and_an_unknown_result_is_damaged() -> None:
    assert read_cells(build_workbook(build_formula(0, 0, BLANK), build_number(0, 1, 7))) == [
        {2: ("7", "")}
    ]
    assert read_cells(build_workbook(build_formula(0, 0, b"\7" + TEXT_FOLLOWS[1:]))) == [
        {1: ("", DAMAGED_CELL)}
    ]


def test_two_cells_in_one_place_and_a_row_out_of_order_are_told() -> None:
    rows = read_cells(
        build_workbook(
            build_number(0, 0, 1),
            build_number(0, 0, 2),
            build_number(5, 0, 3),
            build_number(4, 0, 4),
        )
    )
    assert rows == [{1: ("2", MISPLACED)}, {1: ("3", "")}, {1: ("4", MISNUMBERED)}]


def test_a_label_cut_short_is_a_damaged_cell() -> None:
    assert read_cells(
        build_workbook(build_cell(LABEL, 0, 0, struct.pack("<HB", 9, 0) + b"abc"))
    ) == [{1: ("", DAMAGED_CELL)}]


@pytest.mark.parametrize(
    "stream",
    [
        build_workbook(build_shared_cell(0, 0, 1), texts=build_shared_texts("only one")),
        build_workbook(build_cell(SHARED, 0, 0, bytes(5)), texts=build_shared_texts("only one")),
        build_workbook(build_number(0, 256, 1)),
        build_workbook(build_number(0, 0, 1, style=2)),
        build_workbook(build_cell(RK, 0, 0, bytes(3), style=2)),
        build_workbook(build_cell(BOOL, 0, 0, b"\1")),
        build_workbook(build_number(0, 0, 1), bytes(512)),
        build_workbook(build_number(0, 0, 1), first=build_begin(0x20)),
        build_workbook(build_number(0, 0, 1), first=record(0x10, bytes(2))),
        build_workbook(build_number(0, 0, 1), first=b""),
    ],
    ids=[
        "text",
        "length",
        "column",
        "style",
        "style of an integer",
        "short",
        "zeros",
        "chart",
        "no start",
        "nothing",
    ],
)
def test_what_only_damage_writes_ends_it_before_the_first_row(stream: bytes) -> None:
    """What is beside such a record may be damaged too, and would be taken for good."""
    with pytest.raises(ParseError, match="a damaged workbook in the old Excel format"):
        xls.open_workbook(stream)


def test_a_workbook_without_styles_has_the_first() -> None:
    assert read_cells(build_workbook(build_number(0, 0, 1), styles=0)) == [{1: ("1", "")}]


GOOD = build_workbook(
    build_shared_cell(0, 0, 0),
    build_shared_cell(0, 1, 1),
    build_number(1, 0, 42, style=1),
    build_cell(BOOL, 1, 1, b"\1\0"),
    build_formula(2, 0, TEXT_FOLLOWS),
    record(STRING, encode_wide("result")),
    build_cell(LABEL, 2, 1, encode_wide("label")),
    texts=build_shared_texts("Practice", EMOJI),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_nothing_but_parse_error_on_damaged_records(flips: list[tuple[int, int]]) -> None:
    raw = bytearray(GOOD)
    for at, byte in flips:
        raw[at] = byte
    try:
        book = xls.open_workbook(bytes(raw))
    except ParseError:
        return
    for sheet in book.sheets:
        list(sheet.rows())
