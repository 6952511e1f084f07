"""A Formstack field's value, in any of the shapes its webhook settings give it.

As text for people.
"""

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
_PARTS = {
    "name": NAME_PARTS,
    "address": ADDRESS_PARTS,
    "product": PRODUCT_PARTS,
}  # field types made of sub-fields
_ON_ONE_LINE = {
    kind: re.compile(rf"(?:\A|\s)({'|'.join(parts)}) = ?") for kind, parts in _PARTS.items()
}
_ANY_KEY = {"matrix"}  # its rows are what the form's author called them
_BOOLEANS = {True: "yes", False: "no"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One field of a form.

    Its label and value as clean text, and the field type where the form tells it.
    """

    label: str
    text: str
    field_type: str = ""


def parse_answer(label: str, value: Json, *, means_name: bool = False) -> Answer:
    """Write the field as people read it.

    "John Smith", "1234 Test Drive, Test, IN, 12345", "" for null.

    `means_name` says that the field is somebody's name, where its value does not.
    """
    shaped = _split(value, "name" if means_name else "") if isinstance(value, str) else value
    kind, inner = _typed(shaped)
    return Answer(
        label=normalize.to_one_line(label) or "(unnamed)",
        text=normalize.clean(_text(inner, kind)),
        field_type=kind,
    )


def _split(value: str, kind: str) -> Json:
    """Split an urlencoded value into its sub-fields, or return it where it is plain text.

    Sub-fields are lines `key = value`; a field type comes last, on the same line or the next. All
    on one line they are told apart only where the kind of the field is known: in a sentence they
    may be anything.
    """
    typed = _TYPE_AT_END.search(value[-100:])
    if not typed:
        return _lines(value) or _one_line(value, kind) or value
    body = value[: len(value) - len(typed[0])]
    told = ("field_type", typed[1])
    found = _one_line(body, typed[1].casefold()) or _typed_lines(body, any_key=typed[1] in _ANY_KEY)
    return (*found, told) if found or not body.strip() else value


def _one_line(value: str, kind: str) -> Pairs:
    """Sub-fields of a known kind that stand on one line, the first at its beginning; else ()."""
    if kind not in _ON_ONE_LINE or len(value.splitlines()) != 1:
        return ()
    before, *found = _ON_ONE_LINE[kind].split(value)
    return (
        () if before.strip() else tuple(zip(found[::2], map(str.strip, found[1::2]), strict=True))
    )


def _lines(value: str) -> Pairs:
    """Sub-fields without a field type: several lines, every one opened by a known key; else ()."""
    matches = [_LINE.fullmatch(line) for line in value.splitlines()]
    found = tuple((match[1], match[2]) for match in matches if match and match[1] in SUB_KEYS)
    return found if 1 < len(found) == len(matches) else ()


def _typed_lines(value: str, *, any_key: bool) -> Pairs:
    """Sub-fields before a field type: a line that opens with no key continues the value before it.

    Else ().
    """
    found: list[tuple[str, list[str]]] = []
    for line in value.splitlines():
        match = _LINE.fullmatch(line)
        if match and (any_key or match[1] in SUB_KEYS):
            found.append((match[1], [match[2]]))
        elif found:
            found[-1][1].append(line)
        else:
            return ()
    return tuple((key, "\n".join(lines)) for key, lines in found)


def _typed(value: Json) -> tuple[str, Json]:
    """Tell the field type, "" if it is not given, from the value."""
    if not isinstance(value, tuple):
        return "", value
    members = dict(value)
    told = [
        key for key in TYPE_KEYS if key in members and (key == "field_type" or "value" in members)
    ]
    rest = tuple((key, inner) for key, inner in value if key not in told)
    kind = next((members[key] for key in told), "")
    inner = rest[0][1] if len(rest) == 1 and rest[0][0] == "value" else rest
    return kind.casefold() if isinstance(kind, str) else "", inner


def _text(value: Json, kind: str = "") -> str:
    match value:
        case None:
            return ""
        case bool():
            return _BOOLEANS[value]
        case str():
            return value
        case list():
            return ("\n" if kind == "textarea" else ", ").join(filter(None, map(_text, value)))
        case _:
            return _compound(value)


def _compound(pairs: Pairs) -> str:
    """Sub-fields as one text.

    A name in its natural order, an address by commas, anything else with its keys.
    """
    parts = {key: _text(inner).strip() for key, inner in pairs}
    if len(parts) == len(pairs):
        for order, glue in ((NAME_PARTS, " "), (ADDRESS_PARTS, ", ")):
            if parts.keys() <= set(order):
                return glue.join(parts[key] for key in order if parts.get(key))
    told = ((key.replace("_", " "), _text(inner).strip()) for key, inner in pairs)
    return ", ".join(f"{key}: {inner}" for key, inner in told if inner)
