"""The counts of a workbook's rows, by sheet and outcome.

They are stored with its delivery, and the ledger balances them row by row.
"""

from collections.abc import Iterator

import openpyxl
import pytest
from sqlalchemy import delete, select, update

from ingest.processing import process
from ingest.processing.parser_pool import use_parser_pool
from ingest.processing.process import process_delivery
from ingest.replay.reprocess import apply_replay, preview_replay
from parsers.item import SheetCounts
from tests.ingest.processing.test_rows import MANY, accept_mail, arrive, check_balance, make_rows
from tests.ingest.processing.test_rows import make_workbook as make_table
from tests.support.context import HandClock
from tests.support.workbooks import build_book
from workflow.context import AppContext
from workflow.database.visibility import DELIVERY_VISIBILITY_TIMEOUT
from workflow.filing import sheet_counts
from workflow.models.core import Delivery, DeliverySheet, Filing
from workflow.models.states import Outcome
from workflow.operations import ledger
from workflow.settings.settings import Settings

HEADING: list[object] = ["Practice", "From", "Message"]


def make_workbook() -> bytes:
    """Two sheets, one hidden.

    With a title, a footer, a blank row, a repeated request and a row without its text.
    """

    def more(made: openpyxl.Workbook) -> None:
        made.worksheets[0].title = "June"
        made.create_sheet("Archive").sheet_state = "hidden"

    first: list[object] = ["Elm Dental", "Bo Ray", "Our fax number has changed."]
    silent: list[object] = ["Oak Care", "Uma Reed", None]
    return build_book(["Inbox"], HEADING, first, first, silent, [], ["Page 1 of 1"], edit=more)


READ = SheetCounts(
    sheet="June",
    rows=7,
    items=1,
    repeated=1,
    rejected=1,
    headings=1,
    titles=1,
    footers=1,
    blank=1,
    heading_places="2",
    title_places="1",
    footer_places="7",
)


@pytest.fixture
def lanes(settings: Settings) -> Iterator[None]:
    with use_parser_pool(settings):
        yield


def list_stored_counts(context: AppContext, number: int) -> list[SheetCounts]:
    with context.store.read_only() as session:
        return sheet_counts.list_counts(session, number)


def get_balance(context: AppContext) -> ledger.Balance:
    with context.store.read_only() as session:
        return ledger.compute_balance(session)


def test_what_the_sheets_were_read_as_stays_with_the_delivery(
    any_context: AppContext, lanes: None
) -> None:
    del lanes
    number, other = arrive(any_context, make_workbook()), accept_mail(any_context)
    for one in (number, other):
        process_delivery(any_context, one)
    assert list_stored_counts(any_context, number) == [
        READ,
        SheetCounts(sheet="Archive", hidden=True),
    ]
    assert list_stored_counts(any_context, other) == []
    [line] = get_balance(any_context).workbooks
    assert line.adds_up
    assert (line.delivery, line.rows, line.items, line.rejected, line.filed) == (number, 7, 1, 1, 2)
    assert check_balance(any_context) == {"received": 3, "opened": 2, "failed": 1}


@pytest.mark.parametrize("count", [1, 199, 200, 201, MANY])
def test_the_counts_come_with_the_last_row_however_many_there_are(
    context: AppContext, lanes: None, count: int
) -> None:
    del lanes
    number = arrive(context, make_table(*make_rows(count)))
    process_delivery(context, number)
    [counts] = list_stored_counts(context, number)
    assert (counts.rows, counts.items, counts.accounted) == (count + 1, count, count + 1)
    assert get_balance(context).adds_up


def test_the_next_reader_counts_the_rows_that_the_one_before_has_filed(
    context: AppContext, lanes: None, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    del lanes
    number, file = arrive(context, make_table(*make_rows(MANY))), process._file_some

    def file_or_interrupt(*args: object, last: bool) -> bool:
        if last:
            raise KeyboardInterrupt
        return file(*args, last=last)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "_file_some", file_or_interrupt)
    with pytest.raises(KeyboardInterrupt):
        process_delivery(context, number)
    assert list_stored_counts(context, number) == []
    monkeypatch.setattr(process, "_file_some", file)
    clock.turn(seconds=DELIVERY_VISIBILITY_TIMEOUT.total_seconds() + 1)
    process_delivery(context, number)
    assert [one.items for one in list_stored_counts(context, number)] == [MANY]
    assert get_balance(context).adds_up


def test_a_row_that_is_not_accounted_for_breaks_the_ledger(any_context: AppContext) -> None:
    number = arrive(any_context, make_workbook())
    process_delivery(any_context, number)
    assert get_balance(any_context).adds_up
    with any_context.store.transaction() as session:
        session.execute(update(DeliverySheet).values(rows=DeliverySheet.rows + 1))
    found = get_balance(any_context)
    assert (found.adds_up, found.unbalanced_deliveries, found.unbalanced_workbooks) == (
        False,
        [],
        [number],
    )


def test_a_row_that_was_read_and_not_filed_breaks_the_ledger(any_context: AppContext) -> None:
    number = arrive(any_context, make_workbook())
    process_delivery(any_context, number)
    with any_context.store.transaction() as session:
        session.execute(delete(Filing).where(Filing.outcome == Outcome.REJECTED))
        session.execute(update(Delivery).values(items=1))  # as if it had never been there
    found = get_balance(any_context)
    assert (found.unbalanced_deliveries, found.unbalanced_workbooks) == ([], [number])


def test_a_workbook_read_again_is_counted_as_it_is_read_now(any_context: AppContext) -> None:
    number = arrive(any_context, make_workbook())
    process_delivery(any_context, number)
    with any_context.store.transaction() as session:  # as an earlier parser would have left it
        session.execute(delete(DeliverySheet))
        silent = session.scalars(select(Filing).where(Filing.outcome == Outcome.REJECTED)).one()
        silent.reason = "June, row 9: not understood"
    shown = preview_replay(any_context, number)
    assert list_stored_counts(any_context, number) == []
    apply_replay(any_context, shown, by="Olga")
    assert list_stored_counts(any_context, number)[0] == READ
    assert get_balance(any_context).adds_up


def test_the_counts_of_a_sheet_name_places_and_no_words() -> None:
    assert (
        sheet_counts.describe_counts(READ)
        == "7 rows = 1 item + 1 repeated + 1 rejected + 1 heading (row 2) + 1 title (row 1) + 1"
        " footer (row 7) + 1 blank"
    )
    assert (
        sheet_counts.describe_counts(SheetCounts(sheet="Archive", hidden=True))
        == "hidden: not read"
    )
