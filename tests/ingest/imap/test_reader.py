"""The IMAP reader against a real Dovecot."""

import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import httpx
import pytest
from imapclient.exceptions import LoginError
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from console.runtime.lifecycle import catch_stop_signals
from ingest.imap import connection as imap_connection
from ingest.imap import reader
from ingest.imap.connection import LoginRefusedError
from ingest.imap.first_look import Checkpoint, Predecessor
from ingest.imap.mailboxes import list_mailboxes
from ingest.imap.oauth2 import AccessTokens, TokenRefusedError
from ingest.imap.reader import ReaderContext, RetryTiming, serve
from ingest.intake import Arrival, Transport
from parsers.item import Format
from tests.support import dovecot
from tests.support.dovecot import ALL, BARE, PASSWORD, UIDPLUS, Dovecot, sign_jwt
from tests.support.imap_reader import FLAG, QUICK, make_raw_mail, read_in_thread, until
from tests.support.token_endpoint import Endpoint
from workflow.database.engine import Store
from workflow.operations.item_faults import ItemFaults
from workflow.runtime.clock import make_clock
from workflow.settings.settings import Mailbox, OAuth2, Settings, SettingsError

LONG = 60.0  # a poll that no test waits for


@dataclass
class Intake:
    """Stands for our database: takes arrivals, keeps checkpoints, can be out of order.

    The list of mails to be fetched again is the real one, in `store`.
    """

    store: Store
    arrivals: list[Arrival] = field(default_factory=list)
    saved: dict[str, Checkpoint] = field(default_factory=dict)
    looks: list[str] = field(default_factory=list)
    late: list[tuple[str, int]] = field(default_factory=list)
    broken: Exception | None = None
    tries: int = 0
    meanwhile: Callable[[Arrival], None] = lambda _arrival: None

    def accept(self, arrival: Arrival) -> int:
        self.tries += 1
        if self.broken:
            raise self.broken
        self.meanwhile(arrival)
        self.arrivals.append(arrival)
        return len(self.arrivals)

    def load(self, mailbox: str) -> Checkpoint | None:
        return self.saved.get(mailbox)

    def save(self, mailbox: str, checkpoint: Checkpoint) -> None:
        self.saved[mailbox] = checkpoint

    def save_older_count(self, mailbox: str, uid_validity: int, count: int) -> None:
        del uid_validity
        self.saved[mailbox] = replace(self.saved[mailbox], older_count=count)

    def list_predecessors(self, box: Mailbox, in_use: Collection[str]) -> list[Predecessor]:
        del box, in_use
        return []

    def faults(self, mailbox: str) -> ItemFaults:
        return ItemFaults(
            self.store,
            make_clock(),
            "imap",
            mailbox,
            pause=lambda _attempts: timedelta(seconds=0.1),
        )

    @property
    def raw(self) -> list[bytes]:
        return [arrival.raw for arrival in self.arrivals]

    def idle(self, *, looks: int = 1) -> None:
        """Wait for that many more complete looks at the mailboxes."""
        enough = len(self.looks) + looks
        until(lambda: len(self.looks) >= enough)


@pytest.fixture
def intake(sqlite_url: str) -> Iterator[Intake]:
    store = Store(sqlite_url)
    yield Intake(store)
    store.close()


def make_context(intake: Intake, stop: threading.Event, *boxes: Mailbox) -> ReaderContext:
    return ReaderContext(
        settings=Settings(mailbox=boxes),
        accept=intake.accept,
        checkpoints=intake,
        get_deferred=intake.faults,
        record_look=intake.looks.append,
        stop=stop,
    )


@contextmanager
def run_reader(
    intake: Intake,
    *boxes: Mailbox,
    poll: float = LONG,
    pace: RetryTiming = QUICK,
    mine: Callable[[str], bool] = lambda _: True,
    **more: object,
) -> Iterator[None]:
    settings = Settings(mailbox=boxes, imap_poll_seconds=poll, **more)  # type: ignore[arg-type]
    context = ReaderContext(
        settings=settings,
        accept=intake.accept,
        checkpoints=intake,
        get_deferred=intake.faults,
        record_look=intake.looks.append,
        stop=threading.Event(),
        record_late_fetch=lambda *late: intake.late.append(late),
        timing=pace,
        is_assigned=mine,
    )
    with read_in_thread(list_mailboxes(settings), context):
        yield


@pytest.fixture
def box(server: Dovecot, user: str) -> Mailbox:
    return Mailbox(host=ALL, port=server.port, tls=False, user=user, password=PASSWORD, since="all")


def copy_mailbox(box: Mailbox, **changes: object) -> Mailbox:
    return Mailbox(**box.model_dump() | changes)


# -- settings ----


def read_mailbox_settings(**settings: object) -> tuple[Mailbox, ...]:
    return list_mailboxes(Settings(**settings))  # type: ignore[arg-type]


def test_urls_become_mailboxes_behind_those_of_the_file() -> None:
    filed = Mailbox(host="a.example", user="a", password="x")
    urls = "imaps://desk%40b.example:p%3A%2F%20w@b.example:1993/In%20Box/sub  imap://c:y@c.example"
    first, second, third = read_mailbox_settings(mailbox=(filed,), imap_urls=urls)
    assert first == filed
    assert (second.host, second.port, second.tls, second.user) == (
        "b.example",
        1993,
        True,
        "desk@b.example",
    )
    assert (second.password.get_secret_value(), second.folder) == ("p:/ w", "In Box/sub")
    assert (third.host, third.port, third.tls, third.folder) == ("c.example", 143, False, "INBOX")
    assert read_mailbox_settings() == ()


@pytest.mark.parametrize(
    "url",
    [
        "https://a:pa55word@h/INBOX",
        "imaps://a:pa55word@h:port/INBOX",
        "imaps://a:pa55word@h:99999/INBOX",
        "imaps://a:pa55word#x@h/INBOX",
        "imaps://a:pa55word?x@h/INBOX",
        "imaps://a:pa55word/x@h/INBOX",
        "imaps://:pa55word@h/INBOX",
        "imaps://pa55word@h/INBOX",
        "imaps://a:pa55word@/INBOX",
        "imaps://a:pa55word@[h/INBOX",
        "imaps://a:pa55word%ff@h/INBOX",
        "imaps://a:pa55word%0d%0aX@h/INBOX",
        "imaps://a%0d%0aX:pa55word@h/INBOX",
    ],
)
def test_a_bad_url_is_named_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError) as fault:
        read_mailbox_settings(imap_urls=f"imaps://good:pa55word@h/INBOX {url}")
    assert "pa55word" not in str(fault.value)
    assert fault.value.__cause__ is None
    assert len(str(fault.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": ""}, "neither password nor oauth2"),
        ({"flag": "two words"}, "flag"),
        ({"flag": "x)"}, "flag"),
        ({"move_to": "INBOX"}, "move_to"),
        (
            {
                "oauth2": OAuth2(
                    token_url="http://login.example/token", client_id="i", refresh_token="r"
                )
            },
            "token_url is not https",
        ),
    ],
)
def test_a_mailbox_that_cannot_work_is_refused_at_the_start(
    change: dict[str, object], words: str
) -> None:
    good = {"host": "h", "user": "u", "password": "p"}
    assert read_mailbox_settings(mailbox=(Mailbox(**good),))
    with pytest.raises(SettingsError, match=words):
        read_mailbox_settings(mailbox=(Mailbox(**good | change),))


def test_the_same_mailbox_twice_would_share_a_checkpoint() -> None:
    with pytest.raises(SettingsError, match="u@h/INBOX: the same mailbox twice"):
        read_mailbox_settings(imap_urls="imaps://u:p@h imaps://u:p@h:1993/INBOX")


# -- reading ----


def test_new_mail_arrives_by_idle_and_is_flagged_and_stays_unseen(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    with run_reader(intake, box):
        intake.idle()
        server.deliver(user, make_raw_mail("one"))
        until(lambda: intake.arrivals)  # long before the next poll
        until(lambda: intake.saved[box.key].last_uid == 1)
    (arrival,) = intake.arrivals
    assert (arrival.transport, arrival.format, arrival.unreadable_reason) == (
        Transport.IMAP,
        Format.MAIL,
        "",
    )
    assert arrival.raw == make_raw_mail("one")
    validity = intake.saved[box.key].uid_validity
    assert arrival.envelope == {"mailbox": box.key, "uid": 1, "uid_validity": validity}
    json.dumps(arrival.envelope)
    assert server.read_flags(user) == {1: {FLAG}}


@pytest.mark.parametrize("host", [ALL, BARE])
def test_mail_arrives_by_poll_where_there_is_no_idle_or_it_says_nothing(
    server: Dovecot,
    box: Mailbox,
    user: str,
    intake: Intake,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        imap_connection.ImapClient, "wait_for_mail", lambda _client, seconds: time.sleep(seconds)
    )  # deaf
    with run_reader(intake, copy_mailbox(box, host=host), poll=0.1):
        intake.idle(looks=2)
        server.deliver(user, make_raw_mail("one"))
        until(lambda: intake.arrivals)


def test_idle_is_renewed(box: Mailbox, intake: Intake) -> None:
    with run_reader(intake, box, imap_idle_seconds=0.1):
        intake.idle(looks=3)


def test_the_flag_comes_only_after_accept(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    during: list[dict[int, set[bytes]]] = []
    intake.meanwhile = lambda _arrival: during.append(server.read_flags(user))
    server.deliver(user, make_raw_mail("one"))
    with run_reader(intake, box):
        until(lambda: intake.looks)
    assert during == [{1: set()}]
    assert server.read_flags(user) == {1: {FLAG}}


def test_mail_that_comes_while_reading_needs_no_poll(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    more = iter([make_raw_mail(str(number)) for number in range(5)])

    def deliver(_arrival: Arrival) -> None:
        for raw in itertools.islice(more, 1):
            server.deliver(user, raw)

    intake.meanwhile = deliver
    server.deliver(user, make_raw_mail("first"))
    with run_reader(intake, box):
        until(lambda: len(intake.arrivals) == 6)


def test_mail_that_comes_between_search_and_idle_needs_no_poll(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    intake.looks = Looks(server, user)
    with run_reader(intake, box):
        until(lambda: len(intake.arrivals) == 3)


class Looks(list[str]):
    """Delivers a mail just when the reader has found nothing new."""

    def __init__(self, server: Dovecot, user: str) -> None:
        super().__init__()
        self._server, self._user = server, user

    def append(self, key: str) -> None:
        super().append(key)
        if len(self) <= 3:
            self._server.deliver(self._user, make_raw_mail(str(len(self))))


def test_mail_that_comes_between_select_and_search_needs_no_poll(
    server: Dovecot, box: Mailbox, user: str, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = itertools.count()

    def load(mailbox: str) -> Checkpoint | None:  # the reader asks between SELECT and SEARCH
        if next(loads) < 3:
            server.deliver(user, make_raw_mail("between"))
        return intake.saved.get(mailbox)

    monkeypatch.setattr(intake, "load", load)
    with run_reader(intake, box):
        until(lambda: len(intake.arrivals) == 3)


def test_mail_announced_amid_other_answers_is_looked_for_soon(
    box: Mailbox, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_scripted_server(b"OK in") as (fake, _), imap_connection.connect(fake, 5) as client:
        imap_connection.log_in(client, fake, None)  # the fake announces a mail meanwhile
        assert client.has_announced()
        assert not client.has_announced()
    monkeypatch.setattr(imap_connection.ImapClient, "has_announced", lambda _client: True)
    with run_reader(intake, copy_mailbox(box, host=BARE)):
        intake.idle(looks=3)


def test_the_mailbox_is_left_as_it_is_without_flag(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    server.deliver(user, make_raw_mail("one"))
    with run_reader(intake, copy_mailbox(box, flag="")):
        until(lambda: intake.looks)
    assert intake.raw == [make_raw_mail("one")]
    assert server.read_flags(user) == {1: set()}


def test_a_mailbox_we_may_only_read_is_read(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    server.deliver(user, make_raw_mail("one"))
    server.read_only(user)
    with run_reader(intake, box), capture_logs() as lines:
        until(lambda: intake.looks)
    assert intake.raw == [make_raw_mail("one")]
    facts = [line["fact"] for line in lines if line["event"] == "mailbox"]
    assert facts == ["the folder is read-only: mail is read and not marked"]


@pytest.mark.parametrize("host", [ALL, UIDPLUS, BARE])
def test_stored_mail_is_moved_and_nobody_elses_is_expunged(
    server: Dovecot, box: Mailbox, user: str, intake: Intake, host: str
) -> None:
    server.deliver(user, make_raw_mail("deleted by a person"))
    server.deliver(user, make_raw_mail("two"))
    with server.connect_client(user) as person:
        person.add_flags([1], [rb"\Deleted"])
    intake.saved[box.key.replace(ALL, host)] = Checkpoint(get_uid_validity(server, user), 1)
    with run_reader(intake, copy_mailbox(box, host=host, move_to="Done/Älter")):
        until(lambda: intake.looks)
    assert intake.raw == [make_raw_mail("two")]
    left = {1: {rb"\Deleted"}} | ({2: {rb"\Deleted"}} if host == BARE else {})
    assert server.read_flags(user) == left
    moved = server.read_flags(user, "Done/Älter")
    assert len(moved) == 1
    assert not any(rb"\Seen" in flags for flags in moved.values())


def get_uid_validity(server: Dovecot, user: str) -> int:
    with server.connect_client(user) as client:
        return int(client.folder_status("INBOX", ["UIDVALIDITY"])[b"UIDVALIDITY"])


BROKEN = [
    OperationalError("insert", {}, Exception("locked")),
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("fault", BROKEN, ids=["database", "disk"])
def test_mail_that_cannot_be_stored_stays_and_comes_again(
    server: Dovecot, box: Mailbox, user: str, intake: Intake, fault: Exception
) -> None:
    for number in range(3):
        server.deliver(user, make_raw_mail(str(number)))
    intake.broken = fault
    with run_reader(intake, box):
        until(lambda: intake.tries >= 2)
        assert server.read_flags(user) == {1: set(), 2: set(), 3: set()}
        assert intake.saved[box.key].last_uid == 0
        assert not intake.looks
        intake.broken = None
        until(lambda: intake.looks)
    assert sorted(intake.raw) == [make_raw_mail(str(number)) for number in range(3)]
    assert server.read_flags(user) == {1: {FLAG}, 2: {FLAG}, 3: {FLAG}}


def test_a_checkpoint_that_cannot_be_saved_means_the_mail_comes_again(
    server: Dovecot, box: Mailbox, user: str, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = iter([OSError, OSError])

    def save(mailbox: str, checkpoint: Checkpoint) -> None:
        if checkpoint.last_uid:
            for error in failing:
                raise error
        intake.saved[mailbox] = checkpoint

    monkeypatch.setattr(intake, "save", save)
    server.deliver(user, make_raw_mail("one"))
    with run_reader(intake, box), capture_logs() as lines:
        until(lambda: intake.looks)
    assert intake.raw == [make_raw_mail("one")] * 3
    assert [line["error"] for line in lines if line["event"] == "not stored"] == [
        "OSError",
        "OSError",
    ]


def test_a_reader_resumes_behind_its_checkpoint(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    server.deliver(user, make_raw_mail("one"))
    with run_reader(intake, box):
        until(lambda: intake.looks)
    server.deliver(user, make_raw_mail("two"))
    with run_reader(intake, box):
        until(lambda: intake.saved[box.key].last_uid == 2)
    assert intake.raw == [make_raw_mail("one"), make_raw_mail("two")]


def test_after_a_change_of_uidvalidity_every_mail_comes_again(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    for number in range(3):
        server.deliver(user, make_raw_mail(str(number)))
    with run_reader(intake, box):
        until(lambda: intake.looks)
    before = intake.saved[box.key]
    for index in [
        *server.get_maildir(user).glob("dovecot.index*"),
        server.get_maildir(user) / "dovecot-uidlist",
    ]:
        index.unlink()
    with run_reader(intake, box), capture_logs() as lines:
        until(lambda: len(intake.arrivals) == 6)
        until(lambda: intake.saved[box.key].last_uid == 3)
    assert intake.saved[box.key].uid_validity != before.uid_validity
    assert [line["fact"] for line in lines if line["event"] == "mailbox"] == [
        "UIDVALIDITY changed: reading everything again"
    ]


def test_a_folder_made_anew_under_the_reader_is_read_from_its_start(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    with server.connect_client(user) as person:
        person.create_folder("Desk")
        for number in range(3):
            person.append("Desk", make_raw_mail(str(number)))
        with run_reader(intake, copy_mailbox(box, folder="Desk"), poll=0.2):
            until(lambda: intake.looks)
            person.delete_folder("Desk")
            person.create_folder("Desk")
            person.append("Desk", make_raw_mail("new"))
            until(lambda: len(intake.arrivals) == 4)
    assert intake.raw[-1] == make_raw_mail("new")
    assert intake.arrivals[-1].envelope["uid"] == 1


@pytest.mark.parametrize("sizes", [1, 200], ids=["before-its-size", "after-its-size"])
def test_a_mail_that_vanished_is_skipped(
    server: Dovecot,
    box: Mailbox,
    user: str,
    intake: Intake,
    sizes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "SIZES_BATCH", sizes)
    for number in range(4):
        server.deliver(user, make_raw_mail(str(number)))

    def expunge(arrival: Arrival) -> None:
        if arrival.envelope["uid"] == 1:
            with server.connect_client(user) as person:
                person.delete_messages([2, 4])
                person.uid_expunge([2, 4])

    intake.meanwhile = expunge
    with run_reader(intake, box):
        until(lambda: intake.looks)
    assert [arrival.envelope["uid"] for arrival in intake.arrivals] == [1, 3]
    assert intake.saved[box.key].last_uid == 4


def test_long_ranges_of_uids_are_searched_in_windows(
    server: Dovecot, box: Mailbox, user: str, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imap_connection, "SEARCH_WINDOW", 2)
    monkeypatch.setattr(reader, "SIZES_BATCH", 1)
    for number in range(12):
        server.deliver(user, make_raw_mail(str(number)))
    with server.connect_client(user) as person:
        person.delete_messages([1, 2, 3, 4, 5, 8, 12])
        person.uid_expunge([1, 2, 3, 4, 5, 8, 12])
    with run_reader(intake, box):
        until(lambda: intake.looks)
    assert [arrival.envelope["uid"] for arrival in intake.arrivals] == [6, 7, 9, 10, 11]


# -- what goes wrong ----


def test_a_server_that_dies_and_comes_back_is_read_on(
    user: str, intake: Intake, server: Dovecot
) -> None:
    assert server
    with dovecot.run_dovecot() as other:
        options = {"user": user, "password": PASSWORD, "since": "all"}
        box = Mailbox(host=ALL, port=other.port, tls=False, **options)
        other.deliver(user, make_raw_mail("one"))
        with run_reader(intake, box), capture_logs() as lines:
            until(lambda: intake.looks)
            other.kill()
            until(lambda: [line for line in lines if line["event"] == "mailbox failed"])
            other.deliver(user, make_raw_mail("two"))
            other.start()
            until(lambda: len(intake.arrivals) == 2)
    assert intake.raw == [make_raw_mail("one"), make_raw_mail("two")]
    assert {line["reason"] for line in lines if line["event"] == "mailbox failed"} <= {
        "connection lost",
        "login not possible now",
        "not reachable",
    }


def test_broken_mailboxes_disturb_nobody_and_show_no_secret(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    with (
        socket.create_server((ALL, 0)) as mute,
        socket.socket() as closed_socket,
        capture_logs() as lines,
    ):
        closed_socket.bind((ALL, 0))  # bound and not listening: refused
        wrong = copy_mailbox(box, user="wrong@example.org", password="hunter2")
        silent_box = copy_mailbox(box, user="silent@example.org", port=mute.getsockname()[1])
        away = copy_mailbox(box, user="away@example.org", port=closed_socket.getsockname()[1])
        missing = copy_mailbox(box, user="missing@example.org", folder="No such folder")
        with run_reader(
            intake,
            wrong,
            silent_box,
            away,
            missing,
            box,
            pace=RetryTiming(timeout=0.5, first_pause=0.05, refused_pause=0.05),
        ):
            server.deliver(user, make_raw_mail("one"))
            until(lambda: intake.arrivals)
            failures = {
                (wrong.key, "login refused"),
                (silent_box.key, "not reachable"),
                (away.key, "not reachable"),
            }
            failures |= {(missing.key, "the server refused")}
            until(
                lambda: (
                    failures
                    <= {
                        (line["mailbox"], line["reason"])
                        for line in list(lines)
                        if "reason" in line
                    }
                )
            )
    assert set(intake.looks) == {box.key}
    assert "hunter2" not in str(lines)


def test_an_unforeseen_fault_does_not_end_a_reader(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    intake.broken = KeyError("text of a customer")
    server.deliver(user, make_raw_mail("one"))
    with run_reader(intake, box), capture_logs() as lines:
        until(lambda: intake.tries >= 2)
        intake.broken = None
        until(lambda: intake.arrivals)
    assert {line["error"] for line in lines if line["event"] == "fault"} == {"KeyError"}
    assert "customer" not in str(lines)


def test_failures_are_spaced_out_up_to_a_cap() -> None:
    pace = RetryTiming()
    assert all(0.5 <= pace.compute_pause(1, is_refused=False) <= 1 for _ in range(20))
    assert all(4 <= pace.compute_pause(4, is_refused=False) <= 8 for _ in range(20))
    assert all(30 <= pace.compute_pause(10**6, is_refused=False) <= 60 for _ in range(20))
    assert all(30 <= pace.compute_pause(1, is_refused=True) <= 60 for _ in range(20))
    assert all(150 <= pace.compute_pause(50, is_refused=True) <= 300 for _ in range(20))


def test_tls_is_verified(
    server: Dovecot, box: Mailbox, user: str, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure = copy_mailbox(box, tls=True, port=server.tls_port)
    server.deliver(user, make_raw_mail("one"))
    with run_reader(intake, secure), capture_logs() as lines:
        until(lambda: lines)
        assert {line["reason"] for line in list(lines)} == {"certificate not trusted"}
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        until(lambda: intake.looks)
        server.deliver(user, make_raw_mail("two"))
        until(lambda: len(intake.arrivals) == 2)


def test_names_and_passwords_beyond_ascii_are_sent_as_utf8(box: Mailbox, intake: Intake) -> None:
    user, password = dovecot.BEYOND_ASCII
    with run_reader(intake, copy_mailbox(box, user=user, password=password)):
        until(lambda: intake.looks)


@contextmanager
def run_scripted_server(
    login: bytes, capability: bytes = b"IMAP4rev1"
) -> Iterator[tuple[Mailbox, list[bytes]]]:
    """A server for one login, and the lines it received; an empty answer is a lost connection."""
    received_lines: list[bytes] = []

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb", buffering=0) as lines:
            lines.write(b"* OK hello\r\n")
            while line := lines.readline():
                received_lines.append(line)
                tag, command = line.split()[:2]
                if command == b"CAPABILITY":
                    lines.write(b"* CAPABILITY " + capability + b"\r\n" + tag + b" OK done\r\n")
                elif command == b"LOGIN" and login:
                    lines.write(b"* 7 EXISTS\r\n" + tag + b" " + login + b"\r\n")
                else:
                    return

    with socket.create_server((ALL, 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        yield Mailbox(host=ALL, port=port, tls=False, user="u", password="hunter2"), received_lines
        thread.join()


@pytest.mark.parametrize(
    ("login", "error"),
    [
        (b"", LoginError),
        (b"NO [UNAVAILABLE] the directory is down", LoginError),
        (b"NO [AUTHENTICATIONFAILED] wrong", LoginRefusedError),
        (b"NO wrong", LoginRefusedError),
    ],
)
def test_a_refused_login_differs_from_one_that_may_work_soon(
    login: bytes, error: type[Exception]
) -> None:
    with (
        run_scripted_server(login) as (box, _),
        pytest.raises(error),
        imap_connection.connect(box, 5) as client,
    ):
        imap_connection.log_in(client, box, None)


def test_no_password_is_sent_where_login_is_disabled() -> None:
    with (
        run_scripted_server(b"OK in", b"IMAP4rev1 LOGINDISABLED") as (box, received_lines),
        pytest.raises(LoginRefusedError),
        imap_connection.connect(box, 5) as client,
    ):
        imap_connection.log_in(client, box, None)
    assert received_lines
    assert b"hunter2" not in b"".join(received_lines)


# -- stop ----


def test_serve_finishes_the_mail_in_hand_and_logs_out_on_sigterm(
    server: Dovecot, box: Mailbox, user: str, intake: Intake
) -> None:
    for number in range(30):
        server.deliver(user, make_raw_mail(str(number)))

    def stop(_arrival: Arrival) -> None:
        if not intake.arrivals:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)

    intake.meanwhile = stop
    with catch_stop_signals() as event:
        serve(make_context(intake, event, box))
    assert len(intake.arrivals) == intake.saved[box.key].last_uid < 30
    done = {uid for uid, flags in server.read_flags(user).items() if flags}
    assert len(done) == len(intake.arrivals)
    until(
        lambda: [
            line
            for line in server.log().splitlines()
            if f"imap({user})" in line and "Logged out" in line
        ]
    )


def test_serve_ends_at_once_without_mailboxes_and_by_its_event(
    box: Mailbox, intake: Intake
) -> None:
    serve(make_context(intake, threading.Event()))
    stop = threading.Event()
    stop.set()
    serve(make_context(intake, stop, box))
    assert not intake.arrivals


# -- OAuth2 ----


def test_xoauth2_logs_in_and_asks_once_for_a_token(
    server: Dovecot, box: Mailbox, user: str, intake: Intake, endpoint: Endpoint
) -> None:
    endpoint.answers = [(200, {"access_token": sign_jwt(user), "expires_in": 3600})]
    server.deliver(user, make_raw_mail("one"))
    with run_reader(
        intake,
        copy_mailbox(box, password="", oauth2=endpoint.grant(client_secret="s", scope="mail")),
    ):
        until(lambda: intake.arrivals)
    assert endpoint.asked == [
        {
            "grant_type": ["refresh_token"],
            "refresh_token": ["refresh-1"],
            "client_id": ["us"],
            "client_secret": ["s"],
            "scope": ["mail"],
        }
    ]


def test_a_refused_token_is_renewed_once_at_once(
    server: Dovecot, box: Mailbox, user: str, intake: Intake, endpoint: Endpoint
) -> None:
    forged = {"access_token": sign_jwt(user, b"another key"), "expires_in": 3600}
    endpoint.answers = [(200, forged), (200, {"access_token": sign_jwt(user)})]
    server.deliver(user, make_raw_mail("one"))
    with run_reader(
        intake,
        copy_mailbox(box, oauth2=endpoint.grant()),
        pace=RetryTiming(timeout=5, refused_pause=600),
    ):
        until(lambda: intake.arrivals)
    assert len(endpoint.asked) == 2


def test_a_refused_grant_is_not_asked_for_again_at_once(box: Mailbox, endpoint: Endpoint) -> None:
    endpoint.answers = [(400, {"error": "invalid_grant"})]
    with pytest.raises(LoginRefusedError), imap_connection.connect(box, 5) as client:
        imap_connection.log_in(client, box, AccessTokens(endpoint.grant()))
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (400, {"error": "invalid_grant"}, "login refused"),
        (200, {"access_token": "no-such-token"}, "login refused"),
        (503, b"<html>", "no answer from the token endpoint"),
    ],
)
def test_without_a_token_the_reader_tries_on_and_says_why(
    server: Dovecot,
    box: Mailbox,
    user: str,
    intake: Intake,
    endpoint: Endpoint,
    status: int,
    answer: object,
    reason: str,
) -> None:
    endpoint.answers = [(status, answer)]
    server.deliver(user, make_raw_mail("one"))
    with run_reader(intake, copy_mailbox(box, oauth2=endpoint.grant())), capture_logs() as lines:
        until(lambda: len([line for line in list(lines) if "reason" in line]) >= 2)
        endpoint.answers = [(200, {"access_token": sign_jwt(user)})]
        until(lambda: intake.arrivals)
    assert {line["reason"] for line in lines if "reason" in line} == {reason}
    assert "refresh-1" not in str(lines)


def test_tokens_are_kept_until_shortly_before_they_expire_and_refresh_tokens_rotate(
    endpoint: Endpoint,
) -> None:
    now = [0.0]
    tokens = AccessTokens(endpoint.grant(), now=lambda: now[0])
    endpoint.answers = [
        (200, {"access_token": "a", "expires_in": "600", "refresh_token": "refresh-2"}),
        (200, {"access_token": "b"}),
        (200, {"access_token": "c"}),
    ]
    assert tokens.get_token() == "a"
    now[0] = 539
    assert tokens.get_token() == "a"
    now[0] = 541
    assert tokens.get_token() == "b"
    now[0] += 3539
    assert tokens.get_token() == "b"
    now[0] += 2
    assert tokens.get_token() == "c"
    assert [form["refresh_token"] for form in endpoint.asked] == [
        ["refresh-1"],
        ["refresh-2"],
        ["refresh-2"],
    ]


def test_a_token_endpoint_that_refuses_differs_from_one_out_of_order(endpoint: Endpoint) -> None:
    tokens = AccessTokens(endpoint.grant())
    endpoint.answers = [(401, {})]
    with pytest.raises(TokenRefusedError):
        tokens.get_token()
    ill = [
        (429, {}),
        (302, b""),
        (200, b"<html>"),
        (200, []),
        (200, {"access_token": "x\x01auth=Bearer y"}),
    ]
    for answer in ill:
        endpoint.answers = [answer]
        with pytest.raises(httpx.HTTPError):
            tokens.get_token()


def test_a_mailbox_is_read_by_the_one_whose_it_is_and_by_the_next_one_from_where_that_was(
    server: Dovecot, user: str, box: Mailbox, intake: Intake
) -> None:
    turn = {"first": threading.Event(), "second": threading.Event()}
    taken_by: list[str] = []

    def mine(name: str) -> Callable[[str], bool]:
        return lambda key: key == box.key and turn[name].is_set()

    def noting(name: str) -> Intake:
        return Intake(intake.store, saved=intake.saved, meanwhile=lambda _: taken_by.append(name))

    server.deliver(user, make_raw_mail("one"))
    first, second = noting("first"), noting("second")
    with (
        run_reader(first, box, poll=0.1, mine=mine("first")),
        run_reader(second, box, poll=0.1, mine=mine("second")),
    ):
        time.sleep(0.3)
        assert taken_by == []
        turn["first"].set()
        until(lambda: taken_by == ["first"])
        turn["first"].clear()
        turn["second"].set()
        second.idle(looks=1)
        server.deliver(user, make_raw_mail("two"))
        until(lambda: len(taken_by) == 2)
        second.idle(looks=2)
    assert taken_by == ["first", "second"]
