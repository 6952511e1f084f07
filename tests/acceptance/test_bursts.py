"""A burst of mail, and mails of the size limit from fifty sessions at once.

Every client gets an answer, and memory is bounded.
"""

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.intake import MAX_SEALING, Arrival, Intake, Transport
from ingest.smtp.memory import SHARED_FACTOR, SMALL_OCTETS, UNLIMITED_MESSAGES
from parsers.item import Format
from tests.support.context import make_call_arrival, run_in_threads
from tests.support.load import LATEST, Answers, MemoryWatch, send_large, send_many
from tests.support.processes import Installation, until
from workflow.context import AppContext
from workflow.database.engine import Store, migrate
from workflow.models.core import Delivery, Receipt
from workflow.runtime.blobs import BlobStore

MIB = 2**20
CONNECTIONS = 49  # a host may have 50, and `process` looks whether the port is open
SEALING = 2  # times its size in memory: the ciphertext, and the same behind its header
MENDING = 2  # times the limit: one message at a time is put together from its parts
SLACK = 8 * MIB  # threads, buffers, and what the allocator keeps
BOUND = SHARED_FACTOR + UNLIMITED_MESSAGES + MENDING + SEALING * MAX_SEALING  # times the limit


def count_stored_rows(installation: Installation) -> tuple[int, int]:
    """Return the number of deliveries and of receipts."""
    store = Store(f"sqlite:///{installation.home / 'intake.db'}")
    try:
        with store.read_only() as session:
            return session.query(Delivery).count(), session.query(Receipt).count()
    finally:
        store.close()


@pytest.fixture
def create_installation(
    fast_folder: Path, request: pytest.FixtureRequest
) -> Callable[..., Installation]:
    """Create an installation, in memory where possible: the disk is not what is measured."""

    def install(**settings: object) -> Installation:
        installation = Installation(fast_folder / request.node.name / "home", **settings)
        installation.home.mkdir(parents=True)
        migrate(f"sqlite:///{installation.home / 'intake.db'}")
        return installation

    return install


def test_a_burst_is_taken_and_memory_stays_flat(
    create_installation: Callable[..., Installation], record_property: Callable[[str, object], None]
) -> None:
    installation = create_installation()
    with installation.process("smtp", opens=installation.smtp) as process:
        warm = send_many(installation, 500, CONNECTIONS)
        with MemoryWatch(process) as memory:
            answers = send_many(installation, 1500, CONNECTIONS)
        figures = (
            f"{1500 / answers.seconds:,.0f} mails a second, longest {answers.longest:.2f} s, "
            + describe(answers, memory)
        )
        record_property("figures", figures)
        assert set(warm.codes + answers.codes) <= {250, 451, 452}
        taken = warm.codes[250] + answers.codes[250]
        assert taken >= 1990
        assert count_stored_rows(installation) == (taken, taken)
        assert answers.longest < LATEST
        assert memory.peak - memory.before < 2 * SLACK


def test_mails_of_the_limit_from_fifty_sessions_at_once_are_answered_and_memory_is_bounded(
    create_installation: Callable[..., Installation], record_property: Callable[[str, object], None]
) -> None:
    limit = 8 * MIB
    installation = create_installation(mail_limit=limit)
    with installation.process("smtp", opens=installation.smtp) as process:
        bound = BOUND * limit + CONNECTIONS * SMALL_OCTETS + SLACK
        with MemoryWatch(process) as memory:
            answers = [send_large(installation, CONNECTIONS, limit) for _ in range(2)]
        record_property("figures", ", ".join(describe(each, memory) for each in answers))
        for each in answers:
            assert set(each.codes) <= {250, 451, 452}
            assert each.codes.total() == CONNECTIONS
            assert each.longest < LATEST
        taken_count = sum(each.codes[250] for each in answers)
        assert taken_count >= CONNECTIONS
        assert memory.peak - memory.before < bound
        until(lambda: count_stored_rows(installation)[0] >= taken_count)
    blobs = [path.stat().st_size for path in (installation.home / "blobs").glob("*/*")]
    assert len(blobs) >= taken_count
    assert min(blobs) > limit


def describe(answers: Answers, memory: MemoryWatch) -> str:
    return (
        f"answers {dict(answers.codes)}, memory {memory.before / MIB:.0f} to"
        f" {memory.peak / MIB:.0f} MiB"
    )


class CountingBlobStore:
    """A blob store that counts how many callers were storing at once.

    Each waits until `expected` of them are there.
    """

    def __init__(self, blob_store: BlobStore, expected: int) -> None:
        self._blob_store = blob_store
        self._expected = expected
        self._lock = threading.Lock()
        self._all_there = threading.Event()
        self._now = self.most = 0

    def store(self, plain: bytes, digest: str = "") -> tuple[bytes | None, str | None]:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            if self._now >= self._expected:
                self._all_there.set()
        assert self._all_there.wait(60)
        reference = self._blob_store.store(plain, digest)
        with self._lock:
            self._now -= 1
        return reference


def test_few_large_arrivals_are_sealed_at_once_and_small_ones_do_not_wait_for_them(
    context: AppContext,
) -> None:
    blob_store = CountingBlobStore(context.blob_store, MAX_SEALING)
    accept = Intake(replace(context, blob_store=blob_store)).accept  # type: ignore[arg-type]
    large = [
        Arrival(transport=Transport.PIPE, format=Format.MAIL, raw=os.urandom(2 * MIB))
        for _ in range(3 * MAX_SEALING)
    ]
    assert run_in_threads(*(lambda arrival=arrival: accept(arrival) for arrival in large)) == []
    assert blob_store.most == MAX_SEALING
    intake = Intake(context)
    with ExitStack() as others:
        for _ in range(MAX_SEALING):
            others.enter_context(intake._sealing)
        assert intake.accept(make_call_arrival())
