"""Measure the room on disk that is kept for a mail, beside its size.

    python benchmarks/storage.py

Counts bytes, no time. Each kind of mail of `benchmarks/parse.py`, one with three attachments and
their mix are received and filed on SQLite, in a fresh data folder each. "sealed" counts the bytes
that are sealed: the original and what is stored of its attachments beside it. "data folder" is what
the folder grows by, with all rows, indexes and search words. Those count for small mails.
"""

import random
import sqlite3
import sys
import tempfile
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.parse import KINDS, MAKERS, build_header
from benchmarks.parse import text as make_text
from benchmarks.support.results import Figure, record
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format
from workflow.context import AppContext, open_context
from workflow.database.engine import migrate
from workflow.models.core import Delivery, StoredAttachment
from workflow.runtime import log
from workflow.settings.settings import Settings

GOAL = 1.1  # times the size of a mail
SMALL = 50  # mails of a kind whose rows are spread over pages of the database
FILES = {"statement.pdf": 180_000, "remittance.xlsx": 90_000, "scan.jpg": 20_000}  # bytes


class Room(NamedTuple):
    """Bytes kept for each byte of mail."""

    sealed: float
    data_folder: float


def make_mail_with_files(dice: random.Random) -> EmailMessage:
    """Return a mail of about 0.4 MB with three attachments."""
    message = build_header(dice)
    message.set_content(make_text(dice, 800))
    for name, size in FILES.items():
        message.add_attachment(dice.randbytes(size), "application", "octet-stream", filename=name)
    return message


def measure(mails: list[bytes]) -> Room:
    """Receive and file the mails; return the room they take."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        url = f"sqlite:///{home / 'intake.db'}"
        migrate(url)
        context = open_context(Settings(home=home, database_url=url))
        try:
            before = measure_folder(context)
            intake = Intake(context)
            for raw in mails:
                intake.accept(Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw))
            while process_waiting(context):
                pass
            grown, sealed = measure_folder(context) - before, count_sealed(context)
        finally:
            context.close()
    size = sum(map(len, mails))
    return Room(sealed / size, grown / size)


def measure_folder(context: AppContext) -> int:
    """Return the bytes of all files, after the write-ahead log is in the database."""
    with closing(sqlite3.connect(context.settings.home / "intake.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(path.stat().st_size for path in context.settings.home.rglob("*") if path.is_file())


def count_sealed(context: AppContext) -> int:
    """Return the sealed bytes of originals and attachments, in rows and in blobs."""
    total = 0
    with context.store.read_only() as session:
        for model in (Delivery, StoredAttachment):
            total += session.scalar(select(func.sum(func.length(model.content)))) or 0
    blobs = Path(context.settings.blobs)
    return total + sum(path.stat().st_size for path in blobs.rglob("*") if path.is_file())


def main() -> None:
    log.disable()
    dice = random.Random(7)
    sets = {
        kind: [make(dice).as_bytes() for _ in range(SMALL if KINDS[kind] > 10 else 5)]
        for kind, make in MAKERS.items()
    }
    sets["0.4 MB, three attachments"] = [make_mail_with_files(dice).as_bytes() for _ in range(5)]
    sets["the mix"] = [
        make(dice).as_bytes() for kind, make in MAKERS.items() for _ in range(KINDS[kind])
    ]
    table = Table("mails", "bytes each", "sealed", "data folder")
    figures = []
    for name, mails in sets.items():
        room = measure(mails)
        average = sum(map(len, mails)) // len(mails)
        table.add_row(name, f"{average:,}", f"{room.sealed:.3f}", f"{room.data_folder:.3f}")
        figures += [
            Figure(f"sealed bytes kept, {name}", "the mail", room.sealed, "ratio", GOAL, True),
            Figure(
                f"growth of the data folder, {name}",
                "the mail",
                room.data_folder,
                "ratio",
                GOAL if name in {"the mix", "0.4 MB, three attachments"} else None,
                True,
            ),
        ]
    Console().print(table)
    record("storage", figures)
    if not all(figure.is_met in {True, None} for figure in figures):
        sys.exit(f"more than {GOAL} times a mail is kept")


if __name__ == "__main__":
    main()
