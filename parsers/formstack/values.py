"""Parser of a Formstack field's value, in any shape of the webhook settings."""

import re
from dataclasses import dataclass

from parsers.text import normalize
from parsers.text.json import Json, Pairs

NAME_PARTS = ("prefix", "first", "middle", "initial", "last", "suffix")
ADDRESS_PARTS = ("address", "address2", "city", "state", "zip", "country")
PRODUCT_PARTS = ("charge_type", "quantity", "unit_price", "total")
# Only these open a line of sub-fields: a customer's own "x = y" stays as it was written.
SUB_KEYS = {*NAME_PARTS, *ADDRESS_PARTS, *PRODUCT_PARTS, "value"}
TYPE_KEYS = ("field_type", "type")

_LINE = re.compile(r"([\w .-]{1,60}?) = ?(.*)", re.DOTALL)
_TYPE_AT_END = re.compile(r"(?:\A(?=field_)|\s)(?:field_type|type) = ?(\w{1,40})\s*\Z")
# Field types made of sub-fields.
_PARTS = {"name": NAME_PARTS, "address": ADDRESS_PARTS, "product": PRODUCT_PARTS}
_ON_ONE_LINE = {
    field_type: re.compile(rf"(?:\A|\s)({'|'.join(parts)}) = ?")
    for field_type, parts in _PARTS.items()
}
_ANY_KEY = {"matrix"}  # the form's author named its rows
_BOOLEANS = {True: "yes", False: "no"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A field of a form: label and value as clean text, and its type where the form has it."""

    label: str
    text: str
    field_type: str = ""


def parse_answer(label: str, value: Json, *, means_name: bool = False) -> Answer:
    """Return the field as people read it.

    For example "John Smith", "1234 Test Drive, Test, IN, 12345", or "" for null. `means_name` is
    true where the field is somebody's name, which its value may not show.
    """
    if isinstance(value, str):
        value = _split(value, "name" if means_name else "")
    field_type, inner = _split_type(value)
    return Answer(
        label=normalize.to_one_line(label) or "(unnamed)",
        text=normalize.clean(_write(inner, field_type)),
        field_type=field_type,
    )


def _split(value: str, field_type: str) -> Json:
    """Split an urlencoded value into its sub-fields, or return it where it is plain text.

    Sub-fields are lines `key = value`; a field type comes last, on the same line or the next. All
    on one line they are separated only where the type of the field is known: in a sentence they may
    be anything.
    """
    type_at_end = _TYPE_AT_END.search(value[-100:])
    if not type_at_end:
        return _split_known_lines(value) or _split_one_line(value, field_type) or value
    stated_type = type_at_end[1]
    body = value[: len(value) - len(type_at_end[0])]
    parts = _split_one_line(body, stated_type.casefold())
    parts = parts or _split_lines(body, any_key=stated_type in _ANY_KEY)
    if not parts and body.strip():
        return value
    return (*parts, ("field_type", stated_type))


def _split_one_line(value: str, field_type: str) -> Pairs:
    """Return the sub-fields of a known type on one line, the first at its beginning; else ()."""
    if field_type not in _ON_ONE_LINE or len(value.splitlines()) != 1:
        return ()
    before, *pieces = _ON_ONE_LINE[field_type].split(value)
    if before.strip():
        return ()
    return tuple(zip(pieces[::2], map(str.strip, pieces[1::2]), strict=True))


def _split_known_lines(value: str) -> Pairs:
    """Return the sub-fields on several lines, each of which opens with a known key; else ()."""
    lines = [_LINE.fullmatch(line) for line in value.splitlines()]
    sub_fields = tuple((line[1], line[2]) for line in lines if line and line[1] in SUB_KEYS)
    return sub_fields if 1 < len(sub_fields) == len(lines) else ()


def _split_lines(value: str, *, any_key: bool) -> Pairs:
    """Return the sub-fields before a field type; () where the first line opens with no key.

    Any other line without a key continues the value before it.
    """
    parts: list[tuple[str, list[str]]] = []
    for line in value.splitlines():
        match = _LINE.fullmatch(line)
        if match and (any_key or match[1] in SUB_KEYS):
            parts.append((match[1], [match[2]]))
        elif parts:
            parts[-1][1].append(line)
        else:
            return ()
    return tuple((key, "\n".join(lines)) for key, lines in parts)


def _split_type(value: Json) -> tuple[str, Json]:
    """Return the field type, "" if it is not given, and the value without it.

    A member `type` may be an answer: it is a field type only beside a member `value`.
    """
    if not isinstance(value, tuple):
        return "", value
    members = dict(value)
    type_keys = TYPE_KEYS if "value" in members else ("field_type",)
    rest = tuple((key, inner) for key, inner in value if key not in type_keys)
    field_type = _find_type(members, type_keys)
    if [key for key, _ in rest] == ["value"]:
        return field_type, members["value"]
    return field_type, rest


def _find_type(members: dict[str, Json], type_keys: tuple[str, ...]) -> str:
    """Return the first member under one of the keys, folded; "" where it is missing or no text."""
    for key in type_keys:
        if key in members:
            field_type = members[key]
            return field_type.casefold() if isinstance(field_type, str) else ""
    return ""


def _write(value: Json, field_type: str = "") -> str:
    """Return a value as text: a list by commas, that of a text area by lines."""
    match value:
        case None:
            return ""
        case bool():
            return _BOOLEANS[value]
        case str():
            return value
        case list():
            separator = "\n" if field_type == "textarea" else ", "
            return separator.join(filter(None, map(_write, value)))
        case _:
            return _write_parts(value)


def _write_parts(pairs: Pairs) -> str:
    """Return sub-fields as one text.

    A name is in its natural order, an address by commas, anything else with its keys.
    """
    parts = {key: _write(inner).strip() for key, inner in pairs}
    if len(parts) == len(pairs):  # no key comes twice
        for order, separator in ((NAME_PARTS, " "), (ADDRESS_PARTS, ", ")):
            if parts.keys() <= set(order):
                return separator.join(parts[key] for key in order if parts.get(key))
    labelled = ((key.replace("_", " "), _write(inner).strip()) for key, inner in pairs)
    return ", ".join(f"{key}: {text}" for key, text in labelled if text)
