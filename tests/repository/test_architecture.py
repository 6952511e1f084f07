"""The architecture holds.

Imports point down, only the edge asks the clock, only the journal writes a log.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repository import import_graph
from tests.repository.import_graph import PACKAGES, ROOT
from tests.repository.import_graph import list_imports as imported
from tests.repository.import_graph import parse_module as tree

MAY_IMPORT = {
    "parsers": {"parsers"},
    "workflow": {"workflow", "parsers"},
    "ingest": {"ingest", "workflow", "parsers"},
    "webhooks": {"webhooks", "ingest", "workflow", "parsers"},
    "console": set(PACKAGES),
}
PURE = {
    "os",
    "socket",
    "sqlalchemy",
    "logging",
    "structlog",
    "time",
    "pathlib",
    "subprocess",
    "threading",
    "asyncio",
}
PARSER_LIBRARIES = {
    "defusedxml",
    "inscriptis",
    "lxml",
    "mailparser",
    "msoffcrypto",
    "nh3",
    "tinycss2",
    "olefile",
    "openpyxl",
    "pybase64",
    "selectolax",
}
SHAPES = ("parsers.item", "parsers.mail.evidence")  # what crosses the border to workflow
STANDARD = __import__("sys").stdlib_module_names
CLOCKS = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("time", "time"),
}
WRITES = {"get_logger", "debug", "info", "warning", "error", "exception", "critical", "log"}

MODULES = import_graph.list_modules()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def list_calls(path: Path) -> Iterator[tuple[str, str]]:
    """(owner, attribute) of every dotted name a file uses."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            yield (
                owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", ""),
                node.attr,
            )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name for name in imported(path) if name.partition(".")[0] in PACKAGES}
    wrong = {name for name in ours if name.partition(".")[0] not in MAY_IMPORT[package]}
    if package == "workflow":
        wrong |= {n for n in ours if n.startswith("parsers") and not n.startswith(SHAPES)}
    assert not wrong


def test_the_graph_of_packages_is_the_allowed_one() -> None:
    for package, targets in import_graph.build_package_graph().items():
        assert targets <= MAY_IMPORT[package] - {package}


# The parts of each package from the bottom up: a part may import those before it, so there is no
# circle. A part is a sub-package, or a module that stands in the package's own folder.
LAYERS = {
    "parsers": ("text", "spreadsheets", "mail", "formstack", "secure_message", "crm_export"),
    "workflow": (
        *("process", "errors", "models", "database", "settings", "runtime", "permissions"),
        *("audit", "customers", "tickets", "filing", "accounts", "context", "mail", "imports"),
        *("webhooks", "background_jobs", "operations", "jobs"),
    ),
    "ingest": (
        *("intake", "parser_options", "crm_import", "linked_files", "imap", "processing"),
        *("phone_call", "replay", "column_mapping", "attached_files"),
        *("folder", "formstack", "smtp"),
    ),
    "webhooks": ("body", "signature", "app"),
    "console": (
        *("errors", "bootstrap", "presenters", "exports", "web", "perform", "pages", "api"),
        *("app", "runtime", "demo", "cli"),
    ),
}
ENTRIES = 17  # of a folder; more cannot be taken in at a glance
MORE_ENTRIES = {"workflow": 19, "tests/support": 19}  # the parts of a package, a helper a server


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_parts_of_a_package_form_layers(path: Path) -> None:
    package, *inside = path.relative_to(ROOT).with_suffix("").parts
    if inside == ["__init__"] or "migrations" in inside:
        return
    layers, part = LAYERS[package], inside[0]
    if package == "parsers" and part not in layers:
        return  # item, options and phone_call stand below or above all of them
    assert part in layers, "give it a place in LAYERS"
    below = set(layers[: layers.index(part) + 1])
    ours = {name.split(".")[1] for name in imported(path) if name.startswith(f"{package}.")}
    assert not (ours & set(layers)) - below


@pytest.mark.parametrize(
    "folder", sorted({p.parent for p in MODULES} | {ROOT / "tests" / "support"}), ids=name_of
)
def test_a_folder_can_be_taken_in_at_a_glance(folder: Path) -> None:
    if "versions" in folder.parts:
        return  # migrations: one a change of the schema
    entries = [e for e in folder.iterdir() if e.name not in {"__init__.py", "__pycache__"}]
    assert len(entries) <= MORE_ENTRIES.get(name_of(folder), ENTRIES)


@pytest.mark.parametrize(
    "path", [p for p in MODULES if "parsers" in p.relative_to(ROOT).parts], ids=name_of
)
def test_parsers_are_pure(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imported(path)}
    assert not tops & PURE
    assert tops <= set(STANDARD) | PARSER_LIBRARIES | {"parsers"}
    calls = {
        n.func.id
        for n in ast.walk(tree(path))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not calls & {"open", "print", "input"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_edge_asks_the_clock(path: Path) -> None:
    if name_of(path) == "workflow/runtime/clock.py":
        return
    assert not set(list_calls(path)) & CLOCKS
    assert not {"time.time", "datetime.now"} & set(imported(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_journal_writes_a_log(path: Path) -> None:
    if name_of(path) == "workflow/runtime/log.py":
        return
    tops = {name.partition(".")[0] for name in imported(path)}
    assert "print" not in {n.id for n in ast.walk(tree(path)) if isinstance(n, ast.Name)}
    if path.relative_to(ROOT).parts[0] != "console":
        assert not tops & {"click", "rich", "logging", "structlog"}
    elif tops & {
        "logging",
        "structlog",
    }:  # the process that starts may silence a library, never write
        assert not {attribute for _, attribute in list_calls(path)} & WRITES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_has_a_docstring(path: Path) -> None:
    if "migrations" not in path.parts:
        assert ast.get_docstring(tree(path)), "no docstring"


def test_the_rules_look_at_every_package() -> None:
    assert {p.relative_to(ROOT).parts[0] for p in MODULES} == set(PACKAGES)
    assert len(MODULES) > 50
