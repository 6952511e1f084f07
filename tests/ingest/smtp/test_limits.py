"""Limits of the SMTP listener against its clients, and how it closes."""

import asyncio
import os
import signal
import smtplib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ingest.intake import Transport
from ingest.smtp.listener import Listener
from ingest.smtp.session import CHUNK, GIVE_UP_FACTOR, MAX_ERRORS, MAX_JUNK
from tests.support.smtp_client import (
    DESK,
    FROM,
    HELLO,
    MAIL,
    TO,
    Client,
    MemoryIntake,
    run_listener,
    until,
)

LMTP = Transport.LMTP


def test_a_mail_of_the_limit_is_taken_and_one_octet_more_is_not(
    memory_intake: MemoryIntake,
) -> None:
    with run_listener(memory_intake, mail_limit=1000) as listener, Client(listener) as client:
        assert "250-SIZE 1000" in client.ask(HELLO)
        assert client.say("MAIL FROM:<a@b.example> SIZE=1001") == ["552"]
        for size, code in ((998, "250"), (999, "552")):
            client.send_envelope().send(b"x" * size + b"\r\n.\r\n")
            assert client.reply()[:3] == code
    assert [len(raw) for raw in memory_intake.raw] == [1000]


def test_a_mail_without_end_is_not_kept(memory_intake: MemoryIntake) -> None:
    with run_listener(memory_intake, mail_limit=4 * CHUNK) as listener, Client(listener) as client:
        client.send_envelope()
        (session,) = listener._limits[0].sessions
        for octets, is_held in ((2 * CHUNK, True), (3 * CHUNK, False)):
            seen = session._octets_received
            client.send(b"x" * octets)
            until(lambda want=seen + octets: session._octets_received == want)  # type: ignore[misc]
            assert client.is_silent(0.05)
            assert bool(listener._memory.held_octets) is is_held
        client.send(b"x" * 4 * GIVE_UP_FACTOR * CHUNK)
        assert client.reply().startswith("552")
        assert client.is_closed()
    assert memory_intake.arrivals == []


def test_recipients_of_a_mail_are_limited(memory_intake: MemoryIntake) -> None:
    with run_listener(memory_intake, smtp_recipients=2) as listener, Client(listener) as client:
        codes = client.say(HELLO, FROM, TO, "RCPT TO:<nobody@billing.example>", TO, TO, "DATA")
        assert codes == ["250", "250", "250", "550", "250", "452", "354"]
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
    assert memory_intake.get_next().envelope["rcpt_to"] == [DESK]


def test_connections_of_a_host_are_limited(memory_intake: MemoryIntake) -> None:
    with (
        run_listener(memory_intake, smtp_connections_per_host=1) as listener,
        Client(listener) as first,
    ):
        with Client(listener) as second:
            assert second.greeting.startswith("421 4.7.0")
            assert second.is_closed()
        assert first.say("NOOP", "QUIT") == ["250", "221"]
        assert first.is_closed()
        with Client(listener) as third:
            assert third.greeting.startswith("220")


def test_connections_are_limited_at_each_port(memory_intake: MemoryIntake) -> None:
    with (
        run_listener(memory_intake, smtp_connections=1) as listener,
        Client(listener),
        Client(listener) as second,
    ):
        assert second.greeting.startswith("421 4.3.2")
        with Client(listener, LMTP) as neighbour:
            assert neighbour.greeting.startswith("220")


@pytest.mark.parametrize("command", ["FOO", "MAIL FROM:<<<>", "RCPT TO:<guess@billing.example>"])
def test_errors_end_a_session(client: Client, command: str) -> None:
    client.say(HELLO, FROM)
    codes = client.say(*[command] * MAX_ERRORS)
    assert {code[0] for code in codes} == {"5"}
    assert client.reply().startswith("421 4.7.0")
    assert client.is_closed()


def test_commands_that_move_no_mail_end_a_session_and_mail_buys_more(client: Client) -> None:
    for _ in range(2):
        assert set(client.say(*["NOOP"] * (MAX_JUNK - 1))) == {"250"}
        client.send_envelope().send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
    assert client.say(*["VRFY a"] * MAX_JUNK, "NOOP") == ["252"] * MAX_JUNK + ["421"]
    assert client.is_closed()


# time


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("piece", [b"", b"x", b"x\r\n"])
def test_idle_and_trickling_clients_are_cut(
    memory_intake: MemoryIntake, piece: bytes, *, prepare: bool
) -> None:
    if piece == b"x\r\n" and not prepare:
        piece = b"NOOP "
    with (
        run_listener(memory_intake, smtp_idle_seconds=0.15) as listener,
        Client(listener) as client,
    ):
        if prepare:
            client.send_envelope()
        for _ in range(50):
            client.send(piece)
            if not client.is_silent(0.02):
                break
        else:
            pytest.fail("still open")
        assert client.reply().startswith("421 4.4.2")
        assert client.is_closed()


def test_a_slow_client_that_keeps_coming_is_served(memory_intake: MemoryIntake) -> None:
    idle_seconds = 1.5
    with (
        run_listener(memory_intake, smtp_idle_seconds=idle_seconds) as listener,
        Client(listener) as client,
    ):
        client.send_envelope()
        for _ in range(8):
            client.send(b"x" * 100 + b"\r\n")
            time.sleep(idle_seconds / 6)
        client.send(b".\r\n")
        assert client.reply().startswith("250")


@pytest.mark.parametrize("prepare", [False, True])
def test_a_session_ends_though_it_is_never_idle(
    memory_intake: MemoryIntake, *, prepare: bool
) -> None:
    with (
        run_listener(memory_intake, smtp_session_seconds=0.15) as listener,
        Client(listener) as client,
    ):
        if prepare:
            client.send_envelope()
        for _ in range(50):
            client.send(b"x" * 900 + b"\r\n" if prepare else b"N")
            if not client.is_silent(0.02):
                break
        assert client.reply().startswith("421 4.4.2")


def test_a_client_that_never_reads_is_cut(memory_intake: MemoryIntake) -> None:
    with (
        run_listener(memory_intake, smtp_idle_seconds=0.15) as listener,
        Client(listener) as client,
    ):
        (session,) = listener._limits[0].sessions
        # what the transport says when the client's window and our buffer are full
        session.pause_writing()
        client.send(b"NOOP\r\n")
        until(listener._limits[0].all_closed.is_set)


# opening and closing


def test_closing_lets_a_mail_finish_and_sends_idle_clients_away(
    memory_intake: MemoryIntake,
) -> None:
    with run_listener(memory_intake) as listener:
        idle, busy = Client(listener), Client(listener).send_envelope()
        busy.send(MAIL)
        closing = threading.Thread(target=_close, args=(listener, 30.0))
        closing.start()
        with idle:
            assert idle.reply().startswith("421 4.3.2")
            assert idle.is_closed()
        with pytest.raises(ConnectionRefusedError):
            Client(listener)
        with busy:
            busy.send(b".\r\n")
            assert busy.reply().startswith("250 2.0.0 stored as 1, ")
            assert busy.reply().startswith("421 4.3.2")
        closing.join(30)
        assert not closing.is_alive()


def test_closing_does_not_wait_for_ever(memory_intake: MemoryIntake) -> None:
    with run_listener(memory_intake) as listener, Client(listener).send_envelope() as stuck:
        _close(listener, 0.1)  # returns, though the client stays
        assert stuck.is_closed()
    assert memory_intake.arrivals == []


def _close(listener: Listener, seconds: float) -> None:
    asyncio.run_coroutine_threadsafe(
        listener.close(seconds), listener._servers[0].get_loop()
    ).result()


def test_a_port_that_is_taken_is_an_error(listener: Listener, memory_intake: MemoryIntake) -> None:
    with (
        pytest.raises(OSError, match="in use"),
        run_listener(memory_intake, lmtp_listen=f"127.0.0.1:{listener.ports[LMTP]}"),
    ):
        pass


def test_a_certificate_that_cannot_be_read_is_an_error(
    memory_intake: MemoryIntake, tmp_path: Path
) -> None:
    with (
        pytest.raises(FileNotFoundError),
        run_listener(memory_intake, tls_certificate=tmp_path / "none.pem"),
    ):
        pass


SERVE = """
from ingest.smtp import listener
from workflow.runtime import log
from workflow.settings.settings import Settings

log.listener_started = lambda channel, address: print(address, flush=True)
listener.serve(Settings(smtp_listen="127.0.0.1:0"), lambda arrival: 1)
print("drained")
"""


def test_the_process_ends_well_on_sigterm() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": "."},
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with smtplib.SMTP("127.0.0.1", port) as idle:
            process.send_signal(signal.SIGTERM)
            assert idle.getreply()[0] == 421
            idle.close()
        assert process.communicate(timeout=5)[0] == "drained\n"
    assert process.returncode == 0
