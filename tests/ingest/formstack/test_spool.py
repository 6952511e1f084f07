"""The spool: forms acknowledged while the database was away are kept and stored later."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select
from sqlalchemy.exc import DataError, OperationalError

from ingest.formstack import spool as spooling
from ingest.formstack.spool import SPOOL_FOLDER, Spool, SpoolDrainer, drain
from ingest.intake import Accept, Arrival, Intake, Transport
from parsers.item import Format
from tests.support.context import HandClock, count_rows, run_in_threads
from tests.support.servers import Postgres
from tests.support.smtp_client import until
from workflow.context import AppContext, open_context
from workflow.database.engine import migrate
from workflow.models.core import Delivery, Receipt, SelfCheck
from workflow.models.states import DeliveryState
from workflow.operations.status import collect_status
from workflow.runtime.crypto import Sealer

FORM = Arrival(
    transport=Transport.FORMSTACK,
    format=Format.FORMSTACK,
    raw=b"FormID=1&name=Jane+Roe\xff",
    envelope={"form": "1"},
)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that answers but has no tables yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    server.run("CREATE DATABASE empty")
    yield server.build_url("empty")
    server.drop("empty")


@pytest.fixture
def spool(context: AppContext) -> Spool:
    return Spool(context.settings.home / SPOOL_FOLDER, context.sealer)


def test_what_was_spooled_is_in_the_database_afterwards_as_it_came(
    context: AppContext, spool: Spool
) -> None:
    spool.store(FORM)
    assert drain(context) == 1
    with context.store.read_only() as session:
        delivery = session.scalars(select(Delivery)).one()
        assert context.blob_store.read(delivery.content, delivery.blob) == FORM.raw
        assert (delivery.transport, delivery.format, delivery.envelope) == (
            "formstack",
            Format.FORMSTACK,
            {"form": "1"},
        )
        assert delivery.state is DeliveryState.PENDING
    assert spool.list_waiting() == []
    assert drain(context) == 0


def test_an_empty_spool_has_nothing_to_drain(context: AppContext) -> None:
    assert drain(context) == 0


def test_the_deadline_runs_from_when_the_sender_heard_yes(
    context: AppContext, spool: Spool, clock: HandClock
) -> None:
    spool.store(replace(FORM, received_at=clock()))
    clock.turn(hours=5)
    drain(context)
    with context.store.read_only() as session:
        stored = session.scalars(select(Delivery)).one()
        assert stored.received_at == clock() - timedelta(hours=5)
        assert stored.not_before == clock()


def test_a_form_spooled_twice_is_one_delivery(context: AppContext, spool: Spool) -> None:
    spool.store(FORM)
    spool.store(FORM)
    assert len(spool.list_waiting()) == 2
    assert drain(context) == 2
    assert (count_rows(context, Delivery), count_rows(context, Receipt)) == (1, 2)


def test_nothing_in_the_spool_is_readable(context: AppContext, spool: Spool) -> None:
    spool.store(FORM)
    folder = context.settings.home / SPOOL_FOLDER
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        assert b"Jane" not in path.read_bytes()


def test_while_the_database_is_away_everything_stays_in_the_spool(
    context: AppContext, spool: Spool, tmp_path: Path
) -> None:
    for n in range(3):
        spool.store(
            Arrival(
                transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=f"FormID={n}".encode()
            )
        )
    away = open_context(
        context.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/no/such/x.db"})
    )
    assert drain(away) == 0
    away.close()
    assert len(spool.list_waiting()) == 3
    assert drain(context) == 3


def test_forms_stay_in_the_spool_until_a_database_that_came_back_is_migrated(
    context: AppContext, spool: Spool, empty_database_url: str
) -> None:
    spool.store(FORM)
    settings = context.settings.model_copy(update={"database_url": empty_database_url})
    reopened_context = open_context(settings)
    assert drain(reopened_context) == 0
    assert (len(spool.list_waiting()), spool.count_damaged()) == (1, 0)
    migrate(empty_database_url)
    assert drain(reopened_context) == 1
    assert count_rows(reopened_context, Delivery) == 1
    reopened_context.close()


def test_a_crash_between_the_commit_and_the_unlink_stores_nothing_twice(
    context: AppContext, spool: Spool
) -> None:
    spool.store(FORM)
    (path,) = spool.list_waiting()
    kept = path.read_bytes()
    drain(context)
    path.write_bytes(kept)
    assert drain(context) == 1
    assert count_rows(context, Delivery) == 1


@pytest.mark.parametrize(
    "damage",
    [b"", b"garbage", Sealer([Fernet.generate_key()]).seal(b"{}")],
    ids=["empty", "garbage", "another key"],
)
def test_a_file_that_does_not_open_is_kept_and_holds_up_no_other(
    context: AppContext, spool: Spool, damage: bytes
) -> None:
    spool.store(FORM)
    (first,) = spool.list_waiting()
    first.write_bytes(damage)
    spool.store(FORM)
    assert drain(context) == 1
    assert drain(context) == 0
    assert [p.read_bytes() for p in (context.settings.home / SPOOL_FOLDER).iterdir()] == [damage]


def test_what_the_database_will_never_take_is_set_aside_and_holds_up_no_other(
    context: AppContext, spool: Spool
) -> None:
    for name in (b"1", b"2", b"3"):
        spool.store(replace(FORM, raw=name))
    contents: list[bytes] = []

    def accept(arrival: Arrival) -> int:
        if arrival.raw == b"2":
            raise DataError("", {}, Exception())
        contents.append(arrival.raw)
        return 1

    assert drain(context, accept) == 2
    assert (sorted(contents), spool.list_waiting(), spool.count_damaged()) == ([b"1", b"3"], [], 1)


def test_a_sealed_file_of_another_program_is_set_aside(context: AppContext, spool: Spool) -> None:
    spool.store(FORM)
    spool.list_waiting()[0].write_bytes(context.sealer.seal(b'{"transport": "formstack"}'))
    assert drain(context) == 0
    assert spool.count_damaged() == 1


def test_a_spool_that_somebody_else_drains_is_left_to_them(
    context: AppContext, spool: Spool
) -> None:
    spool.store(FORM)
    descriptor = os.open(context.settings.home / SPOOL_FOLDER, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert drain(context) == 0
    os.close(descriptor)
    assert drain(context) == 1


def drain_until(context: AppContext, want: Callable[[], bool]) -> None:
    """Let a drainer go round until it has done what is wanted."""
    stop = threading.Event()
    thread = threading.Thread(
        target=SpoolDrainer(context, Intake(context).accept).run, args=(stop,)
    )
    thread.start()
    try:
        until(want)
    finally:
        stop.set()
        thread.join()


def list_faults(context: AppContext) -> list[str]:
    with context.store.read_only() as session:
        return list(
            session.scalars(select(SelfCheck.fault).where(SelfCheck.name.startswith("spool ")))
        )


def test_the_webhook_drains_its_spool_and_reports_what_does_not_open_until_the_key_is_back(
    context: AppContext, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "DRAIN_SECONDS", 0.01)
    other = Fernet.generate_key()
    spool.store(FORM)
    Spool(context.settings.home / SPOOL_FOLDER, Sealer([other])).store(
        replace(FORM, raw=b"FormID=2")
    )
    drain_until(
        context, lambda: list_faults(context) != [""] and count_rows(context, Delivery) == 1
    )
    assert [fault[:7] for fault in list_faults(context)] == ["1 forms"]
    assert list_faults(context)[0] in collect_status(context).needs
    both = replace(context, sealer=Sealer([Fernet.generate_key(), other]))
    drain_until(both, lambda: list_faults(context) == [""])
    assert count_rows(context, Delivery) == 2


def test_a_drainer_goes_on_whatever_happens(
    context: AppContext, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "DRAIN_SECONDS", 0.01)
    troubles: list[Exception] = [RuntimeError(), OSError(), OperationalError("", {}, Exception())]
    really = spooling.drain

    def drain_or_not(context: AppContext, accept: Accept) -> int:
        if troubles:
            raise troubles.pop()
        return really(context, accept)

    monkeypatch.setattr(spooling, "drain", drain_or_not)
    spool.store(FORM)
    drain_until(context, lambda: count_rows(context, Delivery) == 1)


def test_what_a_killed_process_left_half_written_is_removed_an_hour_later(
    context: AppContext, spool: Spool
) -> None:
    spool.store(FORM)
    folder = context.settings.home / SPOOL_FOLDER
    now = folder.stat().st_mtime
    for name, age in (("old.sealed.1.2.new", 3700.0), ("young.sealed.1.3.new", 10.0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (now - age, now - age))
    os.utime(folder, (now, now))
    spool.remove_leftovers()
    assert {path.name for path in folder.iterdir()} == {
        spool.list_waiting()[0].name,
        "young.sealed.1.3.new",
    }


def test_a_half_written_file_is_not_taken(context: AppContext, spool: Spool) -> None:
    spool.store(FORM)
    (path,) = spool.list_waiting()
    path.rename(path.with_name(path.name + ".new"))
    assert spool.list_waiting() == []
    assert drain(context) == 0


def test_two_who_drain_at_once_store_everything_once(context: AppContext, spool: Spool) -> None:
    for n in range(10):
        spool.store(
            Arrival(
                transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=f"FormID={n}".encode()
            )
        )
    assert run_in_threads(*[lambda: drain(context)] * 3) == []
    drain(context)
    assert count_rows(context, Delivery) == 10
    assert spool.list_waiting() == []


def test_a_spool_that_cannot_be_written_says_so(context: AppContext) -> None:
    (context.settings.home / SPOOL_FOLDER).write_text("not a folder")
    with pytest.raises(OSError, match=r"."):
        Spool(context.settings.home / SPOOL_FOLDER, context.sealer).store(FORM)
