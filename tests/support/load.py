"""Crowds at the mail door of a real process.

What they heard, how long it took, and what the process held meanwhile.
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

from tests.support.processes import Doors, mail

HELLO = (
    b"EHLO clinic.example",
    b"MAIL FROM:<a@clinic.example>",
    b"RCPT TO:<support@localhost>",
    b"DATA",
)
LINE = b"x" * 76 + b"\r\n"
LATEST = 120.0  # seconds after which a client has been kept hanging


@dataclass
class Heard:
    """The answers of a crowd, by code; 0 is none at all."""

    codes: Counter[int] = field(default_factory=Counter)
    longest: float = 0.0  # seconds from a client's first word to the answer
    seconds: float = 0.0  # all together

    def add(self, code: int, seconds: float) -> None:
        self.codes[code] += 1
        self.longest = max(self.longest, seconds)


class Watched:
    """The memory of a process while the block lasts, in octets."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self.before = self.peak = self.now

    @property
    def now(self) -> int:
        return int(self._process.memory_info().rss)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, self.now)


def many(doors: Doors, count: int, connections: int) -> Heard:
    """Send small mails over several connections at once.

    Each connection stays open for all of its mails.
    """
    left = iter(range(count))
    taking = threading.Lock()

    def client(heard: Heard) -> None:
        with smtplib.SMTP("127.0.0.1", doors.smtp, timeout=LATEST) as smtp:
            while True:
                with taking:
                    if next(left, None) is None:
                        return
                began = time.monotonic()
                smtp.ehlo_or_helo_if_needed()
                smtp.mail("a@clinic.example")
                smtp.rcpt("support@localhost")
                heard.add(smtp.data(mail())[0], time.monotonic() - began)

    return _crowd(client, connections)


def largest(doors: Doors, sessions: int, octets: int) -> Heard:
    """Send one mail of exactly this size in each of so many sessions at once."""

    def client(heard: Heard) -> None:
        began = time.monotonic()
        head = mail()
        room = octets - len(head) - 2
        with socket.create_connection(("127.0.0.1", doors.smtp), timeout=LATEST) as connection:
            answers = connection.makefile("rb")
            code = _answer(answers.readline)
            for line in HELLO:
                connection.sendall(line + b"\r\n")
                code = _answer(answers.readline)
            if code == 354:
                lines = LINE * (room // len(LINE))
                connection.sendall(head + lines + b"y" * (room - len(lines)) + b"\r\n.\r\n")
                code = _answer(answers.readline)
            heard.add(code, time.monotonic() - began)

    return _crowd(client, sessions)


def _answer(line: Callable[[], bytes]) -> int:
    while (said := line())[3:4] == b"-":
        pass
    return int(said[:3] or 0)


def _crowd(client: Callable[[Heard], None], size: int) -> Heard:
    heard = Heard()

    def run() -> None:
        try:
            client(heard)
        except (OSError, smtplib.SMTPException):
            heard.add(0, 0)

    threads = [threading.Thread(target=run) for _ in range(size)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard.seconds = time.monotonic() - began
    return heard
