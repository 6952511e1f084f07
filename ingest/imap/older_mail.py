"""Older mail of a mailbox: what a first look would take, and the import of what it has left there.

An imported mail is stored like any other, and becomes a completed ticket with its own date, without
notices and deadlines (`workflow.filing.file_item`). The mailbox itself is left as it is. A mail
that is stored already is recognised, so an import that was interrupted is simply run again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from ingest.imap import first_look
from ingest.imap.checkpoints import StoredCheckpoints
from ingest.imap.connection import (
    FetchedMail,
    ImapClient,
    LoginRefusedError,
    SelectedFolder,
    connect,
    fetch_mail,
    fetch_size,
    list_uids_above,
    log_in,
    select_folder,
)
from ingest.imap.first_look import Checkpoint
from ingest.imap.mailboxes import list_mailboxes
from ingest.imap.oauth2 import AccessTokens
from ingest.imap.reader import (
    FAILURE_REASONS,
    NotStoredError,
    explain_failure,
    make_arrival,
    make_reference,
)
from ingest.imap.token_store import DatabaseTokenStore
from ingest.intake import Accept, Arrival
from workflow.context import AppContext
from workflow.models.core import Receipt
from workflow.settings.settings import Mailbox

TIMEOUT = 30.0  # seconds a server may take for one answer


class MailboxError(Exception):
    """A mailbox cannot be read now; its text says why. `is_permanent`: only a person helps."""

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent


@dataclass(frozen=True, slots=True)
class FirstLook:
    """The number of mails that the reader would take from a mailbox now, and leave there.

    `is_known`: the mailbox was looked into before, and is read on from there.
    """

    mailbox: str
    taken: int
    left: int
    is_known: bool


@dataclass(frozen=True, slots=True)
class OlderMails:
    """Mails that the first look has left in a mailbox.

    `coming` is the number of those an import brings, `known` of those that are stored already,
    `failed` of those that could not be fetched. `oldest` and `newest` are dates of what comes.
    """

    mailbox: str
    coming: int
    known: int
    oldest: datetime | None = None
    newest: datetime | None = None
    failed: int = 0


def preview_first_look(context: AppContext, box: Mailbox, since: str = "") -> FirstLook:
    """Return how many mails the reader would take from a mailbox now, without taking any.

    `since` stands for the setting, "" for the setting itself. Raises MailboxError.
    """
    checkpoints = StoredCheckpoints(context.store)
    known = checkpoints.load(box.key)
    in_use = {one.key for one in list_mailboxes(context.settings)}
    with _open_folder(context, box) as (client, folder):
        if known is None or since:
            predecessors = [] if since else checkpoints.list_predecessors(box, in_use)
            looked_at = box.model_copy(update={"since": since or box.since})
            begun, _ = first_look.start(
                client, folder, looked_at, context.settings, predecessors, context.clock()
            )
        elif known.uid_validity != folder.uid_validity:
            begun = first_look.restart(client, folder, known)
        else:
            begun = known
        if begun.older_count is None:
            begun = first_look.count_older(client, folder, begun)
        taken = _count_to_take(client, folder, begun)
    return FirstLook(box.key, taken, begun.older_count or 0, is_known=known is not None)


def _count_to_take(client: ImapClient, folder: SelectedFolder, checkpoint: Checkpoint) -> int:
    """Return the number of mails behind a checkpoint that are read."""
    count, last = 0, checkpoint.last_uid
    while uids := list_uids_above(client, last, folder.uid_next):
        last = uids[-1]
        count += len(uids) - len(_find_left(client, uids, checkpoint))
    return count


def _find_left(client: ImapClient, uids: Sequence[int], checkpoint: Checkpoint) -> set[int]:
    """Return those of some UIDs that the first look leaves in the mailbox."""
    if checkpoint.since is None:
        return set()
    up_to_boundary = [uid for uid in uids if uid <= checkpoint.boundary]
    return first_look.find_older(client, up_to_boundary, checkpoint.since)


def preview_import(context: AppContext, box: Mailbox, since: datetime | None = None) -> OlderMails:
    """Return how many mails an import would bring, without bringing any.

    With `since` only what arrived in the mailbox from then on. Raises MailboxError.
    """
    with _open_folder(context, box) as (client, folder):
        dates, known = _list_older(context, client, folder, box, since)
    return _summarize(box, dates, known)


def run_import(
    context: AppContext,
    box: Mailbox,
    accept: Accept,
    since: datetime | None = None,
    step: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> OlderMails:
    """Store the older mails of a mailbox, those that arrived since a time or all of them.

    `step` is called with the number of mails done and of all. Raises MailboxError when the
    connection is lost, NotStoredError when a mail cannot be stored: what was stored until then
    stays, and the next run goes on behind it.
    """
    failed = 0
    with _open_folder(context, box) as (client, folder):
        dates, known = _list_older(context, client, folder, box, since)
        # in the order of their arrival, so that an answer finds the ticket of what it answers
        for done, (uid, arrived_at) in enumerate(dates.items(), 1):
            mail = _fetch(context, client, uid)
            if mail is None:
                failed += 1
            else:
                limit = context.settings.mail_limit
                _store(accept, make_arrival(box, folder, uid, mail, limit), arrived_at)
            step(done, len(dates))
        left, _ = _list_older(context, client, folder, box, None)
        checkpoints = StoredCheckpoints(context.store)
        checkpoints.save_older_count(box.key, folder.uid_validity, len(left))
    return replace(_summarize(box, dates, known), failed=failed)


def _store(accept: Accept, arrival: Arrival, arrived_at: datetime) -> None:
    """Store a mail as an imported one. Raises NotStoredError."""
    imported = {"arrived_at": arrived_at.isoformat()}
    try:
        accept(replace(arrival, envelope={**arrival.envelope, "imported": imported}))
    except (SQLAlchemyError, OSError) as error:  # its OSError is none of the mail server
        raise NotStoredError from error


def _fetch(context: AppContext, client: ImapClient, uid: int) -> FetchedMail | None:
    """Fetch a mail; None where it is gone or the server does not give it.

    Raises IMAPClientAbortError or OSError when the connection is lost.
    """
    try:
        size = fetch_size(client, uid)
        if size is None:
            return None
        return fetch_mail(client, uid, size, context.settings.mail_limit)
    except IMAPClientAbortError:
        raise
    except (IMAPClientError, ValueError):
        return None


def _list_older(
    context: AppContext,
    client: ImapClient,
    folder: SelectedFolder,
    box: Mailbox,
    since: datetime | None,
) -> tuple[dict[int, datetime], int]:
    """Return the mails that an import brings, and the number of those that are stored already.

    The mails are dates of arrival by UID, ascending. Raises MailboxError where the reader has not
    looked into the folder yet.
    """
    checkpoint = StoredCheckpoints(context.store).load(box.key)
    if checkpoint is None or checkpoint.uid_validity != folder.uid_validity:
        raise MailboxError(
            "it was not looked into yet, or has new numbers since: start `intake imap` first."
            " `intake imap --dry-run` shows what that would take",
            is_permanent=True,
        )
    uids = first_look.list_uids_up_to(client, folder, checkpoint.boundary)
    left = _find_left(client, uids, checkpoint)
    dates = first_look.fetch_dates(client, sorted(left))
    if since is not None:
        dates = {uid: at for uid, at in dates.items() if at >= since}
    stored = _list_stored(context, box, folder)
    coming = {uid: at for uid, at in sorted(dates.items()) if uid not in stored}
    return coming, len(dates) - len(coming)


def _list_stored(context: AppContext, box: Mailbox, folder: SelectedFolder) -> set[int]:
    """Return the UIDs of the mails of a folder that were stored."""
    prefix = make_reference(box.key, folder.uid_validity, "")
    references = select(Receipt.reference).where(
        Receipt.reference.startswith(prefix, autoescape=True)
    )
    with context.store.read_only() as session:
        numbers = [one.removeprefix(prefix) for one in session.scalars(references)]
    return {int(number) for number in numbers if number.isdecimal()}


def _summarize(box: Mailbox, dates: dict[int, datetime], known: int) -> OlderMails:
    """Return the numbers of an import."""
    oldest, newest = min(dates.values(), default=None), max(dates.values(), default=None)
    return OlderMails(box.key, len(dates), known, oldest, newest)


@contextmanager
def _open_folder(context: AppContext, box: Mailbox) -> Iterator[tuple[ImapClient, SelectedFolder]]:
    """Yield a connection with the folder of a mailbox selected. Raises MailboxError."""
    store = DatabaseTokenStore(context, box) if box.oauth2 else None
    tokens = AccessTokens(box.oauth2, store) if box.oauth2 else None
    # only looked at: nothing in the mailbox is marked or moved
    looked_at = box.model_copy(update={"flag": "", "move_to": ""})
    try:
        with connect(box, TIMEOUT) as client:
            log_in(client, box, tokens)
            yield client, select_folder(client, looked_at)
    except tuple(FAILURE_REASONS) as error:
        is_refused = isinstance(error, LoginRefusedError)
        raise MailboxError(explain_failure(error), is_permanent=is_refused) from error
