"""Import a CRM export: preview it, run it, and resume a run that was interrupted.

Every row ends as added, changed, known or refused exactly once, whatever is killed in between.
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

BATCH = 25  # rows a transaction: the time a channel may have to wait before it can write
ProgressCallback = Callable[[int, int], None]
SourceRecord = SourceTicket | SourceCompany | SourceContact


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Author, cause and time recorded with everything that an import writes."""

    by: str
    cause: str
    now: datetime


class _ImportRow(Protocol):
    """Signature of the functions that import a row, or preview it when there is no stamp."""

    def __call__(
        self,
        desk: Desk,
        session: Session,
        source: SourceRecord,
        roster: StaffRoster,
        stamp: Stamp | None,
    ) -> ImportResult: ...


@dataclass(frozen=True, slots=True)
class ImportKind:
    """A kind of file: its columns, the required ones, and the functions that handle a row."""

    known_columns: column_names.ColumnNames
    required_columns: tuple[str, ...]
    parse: Callable[[Record, Vocabulary], SourceRecord]
    import_row: _ImportRow


def _import_ticket(
    desk: Desk, session: Session, source: SourceRecord, roster: StaffRoster, stamp: Stamp | None
) -> ImportResult:
    """Import a ticket, or preview it without a stamp."""
    assert isinstance(source, SourceTicket)
    if stamp is None:
        return tickets.preview_ticket(desk, session, source, roster)
    return tickets.import_ticket(
        desk, session, source, roster, cause=stamp.cause, by=stamp.by, now=stamp.now
    )


def _import_company(
    desk: Desk, session: Session, source: SourceRecord, roster: StaffRoster, stamp: Stamp | None
) -> ImportResult:
    """Import a company, or preview it without a stamp."""
    del desk
    assert isinstance(source, SourceCompany)
    if stamp is None:
        return people.preview_company(session, source, roster)
    return people.import_company(
        session, source, roster, cause=stamp.cause, by=stamp.by, now=stamp.now
    )


def _import_contact(
    desk: Desk, session: Session, source: SourceRecord, roster: StaffRoster, stamp: Stamp | None
) -> ImportResult:
    """Import a contact, or preview it without a stamp."""
    del desk, roster
    assert isinstance(source, SourceContact)
    if stamp is None:
        return people.preview_contact(session, source)
    return people.import_contact(session, source, cause=stamp.cause, by=stamp.by, now=stamp.now)


IMPORT_KINDS: dict[str, ImportKind] = {
    "tickets": ImportKind(
        column_names.TICKETS, ("record_id", "stage"), crm_import_rows.parse_ticket, _import_ticket
    ),
    "companies": ImportKind(
        column_names.COMPANIES, ("name",), crm_import_rows.parse_company, _import_company
    ),
    "contacts": ImportKind(
        column_names.CONTACTS, ("email",), crm_import_rows.parse_contact, _import_contact
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """A file to import, with a person's choices for its columns and words."""

    kind: str
    raw: bytes = field(repr=False)
    # their heading -> our property, "" for none of ours
    columns: Mapping[str, str] = field(default_factory=dict)
    vocabulary: Vocabulary = field(default_factory=Vocabulary)


@dataclass
class ImportReport:
    """The result of an import or its preview.

    Counts by outcome, and every row that was refused or only partly taken, with the reason.
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    rows: int = 0
    number: int | None = None  # of the import; None for a dry run
    was_resumed: bool = False  # whether it resumed an interrupted import
    outcomes: Counter[RowOutcome] = field(default_factory=Counter)
    refused_rows: list[tuple[int, str]] = field(default_factory=list)
    # imported rows, and what of them was left out
    remarks: list[tuple[int, str]] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)  # tickets by their status
    stages: dict[str, Stage | None] = field(default_factory=dict)  # what each status becomes
    unknown_people: Counter[str] = field(default_factory=Counter)
    new_companies: dict[str, str] = field(default_factory=dict)  # by folded name
    new_contacts: set[str] = field(default_factory=set)
    not_notified: int = 0  # tickets in 1-Submitted whose customer got no notice
    advanced: int = 0

    def add(self, row: int, result: ImportResult) -> None:
        """Count the result of one row."""
        self.outcomes[result.outcome] += 1
        if result.reason:
            is_refused = result.outcome is RowOutcome.REFUSED
            reasons = self.refused_rows if is_refused else self.remarks
            reasons.append((row, result.reason))
        self.unknown_people.update(result.unknown_people)
        self.new_contacts.update(result.new_contacts)
        if result.new_company:
            self.new_companies.setdefault(result.new_company.casefold(), result.new_company)
        self.not_notified += result.is_not_notified
        self.advanced += result.is_advanced


def preview_import(
    context: AppContext, request: ImportRequest, step: ProgressCallback = lambda _done, _of: None
) -> ImportReport:
    """Parse every row and compute what it would become; writes nothing.

    Raises ParseError when the file cannot be read or a required column is missing.
    """
    import_pass = _Pass(context, request)
    with context.store.read_only() as session:
        import_pass.roster = StaffRoster(session)
        for rows_done, record in enumerate(import_pass.export.records(), start=1):
            import_pass.report.add(record.number, import_pass.import_row(session, record, None))
            if rows_done % BATCH == 0:
                step(rows_done, import_pass.report.rows)
    return import_pass.report


def run_import(
    context: AppContext,
    request: ImportRequest,
    *,
    by: str,
    step: ProgressCallback = lambda _done, _of: None,
) -> ImportReport:
    """Import the file, a few rows a transaction; an interrupted import of the same file is resumed.

    Raises ParseError before anything is written, ActionNotAllowed when the import was undone
    meanwhile.
    """
    import_pass = _Pass(context, request)
    report = import_pass.report
    with context.store.transaction() as session:
        report.number, report.was_resumed = _begin(
            session, request, report.rows, by, context.clock()
        )
    rows_done, records = 0, import_pass.export.records()
    while batch := list(islice(records, BATCH)):
        with context.store.transaction() as session:
            _lock_import(session, report.number)
            import_pass.roster = StaffRoster(session)
            written = import_pass.import_batch(session, batch, report.number, by)
        rows_done += len(batch)
        if written:
            context.store.pause_for_writers()
        step(rows_done, report.rows)
        log.import_batch_committed(report.number, done=rows_done, of=report.rows)
    with context.store.transaction() as session:
        import_row = _lock_import(session, report.number)
        import_row.finished_at = import_row.finished_at or context.clock()
        counts = {str(o): report.outcomes[o] for o in RowOutcome}
        cause = f"import {import_row.id}"
        audit.record(
            session,
            "import finished",
            by=by,
            cause=cause,
            now=import_row.finished_at,
            rows=report.rows,
            **counts,
        )
    return report


class _Pass:
    """A pass over a file; it parses each row and skips rows that repeat an earlier one."""

    def __init__(self, context: AppContext, request: ImportRequest) -> None:
        self._context = context
        self._kind = IMPORT_KINDS[request.kind]
        self._vocabulary = request.vocabulary
        self._seen_keys: dict[str, int] = {}  # key -> the first row with it
        # a locked workbook opens with the passwords of the settings
        parser_options = load_parser_options(context, Format.SECURE_MESSAGE)
        self.export: Export = table.parse_export(
            request.raw,
            self._kind.known_columns,
            self._kind.required_columns,
            request.columns,
            parser_options,
        )
        # read once to the end: a damaged end shows before anything is written
        rows = sum(1 for _ in self.export.records())
        if not rows:
            raise ParseError("no rows found under the heading: export again")
        self.report = ImportReport(self.export.columns, self.export.notes, rows)
        self.roster: StaffRoster

    def import_row(self, session: Session, record: Record, stamp: Stamp | None) -> ImportResult:
        """Return the result of a row; nothing is written without a stamp."""
        self._count_status(record)
        try:
            source = self._kind.parse(record, self._vocabulary)
        except InvalidRowError as error:
            return ImportResult(outcome=RowOutcome.REFUSED, reason=str(error))
        first = self._seen_keys.setdefault(source.key, record.number)
        if first != record.number:
            return ImportResult(outcome=RowOutcome.KNOWN, reason=f"it is in row {first} too")
        return self._kind.import_row(self._context.desk, session, source, self.roster, stamp)

    def import_batch(self, session: Session, batch: list[Record], number: int, by: str) -> int:
        """Import the rows of a batch and count them; return how many are new.

        Rows of the interrupted run keep the result they have.
        """
        rows = [record.number for record in batch]
        earlier_rows = select(ImportRow).where(
            ImportRow.import_id == number, ImportRow.row.in_(rows)
        )
        earlier_by_row = {row.row: row for row in session.scalars(earlier_rows)}
        stamp = Stamp(by=by, cause=f"import {number}", now=self._context.clock())
        for record in batch:
            if (earlier := earlier_by_row.get(record.number)) is not None:
                self._count_status(record)
                self.report.add(
                    record.number, ImportResult(outcome=earlier.outcome, reason=earlier.reason)
                )
                continue
            result = self.import_row(session, record, stamp)
            session.add(
                ImportRow(
                    import_id=number,
                    row=record.number,
                    outcome=result.outcome,
                    reason=result.reason,
                    ticket_id=result.ticket_id,
                )
            )
            self.report.add(record.number, result)
        return len(batch) - len(earlier_by_row)

    def _count_status(self, record: Record) -> None:
        """Count the row's status, and the stage it maps to, for the report."""
        if "stage" in self._kind.known_columns:
            status = record.get_text("stage")
            self.report.statuses[status] += 1
            self.report.stages.setdefault(
                status, crm_import_rows.find_stage(status, self._vocabulary)
            )


def _begin(
    session: Session, request: ImportRequest, rows: int, by: str, now: datetime
) -> tuple[int, bool]:
    """Return the id of the import, and whether it resumes an interrupted one of the same file."""
    digest = sha256(request.raw).hexdigest()
    same = (Import.kind == request.kind, Import.digest == digest, Import.finished_at.is_(None))
    unfinished_id = session.scalar(
        select(Import.id).where(*same, Import.undone_at.is_(None)).order_by(Import.id).limit(1)
    )
    if unfinished_id is not None:
        return unfinished_id, True
    import_row = Import(kind=request.kind, digest=digest, rows=rows, by=by, started_at=now)
    session.add(import_row)
    session.flush()
    audit.record(
        session,
        "import",
        by=by,
        cause=f"import {request.kind}",
        now=now,
        number=import_row.id,
        rows=rows,
    )
    return import_row.id, False


def _lock_import(session: Session, number: int) -> Import:
    """Return the import, locked for this transaction.

    Raises ActionNotAllowed when it was undone.
    """
    started = session.get_one(Import, number, with_for_update=True)
    if started.undone_at is not None:
        raise ActionNotAllowed(f"import {number} was undone meanwhile")
    return started


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """An import with its row counts by outcome."""

    import_row: Import
    outcomes: dict[RowOutcome, int]


def list_imports(session: Session) -> list[ImportSummary]:
    """Return every import, oldest first."""
    counts: dict[int, dict[RowOutcome, int]] = {}
    grouped = select(ImportRow.import_id, ImportRow.outcome, func.count())
    for number, outcome, count in session.execute(
        grouped.group_by(ImportRow.import_id, ImportRow.outcome)
    ):
        counts.setdefault(number, {})[outcome] = count
    return [
        ImportSummary(started, counts.get(started.id, {}))
        for started in session.scalars(select(Import).order_by(Import.id))
    ]
