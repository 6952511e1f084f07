"""Detection of a file's format by its content alone, and remedies for formats we do not read."""

import re
from enum import StrEnum

from parsers.item import ParseError
from parsers.spreadsheets.formats.zip_package import Package

SAVE_AS = "open it in Excel and save it as .xlsx"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ZIP = b"PK"
OLD_FORMAT = f"old Excel format: {SAVE_AS}"
OLD_DAMAGED = f"a damaged workbook in the old Excel format: {SAVE_AS}, or export the messages again"

# Part of a main content type ([Content_Types].xml) -> the message about a file that has it.
_OTHER_TYPES = {
    "wordprocessingml": "a Word document: save the messages as an Excel workbook (.xlsx)",
    "presentationml": "a PowerPoint presentation: save the messages as an Excel workbook (.xlsx)",
}
_MAIN_TYPES = (
    "spreadsheetml.sheet.main+xml",
    "spreadsheetml.template.main+xml",
    "ms-excel.sheet.macroenabled.main+xml",
    "ms-excel.template.macroenabled.main+xml",
)


_UNPACK = "not an Excel workbook: unpack it and drop the workbooks in it"
_ARCHIVE = f"an archive, {_UNPACK}"
MAIL = (
    "a mail, not an Excel workbook: forward it to the support address, and drop a workbook that is"
    " attached to it by itself"
)
_PICTURE = "a picture, not an Excel workbook: forward it to the support address, as a mail"
_CALENDAR = "a calendar entry or a contact, not an Excel workbook: forward it as a mail"
# First bytes -> the message about a file that has them.
_OTHER_STARTS = {
    b"%PDF": (
        "a PDF, not an Excel workbook: export the messages as an Excel workbook (.xlsx), or forward"
        " the PDF to the support address, as a mail"
    ),
    b"{\\rtf": (
        "a text document (RTF), not an Excel workbook: save the messages as an Excel workbook"
        " (.xlsx)"
    ),
    b"\x1f\x8b": _ARCHIVE,  # gzip
    b"7z\xbc\xaf\x27\x1c": _ARCHIVE,
    b"Rar!": _ARCHIVE,
    b"BZh": _ARCHIVE,
    b"\x89PNG": _PICTURE,
    b"\xff\xd8\xff": _PICTURE,  # JPEG
    b"GIF8": _PICTURE,
    b"II*\0": _PICTURE,  # TIFF, as of fax machines
    b"MM\0*": _PICTURE,
    b"\x78\x9f\x3e\x22": (
        "an attachment of Outlook (winmail.dat), not an Excel workbook: save what is in it"
    ),
}
# Texts of a known kind: not even a row of headings is to be expected in them.
_OTHER_TEXTS = ((re.compile(rb"BEGIN:V(?:CALENDAR|CARD)\b", re.IGNORECASE), _CALENDAR),)
_MAIL_START = re.compile(
    rb"(?:From [^\n]*\n)?((?:[A-Za-z][A-Za-z0-9-]*:[ \t]*[^\n]*\n(?:[ \t]+[^\n]*\n)*){3,})"
)
_MAIL_FIELD = re.compile(
    rb"^(From|To|Date|Subject|Received|Return-Path|Message-ID|MIME-Version|Delivered-To):",
    re.IGNORECASE | re.MULTILINE,
)
_MIN_MAIL_FIELDS = 3  # different ones; a report's own lines "From:", "To:" are fewer
_START = 8192  # bytes in which the kind of a text shows


class PackageKind(StrEnum):
    """Format of a workbook in a zip."""

    WORKBOOK = "xlsx"
    BINARY = "xlsb"
    OPEN_DOCUMENT = "ods"


def detect_package(package: Package) -> PackageKind:
    """Return the format of the workbook in a zip.

    Raises ParseError, with the format and the remedy, for anything but a workbook.
    """
    if "[content_types].xml" not in package.names:
        if "content.xml" in package.names:
            return PackageKind.OPEN_DOCUMENT
        if "index/document.iwa" in package.names:
            raise ParseError("an Apple Numbers document: export it as an Excel workbook (.xlsx)")
        raise ParseError(f"a zip, but {_UNPACK}")
    elements = package.list_elements("[Content_Types].xml")
    types = " ".join(attrs.get("ContentType", "") for _, _, attrs in elements).casefold()
    for mark, message in _OTHER_TYPES.items():
        if mark in types:
            raise ParseError(message)
    if "sheet.binary" in types:
        return PackageKind.BINARY
    if not any(mark in types for mark in _MAIN_TYPES):
        raise ParseError(f"an Office file, but not an Excel workbook: {SAVE_AS}")
    return PackageKind.WORKBOOK


def explain_text(raw: bytes) -> str:
    """Return the message about a file that passed for text and has no table; "" for any other.

    It is a mail or the like, or a picture with few bytes that no text has.
    """
    for first_bytes, message in _OTHER_STARTS.items():
        if raw.startswith(first_bytes):
            return message
    start = raw[:_START].lstrip(b"\xef\xbb\xbf \t\r\n").replace(b"\r\n", b"\n")
    for pattern, message in _OTHER_TEXTS:
        if pattern.match(start):
            return message
    header = _MAIL_START.match(start)
    fields = {name.lower() for name in _MAIL_FIELD.findall(header[1])} if header else set()
    return MAIL if len(fields) >= _MIN_MAIL_FIELDS else ""


def explain_unreadable(raw: bytes) -> str:
    """Return the message about a file that has no table: its format, if known, and the remedy."""
    if not raw.strip(b"\xef\xbb\xbf \t\r\n"):
        return "an empty file: export the messages again"
    for start, message in _OTHER_STARTS.items():
        if raw.lstrip().startswith(start):
            return message
    return f"not an Excel workbook: {SAVE_AS}"
