"""What `intake up` costs while nothing happens, and how soon it takes the first mail.

    python benchmarks/idle.py [--seconds 30]

Memory is the proportional set size of all its processes (pages that several share are counted once
in all), the processor their time while idle, the start the time until a mail is acknowledged. The
system runs on SQLite with all channels but the mailbox, in a temporary folder.
"""

import argparse
import os
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.support.results import Figure, record

INTAKE = [sys.executable, "-m", "console.cli.main"]
START_SECONDS = 15.0  # after which the clock's first round of checks is over
WORK_SECONDS = 3.0  # within which a mail is filed and its notice written
MAIL = "From: ann@clinic.example\r\nSubject: first\r\n\r\nPlease call me.\r\n"


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_for_first_mail(port: int, since: float) -> float:
    """Send a mail as soon as the listener takes it; return the seconds since the start."""
    while True:
        try:
            with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
                client.sendmail("ann@clinic.example", ["support@localhost"], MAIL)
            return time.monotonic() - since
        except OSError:
            if time.monotonic() - since > 60:
                raise
            time.sleep(0.02)


def measure_help() -> float:
    """Return the seconds that `intake --help` takes, the best of five."""
    times = []
    for _ in range(5):
        started = time.monotonic()
        subprocess.run([*INTAKE, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.monotonic() - started)
    return min(times)


def list_processes(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]


def sum_processor_time(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure_memory(system: psutil.Process) -> dict[str, float]:
    """Return the megabytes of each process."""
    return {
        f"{process.pid} {process.name()}": process.memory_full_info().pss / 1e6
        for process in list_processes(system)
    }


@contextmanager
def run_system(folder: Path) -> Iterator[tuple[psutil.Process, int, float]]:
    """Run `intake up`; give its process, the port of its listener and when it was started."""
    names = ("INTAKE_SMTP_LISTEN", "INTAKE_WEBHOOK_LISTEN", "INTAKE_CONSOLE_LISTEN")
    ports = [find_port() for _ in names]
    listens = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("INTAKE_")}
    home = {"INTAKE_HOME": str(folder), "INTAKE_DROPBOX": str(folder / "dropbox")}
    started = time.monotonic()
    system = psutil.Popen(
        [*INTAKE, "up"],
        env=kept | home | listens,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield system, ports[0], started
    finally:
        system.terminate()
        system.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long idle is measured")
    seconds = parser.parse_args().seconds
    help_seconds = measure_help()
    with tempfile.TemporaryDirectory() as folder:
        with run_system(Path(folder) / "first") as (system, port, started):
            first_mail = wait_for_first_mail(port, started)
        with run_system(Path(folder) / "second") as (system, port, started):
            time.sleep(START_SECONDS)
            before = sum_processor_time(list_processes(system))
            time.sleep(seconds)
            busy = 100 * (sum_processor_time(list_processes(system)) - before) / seconds
            idle = measure_memory(system)
            wait_for_first_mail(port, time.monotonic())
            time.sleep(WORK_SECONDS)
            after_mail = sum(measure_memory(system).values())
    table = Table("process", "MB")
    for name, size in idle.items():
        table.add_row(name, f"{size:.0f}")
    Console().print(table)
    figures = [
        Figure("memory while idle, all processes", "-", sum(idle.values()), "MB", 400, True),
        Figure("memory after the first mail", "-", after_mail, "MB"),
        Figure("processor while idle, of one", "-", busy, "%", 1, True),
        Figure("start to the first mail acknowledged", "-", first_mail, "s", 3, True),
        Figure("intake --help", "-", help_seconds, "s", 0.2, True),
    ]
    record("idle", figures)
    for figure in figures:
        goal = "" if figure.goal is None else f" (at most {figure.goal})"
        print(f"{figure.work}: {figure.value:.2f} {figure.unit}{goal}")
    sys.exit(any(figure.is_met is False for figure in figures))


if __name__ == "__main__":
    main()
