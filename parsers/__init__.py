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


def _at(place: str) -> Parser:
    """The parser at a place, imported when it is first needed.

    A door that only stores carries none of them.
    """

    def parser(raw: bytes, options: Options) -> Iterable[ParseResult]:
        found: Parser = resolve_name(place)
        return found(raw, options)

    return parser


PARSERS: dict[Format, Parser] = {
    Format.MAIL: _at("parsers.mail.message:parse"),
    Format.FORMSTACK: _at("parsers.formstack.submission:parse"),
    Format.SECURE_MESSAGE: _at("parsers.secure_message.workbook:stream"),
    Format.PHONE: _at("parsers.phone_call:parse"),
}


def stream(fmt: Format, raw: bytes, options: Options = DEFAULT_OPTIONS) -> Iterator[ParseResult]:
    """Read raw bytes as the given format, each item as soon as it is read.

    Rejected rows stand between them.

    The same bytes and options give the same items in the same order. Raises ParseError when the
    bytes are not of that format, and nothing else; as a rule before the first item: later only
    where a file is damaged far behind its beginning. An iterator that knows how many are to come
    says so by `__length_hint__`.
    """
    return iter(PARSERS[fmt](raw, options))


def get_sheet_counts(stream: Iterator[ParseResult]) -> tuple[SheetCounts, ...]:
    """Return what the sheets of a workbook were read as, once its stream is at its end.

    () before, and for others.
    """
    sheets: tuple[SheetCounts, ...] = getattr(stream, "sheets", ())
    return sheets


def preview_tables(raw: bytes, options: Options = DEFAULT_OPTIONS) -> "list[TablePreview]":
    """The first rows of every table in a file that has any.

    For a person to say what its columns mean.

    Raises ParseError where the file is no workbook of ours, and nothing else.
    """
    found: Callable[[bytes, Options], list[TablePreview]] = resolve_name(
        "parsers.secure_message.preview:top"
    )
    return found(raw, options)


def parse(fmt: Format, raw: bytes, options: Options = DEFAULT_OPTIONS) -> list[InboundItem]:
    """Read raw bytes as the given format.

    Its items in the order of the original, rejected rows left out.

    Raises ParseError when the bytes are not of that format, and nothing else.
    """
    return [item for item in stream(fmt, raw, options) if isinstance(item, InboundItem)]


__all__ = [
    "PARSERS",
    "Address",
    "Attachment",
    "Format",
    "InboundItem",
    "ParseError",
    "Parsed",
    "RejectedRow",
    "SheetCounts",
    "parse",
    "sheets_read",
    "stream",
    "top",
]
