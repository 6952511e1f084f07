"""The IMAP door: one thread a mailbox hands every mail to the intake and marks it only once it is stored."""

import random
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Protocol
from urllib.parse import quote

import httpx
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError
from sqlalchemy.exc import SQLAlchemyError

from ingest.imap_session import Client, Folder, RefusedError, connected, fetch, login, mark, select, uids_above
from ingest.intake import Accept, Arrival, Transport
from ingest.mailboxes import mailboxes
from ingest.oauth2 import Kept, Tokens
from parsers.item import Format
from workflow import journal
from workflow.settings import Mailbox, Settings

SIZES = 200  # UIDs asked for their sizes in one command
PATIENCE = 8  # failures to fetch one mail, spaced by the backoff (about two minutes), before it is put aside
SLICE = 0.5  # seconds of IDLE between two looks at whether to stop
GRACE = 45.0  # seconds a stopping reader has for the mail in hand


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Every UID up to `last_uid` is stored or gone, as long as the folder's UIDVALIDITY is this (RFC 3501 §2.3.1.1)."""

    uid_validity: int
    last_uid: int


class Checkpoints(Protocol):
    """Where readers remember; raises SQLAlchemyError or OSError when it cannot. Mailboxes are named by their key."""

    def load(self, mailbox: str) -> Checkpoint | None:
        """Return the checkpoint saved last; None for a mailbox never read."""
        ...

    def save(self, mailbox: str, checkpoint: Checkpoint) -> None:
        """Remember durably before returning."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: how long servers may take, and how long a reader waits after a failure, doubling up to a cap."""

    timeout: float = 30.0
    first: float = 1.0
    cap: float = 60.0
    refused: float = 60.0  # servers lock accounts out that fail to log in too often
    refused_cap: float = 300.0

    def pause(self, failures: int, *, refused: bool) -> float:
        """Seconds to wait after so many failures in a row; jittered, lest all mailboxes of a host return at once."""
        first, cap = (self.refused, self.refused_cap) if refused else (self.first, self.cap)
        doubled: float = min(cap, first * 2.0 ** min(failures - 1, 16))
        return doubled * random.SystemRandom().uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What all readers of a process share.

    `seen` hears a mailbox's key after each complete look at it; `mine` says whether this process is the one that reads
    the mailbox of a key now.
    """

    settings: Settings
    accept: Accept
    checkpoints: Checkpoints
    seen: Callable[[str], None]
    stop: Event
    pace: Pace = Pace()
    mine: Callable[[str], bool] = lambda _key: True
    kept: Callable[[Mailbox], Kept | None] = lambda _box: None  # where its OAuth token is remembered


class NotStoredError(Exception):
    """The intake or its ledger could not take what we read; the mail stays as it is."""


# ---------------------------------------------------------------------------------------------------- one mailbox

SERVER = (IMAPClientError, OSError, ValueError)  # ValueError: imapclient could not parse an answer
REASONS: Mapping[type[Exception], str] = {  # the first that fits
    RefusedError: "login refused",
    LoginError: "login not possible now",
    ssl.SSLCertVerificationError: "certificate not trusted",
    httpx.HTTPError: "no answer from the token endpoint",
    socket.gaierror: "host unknown",
    OSError: "not reachable",
    IMAPClientAbortError: "connection lost",
    IMAPClientError: "the server said no",
}


class Reader:
    """Reads one mailbox until the door stops; survives whatever the server does."""

    def __init__(self, box: Mailbox, door: Door) -> None:
        self._box = box
        self._door = door
        self._tokens = Tokens(box.oauth2, door.kept(box)) if box.oauth2 else None
        self._failures = 0  # in a row
        self._stuck = (0, 0)  # a UID that could not be fetched, and how often
        self._noted: set[str] = set()

    def run(self) -> None:
        """Connect and read, again and again, until the door stops; wait while another process is the one to read."""
        while not self._door.stop.is_set():
            if not self._door.mine(self._box.key):
                self._door.stop.wait(SLICE)
                continue
            try:
                self._session()
            except Exception as error:  # noqa: BLE001  # the top loop: no fault may end the reader of a mailbox
                self._door.stop.wait(self._failed(error))

    def _failed(self, error: Exception) -> float:
        """Write down why, in fixed words; seconds to wait."""
        self._failures += 1
        pause = self._door.pace.pause(self._failures, refused=isinstance(error, RefusedError))
        reason = next((words for kind, words in REASONS.items() if isinstance(error, kind)), "")
        if isinstance(error, NotStoredError):
            journal.not_stored(Transport.IMAP, error.__cause__ or error)
        elif reason:
            journal.mailbox_failed(self._box.key, reason, pause)
        else:
            journal.fault("imap", error)
        return pause

    def _session(self) -> None:
        door, key = self._door, self._box.key
        with connected(self._box, door.pace.timeout) as client:
            self._log_in(client)
            self._make_target(client)
            journal.listening("imap", key)
            while self._going():
                while self._scan(client):
                    pass
                if self._going():
                    with _storing():
                        door.seen(key)
                    self._failures = 0
                    self._wait(client)

    def _log_in(self, client: Client) -> None:
        try:
            login(client, self._box, self._tokens)
        except SQLAlchemyError as error:  # a token that was rotated could not be remembered
            raise NotStoredError from error

    def _going(self) -> bool:
        """Whether to go on: not told to stop, and still the one that reads this mailbox."""
        return not self._door.stop.is_set() and self._door.mine(self._box.key)

    def _make_target(self, client: Client) -> None:
        try:
            if self._box.move_to and not client.folder_exists(self._box.move_to):
                client.create_folder(self._box.move_to)
        except IMAPClientAbortError:
            raise
        except IMAPClientError:
            self._note("the folder to move mail to cannot be made")

    def _wait(self, client: Client) -> None:
        """Until mail is announced, the next poll is due or the door stops."""
        settings, stop = self._door.settings, self._door.stop
        seconds = min(settings.imap_idle_seconds, settings.imap_poll_seconds)
        if client.announced():
            seconds = min(seconds, SLICE)
        if not client.has_capability("IDLE"):
            stop.wait(seconds)
            return
        until = time.monotonic() + seconds
        client.idle()
        while self._going() and (left := until - time.monotonic()) > 0:
            if client.notified(min(left, SLICE)):
                break
        client.idle_done()

    def _scan(self, client: Client) -> bool:
        """Take what is new; True when there was something: look again, more may have come meanwhile.

        Selects the folder each time: it costs a round trip, and no change of UIDVALIDITY goes unseen.
        """
        folder = self._select(client)
        checkpoint = self._resume(folder.uid_validity)
        client.announced()  # SELECT's own count
        uids = uids_above(client, checkpoint.last_uid, folder.uid_next)
        step = 1 if self._failures else SIZES  # one by one, a mail that breaks the session is found
        for at in range(0, len(uids), step):
            some = uids[at : at + step]
            with self._fetching(folder.uid_validity, some[0]):
                sizes = client.fetch(some, ["RFC822.SIZE"])
            for uid in some:
                if not self._going():
                    return False
                if uid in sizes:  # else it vanished, and so will a checkpoint below it
                    self._take(client, folder, uid, int(sizes[uid].get(b"RFC822.SIZE", 0)))
                self._save(folder.uid_validity, uid)
        return bool(uids)

    def _select(self, client: Client) -> Folder:
        folder = select(client, self._box)
        if folder.read_only and (self._box.flag or self._box.move_to):
            self._note("the folder is read-only: mail is read and not marked")
        elif not folder.markable and self._box.flag:
            self._note("the server keeps no keywords: mail is read and not marked")
        return folder

    def _resume(self, uid_validity: int) -> Checkpoint:
        with _storing():
            saved = self._door.checkpoints.load(self._box.key)
        if saved and saved.uid_validity == uid_validity:
            return saved
        if saved:  # the server numbered everything anew: all of it again, the intake knows what it has
            journal.mailbox_noted(self._box.key, "UIDVALIDITY changed: reading everything again")
            self._save(uid_validity, 0)
        return Checkpoint(uid_validity, 0)

    def _save(self, uid_validity: int, uid: int) -> None:
        with _storing():
            self._door.checkpoints.save(self._box.key, Checkpoint(uid_validity, uid))

    def _take(self, client: Client, folder: Folder, uid: int, size: int) -> None:
        """One mail: fetch, store, only then mark."""
        with self._fetching(folder.uid_validity, uid):
            raw, oversized = fetch(client, uid, size, self._door.settings.mail_limit)
        if raw is None:
            return
        self._accept(raw, self._envelope(folder.uid_validity, uid) | ({"oversized": oversized} if oversized else {}))
        if folder.markable:
            self._mark(client, uid)

    def _envelope(self, uid_validity: int, uid: int) -> dict[str, object]:
        return {"mailbox": self._box.key, "uid": uid, "uid_validity": uid_validity}

    def _accept(self, raw: bytes, envelope: dict[str, object], unreadable: str = "") -> None:
        arrival = Arrival(
            transport=Transport.IMAP, format=Format.MAIL, raw=raw, envelope=envelope, unreadable=unreadable,
            reference="{mailbox};{uid_validity}/{uid}".format(**envelope),
        )  # fmt: skip
        with _storing():
            self._door.accept(arrival)

    @contextmanager
    def _fetching(self, uid_validity: int, uid: int) -> Iterator[None]:
        """Count how often a mail could not be fetched; with patience at an end put it aside."""
        try:
            yield
        except SERVER:
            last, failures = self._stuck
            self._stuck = (uid, failures + 1 if last == uid else 1)
            if self._stuck[1] >= PATIENCE:
                self._put_aside(uid_validity, uid)
            raise

    def _put_aside(self, uid_validity: int, uid: int) -> None:
        """Store the URL (RFC 5092) of a mail the server cannot deliver, as failed: it must not hold up those behind it.

        The mail stays in the mailbox unmarked, for a person to look at.
        """
        box = self._box
        url = f"imap://{quote(box.user)}@{box.host}/{quote(box.folder)};UIDVALIDITY={uid_validity}/;UID={uid}"
        envelope = self._envelope(uid_validity, uid)
        self._accept(url.encode(), envelope, unreadable="the mail server could not deliver this mail")
        self._save(uid_validity, uid)
        journal.mailbox_noted(box.key, "a mail that the server cannot deliver was put aside", uid)

    def _mark(self, client: Client, uid: int) -> None:
        """Mark a stored mail; a server that says no is noted and does not stop the reading."""
        try:
            mark(client, uid, self._box)
        except IMAPClientAbortError:
            raise
        except IMAPClientError:
            self._note("mail was stored but could not be marked")

    def _note(self, fact: str) -> None:
        """Once a process: the same every scan would bury the log."""
        if fact not in self._noted:
            self._noted.add(fact)
            journal.mailbox_noted(self._box.key, fact)


@contextmanager
def _storing() -> Iterator[None]:
    """Tell the ledger's OSError from the socket's."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise NotStoredError from error


# ---------------------------------------------------------------------------------------------------- all mailboxes


def serve(
    settings: Settings,
    accept: Accept,
    checkpoints: Checkpoints,
    seen: Callable[[str], None],
    stop: Event | None = None,
    mine: Callable[[str], bool] = lambda _key: True,
    kept: Callable[[Mailbox], Kept | None] = lambda _box: None,
) -> None:
    """Read every mailbox that is `mine` until `stop` is set, by default by SIGTERM or SIGINT; at once if there is none.

    Each reader finishes the mail in hand and logs out. Raises SettingsError as `mailboxes` does.
    """
    boxes = mailboxes(settings)
    with _stopping(stop) as stopping:
        door = Door(
            settings=settings, accept=accept, checkpoints=checkpoints, seen=seen, stop=stopping, mine=mine, kept=kept
        )  # fmt: skip
        read_all(boxes, door)


def read_all(boxes: tuple[Mailbox, ...], door: Door) -> None:
    """One thread a mailbox, until the door stops."""
    threads = [Thread(target=Reader(box, door).run, name=f"imap {box.key}", daemon=True) for box in boxes]
    for thread in threads:
        thread.start()
    if threads:
        door.stop.wait()
    until = time.monotonic() + GRACE
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


@contextmanager
def _stopping(stop: Event | None) -> Iterator[Event]:
    """Yield the event given, or one that SIGTERM and SIGINT set."""
    if stop is not None:
        yield stop
        return
    event = Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: event.set()) for number in signals]
    try:
        yield event
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
