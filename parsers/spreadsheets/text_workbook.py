"""Writer of .xlsx files whose every cell is text, row by row, with openpyxl.

Texts come from strangers and hold patient data, so two habits of openpyxl are overridden: it takes
a text that begins with "=" for a formula, and it keeps each sheet in a temporary file until the
workbook is saved. Here a sheet goes straight into the zip: one row is in memory at a time, and
nothing lies in the temporary folder in clear.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from openpyxl import Workbook
from openpyxl.cell import Cell, WriteOnlyCell
from openpyxl.worksheet._write_only import WriteOnlyWorksheet
from openpyxl.worksheet._writer import WorksheetWriter
from openpyxl.writer.excel import ExcelWriter

MAX_TEXT = 32_767  # characters of one Excel cell
_SAVED = datetime(2000, 1, 1)  # noqa: DTZ001 - a workbook's times have no zone

# Characters no XML may hold, the return key, which XML readers change, and what looks escaped.
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_PARTIAL = re.compile(r"_(?:x[0-9A-F]{0,4})?\Z")  # an escape that was cut through


def write_workbook(
    out: IO[bytes],
    sheets: Iterable[tuple[str, Iterable[Sequence[str]]]],
    *,
    cut_mark: str = "…",
) -> None:
    """Write sheets, each a title and its rows, to a stream.

    The first row of a sheet stays in sight. Blank texts leave their cell out. A text longer than a
    cell holds ends with `cut_mark`. Rows are taken one by one while they are written. The same rows
    give the same bytes.
    """
    book = Workbook(write_only=True)
    book.properties.created = book.properties.modified = _SAVED
    rows = {book.create_sheet(title): lines for title, lines in sheets}
    if not rows:
        rows[book.create_sheet("Sheet1")] = ()
    with _Archive(out, "w", ZIP_DEFLATED) as archive:
        _Writer(book, archive, rows, cut_mark).write_data()


class _Archive(ZipFile):
    """A zip whose entries carry a fixed date, so that the same content gives the same bytes."""

    def writestr(  # type: ignore[override]
        self, name: str | ZipInfo, data: bytes | str, *_: object
    ) -> None:
        """Add a member; openpyxl calls this for every part but the sheets."""
        with self.create(str(name)) as member:
            member.write(data.encode() if isinstance(data, str) else data)

    def create(self, name: str) -> IO[bytes]:
        """Add a member whose size is not known yet; return it, open for writing."""
        info = ZipInfo(name)  # its date is 1980-01-01
        info.compress_type = ZIP_DEFLATED
        return self.open(info, "w", force_zip64=True)


class _Writer(ExcelWriter):
    """openpyxl's writer, with sheets that go into the zip as their rows come."""

    def __init__(
        self,
        book: Workbook,
        archive: _Archive,
        rows: dict[WriteOnlyWorksheet, Iterable[Sequence[str]]],
        cut_mark: str,
    ) -> None:
        super().__init__(book, archive)
        self._zip, self._rows, self._cut_mark = archive, rows, cut_mark

    def write_worksheet(self, ws: WriteOnlyWorksheet) -> None:  # type: ignore[override]
        """Write one sheet; openpyxl calls this for each, in their order."""
        ws.freeze_panes = "A2"
        with self._zip.create(ws.path[1:]) as member:
            writer = WorksheetWriter(ws, member)
            # Set, or openpyxl would make one with a temporary file.
            ws._writer = writer  # type: ignore[attr-defined]  # noqa: SLF001
            writer.write_top()
            try:
                for line in self._rows[ws]:
                    ws.append([*_iter_cells(ws, line, self._cut_mark)])
            finally:  # openpyxl has to write the end of the part before the member closes
                ws.close()
        self.manifest.append(ws)


def _iter_cells(
    sheet: WriteOnlyWorksheet, line: Sequence[str], cut_mark: str
) -> Iterator[Cell | None]:
    for text in line:
        if text:
            cell = WriteOnlyCell(sheet, _make_storable(text, cut_mark))
            cell.data_type = "s"  # openpyxl takes "=1" for a formula, "#N/A" for an error
            yield cell
        else:
            yield None


def _make_storable(text: str, cut_mark: str) -> str:
    """Return a text that a cell can hold; one that is too long is cut and ends with `cut_mark`."""
    escaped = _escape(text[: MAX_TEXT + 1])
    if len(text) > MAX_TEXT or len(escaped) > MAX_TEXT:
        escaped = _PARTIAL.sub("", escaped[: MAX_TEXT - len(cut_mark)]) + cut_mark
    return escaped


def _escape(text: str) -> str:
    """Return a text with characters that XML cannot hold as `_xHHHH_` (ECMA-376 §22.9.2.19)."""
    return _UNSTORABLE.sub(lambda match: f"_x{ord(match[0]):04X}_", text)
