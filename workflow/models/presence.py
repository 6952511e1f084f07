"""Tables of people working at the same time: who looks at which ticket, and undoable actions."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from workflow.models.base import Base


class Presence(Base):
    """Time at which a person last had a ticket on the screen, and of its last audit entry."""

    __tablename__ = "presences"
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True)
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"), primary_key=True)
    at: Mapped[datetime]
    audited_at: Mapped[datetime]


class UndoRecord(Base):
    """An action on a ticket, with a snapshot of the ticket before it.

    It can be undone for ten minutes; the row is deleted after a day.
    """

    __tablename__ = "undos"
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), index=True)
    by: Mapped[str] = mapped_column(Text)
    # Label of the action on the page, such as "ticked 4-Support Follow Up Sent".
    words: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]
    audit_id: Mapped[int]  # last audit row of the action: a later row that matters ends the undo
    before: Mapped[dict[str, Any]]
    undone_at: Mapped[datetime | None]
