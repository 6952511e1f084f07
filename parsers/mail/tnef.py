"""winmail.dat opened.

The text and files Outlook wraps for readers that are not Outlook (MS-OXTNEF).

Our own reader: the library there is believes every count a file gives, and goes on counting for
hours.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from parsers.text import charsets

MAX_BYTES = 40_000_000
MAX_OBJECTS = 100_000
MAX_FILES = 1000
SIGNATURE = b"\x78\x9f\x3e\x22"
# IID_IMessage, before a message
EMBEDDED = b"\x07\x03\x02\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46"

# Attributes (MS-OXTNEF §2.1.3.2) that are read; all others are passed over.
CODEPAGE, BODY, PROPERTIES = 0x9007, 0x800C, 0x9003
FILE_BEGINS, FILE_TITLE, FILE_DATA, FILE_PROPERTIES = 0x9002, 0x8010, 0x800F, 0x9005
# Properties (MS-OXPROPS) that are read.
TEXT, HTML, PAGE, DATA = 0x1000, 0x1013, 0x3FDE, 0x3701
SHORT_NAME, LONG_NAME, DISPLAY_NAME = 0x3704, 0x3707, 0x3001

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
    """What was in it."""

    plain: str = ""
    html: str = ""
    files: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class _File:
    """One file while its attributes come in."""

    title: str = ""
    content: bytes = b""
    texts: dict[int, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The longest form of its name there is."""
        names = (
            self.texts.get(LONG_NAME),
            self.title,
            self.texts.get(SHORT_NAME),
            self.texts.get(DISPLAY_NAME),
        )
        return next(filter(None, names), "")


def parse(content: bytes) -> TnefContent | None:
    """Open a winmail.dat; None if it is none. Of a damaged one, what can be read."""
    if not content.startswith(SIGNATURE) or len(content) > MAX_BYTES:
        return None
    codepage, plain, html = "", "", ""
    files: list[_File] = []
    for name, data in _objects(memoryview(content)):
        if name == CODEPAGE:
            codepage = _codepage(data)
        elif name == BODY:
            plain = plain or _text(data, codepage)
        elif name == PROPERTIES:
            found = {tag: (kind, value) for tag, kind, value in _properties(data)}
            page = _codepage(found[PAGE][1]) if PAGE in found else ""
            plain = _value(*found[TEXT], page or codepage) if TEXT in found else plain
            html = _value(*found[HTML], page) if HTML in found else html
        elif name == FILE_BEGINS and len(files) < MAX_FILES:
            files.append(_File())
        elif files:
            _fill(files[-1], name, data, codepage)
    return TnefContent(
        plain, html, [(file.name, file.content) for file in files if file.content or file.name]
    )


def _codepage(number: memoryview) -> str:
    return f"cp{_NUMBER.unpack_from(number)[0]}" if len(number) >= _NUMBER.size else ""


def _objects(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Attributes in their order (§2.1.3.1): number and data; the last one may be cut off."""
    position = len(SIGNATURE) + 2
    for _ in range(MAX_OBJECTS):
        if position + _HEAD.size > len(data):
            return
        _, name, _, size = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        yield name, data[start : start + size]
        position = start + size + 2  # the checksum: a wrong one makes nothing better


def _fill(file: _File, name: int, data: memoryview, codepage: str) -> None:
    if name == FILE_TITLE:
        file.title = _text(data, codepage)
    elif name == FILE_DATA:
        file.content = bytes(data)
    elif name == FILE_PROPERTIES:
        for tag, kind, value in _properties(data):
            if tag == DATA:
                file.content = bytes(value).removeprefix(EMBEDDED)
            elif tag in {SHORT_NAME, LONG_NAME, DISPLAY_NAME}:
                file.texts[tag] = _value(kind, value, codepage)


def _properties(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Tag, type and first value of each property; ends where the data does or makes no sense."""
    position = _NUMBER.size
    try:
        while position < len(data):
            kind, tag = _TAG.unpack_from(data, position)
            position = _after_name(data, position + _TAG.size, tag)
            value, position = _first_value(data, position, kind)
            yield tag, kind & ~MULTIPLE, value
    except (struct.error, KeyError):
        return


def _after_name(data: memoryview, position: int, tag: int) -> int:
    """Position behind the name of a named property: a GUID, and a number or a text."""
    if tag < NAMED:
        return position
    [kind] = _NUMBER.unpack_from(data, position + 16)
    [length] = _NUMBER.unpack_from(data, position + 20)
    return position + 24 + (_padded(length) if kind else 0)


def _first_value(data: memoryview, position: int, kind: int) -> tuple[memoryview, int]:
    """First value of a property and the position behind its last.

    Raises struct.error or KeyError on nonsense.
    """
    multiple, kind = bool(kind & MULTIPLE), kind & ~MULTIPLE
    count = 1
    if multiple or kind in VARIABLE:
        [count] = _NUMBER.unpack_from(data, position)
        position += _NUMBER.size
    if kind not in VARIABLE:
        size = SIZES[kind]
        return data[position : position + size], position + _padded(size * count)
    first: memoryview | None = None
    for _ in range(count):
        [length] = _NUMBER.unpack_from(
            data, position
        )  # past the end it raises, whatever the count says
        position += _NUMBER.size
        first = data[position : position + length] if first is None else first
        position += _padded(length)
    return first if first is not None else data[:0], position


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _value(kind: int, value: memoryview, codepage: str) -> str:
    if kind == UNICODE:
        return charsets.clean(bytes(value).decode("utf-16-le", "replace"))
    return _text(value, codepage)


def _text(data: memoryview, codepage: str) -> str:
    """Text without the NUL that ends it."""
    return charsets.decode(bytes(data).rstrip(b"\0"), codepage)
