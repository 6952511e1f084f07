"""Transport of outgoing mail: SMTP submission to a relay, or .eml files in development."""

import smtplib
import ssl
from email.message import EmailMessage
from email.policy import EmailPolicy
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import SplitResult, unquote, urlsplit

from workflow.mail.smtp_client import SmtpConnection
from workflow.runtime.blobs import write_synced
from workflow.settings.settings import SettingsError

# For one mail in total: resolving the relay's name, connecting, TLS, login and submission.
SECONDS_PER_MAIL = 50.0
_DEFAULT_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
# The first digit decides, also for a code that no RFC lists (RFC 5321 §4.3.2).
_POSITIVE = 2
_GO_ON = 354  # the reply to DATA (RFC 5321 §4.2.3)
_PERMANENT = 5
# Permanent replies about the session, about us or about the relay, to whatever command, and not
# about the mail: RFC 5321 §4.2.4, 3207 §4, 4954 §6, 7504.
_CODES_ABOUT_SESSION = frozenset({500, 502, 503, 504, 521, 530, 534, 535, 538})


class MailRefused(Exception):  # noqa: N818  # an answer of the relay, not a fault of ours
    """Raised when the relay refuses a mail permanently; `code` is its reply code (RFC 5321 5yz)."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class MailDeferred(Exception):  # noqa: N818
    """Raised when the relay did not accept a mail now: try again later.

    `code` is its reply code (4yz), or 0 without an understandable reply. `is_relay_fault` is True
    when the next mail would fail in the same way: no session was established, or the relay let the
    whole time pass.
    """

    def __init__(self, code: int, *, is_relay_fault: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.is_relay_fault = is_relay_fault


class Mailer(Protocol):
    """Destination of outgoing mail; a context manager with one connection for all mails in it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...
    def post(self, message: EmailMessage, sender: str, to: str) -> None:
        """Submit one mail; on return the receiver is responsible for it.

        Raises MailRefused or MailDeferred.
        """
        ...


def open_mailer(relay_url: str, folder: Path, seconds: float = SECONDS_PER_MAIL) -> Mailer:
    """Return the relay of a URL (`smtp://`, `smtp+starttls://`, `smtps://`), or a folder of files.

    Without a URL, mails are written to `folder` as .eml files. A mail for which the relay has not
    answered after `seconds` is deferred. Raises SettingsError when the URL is unusable.
    """
    if not relay_url:
        return EmlFolder(folder)
    try:
        url = urlsplit(relay_url)
        is_usable = url.scheme in _DEFAULT_PORTS and url.hostname and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise SettingsError(
            "INTAKE_RELAY_URL: expected smtp://, smtp+starttls:// or smtps:// and a host"
        )
    return Relay(url, seconds)


class EmlFolder:
    """A folder of .eml files named by Message-ID: sending a mail again writes the same file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        return

    def post(self, message: EmailMessage, sender: str, to: str) -> None:
        """Write the file completely or not at all.

        Raises MailDeferred when the folder cannot be written.
        """
        del sender, to
        name = str(message["Message-ID"]).strip("<>").partition("@")[0]
        octets = message.as_bytes()
        try:
            write_synced(self._folder / f"{name}.eml", octets)
        except OSError:
            raise MailDeferred(0, is_relay_fault=True) from None


class Relay:
    """A submission server; its certificate is verified when the URL asks for TLS."""

    def __init__(self, url: SplitResult, seconds: float = SECONDS_PER_MAIL) -> None:
        self._url = url
        self._seconds = seconds
        self._tls = None if url.scheme == "smtp" else ssl.create_default_context()
        self._open: SmtpConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._open is not None:
            self._open.quit_and_close()
            self._open = None

    def post(self, message: EmailMessage, sender: str, to: str) -> None:
        """Submit one mail within the time limit.

        Raises MailRefused or MailDeferred, whatever the relay does; then the next mail gets a new
        connection. Only a message that cannot be serialised raises anything else.
        """
        relay = self._take_open_connection() or self._connect(sender.rpartition("@")[2])
        try:
            _submit(relay, message, sender, to)
            self._open = relay
        except TimeoutError:
            raise MailDeferred(0, is_relay_fault=True) from None
        except (smtplib.SMTPException, OSError):
            raise MailDeferred(0) from None
        finally:
            if self._open is None:
                relay.quit_and_close()

    def _take_open_connection(self) -> SmtpConnection | None:
        """Return the connection of the previous mail, with a new deadline.

        None without one, or when the relay has closed it or announced that it will.
        """
        relay, self._open = self._open, None
        if relay is None:
            return None
        try:
            if not relay.has_unsolicited_data():
                relay.set_deadline(self._seconds)
                return relay
        except OSError:
            pass
        relay.close()
        return None

    def _connect(self, name: str) -> SmtpConnection:
        """Return a new connection, ready for a mail; `name` is the host name for EHLO.

        Raises MailDeferred: no mail was mentioned yet, so a refusal here means that the relay is
        unavailable or configured wrongly, never that a customer cannot be reached.
        """
        url, relay = self._url, None
        port = url.port or _DEFAULT_PORTS[url.scheme]
        initial_tls = self._tls if url.scheme == "smtps" else None
        try:
            relay = SmtpConnection(
                url.hostname or "", port, name, seconds=self._seconds, tls=initial_tls
            )
            relay.ehlo_or_helo_if_needed()
            if url.scheme == "smtp+starttls":
                relay.starttls(context=self._tls)
                relay.ehlo_or_helo_if_needed()
            if url.username:
                relay.login(unquote(url.username), unquote(url.password or ""))
        except smtplib.SMTPResponseException as error:
            failure = MailDeferred(error.smtp_code, is_relay_fault=True)
        # smtplib raises ValueError for a password or a challenge that is not ASCII or base64.
        except (smtplib.SMTPException, OSError, ValueError):
            failure = MailDeferred(0, is_relay_fault=True)
        else:
            return relay
        if relay is not None:
            relay.close()
        raise failure


def _submit(relay: SmtpConnection, message: EmailMessage, sender: str, to: str) -> None:
    needs_smtputf8 = not (sender + to).isascii()
    if needs_smtputf8 and not relay.has_extn("smtputf8"):
        raise MailRefused(553) if sender.isascii() else MailDeferred(553)
    assert isinstance(message.policy, EmailPolicy)
    octets = message.as_bytes(policy=message.policy.clone(utf8=needs_smtputf8))
    codes = relay.begin_mail(sender, to, "SMTPUTF8 BODY=8BITMIME" if needs_smtputf8 else "")
    match codes:
        case [code] if not _is_positive(code):
            raise MailDeferred(code)  # it is about the sender, which is us: a wrong configuration
        case [_, code] if not _is_positive(code):
            raise _make_failure(code)
        case [_, _, code] if code != _GO_ON:
            raise _make_failure(code)
    code = relay.finish_mail(octets)
    if not _is_positive(code):
        raise _make_failure(code)


def _is_positive(code: int) -> bool:
    return code // 100 == _POSITIVE


def _make_failure(code: int) -> MailRefused | MailDeferred:
    """Return the exception for a negative reply about one mail."""
    if code // 100 == _PERMANENT and code not in _CODES_ABOUT_SESSION:
        return MailRefused(code)
    return MailDeferred(code)
