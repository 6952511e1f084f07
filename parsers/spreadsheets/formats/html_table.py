"""The tables of a web page, which many programs save as .xls.

Cells as a browser shows them, spans counted.
"""

import re
from collections.abc import Iterator
from functools import partial

from selectolax.lexbor import LexborHTMLParser, LexborNode

from parsers.item import ParseError
from parsers.spreadsheets.formats.model import Book, Cell, Row, Sheet
from parsers.spreadsheets.formats.xlsx_sheet import (
    LAST_COLUMN,
    MAX_MERGED_COLUMNS,
    MAX_TEXT,
    TOO_LONG,
)
from parsers.spreadsheets.formats.zip_package import LINK
from parsers.text import charsets

MAX_BYTES = 24 * 2**20  # a page is held as a whole, at some twenty times its size
_MOST_ACROSS, _MOST_DOWN = 1_000, 65_534  # what browsers count of a span (HTML Standard §4.9.11)
_SNIFF = 4096
_MARKS = re.compile(
    r"<(?:!doctype html|html|head|meta|body|table|div|style|center|font|title)[\s>]", re.IGNORECASE
)
_CHARSET = re.compile(rb"<meta[^>]{0,300}?charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n\f]+")
_BREAKS = {"br", "p", "div", "li", "tr"}
_IGNORED = {"script", "style", "noscript", "template", "head", "title", "table"}


def is_page(raw: bytes) -> bool:
    """Tell a web page by its first bytes."""
    start = raw[:_SNIFF].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    return start.startswith(b"<") and bool(_MARKS.search(start.decode("latin-1")))


def open_page(raw: bytes) -> Book:
    """Open the tables of a page, each a sheet, named by its number where there are several.

    Raises ParseError where there is none, or too much.
    """
    if len(raw) > MAX_BYTES:
        raise ParseError("a web page larger than it may be: open it in Excel and save it as .xlsx")
    page = LexborHTMLParser(_decoded(raw))
    tables = [table for table in page.css("table") if next(_trs(table), None) is not None]
    if not tables:
        raise ParseError("a web page without a table: open it in Excel and save it as .xlsx")
    # Of several tables each has a name, since a row is known by its number and the name of its
    # table.
    names = (
        [""] if len(tables) == 1 else [f"Table {number}" for number in range(1, len(tables) + 1)]
    )
    return Book(
        [
            Sheet(name, partial(_rows, page, table))
            for name, table in zip(names, tables, strict=True)
        ]
    )


def _decoded(raw: bytes) -> str:
    marked = _CHARSET.search(raw[:_SNIFF])
    if b"\0" in raw[:_SNIFF] and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return charsets.decode(raw, "utf-16")
    return charsets.decode(raw, marked[1].decode("ascii", "replace") if marked else "")


def _trs(table: LexborNode) -> Iterator[LexborNode]:
    """The rows of a table itself: none of a table inside of one of its cells."""
    for part in table.iter():
        if part.tag == "tr":
            yield part
        elif part.tag in {"thead", "tbody", "tfoot"}:
            yield from (row for row in part.iter() if row.tag == "tr")


def _rows(_page: LexborHTMLParser, table: LexborNode) -> Iterator[Row]:
    """Yield the rows; the page is handed along since its nodes live no longer than it does."""
    covered: dict[int, int] = {}  # column -> rows that a cell above still reaches down into it
    for number, tr in enumerate(_trs(table), start=1):
        cells: dict[int, Cell] = {}
        merged: dict[int, int] = {}
        below = {column: left - 1 for column, left in covered.items() if left > 1}
        column = 1
        for box in (box for box in tr.iter() if box.tag in {"td", "th"}):
            while covered.get(column, 0):
                column += 1
            across, down = _span(box, "colspan", _MOST_ACROSS), _span(box, "rowspan", _MOST_DOWN)
            if column + across > LAST_COLUMN:
                break
            cell = _cell(box)
            if cell:
                cells[column] = cell
                if down > 1 and len(merged) < MAX_MERGED_COLUMNS:
                    merged[column] = number + down - 1
            if down > 1:
                below |= dict.fromkeys(range(column, column + across), down - 1)
            column += across
        covered = below
        if cells:
            yield Row(number, _is_hidden(tr), cells, merged)


def _span(box: LexborNode, name: str, most: int) -> int:
    told = (box.attributes.get(name) or "").strip()
    return (
        min(max(int(told), 1), most) if told.isascii() and told.isdigit() and len(told) <= 9 else 1  # noqa: PLR2004
    )


def _is_hidden(tr: LexborNode) -> bool:
    return "hidden" in tr.attributes or bool(_HIDDEN.search(tr.attributes.get("style") or ""))


def _cell(box: LexborNode) -> Cell | None:
    pieces: list[str] = []
    link = _gather(box, pieces)
    text = re.sub(r" ?\n ?", "\n", "".join(pieces)).strip(" \n")
    if not text:
        return None
    return Cell("s", text[:MAX_TEXT], flaw=TOO_LONG if len(text) > MAX_TEXT else "", link=link)


def _gather(box: LexborNode, pieces: list[str]) -> str:
    """Gather the text of a cell as shown, line breaks as such; the first address it leads to.

    Without recursion.
    """
    link = ""
    waiting: list[LexborNode | str] = [box]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            pieces.append(node)
            continue
        if node.tag == "-text":
            pieces.append(_SPACE.sub(" ", node.text_content or ""))
            continue
        if node.tag == "a" and not link:
            href = (node.attributes.get("href") or "").strip()
            link = href if href.startswith(LINK) else ""
        breaks = node.tag in _BREAKS and bool(pieces)
        if breaks:
            pieces.append("\n")
        waiting += reversed(
            [child for child in node.iter(include_text=True) if child.tag not in _IGNORED]
        )
    return link
