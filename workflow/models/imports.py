"""Tables of imports from another CRM: each import, and the outcome of each of its rows."""

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from workflow.models.base import Base
from workflow.models.states import RowOutcome


class Import(Base):
    """An imported file.

    While `finished_at` is None the import is unfinished, and importing the file again continues it.
    """

    __tablename__ = "imports"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))  # tickets, companies or contacts
    # SHA-256 of the file, to recognise it when it is imported again.
    digest: Mapped[str] = mapped_column(String(64), index=True)
    rows: Mapped[int]
    by: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    undone_at: Mapped[datetime | None]


class ImportRow(Base):
    """The outcome of one row, written in the transaction that imports the row."""

    __tablename__ = "import_rows"
    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id"), primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True)  # as a spreadsheet counts
    outcome: Mapped[RowOutcome]
    reason: Mapped[str] = mapped_column(Text, default="")
    ticket_id: Mapped[int | None] = mapped_column(ForeignKey("tickets.id"), index=True)
