"""winmail.dat opened: the text and files Outlook wraps for readers that are not Outlook (MS-OXTNEF)."""

import struct
from dataclasses import dataclass, field

from tnefparse import TNEF
from tnefparse import tnef as library

from parsers import charsets

library.logger.disabled = True  # it quotes what it reads, and customers' text belongs into no log

MAX_BYTES = 40_000_000
# What a library that trusts its input raises on a damaged one; RuntimeError covers recursion too.
BREAKAGES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
SIGNATURE = b"\x78\x9f\x3e\x22"


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in it."""

    plain: str = ""
    html: str = ""
    files: list[tuple[str, bytes]] = field(default_factory=list)


def read(content: bytes) -> Opened | None:
    """Open a winmail.dat, None if it is damaged or is none."""
    if not content.startswith(SIGNATURE) or len(content) > MAX_BYTES:
        return None
    try:
        parsed = TNEF(content)
        files = [(_text(a.long_filename() or a.name), bytes(a.data)) for a in parsed.attachments if a.data is not None]
        return Opened(_text(parsed.body), _text(parsed.htmlbody), files)
    except BREAKAGES:
        return None


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return charsets.decode(value)
    return charsets.clean(value) if isinstance(value, str) else ""
