"""`intake import`: tickets, companies, contacts and older mail; a dry run without --apply."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from console import bootstrap
from console.cli.mailboxes import import_mail
from console.errors import EXIT_UNREADABLE, CommandError
from console.presenters import terminal

if TYPE_CHECKING:
    from ingest.crm_import.rows import Vocabulary
    from ingest.crm_import.run import ImportReport, ImportRequest

F = TypeVar("F", bound=Callable[..., object])
MAP_HELP = (
    'What a column holds, as in "Their column=owner" (docs/crm-import.md); "Their column=" keeps it'
    " as a detail."
)


@click.group("import")
def import_() -> None:
    r"""Import tickets, companies and contacts from a CRM's export (.xlsx or CSV), and older mail.

    \b
    Example:  intake import tickets hubspot.csv            what would be imported
              intake import tickets hubspot.csv --apply    and now do it
              intake import list · intake import undo 1
              intake import mail                           what a mailbox has from before

    An import mails nobody, and the same record is never imported twice.
    """


def _import_options(command: F) -> F:
    """Add the arguments and options of every import."""
    decorators = [
        click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True)),
        click.option("--map", "columns", metavar='"COLUMN=PROPERTY"', multiple=True, help=MAP_HELP),
        click.option("--apply", "apply", is_flag=True, help="Do it. Without this it is a dry run."),
        bootstrap.actor_option,
        bootstrap.json_option,
    ]
    for add in reversed(decorators):
        command = add(command)
    return command


@import_.command("tickets")
@click.option(
    "--stage",
    "stages",
    metavar='"STATUS=STAGE"',
    multiple=True,
    help='As in "Waiting=4-In Progress".',
)
@click.option(
    "--owner",
    "owners",
    metavar='"OWNER=USER"',
    multiple=True,
    help='Their owner or its id, as in "81=Ann".',
)
@click.option(
    "--time-zone",
    metavar="ZONE",
    default="",
    help="Where a time names none. Default: INTAKE_TIME_ZONE.",
)
@_import_options
def tickets(
    *,
    file: Path,
    stages: tuple[str, ...],
    owners: tuple[str, ...],
    time_zone: str,
    columns: tuple[str, ...],
    apply: bool,
    actor: str,
    as_json: bool,
) -> None:
    r"""Import tickets, with their stage, owner, company and contacts.

    \b
    Example:  intake import tickets hubspot.csv
              intake import tickets hubspot.csv --stage "Waiting on us=4-In Progress" --apply

    Columns are known by label ("Ticket status") or internal name (hs_pipeline_stage); Record ID and
    a status are required. Nobody is mailed. Deadlines of open tickets count from now, so that old
    ones do not all escalate at once. If it was killed, the same command continues where it stopped.
    Next: `intake import undo N` withdraws them.
    """
    terms = _build_terms(stages, owners, time_zone)
    _import_file("tickets", file, columns, terms, apply=apply, actor=actor, as_json=as_json)


@import_.command("companies")
@_import_options
def companies(
    *, file: Path, columns: tuple[str, ...], apply: bool, actor: str, as_json: bool
) -> None:
    r"""Import practices: name, number, mail domains, manager, consultant.

    \b
    Example:  intake import companies companies.csv --map "Account rep=manager" --apply

    A practice that is on record gets the values it lacks; nothing is overwritten. Managers are
    people on the desk: add them first (`intake user add`).
    """
    _import_file("companies", file, columns, None, apply=apply, actor=actor, as_json=as_json)


@import_.command("contacts")
@_import_options
def contacts(
    *, file: Path, columns: tuple[str, ...], apply: bool, actor: str, as_json: bool
) -> None:
    r"""Import contacts: name, e-mail, phone, company.

    \b
    Example:  intake import contacts contacts.xlsx --apply

    A contact is known by its address. One that is on record gets the values it lacks; nothing is
    overwritten.
    """
    _import_file("contacts", file, columns, None, apply=apply, actor=actor, as_json=as_json)


import_.add_command(import_mail)


@import_.command("list")
@bootstrap.json_option
def list_(*, as_json: bool) -> None:
    r"""List past imports, and the results of their rows.

    \b
    Example:  intake import list
    """
    from console.presenters import imports as imports_presenter
    from ingest.crm_import.run import list_imports

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        rows = [imports_presenter.present_import(one) for one in list_imports(session)]
    if as_json:
        terminal.print_json(rows)
    elif rows:
        imports_presenter.print_imports(rows)
    else:
        click.echo("Nothing was imported yet. For a dry run: intake import tickets FILE")


@import_.command("undo")
@click.argument("number", type=int)
@bootstrap.actor_option
def undo(*, number: int, actor: str) -> None:
    r"""Undo an import of tickets: those that nobody has changed since are withdrawn.

    \b
    Example:  intake import undo 3

    Tickets that were changed stay, and are listed. Companies and contacts stay on record. The file
    may then be imported again.
    """
    from workflow.imports.undo import undo_import

    with bootstrap.open_app_context() as context:
        result = undo_import(context, number, by=actor)
    click.echo(f"{result.withdrawn_count} tickets withdrawn.")
    if result.changed_ids:
        click.echo(
            "Left, because somebody has changed them since:"
            f" {terminal.format_numbers(result.changed_ids)}"
        )


def _import_file(
    kind: str,
    file: Path,
    columns: tuple[str, ...],
    terms: "Vocabulary | None",
    *,
    apply: bool,
    actor: str,
    as_json: bool,
) -> None:
    from console.presenters import imports as imports_presenter
    from ingest.crm_import.rows import Vocabulary
    from ingest.crm_import.run import ImportRequest
    from parsers.item import ParseError

    request = ImportRequest(
        kind=kind,
        raw=_read_file(file),
        columns=_parse_pairs(columns, "--map"),
        vocabulary=terms or Vocabulary(),
    )
    try:
        report = _run_or_preview(request, apply=apply, actor=actor)
    except ParseError as error:
        raise CommandError(f"{file}: {error}", EXIT_UNREADABLE) from None
    data = imports_presenter.present_result(kind, report)
    if as_json:
        terminal.print_json(data)
    else:
        imports_presenter.print_result(data)


def _run_or_preview(request: "ImportRequest", *, apply: bool, actor: str) -> "ImportReport":
    from ingest.crm_import import run

    with (
        bootstrap.open_app_context() as context,
        terminal.show_progress(f"importing {request.kind}" if apply else "dry run") as step,
    ):
        if apply:
            return run.run_import(context, request, by=actor, step=step)
        return run.preview_import(context, request, step=step)


def _read_file(file: Path) -> bytes:
    from workflow.settings.settings import load_settings

    limit = load_settings().workbook_limit
    # Before it is read: the whole file is held in memory.
    if file.stat().st_size > limit:
        raise CommandError(
            f"{file} is larger than INTAKE_WORKBOOK_LIMIT ({limit} bytes): export it in parts",
            EXIT_UNREADABLE,
        )
    return file.read_bytes()


def _parse_pairs(options: tuple[str, ...], option: str) -> dict[str, str]:
    """Split each `THEIRS=OURS` at its last equals sign: a heading of theirs may contain one."""
    pairs = {}
    for text in options:
        theirs, sign, ours = text.rpartition("=")
        if not sign:
            raise click.UsageError(f"{option} {text}: expected THEIRS=OURS")
        pairs[theirs.strip()] = ours.strip()
    return pairs


def _build_terms(stages: tuple[str, ...], owners: tuple[str, ...], time_zone: str) -> "Vocabulary":
    from zoneinfo import ZoneInfo

    from ingest.crm_import.rows import Vocabulary, fold_name
    from workflow.process import Stage
    from workflow.settings.settings import load_settings

    by_label = {fold_name(s): s for s in Stage}
    stage_of_status = {
        fold_name(theirs): fold_name(ours)
        for theirs, ours in _parse_pairs(stages, "--stage").items()
    }
    if wrong := [ours for ours in stage_of_status.values() if ours not in by_label]:
        raise click.UsageError(
            f"--stage: there is no stage {wrong[0]}; the stages are {', '.join(Stage)}"
        )
    name = time_zone or load_settings().time_zone
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise click.UsageError(
            f"--time-zone: there is no time zone {name}, as in America/New_York"
        ) from None
    people = {fold_name(theirs): ours for theirs, ours in _parse_pairs(owners, "--owner").items()}
    return Vocabulary(
        stages={theirs: by_label[ours] for theirs, ours in stage_of_status.items()},
        owners=people,
        time_zone=zone,
    )
