"""What a crowd costs the mail door.

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
from tests.support.load import Heard, Watched, largest, many
from tests.support.processes import Doors
from workflow.database.engine import migrate
from workflow.settings.settings import Settings

MAILS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
SESSIONS = (
    int(sys.argv[2]) if len(sys.argv) > 2 else 49
)  # a host may have 50, and one has looked whether it is open
MIB = 2**20


def row(table: Table, what: str, heard: Heard, memory: Watched) -> None:
    taken, others = heard.codes[250], heard.codes.total() - heard.codes[250] - heard.codes[0]
    table.add_row(
        what,
        f"{heard.seconds:,.1f}",
        f"{heard.longest:,.1f}",
        *(f"{n:,}" for n in (taken, others, heard.codes[0])),
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
        doors = Doors(Path(folder) / "home")
        doors.home.mkdir()
        migrate(f"sqlite:///{doors.home / 'intake.db'}")
        limit = Settings().mail_limit
        with doors.process("smtp", opens=doors.smtp) as process:
            with Watched(process) as memory:
                row(table, f"{MAILS:,} mails, 49 connections", many(doors, MAILS, 49), memory)
            with Watched(process) as memory:
                heard = largest(doors, SESSIONS, limit)
            row(table, f"{SESSIONS} sessions, {limit // MIB} MiB each", heard, memory)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
