"""Files of many rows: filed as they are read, resumed where they stood.

Rows that are no requests are accounted for.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from subprocess import DEVNULL

import openpyxl
import psutil
import pytest
from sqlalchemy import func, select

from ingest.folder.rejected_rows import rejected_rows, workbook
from ingest.folder.watcher import Folder
from ingest.intake import Arrival, Intake, Transport
from ingest.processing import parser_pool, process
from ingest.processing.parser_pool import isolated
from ingest.processing.process import read, read_waiting
from ingest.replay.reprocess import apply, preview
from ingest.replay.retry import dismiss
from parsers import PARSERS, parse
from parsers.item import Format, InboundItem, ParseError, RejectedRow
from tests.support.context import HandClock, counted
from tests.support.processes import INTAKE, Doors, until
from workflow.context import House
from workflow.database.engine import Store, migrate
from workflow.database.visibility import READING
from workflow.errors import Missing
from workflow.models.core import Delivery, Filing, Message, Ticket
from workflow.models.states import DeliveryState, Outcome
from workflow.operations import ledger, status
from workflow.operations.failed import overdue
from workflow.settings.settings import Settings

HEADINGS = ("Message ID", "Practice Name", "From", "Patient Name", "Message")
MANY = 2_100


def table(*rows: tuple[str, ...]) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("June")
    for row in (HEADINGS, *rows):
        sheet.append(row)
    out = BytesIO()
    book.save(out)
    return out.getvalue()


def rows(count: int) -> list[tuple[str, ...]]:
    return [
        (f"KM-{n:06}", f"Practice {n % 7}", f"Sender {n}", "", f"message {n}") for n in range(count)
    ]


GOOD, SILENT, FORMULA = (
    ("KM-1", "Sunrise", "Pat", "", "help"),
    ("KM-2", "Sunrise", "Jane Roe", "", ""),
    ("KM-3", "Sunrise", "=2+3", "", ""),
)


def arrive(house: House, raw: bytes) -> int:
    arrival = Arrival(transport=Transport.PIPE, format=Format.SECURE_MESSAGE, raw=raw)
    return Intake(house).accept(arrival)


def letter(house: House) -> int:
    raw = b"From: a@x.example\r\nSubject: hi\r\n\r\nhelp\r\n"
    return Intake(house).accept(Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw))


def delivery(house: House, number: int) -> Delivery:
    with house.store.reading() as session:
        return session.get_one(Delivery, number)


def filings(house: House, number: int) -> list[tuple[str, str]]:
    with house.store.reading() as session:
        found = (
            select(Filing.outcome, Filing.reason)
            .where(Filing.delivery_id == number)
            .order_by(Filing.position)
        )
        return [(str(outcome), reason) for outcome, reason in session.execute(found)]


def adds_up(house: House) -> dict[str, int]:
    with house.store.reading() as session:
        balance = ledger.balance(session)
    assert balance.adds_up
    return {word: count for word, count in balance.total.as_dict().items() if count}


@pytest.fixture
def lanes(settings: Settings) -> Iterator[None]:
    with isolated(settings):
        yield


# -- as they are read ----


def test_many_rows_are_filed_once_each_in_their_order(any_house: House, lanes: None) -> None:
    del lanes
    number = arrive(any_house, table(*rows(MANY)))
    read(any_house, number)
    assert adds_up(any_house) == {"received": MANY, "opened": MANY}
    with any_house.store.reading() as session:
        ordered = (
            select(Message.message_id)
            .join(Filing, Filing.message_id == Message.id)
            .order_by(Filing.position)
        )
        assert list(session.scalars(ordered)) == [f"KM-{n:06}" for n in range(MANY)]


def test_while_it_is_read_it_is_seen_how_far_and_the_next_reader_goes_on_there(
    house: House, lanes: None, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    del lanes
    number = arrive(house, table(*rows(MANY)))
    file, seen = process._file_some, []

    def interrupted(*given: object, last: bool) -> bool:
        if counted(house, Filing) >= 1_000:
            raise KeyboardInterrupt
        seen.append(given[3])
        return file(*given, last=last)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "_file_some", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(house, number)
    assert counted(house, Ticket) == 1_000
    [progress] = status.report(house).reading
    assert (progress.delivery, progress.filed) == (number, 1_000)
    assert adds_up(house)["opened"] == 1_000

    monkeypatch.setattr(process, "_file_some", file)
    skipped = []
    start = parser_pool.start
    monkeypatch.setattr(
        parser_pool, "start", lambda *given: skipped.append(given[3]) or start(*given)
    )
    read(house, number)
    assert skipped == []  # somebody else may still be at it
    clock.turn(seconds=READING.total_seconds() + 1)
    read(house, number)
    assert skipped == [1_000]
    assert adds_up(house) == {"received": MANY, "opened": MANY}
    assert status.report(house).reading == []


def test_one_that_gets_on_is_not_failed_however_often_its_reader_ends(
    house: House, lanes: None, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    del lanes
    number = arrive(house, table(*rows(MANY)))
    file = process._file_some
    monkeypatch.setattr(process, "AT_ONCE", 1)
    for _ in range(4):
        before = counted(house, Filing)

        def interrupted(*given: object, last: bool, before: int = before) -> bool:
            if counted(house, Filing) > before:
                raise KeyboardInterrupt
            return file(*given, last=last)  # type: ignore[arg-type]

        monkeypatch.setattr(process, "_file_some", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read(house, number)
        clock.turn(minutes=2)
    monkeypatch.setattr(process, "_file_some", file)
    read(house, number)
    assert delivery(house, number).state is DeliveryState.PROCESSED
    assert counted(house, Ticket) == MANY


def test_two_that_read_it_at_once_double_nothing(
    postgres_house: House, lanes: None, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    """The first one's host was suspended for longer than its lease."""
    del lanes
    house, file = postgres_house, process._file_some
    number = arrive(house, table(*rows(MANY)))

    def overtaken(*given: object, last: bool) -> bool:
        if counted(house, Filing) == 1_000:
            monkeypatch.setattr(process, "_file_some", file)
            clock.turn(minutes=2)
            read(house, number)
        return file(*given, last=last)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "_file_some", overtaken)
    read(house, number)
    assert adds_up(house) == {"received": MANY, "opened": MANY}


def test_nobody_behind_a_large_file_waits_for_it(
    house: House, lanes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del lanes
    number, small = arrive(house, table(*rows(MANY))), letter(house)
    file = process._file_some

    def after_the_letter(*given: object, last: bool) -> bool:
        if given[2] == number:
            until(lambda: delivery(house, small).state is DeliveryState.PROCESSED)
        return file(*given, last=last)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "_file_some", after_the_letter)
    read_waiting(house)
    until(lambda: delivery(house, number).state is DeliveryState.PROCESSED)
    assert counted(house, Ticket) == MANY + 1


def test_a_file_that_is_damaged_far_below_its_beginning_is_failed_and_what_was_read_stays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = parse(Format.SECURE_MESSAGE, table(*rows(300)))

    def damaged(*_: object) -> Iterator[InboundItem]:
        yield from items
        raise ParseError("damaged")

    monkeypatch.setitem(PARSERS, Format.SECURE_MESSAGE, damaged)
    number = arrive(house, b"x")
    read(house, number)
    assert (delivery(house, number).state, delivery(house, number).reason) == (
        DeliveryState.FAILED,
        "damaged",
    )
    assert adds_up(house) == {"received": 301, "opened": 300, "failed": 1}


def test_a_worker_killed_in_the_middle_doubles_and_loses_nothing(tmp_path: Path) -> None:
    """A real process, SIGKILL, and another one after the lease."""
    doors, count = Doors(tmp_path / "home"), 5_000
    doors.home.mkdir()
    file = tmp_path / "export.xlsx"
    file.write_bytes(table(*rows(count)))
    url = f"sqlite:///{doors.home / 'intake.db'}"
    migrate(url)
    assert doors.command("deliver", "secure-message", str(file)).returncode == 0
    store = Store(url)

    def filed() -> int:
        with store.reading() as session:
            return session.scalar(select(func.count()).select_from(Filing)) or 0

    worker = psutil.Popen(
        [*INTAKE, "worker"], env=doors.environment, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        until(lambda: filed() >= 1_000)
    finally:
        worker.kill()
        worker.wait()
    killed_at = filed()
    assert 1_000 <= killed_at < count
    doors.environment["INTAKE_CLOCK_OFFSET"] = "120"
    with doors.process("worker"):
        until(lambda: filed() == count)
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(Ticket)) == count
        assert session.scalar(select(func.count(func.distinct(Message.message_id)))) == count
        assert ledger.balance(session).adds_up
    store.close()


# -- rejected rows ----


@pytest.fixture
def partly(any_house: House) -> int:
    """A delivery of which two of three rows were rejected."""
    number = arrive(any_house, table(GOOD, SILENT, FORMULA))
    read(any_house, number)
    return number


def test_a_bad_row_stops_no_good_one_and_is_told_by_its_place(
    any_house: House, partly: int
) -> None:
    outcomes = dict.fromkeys(sorted(filings(any_house, partly)))
    assert [outcome for outcome, _ in outcomes] == ["opened", "rejected", "rejected"]
    silent = next(reason for _, reason in outcomes if "row 3" in reason)
    assert silent.startswith("June, row 3, cell E3: ")
    assert "Jane" not in silent
    assert adds_up(any_house) == {"received": 3, "opened": 1, "failed": 2}


def test_rejected_rows_are_an_alarm_until_somebody_dismisses_them(
    any_house: House, partly: int, clock: HandClock
) -> None:
    house, came = any_house, clock()
    clock.turn(hours=25)
    with house.store.reading() as session:
        assert overdue(session, clock(), READING) == (1, came)
    assert "deliveries with rejected rows: 1" in " ".join(status.report(house).needs)
    assert dismiss(house, [partly], "known", by="Olga") == {partly: 2}
    assert adds_up(house) == {"received": 3, "opened": 1, "dismissed": 2}
    assert delivery(house, partly).state is DeliveryState.PROCESSED
    assert not status.report(house).rejected
    with house.store.reading() as session:
        assert overdue(session, clock(), READING) == (0, None)
    with pytest.raises(Missing, match="only failed ones, and rejected rows"):
        dismiss(house, [partly], "again", by="Olga")


def test_a_rejected_row_that_reads_well_now_takes_its_place(any_house: House, partly: int) -> None:
    house = any_house
    assert not preview(house, partly).changes  # as it was
    with house.store.transaction() as session:  # as an earlier parser would have left it
        first = select(Filing).where(Filing.delivery_id == partly, Filing.outcome == Outcome.OPENED)
        opened = session.scalars(first).one()
        opened.outcome, opened.reason = Outcome.REJECTED, "June, row 2: not understood"
        opened.ticket_id = opened.message_id = None
    shown = preview(house, partly)
    assert sorted(str(f.verdict) for f in shown.findings) == ["received", "same", "same"]
    apply(house, shown, by="Olga")
    assert adds_up(house) == {"received": 3, "duplicate": 1, "failed": 2}
    assert not preview(house, partly).changes


def test_the_rows_to_mend_are_text_under_the_headings_they_had(
    any_house: House, partly: int
) -> None:
    found = rejected_rows(any_house, partly)
    assert {row.row for row in found} == {3, 4}
    book = openpyxl.load_workbook(BytesIO(workbook(found)))
    [sheet] = book.worksheets
    lines = [[cell.value for cell in line] for line in sheet.iter_rows()]
    assert lines[0] == [*HEADINGS, "Why it was rejected"]
    assert lines[1][:4] == ["KM-2", "Sunrise", "Jane Roe", None]
    assert lines[1][5].startswith("June, row 3, cell E3: ")
    assert {cell.data_type for line in sheet.iter_rows() for cell in line if cell.value} == {"s"}
    assert workbook(found) == workbook(found)
    dismiss(any_house, [partly], "known", by="Olga")
    assert rejected_rows(any_house, partly) == []


def test_no_spreadsheet_computes_what_stands_in_a_rejected_row() -> None:
    values = (
        ("From", "=HYPERLINK(1)"),
        ("Message", ""),
        ("Message", "x" * 40_000),
        ("Zip", "01234"),
    )
    raw = workbook([RejectedRow(sheet="a/b[1]", row=2, reason="no", values=values)])
    line = [
        cell.value
        for cell in next(openpyxl.load_workbook(BytesIO(raw)).worksheets[0].iter_rows(min_row=2))
    ]
    assert line[0] == "=HYPERLINK(1)"
    assert line[1] is None
    assert line[2].endswith("no longer text)")
    assert line[3] == "01234"
    assert b"<f>" not in raw


# -- the folder ----


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", folder_settle_seconds=0, folder_poll_seconds=0.2)


@pytest.fixture
def folder(house: House) -> Folder:
    return Folder(house, Intake(house).accept)


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_file())


def test_rejected_rows_are_mended_beside_and_dropped_again_as_they_are(
    house: House, folder: Folder
) -> None:
    (folder.path / "June.xlsx").write_bytes(table(GOOD, SILENT, FORMULA))
    folder.scan()
    assert names(folder.path / "done") == ["June.xlsx"]
    assert names(folder.path / "rejected") == ["June - rejected rows.xlsx"]
    book = openpyxl.load_workbook(folder.path / "rejected" / "June - rejected rows.xlsx")
    book.worksheets[0]["E2"] = "what she wrote"
    book.worksheets[0]["E3"] = "and he"
    book.save(folder.path / "June - rejected rows.xlsx")
    folder.scan()
    assert names(folder.path / "done") == ["June - rejected rows.xlsx", "June.xlsx"]
    assert names(folder.path / "rejected") == ["June - rejected rows.xlsx"]
    with house.store.reading() as session:
        found = {
            m.message_id: (m.from_name, m.text, m.details) for m in session.scalars(select(Message))
        }
    assert found["KM-2"] == ("Jane Roe", "what she wrote", [])
    assert counted(house, Ticket) == 3


def test_one_that_was_interrupted_lays_no_second_workbook(folder: Folder) -> None:
    raw = table(GOOD, SILENT)
    (folder.path / "June.xlsx").write_bytes(raw)
    folder.scan()
    (folder.path / "done" / "June.xlsx").rename(folder.path / "June.xlsx")
    folder.scan()
    assert names(folder.path / "rejected") == ["June - rejected rows.xlsx"]


def test_a_name_as_long_as_names_may_be(folder: Folder) -> None:
    name = "é" * 120 + ".xlsx"
    (folder.path / name).write_bytes(table(GOOD, SILENT))
    folder.scan()
    assert names(folder.path / "done") == [name]
    [rejected] = names(folder.path / "rejected")
    assert rejected.endswith(" - rejected rows.xlsx")
