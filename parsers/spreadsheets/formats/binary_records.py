"""What the two binary formats of workbooks share: how numbers, errors and records are stored."""

import struct
from collections.abc import Iterator

from parsers.item import ParseError
from parsers.spreadsheets.formats.detect import OLD_DAMAGED
from parsers.spreadsheets.formats.model import Cell
from parsers.spreadsheets.formats.xlsx_sheet import MAX_TEXT, TOO_LONG

DAMAGED_CELL = "a cell that is damaged in the file"
_EOF, _BOF, _ANY = 0x0A, 0x809, 0
ERRORS = {
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}


def number(value: float, style: int) -> Cell:
    """A number as XML parts would have it."""
    return Cell(
        "n", str(int(value)) if value.is_integer() and abs(value) < 10**15 else repr(value), style
    )


def rk(data: bytes, at: int) -> float:
    """A number in 30 bits (MS-XLS §2.5.217).

    An integer or the upper half of a float, perhaps a hundredth of it.
    """
    (stored,) = struct.unpack_from("<I", data, at)
    if stored & 2:
        value = float((stored >> 2) - (1 << 30 if stored & 0x80000000 else 0))
    else:
        value = float(struct.unpack("<d", struct.pack("<Q", (stored & 0xFFFFFFFC) << 32))[0])
    return value / 100 if stored & 1 else value


def error(code: int, style: int) -> Cell:
    """An error as Excel shows it."""
    return Cell("e", ERRORS.get(code, "#ERROR"), style)


def text(found: str, style: int) -> Cell | None:
    """A text; None for a blank one."""
    return (
        Cell("s", found[:MAX_TEXT], style, TOO_LONG if len(found) > MAX_TEXT else "")
        if found
        else None
    )


def records(stream: bytes, start: int, *, whole: bool = True) -> Iterator[tuple[int, int, int]]:
    """Yield the kind, start and end of the records of an .xls from `start`.

    All to the end, or those of one part. A part begins with a BOF record and ends with its EOF;
    charts inside of it are left out. Raises ParseError where a part is cut short, or zeros stand in
    the place of records, as where a sector of a disk was lost.
    """
    at, depth, size = start, 0, len(stream)
    while at + 4 <= size:
        kind, begin = stream[at] | stream[at + 1] << 8, at + 4
        at = begin + (stream[at + 2] | stream[at + 3] << 8)
        if at > size:
            break
        if not whole:
            if kind == _ANY and at == begin:
                break
            depth += (kind == _BOF) - (kind == _EOF)
            if depth <= 0:
                return
            if depth > 1:
                continue
        elif kind == _ANY and at == begin:  # the padding after the last record
            return
        yield kind, begin, at
    if not whole:
        raise ParseError(OLD_DAMAGED)
