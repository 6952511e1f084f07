"""Replaces the characters that a database refuses: NUL (PostgreSQL) and lone surrogates."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")


def make_storable(value: T) -> T:
    """Return the same value with refused characters replaced, in nested tuples and dataclasses too.

    The value itself is returned where there is nothing to replace. One odd byte in a sender's name
    must not keep a customer's mail from becoming a ticket; the raw original still has it.
    """
    return _clean(value)  # type: ignore[no-any-return]


def make_json_storable(value: Any) -> Any:
    """Return a JSON value with refused characters replaced in all of its texts, keys included."""
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, dict):
        return {_clean(key): make_json_storable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [make_json_storable(one) for one in value]
    return value


def _clean(value: Any) -> Any:
    if not value:
        return value
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, tuple):
        return _clean_tuple(value)
    return _clean_dataclass(value)


def _clean_text(text: str) -> str:
    if _is_storable(text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _clean_tuple(values: tuple[Any, ...]) -> tuple[Any, ...]:
    cleaned = tuple(map(_clean, values))
    is_same = all(new is old for new, old in zip(cleaned, values, strict=True))
    return values if is_same else cleaned


def _clean_dataclass(record: Any) -> Any:
    """Return a dataclass with its fields cleaned; any other value as it is."""
    names, get_values = _get_fields(record.__class__)
    changed_fields = {}
    for name, old in zip(names, get_values(record), strict=True):
        # Nearly every field is empty or plain ASCII: a call for each would cost most of the time.
        if not old or (old.__class__ is str and old.isascii() and "\0" not in old):
            continue
        new = _clean(old)
        if new is not old:
            changed_fields[name] = new
    return replace(record, **changed_fields) if changed_fields else record


@cache
def _get_fields(kind: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Return the names of a dataclass's fields and a function that returns their values.

    Any other class has no fields: it holds no text.
    """
    names = tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()
    if len(names) > 1:
        return names, attrgetter(*names)
    # attrgetter returns no tuple for a single name, and takes no empty list of names.
    return names, lambda record: tuple(getattr(record, name) for name in names)


def _is_storable(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
