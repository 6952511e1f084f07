"""JSON as strangers send it.

Read within limits, every duplicate key kept, numbers as they were written.
"""

import json
import re
from typing import NoReturn

from parsers.item import ParseError

# An object is a tuple of its (key, value) pairs, an array a list, a number its own text: nothing is
# lost or rounded.
Json = str | bool | None | list["Json"] | tuple[tuple[str, "Json"], ...]
Pairs = tuple[tuple[str, Json], ...]

MAX_DEPTH = 50
MAX_FIELDS = 2_000
_MAX_DIGITS = 400  # the largest float has 309; what is longer is an attack on int(), not a number
_TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL
)  # possessive: linear on any input


def parse_object(raw: bytes) -> Pairs:
    """Read the members of a JSON object in UTF-8, UTF-16 or UTF-32, with or without BOM.

    In their order.

    Raises ParseError when it is not JSON, not an object, deeper than 50 levels or has more than
    2,000 members in all.
    """
    text = _text(raw)
    _bound_depth(text)
    try:
        found = json.loads(
            text,
            object_pairs_hook=tuple,
            parse_int=_number,
            parse_float=_number,
            parse_constant=str,
        )
    except json.JSONDecodeError as error:
        raise ParseError("not valid JSON: the sender has to be corrected") from error
    if not isinstance(found, tuple):
        raise ParseError(
            "JSON, but not an object with named fields: the sender has to be corrected"
        )
    if _members(found) > MAX_FIELDS:
        raise ParseError(f"more than {MAX_FIELDS} fields: no form of ours is that large")
    return found


def _text(raw: bytes) -> str:
    try:
        return raw.decode(json.detect_encoding(raw)).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ParseError("JSON that is not in Unicode: the sender has to be corrected") from error


def _bound_depth(text: str) -> None:
    """Refuse what would recurse too deep, before the recursive parser sees it."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise ParseError(f"JSON nested deeper than {MAX_DEPTH} levels: no form of ours is")


def _number(digits: str) -> str:
    return digits if len(digits) <= _MAX_DIGITS else _too_long()


def _too_long() -> NoReturn:
    raise ParseError("a number too long to be one: the sender has to be corrected")


def _members(value: Json) -> int:
    if isinstance(value, tuple):
        return len(value) + sum(_members(inner) for _, inner in value)
    return sum(map(_members, value)) if isinstance(value, list) else 0
