"""Row locks: keep a row to one transaction while it decides by what the row says."""

from sqlalchemy.orm import Session


def lock_ticket(session: Session, row: object) -> None:
    """Lock a mapped row until the transaction ends, and reload it as it is now.

    Whoever decides by what a ticket has reached must see what another transaction recorded a moment
    ago: two milestones at once would each find the other missing, and the ticket would stay where
    it is. What the session has not written yet is flushed first.
    """
    session.flush()  # a refresh forgets what is not written yet
    # FOR NO KEY UPDATE: rows that only refer to this one by its key need not wait
    session.refresh(row, with_for_update={"key_share": True})
