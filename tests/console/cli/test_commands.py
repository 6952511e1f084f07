"""The face of the command: help that teaches, faults in one line, exit codes."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from sqlalchemy import select

from console.cli.main import COMMANDS, SECTIONS, cli
from tests.support.command import Intake
from workflow.context import AppContext
from workflow.models.accounts import Account
from workflow.models.core import Staff
from workflow.models.states import Role


def list_commands() -> list[tuple[str, ...]]:
    command_paths: list[tuple[str, ...]] = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        command_paths.append((name,))
        if isinstance(command, click.Group):
            command_paths += [(name, sub) for sub in command.commands]
    return command_paths


def test_help_lists_every_command_by_section(intake: Intake) -> None:
    output = intake("--help").output
    assert [s for s in SECTIONS if f"{s}:" not in output] == []
    assert [c for c in COMMANDS if f"\n  {c} " not in output] == []
    assert "\\b" not in output


@pytest.mark.parametrize("command", list_commands(), ids=" ".join)
def test_help_of_every_command_teaches_by_an_example(
    intake: Intake, command: tuple[str, ...]
) -> None:
    arguments = (
        ("ticket", "12", *command[1:])
        if command[0] == "ticket" and command[1:] not in {(), ("new",)}
        else command
    )
    output = intake(*arguments, "--help").output
    assert "Example" in output or command == ("ticket", "show")
    assert "\\b" not in output


def test_help_loads_nothing_heavy() -> None:
    heavy = """if True:
        import sys
        from console.cli.main import cli
        cli(["--help"], standalone_mode=False)
        heavy = {"sqlalchemy", "rich", "rq", "flask", "parsers", "workflow"}
        print("HEAVY", sorted(heavy & set(sys.modules)))
    """
    output = subprocess.run(
        [sys.executable, "-c", heavy], check=True, capture_output=True, text=True
    ).stdout
    assert "HEAVY []" in output


def test_every_fault_of_the_settings_is_listed_and_none_is_a_traceback(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTAKE_SMTP_LISTEN", "nowhere")
    monkeypatch.setenv("INTAKE_MAIL_LIMIT", "much")
    output = intake("tickets", code=78).stderr
    assert "INTAKE_SMTP_LISTEN" in output
    assert "INTAKE_MAIL_LIMIT" in output
    assert "Traceback" not in output


def test_a_database_that_is_away_is_one_line_and_try_again(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "INTAKE_DATABASE_URL", "postgresql+psycopg://intake:hunter2@127.0.0.1:1/intake"
    )
    output = intake("tickets", code=75).stderr
    assert output.count("\n") == 1
    assert "INTAKE_DATABASE_URL" in output
    assert "hunter2" not in output


def test_a_database_without_tables_names_the_command_that_makes_them(
    intake: Intake, home: Path
) -> None:
    home.mkdir()
    (home / "intake.db").touch()
    assert "intake migrate" in intake("tickets", code=75).stderr
    intake("migrate")
    intake("tickets")


def test_the_default_database_is_made_on_first_use(intake: Intake, home: Path) -> None:
    assert "intake demo" in intake("tickets").output
    assert (home / "intake.db").exists()


@pytest.mark.parametrize(
    "view", ["unassigned", "mine", "open", "overdue", "escalated", "completed"]
)
def test_an_empty_view_says_what_to_do_next(intake: Intake, view: str) -> None:
    assert "intake " in intake("tickets", "--view", view).output


def test_process_prints_the_tables(intake: Intake) -> None:
    output = intake("process").output
    assert "| 4-In Progress |" in output
    assert "escalate the ticket" in output


def test_status_without_processes_needs_a_person(intake: Intake) -> None:
    assert "intake up" in intake("status", code=1).output


def test_people_and_companies(intake: Intake) -> None:
    intake("user", "add", "Max Berg", "--role", "lead", "--email", "Max@PMB.test")
    intake(
        "company",
        "add",
        "Acme Clinic",
        "--number",
        "4711",
        "--domain",
        "@Acme.test",
        "--manager",
        "max@pmb.test",
    )
    intake("company", "add", "ACME clinic", "--domain", "acme.example")
    assert '"max@pmb.test"' in intake("user", "list", "--json").output
    output = intake("company", "list").output
    assert [
        w for w in ("Acme Clinic", "4711", "Max Berg", "acme.example acme.test") if w not in output
    ] == []
    assert (
        "belongs to Acme"
        in intake("company", "add", "Other", "--domain", "acme.test", code=1).stderr
    )
    assert (
        "intake user add" in intake("company", "add", "Other", "--manager", "Nobody", code=1).stderr
    )


def test_the_last_admin_stays_one_by_command_too(intake: Intake, at_home: AppContext) -> None:
    intake("user", "add", "Max Berg", "--role", "admin", "--email", "max@pmb.test")
    with at_home.store.transaction() as session:
        max_berg = session.scalars(select(Staff)).one()
        session.add(
            Account(
                staff_id=max_berg.id,
                email="max@pmb.test",
                uniquifier="u",
                created_at=at_home.clock(),
            )
        )
    assert "last admin" in intake("user", "add", "Max Berg", "--role", "agent", code=1).stderr
    with at_home.store.read_only() as session:
        assert session.scalars(select(Staff.role)).one() is Role.ADMIN
