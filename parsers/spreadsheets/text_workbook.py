"""Write an .xlsx whose every cell is text, with openpyxl, row by row.

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
    cut: str = "…",
) -> None:
    """Write sheets, each a title and its rows, to a stream.

    The first row of a sheet stays in sight. Blank texts leave their cell out. A text longer than a
    cell holds ends with `cut`. Rows are taken one by one while they are written. The same rows give
    the same bytes.
    """
    book = Workbook(write_only=True)
    book.properties.created = book.properties.modified = _SAVED
    rows = {book.create_sheet(title): lines for title, lines in sheets}
    if not rows:
        rows[book.create_sheet("Sheet1")] = ()
    with _Archive(out, "w", ZIP_DEFLATED) as archive:
        _Writer(book, archive, rows, cut).write_data()


class _Archive(ZipFile):
    """A zip that does not say when it was written."""

    def writestr(self, name: str | ZipInfo, data: bytes | str, *_: object) -> None:  # type: ignore[override]
        with self.create(str(name)) as member:
            member.write(data.encode() if isinstance(data, str) else data)

    def create(self, name: str) -> IO[bytes]:
        """Begin a member of a size not known yet."""
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
        cut: str,
    ) -> None:
        super().__init__(book, archive)
        self._zip, self._rows, self._cut = archive, rows, cut

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
                    ws.append([*_cells(ws, line, self._cut)])
            finally:  # what openpyxl has open must write its end before the member closes
                ws.close()
        self.manifest.append(ws)


def _cells(sheet: WriteOnlyWorksheet, line: Sequence[str], cut: str) -> Iterator[Cell | None]:
    for text in line:
        if text:
            cell = WriteOnlyCell(sheet, _storable(text, cut))
            cell.data_type = "s"  # openpyxl takes "=1" for a formula, "#N/A" for an error
            yield cell
        else:
            yield None


def _storable(text: str, cut: str) -> str:
    """Escape what XML cannot hold as `_xHHHH_` (ECMA-376 §22.9.2.19), and cut what is too long."""
    found = _escaped(text[: MAX_TEXT + 1])
    if len(text) > MAX_TEXT or len(found) > MAX_TEXT:
        found = _PARTIAL.sub("", found[: MAX_TEXT - len(cut)]) + cut
    return found


def _escaped(text: str) -> str:
    return _UNSTORABLE.sub(lambda match: f"_x{ord(match[0]):04X}_", text)
