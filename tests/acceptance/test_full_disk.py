"""A disk that is full or read-only.

A temporary refusal, and everything goes on when there is room again.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from ingest.folder.watcher import Folder
from ingest.formstack.spool import SPOOL, Spool, drain
from ingest.imap.checkpoints import StoredCheckpoints
from ingest.imap.reader import Door, Pace, read_all
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import read_waiting
from parsers.item import Format
from tests.support import dovecot
from tests.support.context import Woken, call, counted, together
from tests.support.processes import ROOT, Doors, until
from workflow.context import House, open_house
from workflow.database.engine import Store, migrate
from workflow.models.core import Delivery, Receipt, Ticket
from workflow.operations.item_faults import ItemFaults
from workflow.settings.settings import Mailbox, Settings

REFUSED = (SQLAlchemyError, OSError)  # what every door turns into "try again"


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
def small(disk: Path) -> Iterator[House]:
    """A house whose database, blobs, spool and folder lie on it."""
    settings = Settings(
        home=disk, database_url=f"sqlite:///{disk / 'intake.db'}", folder_settle_seconds=0
    )
    migrate(settings.database)
    opened = open_house(settings, waker=Woken())
    yield opened
    opened.close()


@pytest.fixture
def doors(disk: Path) -> Doors:
    """An installation whose home is on it; what it logs is not."""
    home = disk / "home"
    home.mkdir()
    made = Doors(home, config=disk.parent / "intake.toml")
    migrate(f"sqlite:///{home / 'intake.db'}")
    return made


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


def fill(disk: Path) -> Path:
    """Take every byte that is left."""
    path = disk / "rubbish"
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def large() -> Arrival:
    return Arrival(
        transport=Transport.PIPE, format=Format.MAIL, raw=b"From: a@x.example\n\n" + b"y" * 400_000
    )


def test_a_full_disk_refuses_for_now_and_takes_everything_once_there_is_room(
    small: House, disk: Path
) -> None:
    door, spool = Intake(small), Spool(disk / SPOOL, small.sealer)
    assert door.accept(call())
    rubbish = fill(disk)
    refused = [large(), *(call("x" * 20_000) for _ in range(20))]
    said_no = []
    for arrival in refused:
        try:
            door.accept(arrival)
        except REFUSED:
            said_no.append(arrival)
    assert large().raw in {a.raw for a in said_no}
    assert len(said_no) > 10
    with pytest.raises(OSError, match=r"."):
        spool.put(call("z" * 100_000))  # then the webhook says 503
    before = counted(small, Delivery)
    rubbish.unlink()
    for arrival in said_no:
        assert door.accept(arrival)
    assert counted(small, Delivery) == counted(small, Receipt) == before + len(said_no)
    spool.put(call())
    assert drain(small) == 1
    while read_waiting(small):
        pass
    assert counted(small, Ticket) == counted(small, Delivery)


def test_a_file_stays_in_the_folder_while_the_disk_is_full(small: House, disk: Path) -> None:
    folder = Folder(small, Intake(small).accept)
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
    assert counted(small, Ticket) == 1


def test_a_disk_that_turns_read_only_refuses_for_now(small: House, disk: Path) -> None:
    door = Intake(small)
    door.accept(call())
    small.store.close()  # a file open for writing keeps a disk from turning read-only
    with read_only(disk):
        for arrival in (call(), large()):
            with pytest.raises(REFUSED):
                door.accept(arrival)
    assert door.accept(call())
    assert door.accept(large())


def test_what_was_opened_while_the_disk_was_read_only_is_opened_anew_when_it_no_longer_is(
    disk: Path,
) -> None:
    """After a crash the files of the last transactions are there.

    SQLite opens them for reading, and leaves it so.
    """
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
    house = open_house(Settings(home=disk, database_url=url), waker=Woken())
    with read_only(disk):
        for _ in range(3):
            with pytest.raises(REFUSED):
                Intake(house).accept(call())
            assert counted(house, Delivery) == 0
    tries = 0
    while not counted(house, Delivery):
        tries += 1
        assert tries < 4
        with suppress(SQLAlchemyError):
            Intake(house).accept(call())
    house.close()


def test_a_spool_on_a_read_only_disk_is_not_stored_again_and_again(
    house: House, disk: Path
) -> None:
    """The database lies elsewhere and takes it, but its file could not be removed."""
    here = replace(house, settings=house.settings.model_copy(update={"home": disk}))
    spool = Spool(disk / SPOOL, house.sealer)
    spool.put(call())
    with read_only(disk):
        assert [drain(here) for _ in range(3)] == [0] * 3
        assert not spool.has_room(1)
    assert spool.has_room(1)
    assert drain(here) == 1
    assert counted(house, Receipt) == 1


# -- real processes ----


def test_doors_on_a_full_disk_say_try_again_and_take_everything_afterwards_without_a_restart(
    doors: Doors, disk: Path
) -> None:
    with doors.process("smtp", opens=doors.smtp), doors.process("webhooks", opens=doors.webhook):
        assert (doors.mail(), doors.form()) == (250, 202)
        yes, rubbish = 2, fill(disk)
        said = []
        for _ in range(12):  # the first few find room in the pages that SQLite has already
            said += [doors.mail("x" * 50_000), doors.form("x" * 50_000)]
        assert set(said) <= {250, 202, 451, 503}
        assert set(said[-4:]) == {451, 503}
        status, health = doors.health()
        assert (status, health["spool"]) == (200, False)
        yes += said.count(250) + said.count(202)
        rubbish.unlink()
        assert (doors.mail(), doors.form()) == (250, 202)
        yes += 2
        until(lambda: doors.health()[1]["spooled"] == 0)
        assert doors.health()[1]["spool"]
    store = Store(f"sqlite:///{doors.home / 'intake.db'}")
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Delivery)) == yes
    store.close()


def test_doors_started_on_a_read_only_disk_open_and_take_everything_afterwards(
    doors: Doors, disk: Path
) -> None:
    open_house(Settings(home=doors.home)).close()  # its key file was made before
    store = Store(f"sqlite:///{doors.home / 'intake.db'}")
    store.close()
    logs = disk.parent
    with ExitStack() as stack:
        with read_only(disk):
            stack.enter_context(doors.process("smtp", opens=doors.smtp, log=logs / "smtp"))
            stack.enter_context(
                doors.process("webhooks", opens=doors.webhook, log=logs / "webhooks")
            )
            assert (doors.mail(), doors.form(), doors.health()[0]) == (451, 503, 503)
        until(lambda: doors.mail() == 250)
        until(lambda: doors.form() == 202)


def test_mail_stays_in_its_mailbox_unmarked_while_the_disk_is_full(
    small: House, disk: Path
) -> None:
    if not dovecot.BINARY:
        pytest.skip(
            "Dovecot is not installed (Debian: dovecot-imapd): mail on a full disk is NOT tested"
        )
    stop = threading.Event()
    with dovecot.running() as server:
        user = "full@example.org"
        box = Mailbox(
            host=dovecot.ALL,
            port=server.port,
            tls=False,
            user=user,
            password=SecretStr(dovecot.PASSWORD),
        )
        server.deliver(user, b"Subject: large\r\n\r\n" + b"x" * 400_000 + b"\r\n")
        rubbish, seen = fill(disk), list[str]()
        door = Door(
            settings=small.settings.model_copy(update={"imap_poll_seconds": 0.2}),
            accept=Intake(small).accept,
            checkpoints=StoredCheckpoints(small.store),
            faults=partial(ItemFaults, small.store, small.clock, "imap"),
            seen=seen.append,
            stop=stop,
            pace=Pace(first=0.1, cap=0.2),
        )
        reader = threading.Thread(target=read_all, args=((box,), door))
        reader.start()
        try:
            time.sleep(1)
            assert (server.flags(user), seen) == ({1: set()}, [])
            rubbish.unlink()
            until(lambda: server.flags(user) == {1: {b"$Intake"}})
        finally:
            stop.set()
            reader.join(30)
    assert counted(small, Delivery) == counted(small, Receipt) == 1


def test_a_database_without_a_page_left_refuses_for_now(house: House) -> None:
    """The same without root: SQLite's own word for it."""
    pages = [20_000]
    event.listen(
        house.store.engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count={pages[0]}")
    )
    house.store.close()
    door, first = Intake(house), call()
    number = door.accept(first)
    pages[0] = 1  # SQLite takes what is in use already for the least
    house.store.close()
    others = [call("x" * 100_000) for _ in range(20)]
    errors = together(*(lambda a=a: door.accept(a) for a in others))
    assert errors
    assert all(isinstance(e, OperationalError) for e in errors)
    before = counted(house, Delivery)
    assert before == len(others) - len(errors) + 1
    pages[0] = 20_000
    house.store.close()
    assert {door.accept(a) for a in [first, *others]} >= {number}
    assert counted(house, Delivery) == len(others) + 1
