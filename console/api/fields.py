"""Marshmallow fields that the schemas of the API are made of.

`…_input` are for what programs send, with bounds; `…_field` for what the API answers.
"""

from collections.abc import Iterable
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from workflow.database.ids import MAX_ID


def _storable(text: str) -> None:
    """Raise ValidationError for characters that no database stores: NUL and lone surrogates."""
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValidationError("It contains a character that cannot be stored.")


def text_input(most: int = 400, least: int = 0, **more: Any) -> fields.String:
    """Return a field for a text of `least` to `most` characters that a database can store."""
    bounds = validate.Length(min=least or None, max=most)
    return fields.String(validate=[bounds, _storable], **more)


def choice_input(choices: Iterable[str], **more: Any) -> fields.String:
    """Return a field for one of these words."""
    return fields.String(validate=validate.OneOf([str(c) for c in choices]), **more)


def number_input(least: int = 1, most: int = MAX_ID, **more: Any) -> fields.Integer:
    """Return a field for a whole number; without bounds, for an id of the database.

    Not strict: the values of a query string are texts.
    """
    return fields.Integer(strict=False, validate=validate.Range(least, most), **more)


def bool_input(**more: Any) -> fields.Boolean:
    """Return a field for true or false."""
    return fields.Boolean(truthy={True}, falsy={False}, **more)


def text_field(**more: Any) -> fields.String:
    """Return a field for a text of an answer."""
    return fields.String(required=True, **more)


def nullable_text_field(**more: Any) -> fields.String:
    """Return a field for a text of an answer, or null."""
    return fields.String(required=True, allow_none=True, **more)


def time_field(*, null: bool = False) -> fields.String:
    """Return a field for a time of an answer: ISO 8601 with its offset, or null where allowed."""
    return fields.String(required=True, allow_none=null, metadata={"format": "date-time"})


def integer_field() -> fields.Integer:
    """Return a field for a whole number of an answer."""
    return fields.Integer(required=True)


def boolean_field() -> fields.Boolean:
    """Return a field for true or false in an answer."""
    return fields.Boolean(required=True)


def text_list_field() -> fields.List[Any]:
    """Return a field for a list of texts in an answer; it may be empty."""
    return fields.List(fields.String(), required=True)


def list_field(schema: type[Schema]) -> fields.List[Any]:
    """Return a field for a list of objects in an answer; it may be empty."""
    return fields.List(fields.Nested(schema), required=True)


class StrictSchema(Schema):
    """Schema for what programs send: names it does not know are errors, not ignored.

    A misspelt field that is ignored would be a change that silently does not happen.
    """

    class Meta:
        """Marshmallow's options."""

        unknown = RAISE


class PageQuery(StrictSchema):
    """Query of a list that comes in pages."""

    limit = number_input(
        1, 200, load_default=50, metadata={"description": "Number of items at most."}
    )
    cursor = text_input(
        100, load_default="", metadata={"description": "`next` of the previous page."}
    )
