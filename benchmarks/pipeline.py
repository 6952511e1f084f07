"""Measure the whole way of a mail: SMTP DATA, ticket, notice at the relay, under `intake up`.

    python benchmarks/pipeline.py [MAILS] [SESSIONS]

On SQLite and on PostgreSQL: mails of 2 KB from as many senders over some sessions at once, then one
mail at a time. The relay is a process of its own that only counts. "accepted" is until the last
250, "noticed" until the relay has the last notice. Everything is on loopback and shares the
processors, so processor time is given beside the rates; every commit is synced.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.support.counting_relay import CountingRelay
from benchmarks.support.results import Figure, record
from tests.support.processes import Installation, OwnPostgres, until
from tests.support.servers import Valkey
from workflow.database.engine import migrate

MAILS = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
SESSIONS = int(sys.argv[2]) if len(sys.argv) > 2 else 10
SINGLE_MAILS = 60
LINE = b"please look at the claim that was denied, resubmit it, and tell us the balance\r\n"


class Rates(NamedTuple):
    """Mails a second, and the seconds from the end of DATA to each 250."""

    accepted: float
    noticed: float
    replies: list[float]


def make_mail(number: int) -> tuple[bytes, bytes]:
    """Return the sender and the content of a mail of 2 KB."""
    sender = f"p{number}@practice{number % 800}.example".encode()
    head = (
        b"From: Pat <" + sender + b">\r\nTo: support@localhost\r\nSubject: question %d\r\n"
        b"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%d.%d@clinic.example>\r\n\r\n"
        % (number, number, time.monotonic_ns())
    )
    return sender, head + LINE * 22


async def send(port: int, numbers: Iterator[int], replies: list[float]) -> None:
    """Send mails over one session while there are any."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def reply(expected: bytes) -> None:
        while (line := await reader.readline())[3:4] == b"-":
            pass
        assert line[:3] == expected, line

    await reply(b"220")
    writer.write(b"EHLO clinic.example\r\n")
    await reply(b"250")
    for number in numbers:
        sender, content = make_mail(number)
        writer.write(b"MAIL FROM:<" + sender + b">\r\n")
        await reply(b"250")
        writer.write(b"RCPT TO:<support@localhost>\r\n")
        await reply(b"250")
        writer.write(b"DATA\r\n")
        await reply(b"354")
        began = time.monotonic()
        writer.write(content + b".\r\n")
        await reply(b"250")
        replies.append(time.monotonic() - began)
    writer.close()


def measure_load(port: int, relay: CountingRelay, first: int, count: int) -> Rates:
    """Send mails over all sessions at once and wait for their notices."""
    numbers, replies = iter(range(first, first + count)), list[float]()

    async def run() -> None:
        await asyncio.gather(*(send(port, numbers, replies) for _ in range(SESSIONS)))

    began = time.monotonic()
    asyncio.run(run())
    accepted = time.monotonic() - began
    noticed = relay.wait_for(count) - began
    return Rates(count / accepted, count / noticed, replies)


def measure_single(port: int, relay: CountingRelay, first: int) -> list[float]:
    """Send one mail at a time; return the seconds from each 250 to its notice."""
    latencies = []
    for number in range(first, first + SINGLE_MAILS):
        asyncio.run(send(port, iter([number]), []))
        began = time.monotonic()
        latencies.append(relay.wait_for(1) - began)
        time.sleep(0.1)  # so that every process is idle again
    return latencies


def read_processor_seconds(parent: psutil.Process) -> dict[str, float]:
    """Return the processor seconds of the processes below `parent`, by role."""
    seconds: dict[str, float] = defaultdict(float)
    for process in parent.children(recursive=True):
        command = " ".join(process.cmdline()).strip()
        role = "parser" if "ingest.processing" in command else command.removeprefix("intake ")
        if "multiprocessing" in command:
            role = "fork server"
        times = process.cpu_times()
        seconds[role] += times.user + times.system
    return seconds


@contextmanager
def run_installation(
    folder: Path, database: str, relay: str
) -> Iterator[tuple[int, psutil.Process]]:
    """Run `intake up`; give the port of its listener and its process."""
    migrate(database)
    valkey = Valkey()
    installation = Installation(
        folder, database_url=database, relay_url=relay, redis_url=valkey.url, log_json=True
    )
    try:
        with installation.process("up", opens=installation.smtp) as process:
            until(lambda: len(process.children()) > 0)
            yield installation.smtp, process
    finally:
        valkey.stop()


def measure(name: str, folder: Path, database: str, table: Table) -> list[Figure]:
    """Measure one database, and add its row to the table; return what is recorded."""
    relay = CountingRelay()
    try:
        with run_installation(folder, database, relay.url) as (port, process):
            measure_load(port, relay, 0, 100)  # parsers and connections are there now
            before = read_processor_seconds(process)
            rates = measure_load(port, relay, 1_000_000, MAILS)
            after = read_processor_seconds(process)
            latencies = measure_single(port, relay, 2_000_000)
    finally:
        relay.stop()
    p99 = statistics.quantiles(rates.replies, n=100)[98]
    cuts = statistics.quantiles(latencies, n=100)
    costs = {role: 1000 * (after[role] - before[role]) / MAILS for role in after}
    table.add_row(
        name,
        f"{rates.accepted:.0f}",
        f"{1000 * p99:.0f}",
        f"{rates.noticed:.0f}",
        f"{1000 * cuts[49]:.0f} / {1000 * cuts[98]:.0f}",
        ", ".join(f"{role} {cost:.1f}" for role, cost in sorted(costs.items()) if cost >= 0.05),
    )

    return [
        Figure(f"2 KB mails noticed, {name}", "", rates.noticed, "a second"),
        Figure(f"2 KB mails accepted, {name}", "", rates.accepted, "a second"),
        Figure(f"DATA to 250 under load, p99, {name}", "", 1000 * p99, "ms", 100, is_ceiling=True),
        Figure(f"250 to notice, idle, p50, {name}", "", 1000 * cuts[49], "ms", 30, is_ceiling=True),
        Figure(f"250 to notice, idle, p99, {name}", "", 1000 * cuts[98], "ms", 60, is_ceiling=True),
    ]


def main() -> None:
    """Print the table and record the figures."""
    figures: list[Figure] = []
    table = Table(
        "database",
        "accepted/s",
        "250 p99, ms",
        "noticed/s",
        "idle p50 / p99, ms",
        "processor, ms a mail",
        title=f"{MAILS} mails of 2 KB over {SESSIONS} sessions",
    )
    postgres = OwnPostgres()
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in ("SQLite", "PostgreSQL"):
                home = Path(folder, name)
                home.mkdir()
                database = f"sqlite:///{home}/intake.db"
                if name == "PostgreSQL":
                    postgres.run("CREATE DATABASE pipeline")
                    database = postgres.build_url("pipeline")
                figures += measure(name, home, database, table)
        finally:
            postgres.stop()
    Console(width=150).print(table)
    record("pipeline", figures)


if __name__ == "__main__":
    main()
