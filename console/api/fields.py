"""The kinds of values the API takes and gives."""

from collections.abc import Iterable
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from workflow.database.ids import MAX_ID


def _storable(text: str) -> None:
    """Characters that no database takes. Raises ValidationError."""
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValidationError("It holds a character that cannot be kept.")


def text_input(most: int = 400, least: int = 0, **more: Any) -> fields.String:
    """A text of so many characters."""
    bounds = validate.Length(min=least or None, max=most)
    return fields.String(validate=[bounds, _storable], **more)


def choice_input(choices: Iterable[str], **more: Any) -> fields.String:
    """One of these words."""
    return fields.String(validate=validate.OneOf([str(c) for c in choices]), **more)


def number_input(least: int = 1, most: int = MAX_ID, **more: Any) -> fields.Integer:
    """A whole number."""
    return fields.Integer(strict=False, validate=validate.Range(least, most), **more)


def text_field(**more: Any) -> fields.String:
    """A text of an answer."""
    return fields.String(required=True, **more)


def nullable_text_field(**more: Any) -> fields.String:
    """A text of an answer, or null."""
    return fields.String(required=True, allow_none=True, **more)


def time_field(*, null: bool = False) -> fields.String:
    """A moment of an answer: ISO 8601, with its zone."""
    return fields.String(required=True, allow_none=null, metadata={"format": "date-time"})


def integer_field() -> fields.Integer:
    """A number of an answer."""
    return fields.Integer(required=True)


def boolean_field() -> fields.Boolean:
    """Yes or no, in an answer."""
    return fields.Boolean(required=True)


def text_list_field() -> fields.List[Any]:
    """Texts of an answer."""
    return fields.List(fields.String(), required=True)


def list_field(schema: type[Schema]) -> fields.List[Any]:
    """Things of an answer."""
    return fields.List(fields.Nested(schema), required=True)


class StrictSchema(Schema):
    """What is sent to us: a name we do not know is said to be one."""

    class Meta:
        """Marshmallow's own."""

        unknown = RAISE


class PageQuery(StrictSchema):
    """A page of a list."""

    limit = number_input(1, 200, load_default=50, metadata={"description": "How many at most."})
    cursor = text_input(
        100, load_default="", metadata={"description": "`next` of the page before."}
    )
