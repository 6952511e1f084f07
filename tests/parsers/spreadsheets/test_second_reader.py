"""openpyxl as a second opinion: the same cells of every .xlsx, with the exceptions named."""

import datetime as dt
import io
import os
from pathlib import Path

import openpyxl
import pytest

from parsers.item import ParseError
from parsers.options import DEFAULT_OPTIONS
from parsers.spreadsheets.cell_values import Value
from parsers.spreadsheets.formats import xlsx_sheet
from parsers.spreadsheets.reader import find_tables
from parsers.spreadsheets.text_workbook import write_workbook
from parsers.text import normalize
from tests.support import workbooks
from tests.support.workbooks import build_book, needs_libreoffice, save_as

HOSTILE = (
    Path(os.environ.get("INTAKE_HOSTILE") or Path(__file__).parents[4] / "shared" / "hostile")
    / "badxlsx"
)
# Workbooks of which openpyxl's streaming reader gives other cells, and what ours has instead.
EXCEPTIONS = {
    "date_huge.xlsx": "a day after the last year there is: ours keeps the number, not #VALUE!",
    "date_neg.xlsx": "a day before the calendar begins: ours keeps the number, Excel shows ####",
    "strict_ooxml.xlsx": "the strict form of the standard: openpyxl finds no row, without a word",
}

Cells = dict[tuple[str, int, int], object]


def read_by_ours(raw: bytes) -> Cells:
    found, _ = find_tables(raw, DEFAULT_OPTIONS)
    return {
        (table.name, row.number, column): simplify(table.cells.read_value(cell))
        for table in found for row in table.rows() for column, cell in row.cells.items()
        if table.cells.read_value(cell).text
    }  # fmt: skip


def simplify(value: Value) -> object:
    try:
        return value.moment or float(value.text)
    except ValueError:
        return value.text


def read_by_theirs(raw: bytes) -> Cells:
    made = openpyxl.load_workbook(io.BytesIO(raw), read_only=True, data_only=True)
    cells: Cells = {}
    for sheet in made.worksheets:
        if sheet.sheet_state == "visible":
            # What a sheet says of its size is often wrong, and openpyxl would end the rows there.
            sheet.reset_dimensions()
            for row in sheet.iter_rows():
                for cell in row:
                    if cell.value is not None and (shown := convert_to_ours(cell.value)) != "":
                        cells[sheet.title, cell.row, cell.column] = shown
    return cells


def convert_to_ours(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, dt.datetime):
        return (value + dt.timedelta(microseconds=500_000)).replace(microsecond=0)
    if isinstance(value, dt.time):
        return value.replace(microsecond=0)
    text = normalize.clean(xlsx_sheet.unescape(str(value)))
    try:
        return float(text)
    except ValueError:
        return text


def assert_same(raw: bytes) -> None:
    mine = read_by_ours(raw)
    assert mine == read_by_theirs(raw)
    assert mine


def build_every_kind_of_cell() -> bytes:
    def edit(workbook: openpyxl.Workbook) -> None:
        sheet = workbook.worksheets[0]
        sheet["A3"].number_format = "m/d/yyyy h:mm"
        sheet.row_dimensions[3].hidden = True
        sheet.merge_cells("A5:B6")
        far = workbook.create_sheet("Far")
        far["ZZ500"] = "far away"
        workbook.create_sheet("Secret").sheet_state = "hidden"

    return build_book(
        ["Text", "Number", "Date", "Time", "Yes", "Error", "Spaces"],
        [
            "é漢😀",
            1.5,
            dt.datetime.fromisoformat("2026-01-05T10:01"),
            dt.time(14, 30),
            True,
            "#N/A",
            "  a \n b ",
        ],
        [46027.5, -1e300, dt.datetime.fromisoformat("1999-12-31"), 0, False, "#REF!", "_x000D_"],
        [],
        ["merged"],
        edit=edit,
    )


def test_every_kind_of_cell() -> None:
    assert_same(build_every_kind_of_cell())


def test_texts_in_a_part_of_their_own() -> None:
    assert_same(workbooks.build_book_with_shared_texts(["From", "é & <b>"], ["Message"]))


def test_a_workbook_of_ours() -> None:
    out = io.BytesIO()
    write_workbook(out, [("Tickets", [["Name", "=1+1"], ["_x0041_", "\x01"], ["00123", "#N/A"]])])
    assert_same(out.getvalue())


@needs_libreoffice
def test_a_workbook_that_libreoffice_saved(tmp_path: Path) -> None:
    assert_same(save_as("xlsx", build_every_kind_of_cell(), tmp_path))


@pytest.mark.skipif(
    not HOSTILE.is_dir(),
    reason=f"no hostile cases in {HOSTILE}: set INTAKE_HOSTILE to their folder",
)
@pytest.mark.filterwarnings("ignore::UserWarning:openpyxl")
def test_hostile_workbooks_that_both_read() -> None:
    compared_count, differing = 0, set()
    for path in sorted(HOSTILE.glob("*.xlsx")):
        raw = path.read_bytes()
        try:
            mine = read_by_ours(raw)
        except ParseError:
            continue
        try:
            other = read_by_theirs(raw)
        except Exception:  # noqa: BLE001, S112 - what openpyxl does not read is no second opinion
            continue
        compared_count += 1
        if mine != other:
            differing.add(path.name)
    assert differing == EXCEPTIONS.keys()
    assert compared_count > 30
