"""The parts of a message: mail-parser walks a skeleton of types and delimiters, the bodies stay where they are.

Every body is left out of the bytes mail-parser sees: it reads line by line, and one large attachment would cost it a
hundred times what its decoding costs. Each part carries the number of its body in a field of ours. Of the fields only
the types of multiparts stand in the skeleton: all others are read where they lie. A message without parts has nothing
to walk; mail-parser reads its date like any other's.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes
from email.message import Message

import mailparser
from mailparser.dates import parse_mail_date
from mailparser.exceptions import MailParserError

from parsers import charsets, headers, transfer
from parsers.headers import Fields

for _module in (mailparser.core, mailparser.utils):
    _module.log.disabled = True  # it quotes what it reads, and customers' text belongs into no log

MAX_DEPTH = 60  # multiparts in multiparts; deeper ones are kept whole
MAX_PREAMBLE = 1_048_576  # bytes before the first delimiter; also what a search for a boundary that is not there costs
MAX_PARTS = 1000
PIECE = "content-piece"  # our field: the number of the part's body
MAX_FIELD = 2000  # bytes of a type or date that mail-parser sees

_LINE = re.compile(rb"--([^\r\n]*)(?:\r?\n|\r|\Z)")
_GUESS = re.compile(rb"\s{0,200}--([^\r\n\s]{1,200})[ \t]*\r?\n(?:[\w-]+:|\r?\n)", re.IGNORECASE)
_PART_HEADER = re.compile(rb"content-[\w-]+[ \t]*:", re.IGNORECASE)
_LATER = re.compile(
    rb"(?:\A|\n)--([^\r\n\s]{3,200})[ \t]*\r?\ncontent-(?:type|transfer-encoding|disposition)[ \t]*:", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a message: a multipart has children, a leaf has a body."""

    fields: Fields
    mime: str  # type/subtype in lower case; "" where none is given
    parameters: dict[str, str]
    source: bytes = field(default=b"", repr=False)  # the message the body lies in; large bodies are not copied
    start: int = 0
    end: int = 0
    children: tuple["Part", ...] = ()

    @property
    def disposition(self) -> tuple[str, dict[str, str]]:
        """`attachment`, `inline` or "", and the parameters of the field (RFC 2183)."""
        return self.fields.parameters("content-disposition")

    @property
    def size(self) -> int:
        """Bytes of the body as it was sent, still encoded."""
        return self.end - self.start

    @property
    def content(self) -> bytes:
        """The body decoded."""
        label = self.fields.text("content-transfer-encoding")
        return transfer.decode_span(self.source, self.start, self.end, label)


@dataclass(frozen=True, slots=True)
class Tree:
    """A message taken apart."""

    fields: Fields
    root: Part
    sent_at: datetime | None
    caveats: tuple[str, ...] = ()


@dataclass(slots=True)
class _Scan:
    """What one pass over the bytes finds: the skeleton, and where the bodies are."""

    raw: bytes
    skeleton: list[bytes] = field(default_factory=list)
    pieces: list[tuple[Fields, int, int]] = field(default_factory=list)
    depth: dict[bytes, int] = field(default_factory=dict)  # of each boundary in force
    caveats: list[str] = field(default_factory=list)


def read(raw: bytes) -> Tree:
    """Take a message apart. Bytes that are no message make one part of plain text without fields."""
    head = headers.split(raw)
    scan = _Scan(raw, caveats=["the header is longer than we read"] if head.cut else [])
    _scan_parts(scan, head)
    root = _tree(scan) if scan.depth else _leaf(scan, 0)
    return Tree(head.fields, root, _sent_at(head.fields), tuple(dict.fromkeys(scan.caveats)))


def _tree(scan: _Scan) -> Part:
    """The parts as mail-parser finds them in the skeleton; what it leaves out comes last."""
    seen: set[int] = set()
    root = _part(_walk(b"".join(scan.skeleton)), scan, seen)
    lost = [_leaf(scan, number) for number in range(len(scan.pieces)) if number not in seen]
    return Part(Fields([]), "multipart/mixed", {}, children=(root, *lost)) if lost else root


def _walk(skeleton: bytes) -> Message:
    """Let mail-parser walk the skeleton; the standard library where it stumbles."""
    try:
        message: Message = mailparser.parse_from_bytes(skeleton).message
    except (MailParserError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return message_from_bytes(skeleton)
    return message


def _sent_at(fields: Fields) -> datetime | None:
    """The first Date as mail-parser reads it."""
    written = _flat(next(iter(fields.every("date")), b"")).decode("ascii", "surrogateescape")
    try:
        found: datetime | None = parse_mail_date(written).value
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return found


def _scan_parts(scan: _Scan, head: headers.Head) -> None:
    """Write the skeleton and note the bodies, in one pass from delimiter to delimiter."""
    position = _open(scan, head.fields, head.body, 0)
    while (found := _next_delimiter(scan, position)) is not None:
        after, boundary, closing = found
        if closing:
            position = after
            continue
        if len(scan.pieces) >= MAX_PARTS:
            scan.caveats.append(f"more than {MAX_PARTS} parts: the rest is in the original")
            break
        part = (
            headers.split(scan.raw, after)
            if _has_header(scan.raw, after)
            else headers.Head(Fields([]), _body_at(scan.raw, after))
        )
        scan.skeleton.append(b"\r\n--" + boundary + b"\r\n")
        position = _open(scan, part.fields, part.body, scan.depth[boundary])
        if part.cut:
            scan.caveats.append("the header of a part is longer than we read")


def _has_header(raw: bytes, position: int) -> bool:
    return raw[position : position + 1] not in {b"\r", b"\n", b""}


def _body_at(raw: bytes, position: int) -> int:
    """Position behind the blank line that stands for an empty header (RFC 2046 §5.1)."""
    return position + (2 if raw.startswith(b"\r\n", position) else 1)


def _open(scan: _Scan, fields: Fields, start: int, depth: int) -> int:
    """Begin a part: a multipart puts its boundary in force, a leaf notes its body. Position to go on from."""
    boundary = _boundary(scan, fields, start) if depth < MAX_DEPTH else b""
    if boundary:
        scan.depth[boundary] = depth + 1
        scan.skeleton.append(_multipart_header(fields, boundary))
        return start
    if depth >= MAX_DEPTH:
        scan.caveats.append("parts nested too deep: kept as one attachment")
    end = _end_of_leaf(scan, start)
    scan.skeleton.append(b"%s: %d\r\n\r\n" % (PIECE.encode(), len(scan.pieces)))
    scan.pieces.append((fields, start, end))
    return end


def _boundary(scan: _Scan, fields: Fields, start: int) -> bytes:
    """Boundary of a multipart, taken from the body where the header names none or a wrong one; b"" for a leaf."""
    mime, parameters = fields.parameters("content-type")
    named = parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
    multipart = mime.startswith("multipart/") or (not mime and bool(named))
    if multipart and named and _occurs(scan.raw, named, start):
        return named
    if not multipart and mime not in {"", "text/plain"}:
        return b""
    return _guessed_boundary(scan.raw, start, multipart=multipart)


def _guessed_boundary(raw: bytes, start: int, *, multipart: bool) -> bytes:
    """First line of a body that looks like a delimiter: of a multipart, or with a part's header right behind it."""
    found = _GUESS.match(raw, start)
    if found is not None and (multipart or _PART_HEADER.match(raw, raw.find(b"\n", found.start(1)) + 1)):
        return found[1]
    found = _LATER.search(raw, start, start + 65_536) if multipart else None
    return found[1] if found is not None else b""


def _occurs(raw: bytes, boundary: bytes, start: int) -> bool:
    line = b"--" + boundary
    return raw.startswith(line, start) or raw.find(b"\n" + line, max(0, start - 1), start + MAX_PREAMBLE) >= 0


def _next_delimiter(scan: _Scan, position: int) -> tuple[int, bytes, bool] | None:
    """Next delimiter line of a boundary in force: position behind it, its boundary, whether it closes."""
    found = _find_delimiter(scan, position)
    return found[1:] if found is not None else None


def _find_delimiter(scan: _Scan, position: int) -> tuple[int, int, bytes, bool] | None:
    raw = scan.raw
    if not scan.depth:
        return None
    at = (
        position
        if raw.startswith(b"--", position) and raw[position - 1 : position] in {b"\n", b""}
        else _next_dashes(raw, position)
    )
    while at >= 0:
        line = _LINE.match(raw, at)
        if line is not None:
            name = line[1].rstrip(b" \t")
            if name in scan.depth:
                return at, line.end(), name, False
            if name.endswith(b"--") and name[:-2].rstrip() in scan.depth:
                return at, line.end(), name[:-2].rstrip(), True
        at = _next_dashes(raw, at + 2)
    return None


def _next_dashes(raw: bytes, position: int) -> int:
    """Position of the next line that begins with two dashes, or -1: one dash, which base64 lacks, is found faster."""
    first = raw.find(b"-", max(0, position))
    found = raw.find(b"\n--", max(0, first - 1)) if first >= 0 else -1
    return found + 1 if found >= 0 else -1


def _end_of_leaf(scan: _Scan, start: int) -> int:
    found = _find_delimiter(scan, start)
    return len(scan.raw) if found is None else max(start, found[0])


def _multipart_header(fields: Fields, boundary: bytes) -> bytes:
    """Header of a multipart for mail-parser: its type, with the boundary that is in force."""
    mime, parameters = fields.parameters("content-type")
    if parameters.get("boundary", "").encode("utf-8", "replace") == boundary:
        return b"Content-Type: " + _flat(next(iter(fields.every("content-type")), b"")) + b"\r\n\r\n"
    subtype = (mime.partition("/")[2] or "mixed").encode("ascii", "replace")
    quoted = boundary.replace(b'"', b'\\"')
    return b"Content-Type: multipart/" + subtype + b'; boundary="' + quoted + b'"\r\n\r\n'


def _flat(value: bytes) -> bytes:
    return value[:MAX_FIELD].translate(None, b"\r\n\0")


def _part(message: Message, scan: _Scan, seen: set[int], default: str = "") -> Part:
    """The walk's tree with our fields and bodies; what the walk leaves out is added by the caller."""
    number = message.get(PIECE)
    if number is not None:
        seen.add(int(str(number)))
        return _leaf(scan, int(str(number)), default)
    children = message.get_payload()
    default = "message/rfc822" if message.get_content_type() == "multipart/digest" else ""
    parts = (
        tuple(_part(child, scan, seen, default) for child in children if isinstance(child, Message))
        if isinstance(children, list)
        else ()
    )
    fields = Fields([(name.lower(), str(value).encode("utf-8", "replace")) for name, value in message.items()])
    return Part(fields, message.get_content_type(), fields.parameters("content-type")[1], children=parts)


def _leaf(scan: _Scan, number: int, default: str = "") -> Part:
    fields, start, end = scan.pieces[number]
    mime, parameters = fields.parameters("content-type")
    if not mime and default and not fields.first("content-type"):
        mime = default
    return Part(fields, mime, parameters, scan.raw, start, _without_last_line_end(scan.raw, start, end))


def _without_last_line_end(raw: bytes, start: int, end: int) -> int:
    """The line end before a delimiter belongs to the delimiter (RFC 2046 §5.1.1)."""
    if end < len(raw) and raw.endswith(b"\n", start, end):
        return end - (2 if raw.endswith(b"\r\n", start, end) else 1)
    return end


def charset(part: Part) -> str:
    """Return the charset a part is labelled with, "" if none."""
    label = part.parameters.get("charset", "")
    return label if charsets.codec(label) else ""
