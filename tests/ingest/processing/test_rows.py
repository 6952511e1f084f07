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

from ingest.folder.rejected_rows import list_rejected_rows, render_workbook
from ingest.folder.watcher import WatchedFolder
from ingest.intake import Arrival, Intake, Transport
from ingest.processing import parser_pool, process
from ingest.processing.parser_pool import use_parser_pool
from ingest.processing.process import process_delivery, process_waiting
from ingest.replay.reprocess import apply_replay, preview_replay
from ingest.replay.retry import dismiss
from parsers import PARSERS, parse
from parsers.item import Format, InboundItem, ParseError, RejectedRow
from tests.support.context import HandClock, count_rows
from tests.support.processes import INTAKE, Installation, until
from workflow.context import AppContext
from workflow.database.engine import Store, migrate
from workflow.database.visibility import DELIVERY_VISIBILITY_TIMEOUT
from workflow.errors import ActionNotAllowed
from workflow.models.core import Delivery, Filing, Message, Ticket
from workflow.models.states import DeliveryState, Outcome
from workflow.operations import ledger, status
from workflow.operations.backlog import count_overdue
from workflow.settings.settings import Settings

HEADINGS = ("Message ID", "Practice Name", "From", "Patient Name", "Message")
MANY = 2_100


def make_workbook(*rows: tuple[str, ...]) -> bytes:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("June")
    for row in (HEADINGS, *rows):
        sheet.append(row)
    out = BytesIO()
    book.save(out)
    return out.getvalue()


def make_rows(count: int) -> list[tuple[str, ...]]:
    return [
        (f"KM-{n:06}", f"Practice {n % 7}", f"Sender {n}", "", f"message {n}") for n in range(count)
    ]


GOOD, SILENT, FORMULA = (
    ("KM-1", "Sunrise", "Pat", "", "help"),
    ("KM-2", "Sunrise", "Jane Roe", "", ""),
    ("KM-3", "Sunrise", "=2+3", "", ""),
)


def arrive(context: AppContext, raw: bytes) -> int:
    arrival = Arrival(transport=Transport.PIPE, format=Format.SECURE_MESSAGE, raw=raw)
    return Intake(context).accept(arrival)


def accept_mail(context: AppContext) -> int:
    raw = b"From: a@x.example\r\nSubject: hi\r\n\r\nhelp\r\n"
    return Intake(context).accept(Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw))


def load_delivery(context: AppContext, number: int) -> Delivery:
    with context.store.read_only() as session:
        return session.get_one(Delivery, number)


def list_filings(context: AppContext, number: int) -> list[tuple[str, str]]:
    with context.store.read_only() as session:
        query = (
            select(Filing.outcome, Filing.reason)
            .where(Filing.delivery_id == number)
            .order_by(Filing.position)
        )
        return [(str(outcome), reason) for outcome, reason in session.execute(query)]


def check_balance(context: AppContext) -> dict[str, int]:
    with context.store.read_only() as session:
        balance = ledger.compute_balance(session)
    assert balance.adds_up
    return {word: count for word, count in balance.total.as_dict().items() if count}


@pytest.fixture
def lanes(settings: Settings) -> Iterator[None]:
    with use_parser_pool(settings):
        yield


# -- as they are read ----


def test_many_rows_are_filed_once_each_in_their_order(any_context: AppContext, lanes: None) -> None:
    del lanes
    number = arrive(any_context, make_workbook(*make_rows(MANY)))
    process_delivery(any_context, number)
    assert check_balance(any_context) == {"received": MANY, "opened": MANY}
    with any_context.store.read_only() as session:
        query = (
            select(Message.message_id)
            .join(Filing, Filing.message_id == Message.id)
            .order_by(Filing.position)
        )
        assert list(session.scalars(query)) == [f"KM-{n:06}" for n in range(MANY)]


def test_while_it_is_read_it_is_seen_how_far_and_the_next_reader_goes_on_there(
    context: AppContext, lanes: None, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    del lanes
    number = arrive(context, make_workbook(*make_rows(MANY)))
    file, positions = process._file_some, []

    def file_or_interrupt(*args: object, last: bool) -> bool:
        if count_rows(context, Filing) >= 1_000:
            raise KeyboardInterrupt
        positions.append(args[3])
        return file(*args, last=last)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "_file_some", file_or_interrupt)
    with pytest.raises(KeyboardInterrupt):
        process_delivery(context, number)
    assert count_rows(context, Ticket) == 1_000
    [progress] = status.collect_status(context).progress
    assert (progress.delivery, progress.filed) == (number, 1_000)
    assert check_balance(context)["opened"] == 1_000

    monkeypatch.setattr(process, "_file_some", file)
    starts = []
    start = parser_pool.start_parsing
    monkeypatch.setattr(
        parser_pool, "start_parsing", lambda *args: starts.append(args[3]) or start(*args)
    )
    process_delivery(context, number)
    assert starts == []  # somebody else may still be at it
    clock.turn(seconds=DELIVERY_VISIBILITY_TIMEOUT.total_seconds() + 1)
    process_delivery(context, number)
    assert starts == [1_000]
    assert check_balance(context) == {"received": MANY, "opened": MANY}
    assert status.collect_status(context).progress == []


def test_one_that_gets_on_is_not_failed_however_often_its_reader_ends(
    context: AppContext, lanes: None, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    del lanes
    number = arrive(context, make_workbook(*make_rows(MANY)))
    file = process._file_some
    monkeypatch.setattr(process, "FRAMES_PER_COMMIT", 1)
    for _ in range(4):
        before = count_rows(context, Filing)

        def file_or_interrupt(*args: object, last: bool, before: int = before) -> bool:
            if count_rows(context, Filing) > before:
                raise KeyboardInterrupt
            return file(*args, last=last)  # type: ignore[arg-type]

        monkeypatch.setattr(process, "_file_some", file_or_interrupt)
        with pytest.raises(KeyboardInterrupt):
            process_delivery(context, number)
        clock.turn(minutes=2)
    monkeypatch.setattr(process, "_file_some", file)
    process_delivery(context, number)
    assert load_delivery(context, number).state is DeliveryState.PROCESSED
    assert count_rows(context, Ticket) == MANY


def test_two_that_read_it_at_once_double_nothing(
    postgres_context: AppContext, lanes: None, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    """The first one's host was suspended for longer than its lease."""
    del lanes
    context, file = postgres_context, process._file_some
    number = arrive(context, make_workbook(*make_rows(MANY)))

    def file_after_another(*args: object, last: bool) -> bool:
        if count_rows(context, Filing) == 1_000:
            monkeypatch.setattr(process, "_file_some", file)
            clock.turn(minutes=2)
            process_delivery(context, number)
        return file(*args, last=last)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "_file_some", file_after_another)
    process_delivery(context, number)
    assert check_balance(context) == {"received": MANY, "opened": MANY}


def test_nobody_behind_a_large_file_waits_for_it(
    context: AppContext, lanes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del lanes
    number, small = arrive(context, make_workbook(*make_rows(MANY))), accept_mail(context)
    file = process._file_some

    def after_the_mail(*args: object, last: bool) -> bool:
        if args[2] == number:
            until(lambda: load_delivery(context, small).state is DeliveryState.PROCESSED)
        return file(*args, last=last)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "_file_some", after_the_mail)
    process_waiting(context)
    until(lambda: load_delivery(context, number).state is DeliveryState.PROCESSED)
    assert count_rows(context, Ticket) == MANY + 1


def test_a_file_that_is_damaged_far_below_its_beginning_is_failed_and_what_was_read_stays(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = parse(Format.SECURE_MESSAGE, make_workbook(*make_rows(300)))

    def yield_then_fail(*_: object) -> Iterator[InboundItem]:
        yield from items
        raise ParseError("damaged")

    monkeypatch.setitem(PARSERS, Format.SECURE_MESSAGE, yield_then_fail)
    number = arrive(context, b"x")
    process_delivery(context, number)
    assert (load_delivery(context, number).state, load_delivery(context, number).reason) == (
        DeliveryState.FAILED,
        "damaged",
    )
    assert check_balance(context) == {"received": 301, "opened": 300, "failed": 1}


def test_a_worker_killed_in_the_middle_doubles_and_loses_nothing(tmp_path: Path) -> None:
    """A real process, SIGKILL, and another one after the lease."""
    installation, count = Installation(tmp_path / "home"), 5_000
    installation.home.mkdir()
    file = tmp_path / "export.xlsx"
    file.write_bytes(make_workbook(*make_rows(count)))
    url = f"sqlite:///{installation.home / 'intake.db'}"
    migrate(url)
    assert installation.run_command("deliver", "secure-message", str(file)).returncode == 0
    store = Store(url)

    def count_filings() -> int:
        with store.read_only() as session:
            return session.scalar(select(func.count()).select_from(Filing)) or 0

    worker = psutil.Popen(
        [*INTAKE, "worker"], env=installation.environment, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        until(lambda: count_filings() >= 1_000)
    finally:
        worker.kill()
        worker.wait()
    killed_at = count_filings()
    assert 1_000 <= killed_at < count
    installation.environment["INTAKE_CLOCK_OFFSET"] = "120"
    with installation.process("worker"):
        until(lambda: count_filings() == count)
    with store.read_only() as session:
        assert session.scalar(select(func.count()).select_from(Ticket)) == count
        assert session.scalar(select(func.count(func.distinct(Message.message_id)))) == count
        assert ledger.compute_balance(session).adds_up
    store.close()


# -- rejected rows ----


@pytest.fixture
def partly(any_context: AppContext) -> int:
    """A delivery of which two of three rows were rejected."""
    number = arrive(any_context, make_workbook(GOOD, SILENT, FORMULA))
    process_delivery(any_context, number)
    return number


def test_a_bad_row_stops_no_good_one_and_is_reported_by_its_place(
    any_context: AppContext, partly: int
) -> None:
    outcomes = dict.fromkeys(sorted(list_filings(any_context, partly)))
    assert [outcome for outcome, _ in outcomes] == ["opened", "rejected", "rejected"]
    silent = next(reason for _, reason in outcomes if "row 3" in reason)
    assert silent.startswith("June, row 3, cell E3: ")
    assert "Jane" not in silent
    assert check_balance(any_context) == {"received": 3, "opened": 1, "failed": 2}


def test_rejected_rows_are_an_alarm_until_somebody_dismisses_them(
    any_context: AppContext, partly: int, clock: HandClock
) -> None:
    context, came = any_context, clock()
    clock.turn(hours=25)
    with context.store.read_only() as session:
        assert count_overdue(session, clock(), DELIVERY_VISIBILITY_TIMEOUT) == (1, came)
    assert "deliveries with rejected rows: 1" in " ".join(status.collect_status(context).needs)
    assert dismiss(context, [partly], "known", by="Olga") == {partly: 2}
    assert check_balance(context) == {"received": 3, "opened": 1, "dismissed": 2}
    assert load_delivery(context, partly).state is DeliveryState.PROCESSED
    assert not status.collect_status(context).with_rejected_rows
    with context.store.read_only() as session:
        assert count_overdue(session, clock(), DELIVERY_VISIBILITY_TIMEOUT) == (0, None)
    with pytest.raises(ActionNotAllowed, match="only failed ones, and rejected rows"):
        dismiss(context, [partly], "again", by="Olga")


def test_a_rejected_row_that_reads_well_now_takes_its_place(
    any_context: AppContext, partly: int
) -> None:
    context = any_context
    assert not preview_replay(context, partly).has_changes  # as it was
    with context.store.transaction() as session:  # as an earlier parser would have left it
        first = select(Filing).where(Filing.delivery_id == partly, Filing.outcome == Outcome.OPENED)
        opened = session.scalars(first).one()
        opened.outcome, opened.reason = Outcome.REJECTED, "June, row 2: not understood"
        opened.ticket_id = opened.message_id = None
    shown = preview_replay(context, partly)
    assert sorted(str(f.verdict) for f in shown.findings) == ["received", "same", "same"]
    apply_replay(context, shown, by="Olga")
    assert check_balance(context) == {"received": 3, "duplicate": 1, "failed": 2}
    assert not preview_replay(context, partly).has_changes


def test_the_rows_to_correct_are_text_under_the_headings_they_had(
    any_context: AppContext, partly: int
) -> None:
    rejected_rows = list_rejected_rows(any_context, partly)
    assert {row.row for row in rejected_rows} == {3, 4}
    book = openpyxl.load_workbook(BytesIO(render_workbook(rejected_rows)))
    [sheet] = book.worksheets
    lines = [[cell.value for cell in line] for line in sheet.iter_rows()]
    assert lines[0] == [*HEADINGS, "Why it was rejected"]
    assert lines[1][:4] == ["KM-2", "Sunrise", "Jane Roe", None]
    assert lines[1][5].startswith("June, row 3, cell E3: ")
    assert {cell.data_type for line in sheet.iter_rows() for cell in line if cell.value} == {"s"}
    assert render_workbook(rejected_rows) == render_workbook(rejected_rows)
    dismiss(any_context, [partly], "known", by="Olga")
    assert list_rejected_rows(any_context, partly) == []


def test_no_spreadsheet_computes_what_stands_in_a_rejected_row() -> None:
    values = (
        ("From", "=HYPERLINK(1)"),
        ("Message", ""),
        ("Message", "x" * 40_000),
        ("Zip", "01234"),
    )
    raw = render_workbook([RejectedRow(sheet="a/b[1]", row=2, reason="no", values=values)])
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
def folder(context: AppContext) -> WatchedFolder:
    return WatchedFolder(context, Intake(context).accept)


def list_names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_file())


def test_rejected_rows_are_corrected_beside_and_dropped_again_as_they_are(
    context: AppContext, folder: WatchedFolder
) -> None:
    (folder.path / "June.xlsx").write_bytes(make_workbook(GOOD, SILENT, FORMULA))
    folder.scan()
    assert list_names(folder.path / "done") == ["June.xlsx"]
    assert list_names(folder.path / "rejected") == ["June - rejected rows.xlsx"]
    book = openpyxl.load_workbook(folder.path / "rejected" / "June - rejected rows.xlsx")
    book.worksheets[0]["E2"] = "what she wrote"
    book.worksheets[0]["E3"] = "and he"
    book.save(folder.path / "June - rejected rows.xlsx")
    folder.scan()
    assert list_names(folder.path / "done") == ["June - rejected rows.xlsx", "June.xlsx"]
    assert list_names(folder.path / "rejected") == ["June - rejected rows.xlsx"]
    with context.store.read_only() as session:
        found = {
            m.message_id: (m.from_name, m.text, m.details) for m in session.scalars(select(Message))
        }
    assert found["KM-2"] == ("Jane Roe", "what she wrote", [])
    assert count_rows(context, Ticket) == 3


def test_one_that_was_interrupted_lays_no_second_workbook(folder: WatchedFolder) -> None:
    raw = make_workbook(GOOD, SILENT)
    (folder.path / "June.xlsx").write_bytes(raw)
    folder.scan()
    (folder.path / "done" / "June.xlsx").rename(folder.path / "June.xlsx")
    folder.scan()
    assert list_names(folder.path / "rejected") == ["June - rejected rows.xlsx"]


def test_a_name_as_long_as_names_may_be(folder: WatchedFolder) -> None:
    name = "é" * 120 + ".xlsx"
    (folder.path / name).write_bytes(make_workbook(GOOD, SILENT))
    folder.scan()
    assert list_names(folder.path / "done") == [name]
    [rejected] = list_names(folder.path / "rejected")
    assert rejected.endswith(" - rejected rows.xlsx")
