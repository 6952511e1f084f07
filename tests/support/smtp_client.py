"""An SMTP client that sends exactly the given octets, and a listener on a loopback port."""

import contextlib
import datetime as dt
import queue
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ingest.intake import Accept, Arrival, Transport
from ingest.smtp.listener import Listener, run_in_thread
from workflow.settings.settings import Settings

REPLY_SECONDS = 30.0  # more than the busiest machine takes
DESK = "support@billing.example"
HELLO, FROM, TO = "EHLO clinic.example", "MAIL FROM:<a@clinic.example>", f"RCPT TO:<{DESK}>"
MAIL = b"From: a@clinic.example\r\nSubject: claim\r\n\r\nhello\r\n"


class MemoryIntake:
    """An intake in memory: called as accept(), it numbers the deliveries from 1."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self._new: queue.Queue[Arrival] = queue.Queue()

    def __call__(self, arrival: Arrival) -> int:
        self.arrivals.append(arrival)
        self._new.put(arrival)
        return len(self.arrivals)

    def get_next(self) -> Arrival:
        return self._new.get(timeout=REPLY_SECONDS)

    @property
    def raw(self) -> list[bytes]:
        return [arrival.raw for arrival in self.arrivals]


@contextmanager
def run_listener(accept: Accept, **settings: Any) -> Iterator[Listener]:
    defaults = {"smtp_listen": "127.0.0.1:0", "lmtp_listen": "127.0.0.1:0", "addresses": (DESK,)}
    with run_in_thread(Settings(**(defaults | settings)), accept) as listener:
        yield listener


class Client:
    """A connection. A reply is its whole text without the last CRLF.

    It is "" when the listener has closed.
    """

    def __init__(
        self,
        listener: Listener,
        transport: Transport = Transport.SMTP,
        *,
        expect_greeting: bool = True,
    ) -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", listener.ports[transport]), REPLY_SECONDS
        )
        self._buffer = b""
        self.greeting = self.reply() if expect_greeting else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, octets: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(octets)

    def reply(self) -> str:
        lines = [self._read_line()]
        while lines[-1][3:4] == "-":
            lines.append(self._read_line())
        return "\r\n".join(lines)

    def say(self, *commands: str | bytes) -> list[str]:
        """Send each, wait for its reply; returns the codes."""
        return [self.ask(command)[:3] for command in commands]

    def ask(self, command: str | bytes) -> str:
        self.send((command if isinstance(command, bytes) else command.encode()) + b"\r\n")
        return self.reply()

    def send_envelope(self, *recipients: str, hello: str = "EHLO clinic.example") -> Self:
        """Send everything up to DATA."""
        to = [f"RCPT TO:<{recipient}>" for recipient in recipients or (DESK,)]
        replies = self.say(hello, "MAIL FROM:<a@clinic.example>", *to, "DATA")
        assert replies == ["250"] * (len(to) + 2) + ["354"]
        return self

    def is_silent(self, seconds: float) -> bool:
        """Return whether nothing comes for so long, not even the end of the connection."""
        self.socket.settimeout(seconds)
        try:
            self._buffer += self._buffer or self.socket.recv(65536)
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        finally:
            self.socket.settimeout(REPLY_SECONDS)
        return False

    def is_closed(self) -> bool:
        """Return whether the listener has closed: nothing more, then the end."""
        return self.reply() == ""

    def hang_up(self) -> None:
        """Reset the connection, as a client that crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def start_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket, self._buffer = context.wrap_socket(self.socket), b""

    def _read_line(self) -> str:
        while b"\r\n" not in self._buffer:
            try:
                octets = self.socket.recv(65536)
            except ConnectionError:
                octets = b""
            if not octets:
                return ""
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("ascii")


def create_certificate(folder: Path, name: str = "mx.billing.example") -> dict[str, Path]:
    """A self-signed certificate in `folder`, as the settings that name it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate_object = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(day)
        .not_valid_after(day + dt.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    pem, nothing = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(certificate_object.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, nothing)
    )
    return {"tls_certificate": folder / "cert.pem", "tls_key": folder / "key.pem"}


def until(true: Callable[[], bool]) -> None:
    """Wait until a condition holds that another thread brings about; fail after REPLY_SECONDS."""
    latest = time.monotonic() + REPLY_SECONDS
    while not true():
        assert time.monotonic() < latest
        time.sleep(0.002)
