"""Moving in and out by command.

Exports that no spreadsheet computes, and that come back as what they were.
"""

import csv
import json
import stat
from collections.abc import Iterator
from datetime import datetime
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook
from sqlalchemy import select

from console import exports
from console.exports import COLUMNS, TEXT_COLUMNS, iterate_rows, select_columns
from console.presenters.csv_text import encode_csv
from ingest.crm_import.run import ImportRequest, run_import
from parsers.crm_export.table import FORMULA_STARTS, escape_formula, unescape_formula
from tests.support.command import Intake
from tests.support.context import (
    HandClock,
    RecordingNotifier,
    complete,
    create_staff,
    make_mail,
    open_ticket,
    reach,
)
from workflow.context import AppContext, open_context
from workflow.database.engine import migrate
from workflow.errors import ActionNotAllowed
from workflow.models.core import AuditEntry, Ticket
from workflow.models.states import RowOutcome
from workflow.process import Milestone
from workflow.settings.settings import Settings

DANGEROUS = ["=1+1", "+1 555 0100", "-2", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''=x", "\uff1d1"]
HEAD = (
    "Record ID,Ticket name,Ticket status,Ticket owner,Associated Company,Associated Contact"
    " emails\n"
)
FILE = HEAD + "901,Claim denied,5-Audit,Zoe,Acme Clinic,jo@acme.test\n902,Refund,On hold,,,\n"


@pytest.fixture
def other_context(tmp_path: Path, clock: HandClock) -> Iterator[AppContext]:
    """A second installation, with its own key."""
    settings = Settings(home=tmp_path / "other")
    migrate(settings.database)
    opened = open_context(settings, notifier=RecordingNotifier(), clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def export_file(tmp_path: Path) -> Path:
    path = tmp_path / "hubspot.csv"
    path.write_text(FILE)
    return path


def export_view(context: AppContext, view: str = "all", *, with_text: bool = False) -> bytes:
    names = select_columns((), with_text=with_text)
    with context.store.read_only() as session:
        return b"".join(encode_csv(iterate_rows(context, session, view, names, actor="Olga")))


def read_table(raw: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(raw.decode("utf-8-sig"), newline="")))


def list_facts(context: AppContext) -> list[tuple[object, ...]]:
    with context.store.read_only() as session:
        tickets = session.scalars(select(Ticket).order_by(Ticket.id))
        return [
            (
                t.name,
                t.subject,
                t.stage,
                t.status,
                t.resolution,
                t.created_at,
                t.completed_at,
                t.type,
                t.pipeline,
                t.owner and t.owner.name,
                t.company and t.company.name,
                [c.contact.email for c in t.contacts],
                sorted((r.milestone, r.at) for r in t.milestones if r.period == t.period),
            )
            for t in tickets
        ]


@given(st.text())
def test_every_text_comes_back_and_no_cell_starts_like_a_formula(text: str) -> None:
    assert unescape_formula(escape_formula(text)) == text
    assert not escape_formula(text).startswith(tuple(FORMULA_STARTS))


@given(st.text(alphabet="'=+-@\t\r\n\uff1da", max_size=6))
def test_the_same_of_texts_made_to_confuse(text: str) -> None:
    assert unescape_formula(escape_formula(text)) == text
    assert not escape_formula(text).startswith(tuple(FORMULA_STARTS))


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=4),
        max_size=4,
    )
)
def test_csv_read_by_others_has_the_cells_it_should(lines: list[list[str]]) -> None:
    text = b"".join(encode_csv(lines)).decode("utf-8-sig")
    assert list(csv.reader(StringIO(text, newline=""))) == [
        [escape_formula(cell) for cell in line] for line in lines
    ]


def test_an_export_is_imported_elsewhere_unchanged(
    any_context: AppContext, other_context: AppContext
) -> None:
    context = any_context
    numbers = [
        open_ticket(context, make_mail(subject=f"claim {n}", text="=cmd|' /C calc'!A0"))
        for n in range(3)
    ]
    for number in numbers:
        reach(context, number, Milestone.CUSTOMER_NOTIFIED)
    reach(context, numbers[1], Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    complete(context, numbers[2])
    with context.store.transaction() as session:
        olga = create_staff(session, "Olga")
        context.desk.assign(
            session, session.get_one(Ticket, numbers[1]), olga, by="Olga", now=context.clock()
        )
    with other_context.store.transaction() as session:
        create_staff(session, "Olga")
    raw = export_view(context, with_text=True)
    report = run_import(other_context, ImportRequest(kind="tickets", raw=raw), by="Max")
    assert report.outcomes == {RowOutcome.ADDED: 3}
    assert list_facts(other_context) == list_facts(context)
    with other_context.store.read_only() as session:
        assert all(
            t.messages[0].text == "=cmd|' /C calc'!A0" for t in session.scalars(select(Ticket))
        )
    again = run_import(
        other_context, ImportRequest(kind="tickets", raw=export_view(other_context)), by="Max"
    )
    assert again.outcomes == {RowOutcome.KNOWN: 3}


def test_our_own_export_is_known_when_it_comes_back(context: AppContext) -> None:
    open_ticket(context)
    report = run_import(context, ImportRequest(kind="tickets", raw=export_view(context)), by="Olga")
    assert report.outcomes == {RowOutcome.KNOWN: 1}
    assert len(list_facts(context)) == 1


def test_subject_and_text_leave_only_where_asked_for(context: AppContext) -> None:
    open_ticket(context, make_mail(subject="John Patient", text="John Patient's claim"))
    assert b"John" not in export_view(context)
    assert export_view(context, with_text=True).count(b"John") == 2
    for name in TEXT_COLUMNS:
        with pytest.raises(ActionNotAllowed, match="patient data"):
            select_columns([name], with_text=False)
    with pytest.raises(ActionNotAllowed, match="no column Colour"):
        select_columns(["Colour"], with_text=True)
    assert select_columns(["ticket STATUS"], with_text=False) == ["Ticket status"]


def test_every_page_of_a_view_is_in_the_file(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE_SIZE", 2)
    numbers = [open_ticket(context) for _ in range(5)]
    complete(context, numbers[3])
    assert [row["Ticket number"] for row in read_table(export_view(context))] == [
        str(n) for n in numbers
    ]
    assert [row["Ticket number"] for row in read_table(export_view(context, "completed"))] == [
        str(numbers[3])
    ]
    assert len(read_table(export_view(context, "open"))) == 4


def test_so_many_tickets_are_in_memory_as_fill_a_page(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE_SIZE", 2)
    for _ in range(7):
        open_ticket(context)
    with context.store.read_only() as session:
        counts = [
            sum(isinstance(one, Ticket) for one in session.identity_map.values())
            for _ in iterate_rows(
                context, session, "all", select_columns((), with_text=True), actor=""
            )
        ]
    assert len(counts) == 8
    assert max(counts) <= 2


def test_the_overdue_view_is_sieved_as_on_the_screen(context: AppContext, clock: HandClock) -> None:
    first, second = open_ticket(context), open_ticket(context)
    reach(context, second, Milestone.FOLLOW_UP_SENT)
    clock.turn(hours=49)
    assert [row["Ticket number"] for row in read_table(export_view(context, "overdue"))] == [
        str(first)
    ]


def test_times_are_iso_with_a_zone(context: AppContext) -> None:
    open_ticket(context)
    (row,) = read_table(export_view(context))
    for name in ("Create date", "Due: Resolution"):
        assert datetime.fromisoformat(row[name]).tzinfo is not None


def test_the_command_writes_csv_and_excel_and_leaves_a_trace(
    intake: Intake, at_home: AppContext, tmp_path: Path
) -> None:
    intake(
        "ticket", "new", "--company", "=Acme", "--contact", "jo@acme.test", "--text", "+1 patient"
    )
    excel, text = tmp_path / "open.xlsx", tmp_path / "open.csv"
    assert "1 tickets" in intake("export", "open", excel, "--with-text", "--as", "Olga").output
    intake("export", "open", text, "--columns", "Associated Company,Ticket status")
    assert text.read_text("utf-8-sig").splitlines() == [
        "Associated Company,Ticket status",
        "'=Acme,1-Submitted",
    ]
    assert stat.S_IMODE(text.stat().st_mode) == stat.S_IMODE(excel.stat().st_mode) == 0o600
    book = load_workbook(excel)
    heading, row = book.worksheets[0].iter_rows()
    cells = {h.value: c for h, c in zip(heading, row, strict=True)}
    assert (cells["Associated Company"].value, cells["Associated Company"].data_type) == (
        "=Acme",
        "s",
    )
    assert cells["Ticket description"].value == "+1 patient"
    book.close()
    with at_home.store.read_only() as session:
        entries = list(
            session.scalars(
                select(AuditEntry).where(AuditEntry.action == "exported").order_by(AuditEntry.id)
            )
        )
    assert [(a.actor, a.detail["view"], a.detail["tickets"]) for a in entries[:1]] == [
        ("Olga", "open", 1)
    ]
    assert entries[0].detail["texts"] == list(TEXT_COLUMNS)
    assert list(tmp_path.glob(".*.part")) == []


def test_nothing_is_overwritten_or_named_wrongly(
    intake: Intake, at_home: AppContext, tmp_path: Path
) -> None:
    del at_home
    file = tmp_path / "open.csv"
    file.write_text("mine")
    assert "--force" in intake("export", "open", file, code=1).output
    assert file.read_text() == "mine"
    intake("export", "open", file, "--force")
    assert file.read_text() != "mine"
    assert ".xlsx" in intake("export", "open", tmp_path / "open.pdf", code=2).output
    assert (
        "no column"
        in intake("export", "open", tmp_path / "x.csv", "--columns", "Nope", code=1).output
    )


@pytest.mark.parametrize("name", [*COLUMNS, *TEXT_COLUMNS])
def test_dangerous_cells_are_escaped_in_every_column(name: str) -> None:
    for cell in DANGEROUS:
        raw = b"".join(encode_csv([[name], [cell]]))
        assert read_table(raw)[0][name] == f"'{cell}"


def test_a_dry_run_then_the_import_then_undone(
    intake: Intake, at_home: AppContext, export_file: Path
) -> None:
    del at_home
    shown = intake("import", "tickets", export_file).output
    assert "Nothing was changed" in shown
    assert "NO STAGE" in shown
    assert "Zoe" in shown
    planned = json.loads(intake("import", "tickets", export_file, "--json").stdout)
    assert (planned["import"], planned["added"], planned["refused"]) == (None, 1, 1)
    assert planned["refusals"][0]["row"] == 3
    assert "Nothing was imported yet" in intake("import", "list").output
    stage = ("--stage", "On hold=4-In Progress")
    done = json.loads(intake("import", "tickets", export_file, *stage, "--apply", "--json").stdout)
    assert (done["import"], done["added"], done["refused"]) == (1, 2, 0)
    assert "Nobody was mailed" in intake("import", "tickets", export_file, *stage, "--apply").output
    listed = json.loads(intake("import", "list", "--json").stdout)
    assert [(i["added"], i["known"], i["state"]) for i in listed] == [
        (2, 0, "finished"),
        (0, 2, "finished"),
    ]
    assert "2 tickets withdrawn" in intake("import", "undo", 1).output
    assert "no import 9" in intake("import", "undo", 9, code=1).output
    assert json.loads(intake("ledger", "--json").stdout)["adds_up"]


def test_companies_and_contacts_by_command(
    intake: Intake, at_home: AppContext, tmp_path: Path
) -> None:
    del at_home
    intake("user", "add", "Max", "--role", "lead")
    practices, persons = tmp_path / "companies.csv", tmp_path / "contacts.csv"
    practices.write_text("Company name,Rep,Domain\nAcme,Max,acme.test\n")
    persons.write_text("Name,Email,Company\nJo,jo@acme.test,Acme\n")
    assert (
        "1 would be added"
        in intake("import", "companies", practices, "--map", "Rep=manager").output
    )
    intake("import", "companies", practices, "--map", "Rep=manager", "--apply")
    assert json.loads(intake("company", "list", "--json").stdout)[0]["manager"] == "Max"
    assert "1 added" in intake("import", "contacts", persons, "--apply").output
    assert "stay on record" in intake("import", "undo", 1, code=1).output


def test_impossible_options_are_refused_with_the_reason(
    intake: Intake, at_home: AppContext, export_file: Path, tmp_path: Path
) -> None:
    del at_home
    assert (
        "no stage" in intake("import", "tickets", export_file, "--stage", "x=7-Gone", code=2).output
    )
    assert "THEIRS=OURS" in intake("import", "tickets", export_file, "--map", "x", code=2).output
    assert (
        "time zone"
        in intake("import", "tickets", export_file, "--time-zone", "Mars/North", code=2).output
    )
    bad = tmp_path / "bad.csv"
    bad.write_text("Record ID,Ticket name\n1,x\n")
    assert '--map "Column=stage"' in intake("import", "tickets", bad, code=65).output
