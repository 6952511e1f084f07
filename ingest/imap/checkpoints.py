"""Database table of how far each mailbox has been read."""

from collections.abc import Collection

from sqlalchemy import select, update

from ingest.imap.first_look import Checkpoint, Predecessor
from workflow.database.engine import Store
from workflow.models.core import Heartbeat, MailboxCheckpoint
from workflow.settings.settings import Mailbox


class StoredCheckpoints:
    """Checkpoints kept in the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, mailbox: str) -> Checkpoint | None:
        """Return the checkpoint of a mailbox; None when it was never read."""
        with self._store.read_only() as session:
            row = session.get(MailboxCheckpoint, mailbox)
        return _build(row) if row else None

    def save(self, mailbox: str, checkpoint: Checkpoint) -> None:
        """Record how far the mailbox has been read."""
        with self._store.transaction() as session:
            session.merge(
                MailboxCheckpoint(
                    mailbox=mailbox,
                    uid_validity=checkpoint.uid_validity,
                    last_uid=checkpoint.last_uid,
                    boundary=checkpoint.boundary,
                    since=checkpoint.since,
                    older_count=checkpoint.older_count,
                )
            )

    def save_older_count(self, mailbox: str, uid_validity: int, count: int) -> None:
        """Record how many mails are left in a mailbox; a reader may go on in it meanwhile."""
        of_folder = (
            MailboxCheckpoint.mailbox == mailbox,
            MailboxCheckpoint.uid_validity == uid_validity,
        )
        with self._store.transaction() as session:
            session.execute(update(MailboxCheckpoint).where(*of_folder).values(older_count=count))

    def list_predecessors(self, box: Mailbox, in_use: Collection[str]) -> list[Predecessor]:
        """Return the mailboxes of the same user that were read before, without those in use."""
        prefix = f"{box.user}@"
        query = (
            select(MailboxCheckpoint, Heartbeat.at)
            .outerjoin(Heartbeat, Heartbeat.name == MailboxCheckpoint.mailbox)
            .where(MailboxCheckpoint.mailbox.startswith(prefix, autoescape=True))
        )
        predecessors = []
        with self._store.read_only() as session:
            for row, looked_at in session.execute(query):
                host, _, folder = row.mailbox.removeprefix(prefix).partition("/")
                # LIKE of SQLite ignores case
                if row.mailbox.startswith(prefix) and row.mailbox not in in_use:
                    predecessors.append(
                        Predecessor(host, folder, row.mailbox, _build(row), looked_at)
                    )
        return predecessors


def _build(row: MailboxCheckpoint) -> Checkpoint:
    """Return the checkpoint of a row."""
    return Checkpoint(row.uid_validity, row.last_uid, row.boundary, row.since, row.older_count)
