"""What is taken of a mail that is larger than the limit: its header, its text, and files that fit.

The server lists the parts of the mail (BODYSTRUCTURE, RFC 3501, section 7.4.2). The texts are
fetched first, then the smallest files, as long as the limit allows; of what came a mail is put
together that parsers read like any other, and what was left out is named with its size. Where the
list cannot be had or read, the beginning of the mail is taken as it stands.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

from parsers.text import filenames

HEADER_LIMIT = 256 * 1024  # octets; a header is a few KiB
PART_HEADER_LIMIT = 16 * 1024
BEGINNING_LIMIT = 1024 * 1024  # octets of a mail whose parts cannot be listed: text stands in front
MAX_PARTS = 200
MAX_DEPTH = 20  # of multiparts in multiparts
MAX_NAMED = 50  # files left out that are named; a ticket shows them in one line
# of a single part in BODYSTRUCTURE: type, subtype, parameters, id, description, encoding, size
SIZE_FIELD = 6
# Where the disposition stands, behind fields that only these types have.
DISPOSITION_FIELD = {"text": 9, "message/rfc822": 11}
USUAL_DISPOSITION_FIELD = 8
CONTENT_FIELD = re.compile(rb"(?im)^content-[\w-]+[ \t]*:.*(?:\r?\n[ \t].*)*\r?\n?")
MIME_VERSION = re.compile(rb"(?im)^mime-version[ \t]*:")
EMPTY_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
# What an answer that is no list of parts makes of reading it as one.
UNREADABLE = (
    IMAPClientError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RecursionError,
)

# Fetches a section of the mail, `most` octets of it at most; None when the mail is gone.
FetchSection = Callable[[str, int], bytes | None]


@dataclass(frozen=True, slots=True)
class MissingPart:
    """A file that was left out, or the rest of a text that was cut."""

    name: str
    mime: str
    octets: int  # as it travels, encoded


@dataclass(frozen=True, slots=True)
class OmittedParts:
    """What of a mail was not taken because the mail is larger than the limit."""

    octets: int  # of the whole mail
    parts: tuple[MissingPart, ...] = ()
    beginning_only: bool = False

    def to_json(self) -> dict[str, object]:
        """Return it as an envelope keeps it."""
        parts = [
            {"name": p.name, "mime": p.mime, "octets": p.octets} for p in self.parts[:MAX_NAMED]
        ]
        return {
            "parts": parts,
            "more": max(0, len(self.parts) - MAX_NAMED),
            "beginning_only": self.beginning_only,
        }


@dataclass(slots=True)
class _Node:
    """A part of the mail, as the server lists it.

    `number` is what IMAP calls it, "" for the whole.
    """

    number: str
    mime: str
    octets: int = 0
    is_file: bool = False
    children: list["_Node"] = field(default_factory=list)
    body: bytes | None = None  # fetched
    header: bytes = b""

    @property
    def is_multipart(self) -> bool:
        return self.mime.startswith("multipart/")

    def leaves(self) -> Iterator["_Node"]:
        if not self.is_multipart:
            yield self
        for child in self.children:
            yield from child.leaves()


def fetch_what_fits(
    section: FetchSection, structure: Callable[[], Any], octets: int, limit: int
) -> tuple[bytes, OmittedParts] | None:
    """Return a mail of the parts that fit into `limit` octets, and what was left out.

    None if the mail is gone.

    Raises IMAPClientError, OSError or ValueError when the server does not deliver.
    """
    header = section("HEADER", min(limit, HEADER_LIMIT))
    if header is None:
        return None
    try:
        root = _node(structure(), "", 0)
        missing = _fetch_parts(root, section, limit - len(header))
    except IMAPClientAbortError:
        raise
    except UNREADABLE:
        beginning = section("", min(limit, BEGINNING_LIMIT))
        return None if beginning is None else (beginning, OmittedParts(octets, beginning_only=True))
    return _assembled(header, root), OmittedParts(octets, tuple(missing))


def _node(listed: Any, number: str, depth: int) -> _Node:
    """Read one part of a BODYSTRUCTURE. Raises one of UNREADABLE."""
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(listed[0], list):
        node = _Node(number, f"multipart/{_word(listed[1])}")
        for at, child in enumerate(listed[0], 1):
            node.children.append(_node(child, f"{number}.{at}".lstrip("."), depth + 1))
        if not depth and sum(1 for _ in node.leaves()) > MAX_PARTS:
            raise ValueError("too many parts")
        return node
    kind, mime = _word(listed[0]), f"{_word(listed[0])}/{_word(listed[1])}"
    at = DISPOSITION_FIELD.get(mime, DISPOSITION_FIELD.get(kind, USUAL_DISPOSITION_FIELD))
    disposition = listed[at] if len(listed) > at else None
    attached = (
        isinstance(disposition, tuple)
        and bool(disposition)
        and _word(disposition[0]) == "attachment"
    )
    return _Node(
        number=number or "1",
        mime=mime,
        octets=int(listed[SIZE_FIELD] or 0),
        is_file=attached or mime not in {"text/plain", "text/html"},
    )


def _word(value: Any) -> str:
    text: str = bytes(value).decode("ascii", "replace").lower()
    return text if re.fullmatch(r"[a-z0-9!#$&^_.+-]{1,100}", text) else "x-unknown"


def _fetch_parts(root: _Node, section: FetchSection, room: int) -> list[MissingPart]:
    """Fetch the texts in their order, then files from the smallest on, into so much room.

    Return what is missing.
    """
    texts = [leaf for leaf in root.leaves() if not leaf.is_file]
    files = sorted((leaf for leaf in root.leaves() if leaf.is_file), key=lambda leaf: leaf.octets)
    missing: list[MissingPart] = []
    for number, leaf in enumerate([*texts, *files], 1):
        if root.is_multipart:
            leaf.header = section(f"{leaf.number}.MIME", PART_HEADER_LIMIT) or b""
        most = min(leaf.octets, room)
        if leaf.is_file and leaf.octets > room:
            missing.append(MissingPart(_file_name(leaf, number), leaf.mime, leaf.octets))
            continue
        where = leaf.number if root.is_multipart else "TEXT"
        leaf.body = (section(where, most) if most else b"") or b""
        room = max(0, room - len(leaf.header) - len(leaf.body))
        if leaf.octets > most:
            missing.append(MissingPart("the rest of the text", leaf.mime, leaf.octets - most))
    return missing


def _file_name(leaf: _Node, number: int) -> str:
    name = ""
    with suppress(HeaderParseError, LookupError, ValueError):
        name = message_from_bytes(leaf.header).get_filename() or ""
        name = str(make_header(decode_header(name)))
    return filenames.make_safe(name) or filenames.make_name(leaf.mime, number)


def _assembled(header: bytes, root: _Node) -> bytes:
    """Put a mail together.

    The header as it is, but for the fields that describe a body that is another one now.
    """
    if not root.is_multipart and root.body is not None:
        return header.rstrip(b"\r\n") + b"\r\n\r\n" + root.body
    plain = CONTENT_FIELD.sub(b"", header).rstrip(b"\r\n") + b"\r\n"
    if not MIME_VERSION.search(plain):
        plain += b"MIME-Version: 1.0\r\n"
    seed = hashlib.sha256(header).hexdigest()[:24]  # the same mail read again is the same delivery
    return plain + (_part(root, seed) or EMPTY_TEXT)


def _part(node: _Node, seed: str) -> bytes:
    """Return a part with its header; b"" for one of which nothing was fetched."""
    if not node.is_multipart:
        return (
            node.header.rstrip(b"\r\n") + b"\r\n\r\n" + node.body if node.body is not None else b""
        )
    children = [part for child in node.children if (part := _part(child, seed))]
    if not children:
        return b""
    boundary = f"=_{seed}_{node.number or '0'}"
    lines = [f'Content-Type: {node.mime}; boundary="{boundary}"\r\n'.encode()]
    for child in children:
        lines += [f"\r\n--{boundary}\r\n".encode(), child]
    lines.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(lines)
