"""A disk that is full or read-only.

Channels refuse for now, and everything goes on when there is room again.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from structlog.testing import capture_logs

from ingest.folder.watcher import WatchedFolder
from ingest.formstack.spool import SPOOL_FOLDER, Spool, drain
from ingest.imap.checkpoints import StoredCheckpoints
from ingest.imap.reader import ReaderContext, RetryTiming, read_mailboxes
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support import dovecot
from tests.support.context import RecordingNotifier, count_rows, make_call_arrival, run_in_threads
from tests.support.processes import ROOT, Installation, until
from workflow.context import AppContext, open_context
from workflow.database.engine import Store, migrate
from workflow.models.core import Delivery, Receipt, Ticket
from workflow.operations.item_faults import ItemFaults
from workflow.settings.settings import Mailbox, Settings

REFUSED = (SQLAlchemyError, OSError)  # what every channel turns into "try again"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB that a test may fill."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no disk of our own can be mounted (it takes root): a full disk is NOT tested")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def disk_context(disk: Path) -> Iterator[AppContext]:
    """An open context whose database, blobs, spool and folder lie on that disk."""
    settings = Settings(
        home=disk, database_url=f"sqlite:///{disk / 'intake.db'}", folder_settle_seconds=0
    )
    migrate(settings.database)
    opened = open_context(settings, notifier=RecordingNotifier())
    yield opened
    opened.close()


@pytest.fixture
def installation(disk: Path) -> Installation:
    """An installation whose home is on that disk; its log is not."""
    home = disk / "home"
    home.mkdir()
    installation = Installation(home, config=disk.parent / "intake.toml")
    migrate(f"sqlite:///{home / 'intake.db'}")
    return installation


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


def fill(disk: Path) -> Path:
    """Fill the disk to the last byte; return the file to delete when there is to be room."""
    path = disk / "rubbish"
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def make_large_arrival() -> Arrival:
    return Arrival(
        transport=Transport.PIPE, format=Format.MAIL, raw=b"From: a@x.example\n\n" + b"y" * 400_000
    )


def test_a_full_disk_refuses_for_now_and_takes_everything_once_there_is_room(
    disk_context: AppContext, disk: Path
) -> None:
    intake, spool = Intake(disk_context), Spool(disk / SPOOL_FOLDER, disk_context.sealer)
    assert intake.accept(make_call_arrival())
    rubbish = fill(disk)
    arrivals = [make_large_arrival(), *(make_call_arrival("x" * 20_000) for _ in range(20))]
    refused_arrivals = []
    for arrival in arrivals:
        try:
            intake.accept(arrival)
        except REFUSED:
            refused_arrivals.append(arrival)
    assert make_large_arrival().raw in {a.raw for a in refused_arrivals}
    assert len(refused_arrivals) > 10
    with pytest.raises(OSError, match=r"."):
        spool.store(make_call_arrival("z" * 100_000))  # then the webhook says 503
    before = count_rows(disk_context, Delivery)
    rubbish.unlink()
    for arrival in refused_arrivals:
        assert intake.accept(arrival)
    assert (
        count_rows(disk_context, Delivery)
        == count_rows(disk_context, Receipt)
        == before + len(refused_arrivals)
    )
    spool.store(make_call_arrival())
    assert drain(disk_context) == 1
    while process_waiting(disk_context):
        pass
    assert count_rows(disk_context, Ticket) == count_rows(disk_context, Delivery)


def test_a_file_stays_in_the_folder_while_the_disk_is_full(
    disk_context: AppContext, disk: Path
) -> None:
    folder = WatchedFolder(disk_context, Intake(disk_context).accept)
    path = folder.path / "export.csv"
    path.write_bytes(
        b"Message ID,Practice Name,From,Message\r\n1,Acme,Jo," + b"help " * 6_000 + b"\r\n"
    )
    rubbish = fill(disk)
    folder.scan()
    assert path.exists()
    rubbish.unlink()
    folder.scan()
    assert not path.exists()
    assert count_rows(disk_context, Ticket) == 1


def test_a_disk_that_turns_read_only_refuses_for_now(disk_context: AppContext, disk: Path) -> None:
    intake = Intake(disk_context)
    intake.accept(make_call_arrival())
    disk_context.store.close()  # a file open for writing keeps a disk from turning read-only
    with read_only(disk):
        for arrival in (make_call_arrival(), make_large_arrival()):
            with pytest.raises(REFUSED):
                intake.accept(arrival)
    assert intake.accept(make_call_arrival())
    assert intake.accept(make_large_arrival())


def test_files_opened_while_the_disk_was_read_only_are_opened_again_when_it_is_writable(
    disk: Path,
) -> None:
    """After a crash SQLite finds the files of the last transactions, and opens them for reading."""
    url = f"sqlite:///{disk / 'intake.db'}"
    migrate(url)
    crash = (
        f"import os; from workflow.database.engine import Store; s = Store({url!r}); t ="
        " s.transaction(); t.__enter__()"
    )
    crash += (
        ".connection().exec_driver_sql('UPDATE alembic_version SET version_num = version_num'); "
    )
    crash += "t.__exit__(None, None, None); os._exit(0)"
    subprocess.run([sys.executable, "-c", crash], cwd=ROOT, check=True)
    context = open_context(Settings(home=disk, database_url=url), notifier=RecordingNotifier())
    with read_only(disk):
        for _ in range(3):
            with pytest.raises(REFUSED):
                Intake(context).accept(make_call_arrival())
            assert count_rows(context, Delivery) == 0
    tries = 0
    while not count_rows(context, Delivery):
        tries += 1
        assert tries < 4
        with suppress(SQLAlchemyError):
            Intake(context).accept(make_call_arrival())
    context.close()


def test_a_spool_on_a_read_only_disk_is_not_stored_again_and_again(
    context: AppContext, disk: Path
) -> None:
    """The database lies elsewhere and stores the form, but its file could not be removed."""
    here = replace(context, settings=context.settings.model_copy(update={"home": disk}))
    spool = Spool(disk / SPOOL_FOLDER, context.sealer)
    spool.store(make_call_arrival())
    with read_only(disk):
        assert [drain(here) for _ in range(3)] == [0] * 3
        assert not spool.has_space(1)
    assert spool.has_space(1)
    assert drain(here) == 1
    assert count_rows(context, Receipt) == 1


# -- real processes ----


def test_channels_on_a_full_disk_answer_try_again_and_work_afterwards_without_a_restart(
    installation: Installation, disk: Path
) -> None:
    with (
        installation.process("smtp", opens=installation.smtp),
        installation.process("webhooks", opens=installation.webhook),
    ):
        assert (installation.send_mail(), installation.post_form()) == (250, 202)
        acknowledged_count, rubbish = 2, fill(disk)
        answers = []
        for _ in range(12):  # the first few find room in the pages that SQLite has already
            answers += [installation.send_mail("x" * 50_000), installation.post_form("x" * 50_000)]
        assert set(answers) <= {250, 202, 451, 503}
        assert set(answers[-4:]) == {451, 503}
        status, health = installation.get_health()
        assert (status, health["spool"]) == (200, False)
        acknowledged_count += answers.count(250) + answers.count(202)
        rubbish.unlink()
        assert (installation.send_mail(), installation.post_form()) == (250, 202)
        acknowledged_count += 2
        until(lambda: installation.get_health()[1]["spooled"] == 0)
        assert installation.get_health()[1]["spool"]
    store = Store(f"sqlite:///{installation.home / 'intake.db'}")
    with store.read_only() as session:
        assert session.scalar(select(func.count()).select_from(Delivery)) == acknowledged_count
    store.close()


def test_channels_started_on_a_read_only_disk_open_and_work_afterwards(
    installation: Installation, disk: Path
) -> None:
    open_context(Settings(home=installation.home)).close()  # its key file was made before
    store = Store(f"sqlite:///{installation.home / 'intake.db'}")
    store.close()
    logs = disk.parent
    with ExitStack() as stack:
        with read_only(disk):
            stack.enter_context(
                installation.process("smtp", opens=installation.smtp, log=logs / "smtp")
            )
            stack.enter_context(
                installation.process("webhooks", opens=installation.webhook, log=logs / "webhooks")
            )
            assert (
                installation.send_mail(),
                installation.post_form(),
                installation.get_health()[0],
            ) == (
                451,
                503,
                503,
            )
        until(lambda: installation.send_mail() == 250)
        until(lambda: installation.post_form() == 202)


def test_mail_stays_in_its_mailbox_unmarked_while_the_disk_is_full(
    disk_context: AppContext, disk: Path
) -> None:
    if not dovecot.BINARY:
        pytest.skip(
            "Dovecot is not installed (Debian: dovecot-imapd): mail on a full disk is NOT tested"
        )
    stop = threading.Event()
    with dovecot.run_dovecot() as server, capture_logs() as lines:
        user = "full@example.org"
        box = Mailbox(
            host=dovecot.ALL,
            port=server.port,
            tls=False,
            user=user,
            password=SecretStr(dovecot.PASSWORD),
        )
        server.deliver(user, b"Subject: large\r\n\r\n" + b"x" * 400_000 + b"\r\n")
        rubbish, looks = fill(disk), list[str]()
        reader_context = ReaderContext(
            settings=disk_context.settings.model_copy(update={"imap_poll_seconds": 0.2}),
            accept=Intake(disk_context).accept,
            checkpoints=StoredCheckpoints(disk_context.store),
            get_deferred=partial(ItemFaults, disk_context.store, disk_context.clock, "imap"),
            record_look=looks.append,
            stop=stop,
            timing=RetryTiming(first_pause=0.1, max_pause=0.2),
        )
        reader = threading.Thread(target=read_mailboxes, args=((box,), reader_context))
        reader.start()
        try:
            # tried, refused and tried again
            until(lambda: [line["event"] for line in lines].count("not stored") > 1)
            assert (server.read_flags(user), looks) == ({1: set()}, [])
            rubbish.unlink()
            until(lambda: server.read_flags(user) == {1: {b"$Intake"}})
        finally:
            stop.set()
            reader.join(30)
    assert count_rows(disk_context, Delivery) == count_rows(disk_context, Receipt) == 1


def test_a_database_without_a_page_left_refuses_for_now(context: AppContext) -> None:
    """The same without root: a limit of SQLite's own stands for the full disk."""
    pages = [20_000]
    event.listen(
        context.store.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count={pages[0]}")
    )
    context.store.close()
    intake, first = Intake(context), make_call_arrival()
    number = intake.accept(first)
    pages[0] = 1  # SQLite takes what is in use already for the least
    context.store.close()
    others = [make_call_arrival("x" * 100_000) for _ in range(20)]
    errors = run_in_threads(*(lambda a=a: intake.accept(a) for a in others))
    assert errors
    assert all(isinstance(e, OperationalError) for e in errors)
    before = count_rows(context, Delivery)
    assert before == len(others) - len(errors) + 1
    pages[0] = 20_000
    context.store.close()
    assert {intake.accept(a) for a in [first, *others]} >= {number}
    assert count_rows(context, Delivery) == len(others) + 1
