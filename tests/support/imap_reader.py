"""A reader of one mailbox into a real house, and proxies' answers that spoil what it fetches."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from sqlalchemy import select

from console.presenters.operations import present_status
from ingest.imap.checkpoints import StoredCheckpoints
from ingest.imap.reader import ReaderContext, RetryTiming, read_mailboxes
from ingest.imap.unfetched import dismiss_url_deliveries
from ingest.intake import Arrival, Intake
from ingest.processing.process import process_waiting
from tests.ingest.imap.test_reader import QUICK, until
from tests.support import imap_proxy
from tests.support.imap_proxy import UID_FETCH
from workflow.context import AppContext
from workflow.models.core import Ticket
from workflow.operations.item_faults import ItemFaults
from workflow.settings.settings import Mailbox

NO = b"{tag} NO [SERVERBUG] internal error, refer to the log\r\n"


@dataclass
class Reader:
    """A reader of one mailbox into a real house.

    Its pauses are short, `clock` is turned by hand.
    """

    context: AppContext
    box: Mailbox
    pause: float = 0.0  # seconds of the house's clock until a mail is tried again
    accept: Callable[[Arrival], int] | None = None
    looks: list[str] = field(default_factory=list)
    pace: RetryTiming = QUICK

    @contextmanager
    def running(self) -> Iterator[None]:
        context, stop = self.context, threading.Event()
        pause = timedelta(seconds=self.pause)
        door = ReaderContext(
            settings=context.settings.model_copy(update={"imap_poll_seconds": 0.1}),
            accept=self.accept or Intake(context).accept,
            checkpoints=StoredCheckpoints(context.store),
            get_deferred=lambda key: ItemFaults(
                context.store, context.clock, "imap", key, pause=lambda _: pause
            ),
            record_look=self.looks.append,
            stop=stop,
            record_late_fetch=partial(dismiss_url_deliveries, context),
            timing=self.pace,
        )
        thread = threading.Thread(target=read_mailboxes, args=((self.box,), door))
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


def subjects(context: AppContext) -> list[str]:
    process_waiting(context)
    with context.store.read_only() as session:
        return sorted(session.scalars(select(Ticket.subject)))


def troubles(context: AppContext) -> list[tuple[int, str]]:
    return [(one["count"], one["reason"]) for one in present_status(context)["troubles"]]


def spoiling(answer: bytes, *uids: int, what: bytes = b"") -> imap_proxy.Spoil:
    """Answer each FETCH that asks for one of these mails, of all mails if none is named."""

    def spoil(line: bytes) -> bytes | None:
        found = UID_FETCH.search(line)
        asked = {int(n) for n in found[1].replace(b":", b",").split(b",")} if found else set()
        hit = found and what in found[2] and (not uids or asked & set(uids))
        return answer if hit else None

    return spoil
