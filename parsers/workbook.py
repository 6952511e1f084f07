"""An Excel workbook taken apart within limits: what it is, its visible sheets; nothing is run or fetched."""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from urllib.parse import urljoin

from openpyxl.styles.numbers import BUILTIN_FORMATS

from parsers import worksheet, xml_part
from parsers.item import ParseError
from parsers.worksheet import Row

MAX_ENTRIES = 2_000
MAX_PART = 256 * 2**20  # bytes of one part, unpacked; 100,000 rows of 15 columns need 70 to 200 MB
MAX_TOTAL = 512 * 2**20
MAX_RATIO = 250  # unpacked to packed; sheets reach 10 to 60, and only what is made to be a bomb more
_SMALL = 4 * 2**20  # below this no ratio is dangerous
_CHUNK = 2**16

_SAVE_AS = "open it in Excel and save it as .xlsx"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_SPREADSHEET = "spreadsheetml.sheet.main+xml"
# Part of a main content type ([Content_Types].xml) -> what it is that is not a workbook of ours.
_OTHER_TYPES = {
    "sheet.binary": f"a binary workbook (.xlsb): {_SAVE_AS}",
    "wordprocessingml": "a Word document: save the messages as an Excel workbook (.xlsx)",
    "presentationml": "a PowerPoint presentation: save the messages as an Excel workbook (.xlsx)",
}
_MAIN_TYPES = (
    _SPREADSHEET,
    "spreadsheetml.template.main+xml",
    "ms-excel.sheet.macroenabled.main+xml",
    "ms-excel.template.macroenabled.main+xml",
)
# A name in the zip -> what it is, where there is no [Content_Types].xml.
_OTHER_NAMES = {
    "content.xml": f"an OpenDocument file (.ods): {_SAVE_AS}",
    "index/document.iwa": "an Apple Numbers document: export it as an Excel workbook (.xlsx)",
}
_DAMAGED = f"a damaged workbook: {_SAVE_AS}, or export the messages again"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A visible worksheet by the name on its tab; `rows` reads it anew each time it is asked for."""

    book: "Workbook" = field(repr=False)
    part: str
    name: str = field(repr=False)

    def rows(self) -> Iterator[Row]:
        """Yield the rows that stand in the file, in order. Raises ParseError when the sheet is damaged."""
        return worksheet.rows(self.book.unpack(self.part), self.book.strings)


@dataclass(slots=True)
class Workbook:
    """An opened workbook. `formats` are number formats by style id, `date_1904` is the old Macintosh calendar."""

    archive: zipfile.ZipFile = field(repr=False)
    packed: int  # bytes of the file: no entry can be larger, whatever it says
    names: dict[str, zipfile.ZipInfo] = field(repr=False)  # by folded name: part names ignore case (OPC §6.2)
    sheets: list[Sheet] = field(default_factory=list)
    hidden_sheets: int = 0
    strings: list[str] = field(default_factory=list, repr=False)
    formats: list[str] = field(default_factory=list, repr=False)
    date_1904: bool = False

    def unpack(self, name: str) -> Iterator[bytes]:
        """Unpack a part piece by piece, measuring: a header's word on its size counts for nothing.

        Raises ParseError when it is missing, damaged, locked, or larger than it may be.
        """
        info = self.names.get(name.casefold())
        if info is None:
            raise ParseError(_DAMAGED)
        size, most = 0, min(MAX_PART, max(_SMALL, MAX_RATIO * min(info.compress_size, self.packed)))
        try:
            with self.archive.open(info) as part:
                while chunk := part.read(_CHUNK):
                    size += len(chunk)
                    if size > most:
                        raise ParseError("a workbook that unpacks to far more than it may: export fewer messages")
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise error if isinstance(error, ParseError) else ParseError(_DAMAGED) from error

    def elements(self, name: str) -> list[xml_part.Element]:
        """Read all elements of a small part."""
        return xml_part.elements(self.unpack(name))


def open_workbook(raw: bytes) -> Workbook:
    """Open an .xlsx or .xlsm from its bytes.

    Raises ParseError, saying what it is and what to do, for anything else: older and other formats, a password, a
    document type or entity in any part, sheets kept elsewhere, sizes beyond the limits above.
    """
    if not raw.startswith(b"PK\x03\x04"):
        raise ParseError(what_else(raw))
    if raw.count(b"PK\x01\x02") > MAX_ENTRIES:
        raise ParseError(f"a zip of more than {MAX_ENTRIES} files: no workbook of ours")
    try:
        archive = zipfile.ZipFile(BytesIO(raw))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ParseError(_DAMAGED) from error
    book = Workbook(
        archive, len(raw), {info.filename.replace("\\", "/").casefold(): info for info in archive.infolist()}
    )
    _check_kind(book)
    _check_parts(book)
    _read_book(book)
    return book


def what_else(raw: bytes) -> str:
    """Say what bytes that are no zip are, and what to do about it."""
    start = raw[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if raw.startswith(_OLE):
        return _what_ole(raw)
    for mark, message in {
        b"urn:schemas-microsoft-com:office:spreadsheet": f"an XML spreadsheet of Excel 2003: {_SAVE_AS}",
        b"<html": f"a web page, not a workbook: {_SAVE_AS}",
        b"<table": f"a web page, not a workbook: {_SAVE_AS}",
        b"<!doctype html": f"a web page, not a workbook: {_SAVE_AS}",
    }.items():
        if start.startswith(b"<") and mark in start:
            return message
    if not raw.strip():
        return "an empty file: export the messages again"
    return f"not an Excel workbook: {_SAVE_AS}"


def _what_ole(raw: bytes) -> str:
    if "EncryptedPackage".encode("utf-16-le") in raw:
        return "a password-protected workbook: save it without a password"
    return f"old Excel format: {_SAVE_AS}"


def _check_kind(book: Workbook) -> None:
    if any(info.flag_bits & 1 for info in book.names.values()):
        raise ParseError("a password-protected file: save it without a password")
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in book.names.values()):
        raise ParseError(_DAMAGED)
    if "[content_types].xml" not in book.names:
        known = (message for name, message in _OTHER_NAMES.items() if name in book.names)
        raise ParseError(next(known, f"a zip, but not an Excel workbook: {_SAVE_AS}"))
    types = " ".join(attrs.get("ContentType", "") for _, _, attrs in book.elements("[Content_Types].xml")).casefold()
    for mark, message in _OTHER_TYPES.items():
        if mark in types:
            raise ParseError(message)
    if not any(mark in types for mark in _MAIN_TYPES):
        raise ParseError(f"an Office file, but not an Excel workbook: {_SAVE_AS}")


def _check_parts(book: Workbook) -> None:
    """Unpack everything once: the sizes as they are, and no document type in any XML part, read or not."""
    total = 0
    for name in book.names:
        probe = xml_part.DoctypeProbe() if name.endswith((".xml", ".rels")) else None
        for chunk in book.unpack(name):
            total += len(chunk)
            if total > MAX_TOTAL:
                raise ParseError("a workbook that unpacks to far more than it may: export fewer messages")
            if probe:
                probe.feed(chunk)


def _read_book(book: Workbook) -> None:
    main = _targets(book, "_rels/.rels", "/").get("officeDocument", ["xl/workbook.xml"])[0]
    folder, _, name = main.rpartition("/")
    related = _related(book, f"{folder}/_rels/{name}.rels", f"/{folder}/")
    by_type: dict[str, list[str]] = {}
    for kind, target in related.values():
        by_type.setdefault(kind, []).append(target)
    for _, tag, attrs in book.elements(main):
        if tag == "workbookPr":
            book.date_1904 = attrs.get("date1904") in {"1", "true"}
        elif tag == "sheet":
            _add_sheet(book, attrs, related)
    for part in by_type.get("sharedStrings", ()):
        book.strings = worksheet.shared_strings(book.unpack(part))
    for part in by_type.get("styles", ()):
        book.formats = _formats(book.elements(part)) if part.casefold() in book.names else []


def _add_sheet(book: Workbook, attrs: dict[str, str], related: dict[str, tuple[str, str]]) -> None:
    found = next((value for key, value in attrs.items() if key.rpartition(":")[2] == "id"), "")
    kind, part = related.get(found, ("", ""))
    if attrs.get("state", "visible") != "visible":
        book.hidden_sheets += 1
    elif kind == "worksheet" or not kind:
        book.sheets.append(Sheet(book, part, attrs.get("name", "")))


def _targets(book: Workbook, rels: str, base: str) -> dict[str, list[str]]:
    targets: dict[str, list[str]] = {}
    for kind, target in _related(book, rels, base).values():
        targets.setdefault(kind, []).append(target)
    return targets


def _related(book: Workbook, rels: str, base: str) -> dict[str, tuple[str, str]]:
    """Relationship id -> (last word of its type, part name); transitional and strict types end alike."""
    if rels.casefold() not in book.names:
        return {}
    related = {}
    for _, tag, attrs in book.elements(rels):
        if tag != "Relationship":
            continue
        kind = attrs.get("Type", "").rpartition("/")[2]
        if attrs.get("TargetMode") == "External" and kind in {"worksheet", "officeDocument", "sharedStrings", "styles"}:
            raise ParseError("a workbook whose sheets are kept elsewhere: copy the messages into one workbook")
        target = urljoin(base, attrs.get("Target", "").replace("\\", "/")).removeprefix("/")
        related[attrs.get("Id", "")] = (kind, target)
    return related


def _formats(elements: list[xml_part.Element]) -> list[str]:
    """Number formats by style id (ECMA-376 §18.8.10 cellXfs)."""
    codes = {str(number): code for number, code in BUILTIN_FORMATS.items()}
    codes |= {attrs.get("numFmtId", ""): attrs.get("formatCode", "") for _, tag, attrs in elements if tag == "numFmt"}
    return [
        codes.get(attrs.get("numFmtId", "0"), "General")
        for parent, tag, attrs in elements
        if parent == "cellXfs" and tag == "xf"
    ]
