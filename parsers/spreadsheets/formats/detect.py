"""Detection of a file's format by its content alone, and remedies for formats we do not read."""

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


# First bytes -> the message about a file that has them.
_OTHER_STARTS = {
    b"%PDF": "a PDF, not an Excel workbook: export the messages as an Excel workbook (.xlsx)",
    b"{\\rtf": (
        "a text document (RTF), not an Excel workbook: save the messages as an Excel workbook"
        " (.xlsx)"
    ),
}


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
        raise ParseError(f"a zip, but not an Excel workbook: {SAVE_AS}")
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


def explain_unreadable(raw: bytes) -> str:
    """Return the message about a file that has no table: its format, if known, and the remedy."""
    if not raw.strip(b"\xef\xbb\xbf \t\r\n"):
        return "an empty file: export the messages again"
    for start, message in _OTHER_STARTS.items():
        if raw.lstrip().startswith(start):
            return message
    return f"not an Excel workbook: {SAVE_AS}"
