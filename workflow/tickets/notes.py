"""Notes of the desk: remarks on a ticket's timeline, never mailed, and caveats that are settled."""

from datetime import datetime

from sqlalchemy.orm import Session

from parsers.item import Format
from workflow.audit import record as audit
from workflow.customers import phone_numbers
from workflow.errors import ActionNotAllowed
from workflow.models.core import Message, Ticket

LONGEST = 20_000  # characters


def add_note(
    session: Session, ticket: Ticket, text: str, *, by: str, email: str = "", now: datetime
) -> Message:
    """Put a note on the timeline; `by` and `email` are its author's.

    Raises ActionNotAllowed when there is nothing in it, or too much.
    """
    clean = "".join(c for c in text.replace("\r\n", "\n") if c.isprintable() or c in "\n\t").strip()
    if not clean:
        raise ActionNotAllowed("the note is empty: write what the next person should know")
    if len(clean) > LONGEST:
        raise ActionNotAllowed(
            f"the note is longer than {LONGEST:,} characters: attach a file to a mail instead"
        )
    note = Message(
        ticket_id=ticket.id,
        direction="note",
        format=Format.PHONE,
        from_name=by,
        from_email=email,
        text=clean,
        reply_text=clean,
        search_words=phone_numbers.build_search_words("", clean, (), Format.PHONE),
        at=now,
    )
    session.add(note)
    session.flush()
    audit.record(session, "note", by=by, cause="note", now=now, ticket=ticket.id, message=note.id)
    return note


def settle_question(
    session: Session, ticket: Ticket, caveat: str, *, by: str, now: datetime
) -> None:
    """Take what was missing off the list of what to ask.

    Raises ActionNotAllowed when it is not on it.
    """
    if caveat not in ticket.caveats:
        raise ActionNotAllowed("that is not on the list any more")
    ticket.caveats = [c for c in ticket.caveats if c != caveat]
    audit.record(session, "settled", by=by, cause="asked", now=now, ticket=ticket.id)
