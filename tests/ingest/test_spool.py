"""The spool: what a form's sender was promised while the database was away."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from ingest.intake import Arrival, Transport
from ingest.spool import SPOOL, Spool, drain
from parsers.item import Format
from tests.house import HandClock, counted, together
from workflow.house import House, open_house
from workflow.keys import Sealer
from workflow.models import Delivery, Receipt
from workflow.states import DeliveryState

FORM = Arrival(
    transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=b"FormID=1&name=Jane+Roe\xff", envelope={"form": "1"}
)


@pytest.fixture
def spool(house: House) -> Spool:
    return Spool(house.settings.home / SPOOL, house.sealer)


def test_what_was_spooled_is_in_the_database_afterwards_as_it_came(house: House, spool: Spool) -> None:
    spool.put(FORM)
    assert drain(house) == 1
    with house.store.reading() as session:
        stored = session.scalars(select(Delivery)).one()
        assert house.vault.open(stored.content, stored.blob) == FORM.raw
        assert (stored.transport, stored.format, stored.envelope) == ("formstack", Format.FORMSTACK, {"form": "1"})
        assert stored.state is DeliveryState.PENDING
    assert spool.waiting() == []
    assert drain(house) == 0


def test_an_empty_house_has_nothing_to_drain(house: House) -> None:
    assert drain(house) == 0


def test_the_deadline_runs_from_when_the_sender_heard_yes(house: House, spool: Spool, clock: HandClock) -> None:
    from dataclasses import replace  # noqa: PLC0415

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


def test_while_the_database_is_away_everything_stays_in_the_spool(house: House, spool: Spool, tmp_path: Path) -> None:
    for n in range(3):
        spool.put(Arrival(transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=f"FormID={n}".encode()))
    away = open_house(house.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/no/such/x.db"}))
    assert drain(away) == 0
    away.close()
    assert len(spool.waiting()) == 3
    assert drain(house) == 3


def test_a_crash_between_the_commit_and_the_unlink_stores_nothing_twice(house: House, spool: Spool) -> None:
    spool.put(FORM)
    (path,) = spool.waiting()
    kept = path.read_bytes()
    drain(house)
    path.write_bytes(kept)
    assert drain(house) == 1
    assert counted(house, Delivery) == 1


@pytest.mark.parametrize(
    "damage", [b"", b"garbage", Sealer([Fernet.generate_key()]).seal(b"{}")], ids=["empty", "garbage", "another key"]
)
def test_a_file_that_does_not_open_is_kept_and_holds_up_no_other(house: House, spool: Spool, damage: bytes) -> None:
    spool.put(FORM)
    (first,) = spool.waiting()
    first.write_bytes(damage)
    spool.put(FORM)
    assert drain(house) == 1
    assert drain(house) == 0
    assert [p.read_bytes() for p in (house.settings.home / SPOOL).iterdir()] == [damage]


def test_a_half_written_file_is_not_taken(house: House, spool: Spool) -> None:
    spool.put(FORM)
    (path,) = spool.waiting()
    path.rename(path.with_name(path.name + ".new"))
    assert spool.waiting() == []
    assert drain(house) == 0


def test_two_who_drain_at_once_store_everything_once(house: House, spool: Spool) -> None:
    for n in range(10):
        spool.put(Arrival(transport=Transport.FORMSTACK, format=Format.FORMSTACK, raw=f"FormID={n}".encode()))
    assert together(*[lambda: drain(house)] * 3) == []
    drain(house)
    assert counted(house, Delivery) == 10
    assert spool.waiting() == []


def test_a_spool_that_cannot_be_written_says_so(house: House) -> None:
    (house.settings.home / SPOOL).write_text("not a folder")
    with pytest.raises(OSError, match=r"."):
        Spool(house.settings.home / SPOOL, house.sealer).put(FORM)
