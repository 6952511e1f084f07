"""Bytes in, InboundItems out. Pure: no socket, file, database, log or clock."""

from collections.abc import Callable
from pkgutil import resolve_name

from parsers.item import Address, Attachment, Format, InboundItem, ParseError
from parsers.options import PLAIN, Options

Parser = Callable[[bytes, Options], list[InboundItem]]


def _at(place: str) -> Parser:
    """The parser at a place, imported when it is first needed: a door that only stores carries none of them."""

    def parser(raw: bytes, options: Options) -> list[InboundItem]:
        found: Parser = resolve_name(place)
        return found(raw, options)

    return parser


PARSERS: dict[Format, Parser] = {
    Format.MAIL: _at("parsers.mail:parse"),
    Format.FORMSTACK: _at("parsers.formstack:parse"),
    Format.SECURE_MESSAGE: _at("parsers.secure_message:parse"),
    Format.PHONE: _at("parsers.phone:parse"),
}


def parse(fmt: Format, raw: bytes, options: Options = PLAIN) -> list[InboundItem]:
    """Read raw bytes as the given format: one item or more, in the order of the original.

    Raises ParseError when the bytes are not of that format, and nothing else.
    """
    return PARSERS[fmt](raw, options)


__all__ = ["PARSERS", "Address", "Attachment", "Format", "InboundItem", "ParseError", "parse"]
