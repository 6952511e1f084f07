"""Files in a form's answers: links to where Formstack keeps them, or the files in base64."""

import binascii
import re
from dataclasses import dataclass, field

import pybase64

from parsers.item import Attachment
from parsers.text import filenames

# Where Formstack keeps uploads; other places are recognised by the field's type or by the settings.
_STORED = re.compile(
    r"https://(?:(?:[a-z0-9-]+\.)*formstack\.com/(?:[^\s?#]*/)?download/"
    r"|files\.formstack\.com(?:\.s3[a-z0-9.-]*\.amazonaws\.com)?/"
    r"|s3[a-z0-9.-]*\.amazonaws\.com/files\.formstack\.com/)\S+",
    re.IGNORECASE,
)
_URL = re.compile(r"https://\S+", re.IGNORECASE)
_SEPARATOR = re.compile(r",?\s+")
_DATA = re.compile(
    r"data:([\w.+-]{1,60}/[\w.+-]{1,100})?(?:;[\w.+=-]{1,100})*;base64,", re.IGNORECASE
)
_LINE_ENDS = re.compile(r"[\r\n\t]+")
# Characters of base64: a shorter answer is in words, even where a file was asked for.
_MIN_LENGTH = 64
_SIGNATURES = {  # first bytes of a file -> its type
    b"%PDF-": "application/pdf",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
    b"PK\x03\x04": "application/zip",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "application/x-ole-storage",
}
_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class AnswerFiles:
    """The files in an answer; both empty where it is words."""

    links: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = field(default=(), repr=False)


def find_files(text: str, *, is_file_field: bool, number: int = 1) -> AnswerFiles:
    """Return the files of an answer.

    `is_file_field` is true where the field is for files; in any other field an answer is files only
    if all of it is: a link in a sentence stays a sentence. `number` is for the name of the first
    file without one.
    """
    if len(text) < _MIN_LENGTH and "://" not in text:
        return AnswerFiles()
    parts = _SEPARATOR.split(text.strip())
    if is_file_field:
        links = tuple(part for part in parts if _URL.fullmatch(part))
    else:
        links = tuple(parts) if all(map(_STORED.fullmatch, parts)) else ()
    if links:
        return AnswerFiles(links=links)
    return AnswerFiles(attachments=_decode_files(text, parts, number, is_file_field=is_file_field))


def _decode_files(
    text: str, parts: list[str], number: int, *, is_file_field: bool
) -> tuple[Attachment, ...]:
    """Return the files in base64, one a part or one in all; () where any part is none."""
    # A plus sign that was not encoded arrives as a blank.
    whole = _LINE_ENDS.sub("", text).replace(" ", "+")
    for pieces in (parts, [whole]):
        files = [_decode_file(piece, is_file_field=is_file_field) for piece in pieces]
        decoded_files = [file for file in files if file is not None]
        if len(decoded_files) == len(pieces):
            return tuple(
                Attachment(name=filenames.make_name(mime, place), mime=mime, content=content)
                for place, (mime, content) in enumerate(decoded_files, number)
            )
    return ()


def _decode_file(text: str, *, is_file_field: bool) -> tuple[str, bytes] | None:
    """Return type and content of a file in base64, a data URI (RFC 2397) or bare.

    None where the text is none. Bare base64 has to begin like a file of a known type, unless the
    field is for files.
    """
    data_uri = _DATA.match(text)
    if data_uri is not None:
        body = text[data_uri.end() :]
        mime = (data_uri[1] or "").lower()
    else:
        body, mime = text, ""
        if len(body) < _MIN_LENGTH:
            return None
    detected_type = _detect_type(_decode_base64(body[:_MIN_LENGTH]))
    if data_uri is None and not is_file_field and not detected_type:
        return None
    content = _decode_base64(body)
    return (mime or detected_type or _UNKNOWN, content) if content else None


def _decode_base64(text: str) -> bytes:
    """Decode base64; b"" where it is none."""
    try:
        return pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError for characters outside ASCII
        return b""


def _detect_type(beginning: bytes) -> str:
    """Return the type of a file by its first bytes, "" where they are of no known one."""
    for signature, mime in _SIGNATURES.items():
        if beginning.startswith(signature):
            return mime
    return ""
