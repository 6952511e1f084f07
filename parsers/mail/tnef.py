"""Reader of winmail.dat, in which Outlook wraps text and files for other readers (MS-OXTNEF).

Our own, because the only library believes every count a file gives: tnefparse 1.4 goes on counting
for hours in a crafted file.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from parsers.text import charsets

MAX_BYTES = 40_000_000
MAX_OBJECTS = 100_000
MAX_FILES = 1000
SIGNATURE = b"\x78\x9f\x3e\x22"
# IID_IMessage, which stands before an attached message.
EMBEDDED = b"\x07\x03\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46"


class _Attribute(IntEnum):
    """Attributes that are read (MS-OXTNEF §2.1.3.2); all others are passed over."""

    CODEPAGE = 0x9007
    BODY = 0x800C
    PROPERTIES = 0x9003
    FILE_BEGINS = 0x9002
    FILE_TITLE = 0x8010
    FILE_DATA = 0x800F
    FILE_PROPERTIES = 0x9005


class _Tag(IntEnum):
    """Properties that are read (MS-OXPROPS)."""

    TEXT = 0x1000
    HTML = 0x1013
    CODEPAGE = 0x3FDE
    DATA = 0x3701
    SHORT_NAME = 0x3704
    LONG_NAME = 0x3707
    DISPLAY_NAME = 0x3001


FILE_NAMES = frozenset({_Tag.SHORT_NAME, _Tag.LONG_NAME, _Tag.DISPLAY_NAME})

# Property types (MS-OXTNEF §2.1.3.4) -> bytes of one value; those of variable length are not here.
SIZES = {
    0x02: 2,
    0x03: 4,
    0x04: 4,
    0x05: 8,
    0x06: 8,
    0x07: 8,
    0x0A: 4,
    0x0B: 2,
    0x14: 8,
    0x40: 8,
    0x48: 16,
}
VARIABLE = frozenset({0x0D, 0x1E, 0x1F, 0x0102})
UNICODE, MULTIPLE, NAMED = 0x1F, 0x1000, 0x8000

_HEAD = struct.Struct("<BHHI")
_TAG = struct.Struct("<HH")
_NUMBER = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class TnefContent:
    """Text and files of a winmail.dat; each may be empty."""

    plain: str = ""
    html: str = ""
    files: list[tuple[str, bytes]] = field(default_factory=list)  # name and content


@dataclass(slots=True)
class _File:
    """File while its attributes come in."""

    title: str = ""
    content: bytes = b""
    texts: dict[int, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The longest form of its name there is."""
        names = (
            self.texts.get(_Tag.LONG_NAME),
            self.title,
            self.texts.get(_Tag.SHORT_NAME),
            self.texts.get(_Tag.DISPLAY_NAME),
        )
        return next(filter(None, names), "")


def parse(content: bytes) -> TnefContent | None:
    """Open a winmail.dat; None if it is none. Of a damaged one, return what can be read."""
    if not content.startswith(SIGNATURE) or len(content) > MAX_BYTES:
        return None
    reader = _Reader()
    for number, data in _iter_attributes(memoryview(content)):
        reader.take(number, data)
    return reader.get_content()


class _Reader:
    """Text and files of a winmail.dat while its attributes go by."""

    def __init__(self) -> None:
        self._codepage = self._plain = self._html = ""
        self._files: list[_File] = []

    def take(self, number: int, data: memoryview) -> None:
        """Take the next attribute. Attributes of a file follow the one that begins it."""
        match number:
            case _Attribute.CODEPAGE:
                self._codepage = _name_codepage(data)
            case _Attribute.BODY:
                self._plain = self._plain or decode_text(data, self._codepage)
            case _Attribute.PROPERTIES:
                self._take_properties(data)
            case _Attribute.FILE_BEGINS if len(self._files) < MAX_FILES:
                self._files.append(_File())
            case _ if self._files:
                self._fill(self._files[-1], number, data)

    def get_content(self) -> TnefContent:
        """Return what was read."""
        files = [(file.name, file.content) for file in self._files if file.content or file.name]
        return TnefContent(self._plain, self._html, files)

    def _take_properties(self, data: memoryview) -> None:
        """Take the properties of the message; its text in them is better than its BODY."""
        values = {tag: (kind, value) for tag, kind, value in _iter_properties(data)}
        codepage = ""
        if _Tag.CODEPAGE in values:
            _, number = values[_Tag.CODEPAGE]
            codepage = _name_codepage(number)
        if _Tag.TEXT in values:
            self._plain = _decode_value(*values[_Tag.TEXT], codepage or self._codepage)
        if _Tag.HTML in values:
            self._html = _decode_value(*values[_Tag.HTML], codepage)

    def _fill(self, file: _File, number: int, data: memoryview) -> None:
        match number:
            case _Attribute.FILE_TITLE:
                file.title = decode_text(data, self._codepage)
            case _Attribute.FILE_DATA:
                file.content = bytes(data)
            case _Attribute.FILE_PROPERTIES:
                for tag, kind, value in _iter_properties(data):
                    if tag == _Tag.DATA:
                        file.content = bytes(value).removeprefix(EMBEDDED)
                    elif tag in FILE_NAMES:
                        file.texts[tag] = _decode_value(kind, value, self._codepage)


def _name_codepage(number: memoryview) -> str:
    return f"cp{_NUMBER.unpack_from(number)[0]}" if len(number) >= _NUMBER.size else ""


def _iter_attributes(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and data of each attribute (§2.1.3.1); the last one may be cut off."""
    position = len(SIGNATURE) + 2
    for _ in range(MAX_OBJECTS):
        if position + _HEAD.size > len(data):
            return
        _, name, _, size = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        yield name, data[start : start + size]
        position = start + size + 2  # the checksum: a wrong one makes nothing better


def _iter_properties(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield tag, type and first value of each property, as far as the data makes sense."""
    position = _NUMBER.size
    try:
        while position < len(data):
            kind, tag = _TAG.unpack_from(data, position)
            position = _skip_name(data, position + _TAG.size, tag)
            value, position = _read_first_value(data, position, kind)
            yield tag, kind & ~MULTIPLE, value
    except (struct.error, KeyError):
        return


def _skip_name(data: memoryview, position: int, tag: int) -> int:
    """Return the position behind the name of a named property: a GUID, and a number or a text."""
    if tag < NAMED:
        return position
    [kind] = _NUMBER.unpack_from(data, position + 16)
    [length] = _NUMBER.unpack_from(data, position + 20)
    return position + 24 + (_pad(length) if kind else 0)


def _read_first_value(data: memoryview, position: int, kind: int) -> tuple[memoryview, int]:
    """Return the first value of a property and the position behind its last one.

    Raises struct.error where the data ends too early, KeyError for an unknown type.
    """
    is_multiple, kind = bool(kind & MULTIPLE), kind & ~MULTIPLE
    count = 1
    if is_multiple or kind in VARIABLE:
        [count] = _NUMBER.unpack_from(data, position)
        position += _NUMBER.size
    if kind not in VARIABLE:
        size = SIZES[kind]
        return data[position : position + size], position + _pad(size * count)
    first = data[:0]
    for number in range(count):
        # Past the end this raises, however high the count is.
        [length] = _NUMBER.unpack_from(data, position)
        position += _NUMBER.size
        if number == 0:
            first = data[position : position + length]
        position += _pad(length)
    return first, position


def _pad(length: int) -> int:
    """Return the length with its padding to four bytes."""
    return (length + 3) & ~3


def _decode_value(kind: int, value: memoryview, codepage: str) -> str:
    if kind == UNICODE:
        return charsets.clean(bytes(value).decode("utf-16-le", "replace"))
    return decode_text(value, codepage)


def decode_text(data: bytes | memoryview, codepage: str) -> str:
    """Return a text of Outlook's without the NUL that ends it; `codepage` is as in "cp1252"."""
    return charsets.decode(bytes(data).rstrip(b"\0"), codepage)
