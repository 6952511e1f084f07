"""Database table of how far each mailbox has been read."""

from ingest.imap.reader import Checkpoint
from workflow.database.engine import Store
from workflow.models.core import MailboxCheckpoint


class StoredCheckpoints:
    """Checkpoints kept in the database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, mailbox: str) -> Checkpoint | None:
        """Return the checkpoint of a mailbox; None when it was never read."""
        with self._store.read_only() as session:
            row = session.get(MailboxCheckpoint, mailbox)
        return Checkpoint(row.uid_validity, row.last_uid) if row else None

    def save(self, mailbox: str, checkpoint: Checkpoint) -> None:
        """Record how far the mailbox has been read."""
        with self._store.transaction() as session:
            values = {"uid_validity": checkpoint.uid_validity, "last_uid": checkpoint.last_uid}
            session.merge(MailboxCheckpoint(mailbox=mailbox, **values))
