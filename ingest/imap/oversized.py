"""Mails larger than the limit: fetch their header, their text, and the files that fit.

The server lists the parts of the mail (BODYSTRUCTURE, RFC 3501 §7.4.2). The texts are fetched
first, then the smallest files, as long as the limit allows. The fetched parts are assembled into a
mail that parsers read like any other; what was left out is listed with its size. Where the list
cannot be had or read, the beginning of the mail is taken as it stands.
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
BEGINNING_LIMIT = 1024 * 1024  # octets of a mail whose parts cannot be listed: text comes first
MAX_PARTS = 200
MAX_DEPTH = 20  # of nested multiparts
MAX_NAMED = 50  # omitted files listed by name; a ticket shows them in one line
# Index in a part's BODYSTRUCTURE: type, subtype, parameters, id, description, encoding, size.
SIZE_FIELD = 6
# Index of the disposition; these types have more fields before it.
DISPOSITION_FIELD = {"text": 9, "message/rfc822": 11}
USUAL_DISPOSITION_FIELD = 8
CONTENT_FIELD = re.compile(rb"(?im)^content-[\w-]+[ \t]*:.*(?:\r?\n[ \t].*)*\r?\n?")
MIME_VERSION = re.compile(rb"(?im)^mime-version[ \t]*:")
EMPTY_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
# Raised when an answer that is no list of parts is read as one.
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
    octets: int  # as transferred, encoded


@dataclass(frozen=True, slots=True)
class OmittedParts:
    """The parts of a mail that were not fetched because the mail is larger than the limit."""

    octets: int  # of the whole mail
    parts: tuple[MissingPart, ...] = ()
    beginning_only: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the object that is stored in the envelope."""
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
    """A part of the mail as the server lists it.

    `number` is its IMAP part number, "" for the whole.
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
        """Return whether the part has parts of its own."""
        return self.mime.startswith("multipart/")

    def iter_leaves(self) -> Iterator["_Node"]:
        """Yield the parts that are no multiparts, in order."""
        if not self.is_multipart:
            yield self
        for child in self.children:
            yield from child.iter_leaves()


def fetch_what_fits(
    section: FetchSection, structure: Callable[[], Any], octets: int, limit: int
) -> tuple[bytes, OmittedParts] | None:
    """Return a mail of the parts that fit into `limit` octets, and what was omitted.

    None when gone. Raises IMAPClientError, OSError or ValueError when the server does not deliver.
    """
    header = section("HEADER", min(limit, HEADER_LIMIT))
    if header is None:
        return None
    try:
        root = _parse_node(structure(), "", 0)
        missing = _fetch_parts(root, section, limit - len(header))
    except IMAPClientAbortError:
        raise
    except UNREADABLE:
        beginning = section("", min(limit, BEGINNING_LIMIT))
        return None if beginning is None else (beginning, OmittedParts(octets, beginning_only=True))
    return _assemble(header, root), OmittedParts(octets, tuple(missing))


def _parse_node(structure: Any, number: str, depth: int) -> _Node:
    """Parse one part of a BODYSTRUCTURE. Raises one of UNREADABLE."""
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(structure[0], list):
        return _parse_multipart(structure, number, depth)
    mime = f"{_parse_word(structure[0])}/{_parse_word(structure[1])}"
    return _Node(
        number=number or "1",
        mime=mime,
        octets=int(structure[SIZE_FIELD] or 0),
        is_file=_is_attachment(structure, mime) or mime not in {"text/plain", "text/html"},
    )


def _parse_multipart(structure: Any, number: str, depth: int) -> _Node:
    """Parse a multipart of a BODYSTRUCTURE. Raises one of UNREADABLE."""
    node = _Node(number, f"multipart/{_parse_word(structure[1])}")
    for at, child in enumerate(structure[0], 1):
        node.children.append(_parse_node(child, f"{number}.{at}".lstrip("."), depth + 1))
    if not depth and sum(1 for _ in node.iter_leaves()) > MAX_PARTS:
        raise ValueError("too many parts")
    return node


def _is_attachment(structure: Any, mime: str) -> bool:
    """Return whether the disposition of a part is "attachment". Raises one of UNREADABLE."""
    kind = mime.partition("/")[0]
    at = DISPOSITION_FIELD.get(mime, DISPOSITION_FIELD.get(kind, USUAL_DISPOSITION_FIELD))
    disposition = structure[at] if len(structure) > at else None
    if not isinstance(disposition, tuple) or not disposition:
        return False
    return _parse_word(disposition[0]) == "attachment"


def _parse_word(value: Any) -> str:
    """Return a name of the structure as lower-case text, "x-unknown" for anything odd."""
    text: str = bytes(value).decode("ascii", "replace").lower()
    return text if re.fullmatch(r"[a-z0-9!#$&^_.+-]{1,100}", text) else "x-unknown"


def _fetch_parts(root: _Node, section: FetchSection, octets_left: int) -> list[MissingPart]:
    """Fetch the texts in order, then files from the smallest on, up to `octets_left` in all.

    Return the parts that are missing.
    """
    missing: list[MissingPart] = []
    for number, leaf in enumerate(sorted(root.iter_leaves(), key=_fetch_order), 1):
        if root.is_multipart:
            leaf.header = section(f"{leaf.number}.MIME", PART_HEADER_LIMIT) or b""
        if leaf.is_file and leaf.octets > octets_left:
            missing.append(MissingPart(_file_name(leaf, number), leaf.mime, leaf.octets))
            continue
        fitting = min(leaf.octets, octets_left)
        leaf.body = _fetch_body(root, leaf, section, fitting)
        octets_left = max(0, octets_left - len(leaf.header) - len(leaf.body))
        if leaf.octets > fitting:
            missing.append(MissingPart("the rest of the text", leaf.mime, leaf.octets - fitting))
    return missing


def _fetch_order(leaf: _Node) -> tuple[bool, int]:
    """Return the sort key of a part: texts as they come, then files by size."""
    return leaf.is_file, leaf.octets if leaf.is_file else 0


def _fetch_body(root: _Node, leaf: _Node, section: FetchSection, octets: int) -> bytes:
    """Fetch the first octets of a part; the only part of a mail is its TEXT (RFC 3501 §6.4.5)."""
    if not octets:
        return b""
    return section(leaf.number if root.is_multipart else "TEXT", octets) or b""


def _file_name(leaf: _Node, number: int) -> str:
    """Return a safe file name, made up where the part has none."""
    name = ""
    with suppress(HeaderParseError, LookupError, ValueError):
        name = message_from_bytes(leaf.header).get_filename() or ""
        name = str(make_header(decode_header(name)))
    return filenames.make_safe(name) or filenames.make_name(leaf.mime, number)


def _assemble(header: bytes, root: _Node) -> bytes:
    """Assemble a mail; header fields that describe the original body are replaced."""
    if not root.is_multipart and root.body is not None:
        return header.rstrip(b"\r\n") + b"\r\n\r\n" + root.body
    plain = CONTENT_FIELD.sub(b"", header).rstrip(b"\r\n") + b"\r\n"
    if not MIME_VERSION.search(plain):
        plain += b"MIME-Version: 1.0\r\n"
    # derived, so that the same mail is the same delivery
    seed = hashlib.sha256(header).hexdigest()[:24]
    return plain + (_render_part(root, seed) or EMPTY_TEXT)


def _render_part(node: _Node, seed: str) -> bytes:
    """Return a part with its header; b"" when nothing of it was fetched."""
    if not node.is_multipart:
        return (
            node.header.rstrip(b"\r\n") + b"\r\n\r\n" + node.body if node.body is not None else b""
        )
    children = [part for child in node.children if (part := _render_part(child, seed))]
    if not children:
        return b""
    boundary = f"=_{seed}_{node.number or '0'}"
    lines = [f'Content-Type: {node.mime}; boundary="{boundary}"\r\n'.encode()]
    for child in children:
        lines += [f"\r\n--{boundary}\r\n".encode(), child]
    lines.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(lines)
