"""How far each mailbox has been read, in our own database."""

from ingest.imap.reader import Checkpoint
from workflow.database.engine import Store
from workflow.models.core import MailboxCheckpoint


class StoredCheckpoints:
    """Checkpoints that survive everything the database survives."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, mailbox: str) -> Checkpoint | None:
        """The checkpoint of a mailbox; None if it was never read."""
        with self._store.read_only() as session:
            row = session.get(MailboxCheckpoint, mailbox)
        return Checkpoint(row.uid_validity, row.last_uid) if row else None

    def save(self, mailbox: str, checkpoint: Checkpoint) -> None:
        """Put down how far the mailbox has been read."""
        with self._store.transaction() as session:
            values = {"uid_validity": checkpoint.uid_validity, "last_uid": checkpoint.last_uid}
            session.merge(MailboxCheckpoint(mailbox=mailbox, **values))
