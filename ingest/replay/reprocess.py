"""Process past deliveries again: preview what would change, apply it, or try a failed one."""

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

ORIGINAL_READ = "original read"  # the action in the audit log
MAX_TRIED = 1000  # items filed for a trial: SQLite lets nobody else write meanwhile


class UnreadableError(Exception):
    """The stored bytes cannot be parsed today; the text says why, in our own words."""


@dataclass(frozen=True)
class ReplayOutcome:
    """The filing that an item gets, or would get.

    `ticket_id` is None where a trial would open a ticket.
    """

    outcome: Outcome
    ticket_id: int | None = None  # None: it would open one
    reason: str = ""


@dataclass(frozen=True)
class ReplayComparison:
    """A processed delivery, compared with what parsing it gives now.

    `outcomes` are those of the items to be received, in their order; of a preview the first
    MAX_TRIED.
    """

    number: int
    findings: list[Finding]
    # of those to be received, in their order; of a preview the first MAX_TRIED
    outcomes: list[ReplayOutcome]
    items: list[ParseResult] = field(repr=False)
    get_other_keys: "_OtherKeys" = field(repr=False)
    sheets: tuple[SheetCounts, ...] = ()  # of a workbook, as parsed now

    @property
    def has_changes(self) -> bool:
        """Return whether applying it writes anything."""
        return any(f.has_changes for f in self.findings)


@dataclass(frozen=True)
class ReplayTrial:
    """An unprocessed delivery, parsed and filed for trial.

    `filed_count` items were filed before, for good; `remaining` are yet to be filed; `outcomes` has
    the first MAX_TRIED of those.
    """

    filed_count: int  # items filed before, for good
    remaining: int  # yet to be filed
    outcomes: list[ReplayOutcome]  # of those, the first MAX_TRIED


class _OtherKeys:
    """Keys of other deliveries' messages, parsed by today's parsers, each delivery once.

    A call for one that is not parsed yet returns None, and `read` parses it later: nothing is
    parsed while a transaction waits.
    """

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._keys_by_delivery: dict[int, set[str] | None] = {}
        self._requested_numbers: set[int] = set()

    def __call__(self, number: int) -> set[str] | None:
        if number not in self._keys_by_delivery:
            self._requested_numbers.add(number)
        return self._keys_by_delivery.get(number)

    def read(self) -> bool:
        """Parse the deliveries that were asked for; return whether there were any."""
        numbers, self._requested_numbers = self._requested_numbers, set()
        for number in numbers:
            try:
                items = parse_delivery(self._context, number).items
                requests = [i for i in items if isinstance(i, InboundItem)]
                self._keys_by_delivery[number] = {
                    key for i in requests if (key := threading.build_message_key(i))
                }
            except UnreadableError:
                self._keys_by_delivery[number] = None
        return bool(numbers)


def preview_replay(context: AppContext, number: int) -> ReplayComparison:
    """Return what processing a processed delivery again would change; nothing is written.

    Raises UnreadableError when it cannot be parsed, LookupError when there is no such delivery.
    """
    parsed_delivery, others = parse_delivery(context, number), _OtherKeys(context)
    items = parsed_delivery.items
    findings = _compare(context, number, items, others)
    if others.read():
        findings = _compare(context, number, items, others)
    received = list(islice((f for f in findings if f.verdict is Verdict.RECEIVED), MAX_TRIED))
    return ReplayComparison(
        number,
        findings,
        _try_filing(context, number, received),
        items,
        others,
        parsed_delivery.sheets,
    )


def _compare(
    context: AppContext, number: int, items: list[ParseResult], others: _OtherKeys
) -> list[Finding]:
    """Compare a delivery with its items as parsed now."""
    with context.store.read_only() as session:
        return compare.compare(context.desk, session, _get_delivery(session, number), items, others)


def apply_replay(context: AppContext, preview: ReplayComparison, *, by: str) -> ReplayComparison:
    """Apply a preview in one transaction; return what was done, compared with the present state."""
    with context.store.transaction() as session:
        delivery = _get_delivery(session, preview.number, hold=True)
        if delivery.state is not DeliveryState.PROCESSED:  # it is being processed
            return ReplayComparison(
                preview.number, [], [], preview.items, preview.get_other_keys, preview.sheets
            )
        findings = compare.compare(
            context.desk, session, delivery, preview.items, preview.get_other_keys
        )
        filings = compare.apply_findings(
            context.desk, session, delivery, findings, by=by, now=context.clock()
        )
        sheet_counts.store_counts(session, preview.number, preview.sheets)
        becoming = [ReplayOutcome(f.outcome, f.ticket_id, f.reason) for f in filings]
    return ReplayComparison(
        preview.number, findings, becoming, preview.items, preview.get_other_keys, preview.sheets
    )


def try_replay(context: AppContext, number: int) -> ReplayTrial:
    """Process an unprocessed delivery in a transaction that is rolled back.

    Raises UnreadableError when it cannot be parsed, LookupError when there is no such delivery.
    """
    items = parse_delivery(context, number).items
    with context.store.read_only() as session:
        filed = session.scalar(select(func.count()).where(Filing.delivery_id == number)) or 0
    left = items[filed:]
    findings = [Finding(verdict=Verdict.RECEIVED, item=item) for item in left[:MAX_TRIED]]
    return ReplayTrial(filed, len(left), _try_filing(context, number, findings))


def read_original(context: AppContext, number: int) -> tuple[Format, bytes]:
    """Return a delivery's format, and its bytes as they came.

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
    """Return a delivery's format and bytes to show to a person, recorded in the audit log first.

    Raises UnreadableError when they cannot be had, LookupError when there is no such delivery.
    """
    original = read_original(context, number)
    with context.store.transaction() as session:
        audit.record(
            session, ORIGINAL_READ, by=by, cause=cause, now=context.clock(), delivery=number
        )
    return original


def parse_delivery(context: AppContext, number: int) -> Frame:
    """Return the items of a delivery, and the counts of its sheets, as parsed today.

    Raises UnreadableError when its stored bytes cannot be parsed, LookupError when there is no such
    delivery.
    """
    form, raw = read_original(context, number)
    parser_options = load_parser_options(context, form)
    with context.store.read_only() as session:
        transport = session.scalar(select(Delivery.transport).where(Delivery.id == number)) or ""
    with hide_parser_errors():
        reject_mail_url(transport, form, raw)
        return parser_pool.parse_whole(form, raw, parser_options)


@contextmanager
def hide_parser_errors() -> Iterator[None]:
    """Turn the errors of parsing into UnreadableError, whose text quotes nothing of the file."""
    try:
        yield
    except (ParseError, ParserEndedError) as error:
        raise UnreadableError(str(error)) from None
    except OSError:  # no parser process can be started
        raise
    except Exception as error:  # noqa: BLE001  # a parser's bug, whose text may be a customer's
        raise UnreadableError(
            f"an error of ours ({getattr(error, 'kind', type(error).__name__)})"
        ) from None


def _get_delivery(session: Session, number: int, *, hold: bool = False) -> Delivery:
    """Return the delivery without its bytes, locked with `hold`."""
    query = select(Delivery).where(Delivery.id == number).options(defer(Delivery.content))
    return session.scalars(query.with_for_update() if hold else query).one()


# -- trials ----


class _NullStore(BlobStore):
    """Blob store that stores nothing: the rows that refer to it are rolled back."""

    def store(self, plain: bytes, digest: str = "") -> tuple[bytes | None, str | None]:
        """Seal nothing."""
        del plain, digest
        return b"", None


def _try_filing(
    context: AppContext, number: int, findings: Sequence[Finding]
) -> list[ReplayOutcome]:
    """Return the outcomes of filing these items, in a transaction that is rolled back."""
    if not findings:
        return []
    blob_store = _NullStore(context.settings.blobs, context.sealer, context.settings.inline_limit)
    desk = Desk(context.settings, context.signer, blob_store)
    with _open_trial_session(context) as session, log.mark_trial():
        filings = compare.file_received(
            desk, session, _get_delivery(session, number, hold=True), findings, context.clock()
        )
        opened_ids = {f.ticket_id for f in filings if f.outcome is Outcome.OPENED}
        ticket_ids = [None if f.ticket_id in opened_ids else f.ticket_id for f in filings]
        return [
            ReplayOutcome(f.outcome, t, f.reason) for f, t in zip(filings, ticket_ids, strict=True)
        ]


@contextmanager
def _open_trial_session(context: AppContext) -> Iterator[Session]:
    """Yield a session that is rolled back."""
    with Session(context.store.engine) as session:
        yield session
        session.rollback()
