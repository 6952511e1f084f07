"""One IMAP connection: verified, logged in, and what a reader asks of the server."""

import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import (
    IMAPClientAbortError,
    IMAPClientError,
    IMAPClientReadOnlyError,
    LoginError,
)

from ingest.imap.oauth2 import AccessTokens, TokenRefusedError
from ingest.imap.oversized import OmittedParts, fetch_what_fits
from workflow.settings.settings import Mailbox

WINDOW = 50_000  # UIDs searched in one command: imaplib gives up on an answer line of 1 MB
UNQUOTED = re.compile(
    r"[A-Za-z0-9@._+=/:!#$&'-]+"
)  # what imaplib may put on a LOGIN line unquoted (RFC 3501 §9, atom)


class LoginRefusedError(Exception):
    """The mail server will not let us in with these credentials."""


class ImapClient(IMAPClient):  # type: ignore[misc]  # imapclient ships no types
    """IMAPClient with two faults of its IDLE mended.

    It does not sleep over a notification already read, nor spin on a closed connection.
    """

    # IDLE has just begun: lines that came with its "+ idling" lie in a buffer that poll cannot see
    _fresh = False
    _readable = False

    def idle(self) -> None:
        """Begin IDLE (RFC 2177)."""
        super().idle()
        self._fresh = True

    def _poll_socket(self, sock: Any, timeout: float | None = None) -> Any:
        events = super()._poll_socket(sock, 0 if self._fresh else timeout)
        self._readable = bool(events)
        fresh, self._fresh = self._fresh, False
        return events or fresh

    def wait_for_mail(self, seconds: float) -> bool:
        """In IDLE: whether, within so many seconds, mail was announced or the connection ended."""
        lines = self.idle_check(timeout=seconds)
        return any(b"EXISTS" in line[1:2] for line in lines) or (self._readable and not lines)

    def announced(self) -> bool:
        """Return whether mail was announced amid other answers since this was last asked.

        IDLE will not tell again.
        """
        return bool(self._imap.response("EXISTS")[1][0])


@contextmanager
def connect(box: Mailbox, timeout: float) -> Iterator[ImapClient]:
    """Connect, with the certificate verified; at the end log out and close.

    Raises OSError (ssl.SSLError among them) or IMAPClientError; no step takes longer than `timeout`
    seconds.
    """
    context = ssl.create_default_context() if box.tls else None
    limits = SocketTimeout(connect=timeout, read=timeout)
    with ImapClient(box.host, box.port, ssl=box.tls, ssl_context=context, timeout=limits) as client:
        yield client


def log_in(client: ImapClient, box: Mailbox, tokens: AccessTokens | None) -> None:
    """Log in, by token where there is one.

    Raises LoginRefusedError where trying again soon is pointless; LoginError, OSError, httpx.HTTPError
    otherwise.
    """
    if not tokens:
        return _log_in(lambda: _password(client, box))
    try:
        _log_in(lambda: _xoauth2(client, box.user, tokens.get_token()))
    except (
        LoginRefusedError
    ) as error:  # perhaps revoked before its time: one new token, then the backoff
        if isinstance(error.__cause__, TokenRefusedError):
            raise
        tokens.discard()
        _log_in(lambda: _xoauth2(client, box.user, tokens.get_token()))
    return None


def _log_in(attempt: Callable[[], None]) -> None:
    try:
        attempt()
    except TokenRefusedError as error:
        raise LoginRefusedError from error
    except LoginError as error:
        # imapclient makes one LoginError of a lost connection, a server out of order (RFC 5530 §3)
        # and a wrong password
        passing = any(code in str(error) for code in ("[UNAVAILABLE]", "[INUSE]", "[LIMIT]"))
        if passing or isinstance(error.__context__, IMAPClientAbortError):
            raise
        raise LoginRefusedError from error


def _password(client: ImapClient, box: Mailbox) -> None:
    if client.has_capability("LOGINDISABLED"):  # RFC 3501 §6.2.3: the password must not be sent
        raise LoginRefusedError
    password = box.password.get_secret_value()
    plain = UNQUOTED.fullmatch(box.user) and password.isascii()
    (client.login if plain else client.plain_login)(
        box.user, password
    )  # LOGIN knows ASCII only; PLAIN is RFC 4616


def _xoauth2(client: ImapClient, user: str, token: str) -> None:
    """Sign in by XOAUTH2.

    A challenge after the first names the fault and wants an empty answer before the NO.
    """
    answers = iter([f"user={user}\1auth=Bearer {token}\1\1".encode()])
    client.sasl_login("XOAUTH2", lambda _challenge: next(answers, b""))


@dataclass(frozen=True, slots=True)
class SelectedFolder:
    """What SELECT said."""

    uid_validity: int
    uid_next: int  # 0 = not said
    read_only: bool
    markable: bool


def select_folder(client: ImapClient, box: Mailbox) -> SelectedFolder:
    """Select the mailbox's folder.

    Writable only where mail is to be marked and the server allows it.
    """
    read_only = not (box.flag or box.move_to)
    try:
        answer = client.select_folder(box.folder, readonly=read_only)
    except IMAPClientReadOnlyError:
        answer, read_only = client.select_folder(box.folder, readonly=True), True
    allowed = {
        flag.lower() for flag in answer.get(b"PERMANENTFLAGS", (rb"\*",))
    }  # none given: all (RFC 3501 §6.3.1)
    markable = bool(box.move_to) or not allowed.isdisjoint({rb"\*", box.flag.lower().encode()})
    return SelectedFolder(
        answer.get(b"UIDVALIDITY", 0),
        answer.get(b"UIDNEXT", 0),
        read_only,
        markable and not read_only,
    )


def list_uids_above(client: ImapClient, last: int, uid_next: int) -> list[int]:
    """List the UIDs above `last`, ascending.

    Of a long range those of the first window that holds any.

    `n:*` finds the last mail even below n (RFC 3501 §6.4.8). `uid_next` 0 = not known.
    """
    low = last + 1
    while uid_next - low > WINDOW:
        if found := client.search(["UID", f"{low}:{low + WINDOW - 1}"]):
            return sorted(set(found))
        low += WINDOW
    return sorted({uid for uid in client.search(["UID", f"{low}:*"]) if uid >= low})


def fetch_sizes(client: ImapClient, uids: list[int]) -> dict[int, int]:
    """Return the sizes of mails, of those that the server tells; none where it refuses one of them.

    Raises IMAPClientAbortError or OSError when the connection is lost.
    """
    try:
        answer = client.fetch(uids, ["RFC822.SIZE"])
    except IMAPClientAbortError:
        raise
    except (IMAPClientError, ValueError):
        return {}
    return {uid: int(said.get(b"RFC822.SIZE", 0)) for uid, said in answer.items()}


def fetch_size(client: ImapClient, uid: int) -> int | None:
    """Return the size of a mail; None if it has vanished. Raises as `fetch_mail` does."""
    answer = client.fetch([uid], ["RFC822.SIZE"])
    return int(answer[uid].get(b"RFC822.SIZE", 0)) if uid in answer else None


def is_mail_there(client: ImapClient, uid: int) -> bool:
    """Return whether a mail is in the folder.

    A server in trouble may answer OK and give nothing.
    """
    return uid in client.search(["UID", str(uid)])


@dataclass(frozen=True, slots=True)
class FetchedMail:
    """A mail as it came; `left_out` where it is larger than the limit."""

    raw: bytes
    omitted: OmittedParts | None = None


def fetch_mail(client: ImapClient, uid: int, size: int, limit: int) -> FetchedMail | None:
    """Fetch a mail, or what fits of one over `limit` bytes; None if it has vanished. Set no flag.

    Raises IMAPClientError, OSError or ValueError (an answer that cannot be parsed) when the server
    does not deliver.
    """
    if size <= limit:
        raw = _section(client, uid, "")
        if raw is None or len(raw) <= limit:
            return None if raw is None else FetchedMail(raw)
        size = len(raw)  # some servers only estimate RFC822.SIZE
    part = fetch_what_fits(
        lambda name, most: _section(client, uid, name, most),
        lambda: _structure(client, uid),
        size,
        limit,
    )
    return None if part is None else FetchedMail(*part)


def _structure(client: ImapClient, uid: int) -> Any:
    return client.fetch([uid], ["BODYSTRUCTURE"])[uid][b"BODYSTRUCTURE"]


def _section(client: ImapClient, uid: int, section: str, most: int = 0) -> bytes | None:
    """Fetch a section of a mail, or its first `most` octets (RFC 3501, section 6.4.5).

    None if the mail is gone.
    """
    partial = f"<0.{most}>" if most else ""
    answer = client.fetch([uid], [f"BODY.PEEK[{section}]{partial}"])
    if uid not in answer:
        return None
    # The answer names where it begins and not how long it is; servers that know no partial fetch
    # give all of it.
    begins = "<0>" if most else ""
    raw = answer[uid].get(
        f"BODY[{section}]{begins}".encode(), answer[uid].get(f"BODY[{section}]".encode())
    )
    if section and isinstance(
        raw, bytes | None
    ):  # a part may be empty, which some servers call NIL
        return (raw or b"")[: most or None]
    if not (isinstance(raw, bytes) and raw):
        raise IMAPClientError("no text in the answer")
    return raw[: most or None]


def mark_handled(client: ImapClient, uid: int, box: Mailbox) -> None:
    """Flag a mail, or move it where the mailbox says so.

    Moves by hand where the server has no MOVE (RFC 6851); without UID EXPUNGE (RFC 4315) the
    original then stays, marked as deleted: a plain EXPUNGE would take what other people have
    marked.
    """
    if not box.move_to:
        client.add_flags([uid], [box.flag], silent=True)
    elif client.has_capability("MOVE"):
        client.move([uid], box.move_to)
    else:
        client.copy([uid], box.move_to)
        client.add_flags([uid], [rb"\Deleted"], silent=True)
        if client.has_capability("UIDPLUS"):
            client.uid_expunge([uid])
