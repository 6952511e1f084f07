"""Reader of a table in a text file, CSV or TSV, with the rows a worksheet would have.

Encoding and delimiter are detected from the bytes.
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

QUOTES = "a line whose quotes do not match: its columns cannot be determined"

_DELIMITERS = ",\t;|"
_SAMPLE = 2**16  # bytes that show the delimiter and the encoding
_SAMPLE_RECORDS = 50  # records of the sample that are split to rate a delimiter
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Beginnings of the errors that csv raises for a quote that is never closed.
_UNCLOSED_QUOTE = ("unexpected end of data", "field larger than field limit")
_FIRST_IN_TEXT = ord("\t")  # control characters below it are in no text
_SEPARATOR_LINE = "sep="  # Excel's own declaration of the delimiter, on a line of its own


def is_text(raw: bytes) -> bool:
    """Return whether the first bytes of a file are text, and no markup, JSON or PDF."""
    start = raw[:4096].decode(_detect_encoding(raw), errors="replace").lstrip("\ufeff \t\r\n")
    if not start or start.startswith(("<", "{", "%PDF")):
        return False
    return not any(ord(character) < _FIRST_IN_TEXT for character in start)


def open_text(raw: bytes) -> Book:
    """Open a text file as one sheet without a name.

    Raises ParseError where a quote is never closed.
    """
    encoding = _detect_encoding(raw)
    skipped, delimiter = _detect_delimiter(raw, encoding)
    iter_rows = partial(_iter_rows, raw, encoding, delimiter, skipped)
    for _ in iter_rows():  # an unclosed quote is found here, before the first row is yielded
        pass
    return Book([Sheet("", iter_rows, delimiter=delimiter)])


def _iter_rows(raw: bytes, encoding: str, delimiter: str, skip_count: int) -> Iterator[Row]:
    """Yield the records as rows of text cells, numbered from 1 as Excel does, blank ones left out.

    The first `skip_count` records are about the file itself. Raises ParseError for an unclosed
    quote.
    """
    lines = _RememberedLines(raw, encoding)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 0
    while True:
        number += 1
        lines.since.clear()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            if str(error).startswith(_UNCLOSED_QUOTE):
                raise ParseError(
                    "a text file in which a quote is never closed: export the messages as .xlsx"
                ) from error
            text = "".join(lines.since)[:MAX_TEXT]
            yield Row(number, hidden=False, cells={1: Cell("s", text, flaw=QUOTES)})
            continue
        if fields is None:
            return
        cells = {column: Cell("s", value) for column, value in enumerate(fields, start=1) if value}
        if cells and number > skip_count:
            yield Row(number, hidden=False, cells=cells, fields=fields)


class _RememberedLines(Iterator[str]):
    """Lines of a text file; `since` has those that were read since it was last cleared.

    A record that csv refuses is shown by them.
    """

    def __init__(self, raw: bytes, encoding: str) -> None:
        self.since: list[str] = []
        self._source = TextIOWrapper(BytesIO(raw), encoding, "replace", newline="")

    def __next__(self) -> str:
        line = next(self._source)
        self.since.append(line)
        return line


def _detect_encoding(raw: bytes) -> str:
    """Return the codec of a text by its byte order mark, its NULs or its bytes above ASCII."""
    by_mark = next((name for bom, name in _BOMS.items() if raw.startswith(bom)), "")
    if by_mark:
        return by_mark
    sample = raw[:_SAMPLE]
    if b"\0" in sample:
        return _detect_wide_encoding(sample)
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        # A piece around the first byte that is not UTF-8, since the beginning may be ASCII alone.
        return charsets.guess_codec(raw[max(error.start - _SAMPLE // 8, 0) :][:_SAMPLE])
    return "utf-8"


def _detect_wide_encoding(sample: bytes) -> str:
    """Return the codec of a text with NULs: UTF-16 has one in every Latin character."""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > 4 * even:
        return "utf-16-le"
    if even > 4 * odd:
        return "utf-16-be"
    return "latin-1"


def _detect_delimiter(raw: bytes, encoding: str) -> tuple[int, str]:
    """Return how many lines are about the file itself, and the delimiter.

    It is the one under which most lines have the same number of columns. Our headings play no
    part: a file whose headings are unknown has to be shown as the table it is.
    """
    text = raw[:_SAMPLE].decode(encoding, "replace").removeprefix("\ufeff")
    first = text.partition("\n")[0]
    is_declared = first.casefold().startswith(_SEPARATOR_LINE)
    if is_declared and len(first.strip()) == len(_SEPARATOR_LINE) + 1:
        return 1, first.strip()[-1]
    return 0, max(_DELIMITERS, key=lambda delimiter: _rate_delimiter(text, delimiter))


def _rate_delimiter(text: str, delimiter: str) -> float:
    """Return how evenly a delimiter divides lines into columns, 0 where it divides none.

    It is the share of lines that have the commonest number of columns. Of two equal shares the one
    with more columns is rated higher.
    """
    records = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
    try:
        lines = list(islice(records, _SAMPLE_RECORDS))
    except csv.Error:
        return 0
    widths = Counter(len(line) for line in lines if len(line) > 1)
    if not widths:
        return 0
    width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
    return count / sum(1 for line in lines if line) + min(width, 100) / 1_000
