"""Repair of lines of a text file in which a text holds an unquoted delimiter."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from parsers.text import dates

JOINED = (
    "commas without quotes: this line has more fields than there are headings, and those of a text"
    " were put together again"
)
UNSURE = "a line with more fields than headings: its columns cannot be determined"
LINE_LABEL = "Line of the file"


class JoinedFields(NamedTuple):
    """Fields of a line, as many as there are headings; `flaw` is "" where they are certain."""

    fields: list[str]
    flaw: str = ""


def join_fields(
    fields: Sequence[str], width: int, columns: Mapping[str, tuple[int, ...]], delimiter: str
) -> JoinedFields | None:
    """Return the fields of a line with the pieces of a divided text put together.

    `width` is the number of headings, `columns` are the columns of each field of ours, from 1. A
    piece that begins with a blank belongs to the text before it, as in "claims 71, 72". Else they
    are pieces of the message text, provided that date and address then stand in their columns. None
    where the line has no more filled fields than headings.
    """
    filled = list(fields)
    while len(filled) > width and not filled[-1].strip():
        filled.pop()
    if len(filled) <= width or width < 2:  # noqa: PLR2004 - a list, not a table
        return None
    candidates = [_join_spaced(filled, delimiter)]
    for name in ("body", "subject", "company", "sender"):
        for joined in (candidates[0], filled):
            surplus = len(joined) - width
            candidates += [
                _join_at(joined, column, surplus, delimiter)
                for column in columns.get(name, ())
                if surplus > 0
            ]
    for candidate in candidates:
        if len(candidate) == width and _fits(candidate, columns):
            return JoinedFields(candidate)
    return JoinedFields(filled, UNSURE)


def _join_spaced(fields: Sequence[str], delimiter: str) -> list[str]:
    joined: list[str] = []
    for text in fields:
        if joined and joined[-1].strip() and text.startswith(" ") and text.strip():
            joined[-1] += delimiter + text
        else:
            joined.append(text)
    return joined


def _join_at(fields: Sequence[str], column: int, surplus: int, delimiter: str) -> list[str]:
    start, end = column - 1, column + surplus
    return [*fields[:start], delimiter.join(fields[start:end]), *fields[end:]]


def _fits(fields: Sequence[str], columns: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether there is a text, and date and address columns have dates and addresses."""
    for column in columns.get("sent_at", ()):
        text = fields[column - 1].strip()
        if text and dates.parse_moment(text) is None:
            return False
    for column in columns.get("email", ()):
        text = fields[column - 1].strip()
        if text and "@" not in text:
            return False
    bodies = columns.get("body", ())
    return any(fields[column - 1].strip() for column in bodies)
