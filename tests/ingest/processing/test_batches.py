"""Small deliveries are parsed ahead and filed several in one transaction."""

from itertools import count
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from ingest.intake import Arrival, Intake, Transport
from ingest.processing import parser_pool, process
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support.context import HandClock, count_rows
from workflow.context import AppContext
from workflow.filing import bulk
from workflow.models.core import Delivery, Filing, OutgoingMail, Ticket
from workflow.models.states import DeliveryState

_numbers = count(1)


def make_mail(words: str = "please help") -> bytes:
    n = next(_numbers)
    header = f"From: a{n}@batch{n}.example\r\nMessage-ID: <{n}@batch.example>\r\nSubject: {n}\r\n"
    return f"{header}\r\n{words}\r\n".encode()


def receive(context: AppContext, *mails: bytes) -> list[int]:
    intake = Intake(context)
    return [
        intake.accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=raw))
        for raw in mails
    ]


def load(context: AppContext, number: int) -> Delivery:
    with context.store.read_only() as session:
        return session.get_one(Delivery, number)


def test_waiting_mails_share_transactions_and_statements(any_context: AppContext) -> None:
    context = any_context
    statements: list[str] = []
    commits: list[str] = []
    mails = 64
    receive(context, *(make_mail() for _ in range(mails)))

    def note(*args: Any) -> None:
        statements.append(args[2])

    def note_commit(_: object) -> None:
        commits.append("commit")

    event.listen(context.store.engine, "before_cursor_execute", note)
    event.listen(context.store.engine, "commit", note_commit)
    assert process_waiting(context) == mails
    event.remove(context.store.engine, "before_cursor_execute", note)
    event.remove(context.store.engine, "commit", note_commit)
    assert count_rows(context, Ticket) == count_rows(context, OutgoingMail) == mails
    assert len(statements) / mails < 6
    assert len(commits) / mails < 0.5


def test_tickets_have_the_order_in_which_their_mails_came(any_context: AppContext) -> None:
    numbers = receive(any_context, *(make_mail() for _ in range(20)))
    process_waiting(any_context)
    with any_context.store.read_only() as session:
        rows = session.scalars(select(Filing.delivery_id).order_by(Filing.ticket_id))
        assert list(rows) == numbers


def test_one_that_cannot_be_filed_keeps_none_of_the_others(
    any_context: AppContext, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    """The transaction of all fails; each is then filed by itself."""
    context = any_context
    file_pending = bulk.file_pending

    def fail_on_poison(desk: Any, session: Any, pending: Any, now: Any) -> None:
        if any("poison" in one.item.text for one in pending):
            raise RuntimeError("a bug")
        file_pending(desk, session, pending, now)

    monkeypatch.setattr(process, "file_pending", fail_on_poison)
    good, [bad] = (
        receive(context, *(make_mail() for _ in range(5))),
        receive(context, make_mail("poison")),
    )
    good += receive(context, make_mail())
    for attempt in (1, 2, 3):
        process_waiting(context)
        assert [load(context, n).state for n in good] == [DeliveryState.PROCESSED] * len(good)
        assert load(context, bad).attempts == attempt
        clock.turn(seconds=61)
    assert load(context, bad).state is DeliveryState.FAILED
    assert "an error of ours (RuntimeError)" in load(context, bad).reason
    assert count_rows(context, Ticket) == len(good)


def test_mails_that_no_parser_has_begun_go_back_to_the_other_workers(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parsers are busy with slow items: what was claimed ahead waits for none of them."""
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 0.0)
    numbers = receive(context, *(make_mail() for _ in range(5)))
    claimed_deliveries = process._claim(context, len(numbers))
    parse_queue = process._ParseQueue(context)
    with monkeypatch.context() as busy:
        busy.setattr(parser_pool, "count_free_parsers", lambda: 0)
        in_progress = process.deque(parse_queue.add(one) for one in claimed_deliveries)
        assert process._file_next(context, in_progress, parse_queue) == 0
    assert not in_progress
    assert {load(context, n).attempts for n in numbers} == {0}
    assert process_waiting(context) == len(numbers)
    assert {load(context, n).state for n in numbers} == {DeliveryState.PROCESSED}


def test_a_delivery_that_another_process_has_filed_is_left_alone(context: AppContext) -> None:
    numbers = receive(context, *(make_mail() for _ in range(3)))
    batch = [process._InProgress(one) for one in process._claim(context, 3)]
    for one in batch:
        one.answer = process._begin_parsing(context, one.claim)
    with context.store.transaction() as session:
        session.get_one(Delivery, numbers[1]).state = DeliveryState.DISMISSED
    process._settle_batch(context, batch)
    states = [load(context, n).state for n in numbers]
    assert states == [DeliveryState.PROCESSED, DeliveryState.DISMISSED, DeliveryState.PROCESSED]
    assert count_rows(context, Ticket) == 2


def test_no_more_large_mails_are_taken_than_there_are_parsers(context: AppContext) -> None:
    """Each is held in memory, parsed, until it is filed; small ones behind it keep their turn."""
    large = "x" * (context.settings.inline_limit + 1)
    numbers = receive(
        context, make_mail(), make_mail(large), make_mail(), make_mail(large), make_mail()
    )
    assert [one.number for one in process._claim(context, 9, max_large=1)] == numbers[:3]
    assert process._claim(context, 9, max_large=0) == []
    assert [one.number for one in process._claim(context, 9, max_large=2)] == numbers[3:]


def test_a_large_mail_is_filed_in_a_transaction_of_its_own(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    file_pending = bulk.file_pending

    def note(desk: Any, session: Any, pending: Any, now: Any) -> None:
        sizes.append(len(pending))
        file_pending(desk, session, pending, now)

    monkeypatch.setattr(process, "file_pending", note)
    large = "x" * (context.settings.inline_limit + 1)
    receive(context, make_mail(), make_mail(), make_mail(large), make_mail(), make_mail())
    process_waiting(context)
    assert sizes == [2, 1, 2]


def test_a_batch_goes_back_uncounted_while_the_database_is_away(
    context: AppContext, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    """Each by itself would wait for the database again, one after the other."""
    attempts: list[int] = []

    def fail(_desk: Any, _session: Any, pending: Any, _now: Any) -> None:
        attempts.append(len(pending))
        raise OperationalError("INSERT", {}, Exception("away"))

    numbers = receive(context, *(make_mail() for _ in range(4)))
    with monkeypatch.context() as away:
        away.setattr(process, "file_pending", fail)
        process_waiting(context)
    assert attempts == [len(numbers)]
    assert {load(context, n).attempts for n in numbers} == {0}
    clock.turn(seconds=30)
    assert process_waiting(context) == len(numbers)
