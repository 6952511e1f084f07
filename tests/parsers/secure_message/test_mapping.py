"""Mapping of a table: its profile, rows that are no requests, and the place of each column."""

import itertools
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime

import openpyxl
import pytest

from parsers.item import Address, InboundItem, ParseError, RejectedRow
from parsers.options import Options, Profile
from parsers.secure_message import headings, workbook
from parsers.secure_message.row import NO_SENDER, NO_TEXT, name_column
from parsers.spreadsheets.cell_values import CellReader
from parsers.spreadsheets.formats import xlsx_sheet
from parsers.spreadsheets.formats.model import Cell, Row
from parsers.spreadsheets.reader import Table
from parsers.text import dates
from tests.parsers.secure_message.test_workbook import (
    HEADER,
    ROW,
    build_book,
    build_line,
    build_with_cells,
    parse_one,
    read,
)

GERMAN: list[object] = ["Datum", "Klinik", "Anliegen", "Nr"]
GERMAN_ROW: list[object] = ["5/1/2026 10:00", "Nordklinik", "Bitte helfen.", 7]


def parse_rejected_rows(*rows: list[object], sheet: str = "Sheet") -> list[RejectedRow]:
    def name(made: openpyxl.Workbook) -> None:
        made.worksheets[0].title = sheet

    return [
        row for row in workbook.stream(build_book(*rows, edit=name)) if isinstance(row, RejectedRow)
    ]


def parse_under(
    profile: Profile, *rows: list[object], zone: str = "America/New_York"
) -> InboundItem:
    (item,) = workbook.parse(build_book(*rows), Options(profiles=(profile,), time_zone=zone))
    return item


def get_fingerprint(*rows: list[object]) -> str:
    texts = [{at: str(text) for at, text in enumerate(row, start=1) if text} for row in rows]
    return headings.parse_heading(texts, 0, None, has_two_rows=len(rows) > 1).fingerprint


def make_profile(**more: object) -> Profile:
    columns = (("datum", "sent_at"), ("klinik", "company"), ("anliegen", "body"), ("nr", ""))
    fields: dict[str, object] = {
        "name": "north",
        "columns": columns,
        "fingerprint": get_fingerprint(GERMAN),
        **more,
    }
    return Profile(**fields)  # type: ignore[arg-type]  # as the tests say it


# -- profiles ----


def test_headings_nobody_knows_are_asked_for_and_then_read_by_their_profile() -> None:
    with pytest.raises(ParseError, match=r"^mapping needed: .*`intake map FILE`"):
        workbook.parse(build_book(GERMAN, GERMAN_ROW))
    item = parse_under(
        make_profile(date_order="dmy", time_zone="America/Chicago"), ["Bericht"], GERMAN, GERMAN_ROW
    )
    assert (item.company, item.text) == ("Nordklinik", "Bitte helfen.")
    assert item.sent_at == datetime(2026, 1, 5, 16, tzinfo=UTC)
    assert item.details == (("Nr", "7"), ("Above the table", "Bericht"))


def test_a_profile_for_these_headings_goes_before_all_that_is_known_otherwise() -> None:
    swapped_profile = Profile(
        name="x",
        columns=(("message", "subject"), ("subject", "body")),
        fingerprint=get_fingerprint(HEADER),
    )
    item = parse_under(swapped_profile, HEADER, ROW)
    assert (item.subject, item.text) == ("Please look.", "Claim 1")
    general = Profile(name="y", columns=(("subject", "category"),))
    options = Options(profiles=(general, swapped_profile))
    assert workbook.parse(build_book(HEADER, ROW), options)[0].text == "Claim 1"
    assert workbook.parse(build_book([*HEADER, "More"], ROW), options)[0].category == "Claim 1"


def test_a_column_that_a_profile_strikes_is_none_of_ours() -> None:
    strike = Profile(name="x", columns=(("contact", ""),), fingerprint=get_fingerprint(HEADER))
    item = parse_under(strike, HEADER, ROW)
    assert item.sender.name == ""
    assert item.details == (("Contact", "Pat Doe"),)


def test_synonyms_serve_every_workbook_that_has_one_of_them_and_no_other() -> None:
    other = Profile(
        name="x", columns=(("anliegen", "body"), ("klinik", "company")), date_order="dmy"
    )
    assert parse_under(
        other, ["Klinik", "Received", "Anliegen"], ["N", "5/1/2026", "T"]
    ).sent_at == datetime(2026, 1, 5, 5, tzinfo=UTC)
    item = parse_under(other, ["Practice", "Received", "Message"], ["N", "5/1/2026", "T"])
    assert item.sent_at == datetime(2026, 5, 1, 4, tzinfo=UTC)


def test_a_profile_without_headings_is_for_all_other_workbooks() -> None:
    context = Profile(name="context", date_order="dmy", defaults=(("category", "Billing"),))
    item = parse_under(context, HEADER, ["5/1/2026", *ROW[1:]])
    assert item.sent_at == datetime(2026, 1, 5, 5, tzinfo=UTC)
    assert item.category == "Billing"


def test_defaults_stand_where_a_row_has_no_value_and_nowhere_else() -> None:
    defaults = (
        ("company", "Nordklinik"),
        ("company_number", "42"),
        ("email", "n@x.example"),
        ("phone", "555"),
    )
    item = parse_under(make_profile(defaults=defaults), GERMAN, [None, None, "Bitte"])
    assert (item.company, item.company_number, item.sender.email, item.phone) == (
        "Nordklinik",
        "42",
        "n@x.example",
        "555",
    )
    other = parse_under(make_profile(defaults=defaults), GERMAN, GERMAN_ROW)
    assert (other.company, other.company_number) == (
        "Nordklinik",
        "",
    )  # the number may be another practice's
    assert (
        parse_under(
            make_profile(defaults=defaults), GERMAN, [None, "Other", "Bitte"]
        ).company_number
        == ""
    )


def test_a_default_may_stand_for_the_one_column_a_source_has_not() -> None:
    columns = (("anliegen", "body"),)
    profile = Profile(name="x", columns=columns, defaults=(("company", "Nordklinik"),))
    assert parse_under(profile, ["Anliegen"], ["Bitte"]).company == "Nordklinik"
    with pytest.raises(ParseError, match="mapping needed"):
        parse_under(
            Profile(name="x", defaults=(("company", "Nordklinik"),)), ["Message"], ["Bitte"]
        )


def test_the_time_zone_of_the_options_counts_where_no_profile_names_one() -> None:
    assert parse_under(
        make_profile(), GERMAN, GERMAN_ROW, zone="America/Denver"
    ).sent_at == datetime(2026, 5, 1, 16, tzinfo=UTC)


def test_a_fingerprint_is_of_what_headings_say_not_of_how_they_are_written() -> None:
    assert get_fingerprint(["Date", "Practice Name"]) == get_fingerprint(
        [None, " DATE:", None, "practiceName"]
    )
    assert get_fingerprint(["Date", "Practice Name"]) != get_fingerprint(["Practice Name", "Date"])
    assert get_fingerprint(["Date"], ["Practice"]) != get_fingerprint(["Date", "Practice"])


def test_a_profile_of_a_heading_of_two_rows() -> None:
    upper: list[object] = ["Klinik", None, "Text", None]
    lower: list[object] = ["Name", "Nr", "Anliegen", "Datum"]
    columns = (
        ("klinik name", "company"),
        ("klinik nr", "company_number"),
        ("text anliegen", "body"),
    )
    profile = Profile(name="x", columns=columns, fingerprint=get_fingerprint(upper, lower))
    item = parse_under(profile, ["Report"], upper, lower, ["Nord", 42, "Bitte", "5/1/2026"])
    assert (item.company, item.company_number, item.text) == ("Nord", "42", "Bitte")
    assert item.details == (("Datum", "5/1/2026"), ("Above the table", "Report"))


@pytest.mark.parametrize(
    ("text", "order", "day"),
    [
        ("5/1/2026", "mdy", "2026-05-01"),
        ("5/1/2026", "dmy", "2026-01-05"),
        ("5/13/2026", "dmy", "2026-05-13"),
        ("13/5/2026", "mdy", "2026-05-13"),
        ("26/01/05", "ymd", "2026-01-05"),
        ("26-13-05", "ymd", None),
        ("5/1/2026", "ymd", "2026-05-01"),
        ("2026-01-05", "dmy", "2026-01-05"),
        ("5.1.26", "dmy", "2026-01-05"),
    ],
)
def test_dates_that_can_be_read_two_ways(text: str, order: str, day: str | None) -> None:
    assert dates.parse_moment(text, order) == (datetime.fromisoformat(day) if day else None)


# -- rows that are no requests ----


def test_a_row_that_is_no_request_is_rejected_with_its_place_and_stops_no_other() -> None:
    rows = list(workbook.stream(build_book(HEADER, ROW, [None, "Sunrise"], [*ROW[:5], "Second."])))
    items = [row.text for row in rows if isinstance(row, InboundItem)]
    [wrong] = [row for row in rows if isinstance(row, RejectedRow)]
    assert items == ["Please look.", "Second."]
    assert (wrong.sheet, wrong.row, wrong.cell, wrong.reason) == ("Sheet", 3, "F3", NO_TEXT)
    assert dict(wrong.values)["Practice"] == "Sunrise"
    assert dict(wrong.values)["Message"] == ""  # the missing value has a cell to be written into
    assert "Sunrise" not in repr(wrong)


@pytest.mark.parametrize(
    ("row", "cell", "reason"),
    [
        ([None, None, None, None, "Claim", "Text"], "", NO_SENDER),
        ([None, None, None, "pat", None, "Text"], "", NO_SENDER),
        (["2026-01-05", "S", None, None, None, "#REF!"], "F2", "an Excel error"),
        (["2026-01-05", "S", None, None, None, "=1+1"], "F2", "a formula without a stored value"),
    ],
)
def test_what_makes_a_row_no_request(row: list[object], cell: str, reason: str) -> None:
    [wrong] = parse_rejected_rows(HEADER, row)
    assert wrong.cell == cell
    assert reason in wrong.reason


@pytest.mark.parametrize(
    "row",
    [
        [None, None, None, "pat@x.example", None, "Text"],
        [None, None, "Pat", None, None, "Text"],
        [None, "S", None, None, "Claim", "#REF!"],
        [None, "S", None, None, "Claim", "=1+1"],
        [None, "S", None, None, "=1+1", "Text"],
        ["no date", "S", None, None, None, "Text"],
    ],
)
def test_everything_milder_is_an_item_with_a_caveat(row: list[object]) -> None:
    assert parse_rejected_rows(HEADER, row) == []
    assert parse_one(HEADER, row).caveats


def test_a_file_of_such_rows_alone_is_no_empty_file() -> None:
    assert [
        row.row for row in parse_rejected_rows(HEADER, [None, "Sunrise"], [None, "Sunset"])
    ] == [
        2,
        3,
    ]
    with pytest.raises(ParseError, match=r"no row of the file is a request: row 2: neither"):
        workbook.parse(build_book(HEADER, [None, "Sunrise"]))


def test_who_asks_for_the_items_alone_hears_of_the_others() -> None:
    item = parse_one(HEADER, ROW, [None, "Sunrise"])
    assert item.caveats == (
        f"1 rows of the file are no requests and were not read: row 3: {NO_TEXT}",
    )


def test_columns_are_named_as_excel_names_them() -> None:
    assert [name_column(n) for n in (1, 26, 27, 702, 703, xlsx_sheet.LAST_COLUMN)] == [
        "A",
        "Z",
        "AA",
        "ZZ",
        "AAA",
        "XFD",
    ]


# -- what becomes of every column ----


def test_patient_data_stands_among_the_details_under_a_label_of_its_own() -> None:
    header: list[object] = [
        "From",
        "Subject",
        "Message",
        "PatientName",
        "MRN",
        "DOB",
        "Rendering Provider",
        "Status",
        "Flagged",
    ]
    item = parse_one(
        header, ["Pat", "Claim", "Text", "Jo Roe", 77, "1/2/1990", "Dr. Who", "Unread", True]
    )
    assert dict(item.details) == {
        "PatientName (patient data)": "Jo Roe",
        "MRN (patient data)": "77",
        "DOB (patient data)": "1/2/1990",
        "Rendering Provider": "Dr. Who",
        "Status": "Unread",
        "Flagged": "yes",
    }
    assert "Jo Roe" not in f"{item.subject} {item.sender} {item.company} {item.caveats} {item!r}"


def test_attachments_are_links_each_by_itself() -> None:
    header: list[object] = ["From", "Message", "Attachments"]
    two = "https://k.example/a?x=1,2; https://k.example/b, eob.pdf"
    assert parse_one(header, ["Pat", "x", two]).details == (
        ("Attachments 1 of 2", "https://k.example/a?x=1,2"),
        ("Attachments 2 of 2", "https://k.example/b"),
        ("Attachments", "eob.pdf"),
    )
    assert parse_one(header, ["Pat", "x", "https://k.example/a"]).details == (
        ("Attachments", "https://k.example/a"),
    )
    assert (
        parse_one(header, ["Pat", "x", "javascript:alert(1), a b.pdf"]).details[0][1]
        == "javascript:alert(1), a b.pdf"
    )


def test_a_practice_known_by_its_number_alone_is_shown_by_it() -> None:
    header: list[object] = ["Practice", "Practice ID", "Message"]
    assert parse_one(header, ["Sunrise", 42, "x"]).details == ()
    assert parse_one(header, [None, 42, "x"]).details == (("Practice ID", "42"),)


def test_a_column_without_a_heading_is_named_as_in_excel() -> None:
    assert parse_one(HEADER, [*ROW, "beside"]).details == (("Column G", "beside"),)


def test_a_message_id_that_looks_like_ours_hides_nothing() -> None:
    first, second = read(
        ["Message ID", "From", "Message"], ["row-5", "Pat", "one"], ["row-5", "Pat", "two"]
    )
    assert {first.text, second.text} == {"one", "two"}


def test_rows_repeated_further_down_are_counted_at_the_end() -> None:
    other = [*ROW[:5], "Other."]
    first, last = read(HEADER, ROW, other, ROW, ROW, ROW)
    assert first.caveats == ()
    assert last.caveats == (
        "rows of the file that repeat an earlier one and were not read again: 3",
    )


# -- damaged and linked cells ----


def test_a_damaged_cell_rejects_its_row_and_is_named() -> None:
    bad = '<row r="3"><c r="ZZZZ3" t="inlineStr"><is><t>x</t></is></c></row>'
    raw = build_with_cells(
        build_line(1, "From", "Message")
        + build_line(2, "Pat", "one")
        + bad
        + build_line(4, "Pat", "two")
    )
    rows = list(workbook.stream(raw))
    [wrong] = [row for row in rows if isinstance(row, RejectedRow)]
    assert (wrong.row, wrong.reason.partition(":")[0]) == (
        3,
        "a cell whose place in the sheet cannot be determined",
    )
    assert [row.text for row in rows if isinstance(row, InboundItem)] == ["one", "two"]


def test_quotes_that_do_not_match_cost_one_line() -> None:
    raw = b'From,Message\nPat,one\n"Pat"x,two\nPat,three\n'
    rows = list(workbook.stream(raw))
    assert [row.row for row in rows if isinstance(row, RejectedRow)] == [3]
    assert len(rows) == 3


def parse_linked_row(places: dict[str, str], *rows: list[object]) -> InboundItem:
    def link(made: openpyxl.Workbook) -> None:
        for cell, address in places.items():
            made.worksheets[0][cell].hyperlink = address

    return parse_one(*rows, edit=link)


def test_a_message_id_that_leads_somewhere_is_the_link_to_the_original() -> None:
    item = parse_linked_row(
        {"A2": "https://k.example/1"}, ["Message ID", "From", "Message"], ["M-1", "Pat", "x"]
    )
    assert (item.external_id, item.link, item.details) == ("M-1", "https://k.example/1", ())


def test_an_address_behind_a_name_is_whom_to_answer() -> None:
    item = parse_linked_row(
        {"A2": "mailto:pat@x.example?subject=x"}, ["From", "Message"], ["Pat Doe", "x"]
    )
    assert item.sender == Address("Pat Doe", "pat@x.example")


def test_where_any_other_cell_leads_is_a_detail() -> None:
    item = parse_linked_row(
        {"B2": "https://e.example/a", "C2": "https://e.example/b"},
        ["From", "Message", "Attachments"],
        ["Pat", "x", "eob.pdf"],
    )
    assert item.link == ""
    assert item.details == (
        ("Attachments", "eob.pdf"),
        ("Message: leads to", "https://e.example/a"),
        ("Attachments: leads to", "https://e.example/b"),
    )


# -- large files ----


def yield_endless_rows(monkeypatch: pytest.MonkeyPatch, rows: Iterator[Row]) -> None:
    table = Table("Sheet", lambda: rows, CellReader([]))
    monkeypatch.setattr(workbook, "open_tables", lambda *_: ([table], []))


def make_row(number: int, *texts: str) -> Row:
    return Row(
        number, hidden=False, cells={at: Cell("s", text) for at, text in enumerate(texts, start=1)}
    )


def test_a_file_is_handed_on_before_it_has_been_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    yield_endless_rows(
        monkeypatch,
        itertools.chain(
            [make_row(1, "From", "Message")],
            (make_row(n, "Pat", f"m{n}") for n in itertools.count(2)),
        ),
    )
    items = list(itertools.islice(workbook.stream(b""), 3_000))
    assert len(items) == 3_000


def test_memory_does_not_grow_with_the_texts_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "x" * 10_000
    rows = (make_row(n, "Pat", f"{n} {long}") for n in range(2, 6_000))
    yield_endless_rows(monkeypatch, itertools.chain([make_row(1, "From", "Message")], rows))
    results = workbook.stream(b"")
    next(results)
    tracemalloc.start()
    try:
        assert sum(1 for _ in results) == 5_997
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000  # of 50 MB


def test_a_damaged_file_is_refused_before_its_first_row() -> None:
    rows = "".join(build_line(n, f"Pat {n}", "Text") for n in range(2, 3_000))
    with pytest.raises(ParseError, match="damaged"):
        next(workbook.stream(build_with_cells(f"{build_line(1, 'From', 'Message')}{rows}<row><c>")))


def test_no_more_rows_than_can_be_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MAX_ROWS", 10)
    with pytest.raises(ParseError, match="more than 10 messages"):
        read(["From", "Message"], *([f"Pat {n}", "Text"] for n in range(12)))
