"""A workbook of 100,000 x 15.

Openpyxl's own reading of it, ours, and ours to committed tickets, side by side.

    python benchmarks/excel.py [ROWS]

Each step is a process of its own, the same steps twice in turn; openpyxl's read-only mode is the
floor. Fails when a file becomes tickets at less than half its rate, or when a process of ours holds
more than 200 MB.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from threading import Event, Thread

import openpyxl
import psutil
from openpyxl.cell import WriteOnlyCell
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import parsers
from benchmarks.support.results import Figure, record
from console.runtime.memory import collect_garbage_less_often
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.parser_pool import use_parser_pool
from ingest.processing.process import process_delivery
from parsers.item import Format
from tests.support.servers import Postgres, Unavailable
from workflow.context import open_context
from workflow.database.engine import migrate
from workflow.models.core import Filing
from workflow.runtime import log
from workflow.settings.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
ROWS = int(sys.argv[1]) if len(sys.argv) == 2 else 100_000
ROUNDS = 2
LEAST, MOST_MB = 0.5, 200.0
HEADINGS = (
    "Message ID",
    "Thread ID",
    "Practice ID",
    "Practice Name",
    "Provider",
    "From",
    "From Email",
    "Phone",
    "Date Received",
    "Category",
    "Subject",
    "Message",
    "Patient Name",
    "Patient ID",
    "Status",
)
WORDS = (
    "claim",
    "denied",
    "balance",
    "statement",
    "copay",
    "insurance",
    "visit",
    "charge",
    "modifier",
    "please",
)


def make(file: Path, rows: int) -> None:
    """Write an export.

    800 practices with five people each, every tenth row an answer in an earlier thread.
    """
    dice, base = Random(5), datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Messages")
    sheet.append(HEADINGS)
    for n in range(1, rows + 1):
        practice, person = dice.randrange(800), dice.randrange(5)
        thread = n if n % 10 else max(1, n - dice.randrange(1, 500))
        date = WriteOnlyCell(sheet, base + timedelta(minutes=n))
        date.number_format = "mm/dd/yyyy hh:mm"
        identity = (f"KM-{n:07}", f"T-{thread:07}")
        provider = (f"{10_000 + practice}", f"Practice {practice}", f"Dr. {practice}")
        sender = (
            f"Sender {person} of {practice}",
            f"s{person}@practice{practice}.example",
            f"555-{practice:04}",
        )
        category = dice.choice(["Billing", "Claims", "Payments"])
        texts = (" ".join(dice.choices(WORDS, k=5)), " ".join(dice.choices(WORDS, k=30)))
        patient = (f"Patient {n}", f"{n}")
        sheet.append((*identity, *provider, *sender, date, category, *texts, *patient, "Open"))
    book.save(file)


# -- the steps, each in a process of its own ----


def floor(file: Path, _: str) -> int:
    book = openpyxl.load_workbook(file, read_only=True)
    return sum(1 for _ in book.worksheets[0].iter_rows(values_only=True)) - 1


def parse(file: Path, _: str) -> int:
    return sum(1 for _ in parsers.stream(Format.SECURE_MESSAGE, file.read_bytes()))


def tickets(file: Path, url: str) -> int:
    """Process the file to committed tickets, as the worker does; return the number of items."""
    log.disable()
    collect_garbage_less_often()
    settings = Settings(home=file.parent / "home", database_url=url)
    context = open_context(settings, notifier=lambda _: None)
    arrival = Arrival(
        transport=Transport.FOLDER, format=Format.SECURE_MESSAGE, raw=file.read_bytes()
    )
    number = Intake(context).accept(arrival)
    del arrival
    with use_parser_pool(settings):
        process_delivery(context, number)
    with context.store.read_only() as session:
        return session.scalar(select(func.count()).where(Filing.delivery_id == number)) or 0


STEPS: dict[str, Callable[[Path, str], int]] = {"floor": floor, "parse": parse, "tickets": tickets}


def step(name: str, file: Path, url: str = "") -> dict[str, float]:
    """Run one step; rows a second, and the most that each of its processes held."""
    command = [sys.executable, __file__, name, str(file), url]
    process = psutil.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    with _watched(process) as most:
        out, _ = process.communicate()
    report = json.loads(out)
    assert report["rows"] == ROWS, f"{name}: {report['rows']} rows of {ROWS}"
    held = sorted(most.values(), reverse=True)
    return {
        "rate": ROWS / report["seconds"],
        "held": held[0] / 1e6,
        "child": (held[1] if len(held) > 1 else 0) / 1e6,
    }


@contextmanager
def _watched(process: psutil.Popen) -> Iterator[dict[int, int]]:
    most: dict[int, int] = {}
    done = Event()

    def watch() -> None:
        while not done.wait(0.1):
            try:
                for one in (process, *process.children(recursive=True)):
                    most[one.pid] = max(most.get(one.pid, 0), one.memory_info().rss)
            except psutil.Error:
                continue

    thread = Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def databases(folder: Path, stack: list[Postgres]) -> Iterator[tuple[str, str]]:
    """A fresh database of each kind."""
    url = f"sqlite:///{folder / f'{time.monotonic_ns()}.db'}"
    migrate(url)
    yield "SQLite", url
    for server in stack:
        name = f"excel{time.monotonic_ns()}"
        server.run(f"CREATE DATABASE {name}")
        migrate(server.build_url(name))
        yield "PostgreSQL", server.build_url(name)


def measure(folder: Path, servers: list[Postgres]) -> dict[str, list[dict[str, float]]]:
    file = folder / "export.xlsx"
    make(file, ROWS)
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        found.setdefault("openpyxl read-only, no more", []).append(step("floor", file))
        found.setdefault("read into items", []).append(step("parse", file))
        for kind, url in databases(folder, servers):
            found.setdefault(f"file to tickets, {kind}", []).append(step("tickets", file, url))
    found["openpyxl read-only, no more"].append(step("floor", file))
    return found


def show(found: dict[str, list[dict[str, float]]]) -> bool:
    """Print the figures; whether they are within the bounds."""
    table, good = Table("", "rows/s", "of openpyxl's", "MB", "its parser, MB"), True
    rates = {name: sum(one["rate"] for one in some) / len(some) for name, some in found.items()}
    base = next(iter(rates.values()))
    for name, some in found.items():
        ratio, held, child = (
            rates[name] / base,
            max(s["held"] for s in some),
            max(s["child"] for s in some),
        )
        if "tickets" in name:
            good = good and ratio >= LEAST and max(held, child) <= MOST_MB
        table.add_row(
            name,
            f"{rates[name]:,.0f}",
            f"{ratio:.0%}",
            f"{held:.0f}",
            f"{child:.0f}" if child else "",
        )
    Console().print(table)
    record(
        "excel",
        [
            Figure(
                f"workbook of {ROWS} x {len(HEADINGS)}, {name}",
                "openpyxl reading it",
                rates[name] / base,
                goal=0.8 if "PostgreSQL" in name else 1.0,
            )
            for name in found
            if "tickets" in name
        ],
    )
    Console().print(
        f"{ROWS:,} rows of {len(HEADINGS)}; bounds: {LEAST:.0%} and {MOST_MB:.0f} MB a process"
    )
    return good


def main() -> int:
    servers = []
    try:
        servers.append(Postgres())
    except Unavailable as reason:
        Console().print(f"PostgreSQL left out: {reason}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            return 0 if show(measure(Path(folder), servers)) else 1
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        began = time.perf_counter()
        count = STEPS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
        print(json.dumps({"rows": count, "seconds": time.perf_counter() - began}))
    else:
        sys.exit(main())
