"""Benchmark of a channel: accepting beside bare commits, and our SMTP listener beside aiosmtpd.

    python benchmarks/channels.py [SECONDS]

Ratios are what counts; absolute figures drift with the machine. Everything is on loopback and in a
temporary folder.
"""

import asyncio
import os
import smtplib
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from aiosmtpd.controller import Controller
from rich.console import Console
from rich.table import Table

from ingest.intake import Arrival, Intake, Transport
from ingest.smtp import listener as smtp_listener
from parsers.item import Format
from workflow.context import AppContext, open_context
from workflow.database.engine import migrate
from workflow.runtime import log
from workflow.settings.settings import load_settings

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
SUPPORT = "support@localhost"


def mail(size: int) -> bytes:
    head = (
        f"From: a@clinic.example\r\nTo: {SUPPORT}\r\nSubject: x\r\nMessage-ID:"
        f" <{os.urandom(8).hex()}@b>\r\n\r\n"
    )
    return head.encode() + (os.urandom(36).hex().encode() + b"\r\n") * (size // 74)


def per_second(work: Callable[[], object], threads: int) -> float:
    """Return how often so many threads run `work` in a second."""
    done, until = [0] * threads, time.perf_counter() + SECONDS

    def go(n: int) -> None:
        while time.perf_counter() < until:
            work()
            done[n] += 1

    workers = [threading.Thread(target=go, args=(n,)) for n in range(threads)]
    started = time.perf_counter()
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    return sum(done) / (time.perf_counter() - started)


def bare_commits(folder: Path) -> float:
    """Return the commits a second of SQLite on this disk: a row of 4 KB each, synchronous=FULL."""
    base = sqlite3.connect(folder / "bare.db", isolation_level=None, check_same_thread=False)
    base.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (digest TEXT UNIQUE, raw"
        " BLOB)"
    )
    row = os.urandom(4096)
    rate = per_second(
        lambda: base.execute("INSERT INTO t VALUES (?, ?)", (os.urandom(16).hex(), row)), 1
    )
    base.close()
    return rate


def accepting(context: AppContext, threads: int) -> float:
    intake = Intake(context)
    made = lambda: Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=mail(4096))  # noqa: E731
    return per_second(lambda: intake.accept(made()), threads)


def sending(port: int, size: int, threads: int) -> float:
    """Return the mails a second over kept connections, each answered after it was stored."""
    local = threading.local()

    def send() -> None:
        if not hasattr(local, "client"):
            local.client = smtplib.SMTP("127.0.0.1", port)
        local.client.sendmail("a@clinic.example", [SUPPORT], mail(size))

    return per_second(send, threads)


class Stock:
    """aiosmtpd as it comes, storing through the same accept in a thread."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
        del server, session
        raw = envelope.original_content  # type: ignore[attr-defined]
        arrival = Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw)
        await asyncio.to_thread(self.intake.accept, arrival)
        return "250 OK"


def main() -> None:
    table = Table("what", "a second", "ratio", "to")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = load_settings(home=folder, smtp_listen="127.0.0.1:0")
        migrate(settings.database)
        context = open_context(settings)
        log.disable()
        bare = bare_commits(folder)
        table.add_row("bare SQLite commits of 4 KB", f"{bare:,.0f}", "1.0", "")
        for threads in (1, 50):
            rate = accepting(context, threads)
            table.add_row(
                f"accept, {threads} waiting at once",
                f"{rate:,.0f}",
                f"{rate / bare:.2f}",
                "bare commits",
            )
        for size in (4096, 200_000):
            with smtp_listener.run_in_thread(settings, Intake(context).accept) as listener:
                ours = sending(listener.ports[Transport.SMTP], size, 20)
            controller = Controller(Stock(Intake(context)), hostname="127.0.0.1", port=8026)
            controller.start()
            stock = sending(8026, size, 20)
            controller.stop()
            table.add_row(
                f"SMTP {size // 1000} KB, ours",
                f"{ours:,.0f}",
                f"{ours / stock:.2f}",
                "aiosmtpd as it comes",
            )
        context.close()
    Console().print(table)


if __name__ == "__main__":
    main()
