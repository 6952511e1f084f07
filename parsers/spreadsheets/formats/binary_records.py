"""Decoding of numbers, errors and records, as both binary formats of workbooks store them."""

import struct
from collections.abc import Iterator

from parsers.item import ParseError
from parsers.spreadsheets.formats.detect import OLD_DAMAGED
from parsers.spreadsheets.formats.model import Cell
from parsers.spreadsheets.formats.xlsx_sheet import MAX_TEXT, find_length_flaw

DAMAGED_CELL = "a cell that is damaged in the file"
# Kinds of records. Zeros stand where a sector of a disk was lost, and behind the last record.
_EOF = 0x0A
_BOF = 0x809
_ZEROS = 0
_EXACT = 10**15  # Excel keeps 15 digits of a number
ERRORS = {  # code of an error -> its text
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}


def make_number(value: float, style: int) -> Cell:
    """Return a cell with a number, written as an .xlsx has it."""
    is_whole = value.is_integer() and abs(value) < _EXACT
    return Cell("n", str(int(value)) if is_whole else repr(value), style)


def decode_rk(data: bytes, at: int) -> float:
    """Return a number that is stored in 30 bits (MS-XLS §2.5.217).

    They are an integer or the upper half of a float, or a hundred times the number. Raises
    struct.error where there are fewer.
    """
    (bits,) = struct.unpack_from("<I", data, at)
    if bits & 2:
        value = float((bits >> 2) - (1 << 30 if bits & 0x80000000 else 0))
    else:
        value = float(struct.unpack("<d", struct.pack("<Q", (bits & 0xFFFFFFFC) << 32))[0])
    return value / 100 if bits & 1 else value


def make_error(code: int, style: int) -> Cell:
    """Return a cell with an error as Excel shows it."""
    return Cell("e", ERRORS.get(code, "#ERROR"), style)


def make_text(text: str, style: int) -> Cell | None:
    """Return a cell with a text, cut where it is too long; None for a blank one."""
    if not text:
        return None
    return Cell("s", text[:MAX_TEXT], style, find_length_flaw(text))


def iter_records(
    stream: bytes, start: int, *, whole: bool = True
) -> Iterator[tuple[int, int, int]]:
    """Yield kind, start and end of the records of an .xls from `start`.

    With `whole` they are all to the end of the stream, otherwise those of one part: it begins with
    a BOF record and ends with its EOF; charts inside of it are left out. Raises ParseError where a
    part is cut short, or has zeros in the place of records.
    """
    at, depth, size = start, 0, len(stream)
    while at + 4 <= size:
        kind, begin = stream[at] | stream[at + 1] << 8, at + 4
        at = begin + (stream[at + 2] | stream[at + 3] << 8)
        if at > size:
            break
        if not whole:
            if kind == _ZEROS and at == begin:
                break
            depth += (kind == _BOF) - (kind == _EOF)
            if depth <= 0:
                return
            if depth > 1:
                continue
        elif kind == _ZEROS and at == begin:  # the padding behind the last record
            return
        yield kind, begin, at
    if not whole:
        raise ParseError(OLD_DAMAGED)
