"""The watched folder: real files, settled by the real file system."""

import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import openpyxl
import pytest
from sqlalchemy.exc import OperationalError

from ingest.folder import Folder, identity, serve
from ingest.intake import Arrival, Intake, Transport
from tests.house import counted, together
from workflow.house import House
from workflow.models import Delivery, Receipt, Ticket
from workflow.settings import Settings

HEADINGS = ["Message ID", "Date Received", "Practice Name", "From", "From Email", "Subject", "Message"]


def workbook(*texts: str) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(HEADINGS)
    for n, text in enumerate(texts):
        sheet.append([f"M-{n}-{text}", "2026-03-01 10:00", "Sunrise", "Pat", "pat@clinic.example", "Claims", text])
    out = BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", folder_settle_seconds=0, folder_poll_seconds=0.2, workbook_limit=2**20)


@pytest.fixture
def folder(house: House) -> Folder:
    return Folder(house, Intake(house).accept)


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_file())


def test_a_finished_workbook_becomes_tickets_and_moves_to_done(house: House, folder: Folder) -> None:
    (folder.path / "export.xlsx").write_bytes(workbook("one", "two"))
    folder.scan()
    assert counted(house, Ticket) == 2
    assert names(folder.path) == []
    assert names(folder.path / "done") == ["export.xlsx"]


def test_what_cannot_be_read_moves_to_rejected_beside_the_reason(house: House, folder: Folder) -> None:
    (folder.path / "list.xlsx").write_bytes(b"this is no workbook at all")
    folder.scan()
    assert names(folder.path / "rejected") == ["list.xlsx", "list.xlsx.txt"]
    why = (folder.path / "rejected" / "list.xlsx.txt").read_text()
    assert "could not be read" in why
    assert "intake replay 1" in why
    assert counted(house, Ticket) == 0
    assert counted(house, Delivery) == 1, "the original is stored"


@pytest.mark.parametrize(
    "name", ["~$export.xlsx", ".hidden.xlsx", ".~lock.export.xlsx#", "A1B2C3D4.tmp", "export.xlsx.part", "Desktop.ini"]
)
def test_files_of_programs_and_hidden_ones_are_left_alone(house: House, folder: Folder, name: str) -> None:
    (folder.path / name).write_bytes(workbook("one"))
    folder.scan()
    assert names(folder.path) == [name]
    assert counted(house, Delivery) == 0


def test_a_file_still_being_written_is_left_until_it_rests(house: House) -> None:
    slow = Folder(_with(house, folder_settle_seconds=0.3), Intake(house).accept)
    path, whole = slow.path / "export.xlsx", workbook("one")
    for cut in (1000, 2000, len(whole)):
        path.write_bytes(whole[:cut])
        slow.scan()
        assert names(slow.path) == ["export.xlsx"], "taken while it grew"
    deadline = time.monotonic() + 5
    while names(slow.path) and time.monotonic() < deadline:
        slow.scan()
        time.sleep(0.02)
    assert names(slow.path / "done") == ["export.xlsx"]
    assert counted(house, Ticket) == 1


@pytest.mark.parametrize("part", [b"", workbook("one")[:-100]])
def test_a_file_that_rests_but_looks_cut_short_is_given_longer(house: House, folder: Folder, part: bytes) -> None:
    (folder.path / "export.xlsx").write_bytes(part)
    folder.scan()
    folder.scan()
    assert names(folder.path) == ["export.xlsx"]
    assert counted(house, Delivery) == 0


def test_the_same_workbook_again_under_another_name_makes_no_second_ticket(house: House, folder: Folder) -> None:
    (folder.path / "export.xlsx").write_bytes(workbook("one"))
    folder.scan()
    (folder.path / "export (copy).xlsx").write_bytes((folder.path / "done" / "export.xlsx").read_bytes())
    folder.scan()
    assert counted(house, Ticket) == 1
    assert names(folder.path / "done") == ["export (copy).xlsx", "export.xlsx"]
    assert counted(house, Receipt, Receipt.repeated) == 1


def test_a_name_taken_in_done_is_not_overwritten(folder: Folder) -> None:
    for text in ("one", "two"):
        (folder.path / "export.xlsx").write_bytes(workbook(text))
        folder.scan()
    assert names(folder.path / "done") == ["export (2).xlsx", "export.xlsx"]


@pytest.mark.parametrize(
    "name", ["L" * 250 + ".xlsx", "a\nb\x1b[31m.xlsx", "-rf $(id) `x` {{7}}.xlsx", "<img src=x>.xlsx"]
)
def test_odd_names_do_no_harm(house: House, folder: Folder, name: str) -> None:
    (folder.path / name).write_bytes(workbook("one"))
    folder.scan()
    assert names(folder.path / "done") == [name]
    assert counted(house, Ticket) == 1


def test_the_longest_name_is_rejected_with_its_reason_all_the_same(folder: Folder) -> None:
    (folder.path / ("L" * 250 + ".xlsx")).write_bytes(b"no workbook")
    folder.scan()
    assert len(names(folder.path / "rejected")) == 2


def test_a_file_over_the_limit_is_rejected_without_being_read(house: House, folder: Folder) -> None:
    (folder.path / "big.xlsx").write_bytes(b"x" * (2**20 + 1))
    folder.scan()
    assert "split the export" in (folder.path / "rejected" / "big.xlsx.txt").read_text()
    assert counted(house, Delivery) == 0


def test_a_link_is_not_followed(house: House, folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.xlsx").write_bytes(workbook("one"))
    (folder.path / "link.xlsx").symlink_to(tmp_path / "elsewhere.xlsx")
    folder.scan()
    assert counted(house, Delivery) == 0


def test_when_storing_fails_the_file_stays_and_is_taken_later(house: House) -> None:
    intake, fails = Intake(house), [True]

    def accept(arrival: Arrival) -> int:
        if fails.pop() if fails else False:
            raise OperationalError("", {}, Exception())
        return intake.accept(arrival)

    folder = Folder(house, accept)
    (folder.path / "export.xlsx").write_bytes(workbook("one"))
    folder.scan()
    assert names(folder.path) == ["export.xlsx"]
    folder.scan()
    assert names(folder.path / "done") == ["export.xlsx"]
    assert counted(house, Ticket, Ticket.transport == Transport.FOLDER) == 1


@pytest.fixture
def watching(house: House) -> Iterator[Path]:
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(house, Intake(house).accept, stop))
    thread.start()
    yield house.settings.dropbox
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_dropped_file_is_noticed_by_itself(house: House, watching: Path) -> None:
    deadline = time.monotonic() + 10
    while not (watching / "rejected").is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    (watching / "export.xlsx").write_bytes(workbook("one"))
    while not names(watching / "done") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert names(watching / "done") == ["export.xlsx"]
    assert counted(house, Ticket) == 1


def _with(house: House, **settings: object) -> House:
    changed = house.settings.model_copy(update=settings)
    return House(changed, house.store, house.sealer, house.vault, house.signer, house.clock)


# -- several hosts --------------------------------------------------------------------------------------------------


def test_a_folder_is_the_same_for_every_host_that_shares_it_and_no_other_is(tmp_path: Path) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    seen = set[str]()
    assert together(*[lambda: seen.add(identity(shared))] * 8) == []
    assert len(seen) == 1
    assert identity(other) not in seen
    assert [p.name for p in shared.iterdir()] == [".intake-folder"]


def test_only_the_one_whose_folder_it_is_takes_files(house: House, folder: Folder) -> None:
    stop, mine = threading.Event(), threading.Event()
    (folder.path / "export.xlsx").write_bytes(workbook("one"))
    thread = threading.Thread(target=serve, args=(house, Intake(house).accept, stop, mine.is_set))
    thread.start()
    try:
        time.sleep(0.7)  # some rounds
        assert counted(house, Delivery) == 0
        mine.set()
        until = time.monotonic() + 20
        while counted(house, Ticket) != 1:
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join(20)
