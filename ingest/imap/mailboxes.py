"""The mailboxes to read, from intake.toml and INTAKE_IMAP_URLS, with all their errors reported."""

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from workflow.settings.settings import Mailbox, Settings, SettingsError

# none, a keyword or a system flag (RFC 3501 §2.3.2)
FLAG_PATTERN = re.compile(r"(\\?[A-Za-z0-9$_.:+-]+)?")
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def list_mailboxes(settings: Settings) -> tuple[Mailbox, ...]:
    """Return the mailboxes to read: those of intake.toml, then those of INTAKE_IMAP_URLS.

    Raises SettingsError naming every fault, one a line, never a password.
    """
    faults: list[str] = []
    boxes = list(settings.mailbox)
    for at, url in enumerate(settings.imap_urls.get_secret_value().split(), 1):
        try:
            boxes.append(_parse_url(url))
        except ValueError:
            faults.append(
                f"INTAKE_IMAP_URLS: entry {at}: expected imaps://user:password@host:port/folder"
            )
    keys = [box.key for box in boxes]
    faults += [
        f"{key}: the same mailbox twice" for key in dict.fromkeys(keys) if keys.count(key) > 1
    ]
    faults += [f"{repr(box.key)[1:-1]}: {fault}" for box in boxes for fault in _find_faults(box)]
    if faults:
        raise SettingsError("\n".join(faults))
    return tuple(boxes)


def _parse_url(url: str) -> Mailbox:
    """Parse one entry of INTAKE_IMAP_URLS. Raises ValueError."""
    parts = urlsplit(url)
    if not (
        parts.scheme in {"imap", "imaps"} and parts.hostname and parts.username and parts.password
    ):
        raise ValueError
    if parts.query or parts.fragment:  # a password with an unescaped ? or # ends up here
        raise ValueError
    tls = parts.scheme == "imaps"
    return Mailbox(
        host=parts.hostname,
        port=parts.port or (993 if tls else 143),
        tls=tls,
        user=unquote(parts.username, errors="strict"),
        password=unquote(parts.password, errors="strict"),
        folder=unquote(parts.path[1:], errors="strict") or "INBOX",
    )


def _find_faults(box: Mailbox) -> Iterator[str]:
    """Yield what is wrong with a mailbox's settings."""
    password = box.password.get_secret_value()
    if not (password or box.oauth2):
        yield "neither password nor oauth2"
    if not all(text.isprintable() for text in (box.user, password, box.folder, box.move_to)):
        yield "control characters in user, password or folder"
    if not FLAG_PATTERN.fullmatch(box.flag):
        yield "flag is not a keyword (A-Z, a-z, 0-9, $ and -)"
    if box.move_to and box.move_to == box.folder:
        yield "move_to is the folder being read"
    if box.oauth2 and not _is_confidential(box.oauth2.token_url):
        yield "oauth2.token_url is not https: the refresh token would travel in the clear"


def _is_confidential(token_url: str) -> bool:
    """Return whether nobody can read what is sent to the URL on its way."""
    url = urlsplit(token_url)
    return url.scheme == "https" or url.hostname in LOOPBACK
