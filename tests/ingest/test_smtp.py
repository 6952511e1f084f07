"""The mail door over real sockets: what it takes, what it says, and when it says it."""

import asyncio
import logging
import os
import random
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from ingest import smtp_session
from ingest.intake import Arrival, Transport
from ingest.smtp import HOPS, LATER, Listener
from ingest.smtp_session import CHUNK, ERRORS, GIVE_UP, JUNK, MEMORY
from parsers.item import Format
from tests.ingest.smtp_client import DESK, MAIL, Client, Stored, certificate, doors

HELLO = "EHLO clinic.example"
FROM = "MAIL FROM:<a@clinic.example>"
TO = f"RCPT TO:<{DESK}>"
LMTP = Transport.LMTP


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def door(stored: Stored) -> Iterator[Listener]:
    with doors(stored) as listener:
        yield listener


@pytest.fixture
def client(door: Listener) -> Iterator[Client]:
    with Client(door) as connected:
        yield connected


# yes only after the store


def test_a_mail_arrives_with_its_envelope(door: Listener, stored: Stored) -> None:
    message = EmailMessage()
    message["Subject"] = "claim"
    message.set_content("hello")
    with smtplib.SMTP("127.0.0.1", door.ports[Transport.SMTP], local_hostname="pc.clinic.example") as sender:
        sender.send_message(message, "a@clinic.example", [DESK, DESK.upper(), "postmaster"])
    arrival = stored.next()
    assert (arrival.transport, arrival.format) == (Transport.SMTP, Format.MAIL)
    assert arrival.raw == b"\r\n".join(bytes(message).splitlines()) + b"\r\n"
    assert arrival.envelope == {
        "mail_from": "a@clinic.example",
        "rcpt_to": [DESK, "postmaster"],
        "peer": "127.0.0.1",
        "helo": "pc.clinic.example",
        "tls": "",
    }


def test_yes_is_said_only_once_it_is_stored(stored: Stored) -> None:
    commit = threading.Event()

    def accept(arrival: Arrival) -> int:
        commit.wait(3)
        return stored(arrival)

    with doors(accept) as listener, Client(listener) as client:
        client.envelope().send(MAIL + b".\r\n")
        early = not client.silent(0.1)
        commit.set()
        assert (early, client.reply()) == (False, "250 2.0.0 stored as 1")


@pytest.mark.parametrize(
    "error",
    [OperationalError("INSERT", {"raw": "secret"}, Exception("sqlite3")), OSError("secret"), KeyError("secret")],
)
def test_any_fault_is_try_again_in_fixed_words(error: Exception, stored: Stored) -> None:
    faults = [error]

    def accept(arrival: Arrival) -> int:
        if faults:
            raise faults.pop()
        return stored(arrival)

    with doors(accept) as listener, Client(listener) as client, capture_logs() as log:
        client.envelope().send(MAIL + b".\r\n")
        assert client.reply() == LATER
        assert client.say(FROM, TO, "DATA") == ["250", "250", "354"]
        client.send(MAIL + b".\r\n")
        assert client.reply() == "250 2.0.0 stored as 1"
    assert type(error).__name__ in str(log)
    assert "secret" not in str(log)


def test_a_store_that_takes_too_long_is_try_again() -> None:
    commit = threading.Event()

    def accept(arrival: Arrival) -> int:  # noqa: ARG001
        commit.wait(3)
        return 1

    with doors(accept, smtp_store_seconds=0.05) as listener, Client(listener) as client:
        client.envelope().send(MAIL + b".\r\n")
        reply = client.reply()
        commit.set()
        assert reply == LATER


def test_clients_that_hang_up_lose_no_mail_even_one_waiting_for_a_thread(stored: Stored) -> None:
    commit = threading.Event()

    def accept(arrival: Arrival) -> int:
        commit.wait(3)
        return stored(arrival)

    with doors(accept, smtp_connections=1) as listener:  # one thread
        for name in (b"1", b"2"):
            client = Client(listener).envelope()
            client.send(name + b"\r\n.\r\n")
            until(partial(stores, listener, int(name)))
            client.hang_up()
            until(listener._crowds[0].empty.is_set)
        with Client(listener) as third:  # both are still being stored: no more may pile up behind them
            third.envelope().send(MAIL + b".\r\n")
            assert third.reply() == LATER
        later = threading.Timer(0.1, commit.set)
        later.start()
    later.join()
    assert sorted(stored.raw) == [b"1\r\n", b"2\r\n"]  # closing waited for them


def test_a_client_that_closes_its_half_after_the_dot_hears_yes(client: Client) -> None:
    client.envelope().send(MAIL + b".\r\n")
    client.socket.shutdown(1)
    assert client.reply().startswith("250")


@pytest.mark.parametrize("cut", [b"", MAIL, MAIL + b".", MAIL + b".\r", MAIL[:-1]])
def test_a_mail_without_its_end_is_no_mail(door: Listener, stored: Stored, cut: bytes) -> None:
    with Client(door) as client:
        client.envelope().send(cut)
    until(door._crowds[0].empty.is_set)
    assert (stored.arrivals, door._crowds[0].held) == ([], 0)


# octets


@pytest.mark.parametrize(
    "between",
    [
        b"\n.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\n.\r",
        b"\r.\n",
        b"\r\n.\r\r\n",
        b"\n\n.\r\n",
    ],
)
def test_no_mail_is_smuggled_behind_another(client: Client, stored: Stored, between: bytes) -> None:
    second = f"MAIL FROM:<admin@billing.example>\r\n{TO}\r\nDATA\r\nSubject: forged\r\n\r\n".encode()
    client.envelope().send(b"Subject: first\r\n\r\nx" + between + second + b"\r\n.\r\n")
    assert client.reply().startswith("550 5.6.11")
    assert client.say("NOOP") == ["250"]
    assert stored.arrivals == []


@pytest.mark.parametrize(
    "sent", [b"\r\n .\r\n", b"\x00.\x00\r\n", b"\xc2\x85.\xc2\x85\r\n", bytes(range(14, 256)) + b"\r\n"]
)
def test_what_looks_like_an_end_is_content(client: Client, stored: Stored, sent: bytes) -> None:
    client.envelope().send(sent + b".\r\n")
    assert client.reply().startswith("250")
    assert stored.raw == [sent]


@pytest.mark.parametrize(
    ("sent", "raw"),
    [
        (b"", b""),
        (b"\r\n", b"\r\n"),
        (b"..\r\n", b".\r\n"),
        (b"..a\r\n...b\r\n ..\r\nc..\r\n..\r\n", b".a\r\n..b\r\n ..\r\nc..\r\n.\r\n"),
        (b".stuffed by nobody\r\n", b"stuffed by nobody\r\n"),
        (b"z" * 100_000 + b"\r\n", b"z" * 100_000 + b"\r\n"),
    ],
)
def test_dots_are_unstuffed_and_nothing_else_is_touched(
    client: Client, stored: Stored, sent: bytes, raw: bytes
) -> None:
    client.envelope().send(sent + b".\r\n")
    assert client.reply().startswith("250")
    assert stored.raw == [raw]


def test_octets_survive_however_they_are_cut(client: Client, stored: Stored) -> None:
    """Ends of lines, dots and the end of data fall across every border of reads and of the reader's chunks."""
    dice = random.Random()  # noqa: S311
    lines = [b"." * dice.randrange(3) + b"x" * dice.choice([0, 1, 70, 5000, CHUNK - 2, CHUNK]) for _ in range(200)]
    octets = b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines) + b".\r\n"
    client.envelope()
    while octets:
        cut = dice.choice([1, 2, 3, 4, 5, 1000, CHUNK - 1, CHUNK, 300_000])
        client.send(octets[:cut])
        octets = octets[cut:]
    assert client.reply().startswith("250")
    assert stored.raw == [b"".join(line + b"\r\n" for line in lines)]


@pytest.mark.parametrize("length", [998, 1000, CHUNK - 3, CHUNK, 2 * CHUNK + 1])
def test_a_dot_within_a_long_line_ends_nothing(client: Client, stored: Stored, length: int) -> None:
    client.envelope().send(b"A" * length)
    time.sleep(0.01)
    client.send(b".\r\n")
    assert client.silent(0.05)
    client.send(b".\r\n")
    assert client.reply().startswith("250")
    assert stored.raw == [b"A" * length + b".\r\n"]


# limits


def test_a_mail_of_the_limit_is_taken_and_one_octet_more_is_not(stored: Stored) -> None:
    with doors(stored, mail_limit=1000) as listener, Client(listener) as client:
        assert "250-SIZE 1000" in client.ask(HELLO)
        assert client.say("MAIL FROM:<a@b.example> SIZE=1001") == ["552"]
        for size, code in ((998, "250"), (999, "552")):
            client.envelope().send(b"x" * size + b"\r\n.\r\n")
            assert client.reply()[:3] == code
    assert [len(raw) for raw in stored.raw] == [1000]


def test_a_mail_without_end_is_not_kept(stored: Stored) -> None:
    with doors(stored, mail_limit=CHUNK) as listener, Client(listener) as client:
        client.envelope()
        (session,) = listener._crowds[0].sessions
        client.send(b"x" * 2 * CHUNK)
        until(lambda: session._received > 2 * CHUNK)
        assert client.silent(0.05)
        assert listener._crowds[0].held == 0
        client.send(b"x" * GIVE_UP * CHUNK)
        assert client.reply().startswith("552")
        assert client.closed()
    assert stored.arrivals == []


def test_all_mails_together_are_held_to_a_bound(stored: Stored) -> None:
    with doors(stored, mail_limit=1000) as listener, Client(listener) as client:
        client.envelope()
        listener._crowds[0].held = MEMORY * 1000
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("452 4.3.1")
        listener._crowds[0].held = 0
        client.envelope().send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
        assert listener._crowds[0].held == 0


def test_recipients_of_a_mail_are_limited(stored: Stored) -> None:
    with doors(stored, smtp_recipients=2) as listener, Client(listener) as client:
        codes = client.say(HELLO, FROM, TO, "RCPT TO:<nobody@billing.example>", TO, TO, "DATA")
        assert codes == ["250", "250", "250", "550", "250", "452", "354"]
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
    assert stored.next().envelope["rcpt_to"] == [DESK]


def test_connections_of_a_host_are_limited(stored: Stored) -> None:
    with doors(stored, smtp_connections_per_host=1) as listener, Client(listener) as first:
        with Client(listener) as second:
            assert second.greeting.startswith("421 4.7.0")
            assert second.closed()
        assert first.say("NOOP", "QUIT") == ["250", "221"]
        assert first.closed()
        with Client(listener) as third:
            assert third.greeting.startswith("220")


def test_connections_are_limited_at_each_door(stored: Stored) -> None:
    with doors(stored, smtp_connections=1) as listener, Client(listener), Client(listener) as second:
        assert second.greeting.startswith("421 4.3.2")
        with Client(listener, LMTP) as neighbour:
            assert neighbour.greeting.startswith("220")


@pytest.mark.parametrize("command", ["FOO", "MAIL FROM:<<<>", "RCPT TO:<guess@billing.example>"])
def test_errors_end_a_session(client: Client, command: str) -> None:
    client.say(HELLO, FROM)
    codes = client.say(*[command] * ERRORS)
    assert {code[0] for code in codes} == {"5"}
    assert client.reply().startswith("421 4.7.0")
    assert client.closed()


def test_commands_that_move_no_mail_end_a_session_and_mail_buys_more(client: Client) -> None:
    for _ in range(2):
        assert set(client.say(*["NOOP"] * (JUNK - 1))) == {"250"}
        client.envelope().send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
    assert client.say(*["VRFY a"] * JUNK, "NOOP") == ["252"] * JUNK + ["421"]
    assert client.closed()


# time


@pytest.mark.parametrize("prepare", [False, True])
@pytest.mark.parametrize("piece", [b"", b"x", b"x\r\n"])
def test_idle_and_trickling_clients_are_cut(stored: Stored, piece: bytes, *, prepare: bool) -> None:
    if piece == b"x\r\n" and not prepare:
        piece = b"NOOP "
    with doors(stored, smtp_idle_seconds=0.15) as listener, Client(listener) as client:
        if prepare:
            client.envelope()
        for _ in range(50):
            client.send(piece)
            if not client.silent(0.02):
                break
        else:
            pytest.fail("still open")
        assert client.reply().startswith("421 4.4.2")
        assert client.closed()


def test_a_slow_client_that_keeps_coming_is_served(stored: Stored) -> None:
    with doors(stored, smtp_idle_seconds=0.15) as listener, Client(listener) as client:
        client.envelope()
        for _ in range(6):
            client.send(b"x" * 100 + b"\r\n")
            time.sleep(0.05)
        client.send(b".\r\n")
        assert client.reply().startswith("250")


@pytest.mark.parametrize("prepare", [False, True])
def test_a_session_ends_though_it_is_never_idle(stored: Stored, *, prepare: bool) -> None:
    with doors(stored, smtp_session_seconds=0.15) as listener, Client(listener) as client:
        if prepare:
            client.envelope()
        for _ in range(50):
            client.send(b"x" * 900 + b"\r\n" if prepare else b"N")
            if not client.silent(0.02):
                break
        assert client.reply().startswith("421 4.4.2")


def test_a_client_that_never_reads_is_cut(stored: Stored) -> None:
    with doors(stored, smtp_idle_seconds=0.15) as listener, Client(listener) as client:
        (session,) = listener._crowds[0].sessions
        session.pause_writing()  # what the transport says when the client's window and our buffer are full
        client.send(b"NOOP\r\n")
        until(listener._crowds[0].empty.is_set)


# the protocol


def test_commands_have_an_order(client: Client) -> None:
    assert client.say(FROM) == ["503"]
    assert client.say(HELLO, TO, "DATA", FROM, "DATA", FROM, "RSET", TO) == [
        "250",
        "503",
        "503",
        "250",
        "503",
        "503",
        "250",
        "503",
    ]
    assert client.say(FROM, TO, HELLO, "DATA", "DATA x", "QUIT x", "QUIT") == [
        "250",
        "250",
        "250",
        "503",
        "501",
        "501",
        "221",
    ]


def test_the_hello_offers_what_we_can_and_nothing_else(client: Client) -> None:
    assert client.greeting == "220 billing.example ESMTP"
    offers = ["billing.example", "PIPELINING", "SIZE 33554432", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
    assert [line[4:] for line in client.ask(HELLO).split("\r\n")] == offers
    assert client.say("AUTH PLAIN", "EXPN staff", "BDAT 1", "LHLO a", "STARTTLS") == ["500", "500", "500", "500", "502"]
    assert client.ask(f"VRFY {DESK}") == client.ask("VRFY nobody@billing.example")


def test_bounces_and_senders_beyond_ascii_are_taken(client: Client, stored: Stored) -> None:
    assert client.say(HELLO, "MAIL FROM:<ü@clinic.example>") == ["250", "553"]
    for sender in ("MAIL FROM:<>", "MAIL FROM:<ü@clinic.example> SMTPUTF8 BODY=8BITMIME SIZE=48"):
        assert client.say(sender, TO, "DATA") == ["250", "250", "354"]
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
    assert [arrival.envelope["mail_from"] for arrival in stored.arrivals] == ["", "ü@clinic.example"]


@pytest.mark.parametrize(
    "line", [b"NOOP\n", b"NOOP \x00\r\n", b"MAIL FROM:<\xff@b.example>\r\n", b"NOOP " + b"x" * 9000 + b"\r\n"]
)
def test_a_line_that_is_no_command_is_refused(client: Client, line: bytes) -> None:
    client.say(HELLO)
    client.send(line)
    assert client.reply().startswith("500 5.5.")
    assert client.say("NOOP") == ["250"]


def test_a_line_without_end_is_not_kept(client: Client) -> None:
    client.send(b"x" * 4 * CHUNK)
    assert client.reply()[:3] in {"500", ""}
    assert client.closed()


def test_commands_may_come_in_groups(client: Client, stored: Stored) -> None:
    client.say(HELLO)
    client.send(f"{FROM}\r\n{TO}\r\nDATA\r\n".encode())
    assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
    client.send(MAIL + b".\r\nRSET\r\nQUIT\r\n")
    assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "221"]
    assert stored.raw == [MAIL]


def test_a_mail_sent_before_it_was_asked_for_is_not_taken(client: Client, stored: Stored) -> None:
    client.say(HELLO)
    client.send(f"{FROM}\r\n{TO}\r\nDATA\r\n".encode() + MAIL + b".\r\n")
    assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "554"]
    assert client.closed()
    assert stored.arrivals == []


def test_a_client_that_talks_before_it_is_greeted_is_sent_away(door: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_session, "GREET", 0.1)  # a busy machine may take longer than the real one to say anything
    with Client(door, greeted=False) as client:
        client.send(f"{HELLO}\r\n".encode())
        assert client.reply().startswith("554 5.5.0")


def test_a_web_browser_is_sent_away(client: Client) -> None:
    assert client.say("POST / HTTP/1.1") == ["521"]
    assert client.closed()


def test_a_mail_in_a_loop_is_refused(client: Client, stored: Stored) -> None:
    for hops, code in ((HOPS, "250"), (HOPS + 1, "554")):
        received = b"Received: from a by b;\r\n\tnow\r\n" * (hops - 1) + b"RECEIVED: by c\r\n"
        client.envelope().send(received + MAIL + b"Received: quoted\r\n.\r\n")
        assert client.reply()[:3] == code
    assert len(stored.arrivals) == 1


def test_the_log_holds_no_address_and_no_text(door: Listener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as log, Client(door) as client:
        client.envelope().send(MAIL + b".\r\n")
        client.reply()
        client.say("GET clinic.example", "NOOP")
    assert [line["event"] for line in log] == ["refused"]
    assert "clinic" not in caplog.text + str(log)


# TLS


@pytest.fixture
def secure(stored: Stored, tmp_path: Path) -> Iterator[Listener]:
    with doors(stored, smtp_idle_seconds=0.3, smtp_connections_per_host=1, **certificate(tmp_path)) as listener:
        yield listener


def test_a_mail_over_tls_says_so(secure: Listener, stored: Stored) -> None:
    with Client(secure) as client:
        assert "250 STARTTLS" in client.ask(HELLO)
        assert client.say(FROM, "STARTTLS x", "STARTTLS") == ["250", "501", "220"]
        client.start_tls()
        assert client.say(FROM, TO) == ["503", "503"]  # nothing said in the clear counts
        assert "STARTTLS" not in client.ask(HELLO)
        assert client.say("STARTTLS", "AUTH PLAIN") == ["503", "500"]
        client.envelope().send(b"x" * 3 * CHUNK + b"\r\n.\r\n")
        assert client.reply().startswith("250")
        assert client.say("QUIT") == ["221"]
    assert str(stored.next().envelope["tls"]).startswith("TLSv1.3 TLS_")


def test_what_is_sent_before_the_handshake_is_forgotten(secure: Listener) -> None:
    with Client(secure) as client:
        client.send(f"STARTTLS\r\n{HELLO}\r\n{FROM}\r\n".encode())
        assert client.reply().startswith("220")
        client.start_tls()
        assert client.silent(0.1)
        assert client.say(TO) == ["503"]


@pytest.mark.parametrize("greet", [b"", b"this is not TLS\r\n" * 100])
def test_a_handshake_that_fails_ends_the_session(secure: Listener, greet: bytes) -> None:
    with Client(secure) as client:
        assert client.say("STARTTLS") == ["220"]
        client.send(greet)
        assert not client.silent(2)
    until(secure._crowds[0].empty.is_set)
    with Client(secure) as other:  # the only one its host may have
        assert other.greeting.startswith("220")


def test_a_client_that_hangs_up_within_the_handshake_leaves_at_once(stored: Stored, tmp_path: Path) -> None:
    with doors(stored, **certificate(tmp_path)) as listener:
        client = Client(listener)
        client.say("STARTTLS")
        client.hang_up()
        until(listener._crowds[0].empty.is_set)


def test_a_renewed_certificate_is_served_and_a_broken_one_is_not(secure: Listener, tmp_path: Path) -> None:
    for name, served in (("new.example", b"new.example"), ("", b"new.example")):
        if name:
            certificate(tmp_path, name)
        else:
            (tmp_path / "cert.pem").write_text("half")
        with Client(secure) as client:
            client.say("STARTTLS")
            client.start_tls()
            assert served in (client.socket.getpeercert(binary_form=True) or b"")  # type: ignore[attr-defined]
            assert client.say("QUIT") == ["221"]
            assert client.closed()


# LMTP


def test_lmtp_answers_for_each_recipient_it_accepted(door: Listener, stored: Stored) -> None:
    with Client(door, LMTP) as client:
        assert client.say(HELLO, "HELO a", "LHLO mx", FROM) == ["500", "500", "250", "250"]
        assert client.say(TO, "RCPT TO:<nobody@billing.example>", TO, "RCPT TO:<postmaster>", "DATA")[-1] == "354"
        client.send(MAIL + b".\r\n")
        assert [client.reply() for _ in range(3)] == ["250 2.0.0 stored as 1"] * 3
        assert client.say("NOOP") == ["250"]
    arrival = stored.next()
    assert (arrival.transport, arrival.envelope["rcpt_to"]) == (Transport.LMTP, [DESK, "postmaster"])


@pytest.mark.parametrize("error", [OSError(), KeyError()])
@pytest.mark.parametrize(("mail", "code"), [(MAIL, "451"), (b"bare\n\r\n", "550"), (b"x" * 2000 + b"\r\n", "552")])
def test_lmtp_says_no_for_each_recipient(error: Exception, mail: bytes, code: str) -> None:
    def accept(arrival: Arrival) -> int:  # noqa: ARG001
        raise error

    with doors(accept, mail_limit=1000) as listener, Client(listener, LMTP) as client:
        client.envelope(DESK, DESK, hello="LHLO mx").send(mail + b".\r\nNOOP\r\n")
        assert [client.reply()[:3] for _ in range(3)] == [code, code, "250"]


# opening and closing


def test_closing_lets_a_mail_finish_and_sends_idle_clients_away(stored: Stored) -> None:
    with doors(stored) as listener:
        idle, busy = Client(listener), Client(listener).envelope()
        busy.send(MAIL)
        closing = threading.Thread(target=_close, args=(listener, 3.0))
        closing.start()
        with idle:
            assert idle.reply().startswith("421 4.3.2")
            assert idle.closed()
        with pytest.raises(ConnectionRefusedError):
            Client(listener)
        with busy:
            busy.send(b".\r\n")
            assert busy.reply() == "250 2.0.0 stored as 1"
            assert busy.reply().startswith("421 4.3.2")
        closing.join(2)
        assert not closing.is_alive()


def test_closing_does_not_wait_for_ever(stored: Stored) -> None:
    with doors(stored) as listener, Client(listener).envelope() as stuck:
        begun = time.monotonic()
        _close(listener, 0.1)
        assert stuck.closed()
        assert time.monotonic() - begun < 2
    assert stored.arrivals == []


def _close(listener: Listener, seconds: float) -> None:
    asyncio.run_coroutine_threadsafe(listener.close(seconds), listener._servers[0].get_loop()).result()


def test_a_port_that_is_taken_is_an_error(door: Listener, stored: Stored) -> None:
    with pytest.raises(OSError, match="in use"), doors(stored, lmtp_listen=f"127.0.0.1:{door.ports[LMTP]}"):
        pass


def test_a_certificate_that_cannot_be_read_is_an_error(stored: Stored, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), doors(stored, tls_certificate=tmp_path / "none.pem"):
        pass


SERVE = """
from ingest import smtp
from workflow import journal
from workflow.settings import Settings

journal.listening = lambda door, address: print(address, flush=True)
smtp.serve(Settings(smtp_listen="127.0.0.1:0"), lambda arrival: 1)
print("drained")
"""


def test_the_process_ends_well_on_sigterm() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=5)[0] == "drained\n"
    assert process.returncode == 0


def stores(listener: Listener, want: int) -> bool:
    return len(listener._storing._running) == want


def until(true: Callable[[], bool]) -> None:
    """Wait, up to 3 seconds, for what another thread is about to do."""
    latest = time.monotonic() + 3
    while not true():
        assert time.monotonic() < latest
        time.sleep(0.002)
