"""Files in a form's answers.

Links to where Formstack keeps them, or the files themselves in base64.
"""

import binascii
import re
from dataclasses import dataclass, field

import pybase64

from parsers.item import Attachment
from parsers.text import filenames

# Where Formstack keeps uploads; other places are known by the field's type or by the house's
# settings.
_KEPT = re.compile(
    r"https://(?:(?:[a-z0-9-]+\.)*formstack\.com/(?:[^\s?#]*/)?download/"
    r"|files\.formstack\.com(?:\.s3[a-z0-9.-]*\.amazonaws\.com)?/"
    r"|s3[a-z0-9.-]*\.amazonaws\.com/files\.formstack\.com/)\S+",
    re.IGNORECASE,
)
_URL = re.compile(r"https://\S+", re.IGNORECASE)
_BETWEEN = re.compile(r",?\s+")
_DATA = re.compile(
    r"data:([\w.+-]{1,60}/[\w.+-]{1,100})?(?:;[\w.+=-]{1,100})*;base64,", re.IGNORECASE
)
_LINE_ENDS = re.compile(r"[\r\n\t]+")
_LEAST = 64  # letters: what is shorter is an answer in words, even where a file was asked for
_BEGINNINGS = {  # what files of a kind begin with
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
    """What an answer holds of files; both empty where it is words."""

    links: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = field(default=(), repr=False)


def find_files(text: str, *, asked: bool, number: int = 1) -> AnswerFiles:
    """Find the files of an answer.

    `asked` says that its field is for files, `number` names the first without a name.

    In a field that is for anything, an answer is files only if all of it is: a link in a sentence
    stays a sentence.
    """
    if len(text) < _LEAST and "://" not in text:
        return AnswerFiles()
    parts = _BETWEEN.split(text.strip())
    if asked:
        links = tuple(part for part in parts if _URL.fullmatch(part))
    else:
        links = tuple(parts) if all(map(_KEPT.fullmatch, parts)) else ()
    return (
        AnswerFiles(links=links)
        if links
        else AnswerFiles(attachments=_contents(text, parts, number, asked=asked))
    )


def _contents(text: str, parts: list[str], number: int, *, asked: bool) -> tuple[Attachment, ...]:
    whole = _LINE_ENDS.sub("", text).replace(
        " ", "+"
    )  # a plus sign that was not encoded arrives as a space
    for way in (parts, [whole]):
        decoded = [_decoded(part, asked=asked) for part in way]
        if all(decoded):
            return tuple(
                _attachment(*one, n) for n, one in enumerate(filter(None, decoded), number)
            )
    return ()


def _attachment(mime: str, content: bytes, number: int) -> Attachment:
    return Attachment(name=filenames.make_name(mime, number), mime=mime, content=content)


def _decoded(part: str, *, asked: bool) -> tuple[str, bytes] | None:
    """Type and content of a file in base64, a data URI (RFC 2397) or bare.

    None where it is none.
    """
    stated = _DATA.match(part)
    body = part[stated.end() :] if stated else part
    if len(body) < _LEAST and not stated:
        return None
    kind = _kind(_bytes(body[:_LEAST]))
    if not (stated or asked or kind):
        return None
    content = _bytes(body)
    mime = (stated[1] or "").lower() if stated else ""
    return (mime or kind or _UNKNOWN, content) if content else None


def _bytes(text: str) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # of the latter kind: letters outside ASCII
        return b""


def _kind(start: bytes) -> str:
    return next(
        (mime for beginning, mime in _BEGINNINGS.items() if start.startswith(beginning)), ""
    )
