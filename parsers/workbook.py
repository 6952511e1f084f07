"""An Excel workbook of XML parts: its visible sheets, and how they mean their cells; nothing is run or fetched."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from openpyxl.styles.numbers import BUILTIN_FORMATS

from parsers import worksheet, xml_part
from parsers.book import Book, Sheet
from parsers.item import ParseError
from parsers.package import Package, Related
from parsers.worksheet import Row
from parsers.xml_part import DAMAGED

MAX_LINKS = 100_000  # of one sheet; Excel writes 65,530


def open_workbook(package: Package) -> Book:
    """Open the workbook in a package. Raises ParseError where any part that would be read is missing or malformed.

    So what is yielded later is of a whole file: no reading ends in the middle because of how a part is written.
    """
    book = Book()
    strings: list[str] = []
    main = package.main_part("xl/workbook.xml")
    known = package.related(main)
    for _, tag, attrs in package.elements(main):
        if tag == "workbookPr":
            book.date_1904 = attrs.get("date1904") in {"1", "true"}
        elif tag == "sheet":
            _add_sheet(book, attrs, known, _Source(package, strings))
    for kind, part in known.values():
        if kind == "sharedStrings":
            package.require(part)
            strings += worksheet.shared_strings(package.unpack(part))
        elif kind == "styles" and part.casefold() in package.names:
            book.formats = _formats(package.elements(part))
    return book


class _Source(NamedTuple):
    """Where sheets are read from; the shared texts are filled in before any is."""

    package: Package
    strings: list[str]

    def rows(self, part: str, addresses: dict[str, str]) -> Iterator[Row]:
        links = _links(self.package.unpack(part), addresses) if addresses else None
        return worksheet.rows(self.package.unpack(part), self.strings, links)


def _add_sheet(book: Book, attrs: dict[str, str], known: Related, source: _Source) -> None:
    key = next((value for name, value in attrs.items() if xml_part.local(name) == "id"), "")
    kind, part = known.get(key, ("", ""))
    if attrs.get("state", "visible") != "visible":
        book.hidden_sheets += 1
    elif kind == "worksheet" or not kind:
        if source.package.require(part) != "worksheet":
            raise ParseError(DAMAGED)
        book.sheets.append(Sheet(attrs.get("name", ""), partial(source.rows, part, source.package.addresses(part))))


def _links(chunks: Iterator[bytes], addresses: dict[str, str]) -> dict[int, dict[int, str]]:
    """The addresses that cells lead to, by row and column: they stand behind the cells, so the part is read twice."""
    found: dict[int, dict[int, str]] = {}
    count = 0

    def start(tag: str, attrs: dict[str, str]) -> None:
        nonlocal count
        if not tag.endswith("hyperlink"):
            return
        key = next((value for name, value in attrs.items() if xml_part.local(name) == "id"), "")
        address = addresses.get(key, "")
        count += 1
        if address and count <= MAX_LINKS:
            cell = attrs.get("ref", "").partition(":")[0]
            row = cell.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
            if row.isascii() and row.isdigit() and len(row) <= 7:  # noqa: PLR2004 - digits of Excel's last row
                found.setdefault(int(row), {})[worksheet.column_of(cell)] = address

    feed = xml_part.Feed()
    feed.expat.StartElementHandler = start
    feed.whole(chunks)
    return found


def _formats(elements: list[xml_part.Element]) -> list[str]:
    """Number formats by style id (ECMA-376 §18.8.10 cellXfs)."""
    codes = {str(number): code for number, code in BUILTIN_FORMATS.items()}
    codes |= {attrs.get("numFmtId", ""): attrs.get("formatCode", "") for _, tag, attrs in elements if tag == "numFmt"}
    return [
        codes.get(attrs.get("numFmtId", "0"), "General")
        for parent, tag, attrs in elements
        if parent == "cellXfs" and tag == "xf"
    ]
