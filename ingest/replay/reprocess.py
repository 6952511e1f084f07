"""Deliveries of the past, read again: first what would change, then the change.

And trying what failed, without it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from ingest.imap.unfetched import refuse_address
from ingest.parser_options import options
from ingest.processing import parser_pool
from ingest.processing.parser_pool import EndedError, Frame
from ingest.processing.process import opened
from ingest.replay import compare
from ingest.replay.compare import Finding, Verdict
from parsers.item import Format, InboundItem, Parsed, ParseError, SheetCounts
from workflow.audit import record as audit
from workflow.context import House
from workflow.filing import sheet_counts, threading
from workflow.models.core import Delivery, Filing
from workflow.models.states import DeliveryState, Outcome
from workflow.runtime import log
from workflow.runtime.blobs import Vault
from workflow.tickets.desk import Desk

LOOKED = "original read"  # in the audit trail
MOST_TRIED = 1000  # items filed for a trial: while it lasts, SQLite lets nobody else write


class UnreadableError(Exception):
    """The stored bytes cannot be read today; the text says why, in our own words."""


@dataclass(frozen=True)
class Becoming:
    """What becomes, or would become, of an item that is filed."""

    outcome: Outcome
    ticket: int | None = None  # None of a trial that would open one: its number is not known yet
    reason: str = ""


@dataclass(frozen=True)
class Reread:
    """A delivery that was read before, held against what reading it gives now."""

    number: int
    findings: list[Finding]
    becoming: list[
        Becoming
    ]  # of those to be received, in their order; of a preview the first MOST_TRIED
    items: list[Parsed] = field(repr=False)
    others: "_Others" = field(repr=False)
    sheets: tuple[SheetCounts, ...] = ()  # what the sheets of a workbook are read as now

    @property
    def changes(self) -> bool:
        """Return whether applying it writes anything."""
        return any(f.changes for f in self.findings)


@dataclass(frozen=True)
class Trial:
    """A delivery that is not processed, read and filed for a trial."""

    filed: int  # items filed before, for good
    left: int  # yet to be filed
    becoming: list[Becoming]  # of those, the first MOST_TRIED


class _Others:
    """What the messages of other deliveries are told by, read by today's parsers.

    Each is read once.

    Asked about one that has not been read, it says that it does not know, and reads it when it is
    told to: nothing is parsed while a transaction waits for it.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._known: dict[int, set[str] | None] = {}
        self._wanted: set[int] = set()

    def __call__(self, number: int) -> set[str] | None:
        if number not in self._known:
            self._wanted.add(number)
        return self._known.get(number)

    def read(self) -> bool:
        """Read those asked about; whether there were any."""
        wanted, self._wanted = self._wanted, set()
        for number in wanted:
            try:
                items = parsed(self._house, number).items
                requests = [i for i in items if isinstance(i, InboundItem)]
                self._known[number] = {key for i in requests if (key := threading.message_key(i))}
            except UnreadableError:
                self._known[number] = None
        return bool(wanted)


def preview(house: House, number: int) -> Reread:
    """Return what reading a processed delivery again would change; nothing is written.

    Raises UnreadableError when it cannot be read, LookupError when there is no such delivery.
    """
    read, others = parsed(house, number), _Others(house)
    items = read.items
    findings = _compared(house, number, items, others)
    if others.read():
        findings = _compared(house, number, items, others)
    received = list(islice((f for f in findings if f.verdict is Verdict.RECEIVED), MOST_TRIED))
    return Reread(number, findings, _tried(house, number, received), items, others, read.sheets)


def _compared(house: House, number: int, items: list[Parsed], others: _Others) -> list[Finding]:
    with house.store.reading() as session:
        return compare.compare(house.desk, session, _delivery(session, number), items, others)


def apply(house: House, shown: Reread, *, by: str) -> Reread:
    """Make what was shown so, in one transaction.

    What was done, compared once more with what is there now.
    """
    with house.store.transaction() as session:
        delivery = _delivery(session, shown.number, hold=True)
        if delivery.state is not DeliveryState.PROCESSED:  # somebody is reading it
            return Reread(shown.number, [], [], shown.items, shown.others, shown.sheets)
        findings = compare.compare(house.desk, session, delivery, shown.items, shown.others)
        filings = compare.put(house.desk, session, delivery, findings, by=by, now=house.clock())
        sheet_counts.keep(session, shown.number, shown.sheets)
        becoming = [Becoming(f.outcome, f.ticket_id, f.reason) for f in filings]
    return Reread(shown.number, findings, becoming, shown.items, shown.others, shown.sheets)


def trial(house: House, number: int) -> Trial:
    """Read a delivery that is not processed as if it was for good, and take it back.

    Raises UnreadableError when it cannot be read, LookupError when there is no such delivery.
    """
    items = parsed(house, number).items
    with house.store.reading() as session:
        filed = session.scalar(select(func.count()).where(Filing.delivery_id == number)) or 0
    left = items[filed:]
    findings = [Finding(verdict=Verdict.RECEIVED, item=item) for item in left[:MOST_TRIED]]
    return Trial(filed, len(left), _tried(house, number, findings))


def original(house: House, number: int) -> tuple[Format, bytes]:
    """Return what a delivery is, and its bytes as they came.

    Raises UnreadableError when they cannot be had, LookupError when there is no such delivery.
    """
    with house.store.reading() as session:
        delivery = session.get(Delivery, number)
        if delivery is None:
            raise LookupError(number)
        form, content, blob = delivery.format, delivery.content, delivery.blob
    try:
        return form, opened(house, content, blob)
    except EndedError as error:
        raise UnreadableError(str(error)) from None


def shown_to(house: House, number: int, *, by: str, cause: str) -> tuple[Format, bytes]:
    """Return what a delivery is, and its bytes, for a person.

    That they are looked at is on record before they are.

    Raises UnreadableError when they cannot be had, LookupError when there is no such delivery.
    """
    found = original(house, number)
    with house.store.transaction() as session:
        audit.record(session, LOOKED, by=by, cause=cause, now=house.clock(), delivery=number)
    return found


def parsed(house: House, number: int) -> Frame:
    """The items of a delivery, and what its sheets are read as, as its stored bytes are read today.

    Raises UnreadableError when they cannot be, LookupError when there is no such delivery.
    """
    form, raw = original(house, number)
    how = options(house, form)
    with house.store.reading() as session:
        transport = session.scalar(select(Delivery.transport).where(Delivery.id == number)) or ""
    with in_our_words():
        refuse_address(transport, form, raw)
        return parser_pool.parse_whole(form, raw, how)


@contextmanager
def in_our_words() -> Iterator[None]:
    """Have whatever comes between a file and its reading raise UnreadableError.

    Which quotes nothing of the file.
    """
    try:
        yield
    except (ParseError, EndedError) as error:
        raise UnreadableError(str(error)) from None
    except OSError:  # no process can be had
        raise
    except Exception as error:  # noqa: BLE001  # a parser's bug, whose text may be a customer's
        raise UnreadableError(
            f"an error of ours ({getattr(error, 'kind', type(error).__name__)})"
        ) from None


def _delivery(session: Session, number: int, *, hold: bool = False) -> Delivery:
    query = select(Delivery).where(Delivery.id == number).options(defer(Delivery.content))
    return session.scalars(query.with_for_update() if hold else query).one()


# -- trying ----


class _Nowhere(Vault):
    """Keeps nothing: the rows that would hold it are taken back."""

    def keep(self, plain: bytes) -> tuple[bytes | None, str | None]:
        """Seal nothing."""
        del plain
        return b"", None


def _tried(house: House, number: int, findings: Sequence[Finding]) -> list[Becoming]:
    """Return what would become of these items, found by filing them and taking it back."""
    if not findings:
        return []
    vault = _Nowhere(house.settings.blobs, house.sealer, house.settings.inline_limit)
    desk = Desk(house.settings, house.signer, vault)
    with _taken_back(house) as session, log.trial():
        filings = compare.take(
            desk, session, _delivery(session, number, hold=True), findings, house.clock()
        )
        opened = {f.ticket_id for f in filings if f.outcome is Outcome.OPENED}
        known = [None if f.ticket_id in opened else f.ticket_id for f in filings]
        return [Becoming(f.outcome, t, f.reason) for f, t in zip(filings, known, strict=True)]


@contextmanager
def _taken_back(house: House) -> Iterator[Session]:
    with Session(house.store.engine) as session:
        yield session
        session.rollback()
