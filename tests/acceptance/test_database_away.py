"""The database away, hanging, slow or cut off.

Doors say "try again" in time, and everything catches up by itself.
"""

import gc
import os
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import psutil
import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import OperationalError

from ingest import intake
from ingest.intake import Arrival, Intake, Transport
from parsers.item import Format
from tests.support.context import HandClock, call, together
from tests.support.processes import Cable, Doors, OwnPostgres, until
from tests.support.servers import TEMPLATE, migrated
from workflow.context import AppContext, open_context
from workflow.database import engine
from workflow.database import postgres as bounded
from workflow.database.engine import Store
from workflow.models.core import Delivery, Receipt
from workflow.settings.settings import Settings

REFUSAL_SECONDS = 30  # the promise: 451 by then
SPOOL_SECONDS = 8  # 202 by then


@pytest.fixture(scope="module")
def _own() -> Iterator[OwnPostgres | str]:
    with migrated(OwnPostgres) as server:
        yield server


@pytest.fixture
def own(_own: OwnPostgres | str) -> Iterator[OwnPostgres]:
    """A PostgreSQL of this module's own, that may be frozen and ended: it runs again afterwards."""
    if isinstance(_own, str):
        pytest.skip(f"PostgreSQL left out: {_own}")
    yield _own
    _own.begin()
    _own.thaw()


@pytest.fixture
def doors(own: OwnPostgres, tmp_path: Path, request: pytest.FixtureRequest) -> Doors:
    """An installation on a database of its own on that server."""
    name = f"away{abs(hash(request.node.name))}"
    return Doors(tmp_path / "home", database_url=own.copy(name))


def stored(doors: Doors) -> int:
    """How many deliveries there are, as another process sees them."""
    away = Store(doors.environment["INTAKE_DATABASE_URL"])
    try:
        with away.read_only() as session:
            return session.scalar(select(func.count()).select_from(Delivery)) or 0
    finally:
        away.close()


def timed(act: Any) -> tuple[int, float]:
    began = time.monotonic()
    return act(), time.monotonic() - began


# -- real processes ----


def test_doors_open_while_the_database_is_away_and_catch_up_when_it_comes(
    own: OwnPostgres, doors: Doors
) -> None:
    own.end()
    with doors.process("smtp", opens=doors.smtp), doors.process("webhooks", opens=doors.webhook):
        assert doors.mail() == 451
        assert doors.form() == 202
        assert doors.form() == 202
        status, health = doors.health()
        assert (status, health["database"], health["spool"], health["spooled"]) == (
            200,
            False,
            True,
            2,
        )
        own.begin()
        until(lambda: doors.mail() == 250, 120)
        until(lambda: stored(doors) == 3, 120)  # no clock runs: the door drains its own spool
        until(lambda: doors.health()[1]["spooled"] == 0)
        assert doors.health() == (200, {**health, "database": True, "spooled": 0})


def test_a_database_that_hangs_is_refused_in_time_and_nothing_is_left_hanging(
    own: OwnPostgres, doors: Doors
) -> None:
    with (
        doors.process("smtp", opens=doors.smtp) as mails,
        doors.process("webhooks", opens=doors.webhook) as forms,
    ):
        assert (doors.mail(), doors.form(), stored(doors)) == (250, 202, 2)
        own.freeze()
        code, seconds = timed(doors.mail)
        assert (code, seconds < REFUSAL_SECONDS) == (451, True)
        for _ in range(3):
            status, seconds = timed(doors.form)
            assert (status, seconds < SPOOL_SECONDS) == (202, True)
        (status, health), seconds = timed(doors.health)  # type: ignore[assignment, misc]
        assert (status, health["database"], health["spooled"], seconds < 4) == (200, False, 3, True)
        assert timed(doors.form)[1] < 2, "it is known that the database is away"
        own.thaw()
        until(lambda: doors.mail() == 250, 120)
        until(lambda: doors.health()[1]["spooled"] == 0, 120)
        assert stored(doors) == 7
        before = [p.num_threads() for p in (mails, forms)]
        own.freeze()
        answers: list[int] = []
        together(
            *[lambda: answers.append(doors.mail())] * 5, *[lambda: answers.append(doors.form())] * 5
        )
        assert sorted(answers) == [202] * 5 + [451] * 5
        own.thaw()
        until(lambda: doors.mail() == 250, 120)
        until(lambda: doors.health()[1]["spooled"] == 0, 120)
        assert [p.num_threads() - b <= 10 for p, b in zip((mails, forms), before, strict=True)] == [
            True,
            True,
        ]
        assert [connections(p) <= 3 for p in (mails, forms)] == [True, True]


def connections(process: psutil.Popen) -> int:
    """How many it has to PostgreSQL."""
    return sum("PGSQL" in str(c.raddr) for c in process.net_connections("unix"))


def test_up_starts_without_its_database_and_makes_the_tables_when_it_comes(
    own: OwnPostgres, tmp_path: Path
) -> None:
    own.run("CREATE DATABASE fresh")
    own.end()
    doors, log = Doors(tmp_path / "home", database_url=own.url("fresh")), tmp_path / "up.log"
    with doors.process("up", opens=doors.webhook, log=log):
        until(lambda: "support-intake is running" in log.read_text())
        assert "the database does not answer" in log.read_text()
        assert (doors.mail(), doors.form()) == (451, 202)
        own.begin()
        until(lambda: "has the newest schema" in log.read_text(), 120)
        until(lambda: doors.mail() == 250, 120)
        until(lambda: tickets(doors) == 2, 120)


def tickets(doors: Doors) -> int:
    shown = doors.command("tickets", "--json")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.count('"stage"')


@pytest.mark.parametrize("name", ["smtp", "webhooks", "worker", "clock"])
def test_a_database_that_answers_without_our_tables_is_told_at_once(
    own: OwnPostgres, tmp_path: Path, name: str
) -> None:
    own.run("DROP DATABASE IF EXISTS bare")
    own.run("CREATE DATABASE bare")
    done = Doors(tmp_path / "home", database_url=own.url("bare")).command(name)
    assert done.returncode == 75
    assert "intake migrate" in done.stderr


# -- statements ----


@pytest.fixture
def impatient(own: OwnPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store whose statements may take a second."""
    monkeypatch.setattr(engine, "WRITE_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(bounded, "PING_SECONDS", 1.0)
    monkeypatch.setattr(bounded.BoundedConnection, "statement_seconds", 1.0)
    monkeypatch.setattr(bounded, "CANCEL_SECONDS", 0.5)
    made = Store(own.url(TEMPLATE))
    yield made
    own.thaw()
    made.close()


def sleep(made: Store, seconds: float) -> None:
    with made.transaction() as session:
        session.execute(text(f"SELECT pg_sleep({seconds})"))


def connected(made: Store) -> int:
    """Which connection of the server's a transaction has."""
    with made.transaction() as session:
        return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_a_slow_statement_is_stopped_at_the_server_and_its_connection_stays(
    impatient: Store,
) -> None:
    number = connected(impatient)
    with pytest.raises(OperationalError) as raised:
        sleep(impatient, 30)
    assert type(raised.value.orig).__name__ == "QueryCanceled"
    assert connected(impatient) == number


def test_a_silent_server_costs_the_connection_and_the_next_one_is_good(
    impatient: Store, own: OwnPostgres
) -> None:
    number = connected(impatient)
    Thread(target=lambda: (time.sleep(0.3), own.freeze())).start()
    with pytest.raises(OperationalError) as raised:
        sleep(impatient, 0.6)
    assert type(raised.value.orig).__name__ == "NoAnswerError"
    own.thaw()
    assert connected(impatient) != number


def test_reading_whole_tables_and_migrating_may_take_their_time(impatient: Store) -> None:
    with impatient.read_only() as session:
        session.execute(text("SELECT pg_sleep(1.5)"))
    with impatient.engine.execution_options(statement_seconds=None).connect() as connection:
        connection.execute(text("SELECT pg_sleep(1.5)"))


def test_a_lock_that_another_holds_is_not_waited_for_for_ever(impatient: Store) -> None:
    with impatient.transaction() as holder:
        holder.execute(text("LOCK TABLE staff"))
        with pytest.raises(OperationalError), impatient.transaction() as session:
            session.execute(text("SELECT 1 FROM staff"))


def test_every_connection_is_bounded(impatient: Store) -> None:
    with impatient.read_only() as session:
        settings = [
            session.scalar(text(f"SHOW {name}"))
            for name in ("lock_timeout", "idle_in_transaction_session_timeout")
        ]
    assert settings == ["10s", "1min"]


def test_what_the_url_says_about_connecting_goes_before_ours(own: OwnPostgres) -> None:
    made = Store(own.url(TEMPLATE) + "&connect_timeout=7")
    with made.engine.connect() as connection:
        driven: Any = connection.connection.dbapi_connection
        told = driven.info.get_parameters()
    made.close()
    assert (told["connect_timeout"], told["tcp_user_timeout"]) == ("7", "20000")


def test_the_bounds_of_a_store_leave_a_door_time_to_answer() -> None:
    connecting = float(bounded.CONNECTION_OPTIONS["connect_timeout"])
    idle = (
        bounded.PING_SECONDS + bounded.CANCEL_SECONDS + connecting
    )  # a pooled connection, then a new one
    busy = engine.WRITE_TIMEOUT_SECONDS + 2 * bounded.CANCEL_SECONDS
    assert (
        max(idle, busy, engine.BUSY_TIMEOUT_SECONDS)
        < Settings().smtp_store_seconds
        < REFUSAL_SECONDS
    )


# -- accept ----


def test_a_commit_whose_answer_is_lost_is_no_yes_and_the_repeat_is_the_same_delivery(
    own: OwnPostgres, settings: Settings, clock: HandClock
) -> None:
    name = "cut"
    own.copy(name)
    with TemporaryDirectory() as folder:  # a short path, as Unix sockets want it
        cable = Cable(own.sockets, Path(folder))
        url = own.url(name).replace(str(own.sockets), folder)
        context = open_context(settings.model_copy(update={"database_url": url}), clock=clock)
        door, arrival = Intake(context).accept, replace(call(), reference="7")
        door(call())
        cable.bad = True
        with pytest.raises(OperationalError):
            door(arrival)
        cable.bad = False
        number = door(replace(arrival, reference="8"))
        with context.store.read_only() as session:
            told = session.execute(
                select(Receipt.repeated, Receipt.reference)
                .where(Receipt.delivery_id == number)
                .order_by(Receipt.id)
            )
            assert [tuple(one) for one in told] == [(False, "7"), (True, "8")]
        context.close()
        cable.close()


def test_each_time_something_comes_has_a_receipt_with_the_doors_own_name_for_it(
    any_context: AppContext,
) -> None:
    arrival = call()
    names = ["inbox;1/7", "", "inbox;2/9", "\0odd" + "x" * 900]
    for name in names:
        Intake(any_context).accept(replace(arrival, reference=name))
    with any_context.store.read_only() as session:
        told = list(session.scalars(select(Receipt.reference).order_by(Receipt.id)))
    assert told[:3] == names[:3]
    assert (told[3][:4], len(told[3])) == ("\ufffdodd", 800)


def test_what_could_not_be_stored_is_not_kept_in_memory(context: AppContext) -> None:
    """Errors lead to frames and frames to errors.

    Such a circle holds what was to be stored until somebody looks.
    """
    event.listen(context.store.engine, "connect", lambda c, _: c.execute("PRAGMA max_page_count=1"))
    context.store.close()
    door, size = Intake(context).accept, 200_000

    def fail() -> None:
        with pytest.raises(OperationalError):
            door(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=os.urandom(size)))

    fail()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            assert together(*[fail] * 4) == []
        assert tracemalloc.get_traced_memory()[0] < size
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_database_that_goes_away_while_a_bad_arrival_is_sorted_out_is_asked_once_more_only(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, tries = Intake(context), list[int]()

    def away(batch: list[Any]) -> None:
        tries.append(len(batch))
        raise OperationalError("", {}, Exception()) if len(batch) == 1 else ValueError

    monkeypatch.setattr(door, "_commit_together", away)
    queued = [intake._PendingArrival(call(), context.blob_store) for _ in range(5)]
    door._queue.extend(queued)
    with pytest.raises(OperationalError):
        door.accept(call())
    assert tries == [6, 1]
    assert all(one.done and one.error for one in queued)
