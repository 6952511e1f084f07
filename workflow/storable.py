"""An item's text as every database takes it."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")


def storable(value: T) -> T:
    """The same value with the characters replaced that a database refuses: NUL (PostgreSQL) and lone surrogates.

    One odd byte in a sender's name must not keep a customer's mail from becoming a ticket; the raw original keeps it.
    """
    return _clean(value)  # type: ignore[no-any-return]


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value if _is_clean(value) else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, tuple):
        return tuple(_clean(one) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: new for f in fields(value) if (new := _clean(old := getattr(value, f.name))) != old}
        return replace(value, **changed) if changed else value
    return value


def _is_clean(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
