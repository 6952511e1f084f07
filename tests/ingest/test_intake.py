"""The one door: what accept promises, and that reading files or fails, never neither."""

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
from ingest.processing.process import read_waiting
from parsers.item import Format, InboundItem, ParseError
from tests.support.context import ANN, HandClock, Woken, call, counted, mail, together
from tests.support.servers import Postgres
from tests.support.smtp_client import until
from workflow.context import House, open_house
from workflow.models.core import Delivery, Filing, Receipt, Ticket
from workflow.models.states import DeliveryState

THREADS = 32


def delivery(house: House, number: int) -> Delivery:
    with house.store.reading() as session:
        return session.get_one(Delivery, number)


def parsed_by(monkeypatch: pytest.MonkeyPatch, fmt: Format, parser: Any) -> None:
    monkeypatch.setitem(parsers.PARSERS, fmt, parser)


def unreadable(*_: object) -> list[InboundItem]:
    raise ParseError("not a message: ask for it once more")


def broken(raw: bytes, *_: object) -> list[InboundItem]:
    raise RuntimeError(f"a bug of ours, at {raw!r}")


# -- accept ----


def test_what_accept_returned_is_stored_and_a_worker_is_woken(
    any_house: House, woken: Woken
) -> None:
    house = any_house
    arrival = call()
    number = Intake(house).accept(arrival)
    stored = delivery(house, number)
    assert (stored.state, stored.transport, stored.size) == (
        DeliveryState.PENDING,
        "console",
        len(arrival.raw),
    )
    assert house.vault.open(stored.content, stored.blob) == arrival.raw
    assert stored.received_at == house.clock()
    assert woken == ["read"]


def test_all_who_wait_at_once_are_stored_in_one_commit(any_house: House) -> None:
    house = any_house
    commits: list[Any] = []
    event.listen(house.store.engine, "commit", commits.append)
    door, arrivals = Intake(house), [call() for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        with door._committing:  # somebody's commit takes its time
            stored = [threads.submit(door.accept, one) for one in arrivals]
            until(lambda: len(door._queue) == THREADS)
        numbers = {one.result(20) for one in stored}
    assert len(commits) == 1
    assert (
        len(numbers)
        == THREADS
        == counted(house, Delivery, Delivery.id.in_(numbers))
        == counted(house, Receipt)
    )


def test_nobody_hears_yes_before_the_commit_that_holds_their_bytes(house: House) -> None:
    """More wait than a batch takes: whoever commits a batch must not take it for their own."""
    door, mine = Intake(house), call()
    before = [intake._Waiting(call(), house.vault) for _ in range(intake.BATCH * 2)]
    door._queue.extend(before)
    number = door.accept(mine)
    assert all(one.done and one.delivery for one in before)
    assert house.vault.open(delivery(house, number).content, None) == mine.raw


def test_the_same_bytes_five_times_at_once_are_one_delivery_and_five_receipts(
    any_house: House,
) -> None:
    house = any_house
    door, arrival, numbers = Intake(house), call(), list[int]()
    assert together(*[lambda: numbers.append(door.accept(arrival))] * 5) == []
    assert len(set(numbers)) == 1
    assert (counted(house, Delivery), counted(house, Receipt)) == (1, 5)
    assert counted(house, Receipt, Receipt.repeated) == 4


def test_the_same_bytes_through_two_processes_at_once_are_one_delivery(any_house: House) -> None:
    house = any_house
    doors, arrival, numbers = [Intake(house) for _ in range(4)], call(), list[int]()
    assert together(*(lambda d=d: numbers.append(d.accept(arrival)) for d in doors)) == []
    assert len(set(numbers)) == 1
    assert (counted(house, Delivery), counted(house, Receipt)) == (1, 4)


def test_the_same_bytes_as_another_format_are_another_delivery(house: House) -> None:
    door, raw = Intake(house), b"x"
    numbers = {
        door.accept(Arrival(transport=Transport.PIPE, format=f, raw=raw)) for f in parsers.PARSERS
    }
    assert len(numbers) == len(parsers.PARSERS)


def test_one_bad_arrival_does_not_refuse_the_others_it_shares_a_commit_with(
    any_house: House,
) -> None:
    house = any_house
    door, numbers = Intake(house), list[int]()
    bad = Arrival(
        transport=Transport.PIPE, format=Format.MAIL, raw=b"x", envelope={"name": object()}
    )
    arrivals = [call(), bad, call(), call()]
    queued = Barrier(len(arrivals) + 1)

    def work(one: Arrival) -> None:
        queued.wait(30)
        numbers.append(door.accept(one))

    with_errors: list[BaseException] = []

    def all_at_once() -> None:
        with_errors.extend(together(*(lambda a=a: work(a) for a in arrivals)))

    with door._committing:
        runner = Thread(target=all_at_once)
        runner.start()
        queued.wait(30)
        while len(door._queue) < len(arrivals):
            pass
    runner.join(30)
    assert len(numbers) == 3
    assert counted(house, Delivery) == 3
    assert len(with_errors) == 1


@pytest.mark.parametrize("size", [1, 200_000, 300_000, 3_000_000])
def test_bytes_of_any_size_come_back_as_they_were_and_large_ones_lie_outside_the_database(
    house: House, size: int
) -> None:
    raw = bytes(i % 251 for i in range(size))
    stored = delivery(
        house, Intake(house).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=raw))
    )
    assert house.vault.open(stored.content, stored.blob) == raw
    assert (stored.content is None) == (size > house.settings.inline_limit)


def test_nothing_a_customer_wrote_lies_readable_on_the_disk(house: House, settings: Any) -> None:
    words = b"Jane Roe, born 1970"
    door = Intake(house)
    for raw in (words, words * 20_000):
        door.accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=raw))
    with house.store.transaction() as session:
        session.connection()
    database = Path(str(make_url(house.settings.database).database))
    files = [
        *database.parent.glob(f"{database.name}*"),
        *(p for p in settings.home.rglob("*") if p.is_file()),
    ]
    assert any("blobs" in str(p) for p in files)
    for path in files:
        assert words not in path.read_bytes(), path


def test_a_database_that_is_away_raises_and_stores_nothing_by_halves(
    house: House, tmp_path: Path, woken: Woken
) -> None:
    away = open_house(
        house.settings.model_copy(
            update={"database_url": f"sqlite:///{tmp_path}/no/such/folder/x.db"}
        ),
        waker=woken,
    )
    with pytest.raises(SQLAlchemyError):
        Intake(away).accept(call())
    away.close()
    assert woken == []


def test_a_locked_database_raises_for_everyone_at_once_and_takes_them_later(
    house: House, woken: Woken
) -> None:
    event.listen(house.store.engine, "connect", lambda c, _: c.execute("PRAGMA busy_timeout=300"))
    door, arrivals = Intake(house), [call() for _ in range(8)]
    with house.store.engine.connect() as holder:  # BEGIN IMMEDIATE: the one writer
        holder.execute(text("SELECT 1"))
        errors = together(*(lambda a=a: door.accept(a) for a in arrivals))
    assert len(errors) == 8
    assert all(isinstance(e, SQLAlchemyError) for e in errors)
    assert counted(house, Delivery) == counted(house, Receipt) == 0
    assert woken == []
    for arrival in arrivals:
        door.accept(arrival)
    assert counted(house, Delivery) == 8


def test_a_postgresql_that_goes_away_raises_and_takes_it_when_it_is_back(
    postgres: Postgres, postgres_house: House
) -> None:
    house = postgres_house
    door, arrival = Intake(house), call()
    door.accept(call())
    name = make_url(house.settings.database).database
    postgres.drop(str(name))  # with every connection to it
    with pytest.raises(SQLAlchemyError):
        door.accept(arrival)
    postgres.copy(str(name))
    assert door.accept(arrival) == 1


def test_a_blob_store_that_is_away_raises_and_stores_nothing(house: House, settings: Any) -> None:
    settings.home.joinpath("blobs").write_text("not a folder")
    with pytest.raises(OSError, match=r"."):
        Intake(house).accept(
            Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"x" * 300_000)
        )
    assert counted(house, Delivery) == 0


# -- read ----


def test_reading_files_each_item_and_is_done_once(
    any_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = any_house
    items = [mail(str(n)) for n in range(3)]
    parsed_by(monkeypatch, Format.MAIL, lambda *_: items)
    number = Intake(house).accept(
        Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"three")
    )
    assert read_waiting(house) == 1
    assert read_waiting(house) == 0
    process.read(house, number)
    read = delivery(house, number)
    assert (read.state, read.items, read.reason, read.processed_at) == (
        DeliveryState.PROCESSED,
        3,
        "",
        house.clock(),
    )
    assert (counted(house, Filing), counted(house, Ticket)) == (3, 3)


def test_a_real_call_goes_from_the_door_to_a_ticket(any_house: House) -> None:
    house = any_house
    number = Intake(house).accept(call("she cannot post payments", name="Ann"))
    read_waiting(house)
    with house.store.reading() as session:
        ticket = session.scalars(select(Ticket)).one()
        assert (ticket.name, ticket.transport, ticket.format) == (
            "Support – Sunrise",
            "console",
            Format.PHONE,
        )
        assert ticket.messages[0].delivery_id == number
        assert ticket.messages[0].text == "she cannot post payments"


def test_what_cannot_be_read_is_failed_with_its_reason_and_never_disappears(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed_by(monkeypatch, Format.MAIL, unreadable)
    number = Intake(house).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?"))
    read_waiting(house)
    failed = delivery(house, number)
    assert (failed.state, failed.reason) == (
        DeliveryState.FAILED,
        "not a message: ask for it once more",
    )
    assert counted(house, Ticket) == 0
    assert read_waiting(house) == 0


def test_what_the_door_saw_as_unreadable_is_stored_as_failed(house: House) -> None:
    number = Intake(house).accept(
        Arrival(
            transport=Transport.FOLDER,
            format=Format.SECURE_MESSAGE,
            raw=b"?",
            unreadable="not a workbook",
        )
    )
    read_waiting(house)
    assert (delivery(house, number).state, delivery(house, number).reason) == (
        DeliveryState.FAILED,
        "not a workbook",
    )


def test_an_item_that_cannot_be_filed_leaves_none_of_its_delivery_filed(
    any_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = any_house
    bad = mail(sent_at=None)
    object.__setattr__(bad, "details", (1, 2))  # not what a parser may give
    parsed_by(monkeypatch, Format.MAIL, lambda *_: [mail(), bad])
    number = Intake(house).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?"))
    read_waiting(house)
    assert delivery(house, number).state is DeliveryState.PENDING
    assert counted(house, Ticket) == counted(house, Filing) == 0


def test_the_same_bytes_once_more_give_a_failed_delivery_another_look(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed_by(monkeypatch, Format.MAIL, unreadable)
    door, arrival = Intake(house), Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?")
    number = door.accept(arrival)
    read_waiting(house)
    parsed_by(monkeypatch, Format.MAIL, lambda *_: [mail()])
    assert door.accept(arrival) == number
    read_waiting(house)
    assert delivery(house, number).state is DeliveryState.PROCESSED


def test_a_poison_delivery_is_failed_after_three_attempts_and_stops_no_other(
    any_house: House, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    house = any_house
    parsed_by(monkeypatch, Format.MAIL, broken)
    door = Intake(house)
    number = door.accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?"))
    good = door.accept(call())
    for attempt in (1, 2, 3):
        read_waiting(house)
        assert delivery(house, good).state is DeliveryState.PROCESSED
        assert delivery(house, number).attempts == attempt
        assert read_waiting(house) == 0  # not at once again
        clock.turn(seconds=61)
    poisoned = delivery(house, number)
    assert poisoned.state is DeliveryState.FAILED
    assert (
        poisoned.reason
        == "could not be processed: an error of ours (RuntimeError); replay it once mended"
    )


def test_what_the_database_will_never_take_is_failed_too_and_not_tried_for_ever(
    postgres_house: House, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    house = postgres_house
    item = mail()
    object.__setattr__(item, "link", "https://x/" + "\0")
    parsed_by(monkeypatch, Format.MAIL, lambda *_: [item])
    for place in ("ingest.processing.parser_process", "workflow.filing.file_item"):
        monkeypatch.setattr(f"{place}.storable", lambda one: one)
    number = Intake(house).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"?"))
    for _ in range(3):
        read_waiting(house)
        clock.turn(seconds=61)
    assert delivery(house, number).state is DeliveryState.FAILED


def test_a_worker_that_died_while_reading_is_made_up_for_after_a_minute(
    house: House, clock: HandClock
) -> None:
    number = Intake(house).accept(call())
    assert [one.number for one in process._claim(house, 1)] == [number]  # and then it died
    assert read_waiting(house) == 0
    clock.turn(seconds=60)
    assert read_waiting(house) == 1
    assert delivery(house, number).state is DeliveryState.PROCESSED


def test_workers_at_once_share_the_work_and_read_nothing_twice(postgres_house: House) -> None:
    house = postgres_house
    door = Intake(house)
    for _ in range(12):
        door.accept(call())
    done: list[int] = []
    assert together(*[lambda: done.append(read_waiting(house))] * 4) == []
    assert sum(done) == 12
    assert counted(house, Delivery, Delivery.attempts == 1) == counted(house, Ticket) == 12


def test_a_backlog_larger_than_a_batch_is_read_to_its_end(house: House) -> None:
    door = Intake(house)
    for _ in range(7):
        door.accept(call())
    assert read_waiting(house) == 7


def test_the_contact_of_a_call_hears_of_it(house: House) -> None:
    Intake(house).accept(call(email=ANN.email))
    read_waiting(house)
    with house.store.reading() as session:
        assert [m.to for m in session.scalars(select(Ticket)).one().outbox] == [ANN.email]
