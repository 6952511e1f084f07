"""The spool: what a form's sender was promised while the database was away."""

import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select
from sqlalchemy.exc import DataError, OperationalError

from ingest.formstack import spool as spooling
from ingest.formstack.spool import SPOOL, Drainer, Spool, drain
from ingest.intake import Accept, Arrival, Intake, Transport
from parsers.item import Format
from tests.support.context import HandClock, counted, together
from tests.support.smtp_client import until
from workflow.context import House, open_house
from workflow.models.core import Check, Delivery, Receipt
from workflow.models.states import DeliveryState
from workflow.operations.status import report
from workflow.runtime.crypto import Sealer

FORM = Arrival(
    transport=Transport.FORMSTACK,
    format=Format.FORMSTACK,
    raw=b"FormID=1&name=Jane+Roe\xff",
    envelope={"form": "1"},
)


@pytest.fixture
def spool(house: House) -> Spool:
    return Spool(house.settings.home / SPOOL, house.sealer)


def test_what_was_spooled_is_in_the_database_afterwards_as_it_came(
    house: House, spool: Spool
) -> None:
    spool.put(FORM)
    assert drain(house) == 1
    with house.store.reading() as session:
        stored = session.scalars(select(Delivery)).one()
        assert house.vault.open(stored.content, stored.blob) == FORM.raw
        assert (stored.transport, stored.format, stored.envelope) == (
            "formstack",
            Format.FORMSTACK,
            {"form": "1"},
        )
        assert stored.state is DeliveryState.PENDING
    assert spool.waiting() == []
    assert drain(house) == 0


def test_an_empty_house_has_nothing_to_drain(house: House) -> None:
    assert drain(house) == 0


def test_the_deadline_runs_from_when_the_sender_heard_yes(
    house: House, spool: Spool, clock: HandClock
) -> None:
    spool.put(replace(FORM, received_at=clock()))
    clock.turn(hours=5)
    drain(house)
    with house.store.reading() as session:
        stored = session.scalars(select(Delivery)).one()
        assert stored.received_at == clock() - timedelta(hours=5)
        assert stored.not_before == clock()


def test_a_form_spooled_twice_is_one_delivery(house: House, spool: Spool) -> None:
    spool.put(FORM)
    spool.put(FORM)
    assert len(spool.waiting()) == 2
    assert drain(house) == 2
    assert (counted(house, Delivery), counted(house, Receipt)) == (1, 2)


def test_nothing_in_the_spool_is_readable(house: House, spool: Spool) -> None:
    spool.put(FORM)
    folder = house.settings.home / SPOOL
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        assert b"Jane" not in path.read_bytes()


def test_while_the_database_is_away_everything_stays_in_the_spool(
    house: House, spool: Spool, tmp_path: Path
) -> None:
    for n in range(3):
        spool.put(
            Arrival(
                transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=f"FormID={n}".encode()
            )
        )
    away = open_house(
        house.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/no/such/x.db"})
    )
    assert drain(away) == 0
    away.close()
    assert len(spool.waiting()) == 3
    assert drain(house) == 3


def test_a_crash_between_the_commit_and_the_unlink_stores_nothing_twice(
    house: House, spool: Spool
) -> None:
    spool.put(FORM)
    (path,) = spool.waiting()
    kept = path.read_bytes()
    drain(house)
    path.write_bytes(kept)
    assert drain(house) == 1
    assert counted(house, Delivery) == 1


@pytest.mark.parametrize(
    "damage",
    [b"", b"garbage", Sealer([Fernet.generate_key()]).seal(b"{}")],
    ids=["empty", "garbage", "another key"],
)
def test_a_file_that_does_not_open_is_kept_and_holds_up_no_other(
    house: House, spool: Spool, damage: bytes
) -> None:
    spool.put(FORM)
    (first,) = spool.waiting()
    first.write_bytes(damage)
    spool.put(FORM)
    assert drain(house) == 1
    assert drain(house) == 0
    assert [p.read_bytes() for p in (house.settings.home / SPOOL).iterdir()] == [damage]


def test_what_the_database_will_never_take_is_set_aside_and_holds_up_no_other(
    house: House, spool: Spool
) -> None:
    for name in (b"1", b"2", b"3"):
        spool.put(replace(FORM, raw=name))
    taken: list[bytes] = []

    def accept(arrival: Arrival) -> int:
        if arrival.raw == b"2":
            raise DataError("", {}, Exception())
        taken.append(arrival.raw)
        return 1

    assert drain(house, accept) == 2
    assert (sorted(taken), spool.waiting(), spool.damaged()) == ([b"1", b"3"], [], 1)


def test_a_sealed_file_of_another_program_is_set_aside(house: House, spool: Spool) -> None:
    spool.put(FORM)
    spool.waiting()[0].write_bytes(house.sealer.seal(b'{"transport": "formstack"}'))
    assert drain(house) == 0
    assert spool.damaged() == 1


def test_a_spool_that_somebody_else_drains_is_left_to_them(house: House, spool: Spool) -> None:
    spool.put(FORM)
    descriptor = os.open(house.settings.home / SPOOL, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert drain(house) == 0
    os.close(descriptor)
    assert drain(house) == 1


def rounds(house: House, want: Callable[[], bool]) -> None:
    """Let a drainer go round until it has done what is wanted."""
    stop = threading.Event()
    thread = threading.Thread(target=Drainer(house, Intake(house).accept).run, args=(stop,))
    thread.start()
    try:
        until(want)
    finally:
        stop.set()
        thread.join()


def faults(house: House) -> list[str]:
    with house.store.reading() as session:
        return list(session.scalars(select(Check.fault).where(Check.name.startswith("spool "))))


def test_the_door_drains_its_spool_and_tells_a_person_of_what_does_not_open_until_the_key_is_back(
    house: House, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "DRAIN_SECONDS", 0.01)
    other = Fernet.generate_key()
    spool.put(FORM)
    Spool(house.settings.home / SPOOL, Sealer([other])).put(replace(FORM, raw=b"FormID=2"))
    rounds(house, lambda: faults(house) != [""] and counted(house, Delivery) == 1)
    assert [fault[:7] for fault in faults(house)] == ["1 forms"]
    assert faults(house)[0] in report(house).needs
    both = replace(house, sealer=Sealer([Fernet.generate_key(), other]))
    rounds(both, lambda: faults(house) == [""])
    assert counted(house, Delivery) == 2


def test_a_drainer_goes_on_whatever_happens(
    house: House, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "DRAIN_SECONDS", 0.01)
    troubles: list[Exception] = [RuntimeError(), OSError(), OperationalError("", {}, Exception())]
    really = spooling.drain

    def drain_or_not(house: House, accept: Accept) -> int:
        if troubles:
            raise troubles.pop()
        return really(house, accept)

    monkeypatch.setattr(spooling, "drain", drain_or_not)
    spool.put(FORM)
    rounds(house, lambda: counted(house, Delivery) == 1)


def test_what_a_killed_process_left_half_written_is_removed_an_hour_later(
    house: House, spool: Spool
) -> None:
    spool.put(FORM)
    folder = house.settings.home / SPOOL
    now = folder.stat().st_mtime
    for name, age in (("old.sealed.1.2.new", 3700.0), ("young.sealed.1.3.new", 10.0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (now - age, now - age))
    os.utime(folder, (now, now))
    spool.tidy()
    assert {path.name for path in folder.iterdir()} == {
        spool.waiting()[0].name,
        "young.sealed.1.3.new",
    }


def test_a_half_written_file_is_not_taken(house: House, spool: Spool) -> None:
    spool.put(FORM)
    (path,) = spool.waiting()
    path.rename(path.with_name(path.name + ".new"))
    assert spool.waiting() == []
    assert drain(house) == 0


def test_two_who_drain_at_once_store_everything_once(house: House, spool: Spool) -> None:
    for n in range(10):
        spool.put(
            Arrival(
                transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=f"FormID={n}".encode()
            )
        )
    assert together(*[lambda: drain(house)] * 3) == []
    drain(house)
    assert counted(house, Delivery) == 10
    assert spool.waiting() == []


def test_a_spool_that_cannot_be_written_says_so(house: House) -> None:
    (house.settings.home / SPOOL).write_text("not a folder")
    with pytest.raises(OSError, match=r"."):
        Spool(house.settings.home / SPOOL, house.sealer).put(FORM)
