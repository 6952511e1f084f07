"""The IMAP listener.

One thread a mailbox hands every mail to the intake and marks it only once it is stored.

A mail that the server does not give us, or that we cannot take, goes onto the mailbox's list of
mails to be fetched again (ItemFaults), which is kept in the database, and the mails behind it are
taken. Only then does the checkpoint pass it. Nothing is ever stored as a delivery that is not the
mail.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Protocol

import httpx
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError
from sqlalchemy.exc import SQLAlchemyError

from ingest.imap.connection import (
    ImapClient,
    LoginRefusedError,
    SelectedFolder,
    connect,
    fetch_mail,
    fetch_size,
    fetch_sizes,
    is_mail_there,
    list_uids_above,
    log_in,
    mark_handled,
    select_folder,
)
from ingest.imap.mailboxes import list_mailboxes
from ingest.imap.oauth2 import AccessTokens, TokenStore
from ingest.intake import Accept, Arrival, Transport
from parsers.item import Format
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.operations.item_faults import PendingRetry, describe_unexpected_error
from workflow.runtime import log
from workflow.runtime.backoff import Backoff
from workflow.settings.settings import Mailbox, Settings

SIZES = 200  # UIDs asked for their sizes in one command
MAX_LOST_CONNECTIONS = (
    3  # connections lost over one mail, spaced by the backoff, before the mails behind it are read
)
MOST_DEFERRED = (
    1000  # mails of a mailbox to be fetched again; a server that gives none of more is away
)
SLICE = 0.5  # seconds of IDLE between two looks at whether to stop
GRACE_SECONDS = 45.0  # seconds a stopping reader has for the mail in hand


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Every UID up to `last_uid` is stored or gone.

    As long as the folder's UIDVALIDITY is this (RFC 3501 §2.3.1.1).
    """

    uid_validity: int
    last_uid: int


class Checkpoints(Protocol):
    """Where readers remember; raises SQLAlchemyError or OSError when it cannot.

    Mailboxes are named by their key.
    """

    def load(self, mailbox: str) -> Checkpoint | None:
        """Return the checkpoint saved last; None for a mailbox never read."""
        ...

    def save(self, mailbox: str, checkpoint: Checkpoint) -> None:
        """Remember durably before returning."""
        ...


class DeferredMails(Protocol):
    """Mails of one mailbox to be fetched again.

    As workflow.operations.item_faults.ItemFaults keeps them.

    Every method raises SQLAlchemyError or OSError when it cannot.
    """

    def record(self, item: str, reason: str) -> int:
        """Remember durably that a mail could not be taken, and when to try again.

        Return how often it was tried.
        """
        ...

    def list_pending(self) -> list[PendingRetry]:
        """Return what is to be tried again, that which may be tried first first."""
        ...

    def delete(self, items: Iterable[str]) -> None:
        """Forget mails: they were taken, or are gone."""
        ...

    def now(self) -> datetime:
        """Return the time that `Waiting.not_before` is held against."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryTiming:
    """Seconds: how long servers may take.

    And how long a reader waits after a failure, doubling up to a cap.
    """

    timeout: float = 30.0
    first_pause: float = 1.0
    max_pause: float = 60.0
    refused_pause: float = 60.0  # servers lock accounts out that fail to log in too often
    max_refused_pause: float = 300.0

    def compute_pause(self, failures: int, *, refused: bool) -> float:
        """Seconds to wait after so many failures in a row.

        Jittered, lest all mailboxes of a host return at once.
        """
        first, cap = (
            (self.refused_pause, self.max_refused_pause)
            if refused
            else (self.first_pause, self.max_pause)
        )
        backoff = Backoff(timedelta(seconds=first), timedelta(seconds=cap), jitter=0.5)
        return backoff.seconds(failures)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderContext:
    """What all readers of a process share.

    `seen` hears a mailbox's key after each complete look at it; `mine` says whether this process is
    the one that reads the mailbox of a key now; `faults` gives the list of a mailbox's mails to be
    fetched again. `fetched_late` hears of each of those that was stored after all: its reference,
    and its delivery.
    """

    settings: Settings
    accept: Accept
    checkpoints: Checkpoints
    get_deferred: Callable[[str], DeferredMails]
    record_look: Callable[[str], None]
    stop: Event
    record_late_fetch: Callable[[str, int], None] = lambda _reference, _delivery: None
    timing: RetryTiming = RetryTiming()
    is_assigned: Callable[[str], bool] = lambda _key: True
    get_token_store: Callable[[Mailbox], TokenStore | None] = lambda _box: (
        None
    )  # where its OAuth token is remembered


class GoneError(Exception):
    """The mail is no longer in the mailbox."""


class MailNotStorableError(Exception):
    """The intake cannot store this mail, and would store others."""


class NotStoredError(Exception):
    """The intake or its ledger could not take what we read; the mail stays as it is."""


# -- one mailbox ----

FAILURE_REASONS: Mapping[type[Exception], str] = {  # the first that fits
    LoginRefusedError: "login refused",
    LoginError: "login not possible now",
    ssl.SSLCertVerificationError: "certificate not trusted",
    httpx.HTTPError: "no answer from the token endpoint",
    socket.gaierror: "host unknown",
    OSError: "not reachable",
    IMAPClientAbortError: "connection lost",
    IMAPClientError: "the server said no",
    ValueError: "an answer of the server cannot be read",
}


def _reason(error: Exception) -> str:
    """Return why the server did not serve us, in fixed words; "" for what it has no part in."""
    return next((words for kind, words in FAILURE_REASONS.items() if isinstance(error, kind)), "")


def _reference(mailbox: str, uid_validity: object, uid: object) -> str:
    """Return our name for a mail of a mailbox, as its receipt carries it."""
    return f"{mailbox};{uid_validity}/{uid}"


class MailboxReader:
    """Reads one mailbox until the door stops; survives whatever the server does."""

    def __init__(self, box: Mailbox, door: ReaderContext) -> None:
        self._box = box
        self._door = door
        self._faults = door.get_deferred(box.key)
        self._tokens = AccessTokens(box.oauth2, door.get_token_store(box)) if box.oauth2 else None
        self._failures = 0  # in a row
        self._stuck = (0, 0)  # a UID that could not be fetched, and how often
        self._noted: set[str] = set()

    def run(self) -> None:
        """Connect and read, again and again, until the door stops.

        Wait while another process is the one to read.
        """
        while not self._door.stop.is_set():
            if not self._door.is_assigned(self._box.key):
                self._door.stop.wait(SLICE)
                continue
            try:
                self._session()
            # the top loop: no fault may end the reader of a mailbox
            except Exception as error:  # noqa: BLE001
                self._door.stop.wait(self._failed(error))

    def _failed(self, error: Exception) -> float:
        """Write down why, in fixed words; seconds to wait."""
        self._failures += 1
        pause = self._door.timing.compute_pause(
            self._failures, refused=isinstance(error, LoginRefusedError)
        )
        reason = _reason(error)
        if isinstance(error, NotStoredError):
            log.delivery_not_stored(Transport.IMAP, error.__cause__ or error)
        elif reason:
            log.mailbox_failed(self._box.key, reason, pause)
        else:
            log.fault("imap", error)
        return pause

    def _session(self) -> None:
        door, key = self._door, self._box.key
        with connect(self._box, door.timing.timeout) as client:
            self._log_in(client)
            self._make_target(client)
            log.listener_started("imap", key)
            while self._going():
                while self._scan(client):
                    pass
                if self._going():
                    with _storing():
                        door.record_look(key)
                    self._failures = 0
                    self._wait(client)

    def _log_in(self, client: ImapClient) -> None:
        try:
            log_in(client, self._box, self._tokens)
        except SQLAlchemyError as error:  # a token that was rotated could not be remembered
            raise NotStoredError from error

    def _going(self) -> bool:
        """Return whether to go on: not told to stop, and still the one that reads this mailbox."""
        return not self._door.stop.is_set() and self._door.is_assigned(self._box.key)

    def _make_target(self, client: ImapClient) -> None:
        try:
            if self._box.move_to and not client.folder_exists(self._box.move_to):
                client.create_folder(self._box.move_to)
        except IMAPClientAbortError:
            raise
        except IMAPClientError:
            self._note("the folder to move mail to cannot be made")

    def _wait(self, client: ImapClient) -> None:
        """Until mail is announced, a mail may be fetched again.

        The next poll is due or the door stops.
        """
        settings, stop = self._door.settings, self._door.stop
        seconds = min(settings.imap_idle_seconds, settings.imap_poll_seconds, self._next_attempt())
        if client.announced():
            seconds = min(seconds, SLICE)
        if not client.has_capability("IDLE"):
            stop.wait(seconds)
            return
        until = time.monotonic() + seconds
        client.idle()
        while self._going() and (left := until - time.monotonic()) > 0:
            if client.wait_for_mail(min(left, SLICE)):
                break
        client.idle_done()

    def _next_attempt(self) -> float:
        """Return the seconds until a mail may be fetched again; infinity when there is none."""
        with _storing():
            waiting, now = self._faults.list_pending(), self._faults.now()
        if not waiting:
            return float("inf")
        return 0.0 if waiting[0].is_due(now) else (waiting[0].not_before - now).total_seconds()

    def _scan(self, client: ImapClient) -> bool:
        """Take what is new and what is to be fetched again; True when something was new.

        Look again.

        Selects the folder each time: it costs a round trip, and no change of UIDVALIDITY goes
        unseen.
        """
        folder = self._select(client)
        checkpoint = self._resume(folder.uid_validity)
        client.announced()  # SELECT's own count
        uids = list_uids_above(client, checkpoint.last_uid, folder.uid_next)
        whole = self._read_new(client, folder, uids)
        self._fetch_again(
            client, folder
        )  # after what is new: one that breaks the session holds nothing up
        if (
            not whole and self._deferred() >= MOST_DEFERRED
        ):  # the backoff of the connection waits for all of them
            raise IMAPClientError("too many mails are refused")
        return bool(uids)

    def _deferred(self) -> int:
        """Return how many mails are to be fetched again."""
        with _storing():
            return len(self._faults.list_pending())

    def _read_new(self, client: ImapClient, folder: SelectedFolder, uids: list[int]) -> bool:
        """Take new mails; return whether all were taken or put onto the list, which has a bound."""
        deferred = self._deferred()
        step = 1 if self._failures else SIZES  # one by one, a mail that breaks the session is found
        for at in range(0, len(uids), step):
            some = uids[at : at + step]
            with self._patience(folder, some[0]):
                sizes = fetch_sizes(client, some)
            for uid in some:
                if not self._going() or deferred >= MOST_DEFERRED:
                    return False
                deferred += not self._take_or_defer(client, folder, uid, sizes.get(uid))
                self._save(folder.uid_validity, uid)
        return True

    def _fetch_again(self, client: ImapClient, folder: SelectedFolder) -> None:
        """Fetch the mails whose time has come, and all others as soon as one came."""
        with _storing():
            waiting = self._faults.list_pending()
        ours = f"{folder.uid_validity}/"
        if others := [one.item for one in waiting if not one.item.startswith(ours)]:
            with (
                _storing()
            ):  # of another UIDVALIDITY: the checkpoint begins anew, and so they are all read again
                self._faults.delete(others)
        recovered = False
        for one in waiting:
            if not self._going():
                return
            if one.item not in others and (recovered or one.is_due(self._faults.now())):
                uid = int(one.item.removeprefix(ours))
                recovered |= self._take_or_defer(client, folder, uid, None, late=True)

    def _take_or_defer(
        self,
        client: ImapClient,
        folder: SelectedFolder,
        uid: int,
        size: int | None,
        *,
        late: bool = False,
    ) -> bool:
        """Take one mail; one that cannot be had now is remembered, and what it did stays with it.

        Return False when it was remembered. Raises what ends the session, having remembered the
        mail if it did that several times, and NotStoredError when the intake takes nothing.
        """
        item = f"{folder.uid_validity}/{uid}"
        try:
            with self._patience(folder, uid, at_once=late):
                number = self._take(client, folder, uid, size)
        except GoneError:
            if late:
                log.mailbox_notice(
                    self._box.key, "a mail that could not be fetched is no longer there", uid
                )
                with _storing():
                    self._faults.delete([item])
            return True
        except (IMAPClientAbortError, OSError, NotStoredError):
            raise
        except (
            IMAPClientError,
            ValueError,
        ) as error:  # the server said no, or what it said cannot be parsed
            self._defer(folder.uid_validity, uid, _reason(error))
            return False
        # one mail must not keep the others from being read
        except Exception as error:  # noqa: BLE001
            cause = error.__cause__ or error
            log.fault("imap", cause)
            self._defer(folder.uid_validity, uid, describe_unexpected_error(cause))
            return False
        if late:
            with _storing():
                self._door.record_late_fetch(
                    _reference(self._box.key, folder.uid_validity, uid), number
                )
                self._faults.delete([item])
            log.mailbox_notice(self._box.key, "a mail that could not be fetched was fetched", uid)
        return True

    def _select(self, client: ImapClient) -> SelectedFolder:
        folder = select_folder(client, self._box)
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
        if (
            saved
        ):  # the server numbered everything anew: all of it again, the intake knows what it has
            log.mailbox_notice(self._box.key, "UIDVALIDITY changed: reading everything again")
            self._save(uid_validity, 0)
        return Checkpoint(uid_validity, 0)

    def _save(self, uid_validity: int, uid: int) -> None:
        with _storing():
            self._door.checkpoints.save(self._box.key, Checkpoint(uid_validity, uid))

    def _take(self, client: ImapClient, folder: SelectedFolder, uid: int, size: int | None) -> int:
        """Fetch one mail, store it, only then mark it; return its delivery.

        Raises GoneError when it is no longer in the mailbox.
        """
        fetched = None
        octets = fetch_size(client, uid) if size is None else size
        if octets is not None:
            fetched = fetch_mail(client, uid, octets, self._door.settings.mail_limit)
        if fetched is None:
            if is_mail_there(client, uid):
                raise IMAPClientError("no text in the answer")
            raise GoneError
        envelope: dict[str, object] = {
            "mailbox": self._box.key,
            "uid": uid,
            "uid_validity": folder.uid_validity,
        }
        if fetched.omitted is not None:
            place = self._box.move_to if self._box.move_to and folder.markable else self._box.folder
            envelope["oversized"] = fetched.omitted.octets
            envelope["left_out"] = {
                **fetched.omitted.to_json(),
                "limit": self._door.settings.mail_limit,
                "original": f"{self._box.user}@{self._box.host}/{place}",
            }
        number = self._accept(fetched.raw, envelope)
        if folder.markable:
            self._mark(client, uid)
        return number

    def _accept(self, raw: bytes, envelope: dict[str, object]) -> int:
        arrival = Arrival(
            transport=Transport.IMAP,
            format=Format.MAIL,
            raw=raw,
            envelope=envelope,
            reference=_reference(self._box.key, envelope["uid_validity"], envelope["uid"]),
        )
        try:
            return self._door.accept(arrival)
        except (*DATABASE_UNAVAILABLE, OSError) as error:
            raise NotStoredError from error
        except Exception as error:
            raise MailNotStorableError from error

    @contextmanager
    def _patience(
        self, folder: SelectedFolder, uid: int, *, at_once: bool = False
    ) -> Iterator[None]:
        """Count connections lost over one mail.

        With patience at an end have it fetched later, and go on behind it.
        """
        try:
            yield
        except (IMAPClientAbortError, OSError) as error:
            last, failures = self._stuck
            self._stuck = (uid, failures + 1 if last == uid else 1)
            if at_once or self._stuck[1] >= MAX_LOST_CONNECTIONS:
                self._defer(folder.uid_validity, uid, _reason(error))
                if not at_once:
                    self._save(folder.uid_validity, uid)
            raise

    def _defer(self, uid_validity: int, uid: int, reason: str) -> None:
        """Remember durably that a mail is to be fetched again; it stays in the mailbox unmarked."""
        with _storing():
            attempts = self._faults.record(f"{uid_validity}/{uid}", reason)
        if attempts == 1:  # `intake status` says so as long as it lasts
            log.mailbox_notice(self._box.key, "a mail could not be fetched: it is tried again", uid)

    def _mark(self, client: ImapClient, uid: int) -> None:
        """Mark a stored mail; a server that says no is noted and does not stop the reading."""
        try:
            mark_handled(client, uid, self._box)
        except IMAPClientAbortError:
            raise
        except IMAPClientError:
            self._note("mail was stored but could not be marked")

    def _note(self, fact: str) -> None:
        """Once a process: the same every scan would bury the log."""
        if fact not in self._noted:
            self._noted.add(fact)
            log.mailbox_notice(self._box.key, fact)


@contextmanager
def _storing() -> Iterator[None]:
    """Tell the ledger's OSError from the socket's."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise NotStoredError from error


# -- all mailboxes ----


def serve(door: ReaderContext) -> None:
    """Read every mailbox that is the door's until it stops; at once if there is none.

    Each reader finishes the mail in hand and logs out. Raises SettingsError as `list_mailboxes` does.
    """
    read_mailboxes(list_mailboxes(door.settings), door)


def read_mailboxes(boxes: tuple[Mailbox, ...], door: ReaderContext) -> None:
    """One thread a mailbox, until the door stops."""
    threads = [
        Thread(target=MailboxReader(box, door).run, name=f"imap {box.key}", daemon=True)
        for box in boxes
    ]
    for thread in threads:
        thread.start()
    if threads:
        door.stop.wait()
    until = time.monotonic() + GRACE_SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
