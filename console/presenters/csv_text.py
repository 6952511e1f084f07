"""CSV as spreadsheets read it: UTF-8 with a byte order mark, without formulas."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO

from parsers.crm_export.table import escape_formula

BOM = "\ufeff"  # without it Excel reads the file in the code page of the machine


def encode_csv(lines: Iterable[Sequence[str]]) -> Iterator[bytes]:
    """Yield the lines as CSV in UTF-8, a piece a line; no cell is computed as a formula."""
    yield BOM.encode()
    for line in lines:
        out = StringIO()
        csv.writer(out).writerow([escape_formula(cell) for cell in line])
        yield out.getvalue().encode("utf-8", "replace")
