"""SMTP submission, or .eml files in development."""

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

SECONDS_PER_MAIL = (
    50.0  # for one mail from first to last: finding the relay, connecting, TLS, login, handing over
)
_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_POSITIVE, _PERMANENT = (
    2,
    5,
)  # the first digit decides, also of a code nobody knows (RFC 5321 §4.3.2)
# 5yz that speak of the session, of us or of the relay, whatever they answer: RFC 5321 §4.2.4, 3207
# §4, 4954 §6, 7504.
_NOT_OF_THE_MAIL = frozenset({500, 502, 503, 504, 521, 530, 534, 535, 538})


class MailRefused(Exception):  # noqa: N818  # an answer of the relay, not a fault of ours
    """The relay refuses this mail for good (RFC 5321 5yz); `code` is its reply code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class MailDeferred(Exception):  # noqa: N818
    """The relay did not take the mail now (4yz, or no answer that can be understood: code 0).

    Try again later.

    `of_relay` where another mail would hear the same: no session came about, or the relay let the
    whole time pass.
    """

    def __init__(self, code: int, *, of_relay: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.of_relay = of_relay


class Mailer(Protocol):
    """Where our mail goes; used as a context, one connection for all that is sent in it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...
    def post(self, message: EmailMessage, sender: str, to: str) -> None:
        """Hand over one mail; returning means it is theirs. Raises MailRefused or Deferred."""
        ...


def open_mailer(relay_url: str, folder: Path, seconds: float = SECONDS_PER_MAIL) -> Mailer:
    """The relay of this URL (`smtp://`, `smtp+starttls://`, `smtps://`).

    Or a folder of .eml files without one.

    A mail that the relay has not answered for after so many seconds is given back. Raises
    SettingsError when the URL cannot be used.
    """
    if not relay_url:
        return EmlFolder(folder)
    try:
        url = urlsplit(relay_url)
        usable = url.scheme in _PORTS and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(
            "INTAKE_RELAY_URL: expected smtp://, smtp+starttls:// or smtps:// and a host"
        )
    return Relay(url, seconds)


class EmlFolder:
    """One .eml a mail, named by its Message-ID: sending a mail again gives the same file."""

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
        """Write the file whole or not at all. Raises MailDeferred when the folder cannot be written."""
        del sender, to
        name = str(message["Message-ID"]).strip("<>").partition("@")[0]
        octets = message.as_bytes()
        try:
            write_synced(self._folder / f"{name}.eml", octets)
        except OSError:
            raise MailDeferred(0, of_relay=True) from None


class Relay:
    """A submission server; its certificate is verified where TLS is asked for."""

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
        """Submit one mail within the time given.

        Raises MailRefused or Deferred; the next mail then has a new connection.

        Whatever a relay does ends in one of these three; only what cannot be written as a mail
        raises something else.
        """
        relay = self._kept() or self._connect(sender.rpartition("@")[2])
        try:
            _hand_over(relay, message, sender, to)
            self._open = relay
        except TimeoutError:
            raise MailDeferred(0, of_relay=True) from None
        except (smtplib.SMTPException, OSError):
            raise MailDeferred(0) from None
        finally:
            if self._open is None:
                relay.quit_and_close()

    def _kept(self) -> SmtpConnection | None:
        """The connection of the mail before.

        Unless the relay has hung up since or said that it will.
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
        # Not a word about any one mail yet: a refusal here is a relay that is away or set up
        # wrongly, never a customer who cannot be reached. smtplib raises ValueError for a login and
        # a challenge that are not ASCII and base64.
        url, relay = self._url, None
        port = url.port or _PORTS[url.scheme]
        at_once = self._tls if url.scheme == "smtps" else None
        try:
            relay = SmtpConnection(
                url.hostname or "", port, name, seconds=self._seconds, tls=at_once
            )
            relay.ehlo_or_helo_if_needed()
            if url.scheme == "smtp+starttls":
                relay.starttls(context=self._tls)
                relay.ehlo_or_helo_if_needed()
            if url.username:
                relay.login(unquote(url.username), unquote(url.password or ""))
        except smtplib.SMTPResponseException as error:
            failed = MailDeferred(error.smtp_code, of_relay=True)
        except (smtplib.SMTPException, OSError, ValueError):
            failed = MailDeferred(0, of_relay=True)
        else:
            return relay
        if relay is not None:
            relay.close()
        raise failed


def _hand_over(relay: SmtpConnection, message: EmailMessage, sender: str, to: str) -> None:
    beyond_ascii = not (sender + to).isascii()
    if beyond_ascii and not relay.has_extn("smtputf8"):
        raise MailRefused(553) if sender.isascii() else MailDeferred(553)
    assert isinstance(message.policy, EmailPolicy)
    octets = message.as_bytes(policy=message.policy.clone(utf8=beyond_ascii))
    code, _ = relay.mail(sender, ["SMTPUTF8", "BODY=8BITMIME"] if beyond_ascii else [])
    if not _taken(code):  # of the sender, which is us: a relay set up wrongly
        raise MailDeferred(code)
    code, _ = relay.rcpt(to, [])
    if not _taken(code):
        raise _told(code)
    try:
        code, _ = relay.data(octets)
    except smtplib.SMTPDataError as error:  # it did not want to hear the mail
        raise _told(error.smtp_code) from None
    if not _taken(code):
        raise _told(code)


def _taken(code: int) -> bool:
    return code // 100 == _POSITIVE


def _told(code: int) -> MailRefused | MailDeferred:
    return (
        MailRefused(code)
        if code // 100 == _PERMANENT and code not in _NOT_OF_THE_MAIL
        else MailDeferred(code)
    )
