"""The SMTP listener over TLS."""

import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ingest.smtp.listener import Listener
from ingest.smtp.session import CHUNK
from tests.support.smtp_client import (
    FROM,
    HELLO,
    REPLY_SECONDS,
    TO,
    Client,
    MemoryIntake,
    create_certificate,
    run_listener,
    until,
)


@pytest.fixture
def secure(memory_intake: MemoryIntake, tmp_path: Path) -> Iterator[Listener]:
    with run_secure(memory_intake, tmp_path) as listener:
        yield listener


def run_secure(
    memory_intake: MemoryIntake, tmp_path: Path, **settings: object
) -> AbstractContextManager[Listener]:
    """Run a listener with a certificate; a host may have one connection."""
    return run_listener(
        memory_intake, smtp_connections_per_host=1, **create_certificate(tmp_path), **settings
    )


def test_a_mail_over_tls_says_so(secure: Listener, memory_intake: MemoryIntake) -> None:
    with Client(secure) as client:
        assert "250 STARTTLS" in client.ask(HELLO)
        assert client.say(FROM, "STARTTLS x", "STARTTLS") == ["250", "501", "220"]
        client.start_tls()
        assert client.say(FROM, TO) == ["503", "503"]  # nothing sent in the clear counts
        assert "STARTTLS" not in client.ask(HELLO)
        assert client.say("STARTTLS", "AUTH PLAIN") == ["503", "500"]
        client.send_envelope().send(b"x" * 3 * CHUNK + b"\r\n.\r\n")
        assert client.reply().startswith("250")
        assert client.say("QUIT") == ["221"]
    assert str(memory_intake.get_next().envelope["tls"]).startswith("TLSv1.3 TLS_")


def test_what_is_sent_before_the_handshake_is_forgotten(secure: Listener) -> None:
    with Client(secure) as client:
        client.send(f"STARTTLS\r\n{HELLO}\r\n{FROM}\r\n".encode())
        assert client.reply().startswith("220")
        client.start_tls()
        assert client.is_silent(0.1)
        assert client.say(TO) == ["503"]


@pytest.mark.parametrize("greet", [b"", b"this is not TLS\r\n" * 100])
def test_a_handshake_that_fails_ends_the_session(
    memory_intake: MemoryIntake, tmp_path: Path, greet: bytes
) -> None:
    with run_secure(memory_intake, tmp_path, smtp_idle_seconds=1.0) as listener:
        with Client(listener) as client:
            assert client.say("STARTTLS") == ["220"]
            client.send(greet)
            assert not client.is_silent(REPLY_SECONDS)
        until(listener._limits[0].all_closed.is_set)
        with Client(listener) as other:  # the only one its host may have
            assert other.greeting.startswith("220")


def test_a_client_that_hangs_up_within_the_handshake_leaves_at_once(
    memory_intake: MemoryIntake, tmp_path: Path
) -> None:
    with run_listener(memory_intake, **create_certificate(tmp_path)) as listener:
        client = Client(listener)
        client.say("STARTTLS")
        client.hang_up()
        until(listener._limits[0].all_closed.is_set)


def test_a_renewed_certificate_is_served_and_a_broken_one_is_not(
    secure: Listener, tmp_path: Path
) -> None:
    for name, served_name in (("new.example", b"new.example"), ("", b"new.example")):
        if name:
            create_certificate(tmp_path, name)
        else:
            (tmp_path / "cert.pem").write_text("half")
        with Client(secure) as client:
            client.say("STARTTLS")
            client.start_tls()
            assert isinstance(client.socket, ssl.SSLSocket)
            assert served_name in (client.socket.getpeercert(binary_form=True) or b"")
            assert client.say("QUIT") == ["221"]
            assert client.is_closed()
