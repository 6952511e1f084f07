"""Tables in text files, web pages and XML saved as .xls; encoding and delimiter by the bytes."""

import contextlib
import datetime as dt
import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.item import ParseError
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.spreadsheets import number_formats
from parsers.spreadsheets.cell_values import ERROR, UNSOLVED
from parsers.spreadsheets.formats import delimited
from parsers.spreadsheets.reader import find_tables
from tests.support import workbooks
from tests.support.workbooks import read, read_texts

LATIN = "From,Message\r\nPat,Ünïcode – ok\r\n"
TWO = [["From", "Message"], ["Pat", "Ünïcode – ok"]]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
)
def test_the_encoding_is_told_by_the_bytes(encoding: str) -> None:
    assert read_texts(LATIN.encode(encoding)) == TWO


def test_letters_that_are_not_western_are_told_by_how_many_there_are() -> None:
    table = [
        ["От", "Сообщение"],
        ["Пэт", "помогите с этим счётом пожалуйста"],  # noqa: RUF001  # Russian
    ]
    assert read_texts("\r\n".join(";".join(row) for row in table).encode("cp1251")) == table


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("a;b;c\n1;2,3;4\n", [["a", "b", "c"], ["1", "2,3", "4"]]),
        ("a\tb\n1\t2, and 3\n", [["a", "b"], ["1", "2, and 3"]]),
        ("a|b\n1|x, y; z\n", [["a", "b"], ["1", "x, y; z"]]),
        ("sep=;\r\na;b\r\n", [["a", "b"]]),
        ('a,b\n"1","two\nlines, ""x"""\n', [["a", "b"], ["1", 'two\nlines, "x"']]),
        ("one column\nof text\n", [["one column"], ["of text"]]),
    ],
)
def test_the_delimiter_is_told_by_the_lines(text: str, table: list[list[str]]) -> None:
    assert read_texts(text.encode()) == table


def test_a_line_with_wrong_quotes_is_flawed_alone() -> None:
    _, wrong, right = read(b'a,b\n"x" y,z\n1,2\n')
    assert (wrong[1].text, wrong[1].flaw) == ('"x" y,z', delimited.QUOTES)
    assert [value.text for value in right.values()] == ["1", "2"]


@pytest.mark.parametrize("raw", [b'a,b\n1,2\n"x y,z\n1,2\n', b'a,b\n1,2\n"' + b"x" * 200_000])
def test_a_quote_never_closed_ends_it_before_the_first_row(raw: bytes) -> None:
    with pytest.raises(ParseError, match="never closed"):
        find_tables(raw, DEFAULT_OPTIONS)


PAGE = """<html><head><meta charset=windows-1252>
<style>td {mso-number-format: "x"}</style></head><body>
<table><tr><td colspan=2>Title</td></tr></table>
<table border=1><thead><tr><th rowspan=2>From<th colspan=2>Message</tr>
<tr><th>Subject<th>Text</tr></thead>
<tr><td>Pat &amp; Jö<td><a href="https://x.example/1?a=1&amp;b=2">eob.pdf</a>
<td>one<br>two <b>bold</b><p>next<table><tr><td>inner</td></tr></table>
<tr style="display:none"><td rowspan=2>A<td>B<td>C</tr><tr><td>x<td>y</tr></table>"""


def test_a_page_saved_as_xls_is_read_as_shown() -> None:
    raw = PAGE.encode("cp1252")
    assert read_texts(raw) == [["Title"]]
    upper, lower, first, hidden_row, below = read(raw, table=1)
    assert ({at: value.text for at, value in upper.items()}, sorted(lower)) == (
        {1: "From", 2: "Message"},
        [2, 3],
    )
    assert [value.text for value in first.values()] == [
        "Pat & Jö",
        "eob.pdf",
        "one\ntwo bold\nnext",
    ]
    assert first[2].link == "https://x.example/1?a=1&b=2"
    assert ([value.text for value in hidden_row.values()], sorted(below)) == (
        ["A", "B", "C"],
        [2, 3],
    )
    assert [row.hidden for row in find_tables(raw, DEFAULT_OPTIONS)[0][1].rows()] == [
        False,
        False,
        False,
        True,
        False,
    ]


def test_spans_of_any_size_cost_nothing() -> None:
    raw = (
        b"<table>"
        + b'<tr><td colspan=999999999 rowspan=999999999>x<td colspan="-1">y' * 50
        + b"</table>"
    )
    assert read_texts(raw)[0] == ["x", "y"]


XML = """<?xml version="1.0" encoding="ENC"?><?mso-application progid="Excel.Sheet"?>
<Workbook
 xmlns="urn:schemas-microsoft-com:office:spreadsheet"
 xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet">
<Styles><Style ss:ID="Default"/><Style ss:ID="s1"><NumberFormat ss:Format="00000"/></Style></Styles>
<Worksheet ss:Name="Old">
<Table><Row><Cell><Data ss:Type="String">no</Data></Cell></Row></Table>
<WorksheetOptions xmlns="urn:schemas-microsoft-com:office:excel">
<Visible>SheetHidden</Visible></WorksheetOptions>
</Worksheet>
<Worksheet ss:Name="Messages">
<Table ss:ExpandedRowCount="1">
<Row ss:Index="3">
<Cell ss:MergeAcross="1"><Data ss:Type="String">From</Data></Cell>
<Cell><Data ss:Type="String">Message</Data></Cell>
</Row>
<Row ss:Hidden="1">
<Cell ss:StyleID="s1"><Data ss:Type="Number">42</Data><Comment><Data>note</Data></Comment></Cell>
<Cell ss:Index="3" ss:HRef="https://k.example/1"><ss:Data ss:Type="String"
xmlns="http://www.w3.org/TR/REC-html40"><B>bo</B>ld&#10;two</ss:Data></Cell>
<Cell><Data ss:Type="DateTime">2026-01-05T10:01:00.000</Data></Cell>
<Cell ss:Formula="=1+1"/>
<Cell><Data ss:Type="Boolean">1</Data></Cell>
<Cell><Data ss:Type="Error">#N/A</Data></Cell>
</Row>
</Table>
</Worksheet>
</Workbook>"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_of_excel_2003(encoding: str) -> None:
    raw = XML.replace("ENC", encoding).encode(encoding)
    (table,), notes = find_tables(raw, DEFAULT_OPTIONS)
    assert (table.name, notes) == ("Messages", ["a hidden sheet of the file was not read"])
    assert [(row.number, row.hidden) for row in table.rows()] == [(3, False), (4, True)]
    header, row = read(raw)
    assert {at: value.text for at, value in header.items()} == {1: "From", 3: "Message"}
    assert [value.text for value in row.values()] == [
        "00042",
        "bold\ntwo",
        "2026-01-05 10:01",
        "",
        "yes",
        "#N/A",
    ]
    assert (row[3].link, row[4].moment) == (
        "https://k.example/1",
        dt.datetime.fromisoformat("2026-01-05T10:01"),
    )
    assert (row[5].flaw, row[7].flaw) == (UNSOLVED, ERROR)


@pytest.mark.parametrize(
    "damage", [lambda x: x[:-9], lambda x: x.replace("?>", "?><!DOCTYPE x []>", 1)]
)
def test_xml_that_is_damaged_or_declares_a_type_is_refused_whole(damage: object) -> None:
    assert callable(damage)
    with pytest.raises(ParseError):
        find_tables(damage(XML.replace("ENC", "utf-8")).encode(), DEFAULT_OPTIONS)


# Formats of amounts and dates, under which a number is no identity.
AMOUNTS = ("0", "#", "0.00", "#,##0", "General", "@", "m/d/yy", "0%", "_(* #,##0_)")


@pytest.mark.parametrize(
    ("digits", "code", "shown"),
    [
        ("123", "00000", "00123"),
        ("12345678", "000-00-0000", "012-34-5678"),
        ("5551234", "[<=9999999]###-####;(###) ###-####", "555-1234"),
        ("2125551234", "[<=9999999]###-####;(###) ###-####", "(212) 555-1234"),
        ("42", '"M-"0000', "M-0042"),
        ("42", "[$-409]0000", "0042"),
        ("123456", "0000", "123456"),
        *(("42", code, "42") for code in AMOUNTS),
    ],
)
def test_identities_are_shown_by_their_number_format(digits: str, code: str, shown: str) -> None:
    assert number_formats.format_digits(digits, code) == shown


# -- whatever comes ----


def build_document() -> bytes:
    content = (
        '<d xmlns:o="o" xmlns:t="t" xmlns:x="x"><o:spreadsheet><t:table'
        ' t:name="A"><t:table-row><t:table-cell o:value-type="float" o:value="7"'
        ' t:number-columns-repeated="2"><x:p>007</x:p></t:table-cell></t:table-row><t:table-row'
        ' t:number-rows-repeated="3" t:visibility="filter"><t:table-cell><x:p>a<x:s'
        ' x:c="2"/>b</x:p><x:p>c</x:p></t:table-cell></t:table-row></t:table></o:spreadsheet></d>'
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        made.writestr("content.xml", content)
    return out.getvalue()


def test_repeated_cells_and_rows_of_an_open_document() -> None:
    assert read_texts(build_document()) == [["007", "007"], *[["a  b\nc"]] * 3]
    assert [row.number for row in find_tables(build_document(), DEFAULT_OPTIONS)[0][0].rows()] == [
        1,
        2,
        3,
        4,
    ]


SHARED = workbooks.build_book_with_shared_texts(["From", "Message"])
SEEDS = [
    LATIN.encode(),
    LATIN.encode("utf-16"),
    PAGE.encode(),
    XML.replace("ENC", "utf-8").encode(),
    build_document(),
    SHARED,
    workbooks.build_xlsb(
        workbooks.build_row(0, workbooks.build_cell(7, 0, b"\0\0\0\0")), ["From"], ["00000"]
    ),
]
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
CHANGES = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 30), st.binary(max_size=8)),
    min_size=1,
    max_size=5,
)


def take_all(raw: bytes) -> None:
    with contextlib.suppress(ParseError):
        found, _ = find_tables(raw, Options(passwords=("secret",)))
        for table in found:  # a file that was opened is read to its end
            for row in table.rows():
                assert row.cells
                assert all(
                    isinstance(table.cells.read_value(cell).text, str)
                    for cell in row.cells.values()
                )


def change_parts(raw: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, cut, put in changes:
        start = at % (len(raw) + 1)
        raw = raw[:start] + put + raw[start + cut :]
    return raw


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(SEEDS), CHANGES)
def test_nothing_but_parse_error_on_a_damaged_file_of_any_kind(
    raw: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    take_all(change_parts(raw, changes))


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([raw for raw in SEEDS if raw.startswith(b"PK")]), st.integers(0, 20), CHANGES
)
def test_nothing_but_parse_error_on_a_damaged_part(
    raw: bytes, at: int, changes: list[tuple[int, int, bytes]]
) -> None:
    names = zipfile.ZipFile(io.BytesIO(raw)).namelist()
    take_all(
        workbooks.rewrite_part(
            raw, names[at % len(names)], lambda part: change_parts(part, changes)
        )
    )


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(
        [b"", OLE, b"PK\x03\x04", b"<table>", b"<?xml ?>", b"\xff\xfe", b"\xef\xbb\xbf"]
    ),
    st.binary(),
)
def test_nothing_but_parse_error_on_any_bytes(start: bytes, rest: bytes) -> None:
    take_all(start + rest)


LOCKED = workbooks.lock_workbook(SHARED, "secret")


@settings(deadline=None, max_examples=15)
@given(CHANGES)
def test_nothing_but_parse_error_on_a_damaged_locked_workbook(
    changes: list[tuple[int, int, bytes]],
) -> None:
    take_all(change_parts(LOCKED, changes))


@workbooks.needs_libreoffice
def test_nothing_but_parse_error_on_damaged_old_workbooks(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    raw = workbooks.save_as("xls", SHARED, tmp_path_factory.mktemp("xls"))

    @settings(deadline=None, max_examples=150)
    @given(CHANGES)
    def take_damaged_file(changes: list[tuple[int, int, bytes]]) -> None:
        take_all(change_parts(raw, changes))

    take_damaged_file()
