"""Clients that send through every channel, and what each channel has acknowledged.

They try again as real ones do.
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
from tests.support.formstack_server import Formstack, Submission, build_webhook_body

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
REGULAR = "regular@clinic.example"  # writes many times, and may get one survey only


@dataclass
class Load:
    """Clients of every channel, which send until `stop` is set."""

    smtp: int
    webhook: int
    folder: Path
    environment: dict[str, str]
    mailbox: Dovecot | None
    formstack: Formstack
    pace: float = 1.0  # pauses are multiplied by it
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    acknowledged: dict[str, str] = field(default_factory=dict)  # marker -> channel
    stop: Event = field(default_factory=Event)
    broken: list[str] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)
    _lock: Lock = field(default_factory=Lock)
    _threads: list[Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start a thread for each client."""
        clients: list[tuple[Callable[[], None], float]] = [
            (self._send_mail, 0.25),
            (self._send_mail, 0.3),
            (self._submit_form, 0.3),
            (self._submit_form, 0.4),
            (self._drop_workbook, 2.0),
            (self._pipe_mail, 4.0),
            (self._call, 6.0),
        ]
        if self.mailbox is not None:
            clients.append((self._append_mail, 0.5))
        for client, pause in clients:
            thread = Thread(target=self._run_client, args=(client, pause), daemon=True)
            thread.start()
            self._threads.append(thread)

    def join(self) -> None:
        """Stop the clients.

        Raises RuntimeError when one broke: it has sent too little for too long.
        """
        self.stop.set()
        for thread in self._threads:
            thread.join(60)
        if self.broken:
            raise RuntimeError(f"clients of the load broke: {', '.join(self.broken)}")

    def _run_client(self, client: Callable[[], None], pause: float) -> None:
        try:
            self._send(client, pause)
        except BaseException:
            self.broken.append(client.__name__)
            raise

    def _send(self, client: Callable[[], None], pause: float) -> None:
        while not self.stop.wait(pause * self.pace * random.uniform(0.5, 1.5)):  # noqa: S311
            client()

    def _make_marker(self, channel: str) -> str:
        with self._lock:
            self.sent[channel] += 1
            return f"mk{next(self._numbers)}x{os.urandom(4).hex()}"

    def _acknowledge(self, marker: str, channel: str) -> None:
        with self._lock:
            self.acknowledged[marker] = channel

    def _retry_until_taken(self, attempt: Callable[[], bool], marker: str, channel: str) -> None:
        """Send the same bytes until they are taken, or everything ends."""
        while not self.stop.is_set():
            with suppress(OSError, smtplib.SMTPException, httpx.HTTPError):
                if attempt():
                    self._acknowledge(marker, channel)
                    return
            time.sleep(0.4)

    # -- one channel each ----

    def _send_mail(self) -> None:
        marker = self._make_marker("smtp")
        raw = compose_mail(marker, large=random.random() < 0.06)  # noqa: S311
        self._retry_until_taken(lambda: self._submit(raw), marker, "smtp")
        # the same by another channel
        if self.mailbox is not None and random.random() < 0.2:  # noqa: S311
            self.mailbox.deliver(USER, b"Received: from elsewhere\r\n" + raw)

    def _submit(self, raw: bytes) -> bool:
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=40) as client:
            client.ehlo("clinic.example")
            client.mail("a@clinic.example")
            client.rcpt("support@localhost")
            return client.data(raw)[0] == 250

    def _submit_form(self) -> None:
        """Submit a form to Formstack.

        Its webhook brings most submissions. For some it is never called: the backfill finds those
        once the form is known.
        """
        is_form_known = "formstack" in self.acknowledged.values()
        without_webhook = is_form_known and random.random() < 0.2  # noqa: S311
        marker = self._make_marker("backfill" if without_webhook else "formstack")
        number = str(random.randrange(10**9, 10**10))  # noqa: S311
        submission = Submission(
            number, datetime.now(UTC), f"please {marker}", f"{marker}@form.example"
        )
        self.formstack.forms.setdefault(FORM, []).append(submission)
        if without_webhook:  # only the backfill brings it
            self._acknowledge(marker, "backfill")
            return
        body = build_webhook_body(submission, FORM)
        if random.random() < 0.15:  # noqa: S311
            for _ in range(4):  # five at once
                Thread(
                    target=lambda: suppress_errors(lambda: self._post(body)), daemon=True
                ).start()
        self._retry_until_taken(lambda: self._post(body), marker, "formstack")

    def _post(self, body: bytes) -> bool:
        signed = hmac.new(KEY.encode(), body, sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-FS-Signature": f"sha256={signed}"}
        url = f"http://127.0.0.1:{self.webhook}/formstack"
        return httpx.post(url, content=body, headers=headers, timeout=40).status_code == 202

    def _drop_workbook(self) -> None:
        markers = [self._make_marker("folder") for _ in range(4)]
        with self._lock:
            earlier = [m for m, channel in self.acknowledged.items() if channel == "folder"]
        # exports overlap: the last row of the one before comes again
        raw, name = build_workbook([*earlier[-1:], *markers]), os.urandom(4).hex()
        names = [name, f"{name} again"] if random.random() < 0.3 else [name]  # noqa: S311
        for each in names:
            new = self.folder / f".{each}.part"
            new.write_bytes(raw)
            new.rename(self.folder / f"{each}.xlsx")
        for marker in markers:
            self._acknowledge(marker, "folder")

    def _append_mail(self) -> None:
        marker = self._make_marker("imap")
        assert self.mailbox is not None
        self.mailbox.deliver(USER, compose_mail(marker))
        self._acknowledge(marker, "imap")

    def _pipe_mail(self) -> None:
        marker = self._make_marker("pipe")
        raw = compose_mail(marker)
        self._retry_until_taken(
            lambda: self._add_call("deliver", "mail", "-", stdin=raw), marker, "pipe"
        )

    def _call(self) -> None:
        marker = self._make_marker("console")
        arguments = (
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
            if self._add_call(*arguments):  # a person who reads "try again" looks first
                self._acknowledge(marker, "console")

    def _add_call(self, *args: str, stdin: bytes = b"") -> bool:
        command = [sys.executable, "-m", "console.cli.main", *args]
        result = subprocess.run(
            command,
            env=self.environment,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
        )
        return result.returncode == 0


def suppress_errors(work: Callable[[], object]) -> None:
    """Call a function whose failure does not matter."""
    with suppress(OSError, httpx.HTTPError):
        work()


def compose_mail(marker: str, *, large: bool = False) -> bytes:
    """Return a mail with this marker, of 360 kB where it is to be large."""
    sender = REGULAR if random.random() < 0.03 else f"{marker}@mail.example"  # noqa: S311
    body = f"please help {marker}\r\n" + ("x" * 70 + "\r\n") * (5000 if large else 1)
    header = f"From: {sender}\r\nMessage-ID: <{marker}@mail.example>\r\nSubject: claim\r\n"
    return f"{header}\r\n{body}".encode()


def build_workbook(markers: list[str]) -> bytes:
    """Return an export with one row for each marker."""
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
