"""Comparison of the blob store with the rows that refer to it."""

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
from tests.support.context import HandClock, Steady, count_rows, run_in_threads
from workflow.context import AppContext
from workflow.models.core import Delivery, SelfCheck
from workflow.operations import sweep
from workflow.operations.checks import SelfChecks
from workflow.operations.orphaned_blobs import MIN_UNOWNED_SECONDS, OrphanedBlobs
from workflow.operations.status import collect_status
from workflow.runtime.blobs import BlobStore

LARGE = b"x" * 300_000


@pytest.fixture
def steady() -> Steady:
    return Steady()


@pytest.fixture
def orphans(any_context: AppContext, steady: Steady) -> OrphanedBlobs:
    return OrphanedBlobs(any_context, steady)


def store_unowned_file(context: AppContext, content: bytes = LARGE) -> Path:
    """Keep bytes that no row will ever own, as an accept does that dies before its commit."""
    digest = context.blob_store.store(content)[1]
    assert digest
    return context.settings.home / "blobs" / digest[:2] / digest[2:]


def find_only_blob(context: AppContext) -> Path:
    [path] = [path for path in (context.settings.home / "blobs").rglob("*") if path.is_file()]
    return path


def make_older(path: Path, **by: float) -> None:
    then = (datetime.now(UTC) - timedelta(**by)).timestamp()
    os.utime(path, (then, then))


def collect_orphans(orphans: OrphanedBlobs, steady: Steady, times: int = 2) -> list[str]:
    results = []
    for _ in range(times):
        results.append(orphans.collect())
        steady.now += MIN_UNOWNED_SECONDS
    return results


def test_a_blob_without_a_row_goes_within_a_day(
    any_context: AppContext, orphans: OrphanedBlobs, steady: Steady
) -> None:
    path = store_unowned_file(any_context)
    assert collect_orphans(orphans, steady) == ["", ""]
    assert path.exists()  # it may belong to a row that is being written
    make_older(path, hours=23)
    collect_orphans(orphans, steady)
    assert not path.exists()


def test_a_blob_that_a_row_owns_stays_for_ever(
    any_context: AppContext, orphans: OrphanedBlobs, steady: Steady
) -> None:
    Intake(any_context).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=LARGE))
    path = find_only_blob(any_context)
    make_older(path, days=400)
    assert collect_orphans(orphans, steady, 4) == [""] * 4
    assert path.exists()


def test_a_clock_that_jumps_ahead_costs_no_blob(
    any_context: AppContext, orphans: OrphanedBlobs
) -> None:
    path = store_unowned_file(any_context)
    make_older(path, hours=23)
    orphans.collect()  # old by its date, but nobody has seen it without an owner before
    assert path.exists()


def test_bytes_kept_again_while_their_blob_is_on_its_way_out_are_there_afterwards(
    context: AppContext,
) -> None:
    """Storing touches the file before it is moved, or finds none and writes it again."""
    blob_store, stop = context.blob_store, threading.Event()
    path = store_unowned_file(context)
    digest = f"{path.parent.name}{path.name}"
    lost_numbers: list[int] = []
    discarding = threading.Lock()  # while it is free, no blob is moved away for a moment

    def collect() -> None:
        while not stop.is_set():
            with discarding:
                blob_store.delete_blob(digest, unless_since=datetime.now(UTC) - timedelta(hours=1))

    def again() -> None:
        for n in range(300):
            with suppress(FileNotFoundError):  # discarded already
                make_older(path, hours=23)
            blob_store.store(LARGE)
            with discarding:
                if not blob_store.has_blob(digest):
                    lost_numbers.append(n)
        stop.set()

    assert run_in_threads(collect, again) == []
    assert lost_numbers == []


def test_what_a_killed_process_left_half_written_goes_too(
    any_context: AppContext, orphans: OrphanedBlobs, steady: Steady
) -> None:
    leftover = store_unowned_file(any_context).with_name("half.123.abcd.new")
    leftover.write_bytes(b"x")
    collect_orphans(orphans, steady)
    assert leftover.exists()
    make_older(leftover, hours=25)
    collect_orphans(orphans, steady)
    assert not leftover.exists()


def test_a_row_whose_blob_is_gone_is_reported(any_context: AppContext, clock: HandClock) -> None:
    Intake(any_context).accept(Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=LARGE))
    blob = find_only_blob(any_context)
    content = blob.read_bytes()
    blob.unlink()
    SelfChecks(any_context).run_due()
    assert any("1 stored originals" in need for need in collect_status(any_context).needs)
    blob.write_bytes(content)
    clock.turn(hours=1)
    SelfChecks(any_context).run_due()
    assert not any("stored originals" in need for need in collect_status(any_context).needs)


def test_an_object_store_is_collected_as_well(any_context: AppContext, steady: Steady) -> None:
    blob_store = BlobStore("memory://orphans", any_context.sealer, 100)
    context = AppContext(**{**vars(any_context), "blob_store": blob_store})
    digest = str(blob_store.store(LARGE)[1])
    files = fsspec.filesystem("memory")
    path = f"/orphans/{digest[:2]}/{digest[2:]}"
    try:
        orphans = OrphanedBlobs(context, steady)
        collect_orphans(orphans, steady)
        assert files.exists(path)
        files.store[path].modified = datetime.now(UTC) - timedelta(hours=23)
        collect_orphans(orphans, steady)
        assert not files.exists(path)
    finally:
        files.store.clear()


# -- the daily look ----


def test_the_ledger_is_looked_at_once_a_day_and_what_is_wrong_stands_in_the_status(
    any_context: AppContext, clock: HandClock
) -> None:
    context, checks = any_context, SelfChecks(any_context)
    number = Intake(context).accept(
        Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=b"From: a@x.example\n\nx")
    )
    checks.run_due()
    assert count_rows(context, SelfCheck, SelfCheck.fault == "") == len(checks._checks)
    with context.store.transaction() as session:
        session.get_one(Delivery, number).items = 2  # one of them lost
        # as if read
        session.get_one(Delivery, number).state = "processed"  # type: ignore[assignment]
    clock.turn(hours=23)
    checks.run_due()
    assert not any("ledger" in need for need in collect_status(context).needs)
    clock.turn(hours=1)
    checks.run_due()
    assert any("the ledger does not add up" in need for need in collect_status(context).needs)


@pytest.mark.parametrize("days", [-3, 400])
def test_a_clock_that_jumps_has_it_looked_at_again(
    any_context: AppContext, clock: HandClock, days: int
) -> None:
    checks = SelfChecks(any_context)
    checks.run_due()
    clock.turn(days=days)
    checks.run_due()
    with any_context.store.read_only() as session:
        assert session.get_one(SelfCheck, "ledger").at == clock()


def test_a_check_that_cannot_look_is_followed_by_the_next(
    any_context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        BlobStore, "list_shard", lambda *_: (_ for _ in ()).throw(PermissionError())
    )
    SelfChecks(any_context).run_due()
    assert count_rows(any_context, SelfCheck, SelfCheck.name == "blobs") == 0
    monkeypatch.undo()
    SelfChecks(any_context).run_due()
    assert count_rows(any_context, SelfCheck, SelfCheck.name == "blobs") == 1


def test_the_clock_looks(any_context: AppContext) -> None:
    stop = threading.Event()
    quick = any_context.settings.model_copy(update={"sweep_seconds": 0.01})
    context = AppContext(**{**vars(any_context), "settings": quick})
    thread = threading.Thread(
        target=sweep.run_clock, args=(context, stop), kwargs={"redis_away": lambda: True}
    )
    thread.start()
    until = time.monotonic() + 20
    while count_rows(any_context, SelfCheck) != len(SelfChecks(any_context)._checks):
        assert time.monotonic() < until
        time.sleep(0.02)
    stop.set()
    thread.join(20)
