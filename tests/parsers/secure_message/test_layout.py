"""Layout of a sheet: headings, titles, footers and requests, by where they stand."""

from pathlib import Path

import openpyxl
import pytest
from openpyxl.worksheet.table import Table as DeclaredTable
from openpyxl.worksheet.worksheet import Worksheet

from parsers.item import InboundItem, RejectedRow, SheetCounts
from parsers.secure_message import layout, workbook
from parsers.secure_message.layout import BESIDE_TABLE, DOUBTFUL, INCOMPLETE, NO_HEADINGS
from parsers.secure_message.row import NO_SENDER, NO_TEXT
from tests.support import workbooks
from tests.support.workbooks import (
    Edit,
    build_book,
    build_cell,
    build_xlsb,
    encode_wide,
    needs_libreoffice,
)

HEADING: list[object] = ["Practice", "From", "Message"]
FIRST: list[object] = ["Larkspur Clinic", "Ida Moss", "The remittance of June is missing."]
SECOND: list[object] = ["Elm Dental", "Theo Ward", "Our fax number has changed."]


def read(raw: bytes) -> tuple[list[InboundItem], list[RejectedRow], SheetCounts]:
    """Items, rejected rows and the counts of the first sheet, which add up."""
    stream = workbook.stream(raw)
    results = list(stream)
    counts = stream.sheets[0]
    assert counts.accounted == counts.rows
    items = [one for one in results if isinstance(one, InboundItem)]
    return items, [one for one in results if isinstance(one, RejectedRow)], counts


def parse_requests(*rows: list[object], edit: Edit | None = None) -> list[tuple[str, str, str]]:
    items, rejected_rows, _ = read(build_book(*rows, edit=edit))
    assert rejected_rows == []
    return [(item.company, item.sender.name, item.text) for item in items]


def get_sheet(made: openpyxl.Workbook) -> Worksheet:
    found = made.worksheets[0]
    assert isinstance(found, Worksheet)
    return found


# -- footers ----


@pytest.mark.parametrize(
    "text",
    [
        "Total charges do not match",
        "Generated invoices are missing a page",
        "Page 3 of the letter is blank",
        "Page 1 of 2",
        "End of report",
        "Grand total",
        "Printed 1/5/2026",
        "Total 14",
    ],
)
def test_whatever_stands_under_the_message_heading_is_read_or_rejected(text: str) -> None:
    alone: list[object] = [None, None, text]
    first_row: list[object] = ["Elm Dental", None, text]
    for rows in ([FIRST, alone], [alone, FIRST], [FIRST, alone, SECOND]):
        items, rejected_rows, counts = read(build_book(HEADING, *rows))
        assert [row.reason for row in rejected_rows] == [NO_SENDER]
        assert dict(rejected_rows[0].values)["Message"] == text
        assert counts.footers == 0
        assert len(items) == len(rows) - 1
    assert (first_row[0], "", text) in parse_requests(HEADING, FIRST, first_row)


@pytest.mark.parametrize(
    "row",
    [
        ["Page 1 of 2"],
        ["Generated 1/5/2026 10:00 by Ida"],
        ["End of report"],
        ["Grand Total", 2],
        ["Total messages: 14"],
        ["Total", None, 2],
        ["2 records"],
        ["Page", 1],
        ["Exported 2026-06-01T08:15:00"],
        ["Report generated on June 1, 2026 at 8:15 PM by Ida O'Moss"],
        ["Printed by ida@larkspur.example on 01.06.2026"],
        ["Run:", "1 Jun 2026"],
    ],
)
def test_what_a_report_prints_behind_its_last_row_is_a_footer_with_its_place(
    row: list[object],
) -> None:
    items, rejected_rows, counts = read(build_book(HEADING, FIRST, SECOND, [], row))
    assert (len(items), rejected_rows) == (2, [])
    assert (counts.footers, counts.footer_places, counts.blank) == (1, "5", 1)


@pytest.mark.parametrize("footer", [["Total", None, 1], ["End of report"], ["Page 1 of 1"]])
@pytest.mark.parametrize("note", ["Call Ann Archer about claim 7", "For internal use"])
def test_a_note_below_a_footer_is_rejected(footer: list[object], note: str) -> None:
    items, [rejected_row], counts = read(build_book(HEADING, FIRST, footer, [note]))
    assert (len(items), counts.footer_places) == (1, "3")
    assert (rejected_row.row, note in dict(rejected_row.values).values()) == (4, True)


@pytest.mark.parametrize(
    "row",
    [
        ["Total Care"],
        ["Generated twice"],
        ["End of the month"],
        ["Larkspur Clinic"],
        ["Printed 1/5/2026, please send claim 7 of Ann Archer again"],
        ["Printed 1/5/2026 please send it again"],
        ["Printed 1/5/2026 8:00 by Ida, and sent twice"],
        ["Created by mistake 1/5/2026"],
        ["Created by mistake 1/5: claim 7, please void"],
        ["Generated claim 7 twice on 1/5/2026"],
        ["Exported 3 files"],
        ["Run again batch 7"],
        ["Run claim 12, 2026"],
        ["Page 3 is missing"],
        ["Total unpaid 17, please look"],
        ["12 records are missing"],
    ],
)
def test_what_is_no_footer_as_a_whole_is_rejected(row: list[object]) -> None:
    _, [rejected_row], counts = read(build_book(HEADING, FIRST, row))
    assert (rejected_row.row, rejected_row.reason) == (3, NO_TEXT)
    assert counts.footers == 0


def test_a_footer_in_the_middle_of_a_table_is_none_but_for_page_numbers_and_totals() -> None:
    items, [rejected_row], counts = read(
        build_book(HEADING, FIRST, ["Printed 1/5/2026"], ["Page 1"], ["Total", None, 1], SECOND)
    )
    assert (len(items), rejected_row.row, counts.footer_places) == (2, 3, "4-5")


def test_a_total_that_the_workbook_declares_is_no_request() -> None:
    def declare(made: openpyxl.Workbook) -> None:
        table = DeclaredTable(displayName="Messages", ref="A1:C4", totalsRowCount=1)
        get_sheet(made).add_table(table)

    total: list[object] = ["Summe", None, "=SUBTOTAL(103,C2:C3)"]
    assert len(parse_requests(HEADING, FIRST, SECOND, total, edit=declare)) == 2
    words: list[object] = ["Summe", None, "is this the total?"]
    assert parse_requests(HEADING, FIRST, SECOND, words, edit=declare)[2][2] == "is this the total?"


# -- several tables ----


def test_tables_one_below_another_are_read_each_under_its_own_heading() -> None:
    second: list[list[object]] = [
        ["From", "Received", "Message", "Practice"],
        ["Theo Ward", "1/5/2026", "Fax.", "Elm Dental"],
    ]
    third: list[list[object]] = [
        ["Message", "Practice", "From", "Phone", "Status"],
        ["Lab.", "Oak Care", "Uma Reed", "555", "New"],
    ]
    raw = build_book(["Today"], HEADING, FIRST, [], ["Earlier"], *second, *third)
    items, rejected_rows, counts = read(raw)
    assert rejected_rows == []
    assert [(item.company, item.sender.name, item.text) for item in items] == [
        tuple(FIRST),
        ("Elm Dental", "Theo Ward", "Fax."),
        ("Oak Care", "Uma Reed", "Lab."),
    ]
    above = [dict(item.details).get("Above the table", "") for item in items]
    assert above == ["Today", "Earlier", ""]
    assert (counts.heading_places, counts.title_places) == ("2, 6, 8", "1, 5")


def test_a_second_heading_far_below_begins_a_table_too() -> None:
    many = [["Larkspur Clinic", f"Sender {number}", f"Message {number}"] for number in range(34)]
    other: list[list[object]] = [
        ["Date", "From", "Practice", "Message"],
        ["1/5/2026", "Theo", "Elm", "Fax."],
    ]
    found = parse_requests(HEADING, *many, *other)  # type: ignore[arg-type]
    assert len(found) == 35
    assert found[-1] == ("Elm", "Theo", "Fax.")


def test_a_heading_far_below_the_top_is_found_and_what_stands_above_is_rejected() -> None:
    above: list[list[object]] = [[f"a{n}", f"b{n}", f"c{n}"] for n in range(40)]
    items, rejected_rows, counts = read(build_book(*above, HEADING, FIRST))
    assert [item.text for item in items] == [FIRST[2]]
    assert [row.row for row in rejected_rows] == list(range(1, 41))
    assert {row.reason for row in rejected_rows} == {NO_HEADINGS}
    assert counts.heading_places == "41"


def test_a_second_heading_of_two_rows_that_begins_like_the_first() -> None:
    upper: list[object] = ["Practice", None, "Message", None]
    lower: list[object] = ["Name", "ID", "Date", "Text"]
    items, rejected_rows, counts = read(
        build_book(
            HEADING, FIRST, [], ["Done"], upper, lower, ["Oak Care", "42", "1/5/2026", "Lab."]
        )
    )
    assert (items[1].company, items[1].company_number, items[1].text) == ("Oak Care", "42", "Lab.")
    assert (rejected_rows, counts.heading_places, counts.title_places) == ([], "1, 5-6", "4")


@pytest.mark.parametrize(
    "heading",
    [["Caller", "Clinic", "Message"], ["Date", "Clinic", "Caller", "Text", "Insurer", "Region"]],
)
def test_a_second_heading_with_words_nobody_knows_is_one_and_is_shown_too(
    heading: list[object],
) -> None:
    values: list[object] = [f"Value {column}" for column in heading]
    items, [rejected_row], _ = read(build_book(HEADING, FIRST, [], heading, values))
    assert (rejected_row.row, rejected_row.reason) == (4, DOUBTFUL)
    assert (items[1].company, items[1].text) == (
        "Value Clinic",
        values[2] if len(heading) == 3 else "Value Text",
    )


@pytest.mark.parametrize(
    "text", ["Question?", "Comments, please", "Message 7", "Notes. Again.", "Ask a@x.example"]
)
def test_a_request_of_words_that_are_headings_is_a_request(text: str) -> None:
    assert parse_requests(HEADING, FIRST, ["Clinic", "Contact", text])[1] == (
        "Clinic",
        "Contact",
        text,
    )


def test_a_heading_repeated_on_every_page_begins_no_table_and_is_counted() -> None:
    items, rejected_rows, counts = read(
        build_book(HEADING, FIRST, ["Page 1 of 2"], HEADING, SECOND, ["Page 2 of 2"])
    )
    assert (len(items), rejected_rows) == (2, [])
    assert (counts.heading_places, counts.footer_places) == ("1, 4", "3, 6")


def test_a_heading_of_two_rows_repeats_row_by_row() -> None:
    upper: list[object] = ["Practice", None, "Message", None]
    lower: list[object] = ["Name", "ID", "Date", "Text"]
    items, rejected_rows, counts = read(
        build_book(
            upper,
            lower,
            ["Elm", "0042", "1/5/2026", "One."],
            upper,
            lower,
            ["Elm", "0042", "1/5/2026", "Two."],
        )
    )
    assert ([item.text for item in items], rejected_rows, counts.heading_places) == (
        ["One.", "Two."],
        [],
        "1-2, 4-5",
    )


def test_a_message_of_the_word_message_is_one() -> None:
    assert (
        parse_requests(HEADING, ["Elm Dental", "Theo", "Message"], ["Elm", "From", "Message"])[0][2]
        == "Message"
    )
    _, [rejected_row], _ = read(build_book(HEADING, FIRST, [None, None, "Message"]))
    assert rejected_row.reason == NO_SENDER


def test_rows_of_a_table_that_holds_no_messages_are_rejected_and_say_why() -> None:
    balances: list[list[object]] = [
        ["Practice", "Status", "Date"],
        ["Elm Dental", "Open", "1/5/2026"],
    ]
    items, rejected_rows, counts = read(build_book(HEADING, FIRST, [], *balances))
    assert len(items) == 1
    assert [(row.row, row.reason) for row in rejected_rows] == [
        (row, INCOMPLETE.format(missing="the message text")) for row in (4, 5)
    ]
    assert counts.rejected == 2
    assert ("Column A", "Elm Dental") in rejected_rows[1].values


def test_tables_side_by_side_are_read_each_by_itself() -> None:
    heading = [*HEADING, None, "Practice", "From", "Message"]
    rows: list[list[object]] = [
        [*FIRST, None, *SECOND],
        [None, None, None, None, "Oak Care", "Uma", "Lab."],
    ]
    items, [rejected_row], _ = read(
        build_book(heading, *rows, [None, "Ida", None, None, "Ash", "Bo", "Call."])
    )
    assert {item.text for item in items} == {FIRST[2], SECOND[2], "Lab.", "Call."}
    assert {item.company for item in items} == {FIRST[0], SECOND[0], "Oak Care", "Ash"}
    assert (rejected_row.sheet, rejected_row.row) == ("Sheet, columns A to C", 4)


BESIDE_EACH_OTHER: list[list[object]] = [
    ["Practice", "From", "Message", "Practice", "From", "Message"],
    ["Message", "From", "Practice", "Message", "From", "Practice"],
    ["Clinic", "Sender", "Text", "Practice", "From", "Message"],
    ["Practice", "From", "Message", "|", "Practice", "From", "Message"],
    ["#", "Practice", "From", "Message", "Status", "#", "Practice", "From", "Message", "Status"],
    ["Practice", "From", None, "Message", "Practice", "From", None, "Message"],
    ["From", "Practice", "Message", "Practice", "From", "Date", "Message"],
    [
        "Practice",
        "From",
        "Message",
        "Practice",
        "From",
        "Message",
        None,
        "Practice",
        "From",
        "Message",
    ],
    ["Practice", "From", "Message", "Practice", "From", "Message", "Practice", "From", "Message"],
]


@pytest.mark.parametrize("heading", BESIDE_EACH_OTHER)
def test_tables_without_a_blank_column_between_them_are_read_each_by_itself(
    heading: list[object],
) -> None:
    kinds = {"Practice": "clinic", "Clinic": "clinic", "Sender": "person", "From": "person"}
    kinds |= {"Message": "words", "Text": "words"}
    counts: dict[str, int] = {}
    row: list[object] = []
    for label in heading:
        kind = kinds.get(str(label), "")
        counts[kind] = counts.get(kind, 0) + 1
        row.append(f"{kind} {counts[kind]}" if kind else None)
    tables = counts["words"]
    only_last: list[object] = [value if str(value).endswith(str(tables)) else None for value in row]
    only_last = [f"{value} again" if value else None for value in only_last]
    items, rejected_rows, _ = read(build_book(heading, row, only_last))
    assert rejected_rows == []
    expected = [(f"clinic {n}", f"person {n}", f"words {n}") for n in range(1, tables + 1)]
    again = (f"clinic {tables} again", f"person {tables} again", f"words {tables} again")
    assert [(item.company, item.sender.name, item.text) for item in items] == [*expected, again]


def test_a_sender_without_words_takes_none_from_the_table_beside() -> None:
    heading: list[object] = ["From", "Message", "From", "Message"]
    items, [rejected_row], _ = read(build_book(heading, ["Ida", None, "Theo", "Fax."]))
    assert [(item.sender.name, item.text, item.details) for item in items] == [("Theo", "Fax.", ())]
    assert (rejected_row.reason, rejected_row.sheet) == (NO_TEXT, "Sheet, columns A to B")


@pytest.mark.parametrize(
    "more",
    [
        ["Message"],
        ["Notes"],
        ["Notes", "Practice ID"],
        ["Notes", "Email"],
        ["Created by", "Notes"],
        ["Comments", "Contact", "Status"],
        ["Message", "Message", "Status"],
    ],
)
def test_more_columns_of_text_or_of_people_make_no_second_table(more: list[object]) -> None:
    values: list[object] = [f"7{place} value" for place in range(len(more))]
    items, rejected_rows, _ = read(build_book([*HEADING, *more], [*FIRST, *values]))
    assert (len(items), rejected_rows) == (1, [])
    assert (items[0].company, items[0].sender.name) == tuple(FIRST[:2])


@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize("gap", [[], [None], [None, None]])
@pytest.mark.parametrize(
    "heading", [HEADING, ["From", "Message"], ["Date", "From", "Text", "Clinic"]]
)
def test_a_table_that_begins_beside_another_further_down_takes_none_of_its_rows(
    heading: list[object], gap: list[object], length: int
) -> None:
    values = {"Practice": "Oak", "Clinic": "Oak", "From": "Bo", "Message": "Call.", "Text": "Call."}
    right: list[object] = [values.get(str(label), "1/5/2026") for label in heading]
    left: list[list[object]] = [["Elm", "Ida", f"Left {n}. " * length] for n in range(4)]
    rows: list[list[object]] = [
        HEADING,
        left[0],
        [*left[1], *gap, *heading],
        [*left[2], *gap, *right],
        [*left[3], *gap, *heading],
    ]
    items, rejected_rows, counts = read(build_book(*rows))
    assert rejected_rows == []
    assert [item.text for item in items if item.sender.name == "Ida"] == [
        str(row[2]).strip() for row in left
    ]
    assert [item.text for item in items if item.sender.name == "Bo"] == ["Call."]
    assert {item.company for item in items} <= {"Elm", "Oak", ""}
    assert [item.details for item in items] == [()] * 5
    assert (counts.heading_places, counts.headings) == ("1, 3, 5", 3)


def test_a_table_on_the_left_may_begin_further_down_too() -> None:
    blank: list[object] = [None] * 4
    rows: list[list[object]] = [[*blank, *HEADING], [*blank, *FIRST], [*HEADING, None, *SECOND]]
    items, rejected_rows, _ = read(
        build_book(*rows, [*SECOND[:2], "Left.", None, *FIRST[:2], "Right."])
    )
    assert rejected_rows == []
    assert {(item.company, item.text) for item in items} == {
        (FIRST[0], FIRST[2]),
        (SECOND[0], SECOND[2]),
        (SECOND[0], "Left."),
        (FIRST[0], "Right."),
    }


def test_a_table_below_in_other_columns_begins_by_itself() -> None:
    blank: list[object] = [None] * 3
    items, _, _ = read(
        build_book(HEADING, FIRST, [], [*blank, "Oak"], [*blank, *HEADING], [*blank, *SECOND])
    )
    assert [item.text for item in items] == [FIRST[2], SECOND[2]]


def test_a_summary_beside_the_messages_lends_them_no_practice() -> None:
    heading = ["From", "Practice", "Message", None, "Practice", "Count"]
    items, _, _ = read(build_book(heading, ["Ida", None, "Please call.", None, "Elm Dental", 3]))
    assert items[0].company == ""
    assert dict(items[0].details) == {"Practice": "Elm Dental", "Count": "3"}


# -- what stands around a table ----


def test_titles_and_the_name_of_the_sheet_belong_to_the_rows_below() -> None:
    def name(made: openpyxl.Workbook) -> None:
        get_sheet(made).title = "Larkspur"

    titles: list[list[object]] = [
        ["Inbox of the week"],
        ["Practice: Larkspur"],
        [],
        ["Printed for", "Ida"],
    ]
    items, rejected_rows, counts = read(
        build_book(*titles, ["From", "Message"], ["Ida", "One."], ["Bo", "Two."], edit=name)
    )
    details = (
        ("Above the table", "Inbox of the week\nPractice: Larkspur\nPrinted for Ida"),
        ("Sheet", "Larkspur"),
    )
    assert [item.details for item in items] == [details, details]
    assert (rejected_rows, counts.title_places) == ([], "1-2, 4")


@pytest.mark.parametrize("blank", [[], [[]]])
@pytest.mark.parametrize("label", ["Practice: {}", "{}", "Client:{}", "Messages of {}"])
@pytest.mark.parametrize("second", [["From", "Message"], ["FROM", "MESSAGE:"], ["Sender", "Text"]])
def test_titles_right_above_a_further_heading_belong_to_what_follows(
    blank: list[list[object]], label: str, second: list[object]
) -> None:
    first: list[list[object]] = [[label.format("Elm")], ["From", "Message"], ["Ida", "One."]]
    then: list[list[object]] = [[label.format("Oak Care")], second, ["Bo", "Two."]]
    items, rejected_rows, counts = read(build_book(*first, *blank, *then))
    assert rejected_rows == []
    assert [dict(item.details)["Above the table"] for item in items] == [
        label.format("Elm"),
        label.format("Oak Care"),
    ]
    assert (counts.headings, counts.titles) == (2, 2)


def test_a_heading_repeated_without_titles_keeps_those_of_its_table() -> None:
    heading: list[object] = ["From", "Message"]
    rows: list[list[object]] = [["Ida", "One."], ["Page 1 of 2"], heading, ["Bo", "Two."]]
    items, rejected_rows, _ = read(build_book(["Practice: Elm"], heading, *rows))
    assert rejected_rows == []
    assert {dict(item.details)["Above the table"] for item in items} == {"Practice: Elm"}


def test_a_long_title_repeated_on_every_page_is_one() -> None:
    title: list[object] = ["Messages that came in from the first to the last of June."]
    items, rejected_rows, counts = read(
        build_book(title, HEADING, FIRST, ["Page 1 of 2"], title, HEADING, SECOND)
    )
    assert (len(items), rejected_rows, counts.title_places) == (2, [], "1, 5")


@pytest.mark.parametrize(
    "note",
    [
        "Please note: the patient Ann Archer of Elm was denied twice",
        "Call Ann Archer back.",
        "Ann was denied twice, and nobody has called her so far",
    ],
)
@pytest.mark.parametrize("second", [["From", "Message"], ["Sender", "Text"]])
def test_a_sentence_between_two_tables_is_rejected_and_on_no_request(
    note: str, second: list[object]
) -> None:
    rows: list[list[object]] = [["Practice: Elm"], ["From", "Message"], ["Ida", "One."], [], [note]]
    items, [rejected_row], _ = read(build_book(*rows, second, ["Bo", "Two."]))
    assert (rejected_row.row, note in dict(rejected_row.values).values()) == (5, True)
    assert [item.details for item in items] == [(("Above the table", "Practice: Elm"),), ()]


def test_a_title_that_reaches_under_the_message_heading_is_rejected_and_shown_below() -> None:
    heading: list[object] = ["From", "Message", "Date"]
    above: list[list[object]] = [heading, ["Ida", "One.", "1/5/2026"], ["Total", 1], []]
    below: list[list[object]] = [["Oak Care", "account 12"], heading, ["Bo", "Two.", "1/6/2026"]]
    items, [rejected_row], _ = read(build_book(*above, *below))
    assert (rejected_row.row, rejected_row.reason) == (5, layout.DOUBTFUL_TITLE)
    assert [item.details for item in items] == [(), (("Above the table", "Oak Care account 12"),)]
    without_blank = [row for row in [*above, *below] if row]
    assert ("", "Oak Care", "account 12") in parse_requests(*without_blank)


@pytest.mark.parametrize("gap", [[], [None]])
def test_titles_over_tables_side_by_side_belong_to_the_one_below_them(gap: list[object]) -> None:
    heading = ["From", "Message", *gap, "From", "Message"]
    values = ["Ida", "One.", *gap, "Bo", "Two."]
    items, _, _ = read(build_book(["Practice: Elm", None, *gap, "Practice: Oak"], heading, values))
    assert [dict(item.details)["Above the table"] for item in items] == [
        "Practice: Elm",
        "Practice: Oak",
    ]
    items, _, _ = read(build_book(["All of June"], heading, values))
    assert [dict(item.details)["Above the table"] for item in items] == ["All of June"] * 2


@pytest.mark.parametrize("name", ["Sheet", "Sheet1", "Tabelle 2", "Export", "table_3"])
def test_a_usual_sheet_name_is_not_shown(name: str) -> None:
    items, _, _ = read(
        build_book(HEADING, FIRST, edit=lambda made: setattr(get_sheet(made), "title", name))
    )
    assert items[0].details == ()


def test_what_stands_around_a_table_makes_no_other_request_of_a_row() -> None:
    def again(made: openpyxl.Workbook) -> None:
        second = made.create_sheet("All of June")
        for row in (["Everything"], HEADING, FIRST):
            second.append(row)

    items, rejected_rows, _ = read(build_book(HEADING, FIRST, edit=again))
    assert (len(items), rejected_rows) == (1, [])
    assert items[0].caveats[0] == "no e-mail address given"


def test_a_long_text_above_a_table_is_no_title() -> None:
    _, [rejected_row], counts = read(build_book(["Please call us. " * 20], HEADING, FIRST))
    assert (rejected_row.row, counts.titles) == (1, 0)


def test_two_cells_right_above_a_second_heading_are_a_request_without_its_text() -> None:
    _, [rejected_row], counts = read(
        build_book(HEADING, FIRST, ["Elm Dental", "Theo"], ["Message", "From"], ["Call.", "Bo"])
    )
    assert (rejected_row.row, rejected_row.reason, counts.titles) == (3, NO_TEXT, 0)


def test_what_stands_beside_a_table_alone_is_rejected_with_its_column() -> None:
    _, [rejected_row], _ = read(build_book(HEADING, FIRST, [None, None, None, None, "call Ida"]))
    assert (rejected_row.reason, rejected_row.values[-1]) == (
        BESIDE_TABLE,
        ("Column E", "call Ida"),
    )


def test_a_corrected_row_that_stood_under_no_heading_can_be_read() -> None:
    _, [rejected_row], _ = read(build_book(HEADING, FIRST, [None, None, None, None, "call Ida"]))
    labels: list[object] = [label for label, _ in rejected_row.values]
    assert parse_requests(labels, ["Elm", "Ida", "call Ida", None]) == [("Elm", "Ida", "call Ida")]


def test_rows_that_differ_only_in_their_details_are_two_requests() -> None:
    heading: list[object] = ["Practice", "From", "Message", "Patient Name"]
    ann: list[object] = ["Elm", "Bo", "Call.", "Ann A."]
    jo: list[object] = ["Elm", "Bo", "Call.", "Jo B."]
    items, _, counts = read(build_book(heading, ann, jo, jo))
    assert [item.details[0][1] for item in items] == ["Ann A.", "Jo B."]
    assert workbook.OTHER_DETAILS in items[1].caveats
    assert (counts.items, counts.repeated) == (2, 1)


def test_places_of_very_many_headings_stay_short() -> None:
    pages = [row for number in range(60) for row in (HEADING, ["Elm", "Bo", f"Message {number}"])]
    _, _, counts = read(build_book(*pages))
    assert counts.headings == 60
    assert counts.heading_places.endswith(", …")
    assert len(counts.heading_places) < 120


# -- merged cells ----

MERGED: list[list[object]] = [
    HEADING,
    ["Larkspur", "Ida", "One."],
    [None, None, "Two."],
    [None, "Bo", "Three."],
    ["Elm", "Theo", "Four."],
]
REQUESTS = [
    ("Larkspur", "Ida", "One."),
    ("Larkspur", "Ida", "Two."),
    ("Larkspur", "Bo", "Three."),
    ("Elm", "Theo", "Four."),
]


def merge(made: openpyxl.Workbook) -> None:
    get_sheet(made).merge_cells("A2:A4")
    get_sheet(made).merge_cells("B2:B3")


def test_a_merged_cell_counts_for_every_row_it_covers() -> None:
    assert parse_requests(*MERGED, edit=merge) == REQUESTS
    utf16 = workbooks.rewrite_part(
        build_book(*MERGED, edit=merge),
        "xl/worksheets/sheet1.xml",
        lambda xml: xml.decode().encode("utf-16"),
    )
    items, _, _ = read(utf16)
    assert len(items) == 4


@needs_libreoffice
@pytest.mark.parametrize("kind", ["xls", "ods", "html", "xlsx"])
def test_a_merged_cell_counts_in_other_formats_too(kind: str, tmp_path: Path) -> None:
    items, _, _ = read(workbooks.save_as(kind, build_book(*MERGED, edit=merge), tmp_path))
    assert [(item.company, item.sender.name, item.text) for item in items] == REQUESTS


def test_a_merged_cell_counts_in_a_binary_workbook() -> None:
    def line(number: int, *texts: str) -> bytes:
        filled = (build_cell(6, at, encode_wide(text)) for at, text in enumerate(texts) if text)
        return workbooks.build_row(number, *filled)

    rows = b"".join(
        line(at, *(str(text or "") for text in texts)) for at, texts in enumerate(MERGED)
    )
    area = workbooks.record(
        176, (1).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(8)
    ) + workbooks.record(
        176, (1).to_bytes(4, "little") + (2).to_bytes(4, "little") + (b"\1" + bytes(3)) * 2
    )
    items, _, _ = read(build_xlsb(rows, [], [], after=area))
    assert [(item.company, item.sender.name, item.text) for item in items] == REQUESTS


def test_a_merged_cell_counts_in_a_spreadsheet_of_excel_2003() -> None:
    def render_cell(text: object, down: int) -> str:
        return f'<Cell ss:MergeDown="{down}"><Data ss:Type="String">{text}</Data></Cell>'

    def render_cell_at(column: int, text: str) -> str:
        return f'<Cell ss:Index="{column}"><Data ss:Type="String">{text}</Data></Cell>'

    rows = [
        "".join(render_cell(text, 0) for text in HEADING),
        render_cell("Larkspur", 2) + render_cell("Ida", 1) + render_cell("One.", 0),
        render_cell_at(3, "Two."),
        render_cell_at(2, "Bo") + render_cell_at(3, "Three."),
        "".join(render_cell(text, 0) for text in MERGED[4]),
    ]
    inner = "".join(f"<Row>{row}</Row>" for row in rows)
    name = "urn:schemas-microsoft-com:office:spreadsheet"
    table = f'<Worksheet ss:Name="A"><Table>{inner}</Table></Worksheet>'
    raw = f'<?xml version="1.0"?><Workbook xmlns="{name}" xmlns:ss="{name}">{table}</Workbook>'
    items, _, _ = read(raw.encode())
    assert [(item.company, item.sender.name, item.text) for item in items] == REQUESTS


def test_rows_inside_of_a_merged_area_are_no_rows_of_their_own() -> None:
    def area(made: openpyxl.Workbook) -> None:
        for column in "ABC":
            get_sheet(made).merge_cells(f"{column}2:{column}3")

    items, rejected_rows, counts = read(build_book(HEADING, FIRST, [], SECOND, edit=area))
    assert (len(items), rejected_rows, counts.blank) == (2, [], 1)
    assert "this message stands in the file" not in " ".join(items[0].caveats)


def test_a_merged_heading_is_no_value_of_the_rows_below() -> None:
    def tall(made: openpyxl.Workbook) -> None:
        get_sheet(made).merge_cells("A1:A2")

    _, [rejected_row], _ = read(build_book(HEADING, [None, None, "Who is this?"], FIRST, edit=tall))
    assert rejected_row.reason == NO_SENDER


def test_hidden_sheets_are_named() -> None:
    def hide(made: openpyxl.Workbook) -> None:
        made.create_sheet("Old messages").sheet_state = "hidden"

    stream = workbook.stream(build_book(HEADING, FIRST, edit=hide))
    list(stream)
    assert [(one.sheet, one.hidden, one.rows) for one in stream.sheets] == [
        ("Sheet", False, 2),
        ("Old messages", True, 0),
    ]


def test_counts_of_a_sheet_have_no_text_of_a_message() -> None:
    _, _, counts = read(build_book(["Ida Moss called"], HEADING, FIRST, ["Page 1"]))
    assert "Moss" not in repr(counts)
    assert layout.SHEET_LABEL not in repr(counts.title_places)
