"""Many SMTP clients at once against a real process.

Their answers, how long they took, and the memory that the process used meanwhile.
"""

import smtplib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import psutil

from tests.support.processes import Installation, make_raw_mail

HELLO = (
    b"EHLO clinic.example",
    b"MAIL FROM:<a@clinic.example>",
    b"RCPT TO:<support@localhost>",
    b"DATA",
)
LINE = b"x" * 76 + b"\r\n"
LATEST = 120.0  # seconds after which a client counts as left without an answer


@dataclass
class Answers:
    """Answers to many clients: how often each code came; code 0 is no answer at all."""

    codes: Counter[int] = field(default_factory=Counter)
    longest: float = 0.0  # seconds from a client's first command to the answer
    seconds: float = 0.0  # all together

    def add(self, code: int, seconds: float) -> None:
        """Add the answer to one client."""
        self.codes[code] += 1
        self.longest = max(self.longest, seconds)


class MemoryWatch:
    """Resident memory of a process while the block lasts, in octets."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._take_sample)
        self.before = self.peak = self.now

    @property
    def now(self) -> int:
        return int(self._process.memory_info().rss)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _take_sample(self) -> None:
        while not self._ended.wait(0.02):
            self.peak = max(self.peak, self.now)


def send_many(installation: Installation, count: int, connections: int) -> Answers:
    """Send small mails over several connections at once.

    Each connection stays open for all of its mails.
    """
    remaining = iter(range(count))
    lock = threading.Lock()

    def client(answers: Answers) -> None:
        with smtplib.SMTP("127.0.0.1", installation.smtp, timeout=LATEST) as smtp:
            while True:
                with lock:
                    if next(remaining, None) is None:
                        return
                began = time.monotonic()
                smtp.ehlo_or_helo_if_needed()
                smtp.mail("a@clinic.example")
                smtp.rcpt("support@localhost")
                answers.add(smtp.data(make_raw_mail())[0], time.monotonic() - began)

    return _run_clients(client, connections)


def send_large(installation: Installation, sessions: int, octets: int) -> Answers:
    """Send one mail of exactly this size in each of so many sessions at once."""

    def client(answers: Answers) -> None:
        began = time.monotonic()
        head = make_raw_mail()
        rest = octets - len(head) - 2
        with socket.create_connection(
            ("127.0.0.1", installation.smtp), timeout=LATEST
        ) as connection:
            replies = connection.makefile("rb")
            code = _read_code(replies.readline)
            for line in HELLO:
                connection.sendall(line + b"\r\n")
                code = _read_code(replies.readline)
            if code == 354:
                lines = LINE * (rest // len(LINE))
                connection.sendall(head + lines + b"y" * (rest - len(lines)) + b"\r\n.\r\n")
                code = _read_code(replies.readline)
            answers.add(code, time.monotonic() - began)

    return _run_clients(client, sessions)


def _read_code(line: Callable[[], bytes]) -> int:
    while (reply := line())[3:4] == b"-":
        pass
    return int(reply[:3] or 0)


def _run_clients(client: Callable[[Answers], None], size: int) -> Answers:
    answers = Answers()

    def run() -> None:
        try:
            client(answers)
        except (OSError, smtplib.SMTPException):
            answers.add(0, 0)

    threads = [threading.Thread(target=run) for _ in range(size)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.seconds = time.monotonic() - began
    return answers
