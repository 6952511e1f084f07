"""A delivery that was read before, read again: what has become of each item, and making it so."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer, selectinload

from ingest.replay import differences
from ingest.replay.differences import FieldChange
from ingest.replay.match import FiledItem, Pairs, pair_items
from parsers.item import InboundItem, ParseResult, RejectedRow
from workflow.audit import record as audit
from workflow.customers import directory
from workflow.database.text_safety import make_storable
from workflow.filing import delivery_reports, signs, threading
from workflow.filing.file_item import add_caveats, describe_rejection, describe_row_place, file_item
from workflow.models.core import AutomatedMail, Delivery, Filing, Message, StoredAttachment, Ticket
from workflow.models.states import Outcome
from workflow.runtime import log
from workflow.tickets.desk import Desk

REJECTED_OUTCOMES = {Outcome.REJECTED, Outcome.DISMISSED}
GetKeys = Callable[
    [int], set[str] | None
]  # what a delivery's messages are told by, read now; None: not known


class Verdict(StrEnum):
    """What reading again means for one item."""

    SAME = "same"
    CHANGED = "changed"  # its message, or the ticket that it opened, reads otherwise
    RECEIVED = "received"  # to be filed: not found, ignored or taken for another one until now
    GONE = "gone"  # filed then, not found now: told, and left as it is
    NO_REQUEST = (
        "no request"  # filed as a request then, would be ignored now: told, and left as it is
    )


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One item, then and now."""

    verdict: Verdict
    filing: Filing | None = None  # None: it is new
    fields: tuple[FieldChange, ...] = ()
    notes: tuple[str, ...] = ()  # for a person, in our own words
    item: ParseResult | None = field(default=None, repr=False)

    @property
    def has_changes(self) -> bool:
        """Return whether putting it writes anything."""
        return self.verdict in {Verdict.CHANGED, Verdict.RECEIVED}


def compare(
    desk: Desk, session: Session, delivery: Delivery, items: Iterable[ParseResult], keys_of: GetKeys
) -> list[Finding]:
    """Hold a delivery's items, as they are read now, against what was filed; changes nothing.

    `keys_of` is asked about deliveries whose message an item of this one was taken for.
    """
    read, filed = [make_storable(item) for item in items], _filed(session, delivery)
    requests = [f for f in filed if f.filing.outcome not in REJECTED_OUTCOMES]
    records = directory.CustomerLookup(session)

    def fits(one: FiledItem, item: InboundItem) -> bool:
        company = one.ticket.company if one.ticket is not None else None
        return (
            company is None
            or not threading.has_practice(item)
            or threading.is_for_company(records, item, company.key)
        )

    pairs = pair_items(requests, [item for item in read if isinstance(item, InboundItem)], fits)
    rejected = [f.filing for f in filed if f.filing.outcome in REJECTED_OUTCOMES]
    rows, new = _rejected(
        rejected, [row for row in read if isinstance(row, RejectedRow)], pairs.new
    )
    found = [
        _compared(desk, session, delivery, pairs, one, item, keys_of) for one, item in pairs.matched
    ]
    gone = [Finding(verdict=Verdict.GONE, filing=f.filing) for f in pairs.gone]
    found = sorted([*found, *gone, *rows], key=lambda f: f.filing.position if f.filing else 0)
    return found + [Finding(verdict=Verdict.RECEIVED, item=item) for item in new]


def _rejected(
    filings: Sequence[Filing], rows: Sequence[RejectedRow], requests: Sequence[InboundItem]
) -> tuple[list[Finding], list[ParseResult]]:
    """Return what has become of rows that were rejected.

    And what is left of rejected rows and requests that are new.

    A row is told by where it stands in the file. One that is rejected no more is one of the new
    requests: they are taken in order, because a request does not say which row it was.
    """
    by_place = {describe_row_place(row): row for row in rows}
    found, mended = [], []
    for filing in filings:
        row = by_place.pop(next((p for p in _beginnings(filing.reason) if p in by_place), ""), None)
        if row is None:
            mended.append(filing)
            continue
        same = filing.outcome is Outcome.DISMISSED or filing.reason == describe_rejection(row)
        found.append(
            Finding(verdict=Verdict.SAME if same else Verdict.RECEIVED, filing=filing, item=row)
        )
    for at, filing in enumerate(mended):
        taken = requests[at] if at < len(requests) else None
        verdict = Verdict.GONE if taken is None else Verdict.RECEIVED
        found.append(Finding(verdict=verdict, filing=filing, item=taken))
    return found, [*requests[len(mended) :], *by_place.values()]


def _beginnings(reason: str) -> Iterator[str]:
    return (reason[:at] for at, c in enumerate(reason) if c in ",:")


def apply_findings(
    desk: Desk,
    session: Session,
    delivery: Delivery,
    findings: Sequence[Finding],
    *,
    by: str,
    now: datetime,
) -> list[Filing]:
    """Make it so, in the session that compared; the filings of what was received, in order.

    No message or ticket is taken away; of a message's files, those that are not found any more.
    Safe to repeat: the next comparison finds nothing to change.
    """
    changed = [f for f in findings if f.verdict is Verdict.CHANGED]
    for finding in changed:
        for one in finding.fields:
            one.apply(session, now)
        assert finding.filing is not None
        session.flush()
        names = [one.name for one in finding.fields]
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
    received = file_received(desk, session, delivery, findings, now)
    if changed or received:
        counts = {"changed": len(changed), "received": len(received)}
        audit.record(
            session, "re-read", by=by, cause="replay", now=now, delivery=delivery.id, **counts
        )
        log.delivery_reprocessed(delivery.id, **counts)
    return received


def file_received(
    desk: Desk, session: Session, delivery: Delivery, findings: Sequence[Finding], now: datetime
) -> list[Filing]:
    """File what is to be received, in place of what was filed for it.

    As many items are counted as are filed.
    """
    filings = []
    for finding in findings:
        if finding.verdict is not Verdict.RECEIVED:
            continue
        assert finding.item is not None
        position, automated = _counted(session, delivery), None
        if finding.filing is not None:
            position = finding.filing.position
            listed = AutomatedMail.delivery_id == delivery.id  # on no ticket until now
            automated = session.scalar(select(AutomatedMail).where(listed))
            session.delete(session.get_one(Filing, (delivery.id, position)))
            session.flush()
        filing = file_item(desk, session, finding.item, delivery, position, now)
        filings.append(filing)
        if automated is not None:
            automated.ticket_id = filing.ticket_id
        session.flush()
    if filings:
        delivery.items = _counted(session, delivery)
    return filings


def _counted(session: Session, delivery: Delivery) -> int:
    return session.scalar(select(func.count()).where(Filing.delivery_id == delivery.id)) or 0


def _filed(session: Session, delivery: Delivery) -> list[FiledItem]:
    """Return what was filed, with all that is compared.

    A handful of queries, however many items.
    """
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


def _compared(
    desk: Desk,
    session: Session,
    delivery: Delivery,
    pairs: Pairs,
    filed: FiledItem,
    item: InboundItem,
    keys_of: GetKeys,
) -> Finding:
    item = signs.add_envelope_signs(desk.settings, item, delivery)
    filing, (taken, _) = filed.filing, add_caveats(desk, item, delivery)
    report = delivery_reports.find_report(desk, session, item, delivery)
    ignored = report.make_filing(session) if report is not None else None
    if filing.outcome is Outcome.IGNORED:
        as_before = ignored is not None and (ignored.ticket_id, ignored.reason) == (
            filing.ticket_id,
            filing.reason,
        )
        return Finding(
            verdict=Verdict.SAME if as_before else Verdict.RECEIVED, filing=filing, item=item
        )
    if ignored is not None:
        return Finding(
            verdict=Verdict.NO_REQUEST, filing=filing, notes=(f"read now, it is {ignored.reason}",)
        )
    if filing.outcome is Outcome.DUPLICATE:
        double = _still_double(delivery, pairs, filed, item, keys_of)
        return Finding(
            verdict=Verdict.SAME if double else Verdict.RECEIVED, filing=filing, item=item
        )
    assert filed.message is not None
    fields = list(differences.compare_message(desk, filed.message, taken))
    followed, notes = differences.compare_identity(session, filed.message, taken)
    fields += followed
    if filing.outcome is Outcome.OPENED and filed.ticket is not None:
        fields += differences.compare_ticket(desk, session, filed.ticket, filed.message, taken)
    verdict = Verdict.CHANGED if fields else Verdict.SAME
    return Finding(verdict=verdict, filing=filing, fields=tuple(fields), notes=tuple(notes))


def _still_double(
    delivery: Delivery, pairs: Pairs, filed: FiledItem, item: InboundItem, keys_of: GetKeys
) -> bool:
    """Return whether an item is still the message it was filed as.

    Both are read by today's parser.
    """
    key, message = threading.build_message_key(item), filed.message
    if message is None or message.delivery_id is None or key == threading.build_stored_key(message):
        return True
    # An id that is none, or was none in the other export: the content decides, as when it was
    # filed.
    mine = threading.build_keys(item)
    by_content = mine is not None and message.external_id == mine.shared
    if by_content and not threading.has_different_id(item, message.message_id):
        return True
    if message.delivery_id != delivery.id:
        keys = keys_of(message.delivery_id)
        return keys is None or key in keys
    firsts = [
        i
        for f, i in pairs.matched
        if f.message is message and f.filing.outcome is not Outcome.DUPLICATE
    ]
    return not firsts or key in {threading.build_message_key(i) for i in firsts}
