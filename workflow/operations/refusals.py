"""Counts of deliveries that a channel refused, for `intake status` and Operations.

A refused form or mail leaves nothing behind but a line in the log, and its sender may not tell us.
Each kind of refusal is one record of `item_faults`, in fixed words: nothing of what was sent. A
thread writes the counts, once a second at most, so that a flood of refusals costs no statement
each, and no listener waits for the database.
"""

from collections import Counter
from enum import StrEnum
from threading import Condition, Thread
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from workflow.context import AppContext
from workflow.operations.item_faults import REFUSED_FORM, REFUSED_MAIL, ItemFaults
from workflow.runtime import log

WRITE_SECONDS = 1.0  # between two writes
CLOSE_SECONDS = 5.0  # for the last write
_ITEM = "refused"  # the one item of each kind


class Refusal(StrEnum):
    """Kind of a refused form; the value is the place of its record, see `item_faults.REMEDIES`."""

    UNSIGNED = "401 no signature"
    SIGNATURE = "401 signature"
    FORM_KEY = "401 key of the form"
    TOO_LARGE = "413"
    UNREADABLE = "415"
    NO_KEY = "503 no key"


REASONS = {
    Refusal.UNSIGNED: "401: they carry no signature",
    Refusal.SIGNATURE: "401: none of our keys makes their signature",
    Refusal.FORM_KEY: "401: signed, but not with the key of their form",
    Refusal.TOO_LARGE: "413: larger than a form may be",
    Refusal.UNREADABLE: "415: neither a form nor JSON",
    Refusal.NO_KEY: "503: no key is set to check their signature",
}


def ignore_refusal(_refusal: Refusal) -> None:
    """Count nothing: refusals are in the log."""


class RefusalCounter:
    """Counter of refusals, written to the database in the background.

    `count_form` and `count_mail` never block and never raise. As a context manager it writes what
    is left at the end.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._counts: Counter[tuple[str, str, str]] = Counter()  # by channel, place and reason
        self._changed = Condition()
        self._is_closing = False
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        """Return the counter itself; its thread starts with the first refusal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left, and wait for that a few seconds at most."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=CLOSE_SECONDS)

    def count_form(self, refusal: Refusal) -> None:
        """Count a refused form."""
        self._count(REFUSED_FORM, refusal.value, REASONS[refusal])

    def count_mail(self, transport: str, reply: str) -> None:
        """Count a refused mail or recipient, by the reply it got, as "550 5.1.1 no such …"."""
        code = " ".join(reply.split()[:2])
        self._count(REFUSED_MAIL, f"{transport} {code}", reply)

    def _count(self, channel: str, place: str, reason: str) -> None:
        with self._changed:
            self._counts[channel, place, reason] += 1
            if self._thread is None:
                self._thread = Thread(target=self._write_all, name="refusals", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _write_all(self) -> None:
        """Write the counts whenever there are any, until closed; the thread's main function."""
        is_closing = False
        while not is_closing:
            with self._changed:
                self._changed.wait_for(lambda: self._counts or self._is_closing)
                counts, self._counts = self._counts, Counter()
                is_closing = self._is_closing
            for (channel, place, reason), count in counts.items():
                self._write(channel, place, reason, count)
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing, timeout=WRITE_SECONDS)

    def _write(self, channel: str, place: str, reason: str, count: int) -> None:
        try:
            faults = ItemFaults(self._context.store, self._context.clock, channel, place)
            faults.record(_ITEM, reason, count=count)
        except (SQLAlchemyError, OSError) as error:
            log.fault("refusals", error)
            with self._changed:  # the database is away: they are written later
                self._counts[channel, place, reason] += count
