"""An item's text as every database takes it."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")


def make_storable(value: T) -> T:
    """The same value with the characters replaced that a database refuses.

    NUL (PostgreSQL) and lone surrogates.

    One odd byte in a sender's name must not keep a customer's mail from becoming a ticket; the raw
    original keeps it.
    """
    return _clean(value)  # type: ignore[no-any-return]


def make_json_storable(value: Any) -> Any:
    """Return a JSON value with the same characters replaced in all of its texts, keys included."""
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
        return (
            value
            if _is_clean(value)
            else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        )
    if isinstance(value, tuple):
        new = tuple(map(_clean, value))
        return new if any(a is not b for a, b in zip(new, value, strict=True)) else value
    names, of = _fields(value.__class__)
    changed = {}
    for name, old in zip(names, of(value), strict=True):
        if not old or (
            old.__class__ is str and old.isascii() and "\0" not in old
        ):  # nearly all: no call for each
            continue
        if (new := _clean(old)) is not old:
            changed[name] = new
    return replace(value, **changed) if changed else value


@cache
def _fields(kind: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """The fields of a dataclass and what gives their values.

    None of what is no dataclass and holds no text.
    """
    names = tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()
    return names, attrgetter(*names) if len(names) > 1 else lambda one: tuple(
        getattr(one, name) for name in names
    )


def _is_clean(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
