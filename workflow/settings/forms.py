"""Settings of a Formstack form: keys, meaning of its fields, defaults of its tickets, API."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

DEFAULT_SIGNATURE_HEADER = "X-FS-Signature"

# Host, port and the beginning of a path: in a shared object store the bucket is part of the path.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(:[0-9]{1,5})?(/[\x21-\x7e]*)?", re.IGNORECASE)


class FormField(StrEnum):
    """Meaning of a field of a form; the parser has the same values (a test compares them)."""

    COMPANY = "company"
    COMPANY_NUMBER = "company_number"
    NAME = "name"
    FIRST_NAME = "first_name"
    LAST_NAME = "last_name"
    EMAIL = "email"
    PHONE = "phone"
    SUBJECT = "subject"
    DESCRIPTION = "description"
    CATEGORY = "category"
    TELEMEDICINE = "telemedicine"
    FILE = "file"  # links to files, or the files themselves
    IGNORE = "ignore"  # not shown on the ticket; the stored original has it


class FormDefault(StrEnum):
    """Field of a ticket that can have a default where the form has no answer for it."""

    COMPANY = "company"
    COMPANY_NUMBER = "company_number"
    PHONE = "phone"
    SUBJECT = "subject"
    CATEGORY = "category"
    TELEMEDICINE = "telemedicine"


def split_hosts(value: object) -> object:
    """Split a text of hosts at commas and spaces; return any other value as it is."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _check_hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_HOST.fullmatch(host) for host in value):
        raise ValueError("expected host, host:port or host/beginning-of-a-path, without https://")
    return value


Hosts = Annotated[tuple[str, ...], AfterValidator(_check_hosts)]


def _check_api_url(value: str) -> str:
    url = urlsplit(value)
    is_local = url.hostname in {"localhost", "127.0.0.1", "::1"}
    if not url.hostname or (url.scheme != "https" and not is_local):
        raise ValueError("expected https://…: the token would travel in the clear")
    return value.rstrip("/")


def _check_token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("control characters or non-ASCII characters in a token")
    return SecretStr(text)


ApiUrl = Annotated[str, AfterValidator(_check_api_url)]
TokenSecret = Annotated[SecretStr, AfterValidator(_check_token)]


class Form(BaseModel):
    """Settings of one Formstack form; `[form.6606394]` in intake.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = ""
    """Name of the form for people."""
    key: SecretStr = SecretStr("")
    """HMAC key of this form; empty = `INTAKE_FORMSTACK_KEY`."""
    key_previous: SecretStr = SecretStr("")
    """HMAC key that stays valid while the key is being changed at Formstack."""
    header: Annotated[str, Field(pattern=r"^[0-9A-Za-z!#$%&'*+.^_`|~-]{1,100}$")] = (
        DEFAULT_SIGNATURE_HEADER
    )
    """HTTP header that carries the signature."""
    handshake: SecretStr = SecretStr("")
    """HandshakeKey that the body must carry; empty = not checked."""
    handshake_previous: SecretStr = SecretStr("")
    """HandshakeKey that stays valid while it is being changed at Formstack."""
    fields: dict[str, FormField] = Field(default_factory=dict)
    """Label or field id = what the field means."""
    defaults: dict[FormDefault, str] = Field(default_factory=dict)
    """Field = value for tickets of this form where the form leaves it empty."""
    file_hosts: Hosts | None = None
    """Hosts that linked files of this form are fetched from; unset = `INTAKE_FILE_HOSTS`."""
    backfill: bool = True
    """Pull submissions of this form, too."""
    encryption_password: SecretStr = SecretStr("")
    """Password of a form whose submissions Formstack keeps encrypted; for backfill."""

    @field_validator("handshake_previous")
    @classmethod
    def _follows(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        now = info.data.get("handshake")
        if value.get_secret_value() and now is not None and not now.get_secret_value():
            raise ValueError("there is no handshake that it was replaced by")
        return value

    @field_validator("file_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_hosts(value)

    @property
    def handshakes(self) -> tuple[str, ...]:
        """Values of HandshakeKey that are valid now; empty = it is not checked."""
        return _get_set_secrets(self.handshake, self.handshake_previous)

    def list_keys(self, common: tuple[str, ...]) -> tuple[str, ...]:
        """Return every HMAC key that is valid for this form now; `common` are those of all forms.

        The form's own key replaces the common ones.
        """
        own = _get_set_secrets(self.key)
        return (*(own or common), *_get_set_secrets(self.key_previous))


def _get_set_secrets(*secrets: SecretStr) -> tuple[str, ...]:
    """Return the values of the secrets that are set."""
    return tuple(text for secret in secrets if (text := secret.get_secret_value()))


def list_file_hosts(
    forms: Mapping[str, Form], common: tuple[str, ...], form: str
) -> tuple[str, ...]:
    """Return the hosts that linked files of a form may be fetched from; `common` by default."""
    own = forms[form].file_hosts if form in forms else None
    return common if own is None else own
