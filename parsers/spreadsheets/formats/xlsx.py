"""Reader of Excel workbooks of XML parts (.xlsx): sheets, number formats, links, merged cells.

Nothing in them is run or fetched.
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
from parsers.spreadsheets.formats.zip_package import Package, Relationships

MAX_LINKS = 100_000  # of one sheet; Excel writes 65,530
MAX_TOTALS = 10  # rows of one table; Excel writes one
_MAX_ROW_DIGITS = 7  # of the number of Excel's last row


def open_workbook(package: Package) -> Book:
    """Open the workbook in a package.

    Raises ParseError where any part that would be read is missing or malformed, so that rows
    yielded later are of a whole file: no reading ends in the middle of a part.
    """
    book = Book()
    strings: list[str] = []
    main = package.get_main_part("xl/workbook.xml")
    relationships = package.list_relationships(main)
    for _, tag, attrs in package.list_elements(main):
        if tag == "workbookPr":
            book.date_1904 = attrs.get("date1904") in {"1", "true"}
        elif tag == "sheet":
            _add_sheet(book, attrs, relationships, _Source(package, strings))
    for kind, part in relationships.values():
        if kind == "sharedStrings":
            package.get_root(part)
            strings += xlsx_sheet.parse_shared_strings(package.unpack(part))
        elif kind == "styles" and part.casefold() in package.names:
            book.formats = _list_formats(package.list_elements(part))
    return book


class _Source(NamedTuple):
    """Package that sheets are read from, and its shared texts.

    The texts are filled in after the sheets are listed, and before any is read.
    """

    package: Package
    strings: list[str]

    def iter_rows(self, part: str, addresses: dict[str, str]) -> Iterator[Row]:
        """Yield the rows of a sheet; `addresses` are those of its links, by relationship id."""
        links: xlsx_sheet.Links = {}
        merges: Merges = {}
        if addresses or part.casefold() in self.package.merging:
            links, merges = _read_links_and_merges(self.package.unpack(part), addresses)
        return xlsx_sheet.iter_rows(self.package.unpack(part), self.strings, links, merges)


def _add_sheet(
    book: Book, attrs: dict[str, str], relationships: Relationships, source: _Source
) -> None:
    """Add a sheet to a book by the attributes that the workbook has of it; no chart sheet."""
    kind, part = relationships.get(_find_relationship_id(attrs), ("", ""))
    if attrs.get("state", "visible") != "visible":
        book.hidden.append(attrs.get("name", ""))
    elif kind == "worksheet" or not kind:
        if source.package.get_root(part) != "worksheet":
            raise ParseError(DAMAGED)
        iter_rows = partial(source.iter_rows, part, source.package.list_links(part))
        totals = frozenset(_iter_totals(source.package, part))
        book.sheets.append(Sheet(attrs.get("name", ""), iter_rows, totals))


def _find_relationship_id(attrs: dict[str, str]) -> str:
    """Return the id of the relationship that an element names, "" without one."""
    return next((value for name, value in attrs.items() if xml.strip_prefix(name) == "id"), "")


def _iter_totals(package: Package, part: str) -> Iterator[int]:
    """Yield the numbers of the rows that tables of a sheet declare as their totals.

    Source: ECMA-376 §18.5.1.2.
    """
    for kind, target in package.list_relationships(part).values():
        name = target.casefold()
        if kind != "table" or name not in package.names or name in package.damaged_parts:
            continue
        for _, tag, attrs in package.list_elements(target):
            if tag == "table":
                yield from _find_total_rows(attrs)


def _find_total_rows(attrs: dict[str, str]) -> range:
    """Return the rows of totals at the end of a table, by the attributes of its part."""
    last = _parse_row(attrs.get("ref", "").rpartition(":")[2])
    digits = attrs.get("totalsRowCount", "0")
    # Two digits are enough to see that a count is too large.
    count = int(digits[:2]) if digits.isdecimal() else 0
    if not last or not 0 < count < MAX_TOTALS:
        return range(0)
    return range(last - count + 1, last + 1)


def _parse_row(reference: str) -> int:
    """Return the number of the row in a reference as "AB12", 0 where it is bad."""
    digits = reference.lstrip("$ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    if len(digits) > _MAX_ROW_DIGITS:
        return 0
    return xlsx_sheet.parse_count(digits, otherwise=0)


def _read_links_and_merges(
    chunks: Iterator[bytes], addresses: dict[str, str]
) -> tuple[xlsx_sheet.Links, Merges]:
    """Return the addresses that cells of a sheet lead to, and its merged cells.

    Both stand behind the cells, so the part is read twice.
    """
    links: dict[int, dict[int, str]] = {}
    merges: Merges = {}
    count = 0

    def add_link_or_merge(tag: str, attrs: dict[str, str]) -> None:
        """Add the link or merged cell that an element stands for; expat calls this for each."""
        nonlocal count
        if tag.endswith("mergeCell"):
            first, _, last = attrs.get("ref", "").partition(":")
            column = xlsx_sheet.parse_column(first)
            xlsx_sheet.add_merge(merges, _parse_row(first), _parse_row(last), column)
        elif tag.endswith("hyperlink"):
            count += 1
            address = addresses.get(_find_relationship_id(attrs), "")
            cell = attrs.get("ref", "").partition(":")[0]
            row = _parse_row(cell)
            if address and row and count <= MAX_LINKS:
                links.setdefault(row, {})[xlsx_sheet.parse_column(cell)] = address

    feed = xml.Feed()
    feed.expat.StartElementHandler = add_link_or_merge
    feed.parse_all(chunks)
    return links, merges


def _list_formats(elements: list[xml.Element]) -> list[str]:
    """Return the number formats by style id (ECMA-376 §18.8.10 cellXfs)."""
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
