"""IMAP connection: certificate verified, logged in, and the commands that a reader needs."""

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

SEARCH_WINDOW = 50_000  # UIDs searched in one command: imaplib fails on an answer line of 1 MB
# user names that imaplib may put on a LOGIN line unquoted (RFC 3501 §9, atom)
UNQUOTED = re.compile(r"[A-Za-z0-9@._+=/:!#$&'-]+")
# as short as the column that keeps it
MESSAGE_ID = re.compile(rb"<[!#-;=?-\[\]-~]{1,500}>")


class LoginRefusedError(Exception):
    """The mail server refuses these credentials."""


class ImapClient(IMAPClient):  # type: ignore[misc]  # imapclient ships no types
    """IMAPClient with two faults of its IDLE corrected.

    It does not sleep over a notification already read, nor spin on a closed connection.
    """

    # IDLE has just begun: lines that came with its "+ idling" are in a buffer that poll cannot see
    _has_just_begun = False
    _is_readable = False

    def idle(self) -> None:
        """Begin IDLE (RFC 2177)."""
        super().idle()
        self._has_just_begun = True

    def _poll_socket(self, sock: Any, timeout: float | None = None) -> Any:
        """Poll without waiting right after IDLE began (overrides imapclient's)."""
        events = super()._poll_socket(sock, 0 if self._has_just_begun else timeout)
        self._is_readable = bool(events)
        fresh, self._has_just_begun = self._has_just_begun, False
        return events or fresh

    def wait_for_mail(self, seconds: float) -> bool:
        """Wait in IDLE; return whether mail was announced or the connection ended in time."""
        lines = self.idle_check(timeout=seconds)
        return any(b"EXISTS" in line[1:2] for line in lines) or (self._is_readable and not lines)

    def has_announced(self) -> bool:
        """Return whether mail was announced amid other answers since the last call.

        IDLE does not announce it again.
        """
        return bool(self._imap.response("EXISTS")[1][0])


@contextmanager
def connect(box: Mailbox, timeout: float) -> Iterator[ImapClient]:
    """Connect, with the certificate verified; log out and close at the end of the block.

    No step takes longer than `timeout` seconds. Raises OSError (ssl.SSLError among them) or
    IMAPClientError.
    """
    context = ssl.create_default_context() if box.tls else None
    limits = SocketTimeout(connect=timeout, read=timeout)
    with ImapClient(box.host, box.port, ssl=box.tls, ssl_context=context, timeout=limits) as client:
        client.normalise_times = False  # else dates come in the time zone of this machine, naive
        yield client


def log_in(client: ImapClient, box: Mailbox, tokens: AccessTokens | None) -> None:
    """Log in, by token where there is one.

    Raises LoginRefusedError where trying again soon is pointless; LoginError, OSError,
    httpx.HTTPError otherwise.
    """
    if not tokens:
        return _attempt_log_in(lambda: _log_in_by_password(client, box))
    try:
        _attempt_log_in(lambda: _log_in_by_token(client, box.user, tokens.get_token()))
    except LoginRefusedError as error:
        # perhaps revoked before it expired: one new token, then the backoff
        if isinstance(error.__cause__, TokenRefusedError):
            raise
        tokens.discard()
        _attempt_log_in(lambda: _log_in_by_token(client, box.user, tokens.get_token()))
    return None


def _attempt_log_in(attempt: Callable[[], None]) -> None:
    """Make one attempt. Raises LoginRefusedError when it was refused and not merely interrupted."""
    try:
        attempt()
    except TokenRefusedError as error:
        raise LoginRefusedError from error
    except LoginError as error:
        # imapclient raises LoginError for a lost connection, a server out of order (RFC 5530 §3)
        # and a wrong password alike
        passing = any(code in str(error) for code in ("[UNAVAILABLE]", "[INUSE]", "[LIMIT]"))
        if passing or isinstance(error.__context__, IMAPClientAbortError):
            raise
        raise LoginRefusedError from error


def _log_in_by_password(client: ImapClient, box: Mailbox) -> None:
    """Log in by password."""
    if client.has_capability("LOGINDISABLED"):  # RFC 3501 §6.2.3: the password must not be sent
        raise LoginRefusedError
    password = box.password.get_secret_value()
    plain = UNQUOTED.fullmatch(box.user) and password.isascii()
    # LOGIN is ASCII only; PLAIN (RFC 4616) is not
    (client.login if plain else client.plain_login)(box.user, password)


def _log_in_by_token(client: ImapClient, user: str, token: str) -> None:
    """Log in by XOAUTH2.

    A second challenge carries the error and expects an empty answer before the NO.
    """
    answers = iter([f"user={user}\1auth=Bearer {token}\1\1".encode()])
    client.sasl_login("XOAUTH2", lambda _challenge: next(answers, b""))


@dataclass(frozen=True, slots=True)
class SelectedFolder:
    """The answer to SELECT.

    `uid_next` is 0 when the server does not give it; `exists` is the number of mails; `markable`:
    mail here can be marked as handled.
    """

    uid_validity: int
    uid_next: int  # 0: not known
    exists: int
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
    # without the list all flags are allowed (RFC 3501 §6.3.1)
    allowed = {flag.lower() for flag in answer.get(b"PERMANENTFLAGS", (rb"\*",))}
    markable = bool(box.move_to) or not allowed.isdisjoint({rb"\*", box.flag.lower().encode()})
    return SelectedFolder(
        answer.get(b"UIDVALIDITY", 0),
        answer.get(b"UIDNEXT", 0),
        answer.get(b"EXISTS", 0),
        read_only,
        markable and not read_only,
    )


def list_uids_above(client: ImapClient, last: int, uid_next: int) -> list[int]:
    """Return UIDs above `last`, ascending; of a long range those of the first window that has any.

    `n:*` finds the last mail even when it is below n (RFC 3501 §6.4.8). `uid_next` 0: not known.
    """
    low = last + 1
    while uid_next - low > SEARCH_WINDOW:
        if uids := client.search(["UID", f"{low}:{low + SEARCH_WINDOW - 1}"]):
            return sorted(set(uids))
        low += SEARCH_WINDOW
    return sorted({uid for uid in client.search(["UID", f"{low}:*"]) if uid >= low})


def fetch_sizes(client: ImapClient, uids: list[int]) -> dict[int, int]:
    """Return the sizes of mails in octets, without those the server does not give.

    {} where it refuses. Raises IMAPClientAbortError or OSError when the connection is lost.
    """
    try:
        answer = client.fetch(uids, ["RFC822.SIZE"])
    except IMAPClientAbortError:
        raise
    except (IMAPClientError, ValueError):
        return {}
    return {uid: int(fields.get(b"RFC822.SIZE", 0)) for uid, fields in answer.items()}


def fetch_size(client: ImapClient, uid: int) -> int | None:
    """Return the size of a mail in octets; None when it has vanished.

    Raises as `fetch_mail` does.
    """
    answer = client.fetch([uid], ["RFC822.SIZE"])
    return int(answer[uid].get(b"RFC822.SIZE", 0)) if uid in answer else None


def is_mail_there(client: ImapClient, uid: int) -> bool:
    """Return whether a mail is in the folder.

    A server in trouble may answer OK to a FETCH and return nothing.
    """
    return uid in client.search(["UID", str(uid)])


def fetch_message_id(client: ImapClient, uid: int) -> str:
    """Return the Message-ID of a mail whose text the server does not give; "" where unknown.

    Raises nothing: a connection that is lost here shows at the next command.
    """
    try:
        fields = _fetch_section(client, uid, "HEADER.FIELDS (MESSAGE-ID)") or b""
    except (IMAPClientError, ValueError, OSError):
        return ""
    found = MESSAGE_ID.search(fields)
    return found[0].decode("ascii") if found else ""


def find_by_message_id(client: ImapClient, message_id: str) -> int | None:
    """Return the UID of the last mail in the folder with this Message-ID; None without one."""
    uids = client.search(["HEADER", "Message-ID", message_id])
    return max(uids) if uids else None


@dataclass(frozen=True, slots=True)
class FetchedMail:
    """A mail as fetched; `omitted` is set where it is larger than the limit."""

    raw: bytes
    omitted: OmittedParts | None = None


def fetch_mail(client: ImapClient, uid: int, size: int, limit: int) -> FetchedMail | None:
    """Fetch a mail, or what fits of one over `limit` octets, without setting a flag.

    None when gone. Raises IMAPClientError, OSError or ValueError (an answer that cannot be parsed)
    when the server does not deliver.
    """
    if size <= limit:
        raw = _fetch_section(client, uid, "")
        if raw is None or len(raw) <= limit:
            return None if raw is None else FetchedMail(raw)
        size = len(raw)  # some servers only estimate RFC822.SIZE
    fitting_parts = fetch_what_fits(
        lambda name, most: _fetch_section(client, uid, name, most),
        lambda: _fetch_structure(client, uid),
        size,
        limit,
    )
    return None if fitting_parts is None else FetchedMail(*fitting_parts)


def _fetch_structure(client: ImapClient, uid: int) -> Any:
    """Fetch the BODYSTRUCTURE of a mail."""
    return client.fetch([uid], ["BODYSTRUCTURE"])[uid][b"BODYSTRUCTURE"]


def _fetch_section(client: ImapClient, uid: int, section: str, max_octets: int = 0) -> bytes | None:
    """Fetch a section of a mail, or its first `max_octets` (RFC 3501 §6.4.5).

    None when it is gone.
    """
    partial = f"<0.{max_octets}>" if max_octets else ""
    answer = client.fetch([uid], [f"BODY.PEEK[{section}]{partial}"])
    if uid not in answer:
        return None
    raw = _find_section(answer[uid], section, is_partial=bool(max_octets))
    if section and raw is None:
        raw = b""  # some servers return NIL for an empty part
    if not isinstance(raw, bytes) or not (raw or section):
        raise IMAPClientError("no text in the answer")
    return raw[: max_octets or None]


def _find_section(fields: Any, section: str, *, is_partial: bool) -> Any:
    """Return the value of a section in an answer to FETCH, or None."""
    raw = fields.get(f"BODY[{section}]".encode())
    # A partial answer has its start in the name, and not its length; servers without partial
    # fetches return the whole section.
    return fields.get(f"BODY[{section}]<0>".encode(), raw) if is_partial else raw


def mark_handled(client: ImapClient, uid: int, box: Mailbox) -> None:
    """Flag a mail, or move it where the mailbox's settings say so.

    Copies and deletes where the server has no MOVE (RFC 6851); without UID EXPUNGE (RFC 4315) the
    original then stays, marked as deleted: a plain EXPUNGE would remove what other people have
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
