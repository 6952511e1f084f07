"""Preview of a file: the first rows of every table, shown to a person who maps its columns."""

from collections.abc import Iterator
from itertools import islice

from parsers.item import ParseError
from parsers.options import Options
from parsers.secure_message.headings import MAX_SEARCHED_ROWS
from parsers.spreadsheets.reader import Table, find_tables

SAMPLE_ROWS = 3  # rows below a heading, wherever it is found
MAX_TEXT = 8_000_000  # characters of all rows together, however much text a file unpacks to

NumberedRow = tuple[int, dict[int, str]]  # number of a row as Excel counts, its texts by column
TablePreview = tuple[str, list[NumberedRow]]  # name of a table, its first rows


def preview_tables(raw: bytes, options: Options) -> list[TablePreview]:
    """Return the rows among which a heading is searched, and a few more, of every visible table.

    Tables without rows are left out. Raises ParseError where the file is none we read, or has rows
    too long to be shown.
    """
    tables, _ = find_tables(raw, options)
    previews: list[TablePreview] = []
    characters_left = MAX_TEXT
    for table in tables:
        rows = []
        for number, texts in islice(_iter_filled_rows(table), MAX_SEARCHED_ROWS + SAMPLE_ROWS):
            characters_left -= sum(map(len, texts.values()))
            if characters_left < 0:
                raise ParseError(
                    "the first rows of the file hold more text than can be shown: export fewer"
                    " columns"
                )
            rows.append((number, texts))
        if rows:
            previews.append((table.name, rows))
    return previews


def _iter_filled_rows(table: Table) -> Iterator[NumberedRow]:
    for row in table.rows():
        texts = {c: table.cells.read_value(cell).text for c, cell in row.cells.items()}
        filled = {column: text for column, text in texts.items() if text}
        if filled:
            yield row.number, filled
