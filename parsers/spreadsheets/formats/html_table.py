"""Reader of the tables of a web page, which many programs save as .xls.

Cells stand where a browser shows them, spans counted.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from parsers.item import ParseError
from parsers.spreadsheets.formats.model import Book, Cell, Row, Sheet
from parsers.spreadsheets.formats.xlsx_sheet import (
    LAST_COLUMN,
    MAX_MERGED_COLUMNS,
    MAX_TEXT,
    find_length_flaw,
    parse_count,
)
from parsers.spreadsheets.formats.zip_package import LINK
from parsers.text import charsets

MAX_BYTES = 24 * 2**20  # a page is held as a whole, at some twenty times its size
_MAX_COLSPAN, _MAX_ROWSPAN = 1_000, 65_534  # as browsers count spans (HTML Standard §4.9.11)
_SNIFFED = 4096  # bytes at the beginning that show a page and its charset
_TAGS = re.compile(
    r"<(?:!doctype html|html|head|meta|body|table|div|style|center|font|title)[\s>]", re.IGNORECASE
)
_CHARSET = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_BREAKS = {"br", "p", "div", "li", "tr"}
_IGNORED = {"script", "style", "noscript", "template", "head", "title", "table"}


class _Box(NamedTuple):
    """A cell of a page in its place: its first column, and the columns and rows that it spans."""

    node: LexborNode
    column: int
    across: int
    down: int


def is_page(raw: bytes) -> bool:
    """Return whether the first bytes of a file are those of a web page."""
    start = raw[:_SNIFFED].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    return start.startswith(b"<") and _TAGS.search(start.decode("latin-1")) is not None


def open_page(raw: bytes) -> Book:
    """Open the tables of a page, each a sheet, named by its number where there are several.

    Raises ParseError where there is none, or too much.
    """
    if len(raw) > MAX_BYTES:
        raise ParseError("a web page larger than it may be: open it in Excel and save it as .xlsx")
    page = LexborHTMLParser(_decode(raw))
    tables = [table for table in page.css("table") if next(_iter_trs(table), None) is not None]
    if not tables:
        raise ParseError("a web page without a table: open it in Excel and save it as .xlsx")
    # Of several tables each has a name, since a row is known by its number and the name of its
    # table.
    names = [f"Table {number}" for number in range(1, len(tables) + 1)]
    if len(tables) == 1:
        names = [""]
    return Book(
        [
            Sheet(name, partial(_iter_rows, page, table))
            for name, table in zip(names, tables, strict=True)
        ]
    )


def _decode(raw: bytes) -> str:
    """Return a page as text, by its byte order mark, its NULs or the charset it declares."""
    if b"\0" in raw[:_SNIFFED] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return charsets.decode(raw, "utf-16")
    declared = _CHARSET.search(raw[:_SNIFFED])
    return charsets.decode(raw, declared[1].decode("ascii", "replace") if declared else "")


def _iter_trs(table: LexborNode) -> Iterator[LexborNode]:
    """Yield the rows of a table itself, and none of a table inside of one of its cells."""
    for part in table.iter():
        if part.tag == "tr":
            yield part
        elif part.tag in {"thead", "tbody", "tfoot"}:
            yield from (row for row in part.iter() if row.tag == "tr")


def _iter_rows(_page: LexborHTMLParser, table: LexborNode) -> Iterator[Row]:
    """Yield the rows of a table that have any text.

    The page is passed in because its nodes live no longer than it does.
    """
    covered: dict[int, int] = {}
    for number, tr in enumerate(_iter_trs(table), start=1):
        boxes = list(_place_boxes(tr, covered))
        covered = _cover_below(boxes, covered)
        cells, merged = _read_boxes(boxes, number)
        if cells:
            yield Row(number, _is_hidden(tr), cells, merged)


def _place_boxes(tr: LexborNode, covered_columns: dict[int, int]) -> Iterator[_Box]:
    """Yield the cells of a row in their places, up to the last column that a sheet has.

    A cell goes into the next column that no cell of a row above covers (HTML Standard §4.9.12).
    """
    column = 1
    for node in tr.iter():
        if node.tag not in {"td", "th"}:
            continue
        while column in covered_columns:
            column += 1
        across = _read_span(node, "colspan", _MAX_COLSPAN)
        down = _read_span(node, "rowspan", _MAX_ROWSPAN)
        if column + across > LAST_COLUMN:
            return
        yield _Box(node, column, across, down)
        column += across


def _cover_below(boxes: list[_Box], covered_columns: dict[int, int]) -> dict[int, int]:
    """Return the columns of the next row that this row's cells, or cells above it, cover.

    The value of each is the number of rows it is still covered in, from 1; `covered_columns` is the
    same of this row.
    """
    below = {column: rows - 1 for column, rows in covered_columns.items() if rows > 1}
    for box in boxes:
        if box.down > 1:
            columns = range(box.column, box.column + box.across)
            below |= dict.fromkeys(columns, box.down - 1)
    return below


def _read_boxes(boxes: list[_Box], number: int) -> tuple[dict[int, Cell], dict[int, int]]:
    """Return the cells of a row by column, and the last row of each that covers rows below."""
    cells: dict[int, Cell] = {}
    last_rows: dict[int, int] = {}
    for box in boxes:
        cell = _read_cell(box.node)
        if cell is None:
            continue
        cells[box.column] = cell
        if box.down > 1 and len(last_rows) < MAX_MERGED_COLUMNS:
            last_rows[box.column] = number + box.down - 1
    return cells, last_rows


def _read_span(node: LexborNode, name: str, most: int) -> int:
    """Return the columns or rows that a cell spans: at least 1, at most `most`."""
    count = parse_count((node.attributes.get(name) or "").strip(), otherwise=1)
    return min(max(count, 1), most)


def _is_hidden(tr: LexborNode) -> bool:
    return "hidden" in tr.attributes or bool(_HIDDEN.search(tr.attributes.get("style") or ""))


def _read_cell(node: LexborNode) -> Cell | None:
    """Return a cell with the text that a browser shows, None where it shows none."""
    content, link = _collect_text(node)
    text = re.sub(r" ?\n ?", "\n", content).strip(" \n")
    if not text:
        return None
    return Cell("s", text[:MAX_TEXT], flaw=find_length_flaw(text), link=link)


def _collect_text(cell: LexborNode) -> tuple[str, str]:
    """Return the text of a cell with its line breaks, and the first address that it leads to.

    It goes through the nodes without recursion, as a page may nest them without limit.
    """
    pieces: list[str] = []
    link = ""
    waiting = [cell]
    while waiting:
        node = waiting.pop()
        if node.tag == "-text":
            pieces.append(_BLANKS.sub(" ", node.text_content or ""))
            continue
        link = link or _find_link(node)
        if node.tag in _BREAKS and pieces:
            pieces.append("\n")
        children = node.iter(include_text=True)
        waiting += reversed([child for child in children if child.tag not in _IGNORED])
    return "".join(pieces), link


def _find_link(node: LexborNode) -> str:
    """Return the web or mail address of a link, "" for any other element."""
    if node.tag != "a":
        return ""
    address = (node.attributes.get("href") or "").strip()
    return address if address.startswith(LINK) else ""
