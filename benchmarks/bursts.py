"""Measure what many SMTP clients at once cost the listener.

10,000 mails at once, and a mail of the size limit from 50 sessions at once.

    python benchmarks/bursts.py [MAILS] [SESSIONS]

A real process on loopback, its data in a temporary folder. "refused" is 451 or 452: the sender
tries again.
"""

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.support.load import Answers, MemoryWatch, send_large, send_many
from tests.support.processes import Installation
from workflow.database.engine import migrate
from workflow.settings.settings import Settings

MAILS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
SESSIONS = (
    int(sys.argv[2]) if len(sys.argv) > 2 else 49
)  # a host may have 50, and one has looked whether it is open
MIB = 2**20


def row(table: Table, what: str, answers: Answers, memory: MemoryWatch) -> None:
    taken, others = (
        answers.codes[250],
        answers.codes.total() - answers.codes[250] - answers.codes[0],
    )
    table.add_row(
        what,
        f"{answers.seconds:,.1f}",
        f"{answers.longest:,.1f}",
        *(f"{n:,}" for n in (taken, others, answers.codes[0])),
        *(f"{octets / MIB:,.0f}" for octets in (memory.before, memory.peak, memory.now)),
    )


def main() -> None:
    table = Table(
        "what",
        "seconds",
        "longest",
        "taken",
        "refused",
        "unanswered",
        "MiB before",
        "peak",
        "after",
    )
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder) / "home")
        installation.home.mkdir()
        migrate(f"sqlite:///{installation.home / 'intake.db'}")
        limit = Settings().mail_limit
        with installation.process("smtp", opens=installation.smtp) as process:
            with MemoryWatch(process) as memory:
                row(
                    table,
                    f"{MAILS:,} mails, 49 connections",
                    send_many(installation, MAILS, 49),
                    memory,
                )
            with MemoryWatch(process) as memory:
                answers = send_large(installation, SESSIONS, limit)
            row(table, f"{SESSIONS} sessions, {limit // MIB} MiB each", answers, memory)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
