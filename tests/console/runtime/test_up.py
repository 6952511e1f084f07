"""The processes for real: `intake up`, what it starts, what it brings back, how it ends."""

import os
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from email.message import EmailMessage
from pathlib import Path

import psutil
import pytest

from console.cli.main import COMMANDS
from console.demo.channels import find_free_ports
from console.runtime.local_system import PROCESS_NAMES
from console.runtime.processes import PROCESSES

ROOT = Path(__file__).parents[3]
INTAKE = (sys.executable, "-m", "console.cli.main")


def wait(ready: Callable[[], object], seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.1)


def is_in_progress(home: Path, number: int) -> bool:
    """Whether a ticket has got there, read from the file.

    Starting a command for each look would be the load.
    """
    with closing(sqlite3.connect(f"file:{home / 'intake.db'}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT stage FROM tickets WHERE id = ?", (number,)).fetchone()
    return row == ("4-In Progress",)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    del home
    names = ("INTAKE_SMTP_LISTEN", "INTAKE_WEBHOOK_LISTEN", "INTAKE_CONSOLE_LISTEN")
    ports = dict(zip(names, (f"127.0.0.1:{p}" for p in find_free_ports(3)), strict=True))
    return {**os.environ, **ports, "INTAKE_FOLDER_SETTLE_SECONDS": "0.3", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def up(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*INTAKE, "up"], env=environment, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
        )
    yield process
    if process.poll() is None:
        process.terminate()
        process.wait(timeout=60)


def run_command(environment: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*INTAKE, *args], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_procfile_is_the_table() -> None:
    lines = dict(line.split(": ") for line in (ROOT / "Procfile").read_text().splitlines())
    assert lines == {name: f"intake {name}" for name in PROCESSES}
    assert set(PROCESSES) <= set(COMMANDS)
    assert tuple(PROCESSES) == PROCESS_NAMES


def test_up_runs_the_whole_story_and_leaves_nothing_behind(
    up: subprocess.Popen[bytes], environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    log = tmp_path / "up.log"
    wait(lambda: "support-intake is running" in log.read_text())
    output = log.read_text()
    assert "curl -i" in output
    assert "no mailbox is configured" in output
    done = run_command(environment, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Using the system that runs" in done.stdout

    children = {
        " ".join(c.cmdline()).strip().removeprefix("intake "): c
        for c in psutil.Process(up.pid).children(recursive=True)
    }
    assert set(PROCESSES) - {"imap", "backfill"} <= set(children)
    server = next(c for c in children.values() if "valkey" in c.name())
    children["worker"].kill()
    server.kill()
    wait(lambda: log.read_text().count("started again in 1 s") == 2)

    message = EmailMessage()
    message["From"], message["Subject"] = "late@acme.test", "after the kill"
    message.set_content("still there?")
    host, _, port = environment["INTAKE_SMTP_LISTEN"].rpartition(":")
    with smtplib.SMTP(host, int(port)) as smtp:
        smtp.send_message(message, "late@acme.test", ["support@localhost"])
    wait(lambda: is_in_progress(home, 5))

    everyone = psutil.Process(up.pid).children(recursive=True)
    up.send_signal(signal.SIGTERM)
    assert up.wait(timeout=60) == 0
    wait(lambda: all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in everyone))
    assert "Traceback" not in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_children_do_not_survive_a_supervisor_that_was_killed(
    up: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    log = tmp_path / "up.log"
    wait(lambda: log.read_text().count("listening") >= 2)
    everyone = psutil.Process(up.pid).children(recursive=True)
    up.kill()
    wait(lambda: all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in everyone))


def test_a_fork_server_that_was_killed_is_replaced_with_all_its_processes(
    up: subprocess.Popen[bytes], environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    log = tmp_path / "up.log"
    wait(lambda: "support-intake is running" in log.read_text())
    (server,) = (
        child
        for child in psutil.Process(up.pid).children()
        if "multiprocessing.forkserver" in " ".join(child.cmdline())
    )
    server.kill()
    ended = "ended (with the fork server); started again in 1 s"
    wait(lambda: log.read_text().count(ended) >= len(PROCESSES) - 2)
    number = run_command(
        environment, "ticket", "new", "--text", "hello", "--contact", "jo@acme.test"
    ).stdout.strip()
    wait(lambda: is_in_progress(home, int(number)))


def test_a_port_in_use_is_named_with_its_setting_before_anything_starts(
    environment: dict[str, str], home: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_command({**environment, "INTAKE_WEBHOOK_LISTEN": f"127.0.0.1:{port}"}, "up")
    assert done.returncode == 78
    assert f"INTAKE_WEBHOOK_LISTEN: port {port}" in done.stderr
    assert not home.exists()


def test_a_worker_without_redis_does_the_work_by_looking(
    environment: dict[str, str], home: Path
) -> None:
    number = run_command(
        environment, "ticket", "new", "--text", "hello", "--contact", "jo@acme.test"
    ).stdout.strip()
    worker = subprocess.Popen(
        [*INTAKE, "worker"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        wait(lambda: is_in_progress(home, int(number)))
    finally:
        worker.terminate()
        output = worker.communicate(timeout=20)[1]
    assert worker.returncode == 0
    assert "polls the database every second" in output


def test_imap_without_a_mailbox_says_so(environment: dict[str, str]) -> None:
    done = run_command(environment, "imap")
    assert done.returncode == 78
    assert "INTAKE_IMAP_URLS" in done.stderr
