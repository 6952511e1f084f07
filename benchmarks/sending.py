"""Measure what recording sent mails in groups saves, beside recording each by itself.

    python benchmarks/sending.py [MAILS]

Tickets of one installation, on SQLite and on PostgreSQL, have a notice each. Half of the notices
are sent in groups of one, the other half as a worker does. The relay is a process of its own, data
is in a temporary folder, and every commit is synced. Processor time is that of the worker.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import event

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.support.results import Figure, record
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support.processes import OwnPostgres
from workflow.context import AppContext, open_context
from workflow.database.engine import migrate
from workflow.mail import claims, sender
from workflow.runtime import log
from workflow.settings.settings import Settings

MAILS = max(200, int(sys.argv[1])) if len(sys.argv) > 1 else 1_000
RELAY = """
import sys
from tests.support.servers import Relay

print(Relay().url, flush=True)
sys.stdin.read()
"""


class Cost(NamedTuple):
    """Cost of sending: mails a second, and for each mail the rest."""

    rate: float
    cpu_ms: float
    statements: float
    commits: float


def open_tickets(context: AppContext, count: int) -> None:
    """File a mail of each of `count` customers; each gets a notice."""
    intake = Intake(context)
    for number in range(count):
        sender_address = f"p{number}@practice{number % 800}.example"
        raw = (
            f"From: {sender_address}\r\nTo: support@localhost\r\nSubject: question\r\n"
            f"Message-ID: <{number}@x.example>\r\n\r\nplease help\r\n"
        ).encode()
        envelope = {"mail_from": sender_address}
        intake.accept(
            Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw, envelope=envelope)
        )
    while process_waiting(context):
        pass


def measure(context: AppContext, send_all: Callable[[], int]) -> Cost:
    """Return what sending costs; `send_all` returns how many mails it sent."""
    statements, commits = 0, 0

    def count_statement(*_: Any) -> None:
        nonlocal statements
        statements += 1

    def count_commit(*_: Any) -> None:
        nonlocal commits
        commits += 1

    engine = context.store.engine
    event.listen(engine, "before_cursor_execute", count_statement)
    event.listen(engine, "commit", count_commit)
    began, cpu = time.perf_counter(), time.process_time()
    sent = send_all()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    event.remove(engine, "before_cursor_execute", count_statement)
    event.remove(engine, "commit", count_commit)
    return Cost(sent / seconds, 1000 * cpu / sent, statements / sent, commits / sent)


def send_alone(context: AppContext) -> int:
    """Send half of the mails, each recorded in a transaction of its own."""
    relay = sender.transport.open_mailer(
        context.settings.relay_url.get_secret_value(), context.settings.home
    )
    count = 0
    with relay:
        while count < MAILS // 2:
            for claim in claims.claim_batch(context):
                sender.send(context, relay, [claim])
                count += 1
    return count


def send_in_groups(context: AppContext) -> int:
    """Send the rest as a worker does."""
    count = 0
    while sent := sender.send_waiting(context):
        count += sent
    return count


@contextmanager
def open_installation(url: str, home: Path, relay: str) -> Iterator[AppContext]:
    """Give an installation with its own database and relay."""
    migrate(url)
    context = open_context(Settings(home=home, database_url=url, relay_url=SecretStr(relay)))
    yield context
    context.close()


@contextmanager
def closing_postgres() -> Iterator[OwnPostgres]:
    """Give a server with the database "sending"."""
    postgres = OwnPostgres()
    try:
        postgres.run("CREATE DATABASE sending")
        yield postgres
    finally:
        postgres.stop()


def main() -> None:
    """Print the table."""
    log.disable()
    figures: list[Figure] = []
    table = Table("database", "recorded", "mails/s", "cpu ms", "statements", "commits", "ratio")
    with (
        tempfile.TemporaryDirectory() as folder,
        closing_postgres() as postgres,
        subprocess.Popen(
            [sys.executable, "-c", RELAY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        ) as relay,
    ):
        assert relay.stdout is not None
        assert relay.stdin is not None
        relay_url = relay.stdout.readline().strip()
        for name in ("SQLite", "PostgreSQL"):
            home = Path(folder, name)
            home.mkdir()
            url = f"sqlite:///{home}/i.db" if name == "SQLite" else postgres.build_url("sending")
            with open_installation(url, home, relay_url) as context:
                open_tickets(context, MAILS)
                alone = measure(context, lambda context=context: send_alone(context))
                groups = measure(context, lambda context=context: send_in_groups(context))
            figures.append(
                Figure(f"sending in groups, {name}", "one by one", groups.rate / alone.rate)
            )
            for way, cost in (("one by one", alone), ("in groups", groups)):
                table.add_row(
                    name,
                    way,
                    f"{cost.rate:.0f}",
                    f"{cost.cpu_ms:.2f}",
                    f"{cost.statements:.1f}",
                    f"{cost.commits:.2f}",
                    f"{cost.rate / alone.rate:.1f}",
                )
        relay.stdin.close()
    Console().print(table)
    record("sending", figures)


if __name__ == "__main__":
    main()
