"""Settings from INTAKE_* variables and intake.toml.

All errors are reported together; values are never printed, because they may be secret.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from workflow.settings.forms import ApiUrl, Form, Hosts, TokenSecret, split_hosts

MIB = 1024 * 1024
TOML_FILE = "intake.toml"


class SettingsError(Exception):
    """Raised when the settings cannot be used; the text lists every fault, one a line."""


def _check_listen_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if value and not (host and port.isdigit() and int(port) < 2**16):
        raise ValueError("expected host:port")
    return value


ListenAddress = Annotated[str, AfterValidator(_check_listen_address)]


Days = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OAuth2(_Strict):
    """OAuth 2 refresh token of a mailbox (RFC 6749 §6), used with XOAUTH2."""

    token_url: str
    client_id: str
    client_secret: SecretStr = SecretStr("")
    refresh_token: SecretStr
    scope: str = ""
    token_days: Days | None = None  # lifetime of its refresh tokens; None = INTAKE_OAUTH_DAYS


class Mailbox(_Strict):
    """An IMAP mailbox to read; `[[mailbox]]` in intake.toml, or part of INTAKE_IMAP_URLS."""

    host: str
    port: int = 993
    tls: bool = True
    user: str
    password: SecretStr = SecretStr("")
    oauth2: OAuth2 | None = None
    folder: str = "INBOX"
    move_to: str = ""  # a folder to move mail to once it is stored; "" sets the flag instead
    flag: str = "$Intake"  # keyword set once stored; "" leaves the mailbox as it is

    @property
    def key(self) -> str:
        """Name of this mailbox in checkpoints and the log; it holds no secret."""
        return f"{self.user}@{self.host}/{self.folder}"


WorkbookField = Literal[
    "body",
    "company",
    "company_number",
    "sender",
    "email",
    "external_id",
    "thread_id",
    "sent_at",
    "clock",
    "to",
    "subject",
    "phone",
    "category",
    "link",
    "patient",
    "patient_id",
    "birth_date",
    "patient_data",
    "provider",
    "attachments",
    "status",
    "flagged",
]
DefaultField = Literal[
    "company", "company_number", "sender", "email", "to", "subject", "phone", "category"
]


def validate_time_zone(value: str) -> str:
    """Return the name of a time zone, or "" for the default.

    Raises ValueError when there is no such zone.
    """
    try:
        ZoneInfo(value or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone: expected a name as America/Chicago") from None
    return value


TimeZoneName = Annotated[str, AfterValidator(validate_time_zone)]


class WorkbookProfile(_Strict):
    """Rules for reading the workbooks of one source; `[profile.NAME]` in intake.toml."""

    synonyms: dict[WorkbookField, tuple[str, ...]] = Field(
        default_factory=dict
    )  # our field -> the headings that mean it
    # Only workbooks with these headings, as `intake map` shows; "" = any that has the headings.
    fingerprint: str = ""
    date_order: Literal["mdy", "dmy", "ymd"] = "mdy"
    time_zone: TimeZoneName = ""  # "" = INTAKE_TIME_ZONE
    defaults: dict[DefaultField, str] = Field(default_factory=dict)  # where a row has no value
    password: SecretStr = SecretStr("")  # tried on every locked workbook


class Oidc(_Strict):
    """Single sign-on (OpenID Connect) for people who have an account; `[oidc]` in intake.toml."""

    name: str = "single sign-on"
    # HTTPS, because the issuer's answer takes the place of a password.
    issuer: Annotated[str, Field(pattern=r"^(https://|http://(127\.0\.0\.1|localhost)[:/])")]
    client_id: str
    client_secret: SecretStr


class Settings(BaseSettings):
    """All settings with their defaults; the README describes each of them."""

    model_config = SettingsConfigDict(
        env_prefix="INTAKE_", toml_file=TOML_FILE, extra="forbid", frozen=True
    )

    home: Path = Path("var")
    database_url: str = ""
    redis_url: str = ""
    smtp_listen: ListenAddress = "127.0.0.1:2525"
    lmtp_listen: ListenAddress = ""
    webhook_listen: ListenAddress = "127.0.0.1:8081"
    console_listen: ListenAddress = "127.0.0.1:8080"
    addresses: Annotated[tuple[str, ...], NoDecode] = ("support@localhost",)
    relay_url: SecretStr = SecretStr("")
    imap_urls: SecretStr = SecretStr("")
    mailbox: tuple[Mailbox, ...] = ()
    folder: Path | None = None
    workbook_password: SecretStr = SecretStr("")  # tried on every locked workbook
    formstack_key: SecretStr = SecretStr("")
    formstack_key_previous: SecretStr = SecretStr("")  # still valid while the key is being changed
    formstack_token: TokenSecret = SecretStr("")  # of the REST API, for backfill
    formstack_api: ApiUrl = "https://www.formstack.com/api/v2"
    backfill_seconds: Annotated[float, Field(ge=1)] = 900
    form: dict[Annotated[str, Field(pattern=r"^\w{1,64}$")], Form] = Field(default_factory=dict)
    profile: dict[str, WorkbookProfile] = Field(default_factory=dict)
    secret_keys: SecretStr = SecretStr("")
    public_url: str = "http://127.0.0.1:8080"
    clock_offset: float = 0.0

    tls_certificate: Path | None = None
    tls_key: Path | None = None
    mail_limit: int = 32 * MIB
    webhook_limit: int = MIB
    workbook_limit: int = 50 * MIB
    inline_limit: int = 256 * 1024  # raw bytes up to here lie in the row, larger ones in blobs
    blobs_url: str = ""
    smtp_connections: int = 100
    smtp_connections_per_host: int = 50
    smtp_recipients: int = 100
    smtp_idle_seconds: float = 60
    smtp_session_seconds: float = 600
    smtp_store_seconds: float = 25
    imap_idle_seconds: float = 540
    imap_poll_seconds: float = 60
    # Lifetime of refresh tokens of mailboxes whose server does not state it; 0 = unlimited.
    oauth_days: Days = 90
    folder_poll_seconds: float = 5
    folder_settle_seconds: float = 2
    sweep_seconds: float = 10
    parse_seconds: float = 40  # one item, in a process of its own
    parse_memory: int = 1024 * MIB
    # Hosts that the linked files of forms may be fetched from; none = no file is fetched.
    file_hosts: Annotated[Hosts, NoDecode] = ()
    file_limit: int = 25 * MIB
    file_seconds: float = 20
    api_calls_per_minute: Annotated[int, Field(ge=1)] = 600  # of one token
    hook_hosts: Annotated[Hosts, NoDecode] = ()  # inner hosts that webhooks may be sent to
    formstack_link: str = "https://www.formstack.com/admin/submission/view/{id}"
    authserv_id: str = ""
    from_name: str = "Billing Support"
    from_address: str = ""
    desk_lead: str = ""
    fallback_supervisor: str = ""
    telemedicine: str = "CSC Onboarding telemedicine"
    business_days: bool = False
    holiday_country: str = "US"
    time_zone: str = "America/New_York"
    reopen_days: float = 14
    survey_days: float = 30
    survey_by: Annotated[str, Field(pattern="^(contact|company)$")] = "contact"
    recap_ticks_box: bool = True
    notices_per_sender_hour: int = 10
    stale_door_hours: float = 24
    failed_alarm_hours: float = 24
    log_json: bool = False
    metrics_token: SecretStr = SecretStr("")  # without one, only this machine may get /metrics
    idle_minutes: float = 15  # without activity; then people must sign in again
    second_factor: bool = False  # whether everybody must have one
    oidc: Oidc | None = None

    @field_validator("addresses", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(a.strip().casefold() for a in value.split(",") if a.strip())

    @field_validator("file_hosts", "hook_hosts", mode="before")
    @classmethod
    def _places(cls, value: object) -> object:
        return split_hosts(value)

    @field_validator("formstack_key_previous")
    @classmethod
    def _follows(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        now = info.data.get("formstack_key")
        if value.get_secret_value() and now is not None and not now.get_secret_value():
            raise ValueError("there is no INTAKE_FORMSTACK_KEY that it was replaced by")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by priority: arguments, environment, intake.toml."""
        file = os.environ.get("INTAKE_CONFIG", TOML_FILE)
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    @property
    def database(self) -> str:
        """The database URL, with the default filled in."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'intake.db'}"

    @property
    def dropbox(self) -> Path:
        """The watched folder."""
        return self.folder or self.home / "dropbox"

    @property
    def blobs(self) -> str:
        """The store of large content: a folder or an fsspec URL."""
        return self.blobs_url or str(self.home.absolute() / "blobs")

    @property
    def sender(self) -> str:
        """The sender address of our mail: the setting, or the first full address we accept."""
        if self.from_address:
            return self.from_address
        full = [a for a in self.addresses if not a.startswith("@")]
        return full[0] if full else f"support{self.addresses[0]}"

    @property
    def formstack_keys(self) -> tuple[str, ...]:
        """The HMAC keys of all forms that are valid now."""
        both = (self.formstack_key, self.formstack_key_previous)
        return tuple(key for secret in both if (key := secret.get_secret_value()))


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` have priority over environment and file.

    Raises SettingsError naming every fault at once, without values: they may be secret.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = [_describe_fault(e["loc"], e["msg"]) for e in error.errors()]
        raise SettingsError("\n".join(faults)) from None


def _describe_fault(loc: tuple[int | str, ...], message: str) -> str:
    name = "INTAKE_" + "__".join(str(part).upper() for part in loc)
    return f"{name}: {message}"
