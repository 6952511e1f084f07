"""Content transfer encodings (RFC 2045 §6), decoded.

Also where the label is wrong or the data is damaged.
"""

import binascii
import io
import re
from dataclasses import dataclass

import pybase64

from parsers.mail.syntax.headers import decode_base64

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
BLANKS = b" \t\r\n"
NOT_ALPHABET = bytes(set(range(256)) - set(ALPHABET) | {ord("=")})
SAMPLE = 4096
LARGE = 16_384  # bytes of a body from which on it is decoded where it lies, not as a copy
STEP = 262_144  # bytes of damaged base64 decoded at a time
MAX_UU_FILES = 100
MAX_SHORT_LINES = 1000  # short lines of base64 behind its last full line that are looked at

_BLANK_ENDS = (b" \n", b" \r\n", b"\t\n", b"\t\r\n")
_TRAILING = re.compile(rb"(?<![ \t])[ \t]+(?=\r?\n)")
_FOOTER_MARKS = (b"_____", b"--", b"=====")
_FOOTER = re.compile(rb"^(?:_{5,}|-{2,} ?|={5,})\r?$", re.MULTILINE)
_SPACED = re.compile(rb"[^\s][ \t]+[^\s]")  # two words on a line
_THREE_WORDS = re.compile(rb"\s*\S+\s+\S+\s+\S")
# A line of base64: a run of letters this long without a blank is no word.
_FULL_LINE = re.compile(rb"^([A-Za-z0-9+/=]{24,})[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
_RUN = re.compile(rb"[^=]+=*")
_UU_BEGIN = re.compile(rb"^begin(?:-base64)? [0-7]{3,4} ([^\r\n]{1,255})\r?\n", re.MULTILINE)
_UU_LINE = re.compile(rb"(?:[ -`]{1,90}|end|====)(?:\r?\n|\Z)")

# What the field says, in lower case -> which decoding it means; all else is identity.
ENCODINGS = {
    "base64": "base64",
    "base-64": "base64",
    "b": "base64",
    "x-base64": "base64",
    "quoted-printable": "qp",
    "quoted printable": "qp",
    "quotedprintable": "qp",
    "qp": "qp",
    "x-uuencode": "uu",
    "uuencode": "uu",
    "x-uue": "uu",
    "uue": "uu",
}


@dataclass(frozen=True, slots=True)
class UuFile:
    """A file that stood uuencoded in a text."""

    name: bytes
    content: bytes


def decode(data: bytes, label: str) -> bytes:
    """Return the bytes of a body whose Content-Transfer-Encoding says `label`."""
    encoding = ENCODINGS.get(label.strip().strip("\"';").lower())
    if encoding == "base64":
        return _base64(data)
    if encoding == "qp":
        return binascii.a2b_qp(
            _TRAILING.sub(b"", data) if any(end in data for end in _BLANK_ENDS) else data
        )
    if encoding == "uu":
        text, files = extract_uu_files(
            data if data.lstrip().startswith(b"begin") else b"begin 644 x\n" + data
        )
        if not files:
            return text
        first, rest = files[0].content, text.strip()
        return (
            first + b"\n" + rest if rest and first.isascii() else first
        )  # words behind an encoded text are text too
    return data


def decode_span(raw: bytes, start: int, end: int, label: str) -> bytes:
    """Decode what lies between two positions.

    Large base64 in one pass, without a copy of the encoded bytes.
    """
    large = end - start > LARGE and ENCODINGS.get(label.strip().strip("\"';").lower()) == "base64"
    if large and _ends_clean(raw, start, end) and not _is_no_base64(raw[start : start + SAMPLE]):
        try:
            return pybase64.b64decode(memoryview(raw)[start:end])
        except binascii.Error:  # padding is missing
            return _in_steps(raw, start, end)
    return decode(raw[start:end], label)


def _ends_clean(raw: bytes, start: int, end: int) -> bool:
    """Return whether base64 is one run to its end.

    Padding nowhere else, and no mailing list's footer behind it.
    """
    padding = raw.find(b"=", start, end)
    if padding >= 0 and (end - padding >= SAMPLE or raw[padding:end].strip(b"=" + BLANKS)):
        return False
    tail = max(start, end - SAMPLE)
    return padding >= 0 or (
        _FOOTER.search(raw, tail, end) is None and _SPACED.search(raw, tail, end) is None
    )


def _in_steps(raw: bytes, start: int, end: int) -> bytes:
    decoded, rest = io.BytesIO(), b""
    for position in range(start, end, STEP):
        bare = rest + raw[position : min(position + STEP, end)].translate(None, NOT_ALPHABET)
        whole = len(bare) & ~3
        decoded.write(binascii.a2b_base64(bare[:whole]))
        rest = bare[whole:]
    decoded.write(decode_base64(rest))
    return decoded.getvalue()


def _is_no_base64(sample: bytes) -> bool:
    """Return whether the first line has what base64 never has.

    Blanks between words, or many strange characters.
    """
    first = sample.strip().split(b"\n", 1)[0].strip()
    words = len(first.split()) > 2 and len(first) < 100  # noqa: PLR2004 - three words make a line of text
    return words or len(first.translate(None, ALPHABET)) * 10 > len(first)


def _base64(data: bytes) -> bytes:
    """Decode; text that is no base64 stays as it is.

    And the footer a mailing list put behind it is kept.
    """
    if _is_no_base64(data[:SAMPLE]):
        return data
    footer = _FOOTER.search(data) if any(mark in data for mark in _FOOTER_MARKS) else None
    end = footer.start() if footer is not None else _end_of_code(data)
    if end < len(data):
        return _runs(data[:end]) + b"\n" + data[end:].lstrip()
    return _runs(data)


def _end_of_code(data: bytes) -> int:
    """Position where base64 ends and plain words follow, as gateways put them there.

    The end where none do.

    Base64 ends behind its last full line, or a shorter one that is a whole number of groups. What
    follows is text if it has three words, two of them on one line: a damaged line of base64 may
    have a blank, too.
    """
    if _SPACED.search(data) is None:
        return len(data)
    full = [line.end() for line in _FULL_LINE.finditer(data) if _is_code(line[1])]
    end = full[-1] if full else _line_end(data, 0)
    for _ in range(MAX_SHORT_LINES):
        next_end = _line_end(data, end)
        line = data[end:next_end].strip()
        padded = data[max(0, end - 4) : end].rstrip().endswith(b"=")
        if not line or padded or not _is_code(line):
            break
        end = next_end
    return end if _THREE_WORDS.match(data, end) and _SPACED.search(data, end) else len(data)


def _line_end(data: bytes, position: int) -> int:
    """Position behind the line that begins at a position."""
    found = data.find(b"\n", position)
    return found + 1 if found >= 0 else len(data)


def _is_code(line: bytes) -> bool:
    return len(line) % 4 == 0 and not line.translate(None, ALPHABET)


def _runs(data: bytes) -> bytes:
    """Decode base64 of one or several encoded runs.

    Each run may have its own padding.
    """
    padding = data.find(b"=")
    if padding < 0 or not data[padding:].strip(b"=" + BLANKS):
        try:
            return pybase64.b64decode(data)
        except binascii.Error:
            return decode_base64(data)
    decoded = (
        io.BytesIO()
    )  # runs may be a few bytes each: a list of millions would cost half a gigabyte
    for run in _RUN.finditer(data):
        decoded.write(decode_base64(run[0]))
    return decoded.getvalue()


def extract_uu_files(text: bytes, most: int = MAX_UU_FILES) -> tuple[bytes, list[UuFile]]:
    """Take uuencoded files out of a text, at most so many.

    The text that remains, and the files in their order.
    """
    files: list[UuFile] = []
    kept, position = [], 0
    while len(files) < most:
        begin = _UU_BEGIN.search(text, position)
        if begin is None:
            break
        content, end = _uu_content(text, begin.end())
        if end < 0:
            kept.append(text[position : begin.end()])
            position = begin.end()
            continue
        kept.append(text[position : begin.start()])
        files.append(UuFile(begin[1].strip(), content))
        position = end
    kept.append(text[position:])
    return b"".join(kept), files


def _uu_content(text: bytes, position: int) -> tuple[bytes, int]:
    """Content of an encoded file and the position behind its `end`.

    -1 where the lines are none of uuencode.
    """
    content: list[bytes] = []
    while line := _UU_LINE.match(text, position):
        position = line.end()
        bare = line[0].rstrip(b"\r\n")
        if bare in {b"end", b"===="}:
            return b"".join(content), position
        try:
            content.append(binascii.a2b_uu(bare))
        except binascii.Error:
            size = (((bare[0] - 32) & 63) * 4 + 5) // 3
            try:
                content.append(binascii.a2b_uu(bare[:size]))
            except binascii.Error:
                return b"", -1
    return (b"".join(content), position) if content and position >= len(text) else (b"", -1)
