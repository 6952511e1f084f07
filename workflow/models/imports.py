"""The tables of what was moved in: each import, and what has become of each of its rows."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from workflow.models.base import Base
from workflow.models.states import RowOutcome


class Import(Base):
    """One file moved in by a person.

    Unfinished while `finished_at` is empty, and then gone on with.
    """

    __tablename__ = "imports"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))  # tickets, companies or contacts
    digest: Mapped[str] = mapped_column(
        String(64), index=True
    )  # SHA-256 of the file, by which it is known again
    rows: Mapped[int]
    by: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    undone_at: Mapped[datetime | None]


class ImportRow(Base):
    """What has become of one row, written in the transaction that makes it so."""

    __tablename__ = "import_rows"
    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id"), primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True)  # as a spreadsheet counts
    outcome: Mapped[RowOutcome]
    reason: Mapped[str] = mapped_column(Text, default="")
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"), index=True)
