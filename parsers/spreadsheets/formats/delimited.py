"""A table as CSV or TSV, with the rows a worksheet would have.

Encoding and delimiter told by the bytes.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from functools import partial
from io import BytesIO, StringIO, TextIOWrapper
from itertools import islice

from parsers.item import ParseError
from parsers.spreadsheets.formats.model import Book, Cell, Row, Sheet
from parsers.spreadsheets.formats.xlsx_sheet import MAX_TEXT
from parsers.text import charsets

QUOTES = "a line whose quotes do not match: its columns cannot be told"

_DELIMITERS = ",\t;|"
_SAMPLE = 2**16  # bytes to tell the delimiter and the encoding by
_RECORDS = 50
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_OPEN = (
    "unexpected end of data",
    "field larger than field limit",
)  # csv's words for a quote that is never closed
_TEXT_FROM = 9  # TAB, the first control in text


def is_text(raw: bytes) -> bool:
    """Tell text from binary by its first bytes.

    Markup and anything with control characters is not a table.
    """
    start = raw[:4096].decode(_encoding(raw), errors="replace").lstrip("\ufeff \t\r\n")
    return (
        bool(start)
        and not start.startswith(("<", "{", "%PDF"))
        and not any(ord(one) < _TEXT_FROM for one in start)
    )


def open_text(raw: bytes) -> Book:
    """Open a text file as one sheet without a name.

    Raises ParseError where a quote is never closed.
    """
    encoding = _encoding(raw)
    told, delimiter = _dialect(raw, encoding)
    read = partial(_rows, raw, encoding, delimiter, told)
    for _ in read():  # so that what is yielded later goes on to the end
        pass
    return Book([Sheet("", read)])


def _rows(raw: bytes, encoding: str, delimiter: str, skipped: int) -> Iterator[Row]:
    """Yield the lines as rows of text cells, numbered from 1 as Excel does, blank ones left out."""
    lines: list[str] = []  # of the record at hand
    source = TextIOWrapper(BytesIO(raw), encoding, "replace", newline="")

    def remembered() -> Iterator[str]:
        for line in source:
            lines.append(line)
            yield line

    reader = csv.reader(remembered(), delimiter=delimiter, strict=True)
    number = 0
    while True:
        number += 1
        lines.clear()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            if str(error).startswith(_OPEN):
                raise ParseError(
                    "a text file in which a quote is never closed: export the messages as .xlsx"
                ) from error
            yield Row(
                number, hidden=False, cells={1: Cell("s", "".join(lines)[:MAX_TEXT], flaw=QUOTES)}
            )
            continue
        if fields is None:
            return
        cells = {column: Cell("s", value) for column, value in enumerate(fields, start=1) if value}
        if cells and number > skipped:
            yield Row(number, hidden=False, cells=cells)


def _encoding(raw: bytes) -> str:
    marked = next((name for bom, name in _BOMS.items() if raw.startswith(bom)), "")
    if marked:
        return marked
    start = raw[:_SAMPLE]
    if b"\0" in start:  # UTF-16 without a mark has one in every Latin letter
        even, odd = start[0::2].count(0), start[1::2].count(0)
        return "utf-16-le" if odd > 4 * even else "utf-16-be" if even > 4 * odd else "latin-1"
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return charsets.guess_codec(raw[max(error.start - _SAMPLE // 8, 0) :][:_SAMPLE])
    return "utf-8"


def _dialect(raw: bytes, encoding: str) -> tuple[int, str]:
    """Return how many lines are about the file itself, and the delimiter.

    Under which most lines have as many columns.

    Not told by our headings: a file whose headings are unknown must be shown as the table it is.
    """
    text = raw[:_SAMPLE].decode(encoding, "replace").removeprefix("\ufeff")
    first, _, _ = text.partition("\n")
    if first.casefold().startswith("sep=") and len(first.strip()) == len(
        "sep=;"
    ):  # Excel's own word on it
        return 1, first.strip()[-1]
    return 0, max(_DELIMITERS, key=lambda one: _evenness(text, one))


def _evenness(text: str, delimiter: str) -> float:
    """How well a delimiter parts lines into columns.

    The share of lines with the commonest width, wider ones before.
    """
    try:
        lines = list(islice(csv.reader(StringIO(text, newline=""), delimiter=delimiter), _RECORDS))
    except csv.Error:
        return 0
    widths = Counter(len(line) for line in lines if len(line) > 1)
    if not widths:
        return 0
    width, count = max(widths.items(), key=lambda one: (one[1], one[0]))
    return count / sum(1 for line in lines if line) + min(width, 100) / 1_000
