"""Moving a file in.

Every row ends as added, changed, known or refused, once, whatever is killed in between.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ingest.crm_import import rows as crm_import_rows
from ingest.crm_import.rows import InvalidRowError, Vocabulary
from ingest.parser_options import load_parser_options
from parsers.crm_export import column_names, table
from parsers.crm_export.table import Column, Export, Record
from parsers.item import Format, ParseError
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.imports import people, tickets
from workflow.imports.people import SourceCompany, SourceContact
from workflow.imports.tickets import ImportResult, SourceTicket, StaffRoster
from workflow.models.imports import Import, ImportRow
from workflow.models.states import RowOutcome
from workflow.process import Stage
from workflow.runtime import log
from workflow.tickets.desk import Desk

BATCH = 25  # rows a transaction: a door waits no longer for its turn than these take
ProgressCallback = Callable[[int, int], None]
SourceRecord = SourceTicket | SourceCompany | SourceContact


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Who moves something in, by what and when."""

    by: str
    cause: str
    now: datetime


class _Bring(Protocol):
    def __call__(
        self,
        desk: Desk,
        session: Session,
        past: SourceRecord,
        roster: StaffRoster,
        stamp: Stamp | None,
    ) -> ImportResult: ...


@dataclass(frozen=True, slots=True)
class ImportKind:
    """One kind of file.

    Its words, what it has to have, how a row is read, and how it is brought or only looked at.
    """

    known_columns: column_names.ColumnNames
    required_columns: tuple[str, ...]
    parse: Callable[[Record, Vocabulary], SourceRecord]
    import_row: _Bring


def _ticket(
    desk: Desk, session: Session, past: SourceRecord, roster: StaffRoster, stamp: Stamp | None
) -> ImportResult:
    assert isinstance(past, SourceTicket)
    if stamp is None:
        return tickets.preview_ticket(desk, session, past, roster)
    return tickets.import_ticket(
        desk, session, past, roster, cause=stamp.cause, by=stamp.by, now=stamp.now
    )


def _company(
    desk: Desk, session: Session, past: SourceRecord, roster: StaffRoster, stamp: Stamp | None
) -> ImportResult:
    del desk
    assert isinstance(past, SourceCompany)
    if stamp is None:
        return people.preview_company(session, past, roster)
    return people.import_company(
        session, past, roster, cause=stamp.cause, by=stamp.by, now=stamp.now
    )


def _contact(
    desk: Desk, session: Session, past: SourceRecord, roster: StaffRoster, stamp: Stamp | None
) -> ImportResult:
    del desk, roster
    assert isinstance(past, SourceContact)
    if stamp is None:
        return people.preview_contact(session, past)
    return people.import_contact(session, past, cause=stamp.cause, by=stamp.by, now=stamp.now)


IMPORT_KINDS: dict[str, ImportKind] = {
    "tickets": ImportKind(
        column_names.TICKETS, ("record_id", "stage"), crm_import_rows.parse_ticket, _ticket
    ),
    "companies": ImportKind(
        column_names.COMPANIES, ("name",), crm_import_rows.parse_company, _company
    ),
    "contacts": ImportKind(
        column_names.CONTACTS, ("email",), crm_import_rows.parse_contact, _contact
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """A file to move in, and what a person has said of its words."""

    kind: str
    raw: bytes = field(repr=False)
    columns: Mapping[str, str] = field(
        default_factory=dict
    )  # their heading -> our property, "" for none of ours
    vocabulary: Vocabulary = field(default_factory=Vocabulary)


@dataclass
class ImportReport:
    """What would come of a file, or has.

    Counts by outcome, and every row that cannot be, with its reason.
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    rows: int = 0
    number: int | None = None  # of the import; None for a dry run
    was_resumed: bool = False  # with an import that was interrupted
    outcomes: Counter[RowOutcome] = field(default_factory=Counter)
    refused_rows: list[tuple[int, str]] = field(default_factory=list)
    remarks: list[tuple[int, str]] = field(
        default_factory=list
    )  # rows that are in, and what of them was left
    statuses: Counter[str] = field(default_factory=Counter)  # tickets by their status
    stages: dict[str, Stage | None] = field(default_factory=dict)  # what each status becomes
    unknown_people: Counter[str] = field(default_factory=Counter)
    new_companies: dict[str, str] = field(default_factory=dict)  # by folded name
    new_contacts: set[str] = field(default_factory=set)
    not_notified: int = 0  # in 1-Submitted, whose customers nobody has told
    advanced: int = 0

    def add(self, row: int, brought: ImportResult) -> None:
        """Count what has become of a row."""
        self.outcomes[brought.outcome] += 1
        if brought.reason:
            (self.refused_rows if brought.outcome is RowOutcome.REFUSED else self.remarks).append(
                (row, brought.reason)
            )
        self.unknown_people.update(brought.unknown_people)
        self.new_contacts.update(brought.new_contacts)
        if brought.new_company:
            self.new_companies.setdefault(brought.new_company.casefold(), brought.new_company)
        self.not_notified += brought.is_not_notified
        self.advanced += brought.is_advanced


def preview_import(
    context: AppContext, wanted: ImportRequest, step: ProgressCallback = lambda _done, _of: None
) -> ImportReport:
    """A dry run: read every row and look what it would become; writes nothing.

    Raises ParseError when the file cannot be read, or its columns are not known.
    """
    run = _Run(context, wanted)
    with context.store.read_only() as session:
        run.roster = StaffRoster(session)
        for done, record in enumerate(run.export.records(), start=1):
            run.told.add(record.number, run.of_row(session, record, None))
            if done % BATCH == 0:
                step(done, run.told.rows)
    return run.told


def run_import(
    context: AppContext,
    wanted: ImportRequest,
    *,
    by: str,
    step: ProgressCallback = lambda _done, _of: None,
) -> ImportReport:
    """Move the file in, a few rows a transaction.

    An import of it that was interrupted is gone on with.

    Raises ParseError before anything is written, and Missing when it was undone meanwhile.
    """
    run = _Run(context, wanted)
    told = run.told
    with context.store.transaction() as session:
        told.number, told.was_resumed = _begin(session, wanted, told.rows, by, context.clock())
    done, records = 0, run.export.records()
    while batch := list(islice(records, BATCH)):
        with context.store.transaction() as session:
            _hold(session, told.number)
            run.roster = StaffRoster(session)
            written = run.bring(session, batch, told.number, by)
        done += len(batch)
        if written:
            context.store.pause_for_writers()
        step(done, told.rows)
        log.import_batch_committed(told.number, done=done, of=told.rows)
    with context.store.transaction() as session:
        made = _hold(session, told.number)
        made.finished_at = made.finished_at or context.clock()
        counts = {str(o): told.outcomes[o] for o in RowOutcome}
        cause = f"import {made.id}"
        audit.record(
            session,
            "import finished",
            by=by,
            cause=cause,
            now=made.finished_at,
            rows=told.rows,
            **counts,
        )
    return told


class _Run:
    """A file being gone through: what its rows are, none of them twice."""

    def __init__(self, context: AppContext, wanted: ImportRequest) -> None:
        self._context = context
        self._kind = IMPORT_KINDS[wanted.kind]
        self._terms = wanted.vocabulary
        self._seen: dict[str, int] = {}  # keys of rows -> the first row with it
        how = load_parser_options(
            context, Format.SECURE_MESSAGE
        )  # a locked workbook opens with what opens the house's other ones
        self.export: Export = table.parse_export(
            wanted.raw, self._kind.known_columns, self._kind.required_columns, wanted.columns, how
        )
        rows = sum(
            1 for _ in self.export.records()
        )  # a damaged end shows before anything is written
        if not rows:
            raise ParseError("no rows found under the heading: export again")
        self.told = ImportReport(self.export.columns, self.export.notes, rows)
        self.roster: StaffRoster

    def of_row(self, session: Session, record: Record, stamp: Stamp | None) -> ImportResult:
        """Return what becomes of a row, or would."""
        self._count_status(record)
        try:
            past = self._kind.parse(record, self._terms)
        except InvalidRowError as error:
            return ImportResult(outcome=RowOutcome.REFUSED, reason=str(error))
        first = self._seen.setdefault(past.key, record.number)
        if first != record.number:
            return ImportResult(outcome=RowOutcome.KNOWN, reason=f"it stands in row {first} too")
        return self._kind.import_row(self._context.desk, session, past, self.roster, stamp)

    def bring(self, session: Session, batch: list[Record], number: int, by: str) -> int:
        """Bring and count the rows of a batch, those of an interrupted run as it left them.

        How many are new.
        """
        rows = [record.number for record in batch]
        mine = select(ImportRow).where(ImportRow.import_id == number, ImportRow.row.in_(rows))
        before = {row.row: row for row in session.scalars(mine)}
        stamp = Stamp(by=by, cause=f"import {number}", now=self._context.clock())
        for record in batch:
            if (there := before.get(record.number)) is not None:
                self._count_status(record)
                self.told.add(
                    record.number, ImportResult(outcome=there.outcome, reason=there.reason)
                )
                continue
            brought = self.of_row(session, record, stamp)
            session.add(
                ImportRow(
                    import_id=number,
                    row=record.number,
                    outcome=brought.outcome,
                    reason=brought.reason,
                    ticket_id=brought.ticket_id,
                )
            )
            self.told.add(record.number, brought)
        return len(batch) - len(before)

    def _count_status(self, record: Record) -> None:
        if "stage" in self._kind.known_columns:
            said = record.text("stage")
            self.told.statuses[said] += 1
            self.told.stages.setdefault(said, crm_import_rows.find_stage(said, self._terms))


def _begin(
    session: Session, wanted: ImportRequest, rows: int, by: str, now: datetime
) -> tuple[int, bool]:
    """The number of the import: a new one, or that of the same file's which was interrupted."""
    digest = sha256(wanted.raw).hexdigest()
    same = (Import.kind == wanted.kind, Import.digest == digest, Import.finished_at.is_(None))
    known = session.scalar(
        select(Import.id).where(*same, Import.undone_at.is_(None)).order_by(Import.id).limit(1)
    )
    if known is not None:
        return known, True
    made = Import(kind=wanted.kind, digest=digest, rows=rows, by=by, started_at=now)
    session.add(made)
    session.flush()
    audit.record(
        session, "import", by=by, cause=f"import {wanted.kind}", now=now, number=made.id, rows=rows
    )
    return made.id, False


def _hold(session: Session, number: int) -> Import:
    """The import, kept to this transaction. Raises ActionNotAllowed when it was undone."""
    made = session.get_one(Import, number, with_for_update=True)
    if made.undone_at is not None:
        raise ActionNotAllowed(f"import {number} was undone meanwhile")
    return made


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """An import as a list shows it."""

    import_row: Import
    outcomes: dict[RowOutcome, int]


def list_imports(session: Session) -> list[ImportSummary]:
    """Every import there was, oldest first."""
    counts: dict[int, dict[RowOutcome, int]] = {}
    grouped = select(ImportRow.import_id, ImportRow.outcome, func.count())
    for number, outcome, count in session.execute(
        grouped.group_by(ImportRow.import_id, ImportRow.outcome)
    ):
        counts.setdefault(number, {})[outcome] = count
    return [
        ImportSummary(made, counts.get(made.id, {}))
        for made in session.scalars(select(Import).order_by(Import.id))
    ]
