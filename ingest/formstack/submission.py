"""A submission as Formstack's REST API tells it, and the webhook's body that says the same."""

import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ingest.formstack.eastern import parse_moment

NUMBER_PATTERN = re.compile(
    r"\w{1,64}", re.ASCII
)  # of a form or submission; what else stands there is no number of theirs
COMPOUND_TYPES = (
    "name",
    "address",
    "product",
)  # fields of sub-fields, which the webhook sends one by one
TIME_KEYS = ("timestamp", "createdAt", "submittedAt")
TEXT_KEYS = ("value", "displayValue", "flat_value", "parsedValue")  # as people read it
PART_KEYS = ("value", "parsedValue")  # as the form has it
_PART = re.compile(r"(\w{1,40}) = ?(.*)")


@dataclass(frozen=True, slots=True)
class SubmissionField:
    """A field of a form: its number, and its label and type where they are told."""

    number: str
    label: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """One filled form: its number, when it was sent, and the answers.

    None where the API left them out.
    """

    number: str
    at: datetime | None
    answers: tuple[tuple[SubmissionField, object], ...] | None


def parse_submission(told: object) -> Submission | None:
    """Read a submission of a list, or one asked for alone, its numbers as text.

    None if it has no number.
    """
    if not isinstance(told, dict) or not NUMBER_PATTERN.fullmatch(number := _word(told.get("id"))):
        return None
    at = next((found for name in TIME_KEYS if (found := parse_moment(_word(told.get(name))))), None)
    return Submission(
        number,
        at,
        tuple(_answers(told["data"])) if isinstance(told.get("data"), dict | list) else None,
    )


def parse_field(told: object) -> SubmissionField | None:
    """Read what the API says of a field; None if it does not say which."""
    if not isinstance(told, dict):
        return None
    number = _word(told.get("field")) or _word(told.get("id"))
    return (
        SubmissionField(number, _word(told.get("label")), _word(told.get("type")))
        if number
        else None
    )


def render_webhook_body(
    form: str,
    found: Submission,
    fields: Mapping[str, SubmissionField],
    by_number: Container[str] = (),
) -> bytes:
    """The JSON that the webhook would have sent, with field types; the same bytes each time.

    Labels that stand twice are written twice: the webhook would keep the last, we keep both. Fields
    that the settings know `by_number` are written so.
    """
    pairs: list[tuple[str, object]] = [("FormID", form), ("UniqueID", found.number)]
    for own, told in found.answers or ():
        known = fields.get(own.number, own)
        kind = (own.kind or known.kind).casefold()
        label = own.number if own.number in by_number else own.label or known.label or own.number
        pairs.append((label, _value(told, kind)))
    return (
        "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs) + "}"
    ).encode()


def _answers(data: dict[str, object] | list[object]) -> Iterator[tuple[SubmissionField, object]]:
    named = data.items() if isinstance(data, dict) else (("", one) for one in data)
    for number, told in named:
        own = parse_field(
            {"field": number, **told} if isinstance(told, dict) else {"field": number}
        )
        if own is not None:
            yield own, told


def _value(told: object, kind: str) -> object:
    """What the webhook says of an answer.

    Sub-fields, several values or a text, with the field type where it is known.

    `told` is what the API says of the field, or the value itself.
    """
    about = told if isinstance(told, dict) else {"value": told}
    if kind in COMPOUND_TYPES and (parts := _parts(next(_given(about, PART_KEYS), None))):
        return {**parts, "field_type": kind}
    value = _plain(next(_given(about, TEXT_KEYS), None))
    if kind == "checkbox" and isinstance(value, str):
        value = value.split("\n")
    return {"value": value, "field_type": kind} if kind else value


def _given(about: Mapping[str, object], names: tuple[str, ...]) -> Iterator[object]:
    return (about[name] for name in names if about.get(name) not in (None, "", [], {}))


def _parts(value: object) -> dict[str, str]:
    """Sub-fields by name: of an object, or of lines `key = value`; {} where it is neither."""
    if isinstance(value, dict):
        return {str(key): text for key, inner in value.items() if (text := _one(inner))}
    found = [_PART.fullmatch(line) for line in str(value or "").splitlines()]
    return {match[1]: match[2] for match in found if match} if all(found) else {}


def _plain(value: object) -> str | list[str] | None:
    if isinstance(value, dict | list):
        return list(_scalars(value))
    return None if value is None else _one(value)


def _scalars(value: object, depth: int = 5) -> Iterator[str]:
    """Every text within, in order.

    Nothing of a form lies deeper than a list in an object in a list.
    """
    if isinstance(value, dict | list):
        for inner in (value.values() if isinstance(value, dict) else value) if depth else ():
            yield from _scalars(inner, depth - 1)
    elif text := _one(value):
        yield text


def _one(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else _word(value)


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""
