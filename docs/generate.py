"""Write the pages and tables of the documents that come from the code: `make docs`.

`tests/repository/test_docs.py` fails when a committed page differs from what this makes.
"""

from collections.abc import Iterator
from enum import EnumType, StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from console.cli.main import COMMANDS, SECTIONS, cli
from parsers.crm_export import column_names
from parsers.mail import evidence
from tests.repository import import_graph
from workflow import process
from workflow.settings.forms import Form, FormDefault, FormField
from workflow.settings.settings import Mailbox, OAuth2, Oidc, Settings, WorkbookProfile

ROOT = Path(__file__).parents[1]
NOTE = "<!-- Made by `make docs`; do not edit. -->"
COMMANDS_INTRODUCTION = """\
Every command of `intake`, as `intake COMMAND --help` prints it. Commands read their settings from
the environment and from `intake.toml` ([configuration](configuration.md)). Exit code 0 means done;
the help of a command names the others."""
SETTINGS_INTRODUCTION = """\
Every setting. How settings are given, with an example: [configuration](configuration.md). Sizes are
in bytes. A change takes effect when the process starts again.
"""
HELP_WIDTH = 98  # columns of a help text: fits a code block on a page

# Classes of settings that are tables in intake.toml, with the heading of their table.
TOML_TABLES: dict[str, type[BaseModel]] = {
    "`[[mailbox]]`: an IMAP mailbox": Mailbox,
    "`[mailbox.oauth2]`: its OAuth2 login": OAuth2,
    "`[form.ID]`: a Formstack form": Form,
    "`[profile.NAME]`: the workbooks of one source": WorkbookProfile,
    "`[oidc]`: single sign-on": Oidc,
}
TYPE_NAMES = {
    str: "text",
    Path: "path",
    SecretStr: "secret",
    bool: "true or false",
    int: "whole number",
    float: "number",
}
CONTAINER_NAMES = {tuple: "list", dict: "table"}
MIB, KIB = 1024 * 1024, 1024


def render_commands() -> str:
    """Return the page of all commands: an index by section, then the help of each."""
    parts = [
        NOTE,
        "# Commands\n",
        COMMANDS_INTRODUCTION,
    ]
    for section, names in SECTIONS.items():
        parts.append(f"\n## {section}\n\n| command | |\n|---|---|")
        parts += [
            f"| [`intake {name}`](#intake-{name}) | {_summary(_find_command(name))} |"
            for name in names
        ]
    for name in COMMANDS:
        parts += _command_help(_find_command(name), f"intake {name}", depth=2)
    return "\n".join(parts) + "\n"


def _find_command(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    return command


def _summary(command: click.Command) -> str:
    return command.get_short_help_str(limit=120).rstrip(".")


def _command_help(command: click.Command, path: str, depth: int) -> Iterator[str]:
    """Yield the section of a command, then those of its subcommands one level deeper."""
    context = click.Context(
        command,
        info_name=path,
        terminal_width=HELP_WIDTH,
        max_content_width=HELP_WIDTH,
        help_option_names=cli.context_settings["help_option_names"],
    )
    help_text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield f"\n{'#' * depth} {path}\n\n```text\n{help_text}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            if subcommand is not None and not subcommand.hidden:
                yield from _command_help(subcommand, f"{path} {name}", depth + 1)


def render_settings() -> str:
    """Return the page of all settings: the environment variables, then the tables of the file."""
    parts = [
        NOTE,
        "# Settings\n",
        SETTINGS_INTRODUCTION,
        "| variable | type | default | meaning |\n|---|---|---|---|",
        *(
            _setting_row(f"INTAKE_{name.upper()}", field)
            for name, field in Settings.model_fields.items()
            if not _is_table(field.annotation)
        ),
        "\n## Only in `intake.toml`",
    ]
    for heading, model in TOML_TABLES.items():
        parts.append(f"\n### {heading}\n\n| key | type | default | meaning |\n|---|---|---|---|")
        parts += [_setting_row(name, field) for name, field in model.model_fields.items()]
    parts.append(f"\nA form's field can mean: {_code_list(FormField)}.")
    parts.append(f"\nDefaults of a form can be given for: {_code_list(FormDefault)}.")
    return "\n".join(parts) + "\n"


def _is_table(annotation: Any) -> bool:
    """Return whether a setting is given as a table of intake.toml: a class, or several of one."""
    types = [annotation, *get_args(annotation)]
    return any(isinstance(t, type) and issubclass(t, BaseModel) for t in types)


def _setting_row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split())
    assert meaning, f"{name} has no docstring"
    default = _default_text(field)
    return f"| `{name}` | {_type_text(field.annotation)} | {default} | {meaning} |"


def _type_text(annotation: Any) -> str:
    """Return a type in a reader's words."""
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in {Union, UnionType}:
        return _type_text(next(a for a in arguments if a is not NoneType))
    if origin is not None:
        return CONTAINER_NAMES[origin]
    return _class_text(annotation)


def _class_text(annotation: Any) -> str:
    if isinstance(annotation, EnumType):
        return _code_list(annotation)
    return "table" if issubclass(annotation, BaseModel) else TYPE_NAMES[annotation]


def _default_text(field: FieldInfo) -> str:
    """Return a default in a reader's words; secrets have none that is not empty."""
    default = field.default
    if default is PydanticUndefined:
        return "required" if field.default_factory is None else "none"
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    match default:
        case "":
            return "empty"
        case None | ():
            return "none"
        case bool():
            return f"`{str(default).lower()}`"
        case tuple():
            return f"`{','.join(default)}`"
        case float():
            return f"`{default:g}`"
        case int():
            return f"`{default}`{_size_text(default)}"
        case _:
            return f"`{default}`"


def _size_text(number: int) -> str:
    """Return a whole number of KiB or MiB in brackets, behind a space; "" for other numbers."""
    if number < KIB or number % KIB:
        return ""
    return f" ({number // MIB} MiB)" if number % MIB == 0 else f" ({number // KIB} KiB)"


def _code_list(values: type[StrEnum] | EnumType) -> str:
    return ", ".join(f"`{value}`" for value in values)


def render_crm_columns() -> str:
    """Return the table of the columns that `intake import tickets` knows."""
    rows = [f"| `{name}` | {', '.join(labels)} |" for name, labels in column_names.TICKETS.items()]
    return "\n".join(["| property | of tickets: columns known for it |", "|---|---|", *rows])


def render_decisions() -> str:
    """Return the index of the decisions.

    A decision begins with `# NUMBER TITLE`, a blank line, and `DATE · STATUS`.
    """
    rows = ["| number | title | date | status |", "|---|---|---|---|"]
    for path in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        heading, blank, state = path.read_text().splitlines()[:3]
        number, _, title = heading.removeprefix("# ").partition(" ")
        date, _, status = state.partition(" · ")
        assert number == path.name[:4], path.name
        assert not blank, path.name
        assert status, f"{path.name}: no date and status in its third line"
        rows.append(f"| [{number}]({path.name}) | {title} | {date} | {status} |")
    return "\n".join(rows)


def render_package_diagram() -> str:
    """Return the diagram of the imports between the five packages."""
    return import_graph.render_mermaid(import_graph.build_package_graph())


def render_part_diagrams() -> str:
    """Return a diagram a package of the imports between its sub-packages."""
    graph = import_graph.build_part_graph()
    return "\n\n".join(
        f"### `{package}`\n\n"
        + import_graph.render_mermaid(import_graph.select_package(graph, package))
        for package in import_graph.PACKAGES
    )


# Pages that are made whole, and tables in pages that are written by hand: (page, name of the
# block's marks) -> text. A block stands between <!-- NAME --> and <!-- /NAME -->.
PAGES = {"docs/commands.md": render_commands, "docs/settings.md": render_settings}
BLOCKS = {
    ("README.md", "intake process"): process.render_markdown,
    ("docs/reliability.md", "intake process --evidence"): evidence.render_markdown,
    ("docs/crm-import.md", "columns"): render_crm_columns,
    ("docs/decisions/README.md", "index"): render_decisions,
    ("docs/architecture.md", "packages"): render_package_diagram,
    ("docs/architecture.md", "sub-packages"): render_part_diagrams,
}


def replace_block(page: str, name: str, text: str) -> str:
    """Return a page with another text between the marks of a block.

    Raises ValueError where the page has no such block.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"no block <!-- {name} -->")
    return f"{before}{begin}{text}\n{end}{after}"


def render_all() -> dict[str, str]:
    """Return the text of every page that is made, whole or in part, by its path."""
    pages = {path: render() for path, render in PAGES.items()}
    for (path, name), render in BLOCKS.items():
        current = pages.get(path) or (ROOT / path).read_text()
        pages[path] = replace_block(current, name, render())
    return pages


if __name__ == "__main__":
    for path, text in render_all().items():
        (ROOT / path).write_text(text)
        print(f"{path}: {len(text)} bytes")
