"""The settings of one Formstack form: its keys, what its fields mean, its tickets' defaults.

And of Formstack's API.
"""

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

from parsers.item import InboundItem

DEFAULT_SIGNATURE_HEADER = "X-FS-Signature"

# Host, port and the beginning of a path: a bucket of a shared store is a part of its path.
_PLACE = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(:[0-9]{1,5})?(/[\x21-\x7e]*)?", re.IGNORECASE)


class FormField(StrEnum):
    """What a field of a form can mean to us.

    The parser has the same words (a test holds them together).
    """

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
    IGNORE = "ignore"  # not shown on the ticket; the stored original keeps it


class FormDefault(StrEnum):
    """What the tickets of a form can say where the form itself does not."""

    COMPANY = "company"
    COMPANY_NUMBER = "company_number"
    PHONE = "phone"
    SUBJECT = "subject"
    CATEGORY = "category"
    TELEMEDICINE = "telemedicine"


def split_hosts(value: object) -> object:
    """Hosts out of one text, separated by commas or spaces; anything else as it is."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _placed(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_PLACE.fullmatch(place) for place in value):
        raise ValueError("expected host, host:port or host/beginning-of-a-path, without https://")
    return value


Hosts = Annotated[tuple[str, ...], AfterValidator(_placed)]


def _api(value: str) -> str:
    url = urlsplit(value)
    if not url.hostname or (
        url.scheme != "https" and url.hostname not in {"localhost", "127.0.0.1", "::1"}
    ):
        raise ValueError("expected https://…: the token would travel in the clear")
    return value.rstrip("/")


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("control characters or letters outside ASCII in a token")
    return SecretStr(text)


ApiUrl = Annotated[str, AfterValidator(_api)]
TokenSecret = Annotated[SecretStr, AfterValidator(_token)]


class Form(BaseModel):
    """One Formstack form; `[form.6606394]` in intake.toml."""

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
    encryption_password: SecretStr = SecretStr(
        ""
    )  # of a form whose submissions Formstack keeps encrypted
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
        """Every HandshakeKey that is valid now; none = it is not looked at."""
        return _told(self.handshake, self.handshake_previous)

    def list_keys(self, common: tuple[str, ...]) -> tuple[str, ...]:
        """Every HMAC key that is valid for this form now, given the common ones."""
        own = _told(self.key)
        return (*(own or common), *_told(self.key_previous))


def _told(*secrets: SecretStr) -> tuple[str, ...]:
    return tuple(text for secret in secrets if (text := secret.get_secret_value()))


def get_form_id(item: InboundItem) -> str:
    """Return which form an item came from; "" if it names none or is no form."""
    return item.external_id.partition("/")[0]


def list_file_hosts(
    forms: Mapping[str, Form], common: tuple[str, ...], form: str
) -> tuple[str, ...]:
    """Return where the linked files of a form may be fetched from."""
    own = forms[form].file_hosts if form in forms else None
    return common if own is None else own
