"""Export a view of the desk as CSV or Excel, streamed, with columns that `intake import` knows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from console.presenters.csv_text import encode_csv
from console.presenters.tickets.ticket import VIEW_CONDITIONS
from console.presenters.times import format_iso
from workflow import process
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.imports.tickets import EXPORT_PURPOSE, build_origin
from workflow.models.core import Message, Ticket, TicketContact
from workflow.models.states import Status
from workflow.process import Milestone
from workflow.runtime.crypto import Signer
from workflow.settings.settings import Settings
from workflow.tickets.deadlines import compute_due_at, list_deadlines

PAGE_SIZE = 200  # tickets in memory at a time
MAX_SHEET_ROWS = 1_048_575  # of one Excel sheet, below its heading
VIEW_NAMES = tuple(VIEW_CONDITIONS)


class _ExportedTicket(NamedTuple):
    ticket: Ticket
    text: str
    settings: Settings
    signer: Signer


Column = Callable[[_ExportedTicket], str | None]


def _find_record_id(row: _ExportedTicket) -> str:
    """Return the record id of the system the ticket came from, else our own, signed.

    The signature lets an import recognise our own tickets and no other installation's.
    """
    before, ticket = build_origin(""), row.ticket
    if ticket.origin and ticket.origin.startswith(before):
        return ticket.origin.removeprefix(before)
    return row.signer.make_token(EXPORT_PURPOSE, ticket.id)


def _join_contacts(row: _ExportedTicket, name: str) -> str:
    return "; ".join(str(getattr(link.contact, name) or "–") for link in row.ticket.contacts)


def _make_milestone_column(milestone: Milestone) -> Column:
    def column(row: _ExportedTicket) -> str | None:
        ticket = row.ticket
        times = (
            r.at
            for r in ticket.milestones
            if r.period == ticket.period and r.milestone is milestone
        )
        return format_iso(next(times, None))

    return column


def _make_due_column(milestone: Milestone) -> Column:
    deadline = next(d for d in process.DEADLINES if d.milestone is milestone)

    def column(row: _ExportedTicket) -> str | None:
        counts = deadline in list_deadlines(row.ticket)
        return (
            format_iso(compute_due_at(deadline, row.ticket.period_started_at, row.settings))
            if counts and row.ticket.status is Status.OPEN
            else None
        )

    return column


# Headings of the CRM the manual was written for, so that `intake import` can read the file.
COLUMNS: dict[str, Column] = {
    "Record ID": _find_record_id,
    "Ticket number": lambda s: str(s.ticket.id),
    "Ticket name": lambda s: s.ticket.name,
    "Pipeline": lambda s: s.ticket.pipeline,
    "Category": lambda s: s.ticket.type,
    "Ticket status": lambda s: s.ticket.stage,
    "State": lambda s: s.ticket.status,
    "Ticket owner": lambda s: s.ticket.owner.name if s.ticket.owner else "",
    "Associated Company": lambda s: s.ticket.company.name if s.ticket.company else "",
    "Company number": lambda s: s.ticket.company.number if s.ticket.company else "",
    "Associated Contact": lambda s: _join_contacts(s, "name"),
    "Associated Contact emails": lambda s: _join_contacts(s, "email"),
    "Source": lambda s: s.ticket.transport,
    "Format": lambda s: s.ticket.format,
    "Create date": lambda s: format_iso(s.ticket.created_at),
    "Close date": lambda s: format_iso(s.ticket.completed_at),
    Milestone.CUSTOMER_NOTIFIED: _make_milestone_column(Milestone.CUSTOMER_NOTIFIED),
    Milestone.FOLLOW_UP_SENT: _make_milestone_column(Milestone.FOLLOW_UP_SENT),
    "Resolution": lambda s: s.ticket.resolution,
    "Resolved at": _make_milestone_column(Milestone.RESOLVED),
    Milestone.RECAP_SENT: _make_milestone_column(Milestone.RECAP_SENT),
    **{f"Due: {d.milestone}": _make_due_column(d.milestone) for d in process.DEADLINES},
    "Link": lambda s: s.ticket.link,
}
TEXT_COLUMNS: dict[str, Column] = {  # patient data: only when a person asks for it
    "Original subject": lambda s: s.ticket.subject,
    "Ticket description": lambda s: s.text,
}


def select_columns(names: Sequence[str], *, with_text: bool) -> list[str]:
    """Return the columns asked for by name, in that order, or all of them.

    Raises ActionNotAllowed for an unknown column, and for one with patient data when `with_text` is
    False.
    """
    available = [*COLUMNS, *(TEXT_COLUMNS if with_text else ())]
    if not names:
        return available
    names_by_key = {name.casefold(): name for name in available}
    text_columns = {name.casefold() for name in TEXT_COLUMNS}
    columns = []
    for name in names:
        key = name.casefold()
        if key in text_columns and not with_text:
            raise ActionNotAllowed(f"{name} may hold patient data: ask for it with --with-text")
        if key not in names_by_key:
            raise ActionNotAllowed(f"there is no column {name}: there are {', '.join(available)}")
        columns.append(names_by_key[key])
    return columns


def iterate_rows(
    context: AppContext, session: Session, view: str, columns: Sequence[str], *, actor: str
) -> Iterator[list[str]]:
    """Yield the heading, then one row a ticket of the view, oldest first, loading a page at a time.

    Cells are unescaped: the writers see to it that no spreadsheet computes them.
    """
    yield list(columns)
    make_cells = [(COLUMNS | TEXT_COLUMNS)[name] for name in columns]
    with_text = "Ticket description" in columns
    for ticket, text in _iterate_tickets(context, session, view, actor, with_text=with_text):
        row = _ExportedTicket(ticket, text, context.settings, context.signer)
        yield [make(row) or "" for make in make_cells]


def write_csv(file: Path, lines: Iterable[Sequence[str]]) -> None:
    """Write CSV. Raises OSError when it cannot be written."""
    with file.open("wb") as out:
        out.writelines(encode_csv(lines))


def write_xlsx(file: Path, lines: Iterable[Sequence[str]]) -> None:
    """Write a workbook of text cells in constant memory.

    Raises ActionNotAllowed when a sheet cannot hold all rows, OSError when it cannot be written.
    """
    from parsers.spreadsheets.text_workbook import write_workbook

    with file.open("wb") as out:
        write_workbook(out, [("Tickets", _limit_to_sheet(lines))])


def _limit_to_sheet(lines: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    for number, line in enumerate(lines):
        if number > MAX_SHEET_ROWS:
            why = "an Excel sheet has no room for them, export .csv"
            raise ActionNotAllowed(f"more than {MAX_SHEET_ROWS:,} tickets: {why}")
        yield line


WRITERS: dict[str, Callable[[Path, Iterable[Sequence[str]]], None]] = {
    ".csv": write_csv,
    ".xlsx": write_xlsx,
}


def record_export(
    session: Session,
    view: str,
    count: int,
    *,
    by: str,
    cause: str,
    now: datetime,
    columns: Sequence[str],
) -> None:
    """Record in the audit log who exported which view, and whether its texts were included."""
    texts = [name for name in columns if name in TEXT_COLUMNS]
    audit.record(
        session, "exported", by=by, cause=cause, now=now, view=view, tickets=count, texts=texts
    )


def _iterate_tickets(
    context: AppContext, session: Session, view: str, actor: str, *, with_text: bool
) -> Iterator[tuple[Ticket, str]]:
    now, after = context.clock(), 0
    query = (
        select(Ticket)
        .where(*VIEW_CONDITIONS[view](actor, now))
        .order_by(Ticket.id)
        .limit(PAGE_SIZE)
    )
    people = (
        joinedload(Ticket.owner),
        joinedload(Ticket.company),
        selectinload(Ticket.contacts).joinedload(TicketContact.contact),
        selectinload(Ticket.milestones),
    )
    # After an id, not by offset: tickets that leave the view meanwhile would shift the pages.
    while page := list(session.scalars(query.where(Ticket.id > after).options(*people))):
        texts = _load_texts(session, [t.id for t in page]) if with_text else {}
        for ticket in page:
            yield ticket, texts.get(ticket.id, "")
        after = page[-1].id
        session.expunge_all()  # else every ticket of the export stays in memory


def _load_texts(session: Session, numbers: list[int]) -> dict[int, str]:
    """Return the text of the message each ticket was opened with, by ticket id."""
    first = select(func.min(Message.id)).where(
        Message.ticket_id.in_(numbers), Message.direction == "in"
    )
    opening = select(Message.ticket_id, Message.text).where(
        Message.id.in_(first.group_by(Message.ticket_id))
    )
    return dict(session.execute(opening).all())
