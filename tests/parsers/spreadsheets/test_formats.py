"""Workbooks of every format: the same cells give the same values, as independent readers see."""

import datetime as dt
import io
import struct
from pathlib import Path

import openpyxl
import pytest
import python_calamine

from parsers.item import ParseError
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.spreadsheets.cell_values import ERROR, UNSOLVED
from parsers.spreadsheets.formats import ole_container, xls
from parsers.spreadsheets.formats.binary_records import iter_records
from parsers.spreadsheets.formats.xlsx_sheet import MISNUMBERED, MISPLACED, NO_SUCH_TEXT
from parsers.spreadsheets.formats.xml import Probe
from parsers.spreadsheets.reader import find_tables
from tests.support import workbooks
from tests.support.workbooks import (
    build_book,
    lock_workbook,
    needs_libreoffice,
    read,
    read_texts,
    save_as,
)

HEADER: list[object] = ["Date", "Practice ID", "From", "Message", "SSN", "State", "Time", "Sum"]
SENT = dt.datetime.fromisoformat("2026-01-05T10:01")
KINDS = ["xlsx", "xls", "ods"]


def format_cells(workbook: openpyxl.Workbook) -> None:
    """Formats, a link, a hidden row and hidden sheets."""
    sheet = workbook.worksheets[0]
    sheet.title = "Messages"
    for number in (2, 3):
        sheet.cell(number, 2).number_format = "00000"
        sheet.cell(number, 5).number_format = "000-00-0000"
    sheet["C2"].hyperlink = "https://k.example/1"
    sheet.row_dimensions[3].hidden = True
    workbook.create_sheet("Secret").sheet_state = "veryHidden"
    late = workbook.create_sheet("Late")
    late["C5"], late["D5"], late["D7"] = "From", "Message", "far down"


SOURCE = build_book(
    HEADER,
    [SENT, 42, "Pat é", "Line one\nline two", 12345678, "#N/A", dt.time(14, 30), "=1+1"],
    [SENT, 7, "Jo", " second ", 987654321, True, None, 12.5],
    edit=format_cells,
)


@pytest.fixture(scope="session", params=KINDS)
def same(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if workbooks.LIBREOFFICE is None:
        pytest.skip("no LibreOffice: apt-get install libreoffice-calc-nogui")
    return save_as(request.param, SOURCE, tmp_path_factory.mktemp(request.param))


def test_a_workbook_says_the_same_however_it_is_saved(same: bytes) -> None:
    tables, notes = find_tables(same, DEFAULT_OPTIONS)
    assert [table.name for table in tables] == ["Messages", "Late"]
    assert notes == ["a hidden sheet of the file was not read"]
    first, second, third = read(same)
    assert [value.text for value in first.values()] == HEADER
    assert {at: value.text.removesuffix(":00") for at, value in second.items()} == {
        1: "2026-01-05 10:01",
        2: "00042",
        3: "Pat é",
        4: "Line one\nline two",
        5: "012-34-5678",
        6: "#N/A",
        7: "14:30",
        8: "2",
    }
    assert (second[1].moment, second[3].link, second[6].flaw) == (
        SENT,
        "https://k.example/1",
        ERROR,
    )
    assert {at: value.text for at, value in third.items() if at != 6} == {
        1: "2026-01-05 10:01",
        2: "00007",
        3: "Jo",
        4: "second",
        5: "987-65-4321",
        8: "12.5",
    }
    assert third[6].text in {
        "yes",
        "1",
        "TRUE",
    }  # OpenDocument keeps a boolean of Excel as the number 1
    assert [row.hidden for row in tables[0].rows()] == [False, False, True]
    assert [(row.number, sorted(row.cells)) for row in tables[1].rows()] == [(5, [3, 4]), (7, [4])]


def test_rows_are_read_anew_each_time(same: bytes) -> None:
    (table, _), _ = find_tables(same, DEFAULT_OPTIONS)
    once = table.rows()
    assert next(once).number == 1
    assert len(list(table.rows())) == 3
    assert len(list(once)) == 2


def test_every_cell_is_where_an_independent_reader_sees_it(same: bytes) -> None:
    theirs = (
        python_calamine.load_workbook(io.BytesIO(same)).get_sheet_by_name("Messages").to_python()
    )
    ours = read(same)
    for row, cells in zip(theirs, ours, strict=True):
        for at, value in enumerate(row, start=1):
            if isinstance(value, str) and value:
                assert cells[at].text == value.strip()
            elif isinstance(value, dt.datetime):
                assert cells[at].moment == value
            elif value != "" and at not in {2, 5, 6}:
                assert at in cells


# -- locked ----


def test_a_locked_workbook_opens_with_one_of_the_passwords() -> None:
    raw = lock_workbook(build_book(["From", "Message"], ["Pat", "Help"]), "dogs & cats")
    assert read_texts(raw, Options(passwords=("other", "dogs & cats"))) == [
        ["From", "Message"],
        ["Pat", "Help"],
    ]


@pytest.mark.parametrize(
    ("passwords", "why"), [((), ole_container.LOCKED), (("wrong",), ole_container.NOT_UNLOCKED)]
)
def test_a_locked_workbook_says_what_to_do(passwords: tuple[str, ...], why: str) -> None:
    raw = lock_workbook(build_book(["From", "Message"], ["Pat", "Help"]), "dogs & cats")
    with pytest.raises(ParseError, match="a password-protected workbook") as refused:
        find_tables(raw, Options(passwords=passwords))
    assert str(refused.value) == why
    assert "INTAKE_WORKBOOK_PASSWORD" in ole_container.LOCKED


@needs_libreoffice
def test_an_old_workbook_that_is_locked_opens_with_its_password(tmp_path: Path) -> None:
    raw = workbooks.lock_old_workbook(
        save_as("xls", build_book(["From", "Message"], ["Pat", "Help"]), tmp_path), "dogs"
    )
    assert b"F\0r\0o\0m" not in raw
    assert b"From" not in raw
    assert read_texts(raw, Options(passwords=("cats", "dogs"))) == [
        ["From", "Message"],
        ["Pat", "Help"],
    ]
    for passwords, why in (((), ole_container.LOCKED), (("cats",), ole_container.NOT_UNLOCKED)):
        with pytest.raises(ParseError) as refused:
            find_tables(raw, Options(passwords=passwords))
        assert str(refused.value) == why


def test_a_workbook_excel_opens_without_asking_needs_no_password() -> None:
    assert read_texts(lock_workbook(build_book(["From"]), "VelvetSweatshop")) == [["From"]]


# -- .xlsb ----


def build_binary() -> bytes:
    shared, number, real = (lambda at, i: workbooks.build_cell(7, at, struct.pack("<I", i))), 2, 5
    rows = workbooks.build_row(0, shared(0, 0), shared(1, 1), shared(2, 2))
    rows += workbooks.build_row(
        1,
        workbooks.build_cell(number, 0, struct.pack("<I", 42 << 2 | 2), style=1),
        workbooks.build_cell(real, 1, struct.pack("<d", 46027.5), style=2),
        workbooks.build_cell(6, 2, workbooks.encode_wide("Line one\nline two")),
        workbooks.build_cell(3, 3, b"\x2a"),
        workbooks.build_cell(4, 4, b"\x01"),
        workbooks.build_cell(9, 5, struct.pack("<dH", 0.5, 0)),
        workbooks.build_cell(number, 6, struct.pack("<I", (1234 << 2 | 3))),
        hidden=True,
    )
    link = (
        struct.pack("<IIII", 1, 1, 2, 2)
        + workbooks.encode_wide("hyperlink1")
        + workbooks.encode_wide("") * 3
    )
    return workbooks.build_xlsb(
        rows,
        ["Practice ID", "Date", "Message"],
        ["00000", "m/d/yyyy h:mm"],
        after=workbooks.record(494, link),
        states=(0, 1),
        sheet_rels=workbooks.build_relationships(hyperlink1="https://k.example/1").replace(
            "Target", 'TargetMode="External" Target'
        ),
    )


def test_a_binary_workbook() -> None:
    raw = build_binary()
    tables, notes = find_tables(raw, DEFAULT_OPTIONS)
    assert ([table.name for table in tables], notes) == (
        ["Sheet1"],
        ["a hidden sheet of the file was not read"],
    )
    first, second = read(raw)
    assert [value.text for value in first.values()] == ["Practice ID", "Date", "Message"]
    shown = ["00042", "2026-01-05 12:00", "Line one\nline two", "#N/A", "yes", "0.5", "12.34"]
    assert [value.text for value in second.values()] == shown
    assert (second[4].flaw, second[3].link) == (ERROR, "https://k.example/1")
    assert [row.hidden for row in tables[0].rows()] == [False, True]


def test_the_binary_workbook_is_one_for_an_independent_reader() -> None:
    theirs = (
        python_calamine.load_workbook(io.BytesIO(build_binary())).get_sheet_by_index(0).to_python()
    )
    assert theirs[0][:3] == ["Practice ID", "Date", "Message"]
    assert theirs[1][:3] == [
        42,
        dt.datetime.fromisoformat("2026-01-05T12:00"),
        "Line one\nline two",
    ]
    assert theirs[1][4:] == [True, 0.5, 12.34]


@pytest.mark.parametrize(
    "part", ["xl/worksheets/sheet1.bin", "xl/workbook.bin", "xl/sharedStrings.bin"]
)
def test_a_binary_part_cut_short_ends_before_the_first_row(part: str) -> None:
    with pytest.raises(ParseError, match="a damaged workbook"):
        find_tables(workbooks.rewrite_part(build_binary(), part, lambda x: x[:-5]), DEFAULT_OPTIONS)


# -- .xlsx ----

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def build_sheet(xml: str) -> bytes:
    whole = f'<worksheet xmlns="{MAIN}"><sheetData>{xml}</sheetData></worksheet>'
    return workbooks.rewrite_part(
        build_book(["x"]), "xl/worksheets/sheet1.xml", lambda _: whole.encode()
    )


@pytest.mark.parametrize(
    ("xml", "flaws"),
    [
        ('<row><c r="A1"><v>1</v></c><c r="ZZZZ1"><v>2</v></c></row>', {1: "", 2: MISPLACED}),
        ('<row><c r="XFE1"><v>1</v></c></row>', {1: MISPLACED}),
        ('<row><c r="B1"><v>1</v></c><c r="B1"><v>2</v></c></row>', {2: "", 3: MISPLACED}),
        ('<row><c r="B1"><v>1</v></c><c r="A1"><v>2</v></c></row>', {1: "", 2: ""}),
        ('<row><c t="s"><v>99</v></c><c t="s"><v>-1</v></c><c t="s"><v>x</v></c></row>',
         {1: NO_SUCH_TEXT, 2: NO_SUCH_TEXT, 3: NO_SUCH_TEXT}),
        ('<row r="99999999"><c><v>1</v></c><c><v>2</v></c></row>', {1: MISNUMBERED, 2: ""}),
        ("<row><c><v>1e999</v></c><c><v>x</v></c></row>", {1: ERROR, 2: ERROR}),
        ("<row><c><f>A1</f></c><c t='str'><f>A1</f><v></v></c></row>", {1: UNSOLVED, 2: ""}),
    ],
)  # fmt: skip
def test_a_damaged_cell_is_flawed_and_the_others_are_read(xml: str, flaws: dict[int, str]) -> None:
    (first, after) = read(build_sheet(xml + '<row r="7"><c><v>9</v></c></row>'))
    assert {at: value.flaw for at, value in first.items()} == flaws
    assert {at: (value.text, value.flaw) for at, value in after.items()} == {1: ("9", "")}


def test_a_row_numbered_twice_does_not_make_the_next_ones_wrong() -> None:
    raw = build_sheet(
        "".join(f'<row r="{number}"><c><v>{number}</v></c></row>' for number in (5, 5, 6))
    )
    assert [row[1].flaw for row in read(raw)] == ["", MISNUMBERED, ""]


def test_a_text_beyond_all_bounds_is_cut_and_said() -> None:
    raw = build_sheet(
        f'<row><c t="inlineStr"><is><t>{"M" * 1_100_000}</t></is></c><c><v>1</v></c></row>'
    )
    ((long, short),) = (row.values() for row in read(raw))
    assert (len(long.text), short.text) == (1_000_000, "1")
    assert "1,000,000 characters" in long.flaw


@pytest.mark.parametrize(
    "part", ["xl/worksheets/sheet2.xml", "xl/sharedStrings.xml", "xl/workbook.xml"]
)
@pytest.mark.parametrize(
    "change", [lambda x: x[:-20], lambda x: x + b"<", lambda _: b"", lambda _: None]
)
def test_a_part_that_is_malformed_ends_it_before_the_first_row(
    part: str, change: workbooks.Change
) -> None:
    raw = workbooks.build_book_with_shared_texts(["From"], ["From"])
    assert read_texts(raw, table=1) == [["From"]]
    with pytest.raises(ParseError, match="a damaged workbook"):
        find_tables(workbooks.rewrite_part(raw, part, change), DEFAULT_OPTIONS)


def test_parts_that_are_not_read_may_be_malformed() -> None:
    raw = build_book(
        ["From"], edit=lambda made: setattr(made.create_sheet("Second"), "sheet_state", "hidden")
    )
    for part in ("docProps/core.xml", "xl/theme/theme1.xml", "xl/worksheets/sheet2.xml"):
        raw = workbooks.rewrite_part(raw, part, lambda x: x[:-20])
    assert read_texts(raw) == [["From"]]


def test_links_behind_cells_and_in_formulas_are_kept() -> None:
    def link(made: openpyxl.Workbook) -> None:
        made.worksheets[0]["B2"].hyperlink = "https://files.example/1?a=1&b=2"
        made.worksheets[0]["A2"].hyperlink = "#Sheet!A1"

    raw = build_book(["From", "Attachments"], ["Pat", "eob.pdf"], edit=link)
    _, row = read(raw)
    assert (row[1].link, row[2].text, row[2].link) == (
        "",
        "eob.pdf",
        "https://files.example/1?a=1&b=2",
    )
    formula = '<f>HYPERLINK("https://files.example/2","eob")</f>'
    ((cell,),) = (
        r.values() for r in read(build_sheet(f'<row><c t="str">{formula}<v>eob</v></c></row>'))
    )
    assert (cell.text, cell.link) == ("eob", "https://files.example/2")
    ((cell,),) = (
        r.values()
        for r in read(
            build_sheet('<row><c t="str"><f>HYPERLINK("file:///etc","x")</f><v>x</v></c></row>')
        )
    )
    assert cell.link == ""


def test_nesting_is_counted_right_wherever_a_part_is_cut() -> None:
    probe = Probe()
    part = b"<a>" + b"<b><c/>x > y</b>" * 500 + b"</a>"
    for byte in part:
        probe.feed(bytes([byte]))
    probe.feed(b"", last=True)
    assert (probe.root, probe.is_damaged, probe.deep) == ("a", False, False)
    with pytest.raises(ParseError):
        find_tables(build_sheet("<a>" * 10_000 + "</a>" * 10_000), DEFAULT_OPTIONS)


def test_a_million_empty_rows_cost_little() -> None:
    rows = "".join(f'<row r="{number}" ht="15"/>' for number in range(2, 1_000_000))
    raw = build_sheet(
        f'<row r="1"><c><v>1</v></c></row>{rows}<row r="1048576"><c><v>2</v></c></row>'
    )
    (table,), _ = find_tables(raw, DEFAULT_OPTIONS)
    assert [row.number for row in table.rows()] == [1, 1_048_576]


@needs_libreoffice
def test_an_old_workbook_that_is_damaged_is_refused_whole_and_said_to_be_old(
    tmp_path: Path,
) -> None:
    raw = save_as(
        "xls",
        build_book(["From"], ["Pat"], edit=lambda made: made.create_sheet("Second")),
        tmp_path,
    )
    stream = ole_container.open_container(raw, ())
    starts = [start - 4 for kind, start, _ in iter_records(stream, 0) if kind == 0x809]
    assert len(starts) == 3
    for damaged_file in (
        stream[: starts[2] + 30],
        stream[: starts[1] - 20],
        stream[: starts[0] + 20] + b"\x0a\0\0\0",
    ):
        with pytest.raises(ParseError, match="old Excel format"):
            xls.open_workbook(damaged_file)
    with pytest.raises(ParseError, match="old Excel format"):
        find_tables(raw[:1024], DEFAULT_OPTIONS)


@needs_libreoffice
def test_an_old_workbook_of_many_texts(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        [f"text {number} " + "é€漢"[number % 3] * (number % 50), number / 3]
        for number in range(4_000)
    ]
    raw = save_as("xls", build_book(*rows), tmp_path)
    cell_rows = read(raw)
    assert [row[1].text for row in cell_rows] == [str(text).strip() for text, _ in rows]
    assert all(
        abs(float(row[2].text) - float(str(number))) < 1e-9
        for row, (_, number) in zip(cell_rows, rows, strict=True)
    )
