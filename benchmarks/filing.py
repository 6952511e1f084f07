"""Measure what filing many waiting mails at once saves, beside filing them one at a time.

    python benchmarks/filing.py [MAILS]

The same mails of 2 KB are received twice by one installation, on SQLite and on PostgreSQL, and
processed once by `process_delivery`, a delivery a transaction, and once by `process_waiting`, as a
worker does. Parsers are processes of their own, data is in a temporary folder, and every commit is
synced. Processor time is that of the worker, without its parsers.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from sqlalchemy import event

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.support.results import Figure, record
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.parser_pool import use_parser_pool
from ingest.processing.process import process_delivery, process_waiting
from parsers.item import Format
from tests.support.processes import OwnPostgres
from workflow.context import AppContext, open_context
from workflow.database.engine import migrate
from workflow.runtime import log
from workflow.settings.settings import Settings

MAILS = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
PRACTICES = 800
WORDS = ("claim", "denied", "patient", "authorization", "please", "resubmit", "invoice", "balance")


class Cost(NamedTuple):
    """Cost of processing: mails a second, and for each mail the rest."""

    rate: float
    cpu_ms: float
    statements: float
    commits: float


def make_mail(name: str, number: int) -> bytes:
    """Return a mail of about 2 KB from one of many practices."""
    body = "\r\n".join(" ".join(random.choices(WORDS, k=12)) for _ in range(22))
    sender = f"p{number}@practice{number % PRACTICES}.example"
    header = (
        f"From: {sender}\r\nTo: support@localhost\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{name}.{number}@x.example>\r\nSubject: question {name} {number}\r\n"
    )
    return f"{header}\r\n{body}\r\n".encode()


def receive(context: AppContext, name: str) -> list[int]:
    """Store the mails; return the numbers of their deliveries."""
    intake = Intake(context)
    arrivals = (
        Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=make_mail(name, number))
        for number in range(MAILS)
    )
    return [intake.accept(arrival) for arrival in arrivals]


def measure(context: AppContext, work: Callable[[], object]) -> Cost:
    """Return what the work costs."""
    counts = {"statements": 0, "commits": 0}

    def count_statement(*_: Any) -> None:
        counts["statements"] += 1

    def count_commit(_: Any) -> None:
        counts["commits"] += 1

    event.listen(context.store.engine, "before_cursor_execute", count_statement)
    event.listen(context.store.engine, "commit", count_commit)
    began, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    event.remove(context.store.engine, "before_cursor_execute", count_statement)
    event.remove(context.store.engine, "commit", count_commit)
    return Cost(
        MAILS / seconds,
        1000 * cpu_seconds / MAILS,
        counts["statements"] / MAILS,
        counts["commits"] / MAILS,
    )


def compare(url: str, home: Path) -> tuple[Cost, Cost]:
    """Return the cost of one at a time and of all that wait, in one fresh database."""
    migrate(url)
    context = open_context(Settings(home=home, database_url=url))

    def process_each(numbers: list[int]) -> None:
        for number in numbers:
            process_delivery(context, number)

    def process_all() -> None:
        while process_waiting(context):
            pass

    try:
        with use_parser_pool(context.settings):
            numbers = receive(context, "alone")
            alone = measure(context, lambda: process_each(numbers))
            receive(context, "together")
            return alone, measure(context, process_all)
    finally:
        context.close()


@contextmanager
def open_databases(folder: Path) -> Iterator[dict[str, str]]:
    """Give the address of a fresh database of each kind."""
    postgres = OwnPostgres()
    try:
        postgres.run("CREATE DATABASE filing")
        yield {
            "SQLite": f"sqlite:///{folder / 'intake.db'}",
            "PostgreSQL": postgres.build_url("filing"),
        }
    finally:
        postgres.stop()


def main() -> None:
    log.disable()
    figures: list[Figure] = []
    table = Table("database", "way", "mails/s", "ratio", "cpu ms", "statements", "commits")
    with tempfile.TemporaryDirectory() as folder, open_databases(Path(folder)) as databases:
        for name, url in databases.items():
            costs = compare(url, Path(folder) / name)
            for way, cost in zip(("one at a time", "all that wait"), costs, strict=True):
                table.add_row(
                    name,
                    way,
                    f"{cost.rate:,.0f}",
                    f"{cost.rate / costs[0].rate:.1f}",
                    f"{cost.cpu_ms:.1f}",
                    f"{cost.statements:.1f}",
                    f"{cost.commits:.2f}",
                )
            figures += [
                Figure(
                    f"filing what waits, {name}", "one at a time", costs[1].rate / costs[0].rate
                ),
                Figure(
                    f"statements a mail, {name}", "", costs[1].statements, "", 2, is_ceiling=True
                ),
            ]
    Console(width=100).print(table)
    record("filing", figures)


if __name__ == "__main__":
    main()
