"""README, docs and Procfile agree with the program."""

import importlib
import re
import tokenize
import tomllib
from pathlib import Path

import click
import pytest

from console.cli.main import COMMANDS, cli
from docs import generate
from tests.repository import import_graph
from tests.repository.import_graph import PACKAGES
from tests.repository.test_architecture import ENTRIES, MORE_ENTRIES
from workflow.settings.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
# Pages for readers of today's release; the log of changes names what was then.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BANNED_WORDS = (
    "house",
    "told",
    "said",
    "promise",
    "promised",
    "promises",
    "letter",
    "door",
    "doors",
    "mend",
    "mended",
    "vouched",
    "waker",
)
# Banned words that have to stay, the reason, and the files they are in. Migrations are not read:
# they have to write what they wrote when they were released.
WORDS_ALLOWED = (
    (
        "told",
        "`told_at`: a key of public JSON and a column; `told`: a stored state",
        (
            "console/api/schemas.py",
            "console/cli/integrations.py",
            "console/presenters/webhooks.py",
            "console/templates/operations/_webhook.html",
            "workflow/models/states.py",
            "workflow/models/webhooks.py",
        ),
    ),
    (
        "promised",
        "`promised_at`: a column; `answer promised`, `recap promised`: actions of the audit log",
        (
            "console/presenters/tickets/answer.py",
            "console/presenters/audit.py",
            "workflow/mail/answer.py",
            "workflow/models/core.py",
            "workflow/tickets/desk.py",
        ),
    ),
    (
        "said",
        "phrases looked for in real mail",
        ("parsers/mail/bounces/plain_text.py", "parsers/mail/replies/quote_markers.py"),
    ),
    (
        "door",
        "a query parameter, a label of metrics, a setting and an index of the database",
        (
            "console/api/tickets.py",
            "console/presenters/operations.py",
            "console/presenters/tickets/queue.py",
            "console/templates/queue/_filters.html",
            "console/web/metrics.py",
            "workflow/models/core.py",
            "workflow/operations/status.py",
            "workflow/settings/settings.py",
        ),
    ),
    (
        "doors",
        "a key of the JSON of `intake status` and `intake ledger`",
        (
            "console/presenters/operations.py",
            "console/presenters/terminal.py",
            "workflow/operations/ledger.py",
        ),
    ),
)


def list_commands() -> list[click.Command]:
    context = click.Context(cli)
    return [c for name in COMMANDS if (c := cli.get_command(context, name)) is not None]


def test_generated_pages_are_those_of_the_code() -> None:
    for path, text in generate.render_all().items():
        assert (ROOT / path).read_text() == text, f"{path}: run `make docs`"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 6 * 1024


def test_every_setting_has_a_meaning_and_is_on_the_page() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    tables = " ".join(generate.TOML_TABLES)
    for name, field in Settings.model_fields.items():
        assert field.description, name
        in_tables = f"[{name}]" in tables or f"[{name}." in tables
        assert f"| `INTAKE_{name.upper()}` |" in page or in_tables, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_setting_in_the_docs_is_made_up(page: Path) -> None:
    named = set(re.findall(r"\bINTAKE_([A-Z_]+[A-Z])\b", page.read_text()))
    unknown = {name.lower() for name in named} - set(Settings.model_fields)
    assert unknown <= {"config", "user", "corpora", "hostile", "pictures", "smtp", "trials"}


def test_every_command_teaches() -> None:
    for command in list_commands():
        assert len(command.help or "") > 60, f"`intake {command.name} --help` teaches nothing"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_exist(page: Path) -> None:
    named = set(re.findall(r"(?:^|`)intake ([a-z]+)\b", page.read_text(), re.MULTILINE))
    assert named <= set(COMMANDS)


def test_the_procfile_names_processes_that_exist() -> None:
    for line in (ROOT / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": ")
        assert command == f"intake {name}"
        assert name in COMMANDS


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_in_the_docs_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not anchor or anchor in list_anchors(file), f"{target}#{anchor}"


def list_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


# Help texts come from the code.
@pytest.mark.parametrize(
    "page",
    [p for p in (*PAGES, ROOT / "CHANGELOG.md") if p.name != "commands.md"],
    ids=lambda page: page.name,
)
def test_no_banned_word_is_in_the_docs(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", page.read_text())  # names in the code
    assert not re.findall(rf"\b(?:{'|'.join(BANNED_WORDS)})\b", text, re.IGNORECASE)


def list_words(text: str) -> set[str]:
    """Return the words of a text in lower case; names are split at underscores and capitals."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)}


def read_written_words(path: Path) -> str:
    """Return what people wrote in a source file: names, comments and strings, docstrings too."""
    if path.suffix != ".py":
        return path.read_text()
    written = {tokenize.NAME, tokenize.COMMENT, tokenize.STRING}
    with path.open("rb") as file:
        return " ".join(t.string for t in tokenize.tokenize(file.readline) if t.type in written)


def test_no_banned_word_is_in_the_code() -> None:
    files = [path for path in import_graph.list_modules() if "versions" not in path.parts]
    for package in PACKAGES:
        files += [p for p in (ROOT / package).rglob("*") if p.suffix in {".html", ".txt"}]
    assert len(files) > 300
    found_words = {
        (str(path.relative_to(ROOT)), word)
        for path in files
        for word in list_words(read_written_words(path)) & set(BANNED_WORDS)
    }
    allowed = {(file, word) for word, _, files in WORDS_ALLOWED for file in files}
    assert not found_words - allowed, "use a standard term"
    assert not allowed - found_words, "take it off WORDS_ALLOWED"


def test_files_named_in_the_docs_exist() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/reliability.md"):
        for file in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", (ROOT / name).read_text()):
            assert (ROOT / file).exists(), f"{name}: {file}"


def test_every_moved_file_is_where_the_decision_says() -> None:
    page = (ROOT / "docs" / "decisions" / "0023-layout.md").read_text()
    moved_count = 0
    for package, table in re.findall(
        r"^### `(\w+)/`\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL
    ):
        for file in re.findall(r"^\| `[^`]+` \| `([^`]+)` \|$", table, re.MULTILINE):
            assert (ROOT / package / file).exists(), f"{package}/{file}"
            moved_count += 1
    assert moved_count > 200


def test_the_decision_says_how_many_entries_a_folder_may_have() -> None:
    page = (ROOT / "docs" / "decisions" / "0023-layout.md").read_text()
    assert f"{ENTRIES} entries at most" in " ".join(page.split())
    for folder, entries in MORE_ENTRIES.items():
        assert re.search(rf"`{folder}/`[^.)]* {entries}\b", page), folder


def test_every_dependency_is_justified_in_one_line() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for needed in tomllib.loads(text)["project"]["dependencies"]:
        line = next(line for line in text.splitlines() if f'"{needed}"' in line)
        assert len(line.partition("#")[2]) > 10, needed


def test_the_examples_of_the_settings_file_are_valid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    examples = [
        (page.name, example)
        for page in PAGES
        for example in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    assert len(examples) > 3
    for number, (name, example) in enumerate(examples):
        file = tmp_path / f"{number} {name}.toml"
        file.write_text(example)
        monkeypatch.setenv("INTAKE_CONFIG", str(file))
        assert load_settings().model_fields_set == set(tomllib.loads(example))


def test_the_bounds_of_mail_are_those_in_the_docs() -> None:
    page = (ROOT / "docs" / "mail-fidelity.md").read_text()
    bounds = re.findall(r"^\| `([\w.]+)\.(MAX_\w+)` \| ([\d,]+) \|", page, re.MULTILINE)
    assert len(bounds) > 15
    for module, name, number in bounds:
        assert getattr(importlib.import_module(f"parsers.{module}"), name) == int(
            number.replace(",", "")
        ), name
