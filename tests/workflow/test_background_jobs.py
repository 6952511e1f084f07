"""Hints in Redis and the sweep that makes them optional, against a real Valkey."""

import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from ingest.formstack.spool import SPOOL_FOLDER, Spool
from ingest.intake import READ_QUEUE, Arrival, Intake, Transport
from parsers.item import Address, Format
from tests.support.context import (
    HandClock,
    RecordingNotifier,
    count_rows,
    make_call_arrival,
    make_mail,
    open_ticket,
)
from tests.support.servers import Valkey, find_free_port
from workflow import background_jobs
from workflow.background_jobs import JobNotifier
from workflow.context import AppContext, open_context
from workflow.models.core import Delivery, Heartbeat, OutgoingMail, Task, Ticket
from workflow.models.states import DeliveryState, OutboxState
from workflow.operations import sweep
from workflow.settings.settings import Settings

WORDS = "Jane Roe, born in March"


@pytest.fixture
def notifier(valkey: Valkey) -> Iterator[JobNotifier]:
    made = JobNotifier(valkey.url)
    yield made
    made.close()


@pytest.fixture
def woken_context(
    settings: Settings, sqlite_url: str, notifier: JobNotifier, clock: HandClock
) -> Iterator[AppContext]:
    """A context whose wake-ups go to the real Valkey."""
    own_settings = settings.model_copy(update={"database_url": sqlite_url})
    opened = open_context(own_settings, notifier=notifier, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def redis(valkey: Valkey) -> Iterator[Redis]:
    with Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
def burst(
    woken_context: AppContext, redis: Redis, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Run an RQ worker until there is nothing left to do."""
    monkeypatch.setenv("INTAKE_HOME", str(woken_context.settings.home))
    monkeypatch.setenv("INTAKE_DATABASE_URL", woken_context.settings.database)
    monkeypatch.setenv("INTAKE_REDIS_URL", valkey.url)
    monkeypatch.setenv("INTAKE_CONFIG", str(woken_context.settings.home / "none.toml"))

    def work() -> None:
        worker = SimpleWorker(
            list(background_jobs.QUEUES), connection=redis, serializer=JSONSerializer
        )
        worker.work(burst=True, logging_level="ERROR")

    yield work
    background_jobs.close_context()


def test_a_job_that_an_earlier_release_queued_still_runs(
    woken_context: AppContext, redis: Redis, burst: Any
) -> None:
    delivery = store_ticketless_mail(woken_context)
    redis.flushall()  # only the job of the earlier release is left
    queue = Queue(READ_QUEUE, connection=redis, serializer=JSONSerializer)
    queue.enqueue("workflow.jobs.run", READ_QUEUE)
    burst()
    with woken_context.store.read_only() as session:
        assert session.get_one(Delivery, delivery).state is DeliveryState.PROCESSED


def store_ticketless_mail(context: AppContext) -> int:
    """Store a mail that no worker has processed yet; return its delivery."""
    raw = b"From: ann@practice.example\r\nSubject: a question\r\n\r\nplease help\r\n"
    arrival = Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=raw)
    return Intake(context).accept(arrival)


def dump_redis(redis: Redis) -> bytes:
    """Every byte Redis holds, compressed ones opened."""
    values = []
    for key in redis.scan_iter():
        kind = redis.type(key)
        value: Any = {
            b"string": lambda k: [redis.get(k)],
            b"hash": lambda k: [b for pair in redis.hgetall(k).items() for b in pair],
            b"list": lambda k: redis.lrange(k, 0, -1),
            b"set": redis.smembers,
            b"zset": lambda k: redis.zrange(k, 0, -1),
            b"stream": lambda k: [str(redis.xrange(k)).encode()],
        }[kind](key)  # type: ignore[index]
        values += [key, *value]
    return b"\n".join(decompress(one) for one in values)


def decompress(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def count_pending(context: AppContext) -> int:
    return count_rows(context, Delivery, Delivery.state == DeliveryState.PENDING)


def count_unsent_mails(context: AppContext) -> int:
    return count_rows(context, OutgoingMail, OutgoingMail.state == OutboxState.WAITING)


# -- hints ----


def test_however_many_wakes_there_is_one_hint(notifier: JobNotifier, redis: Redis) -> None:
    for _ in range(50):
        notifier("read")
        notifier("send")
    assert [redis.llen(f"rq:queue:{n}") for n in background_jobs.QUEUES] == [1, 1, 0, 0]


def test_a_wake_fires_after_the_commit_and_not_without_one(
    woken_context: AppContext, redis: Redis
) -> None:
    from workflow.database.engine import notify_workers  # noqa: PLC0415

    with woken_context.store.transaction() as session:
        notify_workers(session, "read")
        assert redis.llen("rq:queue:read") == 0
    assert redis.llen("rq:queue:read") == 1
    redis.flushall()
    # one transaction
    with pytest.raises(RuntimeError), woken_context.store.transaction() as session:  # noqa: PT012
        notify_workers(session, "read")
        raise RuntimeError
    assert redis.llen("rq:queue:read") == 0


def test_redis_holds_names_and_not_a_word_of_a_customers(
    woken_context: AppContext, redis: Redis
) -> None:
    Intake(woken_context).accept(
        make_call_arrival(WORDS, name=WORDS, email="jane@practice.example")
    )
    open_ticket(
        woken_context,
        make_mail(WORDS, subject=WORDS, sender=Address(WORDS, "jane@practice.example")),
    )
    held = dump_redis(redis)
    for word in ("Jane", "March", "practice"):
        assert word.encode() not in held
    payloads = [
        json.loads(decompress(redis.hget(k, "data") or b"")) for k in redis.scan_iter("rq:job:*")
    ]
    assert sorted(payloads) == [
        ["workflow.background_jobs.run", None, [name], {}] for name in ("read", "send")
    ]


def test_a_worker_drains_everything_that_waits(woken_context: AppContext, burst: Any) -> None:
    intake = Intake(woken_context)
    for n in range(20):
        intake.accept(make_call_arrival(WORDS, email=f"c{n}@practice.example"))
    burst()
    assert (count_pending(woken_context), count_unsent_mails(woken_context)) == (0, 0)
    assert (
        count_rows(woken_context, Ticket)
        == len(list((woken_context.settings.home / "outbox").glob("*.eml")))
        == 20
    )


def test_a_job_that_breaks_leaves_no_text_of_a_customers_in_redis_or_the_log(
    notifier: JobNotifier,
    redis: Redis,
    burst: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(background_jobs.JOB_FUNCTIONS, "read", "tests.support.failing_job:work")
    notifier("read")
    burst()
    output = capfd.readouterr()
    assert "Jane" not in output.out + output.err
    assert b"Jane" not in dump_redis(redis)


# -- without hints ----


def test_flushall_loses_nothing_because_the_sweep_hints_again(
    woken_context: AppContext, redis: Redis, burst: Any
) -> None:
    intake = Intake(woken_context)
    for n in range(5):
        intake.accept(make_call_arrival(email=f"c{n}@practice.example"))
    redis.flushall()
    burst()
    assert count_pending(woken_context) == 5
    sweep.sweep(woken_context, redis_away=lambda: False)
    assert count_pending(woken_context) == 5  # the worker's work
    burst()
    assert (count_pending(woken_context), count_unsent_mails(woken_context)) == (0, 0)


def test_what_no_worker_takes_the_sweep_does_itself(
    woken_context: AppContext, redis: Redis, clock: HandClock
) -> None:
    Intake(woken_context).accept(make_call_arrival())
    redis.flushall()
    clock.turn(seconds=21)
    sweep.sweep(woken_context, redis_away=lambda: False)
    clock.turn(seconds=21)
    sweep.sweep(woken_context, redis_away=lambda: False)
    assert (count_pending(woken_context), count_unsent_mails(woken_context)) == (0, 0)


def test_without_redis_mail_still_becomes_tickets_and_notices_still_go_out(
    settings: Settings, sqlite_url: str, clock: HandClock
) -> None:
    notifier = JobNotifier(f"redis://127.0.0.1:{find_free_port()}")
    context = open_context(
        settings.model_copy(update={"database_url": sqlite_url}), notifier=notifier, clock=clock
    )
    Intake(context).accept(make_call_arrival())
    assert notifier.is_redis_away
    sweep.sweep(context, redis_away=lambda: notifier.is_redis_away)
    assert count_rows(context, Ticket) == 1
    sweep.sweep(
        context, redis_away=lambda: notifier.is_redis_away
    )  # the next round sends what the first one has queued
    assert count_rows(context, OutgoingMail, OutgoingMail.state == OutboxState.SENT) == 1
    context.close()
    notifier.close()


def test_a_redis_that_goes_and_comes_back_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Valkey()
    notifier = JobNotifier(server.url)
    monkeypatch.setattr(background_jobs, "_QUIET_SECONDS", 0)
    notifier("read")
    server.stop()
    notifier("read")
    assert notifier.is_redis_away
    server.start()
    notifier("read")
    assert not notifier.is_redis_away
    notifier.close()
    server.stop()


def test_a_redis_that_is_away_is_left_alone_for_a_while() -> None:
    server = Valkey()
    notifier = JobNotifier(server.url)
    server.stop()
    notifier("read")
    server.start()
    notifier("read")
    assert notifier.is_redis_away  # not asked again yet: it must not delay every mail
    notifier.close()
    server.stop()


# -- the sweep ----


def test_a_sweep_raises_overdue_tasks_and_says_it_is_alive(
    context: AppContext, clock: HandClock
) -> None:
    open_ticket(context)
    clock.turn(hours=73)
    sweep.sweep(context, redis_away=lambda: False)
    sweep.sweep(context, redis_away=lambda: False)
    assert count_rows(context, Task) == 2
    with context.store.read_only() as session:
        assert session.get_one(Heartbeat, "clock").at == clock()


def test_a_sweep_drains_the_spool(context: AppContext, notified_queues: RecordingNotifier) -> None:
    Spool(context.settings.home / SPOOL_FOLDER, context.sealer).store(make_call_arrival())
    sweep.sweep(context, redis_away=lambda: True)
    assert count_rows(context, Ticket) == 1
    assert "read" in notified_queues


def test_a_sweep_that_fails_is_followed_by_the_next(context: AppContext, tmp_path: Path) -> None:
    fast = context.settings.model_copy(
        update={"database_url": f"sqlite:///{tmp_path}/none/x.db", "sweep_seconds": 0.001}
    )
    away = open_context(fast, notifier=RecordingNotifier())
    stop, rounds = threading.Event(), list[int]()

    def redis_away() -> bool:
        return True

    original = sweep.sweep

    def counting(*args: Any, **kwargs: Any) -> None:
        rounds.append(1)
        if len(rounds) == 3:
            stop.set()
        original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "sweep", counting)
        sweep.run_clock(away, stop, redis_away=redis_away)
    away.close()
    assert len(rounds) == 3


def test_every_name_of_work_can_be_found(context: AppContext) -> None:
    for name in background_jobs.JOB_FUNCTIONS:
        assert background_jobs.do_work(name, context) == 0
