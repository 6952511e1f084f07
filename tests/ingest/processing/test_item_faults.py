"""Faults of one item stay with that item, at the channels whose sender tries again.

Each test arms a fault in our own code for one item, over the channel's real socket or file: the
items behind it are taken, its sender gets "try again" or it is kept, and `intake status` names it
until it was taken.
"""

import hmac
import smtplib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.exc import DataError
from structlog.testing import capture_logs
from werkzeug.serving import make_server

from console.cli.main import cli
from console.presenters.operations import present_status
from ingest import intake as intake_module
from ingest.formstack.spool import SPOOL_FOLDER, Spool, drain
from ingest.intake import Arrival, Intake, Transport
from ingest.linked_files import fetch as linked_files_fetch
from ingest.linked_files.download import DownloadedFile
from ingest.processing.process import process_waiting
from ingest.smtp import listener as smtp_listener
from ingest.smtp.listener import Listener, run_in_thread
from parsers.item import Format
from tests.support.context import HandClock, count_rows
from tests.support.smtp_client import DESK, Client
from webhooks import app
from webhooks.app import create_app
from workflow.context import AppContext, open_context
from workflow.filing.linked_files import LinkedFile
from workflow.models.core import Delivery, ItemFault, Message, Ticket
from workflow.models.states import LinkState
from workflow.operations import item_faults, status
from workflow.operations.item_faults import BACKOFF, ItemFaults, record_unexpected_fault
from workflow.settings.settings import Settings

POISON = b"words of a customer"
KEY = "test key"
FAULTS = [
    KeyError("words of a customer"),
    MemoryError(),
    DataError("words of a customer", {}, Exception()),
]
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        smtp_listen="127.0.0.1:0",
        lmtp_listen="127.0.0.1:0",
        addresses=(DESK,),
        formstack_key=SecretStr(KEY),
    )


class FaultyIntake(Intake):
    """The real intake with a fault of ours for arrivals that hold the poison.

    In the middle of the shared commit.
    """

    def __init__(
        self, context: AppContext, fault: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        super().__init__(context)
        self.armed = True
        whole = intake_module._store

        def store(session: Any, batch: Any, now: Any) -> None:
            if self.armed and any(POISON in one.arrival.raw for one in batch):
                raise fault
            whole(session, batch, now)

        monkeypatch.setattr(intake_module, "_store", store)


def list_named_items(context: AppContext, channel: str) -> list[str]:
    """Return what `intake status` says of a channel; it may not quote the item."""
    data = present_status(context)
    words = [
        one["words"]
        for one in data["troubles"]
        if one["channel"] == channel and one["needs_person"]
    ]
    assert set(words) <= set(data["needs"])
    assert "customer" not in str(data)
    return words


@contextmanager
def run_listener(context: AppContext, accept: Callable[[Arrival], int]) -> Iterator[Listener]:
    with run_in_thread(
        context.settings, accept, partial(record_unexpected_fault, context.store, context.clock)
    ) as listener:
        yield listener


def send(listener: Listener, transport: Transport, text: bytes) -> int:
    kind = smtplib.SMTP if transport is Transport.SMTP else smtplib.LMTP
    with kind("127.0.0.1", listener.ports[transport]) as client:
        try:
            client.sendmail("a@clinic.example", [DESK], b"Subject: claim\r\n\r\n" + text)
        except smtplib.SMTPDataError as error:
            return error.smtp_code
    return 250


@each_fault
@pytest.mark.parametrize("transport", [Transport.SMTP, Transport.LMTP])
def test_a_mail_that_breaks_the_intake_is_asked_for_again_and_named(
    any_context: AppContext, transport: Transport, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_intake = FaultyIntake(any_context, fault, monkeypatch)
    with run_listener(any_context, faulty_intake.accept) as listener, capture_logs() as lines:
        assert send(listener, transport, POISON) == 451
        assert send(listener, transport, b"another") == 250
        (words,) = list_named_items(any_context, transport)
        assert f"{transport}: 1 item cannot be stored since 2026-03-02 15:00 UTC" in words
        assert type(fault).__name__ in words
        assert send(listener, transport, POISON) == 451, "its sender tries again"
        assert len(list_named_items(any_context, transport)) == 1
        faulty_intake.armed = False
        assert send(listener, transport, POISON) == 250
    assert list_named_items(any_context, transport) == [], "stored by now"
    assert "customer" not in str(lines)
    assert count_rows(any_context, Delivery) == 2


def test_a_session_that_breaks_us_is_answered_and_named_for_a_day(
    context: AppContext, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, fault = smtp_listener._build_envelope, KeyError("words of a customer")

    def envelope(server: Any, session: Any, smtp_envelope: Any) -> dict[str, object]:
        if smtp_envelope.mail_from == "poison@clinic.example":
            raise fault
        return whole(server, session, smtp_envelope)

    monkeypatch.setattr(smtp_listener, "_build_envelope", envelope)
    with run_listener(context, Intake(context).accept) as listener, Client(listener) as client:
        client.say("EHLO me", "MAIL FROM:<poison@clinic.example>", f"RCPT TO:<{DESK}>", "DATA")
        client.send(b"Subject: x\r\n\r\ny\r\n.\r\n")
        assert client.reply().startswith("451")
        assert send(listener, Transport.SMTP, b"another") == 250
    (words,) = list_named_items(context, "smtp")
    assert "test_item_faults.py:" in words, "the place in our code"
    clock.turn(hours=25)
    assert list_named_items(context, "smtp") == []


ODD_MAILS = {
    "NUL": b"Subject: a\0b\r\n\r\nhello\0\r\n",
    "8 bit": b"Subject: \xff\xfe\r\n\r\n\x80\x81\r\n",
    "no header": b"\r\n\r\n",
    "a header of a megabyte": b"Subject: "
    + b"x" * 900
    + b"\r\n "
    + b"y" * 900_000
    + b"\r\n\r\nhello\r\n",
    "100,000 fields": b"X: y\r\n" * 100_000 + b"\r\nhello\r\n",
}


@pytest.mark.parametrize("raw", ODD_MAILS.values(), ids=ODD_MAILS)
def test_odd_mails_by_smtp_hold_up_nobody(any_context: AppContext, raw: bytes) -> None:
    with run_listener(any_context, Intake(any_context).accept) as listener:
        with Client(listener) as client:
            client.say("EHLO me", "MAIL FROM:<a@clinic.example>", f"RCPT TO:<{DESK}>", "DATA")
            client.send(raw + b".\r\n")
            assert client.reply()[:3] in {"250", "500", "550", "554"}
        assert send(listener, Transport.SMTP, b"another") == 250
    process_waiting(any_context)
    assert list_named_items(any_context, "smtp") == []


def test_an_envelope_of_odd_bytes_is_stored_on_every_database(any_context: AppContext) -> None:
    """The pipe gets its sender from the command line.

    Where bytes that are not UTF-8 are lone surrogates.
    """
    odd = {"mail_from": "f\udcfcr\0@x.example", "rcpt_to": ["a\udcff", DESK]}
    Intake(any_context).accept(
        Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"x", envelope=odd)
    )
    with any_context.store.read_only() as session:
        stored = session.scalars(select(Delivery)).one()
    assert stored.envelope == {"mail_from": "f?r\ufffd@x.example", "rcpt_to": ["a?", DESK]}


# -- the webhook and its spool ----


@pytest.fixture
def post() -> Iterator[Callable[..., int]]:
    running = []

    def start(context: AppContext, intake: Intake) -> Callable[[bytes], int]:
        server = make_server("127.0.0.1", 0, create_app(context, intake.accept_all), threaded=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))

        def send_form(body: bytes, kind: str = "application/x-www-form-urlencoded") -> int:
            signature = "sha256=" + hmac.new(KEY.encode(), body, sha256).hexdigest()
            headers = {"Content-Type": kind, "X-FS-Signature": signature}
            return httpx.post(
                f"http://127.0.0.1:{server.port}/formstack", content=body, headers=headers
            ).status_code

        return send_form

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def make_form(number: int, **more: str) -> bytes:
    return urlencode({"FormID": "1", "UniqueID": str(number), **more}).encode()


@each_fault
def test_a_form_that_breaks_the_intake_is_spooled_and_those_behind_it_are_stored(
    context: AppContext, post: Callable[..., Any], fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_intake = FaultyIntake(context, fault, monkeypatch)
    send_form = post(context, faulty_intake)
    poison = make_form(1) + b"&Message=" + POISON
    assert send_form(poison) == 202, "it is kept in the spool"
    assert send_form(make_form(2)) == 202
    (words,) = list_named_items(context, "formstack")
    assert type(fault).__name__ in words
    waiting = Spool(context.settings.home / SPOOL_FOLDER, context.sealer)
    drain(context, faulty_intake.accept)
    assert count_rows(context, Delivery) == 1
    assert waiting.count_damaged() == 1, "set aside, so that those behind it are drained"
    faulty_intake.armed = False
    for path in waiting.list_waiting():
        path.unlink()
    waiting.retry_damaged()
    assert drain(context, faulty_intake.accept) == 1
    assert (count_rows(context, Delivery), list_named_items(context, "formstack")) == (2, [])


@each_fault
def test_what_cannot_be_drained_holds_up_nothing_behind_it(
    context: AppContext, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_intake, waiting = (
        FaultyIntake(context, fault, monkeypatch),
        Spool(context.settings.home / SPOOL_FOLDER, context.sealer),
    )
    for raw in (make_form(1), POISON, make_form(2)):
        waiting.store(Arrival(transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=raw))
    assert drain(context, faulty_intake.accept) == 2
    assert (count_rows(context, Delivery), waiting.count_damaged(), waiting.list_waiting()) == (
        2,
        1,
        [],
    )


KINDS = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]
ODD_FORMS = [b'{"FormID": "1", "x": "\xff\xfe"', b"\xff\0=%ff%00&&;", b"[" * 50_000, b"--b\r\n\r\n"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", ODD_FORMS, ids=range(len(ODD_FORMS)))
def test_odd_forms_hold_up_nobody(
    context: AppContext, post: Callable[..., Any], body: bytes, kind: str
) -> None:
    send_form = post(context, Intake(context))
    assert send_form(body, kind) in {202, 400, 401, 413, 415}
    assert send_form(make_form(2)) == 202
    process_waiting(context)
    assert count_rows(context, Ticket) >= 1
    assert list_named_items(context, "formstack") == []


def test_a_request_that_breaks_us_is_to_be_sent_again_and_named(
    context: AppContext, post: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = app._read

    def read(asked: Any, raw: bytes) -> Any:
        if POISON in raw:
            raise KeyError(POISON)
        return whole(asked, raw)

    monkeypatch.setattr(app, "_read", read)
    send_form = post(context, Intake(context))
    assert send_form(POISON) == 503
    assert send_form(make_form(1)) == 202
    assert len(list_named_items(context, "formstack")) == 1


# -- the pipe ----


@each_fault
def test_the_pipe_asks_to_try_again_and_is_named(
    sqlite_url: str, tmp_path: Path, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTAKE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INTAKE_DATABASE_URL", sqlite_url)

    def deliver(raw: bytes) -> int:
        return (
            CliRunner()
            .invoke(cli, ["deliver", "mail", "-", "--sender", "f\udcfcr@x.example"], input=raw)
            .exit_code
        )

    with monkeypatch.context() as patch:
        whole = intake_module._store

        def store(session: Any, batch: Any, now: Any) -> None:
            if any(POISON in one.arrival.raw for one in batch):
                raise fault
            whole(session, batch, now)

        patch.setattr(intake_module, "_store", store)
        assert (deliver(POISON), deliver(b"another")) == (75, 0)
        result = CliRunner().invoke(cli, ["status"])
        assert result.exit_code == 1
        assert "pipe: 1 item cannot be stored" in " ".join(result.output.split())
        assert "customer" not in result.output
    assert deliver(POISON) == 0
    assert "pipe: 1 item" not in " ".join(CliRunner().invoke(cli, ["status"]).output.split())


# -- linked files ----


@pytest.mark.parametrize("where", ["fetch", "_keep"])
def test_a_linked_file_that_breaks_us_is_tried_again_and_those_beside_it_are_kept(
    context: AppContext, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Intake(context).accept(
        Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=b"Subject: x\r\n\r\ny")
    )
    process_waiting(context)
    with context.store.transaction() as session:
        message = session.scalars(select(Message)).one().id
        for n in range(3):
            link = {
                "digest": f"{n}" * 64,
                "url": f"https://f.example/{n}",
                "not_before": context.clock(),
            }
            session.add(LinkedFile(message_id=message, state=LinkState.WAITING, **link))

    async def fetch(url: str, *_: object) -> DownloadedFile:
        if where == "fetch" and url.endswith("/1"):
            raise KeyError(POISON)
        return DownloadedFile("a.txt", "text/plain", url.encode())

    whole = linked_files_fetch._keep

    def keep(context: AppContext, claim: Any, file: DownloadedFile) -> None:
        if where == "_keep" and claim.url.endswith("/1"):
            raise KeyError(POISON)
        whole(context, claim, file)

    monkeypatch.setattr(linked_files_fetch, "fetch", fetch)
    monkeypatch.setattr(linked_files_fetch, "_keep", keep)
    linked_files_fetch.fetch_due_files(context)
    with context.store.read_only() as session:
        links = {
            link.url[-1]: (link.state, link.reason) for link in session.scalars(select(LinkedFile))
        }
    assert links["0"][0] is links["2"][0] is LinkState.FETCHED
    assert links["1"] == (LinkState.WAITING, "an error of ours, KeyError")


# -- the list itself ----


def test_an_item_waits_longer_each_time_up_to_a_bound() -> None:
    assert [BACKOFF.seconds(n) for n in (1, 2, 3, 4, 5, 10**6)] == [5, 10, 20, 40, 60, 60]


def test_the_list_survives_and_keeps_since_when(any_context: AppContext, clock: HandClock) -> None:
    for _ in range(3):
        ItemFaults(any_context.store, clock, "imap", "u@h/INBOX").record(
            "7/1", "the server refused"
        )
        clock.turn(minutes=3)
    (one,) = ItemFaults(any_context.store, clock, "imap", "u@h/INBOX").list_pending()
    assert (one.item, one.attempts, one.is_due(clock())) == ("7/1", 3, True)
    assert ItemFaults(any_context.store, clock, "imap", "v@h/INBOX").list_pending() == []
    (trouble,) = status.collect_status(any_context).channel_faults
    assert (trouble.since, trouble.needs_person) == (clock() - timedelta(minutes=9), True)


def test_a_clock_that_jumps_back_does_not_keep_an_item_waiting(
    any_context: AppContext, clock: HandClock
) -> None:
    faults = ItemFaults(any_context.store, clock, "imap", "u@h/INBOX")
    clock.turn(days=300)
    faults.record("7/1", "the server refused")
    clock.turn(days=-300)
    assert faults.list_pending()[0].is_due(clock())


def test_names_that_no_database_takes_are_kept_repaired(
    any_context: AppContext, clock: HandClock
) -> None:
    faults = ItemFaults(any_context.store, clock, "folder", "x")
    odd = "f\udcfcr\0" + "x" * 500
    faults.record(odd, "r")
    faults.delete_others({odd})
    assert len(faults.list_pending()) == 1
    faults.delete([odd])
    assert faults.list_pending() == []


def test_a_mailbox_out_of_service_needs_nobody(context: AppContext, clock: HandClock) -> None:
    status.record_alive(context, "u@h/INBOX")
    ItemFaults(context.store, clock, "imap", "u@h/INBOX").record("7/1", "the server refused")
    clock.turn(days=8)
    (trouble,) = status.collect_status(context).channel_faults
    assert not trouble.needs_person


def test_what_no_sender_tries_any_more_is_forgotten(context: AppContext, clock: HandClock) -> None:
    item_faults.record_unexpected_fault(context.store, clock, "smtp", KeyError(), digest="d" * 64)
    clock.turn(days=6)
    assert list_named_items(context, "smtp") == []
    item_faults.record_unexpected_fault(context.store, clock, "smtp", KeyError(), digest="e" * 64)
    assert count_rows(context, ItemFault) == 1


def test_a_report_while_the_database_is_away_raises_nothing(
    settings: Settings, clock: HandClock
) -> None:
    away = settings.model_copy(update={"database_url": "sqlite:////proc/none/x.db"})
    context = open_context(away, clock=clock)
    with capture_logs() as lines:
        item_faults.record_unexpected_fault(context.store, clock, "smtp", KeyError("words"))
    assert len(lines) == 2
    context.close()
