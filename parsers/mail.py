"""RFC 5322 messages: one mail becomes one item."""

from parsers.item import Format, InboundItem, ParseError


def parse(raw: bytes) -> list[InboundItem]:
    """Read one mail: exactly one item. Raises ParseError when there are no bytes, and nothing else."""
    if not raw.strip():
        raise ParseError("the message is empty")
    return [InboundItem(format=Format.MAIL, external_id="")]
