"""The intake: guarantees of accept, and that processing files a delivery or fails it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from sqlalchemy import event, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError

import parsers
from ingest import intake
from ingest.intake import Arrival, Intake, Transport
from ingest.processing import process
from ingest.processing.process import process_waiting
from parsers.item import Format, InboundItem, ParseError
from tests.support.context import (
    ANN,
    HandClock,
    RecordingNotifier,
    count_rows,
    make_call_arrival,
    make_mail,
    run_in_threads,
)
from tests.support.servers import Postgres
from tests.support.smtp_client import until
from workflow.context import AppContext, open_context
from workflow.database import engine
from workflow.models.core import Delivery, Filing, Receipt, Ticket
from workflow.models.states import DeliveryState

THREADS = 32


def load_delivery(context: AppContext, number: int) -> Delivery:
    with context.store.read_only() as session:
        return session.get_one(Delivery, number)


def set_parser(monkeypatch: pytest.MonkeyPatch, fmt: Format, parser: Any) -> None:
    monkeypatch.setitem(parsers.PARSERS, fmt, parser)


def raise_parse_error(*_: object) -> list[InboundItem]:
    raise ParseError("not a message: ask for it once more")


def raise_bug(raw: bytes, *_: object) -> list[InboundItem]:
    raise RuntimeError(f"a bug of ours, at {raw!r}")


# -- accept ----


def test_what_accept_returned_is_stored_and_a_worker_is_woken(
    any_context: AppContext, notified_queues: RecordingNotifier
) -> None:
    context = any_context
    arrival = make_call_arrival()
    number = Intake(context).accept(arrival)
    delivery = load_delivery(context, number)
    assert (delivery.state, delivery.transport, delivery.size) == (
        DeliveryState.PENDING,
        "console",
        len(arrival.raw),
    )
    assert context.blob_store.read(delivery.content, delivery.blob) == arrival.raw
    assert delivery.received_at == context.clock()
    assert notified_queues == ["read"]


def test_all_who_wait_at_once_are_stored_in_one_commit(any_context: AppContext) -> None:
    context = any_context
    commits: list[Any] = []
    event.listen(context.store.engine, "commit", commits.append)
    shared_intake, arrivals = Intake(context), [make_call_arrival() for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        with shared_intake._committing:  # somebody's commit takes its time
            stored = [threads.submit(shared_intake.accept, one) for one in arrivals]
            until(lambda: len(shared_intake._queue) == THREADS)
        numbers = {one.result(20) for one in stored}
    assert len(commits) == 1
    assert (
        len(numbers)
        == THREADS
        == count_rows(context, Delivery, Delivery.id.in_(numbers))
        == count_rows(context, Receipt)
    )


def test_nobody_hears_yes_before_the_commit_that_holds_their_bytes(context: AppContext) -> None:
    """More wait than a batch takes: whoever commits a batch must not take it for their own."""
    shared_intake, mine = Intake(context), make_call_arrival()
    before = [
        intake._PendingArrival(make_call_arrival(), context.blob_store)
        for _ in range(intake.BATCH * 2)
    ]
    shared_intake._queue.extend(before)
    number = shared_intake.accept(mine)
    assert all(one.is_done and one.delivery for one in before)
    assert context.blob_store.read(load_delivery(context, number).content, None) == mine.raw


def test_the_same_bytes_five_times_at_once_are_one_delivery_and_five_receipts(
    any_context: AppContext,
) -> None:
    context = any_context
    shared_intake, arrival, numbers = Intake(context), make_call_arrival(), list[int]()
    assert run_in_threads(*[lambda: numbers.append(shared_intake.accept(arrival))] * 5) == []
    assert len(set(numbers)) == 1
    assert (count_rows(context, Delivery), count_rows(context, Receipt)) == (1, 5)
    assert count_rows(context, Receipt, Receipt.repeated) == 4


def test_the_same_bytes_through_two_processes_at_once_are_one_delivery(
    any_context: AppContext,
) -> None:
    context = any_context
    intakes, arrival, numbers = (
        [Intake(context) for _ in range(4)],
        make_call_arrival(),
        list[int](),
    )
    assert run_in_threads(*(lambda d=d: numbers.append(d.accept(arrival)) for d in intakes)) == []
    assert len(set(numbers)) == 1
    assert (count_rows(context, Delivery), count_rows(context, Receipt)) == (1, 4)


def test_the_same_bytes_as_another_format_are_another_delivery(context: AppContext) -> None:
    shared_intake, raw = Intake(context), b"x"
    numbers = {
        shared_intake.accept(Arrival(transport=Transport.PIPE, format=f, raw=raw))
        for f in parsers.PARSERS
    }
    assert len(numbers) == len(parsers.PARSERS)


def test_one_bad_arrival_does_not_refuse_the_others_it_shares_a_commit_with(
    any_context: AppContext,
) -> None:
    context = any_context
    shared_intake, numbers = Intake(context), list[int]()
    bad = Arrival(
        transport=Transport.PIPE, format=Format.MAIL, raw=b"x", envelope={"name": object()}
    )
    arrivals = [make_call_arrival(), bad, make_call_arrival(), make_call_arrival()]
    queue_barrier = Barrier(len(arrivals) + 1)

    def work(one: Arrival) -> None:
        queue_barrier.wait(30)
        numbers.append(shared_intake.accept(one))

    with_errors: list[BaseException] = []

    def all_at_once() -> None:
        with_errors.extend(run_in_threads(*(lambda a=a: work(a) for a in arrivals)))

    with shared_intake._committing:
        runner = Thread(target=all_at_once)
        runner.start()
        queue_barrier.wait(30)
        while len(shared_intake._queue) < len(arrivals):
            pass
    runner.join(30)
    assert len(numbers) == 3
    assert count_rows(context, Delivery) == 3
    assert len(with_errors) == 1


@pytest.mark.parametrize("size", [1, 200_000, 300_000, 3_000_000])
def test_bytes_of_any_size_come_back_as_they_were_and_large_ones_lie_outside_the_database(
    context: AppContext, size: int
) -> None:
    raw = bytes(i % 251 for i in range(size))
    delivery = load_delivery(
        context,
        Intake(context).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=raw)),
    )
    assert context.blob_store.read(delivery.content, delivery.blob) == raw
    assert (delivery.content is None) == (size > context.settings.inline_limit)


def test_nothing_a_customer_wrote_lies_readable_on_the_disk(
    context: AppContext, settings: Any
) -> None:
    words = b"Jane Roe, born 1970"
    shared_intake = Intake(context)
    for raw in (words, words * 20_000):
        shared_intake.accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=raw))
    with context.store.transaction() as session:
        session.connection()
    database = Path(str(make_url(context.settings.database).database))
    files = [
        *database.parent.glob(f"{database.name}*"),
        *(p for p in settings.home.rglob("*") if p.is_file()),
    ]
    assert any("blobs" in str(p) for p in files)
    for path in files:
        assert words not in path.read_bytes(), path


def test_a_database_that_is_away_raises_and_stores_nothing_by_halves(
    context: AppContext, tmp_path: Path, notified_queues: RecordingNotifier
) -> None:
    away = open_context(
        context.settings.model_copy(
            update={"database_url": f"sqlite:///{tmp_path}/no/such/folder/x.db"}
        ),
        notifier=notified_queues,
    )
    with pytest.raises(SQLAlchemyError):
        Intake(away).accept(make_call_arrival())
    away.close()
    assert notified_queues == []


def test_a_locked_database_raises_for_everyone_at_once_and_takes_them_later(
    context: AppContext, notified_queues: RecordingNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_SECONDS", 0.3)
    shared_intake, arrivals = Intake(context), [make_call_arrival() for _ in range(8)]
    with context.store.engine.connect() as holder:  # BEGIN IMMEDIATE: the one writer
        holder.execute(text("SELECT 1"))
        errors = run_in_threads(*(lambda a=a: shared_intake.accept(a) for a in arrivals))
    assert len(errors) == 8
    assert all(isinstance(e, SQLAlchemyError) for e in errors)
    assert count_rows(context, Delivery) == count_rows(context, Receipt) == 0
    assert notified_queues == []
    for arrival in arrivals:
        shared_intake.accept(arrival)
    assert count_rows(context, Delivery) == 8


def test_a_postgresql_that_goes_away_raises_and_takes_it_when_it_is_back(
    postgres: Postgres, postgres_context: AppContext
) -> None:
    context = postgres_context
    shared_intake, arrival = Intake(context), make_call_arrival()
    shared_intake.accept(make_call_arrival())
    name = make_url(context.settings.database).database
    postgres.drop(str(name))  # with every connection to it
    with pytest.raises(SQLAlchemyError):
        shared_intake.accept(arrival)
    postgres.copy(str(name))
    assert shared_intake.accept(arrival) == 1


def test_a_blob_store_that_is_away_raises_and_stores_nothing(
    context: AppContext, settings: Any
) -> None:
    settings.home.joinpath("blobs").write_text("not a folder")
    with pytest.raises(OSError, match=r"."):
        Intake(context).accept(
            Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"x" * 300_000)
        )
    assert count_rows(context, Delivery) == 0


# -- read ----


def test_reading_files_each_item_and_is_done_once(
    any_context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = any_context
    items = [make_mail(str(n)) for n in range(3)]
    set_parser(monkeypatch, Format.MAIL, lambda *_: items)
    number = Intake(context).accept(
        Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"three")
    )
    assert process_waiting(context) == 1
    assert process_waiting(context) == 0
    process.process_delivery(context, number)
    read = load_delivery(context, number)
    assert (read.state, read.items, read.reason, read.processed_at) == (
        DeliveryState.PROCESSED,
        3,
        "",
        context.clock(),
    )
    assert (count_rows(context, Filing), count_rows(context, Ticket)) == (3, 3)


def test_a_real_call_becomes_a_ticket(any_context: AppContext) -> None:
    context = any_context
    number = Intake(context).accept(make_call_arrival("she cannot post payments", name="Ann"))
    process_waiting(context)
    with context.store.read_only() as session:
        ticket = session.scalars(select(Ticket)).one()
        assert (ticket.name, ticket.transport, ticket.format) == (
            "Support – Sunrise",
            "console",
            Format.PHONE,
        )
        assert ticket.messages[0].delivery_id == number
        assert ticket.messages[0].text == "she cannot post payments"


def test_what_cannot_be_read_is_failed_with_its_reason_and_never_disappears(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_parser(monkeypatch, Format.MAIL, raise_parse_error)
    number = Intake(context).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?"))
    process_waiting(context)
    failed = load_delivery(context, number)
    assert (failed.state, failed.reason) == (
        DeliveryState.FAILED,
        "not a message: ask for it once more",
    )
    assert count_rows(context, Ticket) == 0
    assert process_waiting(context) == 0


def test_an_arrival_that_its_channel_finds_unreadable_is_stored_as_failed(
    context: AppContext,
) -> None:
    number = Intake(context).accept(
        Arrival(
            transport=Transport.FOLDER,
            format=Format.SECURE_MESSAGE,
            raw=b"?",
            unreadable_reason="not a workbook",
        )
    )
    process_waiting(context)
    assert (load_delivery(context, number).state, load_delivery(context, number).reason) == (
        DeliveryState.FAILED,
        "not a workbook",
    )


def test_an_item_that_cannot_be_filed_leaves_none_of_its_delivery_filed(
    any_context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = any_context
    bad = make_mail(sent_at=None)
    object.__setattr__(bad, "details", (1, 2))  # not what a parser may give
    set_parser(monkeypatch, Format.MAIL, lambda *_: [make_mail(), bad])
    number = Intake(context).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?"))
    process_waiting(context)
    assert load_delivery(context, number).state is DeliveryState.PENDING
    assert count_rows(context, Ticket) == count_rows(context, Filing) == 0


def test_the_same_bytes_once_more_give_a_failed_delivery_another_look(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_parser(monkeypatch, Format.MAIL, raise_parse_error)
    shared_intake, arrival = (
        Intake(context),
        Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?"),
    )
    number = shared_intake.accept(arrival)
    process_waiting(context)
    set_parser(monkeypatch, Format.MAIL, lambda *_: [make_mail()])
    assert shared_intake.accept(arrival) == number
    process_waiting(context)
    assert load_delivery(context, number).state is DeliveryState.PROCESSED


def test_a_poison_delivery_is_failed_after_three_attempts_and_stops_no_other(
    any_context: AppContext, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    context = any_context
    set_parser(monkeypatch, Format.MAIL, raise_bug)
    shared_intake = Intake(context)
    number = shared_intake.accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?"))
    good = shared_intake.accept(make_call_arrival())
    for attempt in (1, 2, 3):
        process_waiting(context)
        assert load_delivery(context, good).state is DeliveryState.PROCESSED
        assert load_delivery(context, number).attempts == attempt
        assert process_waiting(context) == 0  # not at once again
        clock.turn(seconds=61)
    poisoned = load_delivery(context, number)
    assert poisoned.state is DeliveryState.FAILED
    assert (
        poisoned.reason
        == "could not be processed: an error of ours (RuntimeError); replay it once corrected"
    )


def test_what_the_database_will_never_take_is_failed_too_and_not_tried_for_ever(
    postgres_context: AppContext, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    context = postgres_context
    item = make_mail()
    object.__setattr__(item, "link", "https://x/" + "\0")
    set_parser(monkeypatch, Format.MAIL, lambda *_: [item])
    for place in ("ingest.processing.parser_process", "workflow.filing.file_item"):
        monkeypatch.setattr(f"{place}.make_storable", lambda one: one)
    number = Intake(context).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?"))
    for _ in range(3):
        process_waiting(context)
        clock.turn(seconds=61)
    assert load_delivery(context, number).state is DeliveryState.FAILED


def test_a_worker_that_died_while_reading_is_made_up_for_after_a_minute(
    context: AppContext, clock: HandClock
) -> None:
    number = Intake(context).accept(make_call_arrival())
    assert [one.number for one in process._claim(context, 1)] == [number]  # and then it died
    assert process_waiting(context) == 0
    clock.turn(seconds=60)
    assert process_waiting(context) == 1
    assert load_delivery(context, number).state is DeliveryState.PROCESSED


def test_workers_at_once_share_the_work_and_read_nothing_twice(
    postgres_context: AppContext,
) -> None:
    context = postgres_context
    shared_intake = Intake(context)
    for _ in range(12):
        shared_intake.accept(make_call_arrival())
    done: list[int] = []
    assert run_in_threads(*[lambda: done.append(process_waiting(context))] * 4) == []
    assert sum(done) == 12
    assert (
        count_rows(context, Delivery, Delivery.attempts == 1) == count_rows(context, Ticket) == 12
    )


def test_a_backlog_larger_than_a_batch_is_read_to_its_end(context: AppContext) -> None:
    shared_intake = Intake(context)
    for _ in range(7):
        shared_intake.accept(make_call_arrival())
    assert process_waiting(context) == 7


def test_the_contact_of_a_call_hears_of_it(context: AppContext) -> None:
    Intake(context).accept(make_call_arrival(email=ANN.email))
    process_waiting(context)
    with context.store.read_only() as session:
        assert [m.to for m in session.scalars(select(Ticket)).one().outbox] == [ANN.email]
