"""Deliveries of the past, read again: first what would change, then the change.

And trying what failed, without it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer

from ingest.imap.unfetched import reject_mail_url
from ingest.parser_options import load_parser_options
from ingest.processing import parser_pool
from ingest.processing.parser_pool import Frame, ParserEndedError
from ingest.processing.process import read_raw
from ingest.replay import compare
from ingest.replay.compare import Finding, Verdict
from parsers.item import Format, InboundItem, ParseError, ParseResult, SheetCounts
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.filing import sheet_counts, threading
from workflow.models.core import Delivery, Filing
from workflow.models.states import DeliveryState, Outcome
from workflow.runtime import log
from workflow.runtime.blobs import BlobStore
from workflow.tickets.desk import Desk

ORIGINAL_READ = "original read"  # in the audit trail
MOST_TRIED = 1000  # items filed for a trial: while it lasts, SQLite lets nobody else write


class UnreadableError(Exception):
    """The stored bytes cannot be read today; the text says why, in our own words."""


@dataclass(frozen=True)
class ReplayOutcome:
    """What becomes, or would become, of an item that is filed."""

    outcome: Outcome
    ticket_id: int | None = None  # None of a trial that would open one: its number is not known yet
    reason: str = ""


@dataclass(frozen=True)
class ReplayComparison:
    """A delivery that was read before, held against what reading it gives now."""

    number: int
    findings: list[Finding]
    outcomes: list[
        ReplayOutcome
    ]  # of those to be received, in their order; of a preview the first MOST_TRIED
    items: list[ParseResult] = field(repr=False)
    get_other_keys: "_Others" = field(repr=False)
    sheets: tuple[SheetCounts, ...] = ()  # what the sheets of a workbook are read as now

    @property
    def has_changes(self) -> bool:
        """Return whether applying it writes anything."""
        return any(f.has_changes for f in self.findings)


@dataclass(frozen=True)
class ReplayTrial:
    """A delivery that is not processed, read and filed for a trial."""

    filed: int  # items filed before, for good
    remaining: int  # yet to be filed
    outcomes: list[ReplayOutcome]  # of those, the first MOST_TRIED


class _Others:
    """What the messages of other deliveries are told by, read by today's parsers.

    Each is read once.

    Asked about one that has not been read, it says that it does not know, and reads it when it is
    told to: nothing is parsed while a transaction waits for it.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
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
                items = parse_delivery(self._context, number).items
                requests = [i for i in items if isinstance(i, InboundItem)]
                self._known[number] = {
                    key for i in requests if (key := threading.build_message_key(i))
                }
            except UnreadableError:
                self._known[number] = None
        return bool(wanted)


def preview_replay(context: AppContext, number: int) -> ReplayComparison:
    """Return what reading a processed delivery again would change; nothing is written.

    Raises UnreadableError when it cannot be read, LookupError when there is no such delivery.
    """
    read, others = parse_delivery(context, number), _Others(context)
    items = read.items
    findings = _compared(context, number, items, others)
    if others.read():
        findings = _compared(context, number, items, others)
    received = list(islice((f for f in findings if f.verdict is Verdict.RECEIVED), MOST_TRIED))
    return ReplayComparison(
        number, findings, _tried(context, number, received), items, others, read.sheets
    )


def _compared(
    context: AppContext, number: int, items: list[ParseResult], others: _Others
) -> list[Finding]:
    with context.store.read_only() as session:
        return compare.compare(context.desk, session, _delivery(session, number), items, others)


def apply_replay(context: AppContext, shown: ReplayComparison, *, by: str) -> ReplayComparison:
    """Make what was shown so, in one transaction.

    What was done, compared once more with what is there now.
    """
    with context.store.transaction() as session:
        delivery = _delivery(session, shown.number, hold=True)
        if delivery.state is not DeliveryState.PROCESSED:  # somebody is reading it
            return ReplayComparison(
                shown.number, [], [], shown.items, shown.get_other_keys, shown.sheets
            )
        findings = compare.compare(
            context.desk, session, delivery, shown.items, shown.get_other_keys
        )
        filings = compare.apply_findings(
            context.desk, session, delivery, findings, by=by, now=context.clock()
        )
        sheet_counts.store_counts(session, shown.number, shown.sheets)
        becoming = [ReplayOutcome(f.outcome, f.ticket_id, f.reason) for f in filings]
    return ReplayComparison(
        shown.number, findings, becoming, shown.items, shown.get_other_keys, shown.sheets
    )


def try_replay(context: AppContext, number: int) -> ReplayTrial:
    """Read a delivery that is not processed as if it was for good, and take it back.

    Raises UnreadableError when it cannot be read, LookupError when there is no such delivery.
    """
    items = parse_delivery(context, number).items
    with context.store.read_only() as session:
        filed = session.scalar(select(func.count()).where(Filing.delivery_id == number)) or 0
    left = items[filed:]
    findings = [Finding(verdict=Verdict.RECEIVED, item=item) for item in left[:MOST_TRIED]]
    return ReplayTrial(filed, len(left), _tried(context, number, findings))


def read_original(context: AppContext, number: int) -> tuple[Format, bytes]:
    """Return what a delivery is, and its bytes as they came.

    Raises UnreadableError when they cannot be had, LookupError when there is no such delivery.
    """
    with context.store.read_only() as session:
        delivery = session.get(Delivery, number)
        if delivery is None:
            raise LookupError(number)
        form, content, blob = delivery.format, delivery.content, delivery.blob
    try:
        return form, read_raw(context, content, blob)
    except ParserEndedError as error:
        raise UnreadableError(str(error)) from None


def read_original_for_person(
    context: AppContext, number: int, *, by: str, cause: str
) -> tuple[Format, bytes]:
    """Return what a delivery is, and its bytes, for a person.

    That they are looked at is on record before they are.

    Raises UnreadableError when they cannot be had, LookupError when there is no such delivery.
    """
    found = read_original(context, number)
    with context.store.transaction() as session:
        audit.record(
            session, ORIGINAL_READ, by=by, cause=cause, now=context.clock(), delivery=number
        )
    return found


def parse_delivery(context: AppContext, number: int) -> Frame:
    """The items of a delivery, and what its sheets are read as, as its stored bytes are read today.

    Raises UnreadableError when they cannot be, LookupError when there is no such delivery.
    """
    form, raw = read_original(context, number)
    how = load_parser_options(context, form)
    with context.store.read_only() as session:
        transport = session.scalar(select(Delivery.transport).where(Delivery.id == number)) or ""
    with hide_parser_errors():
        reject_mail_url(transport, form, raw)
        return parser_pool.parse_whole(form, raw, how)


@contextmanager
def hide_parser_errors() -> Iterator[None]:
    """Have whatever comes between a file and its reading raise UnreadableError.

    Which quotes nothing of the file.
    """
    try:
        yield
    except (ParseError, ParserEndedError) as error:
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


class _Nowhere(BlobStore):
    """Keeps nothing: the rows that would hold it are taken back."""

    def store(self, plain: bytes) -> tuple[bytes | None, str | None]:
        """Seal nothing."""
        del plain
        return b"", None


def _tried(context: AppContext, number: int, findings: Sequence[Finding]) -> list[ReplayOutcome]:
    """Return what would become of these items, found by filing them and taking it back."""
    if not findings:
        return []
    vault = _Nowhere(context.settings.blobs, context.sealer, context.settings.inline_limit)
    desk = Desk(context.settings, context.signer, vault)
    with _taken_back(context) as session, log.mark_trial():
        filings = compare.file_received(
            desk, session, _delivery(session, number, hold=True), findings, context.clock()
        )
        opened = {f.ticket_id for f in filings if f.outcome is Outcome.OPENED}
        known = [None if f.ticket_id in opened else f.ticket_id for f in filings]
        return [ReplayOutcome(f.outcome, t, f.reason) for f, t in zip(filings, known, strict=True)]


@contextmanager
def _taken_back(context: AppContext) -> Iterator[Session]:
    with Session(context.store.engine) as session:
        yield session
        session.rollback()
