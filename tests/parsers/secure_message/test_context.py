"""Content that a row gets from around it: groups, titles, dates of its column, continued texts."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import openpyxl
import pytest

from parsers.item import InboundItem, RejectedRow, SheetCounts
from parsers.options import DEFAULT_OPTIONS, Options, Profile
from parsers.secure_message import unquoted, workbook
from parsers.secure_message.layout import CONTINUED, GROUP_LABEL
from parsers.secure_message.row import OPEN_DATE, SWAPPED_DATE
from parsers.spreadsheets.cell_values import PERHAPS_CUT
from tests.support.workbooks import build_book, needs_libreoffice, save_as

Row = list[object]
NAMES = [("Quarry Lane Pediatrics", "Nell Ashby"), ("Sankt-Anna Praxis", "Jörg Öhm")]


def read(
    raw: bytes, options: Options = DEFAULT_OPTIONS
) -> tuple[list[InboundItem], list[RejectedRow], SheetCounts]:
    stream = workbook.stream(raw, options)
    results = list(stream)
    counts = stream.sheets[0]
    assert counts.accounted == counts.rows
    items = [one for one in results if isinstance(one, InboundItem)]
    return items, [one for one in results if isinstance(one, RejectedRow)], counts


def write_text(rows: Sequence[Sequence[object]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(["" if cell is None else cell for cell in row] for row in rows)
    return out.getvalue().encode()


def build_all(*rows: Row) -> list[bytes]:
    """The same rows as a workbook and as a text file."""
    return [build_book(*rows), write_text(rows)]


# -- dates ----


def list_days(items: list[InboundItem]) -> list[str]:
    return [f"{item.sent_at:%Y-%m-%d}" for item in items if item.sent_at]


def is_open(item: InboundItem) -> bool:
    return any(caveat.startswith(OPEN_DATE.partition("{")[0]) for caveat in item.caveats)


def build_dates(*days: object) -> list[Row]:
    heading: Row = ["Date Received", "Practice", "From", "Message"]
    rows = [[day, *NAMES[0], f"Message {number}."] for number, day in enumerate(days)]
    return [heading, *rows]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (["03/08/2026 09:00", "26/06/2026 09:00"], ["2026-08-03", "2026-06-26"]),
        (["03/08/2026", "06/26/2026"], ["2026-03-08", "2026-06-26"]),
        (["3.8.2026", "26.6.2026"], ["2026-08-03", "2026-06-26"]),
        (["3-8-26", "26-6-26"], ["2026-08-03", "2026-06-26"]),
    ],
)
def test_one_date_decides_how_all_of_its_column_are_read(
    days: list[object], expected: list[str]
) -> None:
    for order in (1, -1):
        for raw in build_all(*build_dates(*days[::order])):
            items, _, _ = read(raw)
            assert list_days(items) == expected[::order]
            assert not any(map(is_open, items))


def test_a_date_far_below_decides_as_well() -> None:
    days = [*["03/08/2026"] * 200, "26/06/2026"]
    for raw in build_all(*build_dates(*days)):
        items, _, _ = read(raw)
        assert set(list_days(items)) == {"2026-08-03", "2026-06-26"}


@pytest.mark.parametrize(
    ("days", "doubtful"),
    [
        (["03/08/2026", "10/06/2026", "05/05/2026"], [True, True, False]),
        (["03/08/2026", "26/06/2026", "06/26/2026"], [True, False, False]),
        (["2026-08-03", "Aug 3, 2026", "03/08/2026"], [False, False, True]),
    ],
)
def test_what_stays_open_is_said(days: list[object], doubtful: list[bool]) -> None:
    for raw in build_all(*build_dates(*days)):
        items, _, _ = read(raw)
        assert list(map(is_open, items)) == doubtful


@pytest.mark.parametrize("order", ["mdy", "dmy"])
def test_what_a_profile_says_is_no_doubt(order: str) -> None:
    options = Options(profiles=(Profile(name="ours", date_order=order),))
    items, _, _ = read(build_book(*build_dates("03/08/2026")), options)
    assert list_days(items) == [{"mdy": "2026-03-08", "dmy": "2026-08-03"}[order]]
    assert not is_open(items[0])


def test_date_cells_among_texts_with_the_day_first_are_perhaps_swapped() -> None:
    days = ["26/06/2026", datetime(2026, 3, 8)]  # noqa: DTZ001 - a workbook's days have no zone
    items, _, _ = read(build_book(*build_dates(*days)))
    assert [SWAPPED_DATE in item.caveats for item in items] == [False, True]


# -- groups and titles ----


def list_groups(item: InboundItem) -> list[str]:
    return [text for label, text in item.details if label == GROUP_LABEL]


@pytest.mark.parametrize("blank", [0, 1])
@pytest.mark.parametrize("label", ["Practice: {}", "{}", "Client: {} (2)", "Practice name: {}"])
def test_a_group_row_reaches_the_rows_below_it(label: str, blank: int) -> None:
    groups = [
        [[label.format(practice)], ["11/13/2026", name, "Claim 7 was denied."], *[[]] * blank]
        for practice, name in NAMES
    ]
    rows: list[Row] = [["Date", "From", "Message"], *(row for group in groups for row in group)]
    for raw in build_all(*rows):
        items, rejected_rows, counts = read(raw)
        assert (len(items), rejected_rows, counts.titles) == (2, [], 2)
        for item, (practice, name) in zip(items, NAMES, strict=True):
            assert item.sender.name == name
            assert list_groups(item) == [label.format(practice)]
            assert item.company == ("" if label == "{}" else practice)


def test_a_practice_alone_in_its_column_counts_for_the_rows_that_lack_it() -> None:
    rows: list[Row] = [["Practice", "From", "Message"]]
    for practice, name in NAMES:
        rows += [[practice], [None, name, "One of two."], [None, name, "Two of two."]]
    for raw in build_all(*rows):
        items, rejected_rows, _ = read(raw)
        assert rejected_rows == []
        assert [item.company for item in items] == [p for p, _ in NAMES for _ in range(2)]


def test_a_practice_alone_above_another_s_row_lacks_its_message() -> None:
    rows: list[Row] = [["Practice", "From", "Message"], ["Elm Dental"], [*NAMES[0], "A text."]]
    for raw in build_all(*rows):
        items, rejected_rows, _ = read(raw)
        assert ([item.company for item in items], len(rejected_rows)) == ([NAMES[0][0]], 1)


@pytest.mark.parametrize("group", ["November 2026", "Week 45", "Open", "11/13/2026"])
def test_a_month_above_its_rows_reaches_them(group: str) -> None:
    rows: list[Row] = [["Date", "Practice", "From", "Message"], [group]]
    rows += [["11/13/2026", *NAMES[0], "A text."], ["Closed"], ["11/13/2026", *NAMES[1], "Other."]]
    for raw in build_all(*rows):
        items, rejected_rows, counts = read(raw)
        assert [list_groups(item) for item in items] == [[group], ["Closed"]]
        assert (rejected_rows, counts.titles) == ([], 2)
        assert [item.company for item in items] == [name for name, _ in NAMES]


def test_the_subtotal_of_a_group_is_no_request() -> None:
    rows: list[Row] = [["Date", "From", "Message"]]
    for practice, name in NAMES:
        rows += [[practice], ["11/13/2026", name, "A text."], [f"{practice} Total", None, 1]]
    rows.append(["Grand Total", None, 2])
    for raw in build_all(*rows):
        items, rejected_rows, counts = read(raw)
        assert (len(items), rejected_rows, counts.footers) == (2, [], 3)
    by_column: list[Row] = [["Practice", "From", "Message"]]
    by_column += [[*NAMES[0], "A text."], [f"{NAMES[0][0]} Count", None, 1]]
    items, rejected_rows, counts = read(build_book(*by_column))
    assert (len(items), rejected_rows, counts.footers) == (1, [], 1)


def test_total_behind_a_name_that_is_no_group_is_somebody_s_word() -> None:
    rows: list[Row] = [["Practice", "From", "Message"], [*NAMES[0], "A text."], ["Elm Total", "Jo"]]
    _, rejected_rows, counts = read(build_book(*rows))
    assert (len(rejected_rows), counts.footers) == (1, 0)


@pytest.mark.parametrize(
    "title",
    [
        ["Practice: Quarry Lane"],
        ["Practice:", "Quarry Lane"],
        ["Practice Name", "Quarry Lane"],
        ["Client: Quarry Lane", None],
    ],
)
def test_a_title_that_names_the_practice_counts_for_its_table(title: Row) -> None:
    rows: list[Row] = [["Secure messages"], title, [], ["Date", "From", "Message"]]
    rows += [["11/13/2026", "Nell Ashby", "A text."]]
    for raw in build_all(*rows):
        items, _, _ = read(raw)
        assert [item.company for item in items] == ["Quarry Lane"]
        assert "practice not given" not in items[0].caveats


def test_a_practice_in_the_row_goes_before_that_of_the_title() -> None:
    rows: list[Row] = [["Practice: All"], ["Client: Elm"], ["Practice", "From", "Message"]]
    rows += [[*NAMES[0], "A text."], [None, "Jo", "Another."]]
    items, _, _ = read(build_book(*rows))
    assert [item.company for item in items] == [NAMES[0][0], "Elm"]


# -- continued texts ----


@pytest.mark.parametrize(
    ("text", "more", "joined"),
    [
        ("Claim 71 was denied because", "the modifier is missing.", True),
        ("These claims are open:", "71, 72 and 73", True),
        ("The remittance of June for our second office in Elm Street has not", "Come yet", True),
        ("Claim 71 was denied.", "Total charges do not match", False),
        ("Claim 71 was denied", "Page 3 of the letter is blank", False),
        ("Claim 71 was denied:", "Page 1 of 2", False),
        ("Claim 71 was denied:", "Total 14", False),
    ],
)
def test_a_text_that_goes_on_in_the_next_row(text: str, more: str, *, joined: bool) -> None:
    rows: list[Row] = [["Practice", "From", "Message"], [*NAMES[0], text], [None, None, more]]
    rows.append([*NAMES[1], "Our fax is new."])
    for raw in build_all(*rows):
        items, rejected_rows, counts = read(raw)
        assert [item.text for item in items] == [
            f"{text}\n{more}" if joined else text,
            "Our fax is new.",
        ]
        assert (counts.continued, len(rejected_rows)) == ((1, 0) if joined else (0, 1))
        assert (CONTINUED.format(rows="row 3") in items[0].caveats) is joined


# -- values ----


@pytest.mark.parametrize("guarded", ['="00471"', "'00471"])
def test_a_guarded_value_is_the_value(guarded: str) -> None:
    rows: list[Row] = [["Message ID", "Practice ID", "Phone", "From", "Message"]]
    rows.append(['="00088211"', guarded, guarded.replace("00471", "5550104477"), "Jo", "A text."])
    for raw in (*build_all(*rows), "\n".join(",".join(map(str, r)) for r in rows).encode()):
        [item], _, _ = read(raw)
        assert (item.external_id, item.company_number, item.phone) == (
            "00088211",
            "00471",
            "5550104477",
        )


@pytest.mark.parametrize(("length", "is_cut"), [(32_766, False), (32_767, True), (32_768, False)])
def test_a_text_as_long_as_a_cell_is_perhaps_cut(length: int, *, is_cut: bool) -> None:
    rows: list[Row] = [["Practice", "From", "Message"], [*NAMES[0], "x" * length]]
    raws = build_all(*rows) if length <= 32_767 else [write_text(rows)]
    for raw in raws:
        [item], _, _ = read(raw)
        assert any(PERHAPS_CUT in caveat for caveat in item.caveats) is is_cut
        assert len(item.text) == length


# -- unquoted commas ----

LINES = ["Date", "Practice", "From", "Message", "Status"]


@pytest.mark.parametrize(
    ("line", "practice", "sender", "text"),
    [
        ("11/13/2026,Elm,Jo,Claims 71, 72 and 73,Open", "Elm", "Jo", "Claims 71, 72 and 73"),
        ("11/13/2026,Elm,Jo,Claims 71,72,73,Open", "Elm", "Jo", "Claims 71,72,73"),
        ("11/13/2026,Elm, Oak and Co,Jo,A text,Open", "Elm, Oak and Co", "Jo", "A text"),
        ("11/13/2026,Elm,Jo,Claims 71, 72,Open,,,", "Elm", "Jo", "Claims 71, 72"),
    ],
)
def test_unquoted_commas(line: str, practice: str, sender: str, text: str) -> None:
    raw = "\n".join([",".join(LINES), "11/12/2026,Oak,Sam,A text,Closed", line]).encode()
    items, _, _ = read(raw)
    assert (items[1].company, items[1].sender.name, items[1].text) == (practice, sender, text)
    assert ("Status", "Open") in items[1].details
    assert unquoted.JOINED in items[1].caveats
    assert any(label == unquoted.LINE_LABEL for label, _ in items[1].details)
    assert unquoted.JOINED not in items[0].caveats


def test_a_line_whose_columns_stay_unknown_is_rejected() -> None:
    heading = "Practice,From,Email,Message,Date"
    line = "Elm,Oak,Jo,jo@elm.example,A text,more,and more,11/13/2026"
    _, rejected_rows, _ = read(f"{heading}\nA,B,b@a.example,Text,11/13/2026\n{line}\n".encode())
    assert [row.row for row in rejected_rows] == [3]
    assert unquoted.UNSURE in rejected_rows[0].reason


def test_commas_at_the_end_of_every_line_mean_nothing() -> None:
    raw = b"Practice,From,Message\nElm,Jo,A text,,,\nOak,Sam,A text,\n"
    items, _, _ = read(raw)
    assert [item.text for item in items] == ["A text", "A text"]
    assert not any(unquoted.JOINED in item.caveats for item in items)


# -- all formats ----


@needs_libreoffice
@pytest.mark.parametrize("kind", ["xls", "ods", "xlsx"])
def test_every_format_says_the_same(kind: str, tmp_path: Path) -> None:
    made = openpyxl.Workbook()
    sheet = made.worksheets[0]
    rows: list[Row] = [["Practice: Elm Dental"], [], ["Date", "From", "Message"]]
    rows += [["Open"], ["26/06/2026", "Jo", "Claim 71 was denied because"]]
    rows += [[None, None, "the modifier is missing."], ["03/08/2026", "Jo", "y" * 32_767]]
    rows += [["Open Total", None, 2]]
    for row in rows:
        sheet.append(row)
    out = io.BytesIO()
    made.save(out)
    items, rejected_rows, counts = read(save_as(kind, out.getvalue(), tmp_path))
    assert (list_days(items), rejected_rows) == (["2026-06-26", "2026-08-03"], [])
    assert [item.company for item in items] == ["Elm Dental"] * 2
    assert [list_groups(item) for item in items] == [["Open"]] * 2
    assert (counts.continued, counts.footers, counts.titles) == (1, 1, 2)
    assert any(PERHAPS_CUT in caveat for caveat in items[1].caveats)


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1]])
@pytest.mark.parametrize("order", [1, -1])
def test_other_names_and_another_order_of_columns_change_nothing(
    names: list[tuple[str, str]], order: int
) -> None:
    rows: list[Row] = [["Date", "Practice", "From", "Message"]]
    rows += [["26/06/2026", *name, f"Claim {n} is open:"] for n, name in enumerate(names)]
    rows += [[None, None, None, "it was denied."]]
    for raw in build_all(*(row[::order] for row in rows)):
        items, _, counts = read(raw)
        assert [(item.company, item.sender.name) for item in items] == names
        assert counts.continued == 1
