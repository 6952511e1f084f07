"""The rows of a delivery that were rejected, as a workbook.

To be mended there, and dropped again as it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from io import BytesIO

from sqlalchemy import select

from ingest.parser_options import options
from ingest.processing import parser_pool
from ingest.processing.parser_pool import BrokenError, EndedError
from ingest.replay.reprocess import UnreadableError, original
from parsers.item import WHY, ParseError, RejectedRow
from parsers.spreadsheets.text_workbook import write_workbook
from workflow.context import House
from workflow.filing.file_item import why_rejected
from workflow.models.core import REJECTED_ROW, Filing

CUT = " … (cut here: Excel takes no longer text)"

Heading = tuple[str, int]  # a heading, and which of several that read the same


def rejected_rows(house: House, number: int) -> list[RejectedRow]:
    """The rejected rows of a delivery that nobody has dismissed, read anew from its stored bytes.

    Raises UnreadableError when these cannot be read today, LookupError when there is no such
    delivery.
    """
    with house.store.reading() as session:
        filed = select(Filing.reason).where(Filing.delivery_id == number, REJECTED_ROW)
        reasons = set(session.scalars(filed))
    return [row for row in _read(house, number) if why_rejected(row) in reasons] if reasons else []


def workbook(rows: Iterable[RejectedRow]) -> bytes:
    """The rows as an .xlsx of text cells, a sheet for each they were on; the last column says why.

    Headings and values are as in the file they came from, so that it is read by the same profile.
    """
    sheets: dict[str, list[RejectedRow]] = {}
    for row in rows:
        sheets.setdefault(row.sheet, []).append(row)
    out = BytesIO()
    numbered = enumerate(sheets.values(), 1)  # a sheet's own name may not be allowed
    write_workbook(out, [(f"Sheet{number}", _lines(found)) for number, found in numbered], cut=CUT)
    return out.getvalue()


def _read(house: House, number: int) -> Iterator[RejectedRow]:
    form, raw = original(house, number)
    try:
        with closing(parser_pool.start(form, raw, options(house, form)).result()) as answer:
            for frame in answer:
                yield from (row for row in frame.items if isinstance(row, RejectedRow))
    except (ParseError, EndedError, BrokenError) as error:
        raise UnreadableError(str(error)) from None


def _lines(rows: Sequence[RejectedRow]) -> Iterator[list[str]]:
    told = [dict(_counted(row)) for row in rows]
    headings = list(dict.fromkeys(heading for row in told for heading in row))
    yield [*(label for label, _ in headings), WHY]
    for row, values in zip(rows, told, strict=True):
        yield [*(values.get(heading, "") for heading in headings), why_rejected(row)]


def _counted(row: RejectedRow) -> Iterator[tuple[Heading, str]]:
    """Each value with its heading, those that read the same told apart by their order."""
    seen: dict[str, int] = {}
    for label, text in row.values:
        seen[label] = seen.get(label, 0) + 1
        yield (label, seen[label]), text
