"""An Excel workbook of XML parts: its visible sheets, and how they mean their cells.

Nothing is run or fetched.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from openpyxl.styles.numbers import BUILTIN_FORMATS

from parsers.item import ParseError
from parsers.spreadsheets.formats import xlsx_sheet, xml
from parsers.spreadsheets.formats.model import Book, Row, Sheet
from parsers.spreadsheets.formats.xlsx_sheet import Merges
from parsers.spreadsheets.formats.xml import DAMAGED
from parsers.spreadsheets.formats.zip_package import Package, Related

MAX_LINKS = 100_000  # of one sheet; Excel writes 65,530
MAX_TOTALS = 10  # rows of one table; Excel writes one


def open_workbook(package: Package) -> Book:
    """Open the workbook in a package.

    Raises ParseError where any part that would be read is missing or malformed.

    So what is yielded later is of a whole file: no reading ends in the middle because of how a part
    is written.
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
            strings += xlsx_sheet.shared_strings(package.unpack(part))
        elif kind == "styles" and part.casefold() in package.names:
            book.formats = _formats(package.elements(part))
    return book


class _Source(NamedTuple):
    """Where sheets are read from; the shared texts are filled in before any is."""

    package: Package
    strings: list[str]

    def rows(self, part: str, addresses: dict[str, str]) -> Iterator[Row]:
        links: dict[int, dict[int, str]] = {}
        merges: Merges = {}
        if addresses or part.casefold() in self.package.merging:
            links, merges = _behind_the_cells(self.package.unpack(part), addresses)
        return xlsx_sheet.rows(self.package.unpack(part), self.strings, links, merges)


def _add_sheet(book: Book, attrs: dict[str, str], known: Related, source: _Source) -> None:
    key = next((value for name, value in attrs.items() if xml.local_name(name) == "id"), "")
    kind, part = known.get(key, ("", ""))
    if attrs.get("state", "visible") != "visible":
        book.hidden.append(attrs.get("name", ""))
    elif kind == "worksheet" or not kind:
        if source.package.require(part) != "worksheet":
            raise ParseError(DAMAGED)
        rows = partial(source.rows, part, source.package.addresses(part))
        book.sheets.append(
            Sheet(attrs.get("name", ""), rows, frozenset(_totals(source.package, part)))
        )


def _totals(package: Package, part: str) -> Iterator[int]:
    """Yield the numbers of rows that tables declare as their totals.

    Source: ECMA-376 §18.5.1.2.
    """
    for kind, target in package.related(part).values():
        name = target.casefold()
        if kind != "table" or name not in package.names or name in package.damaged:
            continue
        for _, tag, attrs in package.elements(target):
            count = attrs.get("totalsRowCount", "0")
            last = _row_of(attrs.get("ref", "").rpartition(":")[2])
            if tag == "table" and last and count.isdecimal() and 0 < int(count[:2]) < MAX_TOTALS:
                yield from range(last - int(count[:2]) + 1, last + 1)


def _row_of(reference: str) -> int:
    """The number of the row in a reference as "AB12", 0 for what is none."""
    digits = reference.lstrip("$ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 7 else 0  # noqa: PLR2004 - digits of Excel's last row


def _behind_the_cells(
    chunks: Iterator[bytes], addresses: dict[str, str]
) -> tuple[dict[int, dict[int, str]], Merges]:
    """Read the addresses that cells lead to, and the merged cells.

    Both stand behind the cells, so the part is read twice.
    """
    found: dict[int, dict[int, str]] = {}
    merges: Merges = {}
    count = 0

    def start(tag: str, attrs: dict[str, str]) -> None:
        nonlocal count
        if tag.endswith("mergeCell"):
            first, _, last = attrs.get("ref", "").partition(":")
            xlsx_sheet.add_merge(merges, _row_of(first), _row_of(last), xlsx_sheet.column_of(first))
        if not tag.endswith("hyperlink"):
            return
        key = next((value for name, value in attrs.items() if xml.local_name(name) == "id"), "")
        address = addresses.get(key, "")
        count += 1
        if address and count <= MAX_LINKS:
            cell = attrs.get("ref", "").partition(":")[0]
            if row := _row_of(cell):
                found.setdefault(row, {})[xlsx_sheet.column_of(cell)] = address

    feed = xml.Feed()
    feed.expat.StartElementHandler = start
    feed.whole(chunks)
    return found, merges


def _formats(elements: list[xml.Element]) -> list[str]:
    """Number formats by style id (ECMA-376 §18.8.10 cellXfs)."""
    codes = {str(number): code for number, code in BUILTIN_FORMATS.items()}
    codes |= {
        attrs.get("numFmtId", ""): attrs.get("formatCode", "")
        for _, tag, attrs in elements
        if tag == "numFmt"
    }
    return [
        codes.get(attrs.get("numFmtId", "0"), "General")
        for parent, tag, attrs in elements
        if parent == "cellXfs" and tag == "xf"
    ]
