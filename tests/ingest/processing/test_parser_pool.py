"""Parser processes: a hostile item harms its own parser only."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

import parsers
from ingest.intake import Arrival, Intake, Transport
from ingest.processing import parser_pool, process
from ingest.processing.parser_pool import ParserBugError, ParserEndedError, parse, use_parser_pool
from ingest.processing.process import process_delivery, process_waiting
from parsers.item import Format, ParseError
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.secure_message import preview
from tests.support.context import (
    HandClock,
    RecordingNotifier,
    count_rows,
    make_call_arrival,
    run_in_threads,
)
from tests.support.workbooks import build_book, build_hoarding_book
from workflow.context import AppContext
from workflow.database.visibility import DELIVERY_VISIBILITY_TIMEOUT
from workflow.models.core import Delivery, Ticket
from workflow.models.states import DeliveryState
from workflow.settings.settings import Settings

POISON = (str(Path(__file__).parents[2] / "support" / "poison_parser.py"),)
FIXTURES = Path(__file__).parents[2] / "parsers" / "fixtures"
_numbers = count(1)


def make_mail(words: str = "please help") -> bytes:
    n = next(_numbers)
    header = f"From: a{n}@x.example\r\nMessage-ID: <{n}@x.example>\r\nSubject: {n}\r\n"
    return f"{header}\r\n{words}\r\n".encode()


def arrive(context: AppContext, raw: bytes) -> int:
    return Intake(context).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=raw))


def load_delivery(context: AppContext, number: int) -> Delivery:
    with context.store.read_only() as session:
        return session.get_one(Delivery, number)


def is_settled(context: AppContext, number: int) -> bool:
    """Return whether the last attempt is over, well or badly."""
    row = load_delivery(context, number)
    return (
        row.state is not DeliveryState.PENDING
        or row.not_before < context.clock() + DELIVERY_VISIBILITY_TIMEOUT
    )


def is_processed(context: AppContext, number: int) -> bool:
    return load_delivery(context, number).state is DeliveryState.PROCESSED


def until(true: object) -> None:
    end = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


@pytest.fixture
def seconds() -> float:
    """The time limit of an item: more than a busy machine takes; tests of the limit set less."""
    return 30.0


@pytest.fixture
def limits(settings: Settings, seconds: float) -> Settings:
    return settings.model_copy(update={"parse_seconds": seconds, "parse_memory": 400 * 1024 * 1024})


@pytest.fixture
def poison(limits: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Parsers in processes of their own, whose mail parser does what the mail says."""
    monkeypatch.setattr(parser_pool, "CHILD_COMMAND", POISON)
    with use_parser_pool(limits):
        yield


# -- the process ----


@pytest.mark.parametrize("path", sorted((FIXTURES).rglob("*.eml")), ids=lambda p: p.stem)
def test_an_item_is_the_same_wherever_it_is_parsed(path: Path, every_parser: None) -> None:
    del every_parser
    raw = path.read_bytes()
    here, there = parsers.parse(Format.MAIL, raw), parse(Format.MAIL, raw)
    assert there == here
    assert repr(there) == repr(here)  # equal times in another zone would have another digest


@pytest.fixture(scope="module")
def every_parser() -> Iterator[None]:
    with use_parser_pool(Settings()):
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


def test_a_parser_gets_its_options(poison: None) -> None:
    del poison
    options = Options(time_zone="America/Chicago", passwords=("open sesame",))
    [item] = parse(Format.MAIL, make_mail("poison: options"), options)
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
def test_the_end_of_a_parser_is_reported_and_the_next_item_has_another(
    poison: None, deed: str, words: str
) -> None:
    del poison
    with pytest.raises(ParserEndedError, match=words):
        parse(Format.MAIL, make_mail(f"poison: {deed}"))
    assert parser_pool._pool is not None
    parser_pool._pool._seconds = 30.0  # a harmless item may take as long as a busy machine needs
    [item] = parse(Format.MAIL, make_mail("hello"))
    assert item.text == "hello"


def test_what_a_reading_gives_can_be_stored(poison: None) -> None:
    del poison
    [item] = parse(Format.MAIL, make_mail("poison: nul"))
    assert item.text == "no\ufffd database takes ?"


def test_a_bug_is_reported_by_class_and_place_and_never_by_its_text(poison: None) -> None:
    del poison
    with pytest.raises(ParserBugError) as error_info:
        parse(Format.MAIL, make_mail("poison: bug"))
    assert error_info.value.kind == "RuntimeError"
    assert error_info.value.place.startswith("poison_parser.py:")
    assert "Jane" not in str(error_info.value)


def test_what_a_library_prints_does_not_get_between_the_answers(poison: None) -> None:
    del poison
    [item] = parse(Format.MAIL, make_mail("poison: noisy"))
    assert item.text == "poison: noisy"


def test_the_first_rows_of_a_workbook_are_the_same_wherever_they_are_read(
    every_parser: None,
) -> None:
    del every_parser
    options = build_book(["Datum", "Klinik"], ["5/1/2026", "Nordklinik"])
    assert (
        parser_pool.read_previews(options, DEFAULT_OPTIONS)
        == parsers.preview_tables(options)
        == [("Sheet", [(1, {1: "Datum", 2: "Klinik"}), (2, {1: "5/1/2026", 2: "Nordklinik"})])]
    )
    with pytest.raises(ParseError, match=r"."):
        parser_pool.read_previews(b"", DEFAULT_OPTIONS)


def test_a_workbook_that_hoards_ends_its_parser_and_nobody_else(settings: Settings) -> None:
    limits = settings.model_copy(update={"parse_memory": 120 * 1024 * 1024})
    with use_parser_pool(limits):
        with pytest.raises(ParserEndedError, match="more memory than one item may have"):
            parser_pool.read_previews(build_hoarding_book("Datum", "Klinik"), DEFAULT_OPTIONS)
        assert parser_pool.read_previews(build_book(["Datum"]), DEFAULT_OPTIONS) == [
            ("Sheet", [(1, {1: "Datum"})])
        ]


def test_what_is_shown_of_a_workbook_has_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MAX_TEXT", 10)
    with pytest.raises(ParseError, match="more text than can be shown"):
        parsers.preview_tables(build_book(["Datum"], ["Klinik"]))


def test_a_parser_that_was_taken_over_runs_nothing_here(poison: None, tmp_path: Path) -> None:
    del poison
    mark = tmp_path / "it ran"
    with pytest.raises(ParserEndedError, match="gave an answer that cannot be read"):
        parse(Format.MAIL, make_mail(f"poison: pickle, run: touch '{mark}'"))
    assert not mark.exists()
    [item] = parse(Format.MAIL, make_mail("hello"))
    assert item.text == "hello"


def test_a_length_that_no_memory_holds_is_refused(poison: None) -> None:
    del poison
    with pytest.raises(ParserEndedError, match="gave an answer that cannot be read"):
        parse(Format.MAIL, make_mail("poison: much"))


def test_no_parser_survives_the_process_it_works_for(
    limits: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # else the parser of a slow machine would end with its item
    monkeypatch.setattr(parser_pool, "SLOW_SECONDS", 60.0)
    with use_parser_pool(limits):
        parse(Format.MAIL, make_mail())
        lanes = parser_pool._pool
        assert lanes is not None
        processes = [child._process for child in lanes._all]
        assert [p.poll() for p in processes] == [None]
    assert all(p.returncode is not None for p in processes)


@pytest.mark.parametrize("seconds", [3600])
@pytest.mark.parametrize(("deed", "is_starved"), [("spin", True), ("sleep", False)])
def test_only_a_parser_that_wants_to_run_is_starved(
    context: AppContext, poison: None, deed: str, *, is_starved: bool
) -> None:
    """What a busy machine keeps from running has its time left; what sleeps is at fault."""
    del poison
    arrive(context, make_mail(f"poison: {deed}"))
    process_waiting(context)
    pool = parser_pool._pool
    assert pool is not None
    [child] = pool._all.difference(pool._idle)
    until(lambda: child._is_starved() is is_starved)
    child._seconds = 0.0  # it has had its time
    assert not child._is_starved()
    end_busy_parsers()


@pytest.mark.parametrize("seconds", [1])
def test_a_starved_parser_is_waited_for(
    poison: None, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Asleep for the whole limit, but taken for one that waits for a processor."""
    del poison
    looks: list[bool] = []

    def is_starved(_: object) -> bool:
        looks.append(len(looks) < 2)
        return looks[-1]

    monkeypatch.setattr(parser_pool._Child, "_is_starved", is_starved)
    began = time.monotonic()
    with pytest.raises(ParserEndedError, match="more than 1 seconds"):
        parse(Format.MAIL, make_mail("poison: sleep"))
    assert looks == [True, True, False]
    assert time.monotonic() - began >= seconds + 2 * parser_pool.STARVED_SECONDS


# -- reading ----


@pytest.mark.parametrize("deed", ["crash", "hoard", "exit", "much"])
def test_an_item_that_ends_its_parser_three_times_is_failed_and_shown(
    any_context: AppContext, poison: None, deed: str, clock: HandClock
) -> None:
    del poison
    context = any_context
    number, good = arrive(context, make_mail(f"poison: {deed}")), arrive(context, make_mail())
    for attempt in (1, 2, 3):
        process_waiting(context)
        until(lambda: is_settled(context, number))
        until(lambda: load_delivery(context, good).state is DeliveryState.PROCESSED)
        assert load_delivery(context, number).attempts == attempt
        clock.turn(seconds=30)
    assert load_delivery(context, number).state is DeliveryState.FAILED
    assert "tried 3 times" in load_delivery(context, number).reason


def end_busy_parsers() -> None:
    """Kill every parser that is at an item, as its time limit would."""
    pool = parser_pool._pool
    assert pool is not None
    for child in pool._all.difference(pool._idle):
        child.end()


def process_until(context: AppContext, holds: Callable[[], bool]) -> None:
    """Process what waits until a condition holds: one call ends after some seconds."""
    until(lambda: process_waiting(context) == 0 and holds())


@pytest.mark.parametrize("seconds", [3600])
def test_an_item_that_never_ends_holds_up_nobody(
    context: AppContext, poison: None, clock: HandClock, notified_queues: RecordingNotifier
) -> None:
    del poison
    number = arrive(context, make_mail("poison: sleep"))
    others = [arrive(context, make_mail()) for _ in range(8)]
    process_until(context, lambda: all(is_processed(context, n) for n in others))
    assert not is_settled(context, number)
    end_busy_parsers()
    until(lambda: is_settled(context, number))
    # One notice an arrival, and one because a parser is free again.
    until(lambda: notified_queues.count("read") > 9)
    clock.turn(seconds=30)
    arrive(context, make_mail())
    process_until(context, lambda: count_rows(context, Ticket) == 9)
    assert not is_settled(context, number)


@pytest.mark.parametrize("seconds", [3600])
def test_one_parser_is_always_left_for_items_that_have_done_no_harm(
    context: AppContext, poison: None, clock: HandClock
) -> None:
    del poison
    bad = [arrive(context, make_mail("poison: sleep")) for _ in range(3)]
    process_waiting(context)
    end_busy_parsers()
    until(lambda: all(is_settled(context, n) for n in bad))
    clock.turn(seconds=30)
    process_waiting(context)
    process_waiting(context)
    assert parser_pool.count_free_parsers() == 1
    arrive(context, make_mail())
    process_until(context, lambda: count_rows(context, Ticket) == 1)


def test_items_are_filed_in_the_order_they_came(
    context: AppContext, every_parser: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del every_parser
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 30)  # this machine may have much else to do
    numbers = [arrive(context, make_mail("x" * (200_000 if n % 3 == 0 else 10))) for n in range(12)]
    while process_waiting(context):  # a call ends after some seconds, whatever is left
        pass
    with context.store.read_only() as session:
        opened = [
            t.messages[0].delivery_id for t in session.scalars(select(Ticket).order_by(Ticket.id))
        ]
    assert opened == numbers


def test_an_item_whose_worker_ended_three_times_is_failed(
    context: AppContext, clock: HandClock
) -> None:
    """The attempt is counted before it is made, so it does not matter why the worker ended."""
    number = arrive(context, make_mail())
    with context.store.transaction() as session:
        session.get_one(Delivery, number).attempts = 3
    clock.turn(seconds=61)
    process_waiting(context)
    assert load_delivery(context, number).state is DeliveryState.FAILED
    assert "the worker reading it ended" in load_delivery(context, number).reason


def test_an_item_is_read_though_the_clock_has_jumped_back(
    context: AppContext, clock: HandClock
) -> None:
    clock.turn(days=1)
    number = arrive(context, make_mail())
    clock.turn(days=-1)
    process_waiting(context)
    until(lambda: load_delivery(context, number).state is DeliveryState.PROCESSED)


def test_bytes_that_are_gone_are_tried_again_and_then_reported(
    context: AppContext, clock: HandClock
) -> None:
    number = arrive(context, make_mail("y" * 400_000))
    for path in (context.settings.home / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    for _ in range(3):
        process_waiting(context)
        clock.turn(seconds=30)
    assert load_delivery(context, number).state is DeliveryState.FAILED
    assert "INTAKE_BLOBS_URL" in load_delivery(context, number).reason


def test_reading_one_now_counts_its_attempts_too(
    context: AppContext, poison: None, clock: HandClock
) -> None:
    """The watched folder reads by itself: what kills it must not kill it for ever."""
    del poison
    number = arrive(context, make_mail("poison: crash"))
    for _ in range(3):
        process_delivery(context, number)
        process_delivery(context, number)  # too early: no attempt, and none counted
        clock.turn(seconds=30)
    assert load_delivery(context, number).state is DeliveryState.FAILED
    assert load_delivery(context, number).attempts == 3


def test_one_that_somebody_else_reads_is_left_to_them(context: AppContext) -> None:
    """The folder looks every second, and a worker may be faster: looking is no attempt."""
    number = arrive(context, make_mail())
    [claimed_delivery] = process._claim(context, 1)
    for _ in range(5):
        process_delivery(context, number)
    assert load_delivery(context, number).attempts == 1
    assert (
        run_in_threads(
            lambda: process_delivery(context, number, patience=10),
            lambda: process._settle(
                context,
                process._InProgress(
                    claimed_delivery, process._begin_parsing(context, claimed_delivery)
                ),
            ),
        )
        == []
    )
    assert load_delivery(context, number).state is DeliveryState.PROCESSED
    assert count_rows(context, Ticket) == 1


def test_a_call_is_parsed_without_another_process(context: AppContext, poison: None) -> None:
    del poison
    number = Intake(context).accept(make_call_arrival())
    process_delivery(context, number)
    assert load_delivery(context, number).state is DeliveryState.PROCESSED
