"""Compare what a delivery was filed as with what it is parsed as now, and apply the differences."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from itertools import chain, repeat

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer, selectinload

from ingest.replay import differences
from ingest.replay.differences import FieldChange
from ingest.replay.match import FiledItem, Pairs, pair_items
from parsers.item import InboundItem, ParseResult, RejectedRow
from workflow.audit import record as audit
from workflow.customers import directory
from workflow.database.text_safety import make_storable
from workflow.filing import automated_mail, correspondents, delivery_reports, signs, threading
from workflow.filing.correspondents import DeskPeople
from workflow.filing.file_item import add_caveats, describe_rejection, describe_row_place, file_item
from workflow.models.core import AutomatedMail, Delivery, Filing, Message, StoredAttachment, Ticket
from workflow.models.states import Outcome
from workflow.runtime import log
from workflow.tickets.desk import Desk

REJECTED_OUTCOMES = {Outcome.REJECTED, Outcome.DISMISSED}
# keys of a delivery's messages as parsed now; None: not known yet
GetKeys = Callable[[int], set[str] | None]


class Verdict(StrEnum):
    """Result of the comparison for one item."""

    SAME = "same"
    CHANGED = "changed"  # its message, or the ticket it opened, differs
    RECEIVED = "received"  # to be filed: missing, ignored or taken for a duplicate until now
    GONE = "gone"  # filed before, not found now: reported and left as it is
    # filed as a request, would be ignored now: reported and left as it is
    NO_REQUEST = "no request"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An item of a delivery, as filed and as parsed now."""

    verdict: Verdict
    filing: Filing | None = None  # None: the item is new
    fields: tuple[FieldChange, ...] = ()
    notes: tuple[str, ...] = ()  # for a person, in our own words
    item: ParseResult | None = field(default=None, repr=False)

    @property
    def has_changes(self) -> bool:
        """Return whether applying it writes anything."""
        return self.verdict in {Verdict.CHANGED, Verdict.RECEIVED}


def compare(
    desk: Desk,
    session: Session,
    delivery: Delivery,
    items: Iterable[ParseResult],
    get_keys: GetKeys,
) -> list[Finding]:
    """Compare a delivery's items, as they are parsed now, with what was filed; changes nothing.

    `get_keys` is called with a delivery whose message an item of this one was taken for; it returns
    the keys of that delivery's messages, None while they are not known. The findings come in the
    order of filing, new items last.
    """
    parsed = [make_storable(item) for item in items]
    filed = _load_filed(session, delivery)
    pairs = _pair_requests(session, filed, parsed)
    findings, new = _compare_rejected(filed, parsed, pairs.new)
    findings += [
        _compare_item(desk, session, delivery, pairs, one, item, get_keys)
        for one, item in pairs.matched
    ]
    findings += [Finding(verdict=Verdict.GONE, filing=f.filing) for f in pairs.gone]
    findings.sort(key=lambda finding: finding.filing.position if finding.filing else 0)
    return findings + [Finding(verdict=Verdict.RECEIVED, item=item) for item in new]


def _pair_requests(
    session: Session, filed_items: Sequence[FiledItem], results: Sequence[ParseResult]
) -> Pairs:
    """Match the requests among the items with the filings of requests."""
    filed_requests = [f for f in filed_items if f.filing.outcome not in REJECTED_OUTCOMES]
    requests = [item for item in results if isinstance(item, InboundItem)]
    return pair_items(filed_requests, requests, partial(_fits, directory.CustomerLookup(session)))


def _fits(records: directory.CustomerLookup, filed: FiledItem, item: InboundItem) -> bool:
    """Return whether the filing's ticket may get the item: it names no other practice."""
    company = filed.ticket.company if filed.ticket is not None else None
    if company is None or not threading.has_practice(item):
        return True
    return threading.is_for_company(records, item, company.key)


def _compare_rejected(
    filed_items: Sequence[FiledItem],
    results: Sequence[ParseResult],
    requests: Sequence[InboundItem],
) -> tuple[list[Finding], list[ParseResult]]:
    """Compare rejected rows; return their findings, and the rows and requests that are new.

    A row is identified by its place in the file. One that is no longer rejected is among the new
    requests, which are assigned in order, because a request does not say which row it was.
    """
    rows = [row for row in results if isinstance(row, RejectedRow)]
    by_place = {describe_row_place(row): row for row in rows}
    findings = []
    unmatched_filings = []
    for filing in (f.filing for f in filed_items if f.filing.outcome in REJECTED_OUTCOMES):
        row = _take_row(by_place, filing)
        if row is None:
            unmatched_filings.append(filing)
        else:
            findings.append(_make_finding(filing, row, is_same=_is_rejected_alike(filing, row)))
    findings += _assign_requests(unmatched_filings, requests)
    return findings, [*requests[len(unmatched_filings) :], *by_place.values()]


def _assign_requests(
    unmatched: Sequence[Filing], requests: Sequence[InboundItem]
) -> Iterator[Finding]:
    """Yield a finding for each rejection whose row is no longer rejected, with the next request."""
    for filing, request in zip(unmatched, chain(requests, repeat(None)), strict=False):
        verdict = Verdict.GONE if request is None else Verdict.RECEIVED
        yield Finding(verdict=verdict, filing=filing, item=request)


def _take_row(by_place: dict[str, RejectedRow], filing: Filing) -> RejectedRow | None:
    """Remove and return the row that a rejection names by its place, or None."""
    place = next((p for p in _iter_prefixes(filing.reason) if p in by_place), "")
    return by_place.pop(place, None)


def _is_rejected_alike(filing: Filing, row: RejectedRow) -> bool:
    """Return whether a row is rejected for the same reason, or was dismissed by a person."""
    return filing.outcome is Outcome.DISMISSED or filing.reason == describe_rejection(row)


def _make_finding(filing: Filing, item: ParseResult, *, is_same: bool) -> Finding:
    """Return the finding for an item that is the same as before, or else to be filed anew."""
    verdict = Verdict.SAME if is_same else Verdict.RECEIVED
    return Finding(verdict=verdict, filing=filing, item=item)


def _iter_prefixes(reason: str) -> Iterator[str]:
    """Yield what precedes each comma or colon of a reason: one of them is the row's place."""
    return (reason[:end] for end, c in enumerate(reason) if c in ",:")


def apply_findings(
    desk: Desk,
    session: Session,
    delivery: Delivery,
    findings: Sequence[Finding],
    *,
    by: str,
    now: datetime,
) -> list[Filing]:
    """Apply the changes in the session that compared; return the filings of items newly received.

    No message or ticket is deleted; of a message's files, those that are no longer found. Safe to
    repeat: the next comparison finds nothing to change.
    """
    changed_findings = [f for f in findings if f.verdict is Verdict.CHANGED]
    for finding in changed_findings:
        for change in finding.fields:
            change.apply(session, now)
        assert finding.filing is not None
        session.flush()
        names = [change.name for change in finding.fields]
        audit.record(
            session,
            "re-read",
            by=by,
            cause="replay",
            now=now,
            ticket=finding.filing.ticket_id,
            delivery=delivery.id,
            message=finding.filing.message_id,
            fields=names,
        )
    new_filings = file_received(desk, session, delivery, findings, now)
    if changed_findings or new_filings:
        counts = {"changed": len(changed_findings), "received": len(new_filings)}
        audit.record(
            session, "re-read", by=by, cause="replay", now=now, delivery=delivery.id, **counts
        )
        log.delivery_reprocessed(delivery.id, **counts)
    return new_filings


def file_received(
    desk: Desk, session: Session, delivery: Delivery, findings: Sequence[Finding], now: datetime
) -> list[Filing]:
    """File the items to be received, each in place of what was filed for it.

    The delivery's item count follows.
    """
    filings = []
    for finding in findings:
        if finding.verdict is not Verdict.RECEIVED:
            continue
        assert finding.item is not None
        position, automated_mail = _count_items(session, delivery), None
        if finding.filing is not None:
            position = finding.filing.position
            # until now it may have been listed as automated mail, on no ticket
            of_delivery = AutomatedMail.delivery_id == delivery.id
            automated_mail = session.scalar(select(AutomatedMail).where(of_delivery))
            session.delete(session.get_one(Filing, (delivery.id, position)))
            session.flush()
        filing = file_item(desk, session, finding.item, delivery, position, now)
        filings.append(filing)
        if automated_mail is not None:
            automated_mail.ticket_id = filing.ticket_id
        session.flush()
    if filings:
        delivery.items = _count_items(session, delivery)
    return filings


def _count_items(session: Session, delivery: Delivery) -> int:
    """Return how many items of the delivery are filed."""
    return session.scalar(select(func.count()).where(Filing.delivery_id == delivery.id)) or 0


def _load_filed(session: Session, delivery: Delivery) -> list[FiledItem]:
    """Return what was filed, with all that is compared, in a fixed number of queries."""
    rows = (
        select(Filing, Message, Ticket)
        .outerjoin(Message, Message.id == Filing.message_id)
        .outerjoin(Ticket, Ticket.id == Filing.ticket_id)
        .where(Filing.delivery_id == delivery.id)
        .order_by(Filing.position)
        .options(
            selectinload(Message.attachments).options(defer(StoredAttachment.content)),
            selectinload(Ticket.contacts),
        )
    )
    return [FiledItem(filing, message, ticket) for filing, message, ticket in session.execute(rows)]


def _compare_item(
    desk: Desk,
    session: Session,
    delivery: Delivery,
    pairs: Pairs,
    filed_item: FiledItem,
    item: InboundItem,
    get_keys: GetKeys,
) -> Finding:
    """Compare one item with its filing."""
    item = signs.add_envelope_signs(desk.settings, item, delivery)
    people = DeskPeople.load(session, desk.settings)
    item = correspondents.resolve(session, people, item)
    if filed_item.filing.outcome is Outcome.OPENED:
        item = correspondents.settle_unmatched(people, item)
    filing, (expected_item, _) = filed_item.filing, add_caveats(desk, item, delivery)
    report = delivery_reports.find_report(desk, session, item, delivery)
    ignored_filing = report.make_filing(session) if report is not None else None
    if filing.outcome is Outcome.IGNORED:
        is_same = _is_ignored_alike(filing, ignored_filing)
        if report is None and filing.ticket_id is None:
            lookup = directory.CustomerLookup(session)
            is_same = bool(automated_mail.find_reason(people, lookup, expected_item, delivery))
        return _make_finding(filing, item, is_same=is_same)
    if ignored_filing is not None:
        note = f"read now, it is {ignored_filing.reason}"
        return Finding(verdict=Verdict.NO_REQUEST, filing=filing, notes=(note,))
    if filing.outcome is Outcome.DUPLICATE:
        is_duplicate = _is_still_duplicate(delivery, pairs, filed_item, item, get_keys)
        return _make_finding(filing, item, is_same=is_duplicate)
    assert filed_item.message is not None
    fields = list(differences.compare_message(desk, filed_item.message, expected_item, delivery))
    identity_changes, notes = differences.compare_identity(
        session, filed_item.message, expected_item
    )
    fields += identity_changes
    if filing.outcome is Outcome.OPENED and filed_item.ticket is not None:
        fields += differences.compare_ticket(
            desk, session, filed_item.ticket, filed_item.message, expected_item
        )
    verdict = Verdict.CHANGED if fields else Verdict.SAME
    return Finding(verdict=verdict, filing=filing, fields=tuple(fields), notes=tuple(notes))


def _is_ignored_alike(filing: Filing, ignored_filing: Filing | None) -> bool:
    """Return whether an item would be ignored for the same reason, on the same ticket."""
    if ignored_filing is None:
        return False
    return (ignored_filing.ticket_id, ignored_filing.reason) == (filing.ticket_id, filing.reason)


def _is_still_duplicate(
    delivery: Delivery, pairs: Pairs, filed_item: FiledItem, item: InboundItem, get_keys: GetKeys
) -> bool:
    """Return whether an item is still a duplicate of the message it was filed as.

    Both are parsed by today's parser.
    """
    key, message = threading.build_message_key(item), filed_item.message
    if message is None or message.delivery_id is None or key == threading.build_stored_key(message):
        return True
    if _has_content_of(message, item):
        return True
    if message.delivery_id != delivery.id:
        keys = get_keys(message.delivery_id)
        return keys is None or key in keys
    originals = _list_originals(pairs, message)
    return not originals or key in map(threading.build_message_key, originals)


def _list_originals(pairs: Pairs, message: Message) -> list[InboundItem]:
    """Return the items of this delivery that the message was opened or appended for."""
    return [
        item
        for filed, item in pairs.matched
        if filed.message is message and filed.filing.outcome is not Outcome.DUPLICATE
    ]


def _has_content_of(message: Message, item: InboundItem) -> bool:
    """Return whether an item is the message by its content.

    Without a usable id in one of the exports the content decides, as when it was filed.
    """
    keys = threading.build_keys(item)
    if keys is None or message.external_id != keys.shared:
        return False
    return not threading.has_different_id(item, message.message_id)
