"""What comes in at every door, and what each door has said yes to.

Clients try again as real ones do.
"""

import hmac
import os
import random
import smtplib
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread

import httpx
import openpyxl

from tests.support.dovecot import Dovecot
from tests.support.formstack_server import Formstack, Sent, webhook_says

KEY = "chaos"
USER = "desk"
FORM = "7"
HEADINGS = [
    "Message ID",
    "Date Received",
    "Practice Name",
    "From",
    "From Email",
    "Subject",
    "Message",
]
REGULAR = "regular@clinic.example"  # writes again and again, and is asked for a survey once


@dataclass
class Load:
    """Clients of every door, until told to stop."""

    smtp: int
    webhook: int
    folder: Path
    environment: dict[str, str]
    mailbox: Dovecot | None
    formstack: Formstack
    pace: float = 1.0  # pauses are multiplied by it
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    acknowledged: dict[str, str] = field(default_factory=dict)  # marker -> door
    stop: Event = field(default_factory=Event)
    broken: list[str] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)
    _lock: Lock = field(default_factory=Lock)
    _threads: list[Thread] = field(default_factory=list)

    def start(self) -> None:
        clients: list[tuple[Callable[[], None], float]] = [
            (self._mail, 0.25),
            (self._mail, 0.3),
            (self._form, 0.3),
            (self._form, 0.4),
            (self._workbook, 2.0),
            (self._pipe, 4.0),
            (self._call, 6.0),
        ]
        if self.mailbox is not None:
            clients.append((self._imap, 0.5))
        for client, pause in clients:
            thread = Thread(target=self._again, args=(client, pause), daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Stop; a client that broke has sent too little for too long.

        That is told, not passed over.
        """
        self.stop.set()
        for thread in self._threads:
            thread.join(60)
        if self.broken:
            raise RuntimeError(f"clients of the load broke: {', '.join(self.broken)}")

    def _again(self, client: Callable[[], None], pause: float) -> None:
        try:
            self._send(client, pause)
        except BaseException:
            self.broken.append(client.__name__)
            raise

    def _send(self, client: Callable[[], None], pause: float) -> None:
        while not self.stop.wait(pause * self.pace * random.uniform(0.5, 1.5)):  # noqa: S311
            client()

    def _marker(self, door: str) -> str:
        with self._lock:
            self.sent[door] += 1
            return f"mk{next(self._numbers)}x{os.urandom(4).hex()}"

    def _yes(self, marker: str, door: str) -> None:
        with self._lock:
            self.acknowledged[marker] = door

    def _until_yes(self, attempt: Callable[[], bool], marker: str, door: str) -> None:
        """The same bytes until they are taken, or everything ends."""
        while not self.stop.is_set():
            with suppress(OSError, smtplib.SMTPException, httpx.HTTPError):
                if attempt():
                    self._yes(marker, door)
                    return
            time.sleep(0.4)

    # -- one door each ----

    def _mail(self) -> None:
        marker = self._marker("smtp")
        raw = letter(marker, large=random.random() < 0.06)  # noqa: S311
        self._until_yes(lambda: self._submit(raw), marker, "smtp")
        # the same by another door
        if self.mailbox is not None and random.random() < 0.2:  # noqa: S311
            self.mailbox.deliver(USER, b"Received: from elsewhere\r\n" + raw)

    def _submit(self, raw: bytes) -> bool:
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=40) as client:
            client.ehlo("clinic.example")
            client.mail("a@clinic.example")
            client.rcpt("support@localhost")
            return client.data(raw)[0] == 250

    def _form(self) -> None:
        """Formstack has it.

        Its webhook brings most of them, and once one has come, the others are looked for.
        """
        unsaid = "formstack" in self.acknowledged.values() and random.random() < 0.2  # noqa: S311
        marker = self._marker("backfill" if unsaid else "formstack")
        number = str(random.randrange(10**9, 10**10))  # noqa: S311
        sent = Sent(number, datetime.now(UTC), f"please {marker}", f"{marker}@form.example")
        self.formstack.forms.setdefault(FORM, []).append(sent)
        if unsaid:  # the webhook never comes
            self._yes(marker, "backfill")
            return
        body = webhook_says(sent, FORM)
        if random.random() < 0.15:  # noqa: S311
            for _ in range(4):  # five at once
                Thread(target=lambda: suppressed(lambda: self._post(body)), daemon=True).start()
        self._until_yes(lambda: self._post(body), marker, "formstack")

    def _post(self, body: bytes) -> bool:
        signed = hmac.new(KEY.encode(), body, sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-FS-Signature": f"sha256={signed}"}
        url = f"http://127.0.0.1:{self.webhook}/formstack"
        return httpx.post(url, content=body, headers=headers, timeout=40).status_code == 202

    def _workbook(self) -> None:
        markers = [self._marker("folder") for _ in range(4)]
        with self._lock:
            kept = [m for m, door in self.acknowledged.items() if door == "folder"][
                -1:
            ]  # exports overlap
        raw, name = workbook([*kept, *markers]), os.urandom(4).hex()
        names = [name, f"{name} again"] if random.random() < 0.3 else [name]  # noqa: S311
        for one in names:
            new = self.folder / f".{one}.part"
            new.write_bytes(raw)
            new.rename(self.folder / f"{one}.xlsx")
        for marker in markers:
            self._yes(marker, "folder")

    def _imap(self) -> None:
        marker = self._marker("imap")
        assert self.mailbox is not None
        self.mailbox.deliver(USER, letter(marker))
        self._yes(marker, "imap")

    def _pipe(self) -> None:
        marker = self._marker("pipe")
        raw = letter(marker)
        self._until_yes(lambda: self._command("deliver", "mail", "-", stdin=raw), marker, "pipe")

    def _call(self) -> None:
        marker = self._marker("console")
        told = (
            "ticket",
            "new",
            "--company",
            "Sunrise",
            "--contact",
            f"{marker}@phone.example",
            "--text",
            marker,
        )
        with suppress(OSError):
            if self._command(*told):  # a person who is told "try again" looks first
                self._yes(marker, "console")

    def _command(self, *args: str, stdin: bytes = b"") -> bool:
        command = [sys.executable, "-m", "console.cli.main", *args]
        done = subprocess.run(
            command,
            env=self.environment,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
        )
        return done.returncode == 0


def suppressed(work: Callable[[], object]) -> None:
    with suppress(OSError, httpx.HTTPError):
        work()


def letter(marker: str, *, large: bool = False) -> bytes:
    sender = REGULAR if random.random() < 0.03 else f"{marker}@mail.example"  # noqa: S311
    body = f"please help {marker}\r\n" + ("x" * 70 + "\r\n") * (5000 if large else 1)
    return f"From: {sender}\r\nMessage-ID: <{marker}@mail.example>\r\nSubject: claim\r\n\r\n{body}".encode()


def workbook(markers: list[str]) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(HEADINGS)
    for marker in markers:
        row = [
            marker,
            "2026-03-01 10:00",
            "Sunrise",
            "Pat",
            f"{marker}@row.example",
            "Claims",
            f"please {marker}",
        ]
        sheet.append(row)
    out = BytesIO()
    book.save(out)
    return out.getvalue()
