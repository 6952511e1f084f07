"""Real processes of the program, started one by one, and servers that a test can take away."""

import hmac
import json
import os
import select
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import psutil

from console.demo.channels import find_free_ports
from tests.support.servers import Postgres

ROOT = Path(__file__).parents[2]
INTAKE = (sys.executable, "-m", "console.cli.main")
KEY = "test1"

_numbers = count(1)


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds that other processes bring about; fail after `seconds`."""
    latest = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < latest, "it did not happen in time"
        time.sleep(0.05)


class Installation:
    """An installation: its settings, and a client for each channel.

    Its processes are started one by one.
    """

    def __init__(self, home: Path, **settings: object) -> None:
        """`settings` as in the environment, without INTAKE_, in lower case."""
        self.home = home
        self.smtp, self.webhook, self.console = find_free_ports(3)
        ours = {
            "home": home,
            "smtp_listen": f"127.0.0.1:{self.smtp}",
            "webhook_listen": f"127.0.0.1:{self.webhook}",
            "console_listen": f"127.0.0.1:{self.console}",
            "formstack_key": KEY,
            "folder_settle_seconds": 0.2,
            "config": home / "intake.toml",
            **settings,
        }
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith("INTAKE_")
        }
        self.environment = (
            clean
            | {f"INTAKE_{n.upper()}": str(v) for n, v in ours.items()}
            | {"PYTHONPATH": str(ROOT)}
        )

    @contextmanager
    def process(
        self, name: str, *, opens: int = 0, log: Path | None = None
    ) -> Iterator[psutil.Popen]:
        """Run `intake NAME` while the block lasts, from when it `opens` that port.

        It must end well.
        """
        log = log or self.home.parent / f"{name}{next(_numbers)}.log"
        with log.open("wb") as file:
            process = psutil.Popen(
                [*INTAKE, name], env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )
        try:
            until(lambda: process.poll() is not None or not opens or _accepts_connection(opens))
            assert process.poll() is None, log.read_text()
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0, log.read_text()
        finally:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        assert "Traceback" not in log.read_text(), log.read_text()

    def run_command(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*INTAKE, *args],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def send_mail(self, text: str = "") -> int:
        """Send one mail; return the reply code."""
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=60) as client:
            return _send(client, make_raw_mail(text))

    def post_form(self, text: str = "help") -> int:
        """Post one signed form; return the HTTP status."""
        number = next(_numbers)
        fields = {
            "FormID": "7",
            "UniqueID": str(number),
            "Email": "pat@clinic.example",
            "Message": f"{text} {number}",
        }
        body = json.dumps(fields).encode()
        signed = {"X-FS-Signature": hmac.new(KEY.encode(), body, sha256).hexdigest()}
        headers = {"Content-Type": "application/json", **signed}
        return httpx.post(
            f"http://127.0.0.1:{self.webhook}/formstack", content=body, headers=headers, timeout=60
        ).status_code

    def get_health(self) -> tuple[int, dict[str, Any]]:
        answer = httpx.get(f"http://127.0.0.1:{self.webhook}/health", timeout=60)
        return answer.status_code, answer.json()


def make_raw_mail(text: str = "") -> bytes:
    """Return a mail unlike any other."""
    number = next(_numbers)
    return f"From: a@clinic.example\r\nSubject: claim {number}\r\n\r\nhello {text}\r\n".encode()


def _send(client: smtplib.SMTP, raw: bytes) -> int:
    client.ehlo("clinic.example")
    client.mail("a@clinic.example")
    client.rcpt("support@localhost")
    return client.data(raw)[0]


def _accepts_connection(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class OwnPostgres(Postgres):
    """A PostgreSQL that a test may freeze, end and start again; no other test uses it."""

    def list_processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self._server.get_pid())
        return [postmaster, *postmaster.children(recursive=True)]

    def freeze(self) -> None:
        """Have it take connections and answer nothing, as behind a broken network."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def sockets(self) -> Path:
        """Return the folder of its Unix socket."""
        return Path(self._host)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.list_processes():
            with suppress(
                psutil.NoSuchProcess
            ):  # the process of a connection, which ended by itself
                process.send_signal(number)

    def end(self) -> None:
        """End it at once; `begin` starts it again with what was committed."""
        every = self.list_processes()
        every[0].send_signal(signal.SIGQUIT)
        psutil.wait_procs(every, timeout=30)

    def begin(self) -> None:
        self._server.ensure_postgres_running()


class Cable(Thread):
    """Proxy between a client and a PostgreSQL.

    While it is `bad`, the answer to a COMMIT gets lost, and the connection with it.
    """

    def __init__(self, server: Path, here: Path) -> None:
        """Take two folders of Unix sockets: the server's, and the one to connect to instead."""
        super().__init__(daemon=True)
        self.bad = False
        self._server = str(server / ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(here / ".s.PGSQL.5432"))
        self._listener.listen()
        self.start()

    def run(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                Thread(target=self._carry, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(self._server)
            while ready := select.select([client, server], [], [])[0]:
                octets = ready[0].recv(65536)
                if not octets:
                    return
                (server if ready[0] is client else client).sendall(octets)
                if self.bad and ready[0] is client and b"COMMIT" in octets:
                    server.recv(65536)  # it is committed, and nobody will know
                    return
