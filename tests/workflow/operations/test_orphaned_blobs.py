"""Blobs and rows held against each other."""

import os
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from ingest.intake import Arrival, Intake, Transport
from parsers.item import Format
from tests.support.context import HandClock, Steady, counted, together
from workflow.context import House
from workflow.models.core import Check, Delivery
from workflow.operations import sweep
from workflow.operations.checks import Checks
from workflow.operations.orphaned_blobs import STEADY_SECONDS, Orphans
from workflow.operations.status import report
from workflow.runtime.blobs import Vault

LARGE = b"x" * 300_000


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
def orphans(any_house: House, steady: Steady) -> Orphans:
    return Orphans(any_house, steady)


def keep(house: House, content: bytes = LARGE) -> Path:
    """Keep bytes that no row will ever own, as an accept does that dies before its commit."""
    digest = house.vault.keep(content)[1]
    assert digest
    return house.settings.home / "blobs" / digest[:2] / digest[2:]


def age(path: Path, **by: float) -> None:
    then = (datetime.now(UTC) - timedelta(**by)).timestamp()
    os.utime(path, (then, then))


def looks(orphans: Orphans, steady: Steady, times: int = 2) -> list[str]:
    found = []
    for _ in range(times):
        found.append(orphans.look())
        steady.now += STEADY_SECONDS
    return found


def test_a_blob_without_a_row_goes_within_a_day(
    any_house: House, orphans: Orphans, steady: Steady
) -> None:
    path = keep(any_house)
    assert looks(orphans, steady) == ["", ""]
    assert path.exists()  # it may belong to a row that is being written
    age(path, hours=23)
    looks(orphans, steady)
    assert not path.exists()


def test_a_blob_that_a_row_owns_stays_for_ever(
    any_house: House, orphans: Orphans, steady: Steady
) -> None:
    Intake(any_house).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=LARGE))
    path = keep(any_house)  # the same bytes
    age(path, days=400)
    assert looks(orphans, steady, 4) == [""] * 4
    assert path.exists()


def test_a_clock_that_jumps_ahead_costs_no_blob(any_house: House, orphans: Orphans) -> None:
    path = keep(any_house)
    age(path, hours=23)
    orphans.look()  # old by its date, but nobody has seen it without an owner before
    assert path.exists()


def test_bytes_kept_again_while_their_blob_is_on_its_way_out_are_there_afterwards(
    house: House,
) -> None:
    """Whoever keeps them touches the file before it is moved, or finds none and writes one.

    Never neither.
    """
    vault, stop = house.vault, threading.Event()
    path = keep(house)
    digest = f"{path.parent.name}{path.name}"
    lost: list[int] = []
    discarding = threading.Lock()  # while it is free, no blob is moved away for a moment

    def collect() -> None:
        while not stop.is_set():
            with discarding:
                vault.discard(digest, unless_since=datetime.now(UTC) - timedelta(hours=1))

    def again() -> None:
        for n in range(300):
            with suppress(FileNotFoundError):  # discarded already
                age(path, hours=23)
            vault.keep(LARGE)
            with discarding:
                if not vault.holds(digest):
                    lost.append(n)
        stop.set()

    assert together(collect, again) == []
    assert lost == []


def test_what_a_killed_process_left_half_written_goes_too(
    any_house: House, orphans: Orphans, steady: Steady
) -> None:
    left = keep(any_house).with_name("half.123.abcd.new")
    left.write_bytes(b"x")
    looks(orphans, steady)
    assert left.exists()
    age(left, hours=25)
    looks(orphans, steady)
    assert not left.exists()


def test_a_row_whose_blob_is_gone_is_told(any_house: House, clock: HandClock) -> None:
    Intake(any_house).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=LARGE))
    keep(any_house).unlink()
    Checks(any_house).round()
    assert any("1 stored originals" in need for need in report(any_house).needs)
    keep(any_house)
    clock.turn(hours=1)
    Checks(any_house).round()
    assert not any("stored originals" in need for need in report(any_house).needs)


def test_an_object_store_is_looked_after_as_well(any_house: House, steady: Steady) -> None:
    vault = Vault("memory://orphans", any_house.sealer, 100)
    house = House(**{**vars(any_house), "vault": vault})
    digest = str(vault.keep(LARGE)[1])
    files = fsspec.filesystem("memory")
    path = f"/orphans/{digest[:2]}/{digest[2:]}"
    try:
        orphans = Orphans(house, steady)
        looks(orphans, steady)
        assert files.exists(path)
        files.store[path].modified = datetime.now(UTC) - timedelta(hours=23)
        looks(orphans, steady)
        assert not files.exists(path)
    finally:
        files.store.clear()


# -- the daily look ----


def test_the_ledger_is_looked_at_once_a_day_and_what_is_wrong_stands_in_the_status(
    any_house: House, clock: HandClock
) -> None:
    house, checks = any_house, Checks(any_house)
    number = Intake(house).accept(
        Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"From: a@x.example\n\nx")
    )
    checks.round()
    assert counted(house, Check, Check.fault == "") == len(checks._looks)
    with house.store.transaction() as session:
        session.get_one(Delivery, number).items = 2  # one of them lost
        # as if read
        session.get_one(Delivery, number).state = "processed"  # type: ignore[assignment]
    clock.turn(hours=23)
    checks.round()
    assert not any("ledger" in need for need in report(house).needs)
    clock.turn(hours=1)
    checks.round()
    assert any("the ledger does not add up" in need for need in report(house).needs)


@pytest.mark.parametrize("days", [-3, 400])
def test_a_clock_that_jumps_has_it_looked_at_again(
    any_house: House, clock: HandClock, days: int
) -> None:
    checks = Checks(any_house)
    checks.round()
    clock.turn(days=days)
    checks.round()
    with any_house.store.reading() as session:
        assert session.get_one(Check, "ledger").at == clock()


def test_a_check_that_cannot_look_is_followed_by_the_next(
    any_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vault, "blobs", lambda *_: (_ for _ in ()).throw(PermissionError()))
    Checks(any_house).round()
    assert counted(any_house, Check, Check.name == "blobs") == 0
    monkeypatch.undo()
    Checks(any_house).round()
    assert counted(any_house, Check, Check.name == "blobs") == 1


def test_the_clock_looks(any_house: House) -> None:
    stop = threading.Event()
    quick = any_house.settings.model_copy(update={"sweep_seconds": 0.01})
    house = House(**{**vars(any_house), "settings": quick})
    thread = threading.Thread(
        target=sweep.run, args=(house, stop), kwargs={"redis_away": lambda: True}
    )
    thread.start()
    until = time.monotonic() + 20
    while counted(any_house, Check) != len(Checks(any_house)._looks):
        assert time.monotonic() < until
        time.sleep(0.02)
    stop.set()
    thread.join(20)
