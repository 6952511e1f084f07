"""IMAP reader: one thread a mailbox stores every mail and marks it only once it is stored.

A mail that the server does not give, or that cannot be stored, is put on the mailbox's list of
mails to fetch again (ItemFaults, in the database), and the mails behind it are read. Only then does
the checkpoint pass it. Nothing is ever stored as a delivery that is not the mail.
"""

import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Protocol

import httpx
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError
from sqlalchemy.exc import SQLAlchemyError

from ingest.imap import first_look
from ingest.imap.connection import (
    FetchedMail,
    ImapClient,
    LoginRefusedError,
    SelectedFolder,
    connect,
    fetch_mail,
    fetch_message_id,
    fetch_size,
    fetch_sizes,
    find_by_message_id,
    is_mail_there,
    list_uids_above,
    log_in,
    mark_handled,
    select_folder,
)
from ingest.imap.first_look import Checkpoint, Predecessor
from ingest.imap.mailboxes import list_mailboxes
from ingest.imap.oauth2 import AccessTokens, TokenStore
from ingest.intake import Accept, Arrival, Transport
from parsers.item import Format
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.operations.item_faults import PendingRetry, describe_unexpected_error
from workflow.runtime import log
from workflow.runtime.backoff import Backoff
from workflow.settings.settings import Mailbox, Settings

SIZES_BATCH = 200  # UIDs in one command that fetches their sizes
# connections lost over one mail, spaced by the backoff, before the mails behind it are read
MAX_LOST_CONNECTIONS = 3
# mails of a mailbox to be fetched again; a server that gives even fewer is out of order
MAX_DEFERRED = 1000
SLICE_SECONDS = 0.5  # seconds of IDLE between two checks whether to stop
NUMBERED_ANEW = "the server has numbered its mail anew"
GRACE_SECONDS = 45.0  # seconds a stopping reader has for the mail in hand


class Checkpoints(Protocol):
    """Store of the checkpoints, by mailbox key. Its methods raise SQLAlchemyError or OSError."""

    def load(self, mailbox: str) -> Checkpoint | None:
        """Return the checkpoint saved last; None for a mailbox never read."""
        ...

    def save(self, mailbox: str, checkpoint: Checkpoint) -> None:
        """Save a checkpoint durably before returning."""
        ...

    def save_older_count(self, mailbox: str, uid_validity: int, count: int) -> None:
        """Record how many mails are left in a mailbox, where it still has this UIDVALIDITY."""
        ...

    def list_predecessors(self, box: Mailbox, in_use: Collection[str]) -> list[Predecessor]:
        """Return the mailboxes of the same user that were read before, without those in use."""
        ...


class DeferredMails(Protocol):
    """The mails of one mailbox to be fetched again (workflow.operations.item_faults.ItemFaults).

    Every method raises SQLAlchemyError or OSError when it cannot.
    """

    def record(self, item: str, reason: str, *, message_id: str = "", soon: bool = False) -> int:
        """Record durably that a mail could not be taken; return the attempts so far.

        With `soon` it may be fetched at once, and the attempt does not count.
        """
        ...

    def list_pending(self) -> list[PendingRetry]:
        """Return what is to be tried again, the earliest first."""
        ...

    def delete(self, items: Iterable[str]) -> None:
        """Delete mails that were taken or are gone."""
        ...

    def get_time(self) -> datetime:
        """Return the time that `not_before` is compared with."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryTiming:
    """Seconds: how long a server may take, and the backoff after a failure."""

    timeout: float = 30.0
    first_pause: float = 1.0
    max_pause: float = 60.0
    refused_pause: float = 60.0  # servers lock accounts after too many failed logins
    max_refused_pause: float = 300.0

    def compute_pause(self, failures: int, *, is_refused: bool) -> float:
        """Return the seconds to wait after so many failures in a row.

        Jittered, so that not all mailboxes of a host return at once.
        """
        first, cap = (
            (self.refused_pause, self.max_refused_pause)
            if is_refused
            else (self.first_pause, self.max_pause)
        )
        backoff = Backoff(timedelta(seconds=first), timedelta(seconds=cap), jitter=0.5)
        return backoff.seconds(failures)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderContext:
    """The parts and settings that all readers of a process share.

    - `record_look` is called with a mailbox's key after each complete look at it.
    - `is_assigned` returns whether this process is the one to read the mailbox of a key now.
    - `get_deferred` returns the list of a mailbox's mails to be fetched again.
    - `record_late_fetch` is called with reference and delivery of each of those once stored.
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
    # None: its refresh token is not stored
    get_token_store: Callable[[Mailbox], TokenStore | None] = lambda _box: None


class GoneError(Exception):
    """The mail is no longer in the mailbox."""


class MailNotStorableError(Exception):
    """The intake cannot store this mail, but could store others."""


class NotStoredError(Exception):
    """The database could not store what was read; the mail stays as it is."""


# -- one mailbox ----

FAILURE_REASONS: Mapping[type[Exception], str] = {  # the first that fits is used
    LoginRefusedError: "login refused",
    LoginError: "login not possible now",
    ssl.SSLCertVerificationError: "certificate not trusted",
    httpx.HTTPError: "no answer from the token endpoint",
    socket.gaierror: "host unknown",
    OSError: "not reachable",
    IMAPClientAbortError: "connection lost",
    IMAPClientError: "the server refused",
    ValueError: "an answer of the server cannot be read",
}


def explain_failure(error: Exception) -> str:
    """Return why the server did not serve us, in fixed words; "" when it was not the server."""
    return next((words for kind, words in FAILURE_REASONS.items() if isinstance(error, kind)), "")


def make_reference(mailbox: str, uid_validity: object, uid: object) -> str:
    """Return the reference of a mail, as its receipt has it."""
    return f"{mailbox};{uid_validity}/{uid}"


def make_arrival(
    box: Mailbox, folder: SelectedFolder, uid: int, mail: FetchedMail, limit: int
) -> Arrival:
    """Return what the intake stores of a mail; `limit` is the setting it was fetched with."""
    envelope: dict[str, object] = {
        "mailbox": box.key,
        "uid": uid,
        "uid_validity": folder.uid_validity,
    }
    if mail.omitted is not None:
        place = box.move_to if box.move_to and folder.markable else box.folder
        envelope["oversized"] = mail.omitted.octets
        envelope["left_out"] = {
            **mail.omitted.to_json(),
            "limit": limit,
            "original": f"{box.user}@{box.host}/{place}",
        }
    return Arrival(
        transport=Transport.IMAP,
        format=Format.MAIL,
        raw=mail.raw,
        envelope=envelope,
        reference=make_reference(box.key, folder.uid_validity, uid),
    )


class MailboxReader:
    """Reads one mailbox until `stop` is set; survives whatever the server does."""

    def __init__(self, box: Mailbox, context: ReaderContext) -> None:
        self._box = box
        self._context = context
        self._faults = context.get_deferred(box.key)
        self._tokens = (
            AccessTokens(box.oauth2, context.get_token_store(box)) if box.oauth2 else None
        )
        self._checkpoint = Checkpoint(0, 0)  # of the folder as selected last
        self._failures = 0  # in a row
        self._lost_connections = (0, 0)  # the UID over which connections were lost, and how many
        self._logged_facts: set[str] = set()

    def run(self) -> None:
        """Connect and read, again and again, until `stop` is set.

        Waits while another process is the one to read this mailbox.
        """
        while not self._context.stop.is_set():
            if not self._context.is_assigned(self._box.key):
                self._context.stop.wait(SLICE_SECONDS)
                continue
            try:
                self._run_session()
            # the top loop: no fault may end the reader of a mailbox
            except Exception as error:  # noqa: BLE001
                self._context.stop.wait(self._log_failure(error))

    def _log_failure(self, error: Exception) -> float:
        """Log a failure in fixed words; return the seconds to wait."""
        self._failures += 1
        pause = self._context.timing.compute_pause(
            self._failures, is_refused=isinstance(error, LoginRefusedError)
        )
        reason = explain_failure(error)
        if isinstance(error, NotStoredError):
            log.delivery_not_stored(Transport.IMAP, error.__cause__ or error)
        elif reason:
            log.mailbox_failed(self._box.key, reason, pause)
        else:
            log.fault("imap", error)
        return pause

    def _run_session(self) -> None:
        """Read over one connection until it fails or the reader is to stop."""
        context, key = self._context, self._box.key
        with connect(self._box, context.timing.timeout) as client:
            self._log_in(client)
            self._create_target(client)
            log.listener_started("imap", key)
            while self._may_go_on():
                while self._may_go_on() and self._read_folder(client):
                    pass
                if self._may_go_on():
                    with _convert_database_errors():
                        context.record_look(key)
                    self._failures = 0
                    self._wait(client)

    def _log_in(self, client: ImapClient) -> None:
        """Log in. Raises NotStoredError when a rotated token cannot be recorded."""
        try:
            log_in(client, self._box, self._tokens)
        except SQLAlchemyError as error:  # a rotated token could not be stored
            raise NotStoredError from error

    def _may_go_on(self) -> bool:
        """Return whether to go on: not stopped, and still the process that reads this mailbox."""
        return not self._context.stop.is_set() and self._context.is_assigned(self._box.key)

    def _create_target(self, client: ImapClient) -> None:
        """Create the folder that mail is to be moved to."""
        try:
            if self._box.move_to and not client.folder_exists(self._box.move_to):
                client.create_folder(self._box.move_to)
        except IMAPClientAbortError:
            raise
        except IMAPClientError:
            self._log_once("the folder to move mail to cannot be made")

    def _wait(self, client: ImapClient) -> None:
        """Wait until mail is announced, a poll or a deferred mail is due, or `stop` is set."""
        settings, stop = self._context.settings, self._context.stop
        seconds = min(
            settings.imap_idle_seconds, settings.imap_poll_seconds, self._compute_seconds_to_retry()
        )
        if client.has_announced():
            seconds = min(seconds, SLICE_SECONDS)
        if not client.has_capability("IDLE"):
            stop.wait(seconds)
            return
        until = time.monotonic() + seconds
        client.idle()
        while self._may_go_on() and (left := until - time.monotonic()) > 0:
            if client.wait_for_mail(min(left, SLICE_SECONDS)):
                break
        client.idle_done()

    def _compute_seconds_to_retry(self) -> float:
        """Return the seconds until a mail may be fetched again; infinity when there is none."""
        with _convert_database_errors():
            pending, now = self._faults.list_pending(), self._faults.get_time()
        if not pending:
            return float("inf")
        return 0.0 if pending[0].is_due(now) else (pending[0].not_before - now).total_seconds()

    def _read_folder(self, client: ImapClient) -> bool:
        """Read new mails and those that are due again; return True when there were new ones.

        Selects the folder each time: it costs a round trip, and no change of UIDVALIDITY goes
        unseen.
        """
        folder = self._select(client)
        checkpoint = self._resume(client, folder)
        client.has_announced()  # discards the count that SELECT itself returned
        uids = list_uids_above(client, checkpoint.last_uid, folder.uid_next)
        older = self._find_older(client, uids)
        all_read = self._read_new(client, folder, [uid for uid in uids if uid not in older])
        if older and all_read:
            self._save(uids[-1])
        # after the new ones, so that a mail that breaks the session delays none of them
        self._fetch_again(client, folder)
        if not all_read and self._count_deferred() >= MAX_DEFERRED:
            # the connection's backoff serves for all of them
            raise IMAPClientError("too many mails are refused")
        return bool(uids)

    def _find_older(self, client: ImapClient, uids: list[int]) -> set[int]:
        """Return the mails that the first look leaves in the mailbox."""
        checkpoint = self._checkpoint
        if checkpoint.since is None:
            return set()
        up_to_boundary = [uid for uid in uids if uid <= checkpoint.boundary]
        return first_look.find_older(client, up_to_boundary, checkpoint.since)

    def _count_deferred(self) -> int:
        """Return how many mails are to be fetched again."""
        with _convert_database_errors():
            return len(self._faults.list_pending())

    def _read_new(self, client: ImapClient, folder: SelectedFolder, uids: list[int]) -> bool:
        """Read new mails; return False when the list of deferred ones became full."""
        deferred_count = self._count_deferred()
        # after a failure one by one, to find the mail at fault
        step = 1 if self._failures else SIZES_BATCH
        for at in range(0, len(uids), step):
            batch = uids[at : at + step]
            with self._count_losses(folder, batch[0]):
                sizes = fetch_sizes(client, batch)
            for uid in batch:
                if not self._may_go_on() or deferred_count >= MAX_DEFERRED:
                    return False
                deferred_count += not self._take_or_defer(client, folder, uid, sizes.get(uid))
                self._save(uid)
        return True

    def _fetch_again(self, client: ImapClient, folder: SelectedFolder) -> None:
        """Fetch the mails that are due, and all the others as soon as one of them came."""
        ours = f"{folder.uid_validity}/"
        with _convert_database_errors():
            pending = self._faults.list_pending()
        if others := [retry for retry in pending if not retry.item.startswith(ours)]:
            self._renumber(client, ours, others)
            with _convert_database_errors():
                pending = self._faults.list_pending()
        has_recovered = False
        for retry in pending:
            if not self._may_go_on():
                return
            if retry.item.startswith(ours) and (
                has_recovered or retry.is_due(self._faults.get_time())
            ):
                uid = int(retry.item.removeprefix(ours))
                has_recovered |= self._take_or_defer(client, folder, uid, None, late=True)

    def _renumber(self, client: ImapClient, ours: str, others: list[PendingRetry]) -> None:
        """Find mails to be fetched again that have another UID since UIDVALIDITY changed.

        They are found by Message-ID, and fetched unless they are among those that are read again.
        One that is not found is waited for no longer once all of these are read.
        """
        is_read_again = self._checkpoint.last_uid >= self._checkpoint.boundary
        for retry in others:
            uid = find_by_message_id(client, retry.message_id) if retry.message_id else None
            is_left = uid is not None and bool(self._find_older(client, [uid]))
            with _convert_database_errors():
                if is_left:
                    self._faults.record(
                        f"{ours}{uid}", NUMBERED_ANEW, message_id=retry.message_id, soon=True
                    )
                if uid is not None or is_read_again:
                    self._faults.delete([retry.item])

    def _take_or_defer(
        self,
        client: ImapClient,
        folder: SelectedFolder,
        uid: int,
        size: int | None,
        *,
        late: bool = False,
    ) -> bool:
        """Take one mail; one that cannot be had now is deferred. Return False when it was.

        Raises what ends the session, having deferred the mail if it did that several times, and
        NotStoredError when the database takes nothing.
        """
        item = f"{folder.uid_validity}/{uid}"
        try:
            with self._count_losses(folder, uid, at_once=late):
                number = self._take(client, folder, uid, size)
        except GoneError:
            if late:
                log.mailbox_notice(
                    self._box.key, "a mail that could not be fetched is no longer there", uid
                )
                with _convert_database_errors():
                    self._faults.delete([item])
            return True
        except (IMAPClientAbortError, OSError, NotStoredError):
            raise
        except (IMAPClientError, ValueError) as error:
            # the server refused, or its answer cannot be parsed
            message_id = fetch_message_id(client, uid)
            self._defer(folder.uid_validity, uid, explain_failure(error), message_id)
            return False
        # a fault of one mail must not keep the others from being read
        except Exception as error:  # noqa: BLE001
            cause = error.__cause__ or error
            log.fault("imap", cause)
            message_id = fetch_message_id(client, uid)
            self._defer(folder.uid_validity, uid, describe_unexpected_error(cause), message_id)
            return False
        if late:
            with _convert_database_errors():
                self._context.record_late_fetch(
                    make_reference(self._box.key, folder.uid_validity, uid), number
                )
                self._faults.delete([item])
            log.mailbox_notice(self._box.key, "a mail that could not be fetched was fetched", uid)
        return True

    def _select(self, client: ImapClient) -> SelectedFolder:
        """Select the folder, and note once when mail in it cannot be marked."""
        folder = select_folder(client, self._box)
        if folder.read_only and (self._box.flag or self._box.move_to):
            self._log_once("the folder is read-only: mail is read and not marked")
        elif not folder.markable and self._box.flag:
            self._log_once("the server keeps no keywords: mail is read and not marked")
        return folder

    def _resume(self, client: ImapClient, folder: SelectedFolder) -> Checkpoint:
        """Return where to go on: at the checkpoint, or at the boundary of a first look.

        A new boundary is saved before any mail is read.
        """
        with _convert_database_errors():
            checkpoint = self._context.checkpoints.load(self._box.key)
        if checkpoint is None:
            checkpoint = self._begin(client, folder)
        elif checkpoint.uid_validity != folder.uid_validity:
            begun = first_look.restart(client, folder, checkpoint)
            # all UIDs are new, and the intake recognises what it has
            what = "everything" if begun.since is None else "what came since the first look"
            log.mailbox_notice(self._box.key, f"UIDVALIDITY changed: reading {what} again")
            checkpoint = self._store(begun)
        self._checkpoint = checkpoint
        if checkpoint.older_count is None:
            checkpoint = self._store(first_look.count_older(client, folder, checkpoint))
            if checkpoint.older_count:
                log.mailbox_older_left(self._box.key, checkpoint.older_count)
        return checkpoint

    def _begin(self, client: ImapClient, folder: SelectedFolder) -> Checkpoint:
        """Return the checkpoint of a first look, saved.

        Mails to be fetched again of a mailbox that goes on under this name come with it.
        """
        with _convert_database_errors():
            in_use = {box.key for box in list_mailboxes(self._context.settings)}
            predecessors = self._context.checkpoints.list_predecessors(
                self._box, in_use | {self._box.key}
            )
            now = self._faults.get_time()
        checkpoint, continued = first_look.start(
            client, folder, self._box, self._context.settings, predecessors, now
        )
        if continued is not None:
            log.mailbox_notice(self._box.key, f"goes on where {continued.key} was read to")
            self._take_over_deferred(continued, folder.uid_validity)
            with _convert_database_errors():  # it is counted under its new name
                self._context.checkpoints.save_older_count(
                    continued.key, continued.checkpoint.uid_validity, 0
                )
        return self._store(checkpoint)

    def _take_over_deferred(self, continued: Predecessor, uid_validity: int) -> None:
        """Take over the mails to be fetched again of a mailbox that goes on under this name.

        One that cannot be found under its new UID stays with the old name, where it is shown.
        """
        with _convert_database_errors():
            earlier = self._context.get_deferred(continued.key)
            found = [
                retry
                for retry in earlier.list_pending()
                if retry.message_id or retry.item.startswith(f"{uid_validity}/")
            ]
            for retry in found:
                self._faults.record(
                    retry.item, NUMBERED_ANEW, message_id=retry.message_id, soon=True
                )
            earlier.delete([retry.item for retry in found])

    def _save(self, uid: int) -> None:
        """Save that the folder has been read up to a mail."""
        self._store(replace(self._checkpoint, last_uid=uid))

    def _store(self, checkpoint: Checkpoint) -> Checkpoint:
        """Save a checkpoint and return it."""
        with _convert_database_errors():
            self._context.checkpoints.save(self._box.key, checkpoint)
        self._checkpoint = checkpoint
        return checkpoint

    def _take(self, client: ImapClient, folder: SelectedFolder, uid: int, size: int | None) -> int:
        """Fetch one mail, store it, only then mark it; return its delivery.

        Raises GoneError when it is no longer in the mailbox.
        """
        mail = None
        octets = fetch_size(client, uid) if size is None else size
        if octets is not None:
            mail = fetch_mail(client, uid, octets, self._context.settings.mail_limit)
        if mail is None:
            if is_mail_there(client, uid):
                raise IMAPClientError("no text in the answer")
            raise GoneError
        arrival = make_arrival(self._box, folder, uid, mail, self._context.settings.mail_limit)
        number = self._accept(arrival)
        if folder.markable:
            self._mark(client, uid)
        return number

    def _accept(self, arrival: Arrival) -> int:
        """Store a mail. Raises NotStoredError or MailNotStorableError."""
        try:
            return self._context.accept(arrival)
        except (*DATABASE_UNAVAILABLE, OSError) as error:
            raise NotStoredError from error
        except Exception as error:
            raise MailNotStorableError from error

    @contextmanager
    def _count_losses(
        self, folder: SelectedFolder, uid: int, *, at_once: bool = False
    ) -> Iterator[None]:
        """Count the connections lost over one mail.

        After too many of them the mail is deferred, and the next session goes on behind it.
        """
        try:
            yield
        except (IMAPClientAbortError, OSError) as error:
            last, failures = self._lost_connections
            self._lost_connections = (uid, failures + 1 if last == uid else 1)
            if at_once or self._lost_connections[1] >= MAX_LOST_CONNECTIONS:
                self._defer(folder.uid_validity, uid, explain_failure(error))
                if not at_once:
                    self._save(uid)
            raise

    def _defer(self, uid_validity: int, uid: int, reason: str, message_id: str = "") -> None:
        """Record durably that a mail is to be fetched again; it stays in the mailbox unmarked."""
        with _convert_database_errors():
            attempts = self._faults.record(f"{uid_validity}/{uid}", reason, message_id=message_id)
        if attempts == 1:  # `intake status` shows it as long as it lasts
            log.mailbox_notice(self._box.key, "a mail could not be fetched: it is tried again", uid)

    def _mark(self, client: ImapClient, uid: int) -> None:
        """Mark a stored mail; a server that refuses is noted and does not stop the reading."""
        try:
            mark_handled(client, uid, self._box)
        except IMAPClientAbortError:
            raise
        except IMAPClientError:
            self._log_once("mail was stored but could not be marked")

    def _log_once(self, fact: str) -> None:
        """Log a fact once a process: the same at every look would flood the log."""
        if fact not in self._logged_facts:
            self._logged_facts.add(fact)
            log.mailbox_notice(self._box.key, fact)


@contextmanager
def _convert_database_errors() -> Iterator[None]:
    """Raise NotStoredError for the database's errors.

    Its OSError would otherwise be taken for one of the mail server's socket.
    """
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise NotStoredError from error


# -- all mailboxes ----


def serve(context: ReaderContext) -> None:
    """Read all mailboxes until `stop` is set; returns at once when there are none.

    Each reader finishes the mail in hand and logs out. Raises SettingsError as `list_mailboxes`
    does.
    """
    read_mailboxes(list_mailboxes(context.settings), context)


def read_mailboxes(boxes: tuple[Mailbox, ...], context: ReaderContext) -> None:
    """Read each mailbox in a thread of its own until `stop` is set."""
    threads = [
        Thread(target=MailboxReader(box, context).run, name=f"imap {box.key}", daemon=True)
        for box in boxes
    ]
    for thread in threads:
        thread.start()
    if threads:
        context.stop.wait()
    latest = time.monotonic() + GRACE_SECONDS
    for thread in threads:
        thread.join(max(0.0, latest - time.monotonic()))
