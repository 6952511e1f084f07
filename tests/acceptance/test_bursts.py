"""A burst of mail, and mails of the size limit from fifty sessions at once.

An answer for everyone, memory bounded.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.intake import MAX_SEALING, Arrival, Intake, Transport
from ingest.smtp.memory import SHARED_FACTOR, SMALL_OCTETS, UNLIMITED_MESSAGES
from parsers.item import Format
from tests.support.context import call, together
from tests.support.load import Heard, Watched, largest, many
from tests.support.processes import Doors, until
from workflow.context import AppContext
from workflow.database.engine import Store, migrate
from workflow.models.core import Delivery, Receipt
from workflow.runtime.blobs import BlobStore

MIB = 2**20
CONNECTIONS = 49  # a host may have 50, and the door was tried before
SEALING = 7  # times its size in memory, measured: Fernet makes copies and base64
MENDING = 2  # times the limit: one message at a time is put together from its parts
SLACK = 8 * MIB  # threads, buffers, and what the allocator keeps
BOUND = SHARED_FACTOR + UNLIMITED_MESSAGES + MENDING + SEALING * MAX_SEALING  # times the limit


def counted(doors: Doors) -> tuple[int, int]:
    """Deliveries and receipts."""
    store = Store(f"sqlite:///{doors.home / 'intake.db'}")
    try:
        with store.read_only() as session:
            return session.query(Delivery).count(), session.query(Receipt).count()
    finally:
        store.close()


@pytest.fixture
def installed(fast_folder: Path, request: pytest.FixtureRequest) -> Callable[..., Doors]:
    """An installation on the memory disk, where there is one: the disk is not what is measured."""

    def install(**settings: object) -> Doors:
        doors = Doors(fast_folder / request.node.name / "home", **settings)
        doors.home.mkdir(parents=True)
        migrate(f"sqlite:///{doors.home / 'intake.db'}")
        return doors

    return install


def test_a_burst_is_taken_and_memory_stays_flat(
    installed: Callable[..., Doors], record_property: Callable[[str, object], None]
) -> None:
    doors = installed()
    with doors.process("smtp", opens=doors.smtp) as process:
        warm = many(doors, 500, CONNECTIONS)
        with Watched(process) as memory:
            heard = many(doors, 1500, CONNECTIONS)
        figures = (
            f"{1500 / heard.seconds:,.0f} mails a second, longest {heard.longest:.2f} s, "
            + said(heard, memory)
        )
        record_property("figures", figures)
        assert set(warm.codes + heard.codes) <= {250, 451, 452}
        taken = warm.codes[250] + heard.codes[250]
        assert taken >= 1990
        assert counted(doors) == (taken, taken)
        assert heard.longest < 30
        assert memory.peak - memory.before < 2 * SLACK


def test_mails_of_the_limit_from_fifty_sessions_at_once_are_answered_and_memory_is_bounded(
    installed: Callable[..., Doors], record_property: Callable[[str, object], None]
) -> None:
    limit = 8 * MIB
    doors = installed(mail_limit=limit)
    with doors.process("smtp", opens=doors.smtp) as process:
        bound = BOUND * limit + CONNECTIONS * SMALL_OCTETS + SLACK
        with Watched(process) as memory:
            heard = [largest(doors, CONNECTIONS, limit) for _ in range(2)]
        record_property("figures", ", ".join(said(one, memory) for one in heard))
        for one in heard:
            assert set(one.codes) <= {250, 451, 452}
            assert one.codes.total() == CONNECTIONS
            assert one.longest < 60
        taken = sum(one.codes[250] for one in heard)
        assert taken >= CONNECTIONS
        assert memory.peak - memory.before < bound
        until(lambda: counted(doors)[0] >= taken)
    blobs = [path.stat().st_size for path in (doors.home / "blobs").glob("*/*")]
    assert len(blobs) >= taken
    assert min(blobs) > limit


def said(heard: Heard, memory: Watched) -> str:
    return (
        f"answers {dict(heard.codes)}, memory {memory.before / MIB:.0f} to"
        f" {memory.peak / MIB:.0f} MiB"
    )


class Counting:
    """A vault that remembers how many kept something large at once."""

    def __init__(self, vault: BlobStore) -> None:
        self._vault = vault
        self._counting = threading.Lock()
        self._now = self.most = 0

    def store(self, plain: bytes) -> tuple[bytes | None, str | None]:
        with self._counting:
            self._now += 1
            self.most = max(self.most, self._now)
        kept = self._vault.store(plain)
        with self._counting:
            self._now -= 1
        return kept


def test_large_arrivals_are_sealed_one_after_the_other_and_small_ones_do_not_wait_for_them(
    context: AppContext,
) -> None:
    counting = Counting(context.blob_store)
    door = Intake(replace(context, blob_store=counting)).accept  # type: ignore[arg-type]
    large = [
        Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=os.urandom(2 * MIB))
        for _ in range(8)
    ]
    assert together(*(lambda one=one: door(one) for one in large)) == []
    assert counting.most == MAX_SEALING
    intake = Intake(context)
    with intake._sealing:
        assert intake.accept(call())
