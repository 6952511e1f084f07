"""What a hostile item does to its parser, it does to nobody else."""

import io
import os
import pickle
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

import parsers
from ingest.intake import Arrival, Intake, Transport
from ingest.processing import parser_pool, process
from ingest.processing.parser_pool import BrokenError, EndedError, isolated, parse
from ingest.processing.process import read, read_waiting
from parsers.item import Format, ParseError
from parsers.options import PLAIN, Options
from parsers.secure_message import preview
from tests.support.context import HandClock, Woken, call, counted, together
from tests.support.workbooks import book, hoarding
from workflow.context import House
from workflow.database.visibility import READING
from workflow.models.core import Delivery, Ticket
from workflow.models.states import DeliveryState
from workflow.settings.settings import Settings

POISON = (str(Path(__file__).parents[2] / "support" / "poison_parser.py"),)
FIXTURES = Path(__file__).parents[2] / "parsers" / "fixtures"
_numbers = count(1)


def letter(words: str = "please help") -> bytes:
    n = next(_numbers)
    return f"From: a{n}@x.example\r\nMessage-ID: <{n}@x.example>\r\nSubject: {n}\r\n\r\n{words}\r\n".encode()


def arrive(house: House, raw: bytes) -> int:
    return Intake(house).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=raw))


def delivery(house: House, number: int) -> Delivery:
    with house.store.reading() as session:
        return session.get_one(Delivery, number)


def settled(house: House, number: int) -> bool:
    """Whether it is known what has become of the last attempt."""
    found = delivery(house, number)
    return found.state is not DeliveryState.PENDING or found.not_before < house.clock() + READING


def until(true: object) -> None:
    end = time.monotonic() + 20
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


@pytest.fixture
def seconds() -> float:
    """For one item: more than a busy machine takes. What is about them says less."""
    return 30.0


@pytest.fixture
def limits(settings: Settings, seconds: float) -> Settings:
    return settings.model_copy(update={"parse_seconds": seconds, "parse_memory": 400 * 1024 * 1024})


@pytest.fixture
def poison(limits: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Parsers in processes of their own, whose mail parser does what the mail says."""
    monkeypatch.setattr(parser_pool, "CHILD", POISON)
    with isolated(limits):
        yield


# -- the process ----


@pytest.mark.parametrize("path", sorted((FIXTURES).rglob("*.eml")), ids=lambda p: p.stem)
def test_an_item_is_the_same_wherever_it_is_parsed(path: Path, every_parser: None) -> None:
    del every_parser
    raw = path.read_bytes()
    assert parse(Format.MAIL, raw) == parsers.parse(Format.MAIL, raw)


@pytest.fixture(scope="module")
def every_parser() -> Iterator[None]:
    with isolated(Settings()):
        yield


def test_a_form_and_a_workbook_too(every_parser: None) -> None:
    del every_parser
    form = b"FormID=1&UniqueID=2&Email=a%40x.example&Message=help&Date=Jul+4%2C+2026+10%3A00"
    assert parse(Format.FORMSTACK, form) == parsers.parse(Format.FORMSTACK, form)
    table = b"Message ID,Practice Name,From,Date,Message\r\n1,Acme,Jo,7/4/2026 10:00 AM,Help\r\n"
    assert parse(Format.SECURE_MESSAGE, table) == parsers.parse(Format.SECURE_MESSAGE, table)
    with pytest.raises(ParseError, match=r"."):
        parse(Format.SECURE_MESSAGE, b"")


def test_a_parser_knows_none_of_our_settings(
    every_parser: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del every_parser
    monkeypatch.setenv("INTAKE_SECRET_KEYS", "secret")
    child = parser_pool._Child(2**30, 10)
    try:
        assert not [
            k for k in psutil.Process(child._process.pid).environ() if k.startswith("INTAKE_")
        ]
    finally:
        child.kill()


def test_a_parser_is_told_how_the_house_means_its_sources(poison: None) -> None:
    del poison
    told = Options(time_zone="America/Chicago", passwords=("open sesame",))
    [item] = parse(Format.MAIL, letter("poison: told"), told)
    assert item.text == "America/Chicago, 1 passwords"


@pytest.mark.parametrize(
    ("deed", "words", "seconds"),
    [
        ("crash", "ended by signal 11", 30),
        ("hoard", "more memory than one item may have", 30),
        ("spin", "more than 3 seconds", 3),
        ("sleep", "more than 3 seconds", 3),
        ("exit", "its parser ended", 30),
    ],
)
def test_what_ends_a_parser_is_told_and_the_next_item_has_another(
    poison: None, deed: str, words: str
) -> None:
    del poison
    with pytest.raises(EndedError, match=words):
        parse(Format.MAIL, letter(f"poison: {deed}"))
    [item] = parse(Format.MAIL, letter("hello"))
    assert item.text == "hello"


def test_what_a_reading_gives_can_be_stored(poison: None) -> None:
    del poison
    [item] = parse(Format.MAIL, letter("poison: nul"))
    assert item.text == "no\ufffd database takes ?"


def test_a_bug_is_told_by_class_and_place_and_never_by_its_text(poison: None) -> None:
    del poison
    with pytest.raises(BrokenError) as caught:
        parse(Format.MAIL, letter("poison: bug"))
    assert caught.value.kind == "RuntimeError"
    assert caught.value.place.startswith("poison_parser.py:")
    assert "Jane" not in str(caught.value)


def test_what_a_library_prints_does_not_get_between_the_answers(poison: None) -> None:
    del poison
    [item] = parse(Format.MAIL, letter("poison: noisy"))
    assert item.text == "poison: noisy"


def test_the_first_rows_of_a_workbook_are_the_same_wherever_they_are_read(
    every_parser: None,
) -> None:
    del every_parser
    told = book(["Datum", "Klinik"], ["5/1/2026", "Nordklinik"])
    assert (
        parser_pool.top(told, PLAIN)
        == parsers.top(told)
        == [("Sheet", [(1, {1: "Datum", 2: "Klinik"}), (2, {1: "5/1/2026", 2: "Nordklinik"})])]
    )
    with pytest.raises(ParseError, match=r"."):
        parser_pool.top(b"", PLAIN)


def test_a_workbook_that_hoards_ends_its_parser_and_nobody_else(settings: Settings) -> None:
    limits = settings.model_copy(update={"parse_memory": 120 * 1024 * 1024})
    with isolated(limits):
        with pytest.raises(EndedError, match="more memory than one item may have"):
            parser_pool.top(hoarding("Datum", "Klinik"), PLAIN)
        assert parser_pool.top(book(["Datum"]), PLAIN) == [("Sheet", [(1, {1: "Datum"})])]


def test_what_is_shown_of_a_workbook_has_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MOST_TEXT", 10)
    with pytest.raises(ParseError, match="more text than can be shown"):
        parsers.top(book(["Datum"], ["Klinik"]))


def test_an_answer_may_hold_items_and_nothing_that_does_something() -> None:
    evil = pickle.dumps(("items", [os.getcwd]))
    with pytest.raises(pickle.UnpicklingError):
        parser_pool._Unpickler(io.BytesIO(evil)).load()


def test_no_parser_survives_the_process_it_works_for(
    limits: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        parser_pool, "SLOW_SECONDS", 60.0
    )  # a slow machine's parser would end with its item
    with isolated(limits):
        parse(Format.MAIL, letter())
        lanes = parser_pool._lanes
        assert lanes is not None
        processes = [child._process for child in lanes._all]
        assert [p.poll() for p in processes] == [None]
    assert all(p.returncode is not None for p in processes)


# -- reading ----


@pytest.mark.parametrize("deed", ["crash", "hoard", "exit"])
def test_an_item_that_ends_its_parser_three_times_is_failed_and_shown(
    any_house: House, poison: None, deed: str, clock: HandClock
) -> None:
    del poison
    house = any_house
    number, good = arrive(house, letter(f"poison: {deed}")), arrive(house, letter())
    for attempt in (1, 2, 3):
        read_waiting(house)
        until(lambda: settled(house, number))
        until(lambda: delivery(house, good).state is DeliveryState.PROCESSED)
        assert delivery(house, number).attempts == attempt
        clock.turn(seconds=30)
    assert delivery(house, number).state is DeliveryState.FAILED
    assert "tried 3 times" in delivery(house, number).reason


@pytest.mark.parametrize("seconds", [4])
def test_an_item_that_never_ends_holds_up_nobody(
    house: House, poison: None, clock: HandClock, woken: Woken
) -> None:
    del poison
    number = arrive(house, letter("poison: sleep"))
    others = [arrive(house, letter()) for _ in range(8)]
    read_waiting(house)
    assert all(delivery(house, n).state is DeliveryState.PROCESSED for n in others)
    assert not settled(house, number)
    until(lambda: settled(house, number))
    until(lambda: woken.count("read") > 9)  # one an arrival, and one because a parser is free again
    clock.turn(seconds=30)
    arrive(house, letter())
    read_waiting(house)  # at the second attempt nobody waits for it at all
    assert counted(house, Ticket) == 9
    assert not settled(house, number)


@pytest.mark.parametrize("seconds", [1.5])
def test_one_parser_is_always_left_for_items_that_have_done_no_harm(
    house: House, poison: None, clock: HandClock
) -> None:
    del poison
    bad = [arrive(house, letter("poison: sleep")) for _ in range(3)]
    read_waiting(house)
    until(lambda: all(settled(house, n) for n in bad))
    clock.turn(seconds=30)
    read_waiting(house)
    read_waiting(house)
    assert parser_pool.room() == 1
    arrive(house, letter())
    read_waiting(house)
    until(lambda: counted(house, Ticket) == 1)


def test_items_are_filed_in_the_order_they_came(
    house: House, every_parser: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del every_parser
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 30)  # this machine may have much else to do
    numbers = [arrive(house, letter("x" * (200_000 if n % 3 == 0 else 10))) for n in range(12)]
    read_waiting(house)
    with house.store.reading() as session:
        opened = [
            t.messages[0].delivery_id for t in session.scalars(select(Ticket).order_by(Ticket.id))
        ]
    assert opened == numbers


def test_an_item_whose_worker_ended_three_times_is_failed(house: House, clock: HandClock) -> None:
    """Whatever killed it: the attempt is counted before it is made."""
    number = arrive(house, letter())
    with house.store.transaction() as session:
        session.get_one(Delivery, number).attempts = 3
    clock.turn(seconds=61)
    read_waiting(house)
    assert delivery(house, number).state is DeliveryState.FAILED
    assert "the worker reading it ended" in delivery(house, number).reason


def test_an_item_is_read_though_the_clock_has_jumped_back(house: House, clock: HandClock) -> None:
    clock.turn(days=1)
    number = arrive(house, letter())
    clock.turn(days=-1)
    read_waiting(house)
    assert delivery(house, number).state is DeliveryState.PROCESSED


def test_bytes_that_are_gone_are_tried_again_and_then_told(house: House, clock: HandClock) -> None:
    number = arrive(house, letter("y" * 400_000))
    for path in (house.settings.home / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    for _ in range(3):
        read_waiting(house)
        clock.turn(seconds=30)
    assert delivery(house, number).state is DeliveryState.FAILED
    assert "INTAKE_BLOBS_URL" in delivery(house, number).reason


def test_reading_one_now_counts_its_attempts_too(
    house: House, poison: None, clock: HandClock
) -> None:
    """The watched folder reads by itself: what kills it must not kill it for ever."""
    del poison
    number = arrive(house, letter("poison: crash"))
    for _ in range(3):
        read(house, number)
        read(house, number)  # too early: no attempt, and none counted
        clock.turn(seconds=30)
    assert delivery(house, number).state is DeliveryState.FAILED
    assert delivery(house, number).attempts == 3


def test_one_that_somebody_else_reads_is_left_to_them(house: House) -> None:
    """The folder looks every second, and a worker may be faster: looking is no attempt."""
    number = arrive(house, letter())
    [claimed] = process._claim(house, 1)
    for _ in range(5):
        read(house, number)
    assert delivery(house, number).attempts == 1
    assert (
        together(
            lambda: read(house, number, patience=10),
            lambda: process._settle(house, process._begin(house, claimed)),
        )
        == []
    )
    assert delivery(house, number).state is DeliveryState.PROCESSED
    assert counted(house, Ticket) == 1


def test_a_call_is_parsed_without_another_process(house: House, poison: None) -> None:
    del poison
    number = Intake(house).accept(call())
    read(house, number)
    assert delivery(house, number).state is DeliveryState.PROCESSED
