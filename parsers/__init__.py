"""Bytes in, InboundItems out. Pure: no socket, file, database, log or clock."""

from collections.abc import Callable, Iterable, Iterator
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from parsers.item import (
    Address,
    Attachment,
    Format,
    InboundItem,
    ParseError,
    ParseResult,
    RejectedRow,
    SheetCounts,
)
from parsers.options import DEFAULT_OPTIONS, Options

if TYPE_CHECKING:
    from parsers.secure_message.preview import TablePreview

Parser = Callable[[bytes, Options], Iterable[ParseResult]]


def _import_lazily(place: str) -> Parser:
    """Return the parser at a place, imported when it is first called.

    A process that only stores deliveries imports none of them.
    """

    def parser(raw: bytes, options: Options) -> Iterable[ParseResult]:
        """Import the parser and call it."""
        parse: Parser = resolve_name(place)
        return parse(raw, options)

    return parser


PARSERS: dict[Format, Parser] = {
    Format.MAIL: _import_lazily("parsers.mail.message:parse"),
    Format.FORMSTACK: _import_lazily("parsers.formstack.submission:parse"),
    Format.SECURE_MESSAGE: _import_lazily("parsers.secure_message.workbook:stream"),
    Format.PHONE: _import_lazily("parsers.phone_call:parse"),
}


def stream(fmt: Format, raw: bytes, options: Options = DEFAULT_OPTIONS) -> Iterator[ParseResult]:
    """Parse raw bytes of a format; yield each item as soon as it is read.

    Rejected rows stand between the items. The same bytes and options give the same items in the
    same order. Raises ParseError when the bytes are not of that format, and nothing else; as a rule
    before the first item: later only where a file is damaged far behind its beginning.
    """
    return iter(PARSERS[fmt](raw, options))


def get_sheet_counts(stream: Iterator[ParseResult]) -> tuple[SheetCounts, ...]:
    """Return the counts of rows by sheet, once the stream of a workbook is at its end.

    () before that, and for other formats.
    """
    sheets: tuple[SheetCounts, ...] = getattr(stream, "sheets", ())
    return sheets


def preview_tables(raw: bytes, options: Options = DEFAULT_OPTIONS) -> "list[TablePreview]":
    """Return the first rows of every table in a file, for a person to map its columns.

    Tables without rows are left out. Raises ParseError where the file is no workbook we read, and
    nothing else.
    """
    preview: Callable[[bytes, Options], list[TablePreview]] = resolve_name(
        "parsers.secure_message.preview:preview_tables"
    )
    return preview(raw, options)


def parse(fmt: Format, raw: bytes, options: Options = DEFAULT_OPTIONS) -> list[InboundItem]:
    """Parse raw bytes of a format into its items, in the order of the original.

    Rejected rows are left out. Raises ParseError when the bytes are not of that format, and nothing
    else.
    """
    return [item for item in stream(fmt, raw, options) if isinstance(item, InboundItem)]


__all__ = [
    "PARSERS",
    "Address",
    "Attachment",
    "Format",
    "InboundItem",
    "ParseError",
    "ParseResult",
    "RejectedRow",
    "SheetCounts",
    "get_sheet_counts",
    "parse",
    "preview_tables",
    "stream",
]
