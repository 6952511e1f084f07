"""`intake import`.

Moving tickets, companies and contacts in from another system, a dry run unless told otherwise.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from console import bootstrap
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
    r"""Move tickets, companies and contacts in from a CRM's export (.xlsx or CSV).

    \b
    Example:  intake import tickets hubspot.csv            what would come of it
              intake import tickets hubspot.csv --apply    and now do it
              intake import list · intake import undo 1

    An import mails nobody, and the same record is never imported twice.
    """


def _importing(command: F) -> F:
    """Add what every import takes."""
    given = [
        click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True)),
        click.option("--map", "columns", metavar='"COLUMN=PROPERTY"', multiple=True, help=MAP_HELP),
        click.option(
            "--apply", "wanted", is_flag=True, help="Do it. Without this it is a dry run."
        ),
        bootstrap.actor_option,
        bootstrap.json_option,
    ]
    for add in reversed(given):
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
@_importing
def tickets(
    *,
    file: Path,
    stages: tuple[str, ...],
    owners: tuple[str, ...],
    time_zone: str,
    columns: tuple[str, ...],
    wanted: bool,
    actor: str,
    json_wanted: bool,
) -> None:
    r"""Move tickets in, with their stage, owner, company and contacts.

    \b
    Example:  intake import tickets hubspot.csv
              intake import tickets hubspot.csv --stage "Waiting on us=4-In Progress" --apply

    Columns are known by label ("Ticket status") or internal name (hs_pipeline_stage); Record ID and
    a status have to be there. Nobody is mailed. Deadlines of open tickets count from now, so that
    old ones do not all escalate at once. Killed in the middle? The same command goes on where it
    stopped. Next: `intake import undo N` takes it back.
    """
    terms = _terms(stages, owners, time_zone)
    _import("tickets", file, columns, terms, wanted=wanted, actor=actor, json_wanted=json_wanted)


@import_.command("companies")
@_importing
def companies(
    *, file: Path, columns: tuple[str, ...], wanted: bool, actor: str, json_wanted: bool
) -> None:
    r"""Put practices on record: name, number, mail domains, manager, consultant.

    \b
    Example:  intake import companies companies.csv --map "Account rep=manager" --apply

    What is on record already gets what it lacks; nothing is overwritten. Managers are people on the
    desk: add them first (`intake user add`).
    """
    _import("companies", file, columns, None, wanted=wanted, actor=actor, json_wanted=json_wanted)


@import_.command("contacts")
@_importing
def contacts(
    *, file: Path, columns: tuple[str, ...], wanted: bool, actor: str, json_wanted: bool
) -> None:
    r"""Put customers' people on record: name, e-mail, phone, company.

    \b
    Example:  intake import contacts contacts.xlsx --apply

    A contact is known by its address. What is on record already gets what it lacks; nothing is
    overwritten.
    """
    _import("contacts", file, columns, None, wanted=wanted, actor=actor, json_wanted=json_wanted)


@import_.command("list")
@bootstrap.json_option
def list_(*, json_wanted: bool) -> None:
    r"""List the imports there were, and what became of their rows.

    \b
    Example:  intake import list
    """
    from console.presenters import imports as imports_presenter
    from ingest.crm_import.run import list_imports

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        found = [imports_presenter.present_import(one) for one in list_imports(session)]
    if json_wanted:
        terminal.print_json(found)
    elif found:
        imports_presenter.print_imports(found)
    else:
        click.echo(
            "Nothing was imported yet. See what would come of a file: intake import tickets FILE"
        )


@import_.command("undo")
@click.argument("number", type=int)
@bootstrap.actor_option
def undo(*, number: int, actor: str) -> None:
    r"""Take an import of tickets back: those that nobody has touched since are withdrawn.

    \b
    Example:  intake import undo 3

    Tickets on which anything has happened stay, and are named. Companies and contacts stay on
    record. The file may then be imported again.
    """
    from workflow.imports.undo import undo_import as take_back

    with bootstrap.open_app_context() as context:
        done = take_back(context, number, by=actor)
    click.echo(f"{done.withdrawn} tickets withdrawn.")
    if done.changed_ids:
        click.echo(
            f"Left, because something has happened to them since: {terminal.format_numbers(done.changed_ids)}"
        )


def _import(
    kind: str,
    file: Path,
    columns: tuple[str, ...],
    terms: "Vocabulary | None",
    *,
    wanted: bool,
    actor: str,
    json_wanted: bool,
) -> None:
    from console.presenters import imports as imports_presenter
    from ingest.crm_import.rows import Vocabulary
    from ingest.crm_import.run import ImportRequest
    from parsers.item import ParseError

    asked = ImportRequest(
        kind=kind,
        raw=_raw(file),
        columns=_pairs(columns, "--map"),
        vocabulary=terms or Vocabulary(),
    )
    try:
        told = _run(asked, apply=wanted, actor=actor)
    except ParseError as error:
        raise CommandError(f"{file}: {error}", EXIT_UNREADABLE) from None
    found = imports_presenter.present_result(kind, told)
    if json_wanted:
        terminal.print_json(found)
    else:
        imports_presenter.print_result(found)


def _run(asked: "ImportRequest", *, apply: bool, actor: str) -> "ImportReport":
    from ingest.crm_import import run

    with (
        bootstrap.open_app_context() as context,
        terminal.show_progress(f"importing {asked.kind}" if apply else "dry run") as step,
    ):
        if apply:
            return run.run_import(context, asked, by=actor, step=step)
        return run.preview_import(context, asked, step=step)


def _raw(file: Path) -> bytes:
    from workflow.settings.settings import load_settings

    limit = load_settings().workbook_limit
    if file.stat().st_size > limit:
        raise CommandError(
            f"{file} is larger than INTAKE_WORKBOOK_LIMIT ({limit} bytes): export it in parts",
            EXIT_UNREADABLE,
        )
    return file.read_bytes()


def _pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = [
        one.rpartition("=") for one in given
    ]  # a heading of theirs may hold one, a word of ours does not
    if wrong := [one for one, (_, sign, _) in zip(given, pairs, strict=True) if not sign]:
        raise click.UsageError(f"{option} {wrong[0]}: expected THEIRS=OURS")
    return {theirs.strip(): ours.strip() for theirs, _, ours in pairs}


def _terms(stages: tuple[str, ...], owners: tuple[str, ...], time_zone: str) -> "Vocabulary":
    from zoneinfo import ZoneInfo

    from ingest.crm_import.rows import Vocabulary, fold_name
    from workflow.process import Stage
    from workflow.settings.settings import load_settings

    by_label = {fold_name(s): s for s in Stage}
    said = {
        fold_name(theirs): fold_name(ours) for theirs, ours in _pairs(stages, "--stage").items()
    }
    if wrong := [ours for ours in said.values() if ours not in by_label]:
        raise click.UsageError(
            f"--stage: there is no stage {wrong[0]}: there are {', '.join(Stage)}"
        )
    name = time_zone or load_settings().time_zone
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise click.UsageError(
            f"--time-zone: there is no time zone {name}, as in America/New_York"
        ) from None
    people = {fold_name(theirs): ours for theirs, ours in _pairs(owners, "--owner").items()}
    return Vocabulary(
        stages={theirs: by_label[ours] for theirs, ours in said.items()},
        owners=people,
        time_zone=zone,
    )
