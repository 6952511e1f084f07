"""The mail door that the tests of SMTP and LMTP speak to."""

from collections.abc import Iterator

import pytest

from ingest.smtp import Listener
from tests.ingest.smtp_client import Client, Stored, doors


@pytest.fixture
def stored() -> Stored:
    """Keeps what the door hands over."""
    return Stored()


@pytest.fixture
def door(stored: Stored) -> Iterator[Listener]:
    """The door on ports of its own."""
    with doors(stored) as listener:
        yield listener


@pytest.fixture
def client(door: Listener) -> Iterator[Client]:
    """A connection to it."""
    with Client(door) as connected:
        yield connected
