"""The settings as they are, for people.

Value and source of each, and of a secret only whether it is set.
"""

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
# The last @ ends what may be a name and password, whatever stands in it; a query may hold a
# password, too.
_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]*://).*@", re.IGNORECASE | re.DOTALL)
_QUERY = re.compile(r"([?&;][^=&;\s]+=)[^&;\s]+")


@dataclass(frozen=True)
class SettingRow:
    """A setting, or a part of one."""

    name: str
    value: str
    source: str


def list_settings(settings: Settings) -> list[SettingRow]:
    """Every setting by name, in the order of the settings.

    Those made of parts have a line a part.
    """
    told = _told_by_file()
    return [
        SettingRow(f"INTAKE_{name.upper()}{part}", value, _source(name, settings, told))
        for name in Settings.model_fields
        for part, value in _parts(getattr(settings, name))
    ]


def _source(name: str, settings: Settings, told: set[str]) -> str:
    if any(key.upper() == f"INTAKE_{name.upper()}" for key in os.environ):
        return "environment"
    if name in told:
        return TOML_FILE
    return "given at the start" if name in settings.model_fields_set else "default"


def _told_by_file() -> set[str]:
    """Return what intake.toml says something of; nothing where it cannot be read any more."""
    try:
        return set(tomllib.loads(Path(os.environ.get("INTAKE_CONFIG", TOML_FILE)).read_text()))
    except (OSError, ValueError):
        return set()


def _parts(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from ((f".{name}{part}", text) for part, text in _parts(getattr(value, name)))
    elif isinstance(value, Mapping) and value:
        for key, one in value.items():
            yield from ((f"[{key}]{part}", text) for part, text in _parts(one))
    elif isinstance(value, tuple) and any(isinstance(one, BaseModel) for one in value):
        for number, one in enumerate(value, 1):
            yield from ((f"[{number}]{part}", text) for part, text in _parts(one))
    else:
        yield "", _text(value)


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return SET if value.get_secret_value() else NOT_SET
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(redact_secrets(str(one)) for one in value)
    return "" if value in (None, {}) else redact_secrets(str(value))


def redact_secrets(text: str) -> str:
    """A text whose addresses have lost whatever could be a name and password."""
    return _QUERY.sub(rf"\1{REDACTED}", _LOGIN.sub(rf"\1{REDACTED}@", text))
