"""Content transfer encodings undone (RFC 2045 §6), also where the label is wrong or the data is damaged."""

import binascii
import re
from dataclasses import dataclass

from parsers.headers import base64_bytes

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
BLANKS = b" \t\r\n"
SAMPLE = 4096
MAX_UU_FILES = 100

_TRAILING = re.compile(rb"(?<![ \t])[ \t]+(?=\r?\n)")
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
        return binascii.a2b_qp(_TRAILING.sub(b"", data))
    if encoding == "uu":
        text, files = uu_files(data if data.lstrip().startswith(b"begin") else b"begin 644 x\n" + data)
        if not files:
            return text
        first, rest = files[0].content, text.strip()
        return first + b"\n" + rest if rest and first.isascii() else first  # words behind an encoded text are text too
    return data


def _base64(data: bytes) -> bytes:
    """Decode in one pass; text that is no base64 stays as it is, and what a mailing list added behind it is kept."""
    sample = data[:SAMPLE]
    strange = len(sample.translate(None, ALPHABET + BLANKS))
    if sample.strip() and (strange * 10 > len(sample) or _reads_as_words(sample)):
        return data
    bare = data.translate(None, b"\r\n")
    end = bare.find(b"=")
    if end < 0 or not bare[end:].strip(b"= \t"):
        return base64_bytes(bare)
    return _segments(data)


def _reads_as_words(sample: bytes) -> bool:
    """Whether the first line has blanks between words, which base64 never has."""
    first = sample.strip().split(b"\n", 1)[0].strip()
    return len(first.split()) > 2 and len(first) < 100  # noqa: PLR2004 - three words make a line of text


def _segments(data: bytes) -> bytes:
    """Base64 with padding in its middle: several encoded runs one after the other, or a plain footer behind."""
    decoded = b""
    for run in re.findall(rb"[^=]+=*", data):
        if run.translate(None, ALPHABET + BLANKS):
            return decoded + run.lstrip(b"=") + data.partition(run)[2] if decoded else base64_bytes(data)
        decoded += base64_bytes(run)
    return decoded


def uu_files(text: bytes) -> tuple[bytes, list[UuFile]]:
    """Take uuencoded files out of a text: the text that remains, and the files in their order."""
    files: list[UuFile] = []
    kept, position = [], 0
    while len(files) < MAX_UU_FILES:
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
    """Content of an encoded file and the position behind its `end`; -1 where the lines are none of uuencode."""
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
