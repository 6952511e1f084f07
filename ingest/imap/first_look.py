"""First look into a mailbox: how much of the mail that lies there already is read.

A mailbox that has served for years must not become thousands of tickets. The first look therefore
sets a boundary, the highest UID at that moment. Mail above it is always read; of the mail up to it,
only what the setting INTAKE_IMAP_SINCE asks for. The rest stays in the mailbox, is counted, and can
be imported (`older_mail`). The boundary is saved before any mail is read, so that a crash does not
move it beyond mail that arrived meanwhile. "From now on" begins at the first unread mail of the
last hour: a mailbox is often connected just after its first mail has come (docs/decisions/0032).

A folder that is not new to us is no first look: after a change of UIDVALIDITY, a renaming or a move
to another server, what arrived since is found by its date.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

from ingest.imap.connection import SEARCH_WINDOW, ImapClient, SelectedFolder
from workflow.settings.settings import SINCE_ALL, SINCE_NOW, Mailbox, Settings

DATES_BATCH = 1000  # UIDs in one command that fetches their dates
# Days that a mail may have been on its way. One that arrived in the folder since, but was sent
# before that, has been copied there by a person or by a server that does not keep dates.
MAX_TRANSIT = timedelta(days=30)
# Servers take a mail without a Date field for one of 1970: then the dates of arrival decide.
EARLIEST = date(1980, 1, 1)
# For clocks that differ, and mail that arrived while the last look was being made.
OVERLAP = timedelta(days=1)
# "From now on" begins with the mails of so long before that nobody has read.
GRACE = timedelta(hours=1)
# A mailbox that nobody has read for longer does not go on under another name.
MAX_GAP = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Position in a mailbox: every UID up to `last_uid` is stored, gone, or left there on purpose.

    Valid as long as the folder has this UIDVALIDITY (RFC 3501 §2.3.1.1). Of the mail up to UID
    `boundary`, what arrived before `since` is left in the mailbox; None: nothing is.
    `older_count` is the number of mails left; None while they are not counted yet.
    """

    uid_validity: int
    last_uid: int
    boundary: int = 0
    since: datetime | None = None
    older_count: int | None = 0


@dataclass(frozen=True, slots=True)
class Predecessor:
    """A mailbox that is not in the settings any more, and may be the same under another name.

    `looked_at` is when it was last read completely; None when that is not known.
    """

    host: str
    folder: str
    key: str
    checkpoint: Checkpoint
    looked_at: datetime | None


def start(
    client: ImapClient,
    folder: SelectedFolder,
    box: Mailbox,
    settings: Settings,
    predecessors: Iterable[Predecessor],
    now: datetime,
) -> tuple[Checkpoint, Predecessor | None]:
    """Return where to begin in a mailbox without a checkpoint, and the mailbox it continues.

    A mailbox of the same user goes on where it was when it has the same UIDVALIDITY (a renamed
    folder, or the same server by another name). With other numbers it is read from a day before
    the last look, unless the settings ask for more. Both host and folder changed: a new mailbox.
    """
    since, last = box.since or settings.imap_since, find_last_uid(client, folder)
    related = [one for one in predecessors if (one.host == box.host) != (one.folder == box.folder)]
    for one in related:
        known = one.checkpoint
        if known.uid_validity == folder.uid_validity and known.last_uid <= last:
            return known, one
    if since == SINCE_ALL:
        return Checkpoint(folder.uid_validity, 0), None
    if since != SINCE_NOW:
        begin = datetime.combine(
            date.fromisoformat(since), time(), ZoneInfo(settings.time_zone)
        ).astimezone(UTC)
        return Checkpoint(folder.uid_validity, 0, last, begin, None), None
    looks = [one for one in related if one.looked_at and now - one.looked_at <= MAX_GAP]
    if latest := max(looks, key=lambda one: one.looked_at or now, default=None):
        assert latest.looked_at is not None
        begin = latest.looked_at - OVERLAP
        return Checkpoint(folder.uid_validity, 0, last, begin, None), latest
    return _start_now(client, folder, last, now), None


def _start_now(client: ImapClient, folder: SelectedFolder, last: int, now: datetime) -> Checkpoint:
    """Return the checkpoint of a first look that begins at the first unread mail of an hour ago."""
    unread = client.search(["UNSEEN", "SINCE", (now - GRACE - OVERLAP).date()])
    uids = sorted(uid for uid in unread if uid <= last)
    older = find_older(client, uids, now - GRACE)
    fresh = fetch_dates(client, [uid for uid in uids if uid not in older])
    if not fresh:
        return Checkpoint(folder.uid_validity, last, last, now, None)
    return Checkpoint(folder.uid_validity, min(fresh) - 1, last, min(fresh.values()), None)


def restart(client: ImapClient, folder: SelectedFolder, known: Checkpoint) -> Checkpoint:
    """Return where to begin after a change of UIDVALIDITY: all UIDs are new.

    Everything that arrived since the first look is read again, and the intake recognises what it
    has. What was left in the mailbox stays there.
    """
    if known.since is None:
        return Checkpoint(folder.uid_validity, 0)
    return Checkpoint(folder.uid_validity, 0, find_last_uid(client, folder), known.since, None)


def count_older(client: ImapClient, folder: SelectedFolder, checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with the number of mails that are left in the mailbox.

    After a first look that leaves everything, `since` becomes the second after the newest of them,
    by the clock of the mail server: it decides after a change of UIDVALIDITY.
    """
    uids = list_uids_up_to(client, folder, checkpoint.boundary)
    if checkpoint.since is None or not uids:
        return replace(checkpoint, since=None, older_count=0)
    if checkpoint.last_uid < checkpoint.boundary:
        return replace(checkpoint, older_count=len(find_older(client, uids, checkpoint.since)))
    dates = fetch_dates(client, uids)
    since = max(dates.values(), default=checkpoint.since) + timedelta(seconds=1)
    return replace(checkpoint, since=since, older_count=len(uids))


def find_older(client: ImapClient, uids: Sequence[int], since: datetime) -> set[int]:
    """Return those of some ascending UIDs that arrived before `since`, or were sent long before.

    One whose date the server does not give is not among them.
    """
    older: set[int] = set()
    for batch in _split(uids):
        arrived_at = fetch_dates(client, batch)
        older |= {uid for uid, at in arrived_at.items() if at < since}
        sent_before = ["SENTSINCE", EARLIEST, "SENTBEFORE", (since - MAX_TRANSIT).date()]
        try:
            sent = client.search(["UID", f"{batch[0]}:{batch[-1]}", *sent_before])
        except IMAPClientAbortError:
            raise
        except IMAPClientError:  # a server without this search: the dates of arrival decide
            continue
        older |= set(sent) & set(batch)
    return older


def fetch_dates(client: ImapClient, uids: Sequence[int]) -> dict[int, datetime]:
    """Return when mails arrived in the folder (INTERNALDATE), without those not given."""
    dates: dict[int, datetime] = {}
    for batch in _split(uids):
        for uid, fields in client.fetch(batch, ["INTERNALDATE"]).items():
            at = fields.get(b"INTERNALDATE")
            if isinstance(at, datetime):
                dates[uid] = at.astimezone(UTC)
    return dates


def list_uids_up_to(client: ImapClient, folder: SelectedFolder, boundary: int) -> list[int]:
    """Return the UIDs from 1 to the boundary, ascending, in commands of a bounded answer."""
    if not (folder.exists and boundary):
        return []
    step = boundary if folder.exists <= SEARCH_WINDOW else SEARCH_WINDOW
    uids: set[int] = set()
    for low in range(1, boundary + 1, step):
        high = min(low + step - 1, boundary)
        uids.update(uid for uid in client.search(["UID", f"{low}:{high}"]) if low <= uid <= high)
    return sorted(uids)


def find_last_uid(client: ImapClient, folder: SelectedFolder) -> int:
    """Return the highest UID that the folder may have now; 0 when it never had a mail.

    A server may leave UIDNEXT out of its answer to SELECT (RFC 3501 §6.3.1).
    """
    if folder.uid_next:
        return folder.uid_next - 1
    return max(client.search(["UID", "*"]), default=0) if folder.exists else 0


def _split(uids: Sequence[int]) -> Iterator[list[int]]:
    """Yield UIDs in as many as one command asks for."""
    for at in range(0, len(uids), DATES_BATCH):
        yield list(uids[at : at + DATES_BATCH])
