"""Bytes in, InboundItems out. Pure: no socket, file, database, log or clock."""

from collections.abc import Callable

from parsers import formstack, mail, phone, secure_message
from parsers.item import Address, Attachment, Format, InboundItem, ParseError

PARSERS: dict[Format, Callable[[bytes], list[InboundItem]]] = {
    Format.MAIL: mail.parse,
    Format.FORMSTACK: formstack.parse,
    Format.SECURE_MESSAGE: secure_message.parse,
    Format.PHONE: phone.parse,
}


def parse(fmt: Format, raw: bytes) -> list[InboundItem]:
    """Read raw bytes as the given format: one item or more, in the order of the original.

    Raises ParseError when the bytes are not of that format, and nothing else.
    """
    return PARSERS[fmt](raw)


__all__ = ["PARSERS", "Address", "Attachment", "Format", "InboundItem", "ParseError", "parse"]
