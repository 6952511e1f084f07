"""An item's text as every database takes it."""

from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def storable(value: T) -> T:
    """The same value with the characters replaced that a database refuses: NUL (PostgreSQL) and lone surrogates.

    One odd byte in a sender's name must not keep a customer's mail from becoming a ticket; the raw original keeps it.
    """
    return _clean(value)  # type: ignore[no-any-return]


def _clean(value: Any) -> Any:
    if not value:
        return value
    if isinstance(value, str):
        return value if _is_clean(value) else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, tuple):
        new = tuple(map(_clean, value))
        return new if any(a is not b for a, b in zip(new, value, strict=True)) else value
    changed = {}
    for name in _names(value.__class__):
        old = getattr(value, name)
        if old and (new := _clean(old)) is not old:
            changed[name] = new
    return replace(value, **changed) if changed else value


@cache
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass; none of what is no dataclass and holds no text."""
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else ()


def _is_clean(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
