"""Dovecot, a proxy before it, and a user of its own for each test."""

from collections.abc import Iterator
from itertools import count

import pytest

from ingest.imap import reader
from tests.support import dovecot, imap_proxy
from tests.support.dovecot import ALL, Dovecot
from tests.support.imap_proxy import Proxy

_users = (f"user{number}@example.org" for number in count(1))


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    """A real IMAP server."""
    if not dovecot.BINARY:
        pytest.skip("Dovecot is not installed (Debian: dovecot-imapd): IMAP is NOT tested")
    with dovecot.run_dovecot() as running:
        yield running


@pytest.fixture
def proxy(server: Dovecot) -> Iterator[Proxy]:
    """A proxy before the server, to spoil single answers."""
    with imap_proxy.run_proxy(ALL, server.port) as running:
        yield running


@pytest.fixture
def user() -> str:
    """A user with an empty mailbox."""
    return next(_users)


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers notice at once that they should stop."""
    monkeypatch.setattr(reader, "SLICE_SECONDS", 0.02)
