"""Workbooks as they really arrive: every cell as shown, every row once, and no harm."""

import contextlib
import csv
import io
import re
import zipfile
from datetime import UTC, date, datetime, time

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.utils.datetime import CALENDAR_MAC_1904

from parsers.item import Address, Format, InboundItem, ParseError, RejectedRow
from parsers.options import DEFAULT_OPTIONS
from parsers.secure_message import workbook
from parsers.secure_message.layout import BESIDE_TABLE, NO_HEADINGS
from parsers.spreadsheets import reader
from parsers.text import dates
from tests.support.workbooks import Edit, build_book, rewrite_part

HEADER = ["Date", "Practice", "Contact", "Email", "Subject", "Message"]
ROW: list[object] = [
    "2026-01-05 10:00",
    "Sunrise Clinic",
    "Pat Doe",
    "pat@clinic.example",
    "Claim 1",
    "Please look.",
]
SHEET = "xl/worksheets/sheet1.xml"


def build_with_cells(xml: str) -> bytes:
    """A workbook whose first sheet holds this XML in its sheetData."""
    head = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    )
    return rewrite_part(
        build_book(HEADER), SHEET, lambda _: f"{head}{xml}</sheetData></worksheet>".encode()
    )


def build_line(number: int, *texts: str) -> str:
    inner = "".join(f'<c t="inlineStr"><is><t>{text}</t></is></c>' for text in texts)
    return f'<row r="{number}">{inner}</row>'


def read(*rows: list[object], edit: Edit | None = None) -> list[InboundItem]:
    return workbook.parse(build_book(*rows, edit=edit))


def parse_one(*rows: list[object], edit: Edit | None = None) -> InboundItem:
    (item,) = read(*rows, edit=edit)
    return item


def get_refusal(raw: bytes) -> str:
    with pytest.raises(ParseError) as refused:
        workbook.parse(raw)
    return str(refused.value)


def test_a_row_is_an_item() -> None:
    item = parse_one(HEADER, ROW)
    assert item.format is Format.SECURE_MESSAGE
    assert item.sender == Address("Pat Doe", "pat@clinic.example")
    assert (item.company, item.subject, item.text) == ("Sunrise Clinic", "Claim 1", "Please look.")
    assert item.sent_at == datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
    assert item.external_id.startswith("row-")
    assert item.caveats == item.details == ()


def test_every_column_has_its_place() -> None:
    header = [
        "Message ID",
        "Thread ID",
        "Received",
        "Time",
        "Practice ID",
        "From",
        "To",
        "Patient Name",
        "MRN",
        "Text",
        "Callback #",
        "Issue Type",
        "Link",
        "Attachments",
        "Provider",
    ]
    row: list[object] = [
        "M-1",
        "T-9",
        date(2026, 7, 1),
        time(14, 30),
        42,
        "Pat Doe <pat@x.example>",
        "Billing",
    ]
    row += ["Jo Roe", 7, "Help", "555", "Telemedicine", "https://k.example/1", "eob.pdf", "Dr. Who"]
    item = parse_one(header, row)
    assert (item.external_id, item.thread_id, item.company_number) == ("M-1", "T-9", "42")
    assert item.sender == Address("Pat Doe", "pat@x.example")
    assert item.to == (Address("Billing"),)
    assert item.sent_at == datetime(2026, 7, 1, 18, 30, tzinfo=UTC)
    assert (item.phone, item.category, item.link) == ("555", "Telemedicine", "https://k.example/1")
    assert item.telemedicine
    patient = {"Patient Name (patient data)": "Jo Roe", "MRN (patient data)": "7"}
    visible_details = {
        "Practice ID": "42",
        "To": "Billing",
        "Callback #": "555",
        "Issue Type": "Telemedicine",
    }
    assert dict(item.details) == {
        **patient,
        **visible_details,
        "Attachments": "eob.pdf",
        "Provider": "Dr. Who",
    }


@pytest.mark.parametrize(
    "header",
    [
        ["  dAtE ", "PRACTICE", "contact\xa0", "E-mail", "SUBJECT:", "Message\n"],
        ["\ufeffDate", "PracticeName", "sent_by", "Email Address *", "Re", "Message Body"],
        ["Sent On", "Client", "From", "From Email", "Title", "Description"],
    ],
)
def test_headings_are_known_however_they_are_written(header: list[object]) -> None:
    item = parse_one(header, ROW)
    assert (item.company, item.sender.name, item.subject, item.text) == (
        "Sunrise Clinic",
        "Pat Doe",
        "Claim 1",
        "Please look.",
    )
    assert item.sent_at


def test_columns_may_stand_in_any_order_below_titles() -> None:
    item = parse_one(
        ["Secure Messages"],
        [],
        ["Printed for", "Sunrise"],
        list(reversed(HEADER)),
        list(reversed(ROW)),
    )
    assert (item.company, item.text) == ("Sunrise Clinic", "Please look.")


def test_a_heading_of_two_rows_with_merged_cells() -> None:
    upper: list[object] = ["Practice", None, "Message", None]
    item = parse_one(
        upper, ["Name", "ID", "Date", "Text"], ["Sunrise", "0042", "1/5/2026", "Please look."]
    )
    assert (item.company, item.company_number, item.text) == ("Sunrise", "0042", "Please look.")
    assert item.sent_at


def test_a_number_of_messages_is_not_the_message() -> None:
    item = parse_one(["Message #", "Practice", "Message"], [1001, "Sunrise", "Please look."])
    assert (item.external_id, item.text) == ("1001", "Please look.")


def test_columns_of_the_same_name_are_both_kept() -> None:
    item = parse_one([*HEADER, "Message", "Subject"], [*ROW, "And this.", "Claim 2"])
    assert item.text == "Please look.\n\nAnd this."
    assert item.details == (("Subject", "Claim 2"),)


def test_no_heading_is_never_guessed() -> None:
    assert get_refusal(build_book(ROW, ROW)).startswith("mapping needed: ")
    message = get_refusal(build_book(HEADER[:5], ROW[:5]))
    assert message.startswith(
        "mapping needed: no column found for the message text; `intake map FILE`"
    )
    assert "the practice or the sender" in get_refusal(build_book(["Date", "Message"], ["x", "y"]))


def test_a_heading_without_rows_is_no_success() -> None:
    assert get_refusal(build_book(HEADER)).startswith("no rows found")
    assert get_refusal(build_book(HEADER, [" ", None, "\t"])).startswith("no rows found")
    assert get_refusal(build_book()).startswith("mapping needed: ")


def test_blank_rows_repeated_headings_and_footers_are_no_messages() -> None:
    second = [*ROW[:5], "Second."]
    items = read(
        HEADER,
        ROW,
        [],
        ["Page 1 of 2"],
        HEADER,
        second,
        ["Grand Total", 2],
        ["Confidential"],
        ["Generated 1/5/2026"],
    )
    assert [item.text for item in items] == ["Please look.", "Second."]


def test_a_message_that_begins_like_a_footer_is_one() -> None:
    assert (
        parse_one(HEADER, ["", "Total Care", "", "", "", "Total is wrong"]).text == "Total is wrong"
    )


def test_a_row_without_text_is_an_item_with_a_caveat() -> None:
    item = parse_one(HEADER, [None, "Sunrise", "Pat", None, "Denied", None])
    assert item.text == ""
    assert "no message text in this row" in item.caveats
    assert "no e-mail address given" in item.caveats


def test_identity_survives_another_export_in_another_order() -> None:
    other = [*ROW[:5], "Other."]
    first, again = read(HEADER, ROW, other), read(HEADER, other, ROW)
    assert {item.external_id for item in first} == {item.external_id for item in again}
    assert len({item.external_id for item in first}) == 2


def test_equal_rows_are_one_item_and_counted() -> None:
    item = parse_one(HEADER, ROW, ROW, ROW)
    assert item.caveats == ("this message stands in the file 3 times",)


def test_one_message_id_for_two_messages_hides_neither() -> None:
    first, second = read(
        ["Message ID", "From", "Message"], ["A1", "Pat", "one"], ["A1", "Pat", "two"]
    )
    assert (first.external_id, first.text, second.text) == ("A1", "one", "two")
    assert second.external_id.startswith("A1#")
    assert any("same message id" in caveat for caveat in second.caveats)


@pytest.mark.parametrize("number", [1, "2"])
def test_a_row_counter_under_id_is_no_identity(number: object) -> None:
    assert parse_one(["ID", "From", "Message"], [number, "Pat", "one"]).external_id.startswith(
        "row-"
    )


def test_numbers_are_shown_as_excel_shows_them() -> None:
    def zeros(made: openpyxl.Workbook) -> None:
        made.worksheets[0]["A2"].number_format = "00000"

    header = ["Practice ID", "Message ID", "From", "Message", "Balance", "Paid"]
    item = parse_one(header, [123, 1234567890123456789, "Pat", "Text", 12.5, True], edit=zeros)
    assert item.company_number == "00123"
    rounded = {"Message ID": "1234567890123457024"}
    assert dict(item.details) == {
        "Practice ID": "00123",
        **rounded,
        "Balance": "12.5",
        "Paid": "yes",
    }
    assert item.external_id.startswith("row-")
    assert any("15 digits" in caveat for caveat in item.caveats)


def test_a_formula_without_value_is_a_caveat_and_never_blank_silently() -> None:
    item = parse_one(HEADER, [*ROW[:4], "=1+1", "Please look."])
    assert item.subject == ""
    assert item.caveats == (
        "subject: a formula without a stored value: open the file in Excel and save it",
    )


def test_a_formula_with_its_value_is_the_value() -> None:
    raw = build_with_cells(
        build_line(1, *HEADER)
        + '<row r="2"><c r="B2" t="str"><f>HYPERLINK("http://e.example","x")</f><v>Sunrise</v></c>'
        '<c r="F2" t="inlineStr"><is><t>Text</t></is></c></row>'
    )
    (item,) = workbook.parse(raw)
    assert item.company == "Sunrise"


@pytest.mark.parametrize(
    ("value", "year"),
    [
        (datetime.fromisoformat("2026-01-05T10:00"), 2026),
        (46_027.5, 2026),
        ("46027.5", 2026),
        (0.5, None),
        ("soon", None),
    ],
)
def test_dates_are_found_typed_serial_or_as_text(value: object, year: int | None) -> None:
    item = parse_one(HEADER, [value, *ROW[1:]])
    assert (item.sent_at.year if item.sent_at else None) == year
    assert ("date: a date that cannot be read" in item.caveats) == (year is None)
    assert bool(item.details) == (year is None)


def test_the_1904_calendar() -> None:
    def mac(made: openpyxl.Workbook) -> None:
        made.epoch = CALENDAR_MAC_1904

    for value in (datetime.fromisoformat("2026-01-05T10:00"), 44_565.416666666664):
        assert parse_one(HEADER, [value, *ROW[1:]], edit=mac).sent_at == datetime(
            2026, 1, 5, 15, tzinfo=UTC
        )


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1/5/2026 3:04 PM", "2026-01-05T15:04"),
        ("01/05/26, 12:30 a.m.", "2026-01-05T00:30"),
        ("25/12/2026", "2026-12-25"),
        ("Mon, Jan 5, 2026 at 3 pm", "2026-01-05T15:00"),
        ("January 5th 2026", "2026-01-05"),
        ("5-Jan-26", "2026-01-05"),
        ("2026-01-05T10:00:01.5Z", "2026-01-05T10:00:01+00:00"),
        ("2026/1/5 10:00 -05:00", "2026-01-05T10:00-05:00"),
        ("1/5/2026 10:00 AM (PST)", "2026-01-05T10:00-08:00"),
    ],
)
def test_dates_as_people_type_them(text: str, moment: str) -> None:
    assert dates.parse_moment(text) == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    "text", ["2/30/2026", "1/5/2026 25:00", "1/5/2026 or so", "13 pm", "5", "", "x" * 1_000]
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert dates.parse_moment(text) is None


def test_a_time_of_day_alone() -> None:
    assert dates.parse_moment("10:15") == time(10, 15)


def test_text_is_decoded_and_cleaned() -> None:
    raw = build_with_cells(
        build_line(1, *HEADER)
        + build_line(
            2,
            "",
            "\xa0Sunrise_x0020_Clinic ",
            "",
            "",
            "a_x000D_\nb",
            "one_x000D_\ntwo _x005F_x0041_ _x0000_",
        )
    )
    (item,) = workbook.parse(raw)
    assert (item.company, item.subject, item.text) == ("Sunrise Clinic", "a b", "one\ntwo _x0041_")


def test_rich_text_is_flattened_and_phonetic_guides_are_left_out() -> None:
    name = (
        "<is><r><t>Pat</t></r><r><rPr><b/></rPr><t> Doe</t></r><rPh sb='0'"
        " eb='1'><t>PHON</t></rPh></is>"
    )
    raw = build_with_cells(
        build_line(1, "From", "Message")
        + f'<row><c t="inlineStr">{name}</c><c t="inlineStr"><is><t>x</t></is></c></row>'
    )
    (item,) = workbook.parse(raw)
    assert item.sender.name == "Pat Doe"


def test_hidden_rows_are_read_and_hidden_sheets_are_not() -> None:
    def hide(made: openpyxl.Workbook) -> None:
        made.worksheets[0].row_dimensions[2].hidden = True
        secret = made.create_sheet("Secret")
        secret.append(HEADER)
        secret.append([*ROW[:5], "hidden"])
        secret.sheet_state = "veryHidden"

    item = parse_one(HEADER, ROW, edit=hide)
    assert item.caveats == (
        "this row is hidden in the sheet",
        "a hidden sheet of the file was not read",
    )


def test_every_visible_sheet_with_headings_is_read() -> None:
    def more(made: openpyxl.Workbook) -> None:
        made.create_sheet("Empty", 0)
        made.create_sheet("Chart notes").append(["Nothing", "of ours"])
        second = made.create_sheet("More")
        second.append(list(reversed(HEADER)))
        second.append(["Second.", *reversed(ROW[:5])])

    items = read(HEADER, ROW, edit=more)
    assert [item.text for item in items] == ["Please look.", "Second."]
    assert items[0].caveats == (
        f"1 rows of the file are no requests and were not read: row 1: {NO_HEADINGS}",
    )


def test_what_an_address_column_holds_besides_is_kept() -> None:
    item = parse_one(HEADER, [*ROW[:3], "a@x.example; b@y.example", *ROW[4:]])
    assert item.sender.email == "a@x.example"
    assert item.details == (("Email", "a@x.example; b@y.example"),)
    assert item.caveats == ("several e-mail addresses given: the first is used",)


def test_a_link_is_a_web_address_or_a_detail() -> None:
    item = parse_one(["From", "Message", "Link"], ["Pat", "x", "javascript:alert(1)"])
    assert item.link == ""
    assert item.details == (("Link", "javascript:alert(1)"),)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimited_text_is_read_where_its_headings_are_certain(
    delimiter: str, encoding: str
) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(
        [HEADER, [*ROW[:4], 'Née, "x"; y', "two\nlines"]]
    )
    (item,) = workbook.parse(out.getvalue().encode(encoding))
    assert (item.subject, item.text) == ('Née, "x"; y', "two\nlines")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "an empty file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "Workbook".encode("utf-16-le"), "old Excel format"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "password-protected",
        ),
        (b"<html><p>Message</p></html>", "a web page without a table"),
        (b"<html><table><tr><td>Message</td></tr></table></html>", "mapping needed: "),
        (
            (
                b'<?xml version="1.0"?><Workbook'
                b' xmlns="urn:schemas-microsoft-com:office:spreadsheet"/>'
            ),
            "a damaged workbook",
        ),
        (b"%PDF-1.7", "not an Excel workbook"),
        (b"\x00\x01\x02", "not an Excel workbook"),
        (b"PK\x03\x04 not a zip", "a damaged workbook"),
        (b"Dear desk,\nplease help", "mapping needed: "),
        (
            rewrite_part(build_book(HEADER), "[Content_Types].xml", lambda _: None),
            "a zip, but not an Excel workbook",
        ),
        (
            rewrite_part(
                build_book(HEADER),
                "[Content_Types].xml",
                lambda x: x.replace(b"spreadsheetml.sheet", b"wordprocessingml.x"),
            ),
            "Word",
        ),
        (
            rewrite_part(
                build_book(HEADER),
                "[Content_Types].xml",
                lambda x: x + b"<!-- -->".replace(b"-", b"-"),
            ).replace(b"PK\x03\x04", b"MZ\x03\x04", 1),
            "not an Excel workbook",
        ),
        (rewrite_part(build_book(HEADER, ROW), SHEET, lambda _: None), "a damaged workbook"),
        (
            rewrite_part(build_book(HEADER, ROW), SHEET, lambda x: x[: len(x) - 60]),
            "a damaged workbook",
        ),
        (
            rewrite_part(build_book(HEADER, ROW), SHEET, lambda _: b"\x80\x00\x81\x00"),
            "a damaged workbook",
        ),
        (
            rewrite_part(
                build_book(HEADER, ROW),
                "xl/_rels/workbook.xml.rels",
                lambda x: x.replace(b"Target=", b'TargetMode="External" Target='),
            ),
            "kept elsewhere",
        ),
        (build_with_cells("<row><c>" + "<a>" * 100_000), "a damaged workbook"),
    ],
)
def test_an_unreadable_file_is_refused_with_its_kind_and_the_remedy(raw: bytes, words: str) -> None:
    message = get_refusal(raw)
    assert words in message
    assert "Sunrise" not in message


LAUGHS = '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
@pytest.mark.parametrize(
    "part",
    [
        SHEET,
        "xl/workbook.xml",
        "xl/styles.xml",
        "_rels/.rels",
        "docProps/core.xml",
        "[Content_Types].xml",
    ],
)
def test_a_document_type_is_refused_in_any_part_and_encoding(part: str, encoding: str) -> None:
    def declare(content: bytes) -> bytes:
        plain = (
            content.decode().partition("?>")[2]
            if content.startswith(b"<?xml")
            else content.decode()
        )
        mark = "\ufeff" if encoding.endswith("be") else ""
        return f'{mark}<?xml version="1.0" encoding="{encoding[:6]}"?>{LAUGHS}{plain}'.encode(
            encoding
        )

    assert "document type" in get_refusal(rewrite_part(build_book(HEADER, ROW), part, declare))


def test_bombs_are_stopped_while_they_unpack() -> None:
    assert "far more than it may" in get_refusal(
        rewrite_part(build_book(HEADER, ROW), "docProps/app.xml", lambda _: b" " * 2**23)
    )
    assert "far more than it may" in get_refusal(
        rewrite_part(
            build_book(HEADER, ROW), SHEET, lambda x: x.replace(b"<row", b"\n" * 2**23 + b"<row", 1)
        )
    )


def test_a_header_that_lies_about_a_size_is_not_believed() -> None:
    raw = bytearray(build_book(HEADER, ROW))
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = (1).to_bytes(4, "little")
    assert "damaged" in get_refusal(bytes(raw))


@pytest.mark.parametrize("claim", [b'ref="A1"', b'ref="A1:XFD1048576"', b'ref="ZZZZZ1:A-5"', b""])
def test_a_sheet_s_claim_of_its_size_is_ignored(claim: bytes) -> None:
    raw = rewrite_part(
        build_book(HEADER, ROW, [*ROW[:5], "Second."]),
        SHEET,
        lambda x: re.sub(rb'ref="[A-Z0-9:]+"', claim, x, count=1),
    )
    assert len(workbook.parse(raw)) == 2


def test_a_cell_far_away_costs_nothing_and_is_a_caveat() -> None:
    raw = build_with_cells(
        build_line(1, *HEADER)
        + build_line(2, *map(str, ROW))
        + '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    )
    far, item = workbook.stream(raw)
    assert isinstance(item, InboundItem)
    assert isinstance(far, RejectedRow)
    assert (far.row, far.reason, far.values[-1]) == (1_048_576, BESIDE_TABLE, ("Column XFD", "1"))


def test_strict_workbooks_are_not_read_as_empty() -> None:
    strict = b"http://purl.oclc.org/ooxml/spreadsheetml/main"
    raw = rewrite_part(
        build_book(HEADER, ROW),
        SHEET,
        lambda x: x.replace(b"http://schemas.openxmlformats.org/spreadsheetml/2006/main", strict),
    )
    assert len(workbook.parse(raw)) == 1


texts = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"
    ),
    max_size=20,
)
table = st.lists(
    st.lists(st.none() | texts | st.integers(-(10**14), 10**14) | st.booleans(), max_size=6),
    max_size=6,
)


@settings(deadline=None, max_examples=30)
@given(table)
def test_cells_are_the_ones_openpyxl_reads(rows: list[list[object]]) -> None:
    raw = build_book(*rows)
    tables, _ = reader.find_tables(raw, DEFAULT_OPTIONS)
    ours = {
        (row.number, column): cell.text
        for row in tables[0].rows()
        for column, cell in row.cells.items()
    }
    theirs = openpyxl.load_workbook(io.BytesIO(raw), data_only=True).worksheets[0]
    for line in theirs.iter_rows():
        for cell in line:
            if cell.value is not None:
                assert_same(ours.pop((cell.row, cell.column), ""), cell.value)
    assert not any(text.strip() for text in ours.values() if not text.startswith("="))


def assert_same(text: str, value: object) -> None:
    """Assert that the text we read of a cell is the value that openpyxl reads."""
    match value:
        case bool():
            assert text == str(int(value))
        case int() | float():
            assert float(text) == value
        case _:
            # The two may differ on texts that look like an escaped character, as _x0041_.
            assert text == str(value) or "_x" in str(value)


GOOD = build_book(HEADER, ROW, [date(2026, 1, 5), "B", 1.5, "x@y.example", "=1+1", "Text"])


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8)
)
def test_nothing_but_parse_error_on_damaged_workbooks(flips: list[tuple[int, int]]) -> None:
    raw = bytearray(GOOD)
    for at, byte in flips:
        raw[at] = byte
    assert_only_parse_error(bytes(raw))


SHEET_XML = zipfile.ZipFile(io.BytesIO(GOOD)).read(SHEET)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, len(SHEET_XML)),
    st.integers(0, 40),
    st.binary(max_size=12)
    | st.sampled_from(
        [b"<row>", b"<c r='A1'/>", b"</row>", b' t="s"', b' t="d"', b"1e400", b"-", b"&x;"]
    ),
)
def test_nothing_but_parse_error_on_damaged_sheets(at: int, cut: int, put: bytes) -> None:
    assert_only_parse_error(rewrite_part(GOOD, SHEET, lambda x: x[:at] + put + x[at + cut :]))


@settings(deadline=None, max_examples=100)
@given(st.binary() | st.text().map(lambda text: f"Message,From,Date\n{text}".encode()))
def test_nothing_but_parse_error_on_any_bytes(raw: bytes) -> None:
    assert_only_parse_error(raw)


def assert_only_parse_error(raw: bytes) -> None:
    with contextlib.suppress(ParseError):
        items = workbook.parse(raw)
        assert items
        assert all(item.external_id for item in items)
