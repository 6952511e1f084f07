"""Settings from INTAKE_* variables and intake.toml.

All errors are reported together; values are never printed, because they may be secret.
"""

import os
from datetime import date
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

SINCE_NOW, SINCE_ALL = "now", "all"


def _check_since(value: str) -> str:
    if value not in {"", SINCE_NOW, SINCE_ALL}:
        try:
            date.fromisoformat(value)
        except ValueError:
            raise ValueError("expected now, all or a date as in 2026-01-31") from None
    return value


MailSince = Annotated[str, AfterValidator(_check_since)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class OAuth2(_Strict):
    """OAuth 2 refresh token of a mailbox (RFC 6749 §6), used with XOAUTH2."""

    token_url: str
    """Address of the token endpoint."""
    client_id: str
    """Client id that the mail provider gave to this program."""
    client_secret: SecretStr = SecretStr("")
    """Client secret, where the provider gives one."""
    refresh_token: SecretStr
    """Refresh token. A newer one from the server is kept sealed in the database."""
    scope: str = ""
    """Scope to ask for, where the provider needs one."""
    token_days: Days | None = None
    """Days a refresh token lives; unset = `INTAKE_OAUTH_DAYS`."""


class Mailbox(_Strict):
    """An IMAP mailbox to read; `[[mailbox]]` in intake.toml, or part of INTAKE_IMAP_URLS."""

    host: str
    """Name of the IMAP server."""
    port: int = 993
    """Port of the IMAP server."""
    tls: bool = True
    """Connect with TLS."""
    user: str
    """Login name."""
    password: SecretStr = SecretStr("")
    """Password, unless `[mailbox.oauth2]` is given."""
    oauth2: OAuth2 | None = None
    """OAuth2 login, as `[mailbox.oauth2]`."""
    folder: str = "INBOX"
    """Folder to read."""
    move_to: str = ""
    """Folder that mail is moved to once it is stored; empty = set `flag` instead."""
    flag: str = "$Intake"
    """Keyword set on mail once it is stored; empty = leave the mailbox as it is."""
    since: MailSince = ""
    """What the first look reads, as `INTAKE_IMAP_SINCE` has it; empty = `INTAKE_IMAP_SINCE`."""

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
    "direction",
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
    )  # our field -> headings it goes by
    """Field = further headings that mean this field."""
    fingerprint: str = ""
    """Digest of the headings this profile is for, as `intake map` prints it; empty = any
    workbook with headings the profile names."""
    date_order: Literal["mdy", "dmy", "ymd"] = "mdy"
    """Order of day and month in dates such as 5/1/2026."""
    time_zone: TimeZoneName = ""
    """Time zone of times that name none; empty = `INTAKE_TIME_ZONE`."""
    defaults: dict[DefaultField, str] = Field(default_factory=dict)
    """Field = value used for rows where the field is empty."""
    password: SecretStr = SecretStr("")
    """Password tried on locked workbooks."""


class Oidc(_Strict):
    """Single sign-on (OpenID Connect) for people who have an account; `[oidc]` in intake.toml."""

    name: str = "single sign-on"
    """Name of the issuer, shown on the sign-in page."""
    # HTTPS, because the issuer's answer takes the place of a password.
    issuer: Annotated[str, Field(pattern=r"^(https://|http://(127\.0\.0\.1|localhost)[:/])")]
    """Address of the issuer (https)."""
    client_id: str
    """Client id that the issuer gave to this program."""
    client_secret: SecretStr
    """Client secret."""


class Settings(BaseSettings):
    """All settings with their defaults; `make docs` makes docs/settings.md of this class."""

    model_config = SettingsConfigDict(
        env_prefix="INTAKE_",
        toml_file=TOML_FILE,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    home: Path = Path("var")
    """Data folder: database, blobs, keys, spool and the watched folder, unless they are set
    apart."""
    database_url: str = ""
    """Database; empty = SQLite in `INTAKE_HOME`. PostgreSQL is `postgresql+psycopg://…` and
    needs the extra `postgres`."""
    redis_url: str = ""
    """Redis ≥ 6 or Valkey ≥ 7.2 for wake-ups and the API's rate limit; empty = the Valkey that
    `intake up` starts."""
    smtp_listen: ListenAddress = "127.0.0.1:2525"
    """Where the SMTP listener listens (host:port)."""
    lmtp_listen: ListenAddress = ""
    """Where the LMTP listener listens (host:port); empty = no LMTP."""
    webhook_listen: ListenAddress = "127.0.0.1:8081"
    """Where `POST /formstack` is served. Put a TLS proxy in front."""
    console_listen: ListenAddress = "127.0.0.1:8080"
    """Where pages, API and metrics are served. Put a TLS proxy in front."""
    addresses: Annotated[tuple[str, ...], NoDecode] = ("support@localhost",)
    """Addresses, or `@domain` for all of a domain, that mail is taken for, separated by commas.
    Others get 550."""
    own_lists: Annotated[tuple[str, ...], NoDecode] = ()
    """Our own mailing lists and groups that lead to the desk, as `billing@lists.example`, separated
    by commas. Mail through them, and through a list at the domain of one of `INTAKE_ADDRESSES`,
    counts as written to us: its sender gets a notice."""
    relay_url: SecretStr = SecretStr("")
    """Relay for outgoing mail: `smtp://`, `smtps://` or
    `smtp+starttls://user:password@host:port`; empty = one `.eml` file a mail in `outbox/` of
    `INTAKE_HOME`."""
    imap_urls: SecretStr = SecretStr("")
    """Mailboxes to read: `imaps://user:password@host/INBOX`, several separated by spaces."""
    imap_since: Annotated[MailSince, Field(min_length=1)] = SINCE_NOW
    """Mail that the first look into a mailbox takes: `now` = what comes from then on, with the
    unread mails of the last hour, `all` = every mail that is in the folder, or a date as
    `2026-01-31` = what arrived since. Older mail stays there; `intake import mail` imports it."""
    mailbox: tuple[Mailbox, ...] = ()
    """Mailboxes to read, as `[[mailbox]]` in `intake.toml`; needed for OAuth2."""
    folder: Path | None = None
    """Folder watched for secure-message exports; unset = `dropbox/` in `INTAKE_HOME`."""
    workbook_password: SecretStr = SecretStr("")
    """Password tried on every locked workbook."""
    formstack_key: SecretStr = SecretStr("")
    """HMAC key of the webhook; empty = the webhook answers 503. `intake up` makes one."""
    formstack_key_previous: SecretStr = SecretStr("")
    """HMAC key that stays valid while the key is being changed at Formstack."""
    formstack_token: TokenSecret = SecretStr("")
    """Token of Formstack's REST API; with it, submissions that no webhook brought are pulled."""
    formstack_api: ApiUrl = "https://www.formstack.com/api/v2"
    """Base address of Formstack's REST API."""
    backfill_seconds: Annotated[float, Field(ge=1)] = 900
    """Seconds between two pulls from Formstack's REST API."""
    form: dict[Annotated[str, Field(pattern=r"^\w{1,64}$")], Form] = Field(default_factory=dict)
    """Settings of one Formstack form, as `[form.ID]` in `intake.toml`."""
    profile: dict[str, WorkbookProfile] = Field(default_factory=dict)
    """Column profiles of workbooks, as `[profile.NAME]` in `intake.toml`."""
    secret_keys: SecretStr = SecretStr("")
    """Keys that seal stored bytes, each url-safe base64 of 32 bytes, separated by spaces or
    commas: the first seals, all open; empty = a key file in `INTAKE_HOME`, mode 0600."""
    public_url: str = "http://127.0.0.1:8080"
    """Address of the console as customers and staff reach it; used in links in mail."""
    clock_offset: float = 0.0
    """Seconds added to the clock, to try out deadlines on a test system."""

    tls_certificate: Path | None = None
    """PEM file of the certificate; with it and `INTAKE_TLS_KEY`, SMTP offers STARTTLS."""
    tls_key: Path | None = None
    """PEM file of the certificate's private key."""
    mail_limit: int = 32 * MIB
    """Largest mail in bytes; SMTP answers 552 to larger ones."""
    webhook_limit: int = MIB
    """Largest form submission in bytes; larger ones get 413."""
    workbook_limit: int = 50 * MIB
    """Largest workbook in bytes; larger ones go to `rejected/`."""
    inline_limit: int = 256 * 1024
    """Raw bytes up to this size are kept in the database row, larger ones as blobs."""
    blobs_url: str = ""
    """Where blobs are kept: a folder or `s3://…` (extra `s3`); empty = `blobs/` in
    `INTAKE_HOME`."""
    smtp_connections: int = 100
    """SMTP connections at one time; further ones get 421."""
    smtp_connections_per_host: int = 50
    """SMTP connections at one time from one address; further ones get 421."""
    smtp_recipients: int = 100
    """Recipients of one mail; further ones get 452."""
    smtp_idle_seconds: float = 60
    """Seconds of silence after which an SMTP session is closed."""
    smtp_session_seconds: float = 600
    """Seconds after which an SMTP session is closed, whatever it does."""
    smtp_store_seconds: float = 25
    """Seconds that storing a mail may take; then SMTP answers 451."""
    imap_idle_seconds: float = 540
    """Seconds after which IDLE is renewed."""
    imap_poll_seconds: float = 60
    """Seconds between two looks into a mailbox, also while the server reports nothing."""
    oauth_days: Days = 90
    """Days a refresh token lives where its server does not name them; 0 = forever. `intake
    status` warns 14 days before the end."""
    folder_poll_seconds: float = 5
    """Seconds between two looks into the watched folder, beside the events of the kernel."""
    folder_settle_seconds: float = 2
    """Seconds a file must stay unchanged to count as complete."""
    sweep_seconds: float = 10
    """Seconds between two rounds of the process `clock`."""
    parse_seconds: float = 40
    """Seconds for parsing one item, or the next rows of a file, in a process of its own; failed
    after three tries. Time in which a busy machine does not let it run does not count."""
    parse_memory: int = 1024 * MIB
    """Bytes of memory for parsing one item, or the next rows of a file."""
    file_hosts: Annotated[Hosts, NoDecode] = ()
    """Hosts that files linked in forms are fetched from: `host`, `host:port` or `host/bucket/`,
    separated by commas; empty = links stay links."""
    file_limit: int = 25 * MIB
    """Largest linked file in bytes."""
    file_seconds: float = 20
    """Seconds that fetching a linked file may take."""
    api_calls_per_minute: Annotated[int, Field(ge=1)] = 600
    """API calls a minute of one token; further ones get 429. Counted over all consoles while
    Redis answers."""
    hook_hosts: Annotated[Hosts, NoDecode] = ()
    """Hosts of the inner network that webhooks may go to: `host` or `host:port`, separated by
    commas."""
    formstack_link: str = "https://www.formstack.com/admin/submission/view/{id}"
    """Link to a submission, shown on its ticket; `{id}` is the submission."""
    authserv_id: str = ""
    """Name of our mail edge in `Authentication-Results`; only its DMARC result is trusted."""
    from_name: str = "Billing Support"
    """Sender's name of our mail."""
    from_address: str = ""
    """Sender's address of our mail; empty = the first full address of `INTAKE_ADDRESSES`."""
    desk_lead: str = ""
    """Person who gets the owner's tasks while a ticket has no owner."""
    fallback_supervisor: str = ""
    """Person who gets the escalation where the company has no manager on record."""
    telemedicine: str = "CSC Onboarding telemedicine"
    """Person or group that gets telemedicine tasks."""
    business_days: bool = False
    """Count deadlines in business days."""
    holiday_country: str = "US"
    """Country whose holidays are no business days (ISO code)."""
    time_zone: str = "America/New_York"
    """Time zone of business days, and of times that name none."""
    reopen_days: float = 14
    """Days within which a reply reopens a completed ticket; later it opens a linked one."""
    survey_days: float = 30
    """Days within which a customer gets at most one survey."""
    survey_by: Annotated[str, Field(pattern="^(contact|company)$")] = "contact"
    """Who counts as one customer for the survey: `contact` or `company`."""
    recap_ticks_box: bool = True
    """Sending the recap ticks box 5."""
    notices_per_sender_hour: int = 10
    """Automatic mails to one address within an hour, whatever its `+tag`."""
    notices_per_domain_hour: Annotated[int, Field(ge=0)] = 250
    """Automatic mails to all addresses of one domain within an hour; public mail services have no
    such limit."""
    notices_per_hour: Annotated[int, Field(ge=0)] = 10_000
    """Automatic mails to all customers within an hour."""
    notices_per_thread_day: Annotated[int, Field(ge=0)] = 1
    """Notices within a day in one conversation that has become several tickets."""
    stale_door_hours: float = 24
    """Hours of silence after which `intake status` names a channel."""
    failed_alarm_hours: float = 24
    """Hours after which a failed delivery raises an alarm."""
    log_json: bool = False
    """Write log lines as JSON, one object a line."""
    metrics_token: SecretStr = SecretStr("")
    """Bearer token for `GET /metrics` of the console; empty = only this machine may ask."""
    idle_minutes: float = 15
    """Minutes without a request after which a person must sign in again."""
    second_factor: bool = False
    """Everybody needs a second factor (an authenticator app)."""
    oidc: Oidc | None = None
    """Single sign-on, as `[oidc]` in `intake.toml`."""

    @field_validator("addresses", "own_lists", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(a.strip().casefold() for a in value.split(",") if a.strip())

    @field_validator("file_hosts", "hook_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
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
