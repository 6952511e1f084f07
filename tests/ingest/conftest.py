"""SMTP and LMTP listeners with a client, and the token endpoint of a mail provider."""

from collections.abc import Iterator

import pytest

from ingest.smtp.listener import Listener
from tests.support import token_endpoint
from tests.support.smtp_client import Client, MemoryIntake, run_listener
from tests.support.token_endpoint import Endpoint


@pytest.fixture
def memory_intake() -> MemoryIntake:
    """An intake that keeps what the listener hands over."""
    return MemoryIntake()


@pytest.fixture
def listener(memory_intake: MemoryIntake) -> Iterator[Listener]:
    """A listener on ports of its own."""
    with run_listener(memory_intake) as listener:
        yield listener


@pytest.fixture
def client(listener: Listener) -> Iterator[Client]:
    """A connection to the listener."""
    with Client(listener) as connected:
        yield connected


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A token endpoint whose answers a test sets."""
    with token_endpoint.run_endpoint() as state:
        yield state
