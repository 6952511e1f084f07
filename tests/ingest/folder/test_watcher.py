"""The watched folder: real files, settled by the real file system."""

import os
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import openpyxl
import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, OperationalError
from structlog.testing import capture_logs

from console.presenters.operations import present_status
from ingest.folder import watcher as folder_module
from ingest.folder.watcher import AWAY_REASON, ID_FILE, WatchedFolder, get_folder_id, serve
from ingest.intake import Arrival, Intake, Transport
from tests.support.context import HandClock, count_rows, run_in_threads
from workflow.context import AppContext
from workflow.models.core import Delivery, Receipt, Ticket
from workflow.runtime.backoff import Backoff
from workflow.settings.settings import Settings

HEADINGS = [
    "Message ID",
    "Date Received",
    "Practice Name",
    "From",
    "From Email",
    "Subject",
    "Message",
]


def build_zip(*names: str) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return out.getvalue()


def build_workbook(*texts: str) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(HEADINGS)
    for n, text in enumerate(texts):
        sheet.append(
            [
                f"M-{n}-{text}",
                "2026-03-01 10:00",
                "Sunrise",
                "Pat",
                "pat@clinic.example",
                "Claims",
                text,
            ]
        )
    out = BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        folder_settle_seconds=0,
        folder_poll_seconds=0.2,
        workbook_limit=2**20,
    )


@pytest.fixture
def folder(context: AppContext) -> WatchedFolder:
    return WatchedFolder(context, Intake(context).accept)


def list_names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_file() and p.name != ID_FILE)


def test_a_finished_workbook_becomes_tickets_and_moves_to_done(
    context: AppContext, folder: WatchedFolder
) -> None:
    (folder.path / "export.xlsx").write_bytes(build_workbook("one", "two"))
    folder.scan()
    assert count_rows(context, Ticket) == 2
    assert list_names(folder.path) == []
    assert list_names(folder.path / "done") == ["export.xlsx"]


def test_what_cannot_be_read_moves_to_rejected_beside_the_reason(
    context: AppContext, folder: WatchedFolder
) -> None:
    (folder.path / "list.xlsx").write_bytes(b"this is no workbook at all")
    folder.scan()
    assert list_names(folder.path / "rejected") == ["list.xlsx", "list.xlsx.txt"]
    why = (folder.path / "rejected" / "list.xlsx.txt").read_text()
    assert "could not be read" in why
    assert "intake replay 1" in why
    assert count_rows(context, Ticket) == 0
    assert count_rows(context, Delivery) == 1, "the original is stored"


@pytest.mark.parametrize(
    "name",
    [
        "~$export.xlsx",
        ".hidden.xlsx",
        ".~lock.export.xlsx#",
        "A1B2C3D4.tmp",
        "export.xlsx.part",
        "Desktop.ini",
    ],
)
def test_files_of_programs_and_hidden_ones_are_left_alone(
    context: AppContext, folder: WatchedFolder, name: str
) -> None:
    (folder.path / name).write_bytes(build_workbook("one"))
    folder.scan()
    assert list_names(folder.path) == [name]
    assert count_rows(context, Delivery) == 0


def test_a_file_still_being_written_is_left_until_it_rests(context: AppContext) -> None:
    slow = WatchedFolder(
        _change_settings(context, folder_settle_seconds=0.3), Intake(context).accept
    )
    path, whole = slow.path / "export.xlsx", build_workbook("one")
    for cut in (1000, 2000, len(whole)):
        path.write_bytes(whole[:cut])
        slow.scan()
        assert list_names(slow.path) == ["export.xlsx"], "taken while it grew"
    deadline = time.monotonic() + 30
    while list_names(slow.path) and time.monotonic() < deadline:
        slow.scan()
        time.sleep(0.02)
    assert list_names(slow.path / "done") == ["export.xlsx"]
    assert count_rows(context, Ticket) == 1


@pytest.mark.parametrize("part", [b"", build_workbook("one")[:-100]])
def test_a_file_that_rests_but_looks_cut_short_is_given_longer(
    context: AppContext, folder: WatchedFolder, part: bytes
) -> None:
    (folder.path / "export.xlsx").write_bytes(part)
    folder.scan()
    folder.scan()
    assert list_names(folder.path) == ["export.xlsx"]
    assert count_rows(context, Delivery) == 0


def test_the_same_workbook_again_under_another_name_makes_no_second_ticket(
    context: AppContext, folder: WatchedFolder
) -> None:
    (folder.path / "export.xlsx").write_bytes(build_workbook("one"))
    folder.scan()
    (folder.path / "export (copy).xlsx").write_bytes(
        (folder.path / "done" / "export.xlsx").read_bytes()
    )
    folder.scan()
    assert count_rows(context, Ticket) == 1
    assert list_names(folder.path / "done") == ["export (copy).xlsx", "export.xlsx"]
    assert count_rows(context, Receipt, Receipt.repeated) == 1


def test_a_name_taken_in_done_is_not_overwritten(folder: WatchedFolder) -> None:
    for text in ("one", "two"):
        (folder.path / "export.xlsx").write_bytes(build_workbook(text))
        folder.scan()
    assert list_names(folder.path / "done") == ["export (2).xlsx", "export.xlsx"]


@pytest.mark.parametrize(
    "name",
    ["L" * 250 + ".xlsx", "a\nb\x1b[31m.xlsx", "-rf $(id) `x` {{7}}.xlsx", "<img src=x>.xlsx"],
)
def test_odd_names_do_no_harm(context: AppContext, folder: WatchedFolder, name: str) -> None:
    (folder.path / name).write_bytes(build_workbook("one"))
    folder.scan()
    assert list_names(folder.path / "done") == [name]
    assert count_rows(context, Ticket) == 1


def test_the_longest_name_is_rejected_with_its_reason_all_the_same(folder: WatchedFolder) -> None:
    (folder.path / ("L" * 250 + ".xlsx")).write_bytes(b"no workbook")
    folder.scan()
    assert len(list_names(folder.path / "rejected")) == 2


def test_a_file_over_the_limit_is_rejected_without_being_read(
    context: AppContext, folder: WatchedFolder
) -> None:
    (folder.path / "big.xlsx").write_bytes(b"x" * (2**20 + 1))
    folder.scan()
    assert "split the export" in (folder.path / "rejected" / "big.xlsx.txt").read_text()
    assert count_rows(context, Delivery) == 0


def test_a_link_is_not_followed(context: AppContext, folder: WatchedFolder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.xlsx").write_bytes(build_workbook("one"))
    (folder.path / "link.xlsx").symlink_to(tmp_path / "elsewhere.xlsx")
    folder.scan()
    assert count_rows(context, Delivery) == 0


def test_when_storing_fails_the_file_stays_and_is_taken_later(context: AppContext) -> None:
    intake, fails = Intake(context), [True]

    def accept(arrival: Arrival) -> int:
        if fails.pop() if fails else False:
            raise OperationalError("", {}, Exception())
        return intake.accept(arrival)

    folder = WatchedFolder(context, accept)
    (folder.path / "export.xlsx").write_bytes(build_workbook("one"))
    folder.scan()
    assert list_names(folder.path) == ["export.xlsx"]
    folder.scan()
    assert list_names(folder.path / "done") == ["export.xlsx"]
    assert count_rows(context, Ticket, Ticket.transport == Transport.FOLDER) == 1


# -- whatever one file does stays with that file ----


def list_named_items(context: AppContext) -> dict[str, str]:
    """Return what `intake status` says of the folder: the names of items, with their reasons."""
    return {
        item["name"]: item["reason"]
        for one in present_status(context)["troubles"]
        for item in one["items"]
    }


def put_bytes_name(folder: WatchedFolder, name: bytes, raw: bytes) -> None:
    make_bytes_path(folder.path, name).write_bytes(raw)


@pytest.mark.parametrize(
    ("name", "repaired_name"),
    [
        (b"f\xfcr.xlsx", "f\u00fcr.xlsx"),
        (b"\x80 500.xlsx", "\u20ac 500.xlsx"),
        (b"gr\xc3\xbc\xdfe.xlsx", "gr\u00fc\u00dfe.xlsx"),
        (b"\xff" * 250 + b".xlsx", "\u00ff" * 125 + ".xlsx"),
        (b"a.\xe9" + b"x" * 252, "a.\u00e9" + "x" * 251),
    ],
)
@pytest.mark.parametrize("good", [True, False], ids=["workbook", "rubbish"])
def test_a_name_that_is_not_utf8_is_repaired(
    context: AppContext, folder: WatchedFolder, name: bytes, repaired_name: str, *, good: bool
) -> None:
    put_bytes_name(folder, name, build_workbook("one") if good else b"no workbook")
    (folder.path / "zz behind.xlsx").write_bytes(build_workbook("two"))
    folder.scan()
    assert list_names(folder.path) == []
    assert (repaired_name in list_names(folder.path / ("done" if good else "rejected"))) is True
    assert "zz behind.xlsx" in list_names(folder.path / "done")
    assert count_rows(context, Ticket) == 1 + good
    with context.store.read_only() as session:
        stored = [delivery.envelope["name"] for delivery in session.scalars(select(Delivery))]
    assert any(name[:3] == repaired_name[:3] and name.isprintable() for name in stored)
    assert present_status(context)["troubles"] == []


def test_what_is_no_file_is_named_and_the_files_behind_it_are_taken(
    context: AppContext, folder: WatchedFolder
) -> None:
    (folder.path / "a folder.xlsx").mkdir()
    os.mkfifo(folder.path / "b pipe.xlsx")
    (folder.path / "c loop.xlsx").symlink_to("c loop.xlsx")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder.path / "d"))
    (folder.path / "z.xlsx").write_bytes(build_workbook("one"))
    for _ in range(2):
        folder.scan()
    assert list_names(folder.path / "done") == ["z.xlsx"]
    assert list_named_items(context) == {
        "a folder.xlsx": "it is a folder: put its files themselves here",
        "b pipe.xlsx": "it is a pipe and no file",
        "c loop.xlsx": "it is a link: put the file itself here",
        "d": "it is a socket and no file",
    }
    (need,) = [
        need for need in present_status(context)["needs"] if "4 files cannot be taken" in need
    ]
    assert "b pipe.xlsx (it is a pipe and no file)" in need
    for path in ("b pipe.xlsx", "c loop.xlsx", "d"):
        (folder.path / path).unlink()
    (folder.path / "a folder.xlsx").rmdir()
    folder.scan()
    assert present_status(context)["troubles"] == []


def test_a_folder_that_was_moved_away_is_named_until_it_is_back(
    context: AppContext, folder: WatchedFolder, tmp_path: Path
) -> None:
    folder.scan()
    assert present_status(context)["troubles"] == []
    folder.path.rename(tmp_path / "moved")
    for _ in range(2):
        folder.scan()
    (need,) = [need for need in present_status(context)["needs"] if "Excel folder" in need]
    assert AWAY_REASON in need
    assert str(folder.path) in need
    (tmp_path / "moved").rename(folder.path)
    folder.scan()
    assert present_status(context)["troubles"] == []


def test_a_new_folder_in_its_place_is_watched_and_clears_what_was_reported(
    context: AppContext, folder: WatchedFolder, tmp_path: Path
) -> None:
    folder.path.rename(tmp_path / "moved")
    folder.scan()
    again = WatchedFolder(context, Intake(context).accept)  # makes the folder, as after a restart
    (again.path / "z.xlsx").write_bytes(build_workbook("one"))
    again.scan()
    assert list_names(again.path / "done") == ["z.xlsx"]
    assert present_status(context)["troubles"] == []


def test_a_folder_made_anew_while_it_is_watched_takes_files(
    context: AppContext, folder: WatchedFolder, tmp_path: Path
) -> None:
    folder.path.rename(tmp_path / "moved")
    folder.scan()
    folder.path.mkdir()
    (folder.path / "z.xlsx").write_bytes(build_workbook("one"))
    folder.scan()
    assert list_names(folder.path / "done") == ["z.xlsx"]
    assert present_status(context)["troubles"] == []


@pytest.mark.parametrize(
    ("name", "raw", "advice"),
    [
        ("a.pdf", b"%PDF-1.7 x", "forward the PDF"),
        ("a.eml", b"Return-Path: <>\nFrom: a@b.example\nSubject: x\n\nText", "forward it"),
        ("b.eml", b"From: a\r\nTo: b\r\n c\r\nDate: x\r\n\r\nText", "forward it"),
        ("a.zip", build_zip("notes.txt"), "unpack it"),
        ("a.gz", b"\x1f\x8b\x08 rest", "unpack it"),
        ("fax.tif", b"II*\0\x01\x02", "forward it"),
        ("a.ics", b"BEGIN:VCALENDAR\nVERSION:2.0\n", "forward it"),
    ],
)
def test_the_advice_fits_the_file(
    folder: WatchedFolder, name: str, raw: bytes, advice: str
) -> None:
    (folder.path / name).write_bytes(raw)
    folder.scan()
    why = (folder.path / "rejected" / f"{name}.txt").read_text()
    assert advice in why
    assert "not an Excel workbook" in why
    assert "intake dismiss 1" in why


@pytest.mark.parametrize(
    "name",
    [
        "~Nora urgent.xlsx",
        "x.xlsx.tmp",
        "x.part",
        "x.XLSX.Part",
        "x.xlsx~",
        ".hidden.xlsx",
        "x.lnk",
        "~$big.xlsx",
    ],
)
def test_what_is_left_alone_for_long_is_named(
    context: AppContext, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.folder.watcher.IGNORED_SECONDS", 0.3)
    folder = WatchedFolder(context, Intake(context).accept)
    (folder.path / name).write_bytes(build_workbook("one"))
    folder.scan()
    assert list_named_items(context) == {}, "it may be on its way"

    def is_named() -> bool:
        folder.scan()
        return name in list_named_items(context)

    wait_for(is_named)
    assert "rename it" in list_named_items(context)[name]
    (need,) = [need for need in present_status(context)["needs"] if name in need]
    assert "1 file cannot be taken" in need
    monkeypatch.setattr("ingest.folder.watcher.IGNORED_SECONDS", 900)
    WatchedFolder(context, Intake(context).accept).scan()
    assert name in list_named_items(context), "a restart does not forget it"
    (folder.path / name).rename(folder.path / "export.xlsx")
    folder.scan()
    assert list_names(folder.path / "done") == ["export.xlsx"]
    assert present_status(context)["troubles"] == []


def test_a_file_that_still_grows_under_an_interim_name_is_not_named(
    context: AppContext, folder: WatchedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.folder.watcher.IGNORED_SECONDS", 60)
    now = [time.monotonic()]
    monkeypatch.setattr("ingest.folder.watcher.time", SimpleNamespace(monotonic=lambda: now[0]))
    for size in (1, 2, 3):
        (folder.path / "x.xlsx.part").write_bytes(b"x" * size)
        folder.scan()
        now[0] += 59
    assert list_named_items(context) == {}
    now[0] += 2
    folder.scan()
    assert list(list_named_items(context)) == ["x.xlsx.part"]


@pytest.mark.parametrize(
    "name",
    [
        "~$export.xlsx",
        ".~lock.export.xlsx#",
        "Desktop.ini",
        "Thumbs.db",
        ".DS_Store",
        "._export.xlsx",
    ],
)
def test_what_programs_leave_for_themselves_is_never_named(
    context: AppContext, folder: WatchedFolder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.folder.watcher.IGNORED_SECONDS", 0)
    (folder.path / name).write_bytes(b"x" * 165)
    (folder.path / ".snapshot").mkdir()
    folder.scan()
    folder.scan()
    assert list_named_items(context) == {}
    assert list_names(folder.path) == [name]


FAULTS = [
    KeyError("text of a customer"),
    UnicodeEncodeError("utf-8", "x", 0, 1, "text of a customer"),
    MemoryError(),
    RecursionError("text of a customer"),
    PermissionError(13, "text of a customer", "/secret"),
    OSError(5, "text of a customer"),
    IntegrityError("text of a customer", {}, Exception()),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_nobody_foresaw_stays_with_its_file(
    context: AppContext, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arms a fault in our own code for one file.

    The others are taken, and it is named until it is corrected.
    """
    intake, fault_switch = Intake(context), [True]

    def accept(arrival: Arrival) -> int:
        if fault_switch and arrival.envelope["name"] == "b.xlsx":
            raise fault
        return intake.accept(arrival)

    folder = WatchedFolder(context, accept)
    monkeypatch.setattr("ingest.folder.watcher.BACKOFF", Backoff(timedelta(0), timedelta(0)))
    for name in "abc":
        (folder.path / f"{name}.xlsx").write_bytes(build_workbook(name))
    with capture_logs() as lines:
        folder.scan()
        folder.scan()
    assert list_names(folder.path) == ["b.xlsx"], "it stays where it is"
    assert list_names(folder.path / "done") == ["a.xlsx", "c.xlsx"]
    status_of_folder = present_status(context)
    assert not status_of_folder["ok"]
    (need,) = [need for need in status_of_folder["needs"] if "b.xlsx" in need]
    assert "1 file cannot be taken since 2026-" in need
    assert "customer" not in need + str(lines)
    fault_switch.clear()
    folder.scan()
    folder.scan()
    assert list_names(folder.path / "done") == ["a.xlsx", "b.xlsx", "c.xlsx"]
    assert present_status(context)["troubles"] == []


def test_a_file_that_fails_is_tried_again_with_backoff_and_at_once_when_it_changed(
    context: AppContext,
) -> None:
    attempts: list[bytes] = []

    def accept(arrival: Arrival) -> int:
        attempts.append(arrival.raw)
        raise KeyError

    folder = WatchedFolder(context, accept)
    path = folder.path / "a.xlsx"
    path.write_bytes(build_workbook("one"))
    for _ in range(5):
        folder.scan()
    assert len(attempts) == 1, "its pause is not over"
    path.write_bytes(build_workbook("another one"))
    folder.scan()
    assert len(attempts) == 2


def test_what_is_named_stays_named_since_when_it_was_over_a_restart(
    context: AppContext, clock: HandClock
) -> None:
    def accept(_arrival: Arrival) -> int:
        raise KeyError

    (context.settings.dropbox).mkdir(parents=True)
    (context.settings.dropbox / "a.xlsx").write_bytes(build_workbook("one"))
    WatchedFolder(context, accept).scan()
    (before,) = present_status(context)["troubles"]
    clock.turn(hours=1)
    WatchedFolder(context, accept).scan()
    (after,) = present_status(context)["troubles"]
    assert after["since"] == before["since"]


def test_a_file_that_vanishes_while_it_is_read_is_nobodys_concern(context: AppContext) -> None:
    intake = Intake(context)

    def accept(arrival: Arrival) -> int:
        (context.settings.dropbox / "a.xlsx").unlink(missing_ok=True)
        return intake.accept(arrival)

    folder = WatchedFolder(context, accept)
    for name in "ab":
        (folder.path / f"{name}.xlsx").write_bytes(build_workbook(name))
    folder.scan()
    folder.scan()
    assert count_rows(context, Ticket) == 2
    assert present_status(context)["troubles"] == []


def test_a_file_that_cannot_be_moved_leaves_no_pile_of_reasons(
    context: AppContext, folder: WatchedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(path: Path, _target: Path) -> Path:
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr("ingest.folder.watcher.BACKOFF", Backoff(timedelta(0), timedelta(0)))
    (folder.path / "a.xlsx").write_bytes(b"no workbook")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        for _ in range(3):
            folder.scan()
    assert list_names(folder.path / "rejected") == []
    assert list(list_named_items(context)) == ["a.xlsx"]
    folder.scan()
    assert list_names(folder.path / "rejected") == ["a.xlsx", "a.xlsx.txt"]


def test_a_file_that_became_a_pipe_does_not_hold_the_process(folder: WatchedFolder) -> None:
    path = folder.path / "a.xlsx"
    os.mkfifo(path)
    with pytest.raises(FileNotFoundError):
        folder_module._read_file(path, 10)


@pytest.fixture
def watching(context: AppContext) -> Iterator[Path]:
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(context, Intake(context).accept, stop))
    thread.start()
    yield context.settings.dropbox
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def wait_for(state: Callable[[], bool]) -> None:
    """Wait until a state is reached; fail after 20 seconds."""
    deadline = time.monotonic() + 20
    while not state():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_dropped_file_is_noticed_by_itself(context: AppContext, watching: Path) -> None:
    wait_for((watching / "rejected").is_dir)
    (watching / "export.xlsx").write_bytes(build_workbook("one"))
    wait_for(lambda: list_names(watching / "done") == ["export.xlsx"])
    assert count_rows(context, Ticket) == 1


def make_bytes_path(folder: Path, name: bytes) -> Path:
    """Return the path of a file whose name need not be UTF-8."""
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


@pytest.mark.parametrize("unwatched_seconds", [0, 60], ids=["watched anew", "polled"])
@pytest.mark.parametrize("name", [b"f\xfcr.xlsx", b"\xff", b"a\xe9\xe8 export.xlsx"])
def test_a_name_that_is_not_utf8_ends_no_process(
    context: AppContext, monkeypatch: pytest.MonkeyPatch, name: bytes, unwatched_seconds: float
) -> None:
    """The watcher cannot name such a file: when it comes, grows, is moved by us or renamed."""
    monkeypatch.setattr("ingest.folder.watcher.UNWATCHED_SECONDS", unwatched_seconds)
    folder, rounds, stop = context.settings.dropbox, [0], threading.Event()

    def count_round() -> None:
        rounds[0] += 1

    def some_rounds() -> None:
        before = rounds[0]
        wait_for(lambda: rounds[0] > before + 1)

    arguments = (context, Intake(context).accept, stop, lambda: True, count_round)
    thread = threading.Thread(target=serve, args=arguments)
    with capture_logs() as lines:
        thread.start()
        try:
            some_rounds()
            growing, whole = make_bytes_path(folder, name + b".part"), build_workbook("one")
            for end in (10, 1000, len(whole)):  # as a download grows under its interim name
                growing.write_bytes(whole[:end])
                some_rounds()
            growing.rename(make_bytes_path(folder, name))
            (folder / "zz behind.xlsx").write_bytes(build_workbook("two"))
            wait_for(lambda: len(list_names(folder / "done")) == 2)
            make_bytes_path(folder, name).write_bytes(b"no workbook")
            wait_for(lambda: len(list_names(folder / "rejected")) == 2)
            (folder / "last.xlsx").write_bytes(build_workbook("three"))
            wait_for(lambda: "last.xlsx" in list_names(folder / "done"))
            assert thread.is_alive()
        finally:
            stop.set()
            thread.join(20)
    assert not thread.is_alive()
    assert count_rows(context, Ticket) == 3
    faults = [line for line in lines if line["event"] == "fault"]
    assert {line["where"] for line in faults} == {"folder watcher"}
    if unwatched_seconds:
        assert len(faults) == 1
    assert "xlsx" not in str(faults)


@pytest.mark.parametrize(
    "fault", [FileNotFoundError("a name"), OSError(28, "a name"), RuntimeError("a name")]
)
def test_whatever_the_watcher_raises_files_are_taken(
    context: AppContext, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Arms the call of the watcher: no more watches, a folder that is away, a bug of it."""

    def fail(*_args: object, **_options: object) -> Iterator[None]:
        raise fault

    monkeypatch.setattr("ingest.folder.watcher.watch", fail)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(context, Intake(context).accept, stop))
    with capture_logs() as lines:
        thread.start()
        try:
            wait_for((context.settings.dropbox / "rejected").is_dir)
            (context.settings.dropbox / "export.xlsx").write_bytes(build_workbook("one"))
            wait_for(lambda: list_names(context.settings.dropbox / "done") == ["export.xlsx"])
        finally:
            stop.set()
            thread.join(20)
    assert not thread.is_alive()
    assert len([line for line in lines if line["event"] == "fault"]) == 1
    assert "a name" not in str(lines)


def _change_settings(context: AppContext, **settings: object) -> AppContext:
    changed = context.settings.model_copy(update=settings)
    return AppContext(
        changed, context.store, context.sealer, context.blob_store, context.signer, context.clock
    )


# -- several hosts ----


def test_a_folder_is_the_same_for_every_host_that_shares_it_and_no_other_is(tmp_path: Path) -> None:
    shared_folder, other = tmp_path / "shared", tmp_path / "other"
    seen = set[str]()
    assert run_in_threads(*[lambda: seen.add(get_folder_id(shared_folder))] * 8) == []
    assert len(seen) == 1
    assert get_folder_id(other) not in seen
    assert [p.name for p in shared_folder.iterdir()] == [".intake-folder"]


def test_only_the_one_whose_folder_it_is_takes_files(
    context: AppContext, folder: WatchedFolder
) -> None:
    stop, mine = threading.Event(), threading.Event()
    (folder.path / "export.xlsx").write_bytes(build_workbook("one"))
    thread = threading.Thread(
        target=serve, args=(context, Intake(context).accept, stop, mine.is_set)
    )
    thread.start()
    try:
        time.sleep(0.7)  # some rounds
        assert count_rows(context, Delivery) == 0
        mine.set()
        until = time.monotonic() + 20
        while count_rows(context, Ticket) != 1:
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join(20)
