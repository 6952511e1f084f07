"""A reader of one mailbox into a real house, and proxies' answers that spoil what it fetches."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from sqlalchemy import select

from console.presenters.house_data import status_data
from ingest.imap.checkpoints import StoredCheckpoints
from ingest.imap.reader import Door, Pace, read_all
from ingest.imap.unfetched import settle
from ingest.intake import Arrival, Intake
from ingest.processing.process import read_waiting
from tests.ingest.imap.test_reader import QUICK, until
from tests.support import imap_proxy
from tests.support.imap_proxy import UID_FETCH
from workflow.context import House
from workflow.models.core import Ticket
from workflow.operations.item_faults import ItemFaults
from workflow.settings.settings import Mailbox

NO = b"{tag} NO [SERVERBUG] internal error, refer to the log\r\n"


@dataclass
class Reader:
    """A reader of one mailbox into a real house.

    Its pauses are short, `clock` is turned by hand.
    """

    house: House
    box: Mailbox
    pause: float = 0.0  # seconds of the house's clock until a mail is tried again
    accept: Callable[[Arrival], int] | None = None
    looks: list[str] = field(default_factory=list)
    pace: Pace = QUICK

    @contextmanager
    def running(self) -> Iterator[None]:
        house, stop = self.house, threading.Event()
        pause = timedelta(seconds=self.pause)
        door = Door(
            settings=house.settings.model_copy(update={"imap_poll_seconds": 0.1}),
            accept=self.accept or Intake(house).accept,
            checkpoints=StoredCheckpoints(house.store),
            faults=lambda key: ItemFaults(
                house.store, house.clock, "imap", key, pause=lambda _: pause
            ),
            seen=self.looks.append,
            stop=stop,
            fetched_late=partial(settle, house),
            pace=self.pace,
        )
        thread = threading.Thread(target=read_all, args=((self.box,), door))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(20)
            assert not thread.is_alive()

    def looked(self, times: int = 2) -> None:
        enough = len(self.looks) + times
        until(lambda: len(self.looks) >= enough, 20)


def subjects(house: House) -> list[str]:
    read_waiting(house)
    with house.store.reading() as session:
        return sorted(session.scalars(select(Ticket.subject)))


def troubles(house: House) -> list[tuple[int, str]]:
    return [(one["count"], one["reason"]) for one in status_data(house)["troubles"]]


def spoiling(answer: bytes, *uids: int, what: bytes = b"") -> imap_proxy.Spoil:
    """Answer each FETCH that asks for one of these mails, of all mails if none is named."""

    def spoil(line: bytes) -> bytes | None:
        found = UID_FETCH.search(line)
        asked = {int(n) for n in found[1].replace(b":", b",").split(b",")} if found else set()
        hit = found and what in found[2] and (not uids or asked & set(uids))
        return answer if hit else None

    return spoil
