"""What README, docs and Procfile say is what the program does."""

import importlib
import re
import tomllib
from pathlib import Path

import click
import pytest

from console.cli.main import PLACES, cli
from parsers.crm_export import column_names
from parsers.mail import evidence
from workflow import process
from workflow.settings.settings import Mailbox, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands() -> list[click.Command]:
    context = click.Context(cli)
    return [c for name in PLACES if (c := cli.get_command(context, name)) is not None]


def test_readme_shows_the_process_tables_word_for_word() -> None:
    shown = README.partition("<!-- intake process -->\n")[2].partition(
        "\n<!-- /intake process -->"
    )[0]
    assert shown == process.markdown()


def test_reliability_shows_the_tables_of_evidence_word_for_word() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    begin, end = "<!-- intake process --evidence -->\n", "\n<!-- /intake process --evidence -->"
    assert page.partition(begin)[2].partition(end)[0] == evidence.markdown()


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_in_the_readme(name: str) -> None:
    documented = (
        f"`INTAKE_{name.upper()}`" in README or f"[[{name}]]" in README or f"[{name}." in README
    )
    assert documented, f"INTAKE_{name.upper()} is not documented"


def test_no_setting_in_the_readme_is_made_up() -> None:
    named = set(re.findall(r"`INTAKE_([A-Z_]+)`", README)) - {"HOME", "CONFIG", "USER"}
    assert {n.lower() for n in named} <= set(Settings.model_fields)


def test_every_command_is_in_the_readme_and_teaches() -> None:
    for command in commands():
        assert (
            re.search(rf"`(intake )?{command.name}\b", README) or f"`{command.name}`" in README
        ), command.name
        assert len(command.help or "") > 60, f"`intake {command.name} --help` teaches nothing"


def test_the_procfile_names_processes_that_exist() -> None:
    for line in (ROOT / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": ")
        assert command == f"intake {name}"
        assert name in PLACES


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_flow_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "docs" / "flow.md").read_text().splitlines()) <= 70


def test_files_named_in_flow_exist() -> None:
    for name in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", (ROOT / "docs" / "flow.md").read_text()):
        assert (ROOT / name).exists(), name


def test_every_dependency_is_justified_in_one_line() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for needed in tomllib.loads(text)["project"]["dependencies"]:
        line = next(line for line in text.splitlines() if f'"{needed}"' in line)
        assert len(line.partition("#")[2]) > 10, needed


def test_the_example_of_a_mailbox_is_one() -> None:
    example = README.partition("```toml\n")[2].partition("```")[0]
    told = tomllib.loads(example)
    assert Mailbox.model_validate(told["mailbox"][0]).oauth2 is not None


def test_every_property_of_an_imported_ticket_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "moving-in.md").read_text()
    for name, labels in column_names.TICKETS.items():
        assert f"| `{name}` | {', '.join(labels)} |" in page, name


def test_the_bounds_of_mail_are_those_in_the_docs() -> None:
    page = (ROOT / "docs" / "mail-fidelity.md").read_text()
    bounds = re.findall(r"^\| `([\w.]+)\.(MAX_\w+)` \| ([\d,]+) \|", page, re.MULTILINE)
    assert len(bounds) > 15
    for module, name, number in bounds:
        assert getattr(importlib.import_module(f"parsers.{module}"), name) == int(
            number.replace(",", "")
        ), name
