"""Submissions as Formstack's REST API returns them, and the webhook body they correspond to.

The API's times are US/Eastern wall time, in which an hour occurs twice in November and one is
skipped in March.
"""

import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

# of a form or submission; anything else is no number of Formstack's
NUMBER_PATTERN = re.compile(r"\w{1,64}", re.ASCII)
# types of fields with sub-fields, which the webhook sends one by one
COMPOUND_TYPES = ("name", "address", "product")
TIME_KEYS = ("timestamp", "createdAt", "submittedAt")
# keys of the value as people read it
TEXT_KEYS = ("value", "displayValue", "flat_value", "parsedValue")
PART_KEYS = ("value", "parsedValue")  # keys of the value with its sub-fields
_PART = re.compile(r"(\w{1,40}) = ?(.*)")
EASTERN = ZoneInfo("America/New_York")
WALL_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
CLOCK_CHANGE = timedelta(hours=1)  # by which the wall clock is set back in November


@dataclass(frozen=True, slots=True)
class SubmissionField:
    """A field of a form: its number, and its label and type where they are known."""

    number: str
    label: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """A filled form: its number, when it was sent, and the answers.

    `answers` is None where the API left them out.
    """

    number: str
    at: datetime | None
    answers: tuple[tuple[SubmissionField, object], ...] | None


def parse_submission(data: object) -> Submission | None:
    """Parse a submission, one of a list or a single one; None when it has no number."""
    if not isinstance(data, dict) or not NUMBER_PATTERN.fullmatch(
        number := _get_text(data.get("id"))
    ):
        return None
    at = next(
        (moment for name in TIME_KEYS if (moment := parse_moment(_get_text(data.get(name))))),
        None,
    )
    return Submission(
        number,
        at,
        tuple(_parse_answers(data["data"])) if isinstance(data.get("data"), dict | list) else None,
    )


def parse_field(data: object) -> SubmissionField | None:
    """Parse what the API says about a field; None when it has no number."""
    if not isinstance(data, dict):
        return None
    number = _get_text(data.get("field")) or _get_text(data.get("id"))
    return (
        SubmissionField(number, _get_text(data.get("label")), _get_text(data.get("type")))
        if number
        else None
    )


def render_webhook_body(
    form: str,
    submission: Submission,
    fields: Mapping[str, SubmissionField],
    by_number: Container[str] = (),
) -> bytes:
    """Return the JSON body that the webhook would have sent, with field types.

    Always the same bytes. Repeated labels are written twice: the webhook would keep the last, we
    keep both. Fields that the settings name `by_number` keep their number as label.
    """
    pairs: list[tuple[str, object]] = [("FormID", form), ("UniqueID", submission.number)]
    for own, answer in submission.answers or ():
        known = fields.get(own.number, own)
        kind = (own.kind or known.kind).casefold()
        label = own.number if own.number in by_number else own.label or known.label or own.number
        pairs.append((label, _render_value(answer, kind)))
    return (
        "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in pairs) + "}"
    ).encode()


def _parse_answers(
    data: dict[str, object] | list[object],
) -> Iterator[tuple[SubmissionField, object]]:
    """Yield each answer with its field."""
    answers = data.items() if isinstance(data, dict) else (("", one) for one in data)
    for number, answer in answers:
        answered_field = parse_field(
            {"field": number, **answer} if isinstance(answer, dict) else {"field": number}
        )
        if answered_field is not None:
            yield answered_field, answer


def _render_value(answer: object, kind: str) -> object:
    """Return an answer as the webhook sends it.

    Sub-fields, several values or a text, with the field type where it is known.
    """
    answer_fields = answer if isinstance(answer, dict) else {"value": answer}
    if kind in COMPOUND_TYPES and (
        parts := _parse_parts(next(_iter_non_empty(answer_fields, PART_KEYS), None))
    ):
        return {**parts, "field_type": kind}
    value = _to_plain(next(_iter_non_empty(answer_fields, TEXT_KEYS), None))
    if kind == "checkbox" and isinstance(value, str):
        value = value.split("\n")
    return {"value": value, "field_type": kind} if kind else value


def _iter_non_empty(values: Mapping[str, object], names: tuple[str, ...]) -> Iterator[object]:
    """Yield the values under these names that are not empty."""
    return (values[name] for name in names if values.get(name) not in (None, "", [], {}))


def _parse_parts(value: object) -> dict[str, str]:
    """Return the sub-fields by name, of an object or of lines `key = value`.

    {} for anything else.
    """
    if isinstance(value, dict):
        return {str(key): text for key, inner in value.items() if (text := _to_text(inner))}
    lines = [_PART.fullmatch(line) for line in str(value or "").splitlines()]
    return {match[1]: match[2] for match in lines if match} if all(lines) else {}


def _to_plain(value: object) -> str | list[str] | None:
    """Return a value as text, or a list of texts; None without a value."""
    if isinstance(value, dict | list):
        return list(_iter_texts(value))
    return None if value is None else _to_text(value)


def _iter_texts(value: object, depth: int = 5) -> Iterator[str]:
    """Yield every text within a value, in order.

    Nothing in a form is nested deeper than a list in an object in a list.
    """
    if isinstance(value, dict | list):
        for inner in (value.values() if isinstance(value, dict) else value) if depth else ():
            yield from _iter_texts(inner, depth - 1)
    elif text := _to_text(value):
        yield text


def _to_text(value: object) -> str:
    """Return a scalar as text: yes or no for a boolean, "" for anything but text."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else _get_text(value)


def _get_text(value: object) -> str:
    """Return the value if it is text, else ""."""
    return value if isinstance(value, str) else ""


# -- times ----


def format_wall_time_before(moment: datetime) -> str:
    """Return the wall time to list submissions from so that none at or after `moment` is left out.

    An hour early: in November 1:50 may be followed by 1:10, and Formstack may mean either of the
    two by 1:50. Computed in UTC, so that the result is no time that March skips.
    """
    return (moment.astimezone(UTC) - CLOCK_CHANGE).astimezone(EASTERN).strftime(WALL_TIME_FORMAT)


def parse_moment(text: str) -> datetime | None:
    """Return the UTC moment of a wall time or an ISO 8601 time; None when it is neither.

    A wall time that occurs twice is the first of the two, a skipped one the earlier candidate:
    listing from there leaves nothing out.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            return min(moment.replace(tzinfo=EASTERN, fold=fold).astimezone(UTC) for fold in (0, 1))
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
