"""The parts of a message, as a tree.

The standard library walks a skeleton of types and delimiters; the bodies stay where they are. Every
body is left out of the bytes that are walked: the library reads line by line, and one large
attachment would cost it a hundred times what its decoding costs. Each part carries the number of
its body in a field of ours. Of the fields only the types of multiparts stand in the skeleton: all
others are read where they lie. A message without parts has nothing to walk.

No byte of a body is left out, however damaged the delimiters are: what stands before the first
delimiter and behind the last one is kept in `MessageTree.preamble` and `.strays`, a multipart
that no delimiter divides is one part with all of its bytes, and a part whose delimiter is cut or
gone is found by its header.
"""

import re
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message

from parsers.item import Span
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
MAX_CANDIDATES = 200_000  # lines that begin like a delimiter; each costs some microseconds
MISSING = "a delimiter between two parts is missing"
UNDIVIDED = b"no-delimiter-%d"  # boundary of ours for a multipart that has no delimiters
REST_NAME = "remaining-parts.txt"  # the file of everything behind the last part that is read
MAX_STRAYS = 100  # stretches outside of the parts that are kept apart; later ones join the last
LONG_BOUNDARY = 8  # bytes; that a shorter one begins another line is chance: `b1`, `b10`
MAX_READINGS = 12  # of one damaged boundary parameter
PIECE = "content-piece"  # our field: the number of the part's body
MAX_FIELD = 2000  # bytes of a type in the skeleton

_LINE = re.compile(rb"--([^\r\n]*)(?:\r?\n|\r|\Z)")
_FIRST_LINE = re.compile(
    rb"\s{0,200}--([^\r\n\s]{1,200})[ \t]*\r?\n(?:[\w-]+:|\r?\n)", re.IGNORECASE
)
_PART_HEADER = re.compile(rb"content-[\w-]+[ \t]*:", re.IGNORECASE)
# A line that is followed by the header of a part is a delimiter, wherever it stands.
_LATER = re.compile(
    rb"(?:\A|(?<=\n))--([^\r\n]{1,200}?)[ \t]*\r?\n"
    rb"content-(?:type|transfer-encoding|disposition)[ \t]*:",
    re.IGNORECASE,
)
_BOUNDARY_PARAMETER = re.compile(rb"boundary\s*=\s*(.*)", re.IGNORECASE | re.DOTALL)
_LINE_ENDS = re.compile(rb"[\r\n]+")
# The header of a part whose delimiter is gone. In base64 any such line is none of its text; in a
# text only a header that says how the part is encoded, or that it is a file, is one: people write
# about headers too.
_LOST_TYPE = re.compile(rb"\ncontent-(?:type|disposition|transfer-encoding)[ \t]*:", re.IGNORECASE)
_LOST_HEADER = re.compile(
    rb"\n(?=content-[\w-]+[ \t]*:)"
    rb"(?:"
    rb"[\w-]{1,60}+[ \t]*+:[^\n]{0,998}+\n"  # a field
    rb"(?:[ \t]++[^\n]{0,998}+\n){0,8}+"  # its folded lines
    rb"){1,12}+"
    rb"\r?\n",
    re.IGNORECASE,
)
_ENCODED = re.compile(
    rb"^content-transfer-encoding[ \t]*:[ \t]*(?:base64|quoted-printable)"
    rb"|^content-disposition[ \t]*:[ \t]*attachment",
    re.IGNORECASE | re.MULTILINE,
)
# A message in a text is readable where it lies.
_MESSAGE = re.compile(rb"^content-type[ \t]*:[ \t]*message/", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a message: a multipart has children, a leaf has a body.

    The body is `source` (the whole message) from `start` to `end`: large bodies are not copied.
    """

    fields: Fields
    mime: str  # type/subtype in lower case; "" where none is given
    parameters: dict[str, str]  # of the Content-Type
    source: bytes = field(default=b"", repr=False)
    start: int = 0
    end: int = 0
    children: tuple["Part", ...] = ()

    @property
    def disposition(self) -> tuple[str, dict[str, str]]:
        """`attachment`, `inline` or "", and the parameters of the field (RFC 2183)."""
        return self.fields.find_parameters("content-disposition")

    @property
    def size(self) -> int:
        """Bytes of the body as it was sent, still encoded."""
        return self.end - self.start

    @property
    def content(self) -> bytes:
        """The body decoded."""
        label = self.fields.find_text("content-transfer-encoding")
        return transfer_encoding.decode_span(self.source, self.start, self.end, label)

    def decode(self) -> tuple[bytes, Span | None]:
        """Return the body decoded, and where it lies in the message.

        The place is None where it takes more than plain decoding to get the body, as for uuencode
        or for damaged base64.
        """
        label = self.fields.find_text("content-transfer-encoding")
        return transfer_encoding.decode_and_locate(self.source, self.start, self.end, label)


@dataclass(frozen=True, slots=True)
class MessageTree:
    """A message taken apart into its parts."""

    fields: Fields  # of the message's own header
    root: Part
    caveats: tuple[str, ...] = ()
    preamble: tuple[Part, ...] = ()  # bytes before the first delimiter (RFC 2046 §5.1.1)
    strays: tuple[Part, ...] = ()  # bytes outside of all parts elsewhere, as epilogues
    source: bytes = field(default=b"", repr=False)  # the message; each part names its place there


@dataclass(frozen=True, slots=True)
class _Delimiter:
    """A delimiter line: where it begins, the position behind it, its boundary, if it closes."""

    start: int
    end: int
    boundary: bytes
    is_closing: bool = False


@dataclass(frozen=True, slots=True)
class _SearchResult:
    """Result of a search for the next delimiter, kept because the next search mostly repeats it."""

    start: int  # where the search began
    boundaries: int  # how many were in force
    delimiter: _Delimiter | None

    def covers(self, position: int) -> bool:
        """Return whether a search from a position would have the same result."""
        return self.start <= position and (
            self.delimiter is None or position <= self.delimiter.start
        )


@dataclass(slots=True)
class _Scan:
    """State of one pass over the bytes: the skeleton, and where the bodies are."""

    raw: bytes
    skeleton: list[bytes] = field(default_factory=list)
    pieces: list[tuple[Fields, int, int]] = field(default_factory=list)  # fields, start, end
    depth: dict[bytes, int] = field(default_factory=dict)  # of each boundary in force
    digests: set[bytes] = field(default_factory=set)  # boundaries of digests among them
    caveats: list[str] = field(default_factory=list)
    outside: list[tuple[int, int]] = field(default_factory=list)  # stretches outside of all parts
    searched_bytes: int = 0  # bytes read in search of delimiters that were not there
    candidates: int = 0  # lines that began like a delimiter
    last_result: _SearchResult | None = None
    current: bytes = b""  # boundary of the multipart that the part in hand belongs to
    resume: int = -1  # where the header of a part begins whose delimiter is gone


def parse(raw: bytes) -> MessageTree:
    """Take a message apart; raises nothing.

    Bytes that are no message make one part of plain text without fields.
    """
    head = headers.parse_header(raw)
    scan = _Scan(raw, caveats=["the header is longer than we read"] if head.is_cut else [])
    _scan_parts(scan, head)
    root = _build_tree(scan) if scan.depth else _make_leaf(scan, 0)
    preamble = [span for span in scan.outside if span[0] == head.body_start]
    strays = [span for span in scan.outside if span[0] != head.body_start]
    return MessageTree(
        head.fields,
        root,
        tuple(dict.fromkeys(scan.caveats)),
        tuple(Part(Fields([]), "", {}, raw, *span) for span in preamble),
        tuple(Part(Fields([]), "", {}, raw, *span) for span in strays),
        raw,
    )


def _skip_line_ends(raw: bytes, position: int) -> int:
    while raw[position : position + 1] in {b"\r", b"\n"}:
        position += 1
    return position


def _build_tree(scan: _Scan) -> Part:
    """Return the parts as the walk finds them in the skeleton; those it leaves out come last."""
    seen: set[int] = set()
    root = _make_part(message_from_bytes(b"".join(scan.skeleton)), scan, seen)
    lost = [_make_leaf(scan, number) for number in range(len(scan.pieces)) if number not in seen]
    return Part(Fields([]), "multipart/mixed", {}, children=(root, *lost)) if lost else root


def _scan_parts(scan: _Scan, head: headers.HeaderBlock) -> None:
    """Write the skeleton and note the bodies, in one pass from delimiter to delimiter."""
    position = _open(scan, head.fields, head.body_start, 0)
    while True:
        if scan.resume >= 0:
            delimiter: _Delimiter | None = _Delimiter(scan.resume, scan.resume, scan.current)
            scan.resume = -1
            scan.caveats.append(MISSING)
        else:
            delimiter = _find_delimiter(scan, position) or _end_of_message(scan, position)
        if delimiter is None:
            break
        if position < delimiter.start:
            scan.resume = _find_header_outside(scan, position, delimiter.start)
            if scan.resume >= 0:
                _note_outside(scan, position, scan.resume)
                position = scan.resume
                continue
            _note_outside(scan, position, delimiter.start)
        if delimiter.is_closing:
            position = delimiter.end
            continue
        if max(len(scan.pieces), len(scan.depth)) >= MAX_PARTS:
            _keep_rest(scan, delimiter)
            return
        position = _open_part(scan, delimiter)


def _open_part(scan: _Scan, delimiter: _Delimiter) -> int:
    """Begin the part behind a delimiter; return the position to go on from."""
    start, boundary = delimiter.end, delimiter.boundary
    if _has_header(scan.raw, start):
        head = headers.parse_header(scan.raw, start)
    else:
        head = headers.HeaderBlock(Fields([]), _skip_empty_header(scan.raw, start))
    fields = head.fields
    if boundary in scan.digests and not fields.find_first("content-type"):
        # Parts of a digest are messages unless they say otherwise (RFC 2046 §5.1.5).
        fields = Fields([*fields.items, ("content-type", b"message/rfc822")])
    scan.current = boundary
    scan.skeleton.append(b"\r\n--" + boundary + b"\r\n")
    position = _open(scan, fields, head.body_start, scan.depth[boundary])
    if head.is_cut:
        scan.caveats.append("the header of a part is longer than we read")
    return position


def _end_of_message(scan: _Scan, position: int) -> _Delimiter | None:
    """Return the end of the message as a delimiter that closes; None behind it, or without parts.

    It has the stretch before it looked at like any other.
    """
    size = len(scan.raw)
    if not scan.depth or position >= size:
        return None
    return _Delimiter(size, size, scan.current, is_closing=True)


def _find_header_outside(scan: _Scan, start: int, end: int) -> int:
    """Return the position of a part's header whose delimiter is gone, -1 if there is none.

    `start` and `end` are those of a stretch that belongs to no part.
    """
    position = _skip_line_ends(scan.raw, start)
    if position < end and _PART_HEADER.match(scan.raw, position):
        return position
    return _find_encoded_header(scan.raw, max(0, start - 1), end)


def _note_outside(scan: _Scan, start: int, end: int) -> None:
    """Keep a stretch that belongs to no part: a preamble or an epilogue."""
    if start >= end or scan.raw[start:end].isspace():  # nothing in it
        return
    if len(scan.outside) >= MAX_STRAYS:
        start = scan.outside.pop()[0]
    scan.outside.append((start, end))


def _keep_rest(scan: _Scan, delimiter: _Delimiter) -> None:
    """Keep everything from a delimiter on as one file.

    Nobody reads a mail of more parts, and nothing of it is lost.
    """
    scan.caveats.append(f"more than {MAX_PARTS} parts: the rest is attached as {REST_NAME}")
    scan.skeleton.append(b"\r\n--" + delimiter.boundary + b"\r\n" + _write_piece_header(scan))
    label = b'text/plain; name="' + REST_NAME.encode() + b'"'
    scan.pieces.append((Fields([("content-type", label)]), delimiter.start, len(scan.raw)))


def _write_piece_header(scan: _Scan) -> bytes:
    """Return the header of a leaf in the skeleton: the number its body will have."""
    return b"%s: %d\r\n\r\n" % (PIECE.encode(), len(scan.pieces))


def _has_header(raw: bytes, position: int) -> bool:
    return raw[position : position + 1] not in {b"\r", b"\n", b""}


def _skip_empty_header(raw: bytes, position: int) -> int:
    """Return the position behind the blank line that stands for an empty header (RFC 2046 §5.1)."""
    return position + (2 if raw.startswith(b"\r\n", position) else 1)


def _open(scan: _Scan, fields: Fields, start: int, depth: int) -> int:
    """Begin a part: a multipart puts its boundary in force, a leaf notes its body.

    Returns the position to go on from.
    """
    boundary = _find_boundary(scan, fields, start) if depth < MAX_DEPTH else b""
    if boundary:
        _put_in_force(scan, fields, boundary, depth)
        return start
    if depth >= MAX_DEPTH:
        scan.caveats.append("parts nested too deep: kept as one attachment")
    elif fields.find_parameters("content-type")[0].startswith("multipart"):
        return _open_undivided(scan, fields, start, depth)
    end = _find_end_of_leaf(scan, start)
    lost_header = _find_lost_header(scan, fields, start, end) if scan.depth else -1
    if lost_header >= 0:
        scan.resume = end = lost_header
    scan.skeleton.append(_write_piece_header(scan))
    scan.pieces.append((fields, start, end))
    return end


def _open_undivided(scan: _Scan, fields: Fields, start: int, depth: int) -> int:
    """Begin a multipart none of whose delimiters is there, as one part.

    The part's own header may have survived. Returns the position to go on from.
    """
    boundary = UNDIVIDED % len(scan.depth)
    _put_in_force(scan, fields, boundary, depth)
    scan.skeleton.append(b"\r\n--" + boundary + b"\r\n")
    position = _skip_line_ends(scan.raw, start)
    if _PART_HEADER.match(scan.raw, position):
        head = headers.parse_header(scan.raw, position)
        scan.caveats.append(MISSING)
        return _open(scan, head.fields, head.body_start, depth + 1)
    if position < len(scan.raw):
        scan.caveats.append(
            "the parts of the mail could not be separated: its text is shown undivided"
        )
    encoding = [
        (name, value) for name, value in fields.items if name == "content-transfer-encoding"
    ]
    return _open(scan, Fields(encoding), start, depth + 1)


def _put_in_force(scan: _Scan, fields: Fields, boundary: bytes, depth: int) -> None:
    scan.depth[boundary] = depth + 1
    scan.current = boundary
    if fields.find_parameters("content-type")[0] == "multipart/digest":
        scan.digests.add(boundary)
    scan.skeleton.append(_write_multipart_header(fields, boundary))


def _find_lost_header(scan: _Scan, fields: Fields, start: int, end: int) -> int:
    """Return the position of a part's header within the body of the part before it, or -1.

    The delimiter between the two is gone. `fields` are those of the part before.
    """
    if "base64" in fields.find_text("content-transfer-encoding").lower():
        if scan.raw.find(b"-", start, end) < 0:  # base64 has none: large files are passed at once
            return -1
        line = _LOST_TYPE.search(scan.raw, start, end)
        return line.start() + 1 if line is not None else -1
    if not _is_text_to_show(fields):
        return -1
    return _find_encoded_header(scan.raw, start, end)


def _is_text_to_show(fields: Fields) -> bool:
    """Return whether a part is a text and no file."""
    mime, parameters = fields.find_parameters("content-type")
    disposition, more = fields.find_parameters("content-disposition")
    is_text = mime.startswith("text") or mime in {"", "plain/text"}
    is_file = disposition == "attachment" or parameters.get("name") or more.get("filename")
    return is_text and not is_file


def _find_encoded_header(raw: bytes, start: int, end: int) -> int:
    """Return the position of the next header that says its part is encoded or a file, or -1."""
    for header in _LOST_HEADER.finditer(raw, start, end):
        if _ENCODED.search(header[0]) and not _MESSAGE.search(header[0]):
            return header.start() + 1
    return -1


def _find_boundary(scan: _Scan, fields: Fields, start: int) -> bytes:
    """Return the boundary of a multipart, b"" for a leaf.

    It is taken from the body where the header names none, or one that does not occur there.
    """
    mime, parameters = fields.find_parameters("content-type")
    named = parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
    is_multipart = mime.startswith("multipart") or (not mime and bool(named))
    if is_multipart:
        for boundary in dict.fromkeys((named, *_list_boundary_readings(fields))):
            if boundary and _occurs(scan, boundary, start):
                return boundary
    elif mime not in {"", "text/plain"}:
        return b""
    guess = _guess_boundary(scan, start, is_multipart=is_multipart)
    # The delimiter of the multipart around this one says where this one ends, never how it is
    # divided.
    return guess if guess not in scan.depth else b""


def _list_boundary_readings(fields: Fields) -> list[bytes]:
    """Return readings of a boundary parameter that is not written as RFC 2045 asks.

    It may be unquoted with `;` or blanks, or half quoted. The longest reading comes first:
    `Part;1; charset=utf-8` is read as `Part;1; charset=utf-8`, `Part;1`, `Part`.
    """
    value = _LINE_ENDS.sub(b"", fields.find_first("content-type"))[:MAX_FIELD]
    parameter = _BOUNDARY_PARAMETER.search(value)
    if parameter is None:
        return []
    text = parameter[1]
    if re.match(rb'"[^"]+"', text):
        return []  # properly quoted: the parameter has been read already
    ends = [len(text), *(mark.start() for mark in re.finditer(rb"[;\"'\s]", text))]
    pieces = [text[:end].strip() for end in sorted(ends, reverse=True)]
    readings = [form for piece in pieces for form in (piece, piece.strip(b"\"'").strip())]
    return [reading for reading in dict.fromkeys(readings) if reading][:MAX_READINGS]


def _guess_boundary(scan: _Scan, start: int, *, is_multipart: bool) -> bytes:
    """Return the boundary of the first line of a body that looks like a delimiter, or b"".

    A body that no header calls a multipart needs the header of a part right behind that line.
    """
    raw = scan.raw
    line = _FIRST_LINE.match(raw, start)
    if line is not None and (
        is_multipart or _PART_HEADER.match(raw, raw.find(b"\n", line.start(1)) + 1)
    ):
        return line[1]
    if not is_multipart or scan.searched_bytes > MAX_SEARCHED:
        return b""
    line = _LATER.search(raw, start, start + MAX_PREAMBLE)
    end = line.end() if line is not None else min(len(raw), start + MAX_PREAMBLE)
    scan.searched_bytes += end - start
    return line[1] if line is not None else b""


def _occurs(scan: _Scan, boundary: bytes, start: int) -> bool:
    """Return whether a whole line of a body is a delimiter of this boundary, opening or closing."""
    if scan.searched_bytes > MAX_SEARCHED:
        return False
    line = re.compile(
        rb"(?:\A|(?<=\n))--" + re.escape(boundary) + rb"[ \t]*(?:--[ \t]*)?(?=[\r\n]|\Z)"
    )
    if line.match(scan.raw, start):
        return True
    end = min(len(scan.raw), start + MAX_PREAMBLE)
    delimiter = line.search(scan.raw, max(0, start - 1), end)
    scan.searched_bytes += (delimiter.end() if delimiter is not None else end) - start
    return delimiter is not None


def _find_delimiter(scan: _Scan, position: int) -> _Delimiter | None:
    """Return the next delimiter at or behind a position; None where none follows.

    No stretch is searched twice for the same boundaries.
    """
    if not scan.depth:
        return None
    last = scan.last_result
    if last is None or last.boundaries != len(scan.depth) or not last.covers(position):
        delimiter = _search_delimiter(scan, position)
        last = scan.last_result = _SearchResult(position, len(scan.depth), delimiter)
    return last.delimiter


def _search_delimiter(scan: _Scan, position: int) -> _Delimiter | None:
    raw = scan.raw
    is_at_dashes = raw.startswith(b"--", position) and raw[position - 1 : position] in {b"\n", b""}
    start = position if is_at_dashes else _find_next_dashes(raw, position)
    while start >= 0:
        scan.candidates += 1
        if scan.candidates > MAX_CANDIDATES:
            scan.caveats.append("too many lines like delimiters: the rest of the mail is one part")
            return None
        delimiter = _parse_delimiter(scan, start)
        if delimiter is not None:
            return delimiter
        start = _find_next_dashes(raw, start + 2)
    return None


def _parse_delimiter(scan: _Scan, start: int) -> _Delimiter | None:
    """Return the delimiter that begins with the two dashes at a position; None where it is none."""
    line = _LINE.match(scan.raw, start)
    if line is None:
        return None
    name = line[1].rstrip(b" \t")
    if name in scan.depth:
        return _Delimiter(start, line.end(), name)
    if name.endswith(b"--") and name[:-2].rstrip() in scan.depth:
        return _Delimiter(start, line.end(), name[:-2].rstrip(), is_closing=True)
    boundary = _find_damaged_boundary(scan, name, line.end())
    return _Delimiter(start, line.end(), boundary) if boundary else None


def _find_damaged_boundary(scan: _Scan, name: bytes, after: int) -> bytes:
    """Return the boundary whose delimiter was cut short or grew a tail, or b"".

    It counts only where the header of a part stands right behind it.
    """
    if len(scan.depth) > MAX_DEPTH or not _PART_HEADER.match(scan.raw, after):
        return b""
    return next((boundary for boundary in reversed(scan.depth) if _is_damaged(name, boundary)), b"")


def _is_damaged(name: bytes, boundary: bytes) -> bool:
    if boundary.startswith(name) or boundary.lower() == name.lower():
        return True
    tail = name.removeprefix(boundary)
    return tail != name and (len(boundary) >= LONG_BOUNDARY or not tail.strip(b"- \t"))


def _find_next_dashes(raw: bytes, position: int) -> int:
    """Return the position of the next line that begins with two dashes, or -1.

    A single dash, which base64 lacks, is found faster than two at the beginning of a line.
    """
    first_dash = raw.find(b"-", max(0, position))
    if first_dash < 0:
        return -1
    line_end = raw.find(b"\n--", max(0, first_dash - 1))
    return line_end + 1 if line_end >= 0 else -1


def _find_end_of_leaf(scan: _Scan, start: int) -> int:
    delimiter = _find_delimiter(scan, start)
    return len(scan.raw) if delimiter is None else max(start, delimiter.start)


def _write_multipart_header(fields: Fields, boundary: bytes) -> bytes:
    """Return the header of a multipart in the skeleton: its type, and the boundary in force."""
    mime, parameters = fields.find_parameters("content-type")
    subtype = (mime.partition("/")[2] or "mixed").encode("ascii", "replace")
    others = [(name, value) for name, value in parameters.items() if name != "boundary"]
    encoded_parameters = [
        (name.encode("ascii", "replace"), value.encode("ascii", "replace"))
        for name, value in others
    ]
    parameters_text = b"".join(
        b'; %s="%s"' % (name, _escape(value))
        for name, value in [(b"boundary", boundary), *encoded_parameters]
    )
    return b"Content-Type: multipart/" + _flatten(subtype + parameters_text) + b"\r\n\r\n"


def _escape(value: bytes) -> bytes:
    return value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _flatten(value: bytes) -> bytes:
    return value[:MAX_FIELD].translate(None, b"\r\n\0")


def _make_part(message: Message, scan: _Scan, body_numbers: set[int]) -> Part:
    """Return the tree of a walked skeleton with our fields and bodies.

    Adds the numbers of its bodies to `body_numbers`.
    """
    number = message.get(PIECE)
    if number is not None:
        body_numbers.add(int(str(number)))
        return _make_leaf(scan, int(str(number)))
    payload = message.get_payload()
    children = payload if isinstance(payload, list) else []
    parts = tuple(
        _make_part(child, scan, body_numbers) for child in children if isinstance(child, Message)
    )
    fields = Fields(
        [(name.lower(), str(value).encode("utf-8", "replace")) for name, value in message.items()]
    )
    _, parameters = fields.find_parameters("content-type")
    return Part(fields, message.get_content_type(), parameters, children=parts)


def _make_leaf(scan: _Scan, number: int) -> Part:
    fields, start, end = scan.pieces[number]
    mime, parameters = fields.find_parameters("content-type")
    return Part(
        fields, mime, parameters, scan.raw, start, _trim_last_line_end(scan.raw, start, end)
    )


def _trim_last_line_end(raw: bytes, start: int, end: int) -> int:
    """Return the end of a body without the line end that belongs to the delimiter behind it.

    Source: RFC 2046 §5.1.1.
    """
    if end < len(raw) and raw.endswith(b"\n", start, end):
        return end - (2 if raw.endswith(b"\r\n", start, end) else 1)
    return end


def find_charset(part: Part) -> str:
    """Return the charset a part is labelled with, "" if it has no label or an unknown one."""
    label = part.parameters.get("charset", "")
    return label if charsets.find_codec(label) else ""
