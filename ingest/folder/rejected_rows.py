"""Write the rejected rows of a delivery as a workbook, to be corrected and dropped again."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from io import BytesIO

from sqlalchemy import select

from ingest.parser_options import load_parser_options
from ingest.processing import parser_pool
from ingest.processing.parser_pool import ParserBugError, ParserEndedError
from ingest.replay.reprocess import UnreadableError, read_original
from parsers.item import REJECTION_HEADING, ParseError, RejectedRow
from parsers.spreadsheets.text_workbook import write_workbook
from workflow.context import AppContext
from workflow.filing.file_item import describe_rejection
from workflow.models.core import FILING_IS_REJECTED, Filing

CUT_MARK = " … (cut here: Excel takes no longer text)"

Heading = tuple[str, int]  # a heading, and its number among equal ones


def list_rejected_rows(context: AppContext, number: int) -> list[RejectedRow]:
    """Return the rejected rows of a delivery that nobody has dismissed.

    The stored bytes are parsed again. Raises UnreadableError when they cannot be read today,
    LookupError when there is no such delivery.
    """
    with context.store.read_only() as session:
        filed = select(Filing.reason).where(Filing.delivery_id == number, FILING_IS_REJECTED)
        reasons = set(session.scalars(filed))
    return (
        [row for row in _parse_rejected(context, number) if describe_rejection(row) in reasons]
        if reasons
        else []
    )


def render_workbook(rows: Iterable[RejectedRow]) -> bytes:
    """Return the rows as an .xlsx of text cells, one sheet for each original sheet.

    The last column gives the reason. Headings and values are as in the original file, so that the
    same profile reads it.
    """
    sheets: dict[str, list[RejectedRow]] = {}
    for row in rows:
        sheets.setdefault(row.sheet, []).append(row)
    out = BytesIO()
    numbered = enumerate(sheets.values(), 1)  # default names: Excel may not allow the original ones
    write_workbook(
        out,
        [(f"Sheet{number}", _render_lines(sheet_rows)) for number, sheet_rows in numbered],
        cut_mark=CUT_MARK,
    )
    return out.getvalue()


def _parse_rejected(context: AppContext, number: int) -> Iterator[RejectedRow]:
    """Yield the rejected rows of a delivery. Raises UnreadableError."""
    form, raw = read_original(context, number)
    try:
        with closing(
            parser_pool.start_parsing(form, raw, load_parser_options(context, form)).result()
        ) as answer:
            for frame in answer:
                yield from (row for row in frame.items if isinstance(row, RejectedRow))
    except (ParseError, ParserEndedError, ParserBugError) as error:
        raise UnreadableError(str(error)) from None


def _render_lines(rows: Sequence[RejectedRow]) -> Iterator[list[str]]:
    """Yield the lines of a sheet: its headings, then one line a row."""
    values_by_row = [dict(_number_headings(row)) for row in rows]
    headings = list(dict.fromkeys(heading for row in values_by_row for heading in row))
    yield [*(label for label, _ in headings), REJECTION_HEADING]
    for row, values in zip(rows, values_by_row, strict=True):
        yield [*(values.get(heading, "") for heading in headings), describe_rejection(row)]


def _number_headings(row: RejectedRow) -> Iterator[tuple[Heading, str]]:
    """Yield each value with its heading; repeated headings are numbered in their order."""
    seen: dict[str, int] = {}
    for label, text in row.values:
        seen[label] = seen.get(label, 0) + 1
        yield (label, seen[label]), text
