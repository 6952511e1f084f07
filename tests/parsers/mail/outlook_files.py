"""Writer of .msg files for tests, as Outlook lays them out (MS-OXMSG, MS-CFB)."""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

Storage: TypeAlias = dict[str, Any]  # of bytes, or storages within it
SECTOR, MINI_SECTOR, CUTOFF = 512, 64, 4096
FREE, END, FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def build_message(
    texts: dict[int, str],
    *,
    html: bytes = b"",
    sent_at: datetime | None = None,
    codepage: int = 0,
    recipients: Sequence[tuple[int, str, str]] = (),  # type (1 To, 2 Cc), name, address
    files: Sequence[tuple[str, str, bytes | Storage]] = (),  # name, type, bytes or message
    head: int = 32,
) -> Storage:
    """Return a message's storage. `texts` are properties by tag, of 8 bits with a codepage."""
    storage: Storage = {}
    for tag, text in texts.items():
        storage |= _make_text(tag, text, codepage)
    if html:
        storage["__substg1.0_10130102"] = html
    numbers = {0x0039: _to_filetime(sent_at)} if sent_at else {}
    numbers |= {0x3FDE: codepage} if codepage else {}
    storage["__properties_version1.0"] = bytes(head) + _pack(numbers)
    for number, (kind, name, address) in enumerate(recipients):
        storage[f"__recip_version1.0_#{number:08X}"] = {
            **_make_text(0x3001, name, codepage),
            **_make_text(0x39FE, address, codepage),
            "__properties_version1.0": bytes(8) + _pack({0x0C15: kind}),
        }
    for number, (name, mime, content) in enumerate(files):
        is_message = isinstance(content, dict)
        storage[f"__attach_version1.0_#{number:08X}"] = {
            **_make_text(0x3707, name, codepage),
            **_make_text(0x370E, mime, codepage),
            f"__substg1.0_3701{'000D' if is_message else '0102'}": content,
            "__properties_version1.0": bytes(8) + _pack({0x3705: 5 if is_message else 1}),
        }
    return storage


def build_file(storage: Storage) -> bytes:
    """Return a compound file with these streams and storages.

    A content that is one object in several places is written once, as bombs have it.
    """
    return _Writer().write(storage)


def _make_text(tag: int, text: str, codepage: int) -> Storage:
    if codepage:
        return {f"__substg1.0_{tag:04X}001E": text.encode(f"cp{codepage}")}
    return {f"__substg1.0_{tag:04X}001F": text.encode("utf-16-le")}


def _to_filetime(moment: datetime) -> int:
    return int((moment - EPOCH).total_seconds()) * 10_000_000


def _pack(numbers: dict[int, int]) -> bytes:
    return b"".join(struct.pack("<HHIQ", 3, tag, 6, value) for tag, value in numbers.items())


class _Writer:
    """A compound file while it is written: its sectors, and the chain of each stream."""

    def __init__(self) -> None:
        self._sectors: list[bytes] = []
        self._fat: list[int] = []
        self._mini, self._mini_fat = b"", []
        self._entries: list[bytes] = []
        self._starts: dict[int, int] = {}  # of contents, by their identity

    def write(self, root: Storage) -> bytes:
        self._entries.append(b"")
        child = self._add_children(root)
        start = self._add_stream(self._mini)
        self._entries[0] = _pack_entry("Root Entry", 5, child, start, len(self._mini))
        empty = _pack_entry("", 0, FREE, 0, 0)
        self._entries += [empty] * (-len(self._entries) % 4)
        directory = self._add_stream(b"".join(self._entries))
        mini_fat = self._add_stream(_pack_numbers(self._mini_fat))
        count = 1
        while (len(self._fat) + count) * 4 > count * SECTOR:
            count += 1
        first = len(self._fat)
        self._fat += [FAT] * count
        self._sectors += [
            _pack_numbers(self._fat)[n * SECTOR : (n + 1) * SECTOR].ljust(SECTOR, b"\xff")
            for n in range(count)
        ]
        numbers = (count, directory, 0, CUTOFF, mini_fat, -(-len(self._mini_fat) // 128), END, 0)
        head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
        head += struct.pack("<HHHHH6xI", 0x3E, 3, 0xFFFE, 9, 6, 0)
        head += struct.pack("<8I", *numbers) + _pack_numbers(list(range(first, first + count)))
        return head.ljust(SECTOR, b"\xff") + b"".join(self._sectors)

    def _add_children(self, storage: Storage) -> int:
        """Add the entries of a storage; return the number of the first, FREE for none."""
        names = sorted(storage, key=lambda name: (len(name), name.upper()))
        numbers = []
        for name in names:
            content, number = storage[name], len(self._entries)
            numbers.append(number)
            self._entries.append(b"")
            if isinstance(content, dict):
                child = self._add_children(content)
                self._entries[number] = _pack_entry(name, 1, child, 0, 0)
            else:
                if id(content) not in self._starts:
                    self._starts[id(content)] = self._add_content(content)
                start = self._starts[id(content)]
                self._entries[number] = _pack_entry(name, 2, FREE, start, len(content))
        for number, following in zip(numbers, [*numbers[1:], FREE], strict=True):
            entry = bytearray(self._entries[number])
            struct.pack_into("<I", entry, 72, following)  # its right sibling
            self._entries[number] = bytes(entry)
        return numbers[0] if numbers else FREE

    def _add_content(self, content: bytes) -> int:
        if len(content) >= CUTOFF:
            return self._add_stream(content)
        start, count = len(self._mini_fat), -(-len(content) // MINI_SECTOR)
        if count:
            self._mini += content.ljust(count * MINI_SECTOR, b"\0")
            self._mini_fat += [*range(start + 1, start + count), END]
        return start if count else END

    def _add_stream(self, content: bytes) -> int:
        start, count = len(self._fat), -(-len(content) // SECTOR)
        if count:
            padded = content.ljust(count * SECTOR, b"\0")
            self._sectors += [padded[n * SECTOR : (n + 1) * SECTOR] for n in range(count)]
            self._fat += [*range(start + 1, start + count), END]
        return start if count else END


def _pack_numbers(numbers: list[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _pack_entry(name: str, kind: int, child: int, start: int, size: int) -> bytes:
    text = name.encode("utf-16-le")
    length = len(text) + 2 if name else 0
    head = text.ljust(64, b"\0") + struct.pack("<HBB3I", length, kind, 1, FREE, FREE, child)
    return head.ljust(116, b"\0") + struct.pack("<IQ", start, size)
