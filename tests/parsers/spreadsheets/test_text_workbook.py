"""Workbooks we write: every cell is text, and openpyxl and our reader read what was written."""

import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.spreadsheets.formats import xlsx_sheet
from parsers.spreadsheets.text_workbook import MAX_TEXT, write_workbook
from tests.support.workbooks import read_texts

DANGEROUS = [
    "=1+1",
    "=HYPERLINK(1)",
    "+1",
    "-1",
    "@SUM(1)",
    "#N/A",
    "#REF!",
    "00123",
    "1e5",
    "2026-01-05",
    "TRUE",
]


def write_text_workbook(*sheets: list[list[str]], cut: str = "…") -> bytes:
    out = io.BytesIO()
    write_workbook(
        out, [(f"Sheet{number}", rows) for number, rows in enumerate(sheets, 1)], cut_mark=cut
    )
    return out.getvalue()


def read_by_openpyxl(raw: bytes) -> list[list[str]]:
    """The texts of the first sheet; every cell must be text."""
    sheet = openpyxl.load_workbook(io.BytesIO(raw)).worksheets[0]
    cells = [[cell for cell in row if cell.value is not None] for row in sheet.iter_rows()]
    assert {cell.data_type for row in cells for cell in row} <= {"s"}
    return [[xlsx_sheet.unescape(str(cell.value)) for cell in row] for row in cells]


def test_every_cell_is_text_and_keeps_its_zeros() -> None:
    raw = write_text_workbook([["Heading"], *([text] for text in DANGEROUS)])
    assert (
        read_by_openpyxl(raw) == read_texts(raw) == [["Heading"], *([text] for text in DANGEROUS)]
    )
    assert b"<f>" not in raw


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.text(max_size=30), min_size=1, max_size=4), min_size=1, max_size=5))
def test_openpyxl_reads_what_was_written(rows: list[list[str]]) -> None:
    found = read_by_openpyxl(write_text_workbook(rows))
    assert [line for line in found if line] == [
        kept for line in rows if (kept := [text for text in line if text])
    ]


@pytest.mark.parametrize(
    "text", ["x" * 40_000, "\x01" * MAX_TEXT, "_x0041_" * 10_000, "😀" * MAX_TEXT + "more"]
)
def test_a_text_too_long_for_a_cell_ends_with_the_mark(text: str) -> None:
    ((found,),) = read_by_openpyxl(write_text_workbook([[text]], cut=" [cut]"))
    assert len(found) <= MAX_TEXT
    assert found.endswith(" [cut]")
    assert text.startswith(found.removesuffix(" [cut]"))


def test_a_text_as_long_as_a_cell_may_be_is_whole() -> None:
    assert read_by_openpyxl(write_text_workbook([["y" * MAX_TEXT]])) == [["y" * MAX_TEXT]]


def test_the_first_row_of_each_sheet_stays_in_sight() -> None:
    book = openpyxl.load_workbook(io.BytesIO(write_text_workbook([["A"], ["1"]], [["B"]], [])))
    assert [(sheet.title, sheet.freeze_panes) for sheet in book.worksheets] == [
        ("Sheet1", "A2"), ("Sheet2", "A2"), ("Sheet3", "A2"),
    ]  # fmt: skip


def test_without_a_sheet_it_is_a_workbook_still() -> None:
    assert openpyxl.load_workbook(io.BytesIO(write_text_workbook())).sheetnames == ["Sheet1"]


def test_the_same_rows_give_the_same_bytes() -> None:
    raw = write_text_workbook([["A"], ["1"]])
    assert raw == write_text_workbook([["A"], ["1"]])
    assert not re.search(rb"20[2-9]\d-", raw)


def test_no_row_lies_in_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert read_texts(write_text_workbook([["A"], ["1"]])) == [["A"], ["1"]]


def test_rows_are_taken_one_by_one_and_their_error_comes_through() -> None:
    numbers = []

    def rows() -> Iterator[list[str]]:
        for number in range(10):
            numbers.append(number)
            yield [str(number)]
        raise LookupError("the database has gone")

    with pytest.raises(LookupError, match="the database has gone"):
        write_workbook(io.BytesIO(), [("Tickets", rows())])
    assert numbers == [*range(10)]
