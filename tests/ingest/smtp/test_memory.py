"""Memory of the SMTP listener: bounded however much comes at once, and everyone gets a reply."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import pytest

from ingest.intake import Arrival
from ingest.smtp import memory
from ingest.smtp.listener import TRY_LATER, Listener
from ingest.smtp.memory import SHARED_FACTOR, UNLIMITED_MESSAGES, MemoryBudget, MemoryShare
from ingest.smtp.session import CHUNK
from tests.support.smtp_client import Client, MemoryIntake, run_listener, until

LIMIT = 4 * CHUNK
BODY = b"x" * (LIMIT - 2) + b"\r\n"
HALF = LIMIT // 2
NO_ROOM = "452 4.3.1 too much mail at once, try again later"


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of more than 64 KiB is a large one, and waits for half a second."""
    monkeypatch.setattr(memory, "SMALL_OCTETS", CHUNK)
    monkeypatch.setattr(memory, "PATIENCE_SECONDS", 0.5)


def send_half(listener: Listener) -> Client:
    """A client that has sent half a message of the limit."""
    client = Client(listener).send_envelope()
    client.send(BODY[:HALF])
    return client


def fill_memory(listener: Listener) -> list[Client]:
    """Clients that fill the room with halves of messages."""
    clients = [send_half(listener) for _ in range(2 * SHARED_FACTOR)]
    until(lambda: listener._memory.held_octets > (SHARED_FACTOR - 1) * LIMIT)
    return clients


def finish(client: Client) -> str:
    client.send(BODY[HALF:] + b".\r\n")
    reply = client.reply()
    client.socket.close()
    return reply[:3] if reply != NO_ROOM else reply


def run_at_once(acts: list[Callable[[], str]]) -> list[str]:
    replies: list[str] = []
    threads = [threading.Thread(target=lambda a=act: replies.append(a())) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return replies


def test_everyone_ends_however_many_stand_in_each_others_way(memory_intake: MemoryIntake) -> None:
    """The first of the large ones go on whatever the others hold.

    Without that, all would wait for all.
    """
    most = [0]

    def accept(arrival: Arrival) -> int:
        most.append(listener._memory.held_octets)
        return memory_intake(arrival)

    with run_listener(accept, mail_limit=LIMIT) as listener:
        replies = run_at_once([partial(finish, client) for client in fill_memory(listener)])
        assert replies == ["250"] * 2 * SHARED_FACTOR
        assert max(most) <= (SHARED_FACTOR + UNLIMITED_MESSAGES) * LIMIT
        until(lambda: listener._memory.held_octets == 0)
    assert memory_intake.raw == [BODY] * 2 * SHARED_FACTOR


def test_a_large_message_without_room_is_refused_for_now_and_a_small_one_is_not(
    memory_intake: MemoryIntake,
) -> None:
    with run_listener(memory_intake, mail_limit=LIMIT) as listener:
        standing = [*fill_memory(listener), send_half(listener)]
        with Client(listener) as large, Client(listener) as small:
            large.send_envelope().send(BODY + b".\r\n")
            small.send_envelope().send(b"small\r\n.\r\n")
            assert small.reply().startswith("250")
            assert large.reply() == NO_ROOM
        for client in standing:
            client.hang_up()
        until(lambda: listener._memory.held_octets == 0)
        with Client(listener) as large:
            large.send_envelope().send(BODY + b".\r\n")
            assert large.reply().startswith("250")


def test_a_session_that_was_refused_for_want_of_room_goes_on(memory_intake: MemoryIntake) -> None:
    with run_listener(memory_intake, mail_limit=LIMIT) as listener:
        standing = [*fill_memory(listener), send_half(listener)]
        with Client(listener) as client:
            client.send_envelope().send(BODY + b".\r\n")
            assert client.reply() == NO_ROOM
            for other in standing:
                other.hang_up()
            until(lambda: listener._memory.held_octets == 0)
            client.send_envelope().send(BODY + b".\r\n")
            assert client.reply().startswith("250")


def test_what_is_still_being_stored_still_counts_though_its_sender_was_refused_or_left(
    memory_intake: MemoryIntake,
) -> None:
    commit = threading.Event()

    def accept(arrival: Arrival) -> int:
        commit.wait(10)
        return memory_intake(arrival)

    with run_listener(accept, mail_limit=LIMIT, smtp_store_seconds=0.05) as listener:
        with Client(listener) as client:
            client.send_envelope().send(BODY + b".\r\n")
            assert client.reply() == TRY_LATER
        leaving = Client(listener).send_envelope()
        leaving.send(BODY + b".\r\n")
        until(lambda: len(listener._storing._running) == 2)
        leaving.hang_up()
        until(listener._limits[0].all_closed.is_set)
        assert listener._memory.held_octets >= 2 * len(BODY)
        commit.set()
        until(lambda: listener._memory.held_octets == 0)


def test_a_message_waits_so_long_in_all_and_not_each_time() -> None:
    async def wait() -> bool:
        room = MemoryBudget(LIMIT)
        others = [MemoryShare(room) for _ in range(SHARED_FACTOR)]
        assert all([await other.grow(LIMIT) for other in others])
        small = MemoryShare(room)

        async def come_and_go() -> None:
            while True:
                await small.grow(1)
                await asyncio.sleep(0.05)
                small.release()

        restless = asyncio.create_task(come_and_go())
        async with asyncio.timeout(5):
            found = await MemoryShare(room).grow(LIMIT)
        restless.cancel()
        return found

    assert asyncio.run(wait()) is False
