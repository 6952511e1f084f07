"""Tables of people at work on one desk: who looks at which ticket, and what they can take back."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from workflow.models.base import Base


class Presence(Base):
    """When a person last had a ticket on the screen, and when the audit trail last said so."""

    __tablename__ = "presences"
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), primary_key=True)
    staff_id: Mapped[int] = mapped_column(ForeignKey("staff.id"), primary_key=True)
    at: Mapped[datetime]
    audited_at: Mapped[datetime]


class UndoRecord(Base):
    """What a person did to a ticket, with a picture of the ticket before it.

    Kept a day, good for ten minutes.
    """

    __tablename__ = "undos"
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), index=True)
    by: Mapped[str] = mapped_column(Text)
    words: Mapped[str] = mapped_column(
        Text
    )  # what was done, as the page says it: "ticked 4-Support Follow Up Sent"
    at: Mapped[datetime]
    audit_id: Mapped[
        int
    ]  # the last audit row of what was done: one that matters after it ends the undo
    before: Mapped[dict[str, Any]]
    undone_at: Mapped[datetime | None]
