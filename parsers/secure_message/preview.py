"""The first rows of every table in a file.

What a person is shown of it to say what its columns mean.
"""

from collections.abc import Iterator
from itertools import islice

from parsers.item import ParseError
from parsers.options import Options
from parsers.secure_message.columns import MAX_SEARCHED_ROWS
from parsers.spreadsheets.reader import Table, find_tables

SAMPLE_ROWS = 3  # rows below a heading, wherever it is found
# characters of all of them: what is handed on does not grow with what a file makes of itself
MAX_TEXT = 8_000_000

NumberedRow = tuple[
    int, dict[int, str]
]  # a row: its number as Excel counts, and the texts by column
TablePreview = tuple[str, list[NumberedRow]]  # a table: its name and its first rows


def top(raw: bytes, options: Options) -> list[TablePreview]:
    """The rows among which a heading is looked for, and a few more.

    Of every visible table that has any.

    Raises ParseError where the file is none of ours, or has rows too long to be shown.
    """
    read, _ = find_tables(raw, options)
    found, room = [], MAX_TEXT
    for table in read:
        rows = []
        for number, row in _first_rows(table):
            room -= sum(map(len, row.values()))
            if room < 0:
                raise ParseError(
                    "the first rows of the file hold more text than can be shown: export fewer"
                    " columns"
                )
            rows.append((number, row))
        if rows:
            found.append((table.name, rows))
    return found


def _first_rows(table: Table) -> Iterator[NumberedRow]:
    read = (
        ({c: table.cells.read_value(cell).text for c, cell in row.cells.items()}, row.number)
        for row in table.rows()
    )
    filled = ((number, {c: text for c, text in row.items() if text}) for row, number in read)
    return islice(((number, row) for number, row in filled if row), MAX_SEARCHED_ROWS + SAMPLE_ROWS)
