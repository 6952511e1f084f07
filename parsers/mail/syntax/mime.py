"""The parts of a message: the standard library walks a skeleton of types and delimiters.

Every body is left out of the bytes it sees and stays in place: it reads line by line, and one large
attachment would cost it a hundred times what its decoding costs. Each part carries the number of
its body in a field of ours. Of the fields only the types of multiparts stand in the skeleton: all
others are read where they lie. A message without parts has nothing to walk.

No byte of a body is left out, however damaged the delimiters are: what stands before the first
delimiter of a multipart and behind its last one is kept as a part of `Tree.strays`, a multipart
that no delimiter divides is one part with all of its bytes, and a part whose delimiter is cut or
gone is found by its header.
"""

import re
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message

from parsers.mail.syntax import headers, transfer_encoding
from parsers.mail.syntax.headers import Fields
from parsers.text import charsets

MAX_DEPTH = 60  # multiparts in multiparts; deeper ones are kept whole
# bytes before the first delimiter; also what a search for a boundary that is not there costs
MAX_PREAMBLE = 1_048_576
# Bytes that all searches for delimiters which are not there may read in one message: a thousand
# multiparts that each name a boundary nobody uses would otherwise cost a thousand times a mebibyte.
MAX_SEARCHED = 16 * MAX_PREAMBLE
MAX_PARTS = 1000
MAX_TRIED = 200_000  # lines that begin like a delimiter; each costs some microseconds
MISSING = "a delimiter between two parts is missing"
UNDIVIDED = b"no-delimiter-%d"  # boundary of ours for a multipart that has no delimiters
REST_NAME = (  # the file that holds what comes behind the last part that is read
    "remaining-parts.txt"
)
MAX_STRAYS = 100  # stretches outside of the parts that are kept apart; later ones join the last
LONG_BOUNDARY = 8  # bytes; that a shorter one begins another line is chance: `b1`, `b10`
MAX_WRITTEN = 12  # ways one damaged boundary parameter is read
PIECE = "content-piece"  # our field: the number of the part's body
MAX_FIELD = 2000  # bytes of a type that the walk sees

_LINE = re.compile(rb"--([^\r\n]*)(?:\r?\n|\r|\Z)")
_GUESS = re.compile(rb"\s{0,200}--([^\r\n\s]{1,200})[ \t]*\r?\n(?:[\w-]+:|\r?\n)", re.IGNORECASE)
_PART_HEADER = re.compile(rb"content-[\w-]+[ \t]*:", re.IGNORECASE)
# A line that is followed by the header of a part is a delimiter, wherever it stands.
_LATER = re.compile(
    rb"(?:\A|(?<=\n))--([^\r\n]{1,200}?)[ \t]*\r?\n"
    rb"content-(?:type|transfer-encoding|disposition)[ \t]*:",
    re.IGNORECASE,
)
_WRITTEN = re.compile(rb"boundary\s*=\s*(.*)", re.IGNORECASE | re.DOTALL)
_LINE_ENDS = re.compile(rb"[\r\n]+")
# The header of a part whose delimiter is gone. In base64 any such line is none of its text; in a
# text only a header that says how the part is encoded, or that it is a file, is one: people write
# about headers too.
_LOST_TYPE = re.compile(rb"\ncontent-(?:type|disposition|transfer-encoding)[ \t]*:", re.IGNORECASE)
_LOST_HEADER = re.compile(
    rb"\n(?=content-[\w-]+[ \t]*:)(?:[\w-]{1,60}+[ \t]*+:[^\n]{0,998}+\n(?:["
    rb" \t]++[^\n]{0,998}+\n){0,8}+){1,12}+\r?\n",
    re.IGNORECASE,
)
_ENCODED = re.compile(
    rb"^content-transfer-encoding[ \t]*:[ \t]*(?:base64|quoted-printable)"
    rb"|^content-disposition[ \t]*:[ \t]*attachment",
    re.IGNORECASE | re.MULTILINE,
)
_MESSAGE = re.compile(
    rb"^content-type[ \t]*:[ \t]*message/", re.IGNORECASE | re.MULTILINE
)  # readable where it lies


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a message: a multipart has children, a leaf has a body."""

    fields: Fields
    mime: str  # type/subtype in lower case; "" where none is given
    parameters: dict[str, str]
    source: bytes = field(
        default=b"", repr=False
    )  # the message the body lies in; large bodies are not copied
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
        return transfer_encoding.decode_span(self.source, self.start, self.end, label)


@dataclass(frozen=True, slots=True)
class Tree:
    """A message taken apart."""

    fields: Fields
    root: Part
    caveats: tuple[str, ...] = ()
    before: tuple[Part, ...] = ()  # what stands before the first delimiter (RFC 2046: the preamble)
    strays: tuple[
        Part, ...
    ] = ()  # what stands outside of all parts elsewhere: epilogues, inner preambles


# Where a delimiter line begins, the position behind it, its boundary, and whether it closes.
_Delimiter = tuple[int, int, bytes, bool]


@dataclass(frozen=True, slots=True)
class _Known:
    """Result of a search for the next delimiter.

    Kept, because the next search mostly asks for the same.
    """

    start: int  # where the search began
    boundaries: int  # how many were in force
    found: _Delimiter | None

    def covers(self, position: int) -> bool:
        """Return whether a search from a position would find the same."""
        return self.start <= position and (self.found is None or position <= self.found[0])


@dataclass(slots=True)
class _Scan:
    """What one pass over the bytes finds: the skeleton, and where the bodies are."""

    raw: bytes
    skeleton: list[bytes] = field(default_factory=list)
    pieces: list[tuple[Fields, int, int]] = field(default_factory=list)
    depth: dict[bytes, int] = field(default_factory=dict)  # of each boundary in force
    caveats: list[str] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)  # stretches outside of all parts
    searched: int = 0  # bytes read in search of delimiters that were not there
    tried: int = 0  # lines that began like a delimiter
    known: _Known | None = None
    current: bytes = b""  # boundary of the multipart that the part in hand belongs to
    resume: int = -1  # where the header of a part begins whose delimiter is gone


def read(raw: bytes) -> Tree:
    """Take a message apart.

    Bytes that are no message make one part of plain text without fields.
    """
    head = headers.split(raw)
    scan = _Scan(raw, caveats=["the header is longer than we read"] if head.cut else [])
    _scan_parts(scan, head)
    root = _tree(scan) if scan.depth else _leaf(scan, 0)
    before = [span for span in scan.outside if span[0] == head.body]
    others = [span for span in scan.outside if span[0] != head.body]
    return Tree(
        head.fields,
        root,
        tuple(dict.fromkeys(scan.caveats)),
        tuple(Part(Fields([]), "", {}, raw, *span) for span in before),
        tuple(Part(Fields([]), "", {}, raw, *span) for span in others),
    )


def _behind_blanks(raw: bytes, position: int) -> int:
    while raw[position : position + 1] in {b"\r", b"\n"}:
        position += 1
    return position


def _tree(scan: _Scan) -> Part:
    """Return the parts as the walk finds them in the skeleton; what it leaves out comes last."""
    seen: set[int] = set()
    root = _part(message_from_bytes(b"".join(scan.skeleton)), scan, seen)
    lost = [_leaf(scan, number) for number in range(len(scan.pieces)) if number not in seen]
    return Part(Fields([]), "multipart/mixed", {}, children=(root, *lost)) if lost else root


def _scan_parts(scan: _Scan, head: headers.Head) -> None:
    """Write the skeleton and note the bodies, in one pass from delimiter to delimiter."""
    position = _open(scan, head.fields, head.body, 0)
    while True:
        if scan.resume >= 0:
            at = after = scan.resume
            boundary, closing, scan.resume = scan.current, False, -1
            scan.caveats.append(MISSING)
        else:
            found = _find_delimiter(scan, position) or _end_of_message(scan, position)
            if found is None:
                break
            at, after, boundary, closing = found
            scan.resume = _header_outside(scan, position, at)
            if scan.resume >= 0:
                _note_outside(scan, position, scan.resume)
                position = scan.resume
                continue
            _note_outside(scan, position, at)
        if closing:
            position = after
            continue
        if max(len(scan.pieces), len(scan.depth)) >= MAX_PARTS:
            _keep_rest(scan, boundary, at)
            return
        part = (
            headers.split(scan.raw, after)
            if _has_header(scan.raw, after)
            else headers.Head(Fields([]), _body_at(scan.raw, after))
        )
        scan.current = boundary
        scan.skeleton.append(b"\r\n--" + boundary + b"\r\n")
        position = _open(scan, part.fields, part.body, scan.depth[boundary])
        if part.cut:
            scan.caveats.append("the header of a part is longer than we read")


def _end_of_message(scan: _Scan, position: int) -> _Delimiter | None:
    """The end of the message as a delimiter that closes.

    So that what stands before it is looked at; once.
    """
    size = len(scan.raw)
    return (size, size, scan.current, True) if scan.depth and position < size else None


def _header_outside(scan: _Scan, start: int, end: int) -> int:
    """Position of a part's header in a stretch that belongs to no part.

    Its delimiter is gone. -1 if there is none.
    """
    if start >= end:
        return -1
    position = _behind_blanks(scan.raw, start)
    if position < end and _PART_HEADER.match(scan.raw, position):
        return position
    return _encoded_header(scan.raw, max(0, start - 1), end)


def _note_outside(scan: _Scan, start: int, end: int) -> None:
    """Keep a stretch that belongs to no part: a preamble or an epilogue."""
    if start >= end or scan.raw[start:end].isspace():
        return
    if len(scan.outside) >= MAX_STRAYS:
        start = scan.outside.pop()[0]
    scan.outside.append((start, end))


def _keep_rest(scan: _Scan, boundary: bytes, start: int) -> None:
    """Keep everything from a position on as one file.

    Nobody reads a mail of more parts, and nothing of it is lost.
    """
    scan.caveats.append(f"more than {MAX_PARTS} parts: the rest is attached as {REST_NAME}")
    scan.skeleton.append(
        b"\r\n--" + boundary + b"\r\n%s: %d\r\n\r\n" % (PIECE.encode(), len(scan.pieces))
    )
    label = b'text/plain; name="' + REST_NAME.encode() + b'"'
    scan.pieces.append((Fields([("content-type", label)]), start, len(scan.raw)))


def _has_header(raw: bytes, position: int) -> bool:
    return raw[position : position + 1] not in {b"\r", b"\n", b""}


def _body_at(raw: bytes, position: int) -> int:
    """Position behind the blank line that stands for an empty header (RFC 2046 §5.1)."""
    return position + (2 if raw.startswith(b"\r\n", position) else 1)


def _open(scan: _Scan, fields: Fields, start: int, depth: int) -> int:
    """Begin a part: a multipart puts its boundary in force, a leaf notes its body.

    Position to go on from.
    """
    boundary = _boundary(scan, fields, start) if depth < MAX_DEPTH else b""
    if boundary:
        _put_in_force(scan, fields, boundary, depth)
        return start
    if depth >= MAX_DEPTH:
        scan.caveats.append("parts nested too deep: kept as one attachment")
    elif fields.parameters("content-type")[0].startswith("multipart"):
        return _open_undivided(scan, fields, start, depth)
    end = _end_of_leaf(scan, start)
    lost = _lost_header(scan, fields, start, end) if scan.depth else -1
    if lost >= 0:
        scan.resume = end = lost
    scan.skeleton.append(b"%s: %d\r\n\r\n" % (PIECE.encode(), len(scan.pieces)))
    scan.pieces.append((fields, start, end))
    return end


def _open_undivided(scan: _Scan, fields: Fields, start: int, depth: int) -> int:
    """Begin a multipart none of whose delimiters is there.

    As one part, whose own header may have survived.
    """
    boundary = UNDIVIDED % len(scan.depth)
    _put_in_force(scan, fields, boundary, depth)
    scan.skeleton.append(b"\r\n--" + boundary + b"\r\n")
    position = _behind_blanks(scan.raw, start)
    if _PART_HEADER.match(scan.raw, position):
        head = headers.split(scan.raw, position)
        scan.caveats.append(MISSING)
        return _open(scan, head.fields, head.body, depth + 1)
    if position < len(scan.raw):
        scan.caveats.append(
            "the parts of the mail could not be told apart: its text is shown undivided"
        )
    encoding = [
        (name, value) for name, value in fields.items if name == "content-transfer-encoding"
    ]
    return _open(scan, Fields(encoding), start, depth + 1)


def _put_in_force(scan: _Scan, fields: Fields, boundary: bytes, depth: int) -> None:
    scan.depth[boundary] = depth + 1
    scan.current = boundary
    scan.skeleton.append(_multipart_header(fields, boundary))


def _lost_header(scan: _Scan, fields: Fields, start: int, end: int) -> int:
    """Position of a part's header within the body of another part, whose delimiter is gone.

    -1 if there is none.
    """
    mime, parameters = fields.parameters("content-type")
    disposition, more = fields.parameters("content-disposition")
    if "base64" in fields.text("content-transfer-encoding").lower():
        if scan.raw.find(b"-", start, end) < 0:  # base64 has none: large files are passed at once
            return -1
        found = _LOST_TYPE.search(scan.raw, start, end)
        return found.start() + 1 if found is not None else -1
    is_text = mime.startswith("text") or mime in {"", "plain/text"}
    if not is_text or disposition == "attachment" or parameters.get("name") or more.get("filename"):
        return -1
    return _encoded_header(scan.raw, start, end)


def _encoded_header(raw: bytes, start: int, end: int) -> int:
    """Position of the next header that says its part is encoded or a file."""
    for found in _LOST_HEADER.finditer(raw, start, end):
        if _ENCODED.search(found[0]) and not _MESSAGE.search(found[0]):
            return found.start() + 1
    return -1


def _boundary(scan: _Scan, fields: Fields, start: int) -> bytes:
    """Boundary of a multipart, taken from the body where the header names none or a wrong one.

    B"" for a leaf.
    """
    mime, parameters = fields.parameters("content-type")
    named = parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
    multipart = mime.startswith("multipart") or (not mime and bool(named))
    if multipart:
        for written in dict.fromkeys((named, *_written_boundaries(fields))):
            if written and _occurs(scan, written, start):
                return written
    elif mime not in {"", "text/plain"}:
        return b""
    guess = _guessed_boundary(scan, start, multipart=multipart)
    # The delimiter of the multipart around this one says where this one ends, never how it is
    # divided.
    return guess if guess not in scan.depth else b""


def _written_boundaries(fields: Fields) -> list[bytes]:
    """Readings of a boundary parameter that is not written as RFC 2045 asks.

    Unquoted with `;` or blanks, half quoted.

    The longest reading comes first: `Part;1; charset=utf-8` is `Part;1; charset=utf-8`, `Part;1`,
    `Part`.
    """
    found = _WRITTEN.search(_LINE_ENDS.sub(b"", fields.first("content-type"))[:MAX_FIELD])
    if found is None:
        return []
    text = found[1]
    if re.match(rb'"[^"]+"', text):
        return []  # properly quoted: what it says is what the parameter says
    ends = [len(text), *(m.start() for m in re.finditer(rb"[;\"'\s]", text))]
    pieces = [text[:end].strip() for end in sorted(ends, reverse=True)]
    readings = [form for piece in pieces for form in (piece, piece.strip(b"\"'").strip())]
    return [reading for reading in dict.fromkeys(readings) if reading][:MAX_WRITTEN]


def _guessed_boundary(scan: _Scan, start: int, *, multipart: bool) -> bytes:
    """First line of a body that looks like a delimiter.

    Of a multipart, or with a part's header right behind it.
    """
    raw = scan.raw
    found = _GUESS.match(raw, start)
    if found is not None and (
        multipart or _PART_HEADER.match(raw, raw.find(b"\n", found.start(1)) + 1)
    ):
        return found[1]
    if not multipart or scan.searched > MAX_SEARCHED:
        return b""
    found = _LATER.search(raw, start, start + MAX_PREAMBLE)
    scan.searched += (
        found.end() if found is not None else min(len(raw), start + MAX_PREAMBLE)
    ) - start
    return found[1] if found is not None else b""


def _occurs(scan: _Scan, boundary: bytes, start: int) -> bool:
    """Return whether a whole line of a body is a delimiter of this boundary, opening or closing."""
    if scan.searched > MAX_SEARCHED:
        return False
    line = re.compile(
        rb"(?:\A|(?<=\n))--" + re.escape(boundary) + rb"[ \t]*(?:--[ \t]*)?(?=[\r\n]|\Z)"
    )
    end = min(len(scan.raw), start + MAX_PREAMBLE)
    if line.match(scan.raw, start):
        return True
    found = line.search(scan.raw, max(0, start - 1), end)
    scan.searched += (found.end() if found is not None else end) - start
    return found is not None


def _find_delimiter(scan: _Scan, position: int) -> _Delimiter | None:
    """Next delimiter at or behind a position.

    No stretch is searched twice for the same boundaries.
    """
    if not scan.depth:
        return None
    known = scan.known
    if known is None or known.boundaries != len(scan.depth) or not known.covers(position):
        found = _search_delimiter(scan, position)
        known = scan.known = _Known(position, len(scan.depth), found)
    return known.found


def _search_delimiter(scan: _Scan, position: int) -> _Delimiter | None:
    raw = scan.raw
    at = (
        position
        if raw.startswith(b"--", position) and raw[position - 1 : position] in {b"\n", b""}
        else _next_dashes(raw, position)
    )
    while at >= 0:
        scan.tried += 1
        if scan.tried > MAX_TRIED:
            scan.caveats.append("too many lines like delimiters: the rest of the mail is one part")
            return None
        line = _LINE.match(raw, at)
        if line is not None:
            name = line[1].rstrip(b" \t")
            if name in scan.depth:
                return at, line.end(), name, False
            if name.endswith(b"--") and name[:-2].rstrip() in scan.depth:
                return at, line.end(), name[:-2].rstrip(), True
            cut = _cut_delimiter(scan, name, line.end())
            if cut:
                return at, line.end(), cut, False
        at = _next_dashes(raw, at + 2)
    return None


def _cut_delimiter(scan: _Scan, name: bytes, after: int) -> bytes:
    """Boundary whose delimiter was cut short or grew a tail.

    B"" unless the header of a part stands right behind it.
    """
    if len(scan.depth) > MAX_DEPTH or not _PART_HEADER.match(scan.raw, after):
        return b""
    return next((boundary for boundary in reversed(scan.depth) if _is_damaged(name, boundary)), b"")


def _is_damaged(name: bytes, boundary: bytes) -> bool:
    if boundary.startswith(name) or boundary.lower() == name.lower():
        return True
    tail = name.removeprefix(boundary)
    return tail != name and (len(boundary) >= LONG_BOUNDARY or not tail.strip(b"- \t"))


def _next_dashes(raw: bytes, position: int) -> int:
    """Position of the next line that begins with two dashes, or -1.

    One dash, which base64 lacks, is found faster.
    """
    first = raw.find(b"-", max(0, position))
    found = raw.find(b"\n--", max(0, first - 1)) if first >= 0 else -1
    return found + 1 if found >= 0 else -1


def _end_of_leaf(scan: _Scan, start: int) -> int:
    found = _find_delimiter(scan, start)
    return len(scan.raw) if found is None else max(start, found[0])


def _multipart_header(fields: Fields, boundary: bytes) -> bytes:
    """Header of a multipart for the walk: its type, with the boundary in force, well written."""
    mime, parameters = fields.parameters("content-type")
    subtype = (mime.partition("/")[2] or "mixed").encode("ascii", "replace")
    others = [(name, value) for name, value in parameters.items() if name != "boundary"]
    named = [
        (name.encode("ascii", "replace"), value.encode("ascii", "replace"))
        for name, value in others
    ]
    written = b"".join(
        b'; %s="%s"' % (name, _quoted(value)) for name, value in [(b"boundary", boundary), *named]
    )
    return b"Content-Type: multipart/" + _flat(subtype + written) + b"\r\n\r\n"


def _quoted(value: bytes) -> bytes:
    return value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _flat(value: bytes) -> bytes:
    return value[:MAX_FIELD].translate(None, b"\r\n\0")


def _part(message: Message, scan: _Scan, seen: set[int], default: str = "") -> Part:
    """The walk's tree with our fields and bodies.

    What the walk leaves out is added by the caller.
    """
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
    fields = Fields(
        [(name.lower(), str(value).encode("utf-8", "replace")) for name, value in message.items()]
    )
    return Part(
        fields, message.get_content_type(), fields.parameters("content-type")[1], children=parts
    )


def _leaf(scan: _Scan, number: int, default: str = "") -> Part:
    fields, start, end = scan.pieces[number]
    mime, parameters = fields.parameters("content-type")
    if not mime and default and not fields.first("content-type"):
        mime = default
    return Part(
        fields, mime, parameters, scan.raw, start, _without_last_line_end(scan.raw, start, end)
    )


def _without_last_line_end(raw: bytes, start: int, end: int) -> int:
    """The line end before a delimiter belongs to the delimiter (RFC 2046 §5.1.1)."""
    if end < len(raw) and raw.endswith(b"\n", start, end):
        return end - (2 if raw.endswith(b"\r\n", start, end) else 1)
    return end


def charset(part: Part) -> str:
    """Return the charset a part is labelled with, "" if none."""
    label = part.parameters.get("charset", "")
    return label if charsets.codec(label) else ""
