"""Decoders of content transfer encodings (RFC 2045 §6), also for wrong labels and damaged data."""

import binascii
import io
import re
from contextlib import suppress
from dataclasses import dataclass

import pybase64

from parsers.item import Encoding, Span
from parsers.mail.syntax.headers import decode_base64

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
BLANKS = b" \t\r\n"
NOT_ALPHABET = bytes(set(range(256)) - set(ALPHABET) | {ord("=")})
SAMPLE = 4096  # bytes at the beginning or end of a body that show whether it is base64
LARGE = 16_384  # bytes of a body from which on it is decoded where it lies, not as a copy
STEP = 262_144  # bytes of damaged base64 decoded at a time
MAX_UU_FILES = 100
MAX_SHORT_LINES = 1000  # short lines of base64 behind its last full line that are looked at

_BLANK_ENDS = (b" \n", b" \r\n", b"\t\n", b"\t\r\n")
_TRAILING = re.compile(rb"(?<![ \t])[ \t]+(?=\r?\n)")
_FOOTER_MARKS = (b"_____", b"--", b"=====")
_FOOTER = re.compile(rb"^(?:_{5,}|-{2,} ?|={5,})\r?$", re.MULTILINE)
_TWO_WORDS = re.compile(rb"[^\s][ \t]+[^\s]")  # on one line
_THREE_WORDS = re.compile(rb"\s*\S+\s+\S+\s+\S")
# A line of base64: so many characters without a blank are no word.
_FULL_LINE = re.compile(rb"^([A-Za-z0-9+/=]{24,})[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
_RUN = re.compile(rb"[^=]+=*")
_UU_BEGIN = re.compile(rb"^begin(?:-base64)? [0-7]{3,4} ([^\r\n]{1,255})\r?\n", re.MULTILINE)
_UU_LINE = re.compile(rb"(?:[ -`]{1,90}|end|====)(?:\r?\n|\Z)")

# Value of the field, in lower case -> the decoding it means; all else is identity.
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
# Decoding -> the encoding of a span that is decoded in this way.
PLAIN_ENCODINGS = {"base64": Encoding.BASE64, "qp": Encoding.QUOTED_PRINTABLE}


@dataclass(frozen=True, slots=True)
class UuFile:
    """A file that stood uuencoded in a text; its name in the bytes of the mail."""

    name: bytes
    content: bytes


def decode(data: bytes, label: str) -> bytes:
    """Return the decoded bytes of a body whose Content-Transfer-Encoding is `label`.

    Raises nothing: what is not encoded as its label says is returned as it is, as far as it can be.
    """
    match _find_encoding(label):
        case "base64":
            return _decode_base64(data)
        case "qp":
            return _decode_quoted_printable(data)
        case "uu":
            return _decode_uu(data)
        case _:
            return data


def _find_encoding(label: str) -> str:
    return ENCODINGS.get(label.strip().strip("\"';").lower(), "")


def _decode_quoted_printable(data: bytes) -> bytes:
    """Decode quoted-printable; blanks at the end of a line are no part of it (RFC 2045 §6.7)."""
    if any(end in data for end in _BLANK_ENDS):
        data = _TRAILING.sub(b"", data)
    return binascii.a2b_qp(data)


def _decode_uu(data: bytes) -> bytes:
    """Decode a uuencoded body, also without its first line."""
    text, files = extract_uu_files(
        data if data.lstrip().startswith(b"begin") else b"begin 644 x\n" + data
    )
    if not files:
        return text
    first, rest = files[0].content, text.strip()
    if rest and first.isascii():  # words behind an encoded text are text too
        return first + b"\n" + rest
    return first


def decode_span(raw: bytes, start: int, end: int, label: str) -> bytes:
    """Decode the bytes between two positions, as `decode` does.

    Large base64 is decoded in one pass, without a copy of the encoded bytes.
    """
    if _is_large_base64(raw, start, end, label):
        return _decode_large_base64(raw, start, end)[0]
    return decode(raw[start:end], label)


def decode_and_locate(raw: bytes, start: int, end: int, label: str) -> tuple[bytes, Span | None]:
    """Decode as `decode_span` does; also return the span that gives the same bytes, if one does."""
    if _is_large_base64(raw, start, end, label):
        return _decode_large_base64(raw, start, end)
    content = decode(raw[start:end], label)
    if len(content) == end - start and raw.startswith(content, start):  # without a copy
        return content, Span(start, end, Encoding.IDENTITY)
    encoding = PLAIN_ENCODINGS.get(_find_encoding(label))
    if encoding is not None:
        span = Span(start, end, encoding)
        with suppress(ValueError):
            if span.decode(raw) == content:
                return content, span
    return content, None


def _is_large_base64(raw: bytes, start: int, end: int, label: str) -> bool:
    """Return whether the bytes are worth decoding in one pass, and are base64 to their end."""
    is_large = end - start > LARGE and _find_encoding(label) == "base64"
    return is_large and _is_one_run(raw, start, end) and _is_base64(raw[start : start + SAMPLE])


def _decode_large_base64(raw: bytes, start: int, end: int) -> tuple[bytes, Span | None]:
    span = Span(start, end, Encoding.BASE64)
    try:
        return span.decode(raw), span
    except ValueError:  # padding is missing
        return _decode_in_steps(raw, start, end), None


def _is_one_run(raw: bytes, start: int, end: int) -> bool:
    """Return whether base64 is one run to its end.

    Then it has padding nowhere else, and no footer of a mailing list behind it.
    """
    padding = raw.find(b"=", start, end)
    if padding >= 0:
        return end - padding < SAMPLE and not raw[padding:end].strip(b"=" + BLANKS)
    tail = max(start, end - SAMPLE)
    return _FOOTER.search(raw, tail, end) is None and _TWO_WORDS.search(raw, tail, end) is None


def _decode_in_steps(raw: bytes, start: int, end: int) -> bytes:
    """Decode base64 a quarter of a mebibyte at a time, whatever else stands in it."""
    output, rest = io.BytesIO(), b""
    for position in range(start, end, STEP):
        bare = rest + raw[position : min(position + STEP, end)].translate(None, NOT_ALPHABET)
        whole = len(bare) & ~3
        output.write(binascii.a2b_base64(bare[:whole]))
        rest = bare[whole:]
    output.write(decode_base64(rest))
    return output.getvalue()


def _is_base64(sample: bytes) -> bool:
    """Return whether the first line may be base64.

    It never has blanks between words, nor many characters outside of its alphabet.
    """
    first = sample.strip().split(b"\n", 1)[0].strip()
    is_line_of_text = len(first.split()) >= 3 and len(first) < 100  # noqa: PLR2004 - three words
    return not is_line_of_text and len(first.translate(None, ALPHABET)) * 10 <= len(first)


def _decode_base64(data: bytes) -> bytes:
    """Decode base64, and keep plain words that a mailing list or gateway put behind it.

    Text that is no base64 stays as it is.
    """
    if not _is_base64(data[:SAMPLE]):
        return data
    footer = _FOOTER.search(data) if any(mark in data for mark in _FOOTER_MARKS) else None
    end = footer.start() if footer is not None else _find_end_of_base64(data)
    if end < len(data):
        return _decode_runs(data[:end]) + b"\n" + data[end:].lstrip()
    return _decode_runs(data)


def _find_end_of_base64(data: bytes) -> int:
    """Return the position where base64 ends and plain words follow; the end where none do.

    What follows is text if it has three words, two of them on one line: a damaged line of base64
    may have a blank, too.
    """
    if _TWO_WORDS.search(data) is None:
        return len(data)
    end = _find_end_of_lines(data)
    is_text = _THREE_WORDS.match(data, end) and _TWO_WORDS.search(data, end)
    return end if is_text else len(data)


def _find_end_of_lines(data: bytes) -> int:
    """Return the position behind the last line of base64.

    It is the last full line, or one of the shorter lines behind it that are a whole number of
    groups of four characters. Padding ends base64, whatever follows.
    """
    full_lines = [line.end() for line in _FULL_LINE.finditer(data) if _has_whole_groups(line[1])]
    end = full_lines[-1] if full_lines else _find_line_end(data, 0)
    for _ in range(MAX_SHORT_LINES):
        next_end = _find_line_end(data, end)
        line = data[end:next_end].strip()
        is_padded = data[max(0, end - 4) : end].rstrip().endswith(b"=")
        if not line or is_padded or not _has_whole_groups(line):
            break
        end = next_end
    return end


def _find_line_end(data: bytes, position: int) -> int:
    """Return the position behind the line that begins at a position."""
    line_feed = data.find(b"\n", position)
    return line_feed + 1 if line_feed >= 0 else len(data)


def _has_whole_groups(line: bytes) -> bool:
    return len(line) % 4 == 0 and not line.translate(None, ALPHABET)


def _decode_runs(data: bytes) -> bytes:
    """Decode base64 of one or several encoded runs, each with padding of its own."""
    padding = data.find(b"=")
    if padding < 0 or not data[padding:].strip(b"=" + BLANKS):
        try:
            return pybase64.b64decode(data)
        except binascii.Error:
            return decode_base64(data)
    # Runs may be a few bytes each: a list of millions would cost half a gigabyte.
    decoded = io.BytesIO()
    for run in _RUN.finditer(data):
        decoded.write(decode_base64(run[0]))
    return decoded.getvalue()


def extract_uu_files(text: bytes, most: int = MAX_UU_FILES) -> tuple[bytes, list[UuFile]]:
    """Take uuencoded files out of a text, at most `most`.

    Returns the text that remains, and the files in their order.
    """
    files: list[UuFile] = []
    remaining, position = [], 0
    while len(files) < most:
        begin = _UU_BEGIN.search(text, position)
        if begin is None:
            break
        content, end = _decode_uu_lines(text, begin.end())
        if end < 0:
            remaining.append(text[position : begin.end()])
            position = begin.end()
            continue
        remaining.append(text[position : begin.start()])
        files.append(UuFile(begin[1].strip(), content))
        position = end
    remaining.append(text[position:])
    return b"".join(remaining), files


def _decode_uu_lines(text: bytes, position: int) -> tuple[bytes, int]:
    """Return the content of an encoded file and the position behind its `end`.

    b"" and -1 where the lines are none of uuencode. A file without `end` may close the text.
    """
    content: list[bytes] = []
    while line := _UU_LINE.match(text, position):
        position = line.end()
        bare = line[0].rstrip(b"\r\n")
        if bare in {b"end", b"===="}:
            return b"".join(content), position
        try:
            content.append(_decode_uu_line(bare))
        except binascii.Error:
            return b"", -1
    return (b"".join(content), position) if content and position >= len(text) else (b"", -1)


def _decode_uu_line(line: bytes) -> bytes:
    """Decode a line, without what stands behind the length it claims where that is damaged.

    Raises binascii.Error where it is no line of uuencode.
    """
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        length = (line[0] - 32) & 63  # bytes it decodes to
        return binascii.a2b_uu(line[: (length * 4 + 5) // 3])
