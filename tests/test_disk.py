"""A disk that is full or read-only: a temporary refusal, and everything goes on when there is room again."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from ingest.folder import Folder
from ingest.intake import Arrival, Intake, Transport
from ingest.reading import read_waiting
from ingest.spool import SPOOL, Spool, drain
from parsers.item import Format
from tests.house import Woken, call, counted
from workflow.house import House, open_house
from workflow.models import Delivery, Receipt, Ticket
from workflow.settings import Settings
from workflow.store import migrate

REFUSED = (SQLAlchemyError, OSError)  # what every door turns into "try again"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB that a test may fill."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no disk of our own can be mounted (it takes root): a full disk is NOT tested")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def small(disk: Path) -> Iterator[House]:
    """A house whose database, blobs, spool and folder lie on it."""
    settings = Settings(home=disk, database_url=f"sqlite:///{disk / 'intake.db'}", folder_settle_seconds=0)
    migrate(settings.database)
    opened = open_house(settings, waker=Woken())
    yield opened
    opened.close()


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
    return Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"From: a@x.example\n\n" + b"y" * 400_000)


def test_a_full_disk_refuses_for_now_and_takes_everything_once_there_is_room(small: House, disk: Path) -> None:
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
    path.write_bytes(b"Message ID,Practice Name,From,Message\r\n1,Acme,Jo," + b"help " * 6_000 + b"\r\n")
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
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        for arrival in (call(), large()):
            with pytest.raises(REFUSED):
                door.accept(arrival)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert door.accept(call())
    assert door.accept(large())
