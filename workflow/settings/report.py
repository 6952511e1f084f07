"""List of the current settings for people: value and source; of a secret, whether it is set."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, SecretStr

from workflow.settings.settings import TOML_FILE, Settings

SET, NOT_SET = "set", "not set"
REDACTED = "…"
# Everything up to the last @ may be a name and password; a query may hold a password as well.
_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]*://).*@", re.IGNORECASE | re.DOTALL)
_QUERY = re.compile(r"([?&;][^=&;\s]+=)[^&;\s]+")


@dataclass(frozen=True)
class SettingRow:
    """A setting, or one part of a setting that has parts."""

    name: str
    value: str
    source: str


def list_settings(settings: Settings) -> list[SettingRow]:
    """Return a row for every setting, in their order; one row for each part of those with parts."""
    names_in_file = _list_names_in_file()
    return [
        SettingRow(
            f"INTAKE_{name.upper()}{part}", value, _get_source(name, settings, names_in_file)
        )
        for name in Settings.model_fields
        for part, value in _list_parts(getattr(settings, name))
    ]


def _get_source(name: str, settings: Settings, names_in_file: set[str]) -> str:
    if any(key.upper() == f"INTAKE_{name.upper()}" for key in os.environ):
        return "environment"
    if name in names_in_file:
        return TOML_FILE
    return "given at the start" if name in settings.model_fields_set else "default"


def _list_names_in_file() -> set[str]:
    """Return the names that intake.toml sets; none when it cannot be read any more."""
    try:
        return set(tomllib.loads(Path(os.environ.get("INTAKE_CONFIG", TOML_FILE)).read_text()))
    except (OSError, ValueError):
        return set()


def _list_parts(value: object) -> Iterator[tuple[str, str]]:
    """Yield (suffix of the name, text) for each part; the suffix is "" for a simple value."""
    children = _list_children(value)
    if children is None:
        yield "", _render_value(value)
        return
    for suffix, child in children:
        for rest, text in _list_parts(child):
            yield f"{suffix}{rest}", text


def _list_children(value: object) -> list[tuple[str, object]] | None:
    """Return the parts of a value with their suffixes; None for a simple value."""
    if isinstance(value, BaseModel):
        return [(f".{name}", getattr(value, name)) for name in type(value).model_fields]
    if isinstance(value, Mapping) and value:
        return [(f"[{key}]", child) for key, child in value.items()]
    if isinstance(value, tuple) and any(isinstance(one, BaseModel) for one in value):
        return [(f"[{number}]", child) for number, child in enumerate(value, 1)]
    return None


def _render_value(value: object) -> str:
    if isinstance(value, SecretStr):
        return SET if value.get_secret_value() else NOT_SET
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(redact_secrets(str(one)) for one in value)
    return "" if value in (None, {}) else redact_secrets(str(value))


def redact_secrets(text: str) -> str:
    """Return a text with everything replaced in its URLs that could be a name or password."""
    return _QUERY.sub(rf"\1{REDACTED}", _LOGIN.sub(rf"\1{REDACTED}@", text))
