"""The first look into a mailbox, and what is no first look, against a real Dovecot."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from console.presenters.operations import present_status
from ingest.imap.checkpoints import StoredCheckpoints
from ingest.imap.first_look import Checkpoint
from tests.support.dovecot import ALL, PASSWORD, UIDPLUS, Dovecot
from tests.support.imap_proxy import Proxy
from tests.support.imap_reader import (
    NO,
    Reader,
    list_subjects,
    list_troubles,
    make_raw_mail,
    make_spoiler,
    until,
)
from workflow.context import AppContext
from workflow.operations import status
from workflow.settings.settings import Mailbox, Settings, SettingsError, load_settings

LAST_YEAR = datetime(2025, 3, 10, 6, tzinfo=UTC)


@pytest.fixture
def box(proxy: Proxy, user: str) -> Mailbox:
    return Mailbox(host=ALL, port=proxy.port, tls=False, user=user, password=PASSWORD)


@pytest.fixture
def reader(context: AppContext, box: Mailbox) -> Reader:
    return Reader(context, box)


def make_dated_mail(subject: str, sent_at: datetime) -> bytes:
    head = f"Date: {sent_at:%a, %d %b %Y %H:%M:%S +0000}\r\nMessage-ID: <{subject}@old.example>\r\n"
    return head.encode() + make_raw_mail(subject)


def append_old_mails(server: Dovecot, user: str, count: int = 3, folder: str = "INBOX") -> None:
    """Put mails of last year into a folder: arrived then, and read by a person."""
    with server.connect_client(user) as person:
        for number in range(count):
            at = LAST_YEAR + timedelta(days=number)
            raw = make_dated_mail(f"old {number}".replace(" ", "-"), at)
            person.append(folder, raw, [rb"\Seen"], at)


def number_anew(server: Dovecot, user: str) -> None:
    """Have the server give another UIDVALIDITY and new UIDs to the INBOX."""
    folder = server.get_maildir(user)
    for index in [*folder.glob("dovecot.index*"), folder / "dovecot-uidlist"]:
        index.unlink(missing_ok=True)


def load_checkpoint(context: AppContext, box: Mailbox) -> Checkpoint:
    checkpoint = StoredCheckpoints(context.store).load(box.key)
    assert checkpoint is not None
    return checkpoint


@contextmanager
def looked_at(reader: Reader, looks: int = 1) -> Iterator[None]:
    """Run the reader until it has looked completely; then the block, with the reader running."""
    with reader.run():
        reader.wait_for_looks(looks)
        yield


def test_old_mail_stays_and_is_counted_and_what_comes_from_now_on_is_read(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    with capture_logs() as lines, looked_at(reader):
        server.deliver(user, make_raw_mail("new"))
        until(lambda: list_subjects(context) == ["new"])
    assert [flags for _, flags in sorted(server.read_flags(user).items())] == [
        *[{rb"\Seen"}] * 3,
        {b"$Intake"},
    ]
    assert [line["count"] for line in lines if line["event"] == "older mail left"] == [3]
    shown = present_status(context)["older_mails"][reader.box.key]
    assert shown["count"] == 3
    assert "3 older mails were left" in shown["words"]


def test_now_begins_at_the_first_unread_mail_of_the_last_hour(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    now = context.clock()
    append_old_mails(server, user)
    with server.connect_client(user) as person:
        for subject, minutes, flags in (
            ("answered", 50, [rb"\Seen"]),
            ("first", 40, []),
            ("second", 10, []),
        ):
            at = now - timedelta(minutes=minutes)
            person.append("INBOX", make_dated_mail(subject, at), flags, at)
        stale = now - timedelta(hours=2)
        person.append("INBOX", make_dated_mail("stale", stale), [], stale)
        # copied there a moment ago
        person.append("INBOX", make_dated_mail("copied", LAST_YEAR), [], now)
    with looked_at(reader):
        until(lambda: list_subjects(context) == ["first", "second"])
    assert load_checkpoint(context, reader.box).older_count == 6
    number_anew(server, user)
    with looked_at(reader):
        assert list_subjects(context) == ["first", "second"]


def test_everything_is_read_where_the_setting_says_so(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    reader.box = reader.box.model_copy(update={"since": "all"})
    with looked_at(reader):
        until(lambda: list_subjects(context) == ["old-0", "old-1", "old-2"])
    assert present_status(context)["older_mails"] == {}


def test_since_a_date_what_arrived_earlier_stays(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    with server.connect_client(user) as person:  # copied there lately, and sent long before
        person.append("INBOX", make_dated_mail("copied", LAST_YEAR - timedelta(days=90)))
    reader.box = reader.box.model_copy(update={"since": "2025-03-11"})
    with looked_at(reader):
        until(lambda: list_subjects(context) == ["old-1", "old-2"])
        server.deliver(user, make_dated_mail("late", LAST_YEAR - timedelta(days=90)))
        until(lambda: list_subjects(context) == ["late", "old-1", "old-2"])
    assert load_checkpoint(context, reader.box).older_count == 2


@pytest.mark.parametrize("answer", ["missing", "zero"])
def test_a_server_that_does_not_name_the_next_uid(
    server: Dovecot,
    user: str,
    reader: Reader,
    context: AppContext,
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ingest.imap import connection  # noqa: PLC0415

    select = connection.IMAPClient.select_folder

    def select_folder(self: object, *args: object, **more: object) -> dict[bytes, object]:
        selected: dict[bytes, object] = select(self, *args, **more)
        selected.pop(b"UIDNEXT")
        return selected if answer == "missing" else selected | {b"UIDNEXT": 0}

    monkeypatch.setattr(connection.ImapClient, "select_folder", select_folder)
    append_old_mails(server, user)
    with looked_at(reader):
        server.deliver(user, make_raw_mail("new"))
        until(lambda: list_subjects(context) == ["new"])


def test_a_crash_at_the_first_look_does_not_move_the_boundary(
    server: Dovecot, user: str, proxy: Proxy, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    proxy.spoil = lambda line: b"" if b"INTERNALDATE" in line else None
    with reader.run():
        until(lambda: StoredCheckpoints(context.store).load(reader.box.key))
    server.deliver(user, make_raw_mail("meanwhile"))
    proxy.spoil = lambda _line: None
    with looked_at(reader):
        until(lambda: list_subjects(context) == ["meanwhile"])
    assert load_checkpoint(context, reader.box).older_count == 3


def test_after_a_change_of_uidvalidity_nothing_is_lost_or_doubled_and_old_mail_stays(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    with looked_at(reader):
        server.deliver(user, make_raw_mail("new"))
        until(lambda: list_subjects(context) == ["new"])
    number_anew(server, user)
    server.deliver(user, make_raw_mail("meanwhile"))
    with looked_at(reader):
        until(lambda: list_subjects(context) == ["meanwhile", "new"])
        server.deliver(user, make_raw_mail("later"))
        until(lambda: list_subjects(context) == ["later", "meanwhile", "new"])
    assert load_checkpoint(context, reader.box).older_count == 3


def test_a_mail_to_be_fetched_again_survives_a_change_of_uidvalidity(
    server: Dovecot, user: str, proxy: Proxy, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    with looked_at(reader):
        proxy.spoil = make_spoiler(NO, 4, what=b"BODY.PEEK[]")
        server.deliver(user, make_dated_mail("late", LAST_YEAR - timedelta(days=90)))
        until(lambda: list_troubles(context) == [(1, "the server refused")])
    number_anew(server, user)
    proxy.spoil = lambda _line: None
    with looked_at(reader):
        until(lambda: list_subjects(context) == ["late"])
        until(lambda: list_troubles(context) == [])


def test_a_renamed_folder_goes_on_where_it_was_read_to(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    with server.connect_client(user) as person:
        person.create_folder("Desk")
        append_old_mails(server, user, folder="Desk")
        reader.box = reader.box.model_copy(update={"folder": "Desk"})
        with looked_at(reader):
            pass
        person.append("Desk", make_raw_mail("meanwhile"))
        person.rename_folder("Desk", "Billing")
    reader.box = reader.box.model_copy(update={"folder": "Billing"})
    with looked_at(reader):
        until(lambda: list_subjects(context) == ["meanwhile"])
    assert list(present_status(context)["older_mails"]) == [reader.box.key], "counted once"
    assert load_checkpoint(context, reader.box).older_count == 3


def test_the_same_server_by_another_name_goes_on_where_it_was_read_to(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    with looked_at(reader):
        pass
    server.deliver(user, make_raw_mail("meanwhile"))
    reader.box = reader.box.model_copy(update={"host": UIDPLUS, "port": server.port})
    with looked_at(reader):
        until(lambda: list_subjects(context) == ["meanwhile"])


def test_a_mailbox_moved_to_another_server_is_read_from_the_day_before(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    before = reader.box.model_copy(update={"host": "old.example"})
    StoredCheckpoints(context.store).save(before.key, Checkpoint(7, 900))
    status.record_alive(context, before.key)
    with server.connect_client(user) as person:
        now = context.clock()
        person.append("INBOX", make_dated_mail("meanwhile", now), (), now)
    with looked_at(reader):
        until(lambda: list_subjects(context) == ["meanwhile"])
    assert load_checkpoint(context, reader.box).older_count == 3


def test_another_folder_of_the_same_mailbox_is_looked_into_for_the_first_time(
    server: Dovecot, user: str, reader: Reader, context: AppContext
) -> None:
    with looked_at(reader):
        pass
    with server.connect_client(user) as person:
        person.create_folder("Archive")
    append_old_mails(server, user, folder="Archive")
    reader.box = reader.box.model_copy(update={"folder": "Archive"})
    with looked_at(reader):
        assert list_subjects(context) == []


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01", ""])
def test_a_wrong_since_is_named(value: str) -> None:
    with pytest.raises(SettingsError, match=r"(?i)imap_since"):
        load_settings(imap_since=value)


def test_a_mailbox_may_have_a_since_of_its_own() -> None:
    assert Settings().imap_since == "now"
    assert Mailbox(host="h", user="u", since="all").since == "all"
