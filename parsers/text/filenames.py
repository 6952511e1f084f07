"""File names that are safe to show, to save and to put into a header."""

import re
import unicodedata

MAX_LENGTH = 180  # characters; file systems take 255 bytes

# Controls, zero-width and bidirectional marks (they make `exe.pdf` of `fdp.exe`), and what file
# systems refuse.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f"
    r"\ufeff\ufff9-\ufffb\ue000-\uf8ff]+",
)
_PATH = re.compile(r"[/\\]+")

# Types of files that come without a name -> the extension that opens them.
EXTENSIONS = {
    "application/msword": ".doc",
    "application/octet-stream": ".bin",
    "application/pdf": ".pdf",
    "application/pgp-encrypted": ".pgp",
    "application/pgp-signature": ".asc",
    "application/pgp-keys": ".asc",
    "application/pkcs7-mime": ".p7m",
    "application/x-pkcs7-mime": ".p7m",
    "application/pkcs7-signature": ".p7s",
    "application/x-pkcs7-signature": ".p7s",
    "application/ms-tnef": ".dat",
    "application/rtf": ".rtf",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/zip": ".zip",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/heic": ".heic",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/pjpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
    "image/tiff": ".tiff",
    "image/webp": ".webp",
    "message/delivery-status": ".txt",
    "message/disposition-notification": ".txt",
    "message/feedback-report": ".txt",
    "message/rfc822": ".eml",
    "message/partial": ".eml",
    "text/calendar": ".ics",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/plain": ".txt",
    "text/rfc822-headers": ".txt",
    "text/rtf": ".rtf",
    "text/vcard": ".vcf",
    "text/x-vcard": ".vcf",
    "text/xml": ".xml",
    "video/mp4": ".mp4",
}

# Types of files that most programs give the same name.
USUAL_NAMES = {
    "application/ms-tnef": "winmail.dat",
    "application/pkcs7-mime": "smime.p7m",
    "application/pkcs7-signature": "smime.p7s",
    "application/x-pkcs7-mime": "smime.p7m",
    "application/x-pkcs7-signature": "smime.p7s",
    "application/pgp-signature": "signature.asc",
    "text/calendar": "invite.ics",
}

WORKBOOK_ENDINGS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".csv", ".tsv")


def make_safe(name: str) -> str:
    """Return the last component of a path without anything that could mislead a reader or system.

    At most MAX_LENGTH characters, the extension kept; "" if nothing is left.
    """
    text = _UNSAFE.sub("", unicodedata.normalize("NFC", name[:4000]))
    parts = [part.strip(" \t\"'<>") for part in _PATH.split(text)]
    last = next((part for part in reversed(parts) if part.strip(". ")), "")
    last = last.rstrip(". ")
    if len(last) <= MAX_LENGTH:
        return last
    stem, dot, extension = last.rpartition(".")
    if not dot or len(extension) > 10:  # noqa: PLR2004 - no extension is longer
        return last[:MAX_LENGTH]
    return stem[: MAX_LENGTH - len(extension) - 1] + dot + extension


def make_name(mime: str, number: int) -> str:
    """Return a name for a file that came without one.

    `number` is its place among the files of its message, so that parsing the message again gives
    the same name.
    """
    return USUAL_NAMES.get(mime) or f"attachment-{number}{EXTENSIONS.get(mime, '.bin')}"


def is_workbook(name: str) -> bool:
    """Return whether a file may be a workbook or a table as text, by its name."""
    return name.lower().endswith(WORKBOOK_ENDINGS)
