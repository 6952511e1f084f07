"""The database away, hanging, slow or cut off.

Channels answer "try again" in time, and everything catches up by itself.
"""

import gc
import os
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import OperationalError

from ingest import intake
from ingest.intake import Arrival, Intake, Transport
from parsers.item import Format
from tests.support.context import HandClock, make_call_arrival, run_in_threads
from tests.support.processes import Cable, Installation, OwnPostgres, until
from tests.support.servers import TEMPLATE, run_migrated
from webhooks.app import STORE_SECONDS
from workflow.context import AppContext, open_context
from workflow.database import engine
from workflow.database import postgres as bounded
from workflow.database.engine import Store
from workflow.models.core import Delivery, Receipt
from workflow.settings.settings import Settings

REFUSAL_SECONDS = 30  # 451 is guaranteed by then


@pytest.fixture(scope="module")
def _server() -> Iterator[OwnPostgres | str]:
    with run_migrated(OwnPostgres) as server:
        yield server


@pytest.fixture
def server(_server: OwnPostgres | str) -> Iterator[OwnPostgres]:
    """A PostgreSQL for this module, which may be frozen and ended: it runs again afterwards."""
    if isinstance(_server, str):
        pytest.skip(f"PostgreSQL left out: {_server}")
    yield _server
    _server.begin()
    _server.thaw()


@pytest.fixture
def installation(
    server: OwnPostgres, tmp_path: Path, request: pytest.FixtureRequest
) -> Installation:
    """An installation on a database of its own on that server."""
    name = f"away{abs(hash(request.node.name))}"
    return Installation(tmp_path / "home", database_url=server.copy(name))


def count_deliveries(installation: Installation) -> int:
    """Return the number of deliveries, as another process sees it."""
    store = Store(installation.environment["INTAKE_DATABASE_URL"])
    try:
        with store.read_only() as session:
            return session.scalar(select(func.count()).select_from(Delivery)) or 0
    finally:
        store.close()


def measure(act: Any) -> tuple[Any, float]:
    """Return the result of a call and the seconds it took."""
    began = time.monotonic()
    return act(), time.monotonic() - began


# -- real processes ----


def test_channels_open_while_the_database_is_away_and_catch_up_when_it_comes(
    server: OwnPostgres, installation: Installation
) -> None:
    server.end()
    with (
        installation.process("smtp", opens=installation.smtp),
        installation.process("webhooks", opens=installation.webhook),
    ):
        assert installation.send_mail() == 451
        assert installation.post_form() == 202
        assert installation.post_form() == 202
        status, health = installation.get_health()
        assert (status, health["database"], health["spool"], health["spooled"]) == (
            200,
            False,
            True,
            2,
        )
        server.begin()
        until(lambda: installation.send_mail() == 250, 120)
        until(
            lambda: count_deliveries(installation) == 3, 120
        )  # no clock runs: `webhooks` drains its own spool
        until(lambda: installation.get_health()[1]["spooled"] == 0)
        assert installation.get_health() == (200, {**health, "database": True, "spooled": 0})


def test_a_database_that_hangs_is_refused_in_time_and_nothing_is_left_hanging(
    server: OwnPostgres, installation: Installation
) -> None:
    with (
        installation.process("smtp", opens=installation.smtp) as mails,
        installation.process("webhooks", opens=installation.webhook) as forms,
    ):
        assert (
            installation.send_mail(),
            installation.post_form(),
            count_deliveries(installation),
        ) == (
            250,
            202,
            2,
        )
        server.freeze()
        code, seconds = measure(installation.send_mail)
        assert (code, seconds < REFUSAL_SECONDS) == (451, True)
        forms_during_outage = [measure(installation.post_form) for _ in range(4)]
        assert [status for status, _ in forms_during_outage] == [202] * 4
        durations = [seconds for _, seconds in forms_during_outage]
        assert max(durations) < REFUSAL_SECONDS
        # once the outage is known, a form goes into the spool without waiting for the database
        assert min(durations) < STORE_SECONDS
        (status, health), seconds = measure(installation.get_health)
        assert (status, health["database"], health["spooled"]) == (200, False, 4)
        assert seconds < REFUSAL_SECONDS
        server.thaw()
        until(lambda: installation.send_mail() == 250, 120)
        until(lambda: installation.get_health()[1]["spooled"] == 0, 120)
        assert count_deliveries(installation) == 7
        threads_before = [p.num_threads() for p in (mails, forms)]
        server.freeze()
        answers: list[int] = []
        run_in_threads(
            *[lambda: answers.append(installation.send_mail())] * 5,
            *[lambda: answers.append(installation.post_form())] * 5,
        )
        assert sorted(answers) == [202] * 5 + [451] * 5
        server.thaw()
        until(lambda: installation.send_mail() == 250, 120)
        until(lambda: installation.get_health()[1]["spooled"] == 0, 120)
        for process, threads in zip((mails, forms), threads_before, strict=True):
            until(lambda p=process, most=threads + 10: p.num_threads() <= most)
            until(lambda p=process: count_connections(p) <= 3)


def count_connections(process: psutil.Popen) -> int:
    """Return how many connections a process has to PostgreSQL."""
    return sum("PGSQL" in str(c.raddr) for c in process.net_connections("unix"))


def test_up_starts_without_its_database_and_makes_the_tables_when_it_comes(
    server: OwnPostgres, tmp_path: Path
) -> None:
    server.run("CREATE DATABASE fresh")
    server.end()
    installation, log = (
        Installation(tmp_path / "home", database_url=server.build_url("fresh")),
        tmp_path / "up.log",
    )
    with installation.process("up", opens=installation.webhook, log=log):
        until(lambda: "support-intake is running" in log.read_text())
        assert "the database does not answer" in log.read_text()
        assert (installation.send_mail(), installation.post_form()) == (451, 202)
        server.begin()
        until(lambda: "has the newest schema" in log.read_text(), 120)
        until(lambda: installation.send_mail() == 250, 120)
        until(lambda: count_tickets(installation) == 2, 120)


def count_tickets(installation: Installation) -> int:
    listing = installation.run_command("tickets", "--json")
    assert listing.returncode == 0, listing.stderr
    return listing.stdout.count('"stage"')


@pytest.mark.parametrize("name", ["smtp", "webhooks", "worker", "clock"])
def test_a_process_ends_at_once_when_the_database_answers_without_our_tables(
    server: OwnPostgres, tmp_path: Path, name: str
) -> None:
    server.run("DROP DATABASE IF EXISTS bare")
    server.run("CREATE DATABASE bare")
    ended = Installation(tmp_path / "home", database_url=server.build_url("bare")).run_command(name)
    assert ended.returncode == 75
    assert "intake migrate" in ended.stderr


# -- statements ----


@pytest.fixture
def impatient_store(server: OwnPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store whose statements may take a second: enough for those that are not held up."""
    monkeypatch.setattr(engine, "WRITE_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(bounded, "PING_SECONDS", 1.0)
    monkeypatch.setattr(bounded.BoundedConnection, "statement_seconds", 1.0)
    monkeypatch.setattr(bounded, "CANCEL_SECONDS", 0.5)
    store = Store(server.build_url(TEMPLATE))
    yield store
    server.thaw()
    store.close()


def run_slow_statement(store: Store, seconds: float) -> None:
    with store.transaction() as session:
        session.execute(text(f"SELECT pg_sleep({seconds})"))


def run_statement_on_frozen_server(store: Store, server: OwnPostgres) -> None:
    """Freeze the server in the middle of a transaction, which then wants an answer."""
    with store.transaction() as session:
        session.execute(text("SELECT 1"))
        server.freeze()
        session.execute(text("SELECT 1"))


def get_backend_pid(store: Store) -> int:
    """Return the id of the server process that serves the pooled connection."""
    with store.transaction() as session:
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_a_slow_statement_is_stopped_at_the_server_and_its_connection_stays(
    impatient_store: Store,
) -> None:
    number = get_backend_pid(impatient_store)
    with pytest.raises(OperationalError) as raised:
        run_slow_statement(impatient_store, 30)
    assert type(raised.value.orig).__name__ == "QueryCanceled"
    assert get_backend_pid(impatient_store) == number


def test_a_silent_server_costs_the_connection_and_the_next_one_is_good(
    impatient_store: Store, server: OwnPostgres
) -> None:
    number = get_backend_pid(impatient_store)
    with pytest.raises(OperationalError) as raised:
        run_statement_on_frozen_server(impatient_store, server)
    assert type(raised.value.orig).__name__ == "NoAnswerError"
    server.thaw()
    assert get_backend_pid(impatient_store) != number


def test_reading_whole_tables_and_migrating_may_take_their_time(impatient_store: Store) -> None:
    with impatient_store.read_only() as session:
        session.execute(text("SELECT pg_sleep(1.5)"))
    with impatient_store.engine.execution_options(statement_seconds=None).connect() as connection:
        connection.execute(text("SELECT pg_sleep(1.5)"))


def test_a_lock_that_another_holds_is_not_waited_for_for_ever(impatient_store: Store) -> None:
    with impatient_store.transaction() as holder:
        holder.execute(text("LOCK TABLE staff"))
        with pytest.raises(OperationalError), impatient_store.transaction() as session:
            session.execute(text("SELECT 1 FROM staff"))


def test_every_connection_is_bounded(impatient_store: Store) -> None:
    with impatient_store.read_only() as session:
        settings = [
            session.scalar(text(f"SHOW {name}"))
            for name in ("lock_timeout", "idle_in_transaction_session_timeout")
        ]
    assert settings == ["10s", "1min"]


def test_connection_options_in_the_url_override_ours(server: OwnPostgres) -> None:
    store = Store(server.build_url(TEMPLATE) + "&connect_timeout=7")
    with store.engine.connect() as connection:
        driven: Any = connection.connection.dbapi_connection
        parameters = driven.info.get_parameters()
    store.close()
    assert (parameters["connect_timeout"], parameters["tcp_user_timeout"]) == ("7", "20000")


def test_the_time_limits_of_a_store_leave_a_channel_time_to_answer() -> None:
    connecting = float(bounded.CONNECTION_OPTIONS["connect_timeout"])
    # a pooled connection, then a new one
    idle = bounded.PING_SECONDS + bounded.CANCEL_SECONDS + connecting
    busy = engine.WRITE_TIMEOUT_SECONDS + 2 * bounded.CANCEL_SECONDS
    assert (
        max(idle, busy, engine.BUSY_TIMEOUT_SECONDS)
        < Settings().smtp_store_seconds
        < REFUSAL_SECONDS
    )


# -- accept ----


def test_a_commit_whose_answer_is_lost_is_not_acknowledged_and_its_repeat_is_one_delivery(
    server: OwnPostgres, settings: Settings, clock: HandClock
) -> None:
    name = "cut"
    server.copy(name)
    with TemporaryDirectory() as folder:  # a short path, as Unix sockets want it
        cable = Cable(server.sockets, Path(folder))
        url = server.build_url(name).replace(str(server.sockets), folder)
        context = open_context(settings.model_copy(update={"database_url": url}), clock=clock)
        accept, arrival = Intake(context).accept, replace(make_call_arrival(), reference="7")
        accept(make_call_arrival())
        cable.bad = True
        with pytest.raises(OperationalError):
            accept(arrival)
        cable.bad = False
        number = accept(replace(arrival, reference="8"))
        with context.store.read_only() as session:
            receipts = session.execute(
                select(Receipt.repeated, Receipt.reference)
                .where(Receipt.delivery_id == number)
                .order_by(Receipt.id)
            )
            assert [tuple(receipt) for receipt in receipts] == [(False, "7"), (True, "8")]
        context.close()
        cable.close()


def test_every_arrival_has_a_receipt_with_the_reference_of_its_channel(
    any_context: AppContext,
) -> None:
    arrival = make_call_arrival()
    names = ["inbox;1/7", "", "inbox;2/9", "\0odd" + "x" * 900]
    for name in names:
        Intake(any_context).accept(replace(arrival, reference=name))
    with any_context.store.read_only() as session:
        references = list(session.scalars(select(Receipt.reference).order_by(Receipt.id)))
    assert references[:3] == names[:3]
    assert (references[3][:4], len(references[3])) == ("\ufffdodd", 800)


def test_an_arrival_that_could_not_be_stored_is_freed_from_memory(context: AppContext) -> None:
    """Errors refer to frames and frames to errors: such a cycle must not hold the arrival."""
    event.listen(context.store.engine, "connect", lambda c, _: c.execute("PRAGMA max_page_count=1"))
    context.store.close()
    accept, size = Intake(context).accept, 200_000

    def fail() -> None:
        with pytest.raises(OperationalError):
            accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=os.urandom(size)))

    fail()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            assert run_in_threads(*[fail] * 4) == []
        assert tracemalloc.get_traced_memory()[0] < size
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_database_that_goes_away_while_a_bad_arrival_is_isolated_is_asked_only_once_more(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepting, tries = Intake(context), list[int]()

    def away(batch: list[Any]) -> None:
        tries.append(len(batch))
        raise OperationalError("", {}, Exception()) if len(batch) == 1 else ValueError

    monkeypatch.setattr(accepting, "_commit_together", away)
    queued_arrivals = [
        intake._PendingArrival(make_call_arrival(), context.blob_store) for _ in range(5)
    ]
    accepting._queue.extend(queued_arrivals)
    with pytest.raises(OperationalError):
        accepting.accept(make_call_arrival())
    assert tries == [6, 1]
    assert all(pending.is_done and pending.error for pending in queued_arrivals)
