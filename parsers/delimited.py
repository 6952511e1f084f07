"""A table as CSV or TSV, with the rows a worksheet would have: read only where its dialect is certain."""

import csv
from collections.abc import Iterator
from io import StringIO

from parsers import headings
from parsers.item import ParseError
from parsers.worksheet import Cell, Row

_DELIMITERS = ",\t;|"
_SAMPLE = 2**16  # characters: the headings are in there, or nowhere
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def is_text(raw: bytes) -> bool:
    """Tell text from binary by its first bytes: markup and anything with control characters is not a table."""
    if raw.startswith(tuple(_BOMS)):
        return True
    start = raw[:4096].lstrip()
    return bool(start) and not start.startswith((b"<", b"{", b"%PDF")) and not any(byte < 9 for byte in start)  # noqa: PLR2004 - TAB, the first control in text


def rows(raw: bytes) -> Iterator[Row]:
    """Yield the lines as rows of text cells, numbered from 1, blank ones left out.

    The delimiter is the one under which the first lines hold headings of ours. Raises ParseError where there is none,
    or where quotes or bytes are broken.
    """
    text = _decode(raw)
    delimiter = _delimiter(text)
    try:
        for number, fields in enumerate(_reader(text, delimiter), start=1):
            cells = {column: Cell("s", value) for column, value in enumerate(fields, start=1) if value}
            if cells:
                yield Row(number, hidden=False, cells=cells)
    except csv.Error as error:
        raise ParseError("a text file whose quotes do not match: export the messages as .xlsx") from error


def _decode(raw: bytes) -> str:
    encoding = next((name for bom, name in _BOMS.items() if raw.startswith(bom)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        # What is no UTF-8 was saved by Excel on Windows, whose code page maps every letter a practice's name has.
        return raw.decode("cp1252", errors="replace")


def _delimiter(text: str) -> str:
    for delimiter in _DELIMITERS:
        try:
            lines = [
                line for line, _ in zip(_reader(text[:_SAMPLE], delimiter), range(headings.SEARCHED), strict=False)
            ]
        except csv.Error:
            continue
        found = headings.find([{at: value for at, value in enumerate(line) if value.strip()} for line in lines])
        if found and not found.missing:
            return delimiter
    raise ParseError("mapping needed: a text file without headings for the message text and the practice or the sender")


def _reader(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(StringIO(text, newline=""), delimiter=delimiter)
