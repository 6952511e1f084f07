"""The SMTP listener over real sockets: mail it takes, its replies, and that 250 means stored."""

import logging
import random
import smtplib
import threading
import time
from email.message import EmailMessage
from functools import partial

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from ingest.intake import Arrival, Transport
from ingest.smtp import session
from ingest.smtp.listener import MAX_HOPS, TRY_LATER, Listener
from ingest.smtp.session import CHUNK
from parsers.item import Format
from tests.support.smtp_client import (
    DESK,
    FROM,
    HELLO,
    MAIL,
    REPLY_SECONDS,
    TO,
    Client,
    MemoryIntake,
    run_listener,
    until,
)


def test_a_mail_arrives_with_its_envelope(listener: Listener, memory_intake: MemoryIntake) -> None:
    message = EmailMessage()
    message["Subject"] = "claim"
    message.set_content("hello")
    with smtplib.SMTP(
        "127.0.0.1", listener.ports[Transport.SMTP], local_hostname="pc.clinic.example"
    ) as sender:
        sender.send_message(message, "a@clinic.example", [DESK, DESK.upper(), "postmaster"])
    arrival = memory_intake.get_next()
    assert (arrival.transport, arrival.format) == (Transport.SMTP, Format.MAIL)
    assert arrival.raw == b"\r\n".join(bytes(message).splitlines()) + b"\r\n"
    assert arrival.envelope == {
        "mail_from": "a@clinic.example",
        "rcpt_to": [DESK, "postmaster"],
        "peer": "127.0.0.1",
        "helo": "pc.clinic.example",
        "tls": "",
    }


def test_a_mail_is_acknowledged_only_once_it_is_stored(memory_intake: MemoryIntake) -> None:
    commit = threading.Event()

    def accept(arrival: Arrival) -> int:
        commit.wait(REPLY_SECONDS)
        return memory_intake(arrival)

    with run_listener(accept) as listener, Client(listener) as client:
        client.send_envelope().send(MAIL + b".\r\n")
        early = not client.is_silent(0.1)
        commit.set()
        reply = client.reply()
        assert (early, reply) == (
            False,
            f"250 2.0.0 stored as 1, {memory_intake.arrivals[0].reference}",
        )


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("INSERT", {"raw": "secret"}, Exception("sqlite3")),
        OSError("secret"),
        KeyError("secret"),
    ],
)
def test_any_fault_is_try_again_in_fixed_words(
    error: Exception, memory_intake: MemoryIntake
) -> None:
    faults = [error]

    def accept(arrival: Arrival) -> int:
        if faults:
            raise faults.pop()
        return memory_intake(arrival)

    with run_listener(accept) as listener, Client(listener) as client, capture_logs() as log:
        client.send_envelope().send(MAIL + b".\r\n")
        assert client.reply() == TRY_LATER
        assert client.say(FROM, TO, "DATA") == ["250", "250", "354"]
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("250 2.0.0 stored as 1, ")
    assert type(error).__name__ in str(log)
    assert "secret" not in str(log)


def test_each_transaction_has_a_name_of_its_own_that_the_sender_hears(
    client: Client, memory_intake: MemoryIntake
) -> None:
    references = []
    for _ in range(2):
        client.send_envelope().send(MAIL + b".\r\n")
        references.append(client.reply().rpartition(" ")[2])
    assert references == [arrival.reference for arrival in memory_intake.arrivals]
    assert len(set(references)) == 2
    assert [len(name) for name in references] == [16, 16]


def test_a_store_that_takes_too_long_is_try_again() -> None:
    commit = threading.Event()

    def accept(arrival: Arrival) -> int:  # noqa: ARG001
        commit.wait(REPLY_SECONDS)
        return 1

    with run_listener(accept, smtp_store_seconds=0.05) as listener, Client(listener) as client:
        client.send_envelope().send(MAIL + b".\r\n")
        reply = client.reply()
        commit.set()
        assert reply == TRY_LATER


def test_clients_that_hang_up_lose_no_mail_even_one_waiting_for_a_thread(
    memory_intake: MemoryIntake,
) -> None:
    commit = threading.Event()

    def accept(arrival: Arrival) -> int:
        commit.wait(REPLY_SECONDS)
        return memory_intake(arrival)

    with run_listener(accept, smtp_connections=1) as listener:  # one thread
        for name in (b"1", b"2"):
            client = Client(listener).send_envelope()
            client.send(name + b"\r\n.\r\n")
            until(partial(is_storing, listener, int(name)))
            client.hang_up()
            until(listener._limits[0].all_closed.is_set)
        # both are still being stored: no more may pile up behind them
        with Client(listener) as third:
            third.send_envelope().send(MAIL + b".\r\n")
            assert third.reply() == TRY_LATER
        later = threading.Timer(0.1, commit.set)
        later.start()
    later.join()
    assert sorted(memory_intake.raw) == [b"1\r\n", b"2\r\n"]  # closing waited for them


def test_a_client_that_closes_its_half_after_the_dot_hears_yes(client: Client) -> None:
    client.send_envelope().send(MAIL + b".\r\n")
    client.socket.shutdown(1)
    assert client.reply().startswith("250")


@pytest.mark.parametrize("cut", [b"", MAIL, MAIL + b".", MAIL + b".\r", MAIL[:-1]])
def test_a_mail_without_its_end_is_no_mail(
    listener: Listener, memory_intake: MemoryIntake, cut: bytes
) -> None:
    with Client(listener) as client:
        client.send_envelope().send(cut)
    until(listener._limits[0].all_closed.is_set)
    assert (memory_intake.arrivals, listener._memory.held_octets) == ([], 0)


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
def test_no_mail_is_smuggled_behind_another(
    client: Client, memory_intake: MemoryIntake, between: bytes
) -> None:
    second = (
        f"MAIL FROM:<admin@billing.example>\r\n{TO}\r\nDATA\r\nSubject: forged\r\n\r\n".encode()
    )
    client.send_envelope().send(b"Subject: first\r\n\r\nx" + between + second + b"\r\n.\r\n")
    assert client.reply().startswith("550 5.6.11")
    assert client.say("NOOP") == ["250"]
    assert memory_intake.arrivals == []


@pytest.mark.parametrize(
    "body",
    [b"\r\n .\r\n", b"\x00.\x00\r\n", b"\xc2\x85.\xc2\x85\r\n", bytes(range(14, 256)) + b"\r\n"],
)
def test_what_looks_like_an_end_is_content(
    client: Client, memory_intake: MemoryIntake, body: bytes
) -> None:
    client.send_envelope().send(body + b".\r\n")
    assert client.reply().startswith("250")
    assert memory_intake.raw == [body]


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
    client: Client, memory_intake: MemoryIntake, sent: bytes, raw: bytes
) -> None:
    client.send_envelope().send(sent + b".\r\n")
    assert client.reply().startswith("250")
    assert memory_intake.raw == [raw]


def test_octets_survive_however_they_are_cut(client: Client, memory_intake: MemoryIntake) -> None:
    """Line ends, dots and the end of data at every border.

    Borders of reads, and of the reader's chunks.
    """
    dice = random.Random()  # noqa: S311
    lines = [
        b"." * dice.randrange(3) + b"x" * dice.choice([0, 1, 70, 5000, CHUNK - 2, CHUNK])
        for _ in range(200)
    ]
    octets = b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines) + b".\r\n"
    client.send_envelope()
    while octets:
        cut = dice.choice([1, 2, 3, 4, 5, 1000, CHUNK - 1, CHUNK, 300_000])
        client.send(octets[:cut])
        octets = octets[cut:]
    assert client.reply().startswith("250")
    assert memory_intake.raw == [b"".join(line + b"\r\n" for line in lines)]


@pytest.mark.parametrize("length", [998, 1000, CHUNK - 3, CHUNK, 2 * CHUNK + 1])
def test_a_dot_within_a_long_line_ends_nothing(
    client: Client, memory_intake: MemoryIntake, length: int
) -> None:
    client.send_envelope().send(b"A" * length)
    time.sleep(0.01)
    client.send(b".\r\n")
    assert client.is_silent(0.05)
    client.send(b".\r\n")
    assert client.reply().startswith("250")
    assert memory_intake.raw == [b"A" * length + b".\r\n"]


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
    offers = [
        "billing.example",
        "PIPELINING",
        "SIZE 33554432",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
    ]
    assert [line[4:] for line in client.ask(HELLO).split("\r\n")] == offers
    assert client.say("AUTH PLAIN", "EXPN staff", "BDAT 1", "LHLO a", "STARTTLS") == [
        "500",
        "500",
        "500",
        "500",
        "502",
    ]
    assert client.ask(f"VRFY {DESK}") == client.ask("VRFY nobody@billing.example")


def test_bounces_and_senders_beyond_ascii_are_taken(
    client: Client, memory_intake: MemoryIntake
) -> None:
    assert client.say(HELLO, "MAIL FROM:<ü@clinic.example>") == ["250", "553"]
    for sender in ("MAIL FROM:<>", "MAIL FROM:<ü@clinic.example> SMTPUTF8 BODY=8BITMIME SIZE=48"):
        assert client.say(sender, TO, "DATA") == ["250", "250", "354"]
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
    assert [arrival.envelope["mail_from"] for arrival in memory_intake.arrivals] == [
        "",
        "ü@clinic.example",
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"NOOP\n",
        b"NOOP \x00\r\n",
        b"MAIL FROM:<\xff@b.example>\r\n",
        b"NOOP " + b"x" * 9000 + b"\r\n",
    ],
)
def test_a_line_that_is_no_command_is_refused(client: Client, line: bytes) -> None:
    client.say(HELLO)
    client.send(line)
    assert client.reply().startswith("500 5.5.")
    assert client.say("NOOP") == ["250"]


def test_a_line_without_end_is_not_kept(client: Client) -> None:
    client.send(b"x" * 4 * CHUNK)
    assert client.reply()[:3] in {"500", ""}
    assert client.is_closed()


def test_commands_may_come_in_groups(client: Client, memory_intake: MemoryIntake) -> None:
    client.say(HELLO)
    client.send(f"{FROM}\r\n{TO}\r\nDATA\r\n".encode())
    assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
    client.send(MAIL + b".\r\nRSET\r\nQUIT\r\n")
    assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "221"]
    assert memory_intake.raw == [MAIL]


def test_a_mail_sent_before_it_was_asked_for_is_not_taken(
    client: Client, memory_intake: MemoryIntake
) -> None:
    client.say(HELLO)
    client.send(f"{FROM}\r\n{TO}\r\nDATA\r\n".encode() + MAIL + b".\r\n")
    assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "554"]
    assert client.is_closed()
    assert memory_intake.arrivals == []


def test_a_client_that_talks_before_it_is_greeted_is_sent_away(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    # long enough for a busy machine to be the first to send
    monkeypatch.setattr(session, "GREET_SECONDS", 1.0)
    with Client(listener, expect_greeting=False) as client:
        client.send(f"{HELLO}\r\n".encode())
        assert client.reply().startswith("554 5.5.0")


def test_a_web_browser_is_sent_away(client: Client) -> None:
    assert client.say("POST / HTTP/1.1") == ["521"]
    assert client.is_closed()


def test_a_mail_in_a_loop_is_refused(client: Client, memory_intake: MemoryIntake) -> None:
    for hops, code in ((MAX_HOPS, "250"), (MAX_HOPS + 1, "554")):
        received = b"Received: from a by b;\r\n\tnow\r\n" * (hops - 1) + b"RECEIVED: by c\r\n"
        client.send_envelope().send(received + MAIL + b"Received: quoted\r\n.\r\n")
        assert client.reply()[:3] == code
    assert len(memory_intake.arrivals) == 1


def test_the_log_holds_no_address_and_no_text(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as log, Client(listener) as client:
        client.send_envelope().send(MAIL + b".\r\n")
        client.reply()
        client.say("GET clinic.example", "NOOP")
    assert [line["event"] for line in log] == ["refused"]
    assert "clinic" not in caplog.text + str(log)


def is_storing(listener: Listener, want: int) -> bool:
    return len(listener._storing._running) == want
