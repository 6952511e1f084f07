"""SMTP submission, or .eml files in development."""

import os
import smtplib
import ssl
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import unquote, urlsplit

from workflow.settings import SettingsError

TIMEOUT = 30  # seconds for any one answer of the relay
_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


class Refused(Exception):  # noqa: N818  # an answer of the relay, not a fault of ours
    """The relay refuses this mail for good (RFC 5321 5yz); `code` is its reply code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Deferred(Exception):  # noqa: N818
    """The relay did not take the mail now (4yz, or no answer: code 0); try again later."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Mailer(Protocol):
    """Where our mail goes; used as a context, one connection for all that is sent in it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...
    def post(self, message: EmailMessage, sender: str, to: str) -> None:
        """Hand over one mail; returning means it is theirs. Raises Refused or Deferred."""
        ...


def mailer(relay_url: str, folder: Path) -> Mailer:
    """The relay of this URL (`smtp://`, `smtp+starttls://`, `smtps://`), or a folder of .eml files without one.

    Raises SettingsError when the URL cannot be used.
    """
    if not relay_url:
        return EmlFolder(folder)
    url = urlsplit(relay_url)
    if url.scheme not in _PORTS or not url.hostname:
        raise SettingsError("INTAKE_RELAY_URL: expected smtp://, smtp+starttls:// or smtps:// and a host")
    return Relay(relay_url)


class EmlFolder:
    """One .eml a mail, named by its Message-ID: sending a mail again gives the same file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return

    def post(self, message: EmailMessage, sender: str, to: str) -> None:
        """Write the file whole or not at all. Raises Deferred when the folder cannot be written."""
        del sender, to
        name = str(message["Message-ID"]).strip("<>").partition("@")[0]
        new = self._folder / f".{name}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            new.write_bytes(message.as_bytes())
            new.replace(self._folder / f"{name}.eml")
        except OSError:
            raise Deferred(0) from None


class Relay:
    """A submission server; its certificate is verified where TLS is asked for."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._smtp: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._drop()

    def post(self, message: EmailMessage, sender: str, to: str) -> None:
        """Submit one mail. Raises Refused or Deferred."""
        try:
            smtp = self._smtp = self._smtp or self._connect(sender.rpartition("@")[2])
            smtp.send_message(message, sender, [to])
        except smtplib.SMTPRecipientsRefused as error:
            self._drop()
            raise _told(next(iter(error.recipients.values()))[0]) from None
        except smtplib.SMTPResponseException as error:
            self._drop()
            # Only what is said of this mail can refuse it: a 5yz on greeting, login or MAIL is a relay set up wrongly.
            of_mail = isinstance(error, smtplib.SMTPDataError)
            raise (_told(error.smtp_code) if of_mail else Deferred(error.smtp_code)) from None
        except smtplib.SMTPNotSupportedError:  # an address that is not ASCII, and a relay without SMTPUTF8
            raise Refused(553) from None
        except (smtplib.SMTPException, OSError):
            self._drop()
            raise Deferred(0) from None

    def _connect(self, name: str) -> smtplib.SMTP:
        url = self._url
        host, port = url.hostname or "", url.port or _PORTS[url.scheme]
        context = ssl.create_default_context()
        if url.scheme == "smtps":
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port, name, timeout=TIMEOUT, context=context)
        else:
            smtp = smtplib.SMTP(host, port, name, timeout=TIMEOUT)
        try:
            if url.scheme == "smtp+starttls":
                smtp.starttls(context=context)
            if url.username:
                smtp.login(unquote(url.username), unquote(url.password or ""))
        except (smtplib.SMTPException, OSError):
            smtp.close()
            raise
        return smtp

    def _drop(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            try:
                smtp.quit()
            except (smtplib.SMTPException, OSError):
                smtp.close()


def _told(code: int) -> Refused | Deferred:
    return Refused(code) if 500 <= code < 600 else Deferred(code)  # noqa: PLR2004  # RFC 5321 §4.2.1
