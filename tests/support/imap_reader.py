"""Readers of mailboxes in a thread, and a proxy's answers that spoil what they fetch."""

import threading
import time
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
from tests.support import imap_proxy
from tests.support.imap_proxy import UID_FETCH
from workflow.context import AppContext
from workflow.models.core import Ticket
from workflow.operations.item_faults import ItemFaults
from workflow.settings.settings import Mailbox

FLAG = b"$Intake"
QUICK = RetryTiming(
    timeout=5, first_pause=0.05, max_pause=0.2, refused_pause=0.1, max_refused_pause=0.2
)
NO = b"{tag} NO [SERVERBUG] internal error, refer to the log\r\n"


def until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait until a condition holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def make_raw_mail(subject: str, body: str = "hello") -> bytes:
    return f"From: ann@example.com\r\nTo: desk\r\nSubject: {subject}\r\n\r\n{body}\r\n".encode()


@contextmanager
def read_in_thread(boxes: tuple[Mailbox, ...], context: ReaderContext) -> Iterator[None]:
    """Read the mailboxes in a thread while the block lasts; the thread has to stop in time."""
    thread = threading.Thread(target=read_mailboxes, args=(boxes, context))
    thread.start()
    try:
        yield
    finally:
        context.stop.set()
        thread.join(20)
        assert not thread.is_alive()


@dataclass
class Reader:
    """A reader of one mailbox into a real context.

    Its pauses are short; the context's clock is turned by hand.
    """

    context: AppContext
    box: Mailbox
    pause: float = 0.0  # seconds of the context's clock until a mail is tried again
    accept: Callable[[Arrival], int] | None = None
    looks: list[str] = field(default_factory=list)
    timing: RetryTiming = QUICK

    @contextmanager
    def run(self) -> Iterator[None]:
        context, pause = self.context, timedelta(seconds=self.pause)
        reader_context = ReaderContext(
            settings=context.settings.model_copy(update={"imap_poll_seconds": 0.1}),
            accept=self.accept or Intake(context).accept,
            checkpoints=StoredCheckpoints(context.store),
            get_deferred=lambda key: ItemFaults(
                context.store, context.clock, "imap", key, pause=lambda _: pause
            ),
            record_look=self.looks.append,
            stop=threading.Event(),
            record_late_fetch=partial(dismiss_url_deliveries, context),
            timing=self.timing,
        )
        with read_in_thread((self.box,), reader_context):
            yield

    def wait_for_looks(self, times: int = 2) -> None:
        enough = len(self.looks) + times
        until(lambda: len(self.looks) >= enough, 20)


def list_subjects(context: AppContext) -> list[str]:
    process_waiting(context)
    with context.store.read_only() as session:
        return sorted(session.scalars(select(Ticket.subject)))


def list_troubles(context: AppContext) -> list[tuple[int, str]]:
    return [(one["count"], one["reason"]) for one in present_status(context)["troubles"]]


def make_spoiler(answer: bytes, *uids: int, what: bytes = b"") -> imap_proxy.Spoil:
    """Answer each FETCH that asks for one of these mails, of all mails if none is named."""

    def spoil(line: bytes) -> bytes | None:
        found = UID_FETCH.search(line)
        asked = {int(n) for n in found[1].replace(b":", b",").split(b",")} if found else set()
        hit = found and what in found[2] and (not uids or asked & set(uids))
        return answer if hit else None

    return spoil
