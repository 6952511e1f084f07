"""Parser of JSON from strangers: within limits, duplicate keys kept, numbers as written."""

import json
import re

from parsers.item import ParseError

# An object is a tuple of its (key, value) pairs, an array a list, a number its own text: nothing is
# lost or rounded.
Json = str | bool | None | list["Json"] | tuple[tuple[str, "Json"], ...]
Pairs = tuple[tuple[str, Json], ...]

MAX_DEPTH = 50
MAX_FIELDS = 2_000
_MAX_DIGITS = 400  # the largest float has 309; a longer number is an attack on int()
# Possessive, so that it takes linear time on any input.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def parse_object(raw: bytes) -> Pairs:
    """Return the members of a JSON object in their order.

    The bytes are UTF-8, UTF-16 or UTF-32, with or without BOM. Raises ParseError when they are not
    JSON, not an object, deeper than 50 levels or have more than 2,000 members in all.
    """
    text = _decode(raw)
    _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=tuple,
            parse_int=_check_number,
            parse_float=_check_number,
            parse_constant=str,
        )
    except json.JSONDecodeError as error:
        raise ParseError("not valid JSON: the sender has to be corrected") from error
    if not isinstance(value, tuple):
        raise ParseError(
            "JSON, but not an object with named fields: the sender has to be corrected"
        )
    if _count_members(value) > MAX_FIELDS:
        raise ParseError(f"more than {MAX_FIELDS} fields: no form of ours is that large")
    return value


def _decode(raw: bytes) -> str:
    try:
        return raw.decode(json.detect_encoding(raw)).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ParseError("JSON that is not in Unicode: the sender has to be corrected") from error


def _check_depth(text: str) -> None:
    """Refuse a text that is nested too deep, before the recursive parser sees it."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise ParseError(f"JSON nested deeper than {MAX_DEPTH} levels: no form of ours is")


def _check_number(digits: str) -> str:
    if len(digits) > _MAX_DIGITS:
        raise ParseError("a number too long to be one: the sender has to be corrected")
    return digits


def _count_members(value: Json) -> int:
    if isinstance(value, tuple):
        return len(value) + sum(_count_members(inner) for _, inner in value)
    return sum(map(_count_members, value)) if isinstance(value, list) else 0
