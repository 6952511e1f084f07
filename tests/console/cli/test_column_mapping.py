"""intake map, profiles, profiles forget: from a file nobody can read to its tickets, and back."""

import json
from pathlib import Path

import openpyxl
import pytest
from sqlalchemy import select

from console.errors import EXIT_UNREADABLE
from ingest.intake import Arrival, Transport
from ingest.intake import Intake as IntakeService
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support.command import Intake
from tests.support.workbooks import build_hoarding_book
from workflow.context import AppContext
from workflow.models.core import AuditEntry, Delivery, Message, Ticket
from workflow.models.states import DeliveryState

HEADER = ["Datum", "Klinik", "Anliegen", "Nr"]
ROW = ["5/1/2026 10:00", "Nordklinik", "Bitte helfen.", 7]
SAY = ("--column", "Anliegen=body", "--column", "Klinik=practice", "--column", "Datum=sent_at")


def write_book(path: Path, *rows: list[object], sheet: str = "Export") -> Path:
    workbook = openpyxl.Workbook()
    workbook.worksheets[0].title = sheet
    for row in rows:
        workbook.worksheets[0].append(row)
    workbook.save(path)
    return path


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_book(tmp_path / "export.xlsx", ["Bericht"], [], HEADER, ROW)


def drop_books(context: AppContext, *files: Path) -> list[int]:
    service = IntakeService(context)
    numbers = [
        service.accept(
            Arrival(transport=Transport.FOLDER, format=Format.SECURE_MESSAGE, raw=f.read_bytes())
        )
        for f in files
    ]
    process_waiting(context)
    return numbers


def get_state(context: AppContext, number: int) -> DeliveryState:
    with context.store.read_only() as session:
        return session.get_one(Delivery, number).state


def test_a_file_nobody_can_read_says_how_to_map_it(
    at_home: AppContext, export: Path, intake: Intake
) -> None:
    [number] = drop_books(at_home, export)
    assert "`intake map" in intake("deliveries", "--state", "failed").stdout
    output = intake("map", "--delivery", number).stdout
    assert "headings in row 3" in output
    assert "Bitte helfen." in output
    assert "missing: the message text, the practice or the sender" in output
    assert "--save NAME" in output


def test_a_workbook_that_hoards_ends_its_parser_and_not_the_command(
    intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTAKE_PARSE_MEMORY", str(130 * 1024 * 1024))
    (tmp_path / "large.xlsx").write_bytes(build_hoarding_book(*HEADER))
    output = intake("map", tmp_path / "large.xlsx", code=EXIT_UNREADABLE)
    assert "reading it takes more memory than one item may have" in output.output


def test_a_saved_mapping_reads_waiting_deliveries_and_the_next_file(
    at_home: AppContext, export: Path, intake: Intake, tmp_path: Path
) -> None:
    other = write_book(tmp_path / "other.xlsx", ["Etwas", "anderes"], ["x", "y"])
    [number, stranger] = drop_books(at_home, export, other)
    output = intake(
        "map", "--delivery", number, *SAY, "--date-order", "dmy", "--save", "north", "--as", "Ann"
    ).stdout
    assert f"{number}: processed, ticket 1" in output
    assert get_state(at_home, stranger) is DeliveryState.FAILED
    with at_home.store.read_only() as session:
        message = session.scalars(select(Message)).one()
        assert (message.text, message.sent_at and message.sent_at.isoformat()) == (
            "Bitte helfen.",
            "2026-01-05T15:00:00+00:00",
        )
        assert session.scalars(select(Ticket)).one().name == "Support – Nordklinik"
        audited = session.scalars(
            select(AuditEntry).where(AuditEntry.action == "profile saved")
        ).one()
        assert audited.actor == "Ann"
    [again] = drop_books(
        at_home, write_book(tmp_path / "next.xlsx", HEADER, [*ROW[:2], "Noch etwas.", 8])
    )
    assert get_state(at_home, again) is DeliveryState.PROCESSED


def test_a_saved_profile_is_shown_changed_and_undone(
    at_home: AppContext, export: Path, intake: Intake
) -> None:
    intake("map", export, *SAY, "--date-order", "dmy", "--save", "north")
    [profile] = json.loads(intake("profiles", "--json").stdout)
    assert profile["columns"] == {
        "datum": "sent_at",
        "klinik": "company",
        "anliegen": "body",
        "nr": "",
    }
    assert "north" in intake("profiles").stdout
    assert "read by the profile 'north'" in intake("map", export).stdout
    intake("map", export, "--column", "Nr=external_id", "--save", "north")
    [profile] = json.loads(intake("profiles", "--json").stdout)
    assert (profile["columns"]["nr"], profile["columns"]["klinik"], profile["date_order"]) == (
        "external_id",
        "company",
        "dmy",
    )
    assert "'north'" in intake("map", export, "--save", "south", code=1).stderr
    intake("profiles", "forget", "north")
    assert "missing: the message text" in intake("map", export).stdout
    assert "`intake profiles`" in intake("profiles", "forget", "north", code=1).stderr
    [number] = drop_books(at_home, export)
    assert get_state(at_home, number) is DeliveryState.FAILED


def test_parse_reads_a_workbook_as_the_installation_does(
    at_home: AppContext, export: Path, intake: Intake
) -> None:
    del at_home
    assert "mapping needed" in intake("parse", "secure-message", export, "--json", code=65).stdout
    intake("map", export, *SAY, "--save", "north")
    assert (
        json.loads(intake("parse", "secure-message", export, "--json").stdout)["body_text"]
        == "Bitte helfen."
    )


def test_nothing_is_saved_while_something_is_missing(
    at_home: AppContext, export: Path, intake: Intake
) -> None:
    del at_home
    output = intake("map", export, "--column", "Anliegen=body", "--save", "north", code=1)
    assert "the practice or the sender" in output.stderr
    assert json.loads(intake("profiles", "--json").stdout) == []
    intake(
        "map", export, "--column", "Anliegen=body", "--default", "company=Nord", "--save", "north"
    )


def test_scripts_get_the_columns_but_no_patient_data(
    at_home: AppContext, export: Path, intake: Intake
) -> None:
    del at_home
    out = intake("map", export, *SAY, "--json").stdout
    found = json.loads(out)
    assert "Bitte" not in out
    assert found["missing"] == []
    assert [(c["column"], c["field"], c["why"]) for c in found["columns"]] == [
        ("A", "sent_at", "as you say"),
        ("B", "company", "as you say"),
        ("C", "body", "as you say"),
        ("D", None, None),
    ]


def test_what_a_column_may_be_is_proposed_and_never_taken(
    at_home: AppContext, tmp_path: Path, intake: Intake
) -> None:
    del at_home
    file = write_book(
        tmp_path / "x.xlsx",
        ["Wer", "Was"],
        ["pat@x.example", "Bitte helfen Sie mir mit dieser Abrechnung hier."],
    )
    found = json.loads(intake("map", file, "--json").stdout)
    assert [(c["field"], c["perhaps"]) for c in found["columns"]] == [
        (None, "email"),
        (None, "body"),
    ]
    assert '--column "Was=body"' in intake("map", file).stdout


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--column", "Anliegen"], "expected"),
        (["--column", "Nirgends=body"], "no such heading"),
        (["--column", "Anliegen=bodi"], "no such field"),
        (["--default", "body=x"], "expected FIELD=VALUE"),
        (["--time-zone", "Mars"], "no such time zone"),
        (["--sheet", "Other"], "'Export'"),
        (["--heading-row", "99"], "row 99"),
    ],
)
def test_an_impossible_mapping_is_refused_with_the_reason(
    at_home: AppContext, export: Path, intake: Intake, more: list[str], words: str
) -> None:
    del at_home
    assert words in intake("map", export, *more, code=2).stderr


def test_row_and_sheet_may_be_given(at_home: AppContext, tmp_path: Path, intake: Intake) -> None:
    del at_home
    workbook = openpyxl.Workbook()
    workbook.worksheets[0].append(["From", "Message"])
    workbook.worksheets[0].append(["Pat", "x"])
    second = workbook.create_sheet("Zwei")
    for row in (["a", "b", "c", "d"], HEADER, ROW):
        second.append(row)
    file = tmp_path / "two.xlsx"
    workbook.save(file)
    assert "headings in row 1" in intake("map", file, "--sheet", "Sheet").stdout
    assert "It can be read as it is" in intake("map", file, "--sheet", "sheet").stdout
    output = intake("map", file, "--sheet", "zwei", "--heading-row", "2", *SAY).stdout
    assert "headings in row 2" in output
    assert "the same with --save NAME" in output


def test_a_file_that_is_no_workbook(at_home: AppContext, tmp_path: Path, intake: Intake) -> None:
    del at_home
    file = tmp_path / "x.xlsx"
    file.write_bytes(b"PK\x03\x04 nothing")
    assert "a damaged workbook" in intake("map", file, code=65).stderr
    assert "which file" in intake("map", code=2).stderr
    assert "no delivery 9" in intake("map", "--delivery", 9, code=1).stderr


def test_profiles_of_the_settings_are_listed_and_not_forgotten(
    at_home: AppContext, tmp_path: Path, intake: Intake
) -> None:
    del at_home
    (tmp_path / "intake.toml").write_text('[profile.mine]\nsynonyms = { body = ["Anliegen"] }\n')
    assert "intake.toml" in intake("profiles").stdout
    assert "intake.toml" in intake("profiles", "forget", "mine", code=1).stderr


def test_a_text_file_with_headings_of_a_profile(
    at_home: AppContext, tmp_path: Path, intake: Intake
) -> None:
    file = tmp_path / "export.csv"
    file.write_text("".join(";".join(map(str, row)) + "\n" for row in (HEADER, ROW)))
    intake("map", file, *SAY, "--save", "north")
    [number] = drop_books(at_home, file)
    assert get_state(at_home, number) is DeliveryState.PROCESSED
