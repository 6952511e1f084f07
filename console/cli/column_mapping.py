"""`intake map` and `intake profiles`: save what the columns of a workbook mean, and undo it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console import bootstrap, errors
from console.errors import CommandError
from console.presenters import terminal

if TYPE_CHECKING:
    from ingest.column_mapping.propose import MappingChoices, SheetProposal
    from workflow.context import AppContext

Data = dict[str, Any]
DATE_ORDERS = ("mdy", "dmy", "ymd")


HELP = """Show what the columns of a workbook are taken for, say what they are, and save it.

A file whose headings are not known fails with "mapping needed": nothing is ever guessed into a ticket.

\b
Example:  intake map export.xlsx
          intake map --delivery 42
          intake map --delivery 42 --column "Anliegen=body" --column "Klinik=company" --date-order dmy --save north
          intake map export.xlsx --column "Memo=message text" --default "company=North Clinic" --save north

\b
FIELD is one of these, a heading that is known, or "ignore":
  body (the message text); company, company_number, sender, email: the text and one of the others have to be there
  external_id, thread_id, sent_at, clock (the time apart), to, subject, phone, category, link, attachments
  provider, status, flagged, patient, patient_id, birth_date, patient_data: shown among the ticket's details

What is saved holds for files with exactly these headings, on every host, at once; failed deliveries with them are
read now. What is shown may hold patient data; --json leaves the rows out. Undo: `intake profiles forget NAME`.
"""


@click.command("map", help=HELP)
@click.argument(
    "file", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True)
)
@click.option(
    "--delivery", "number", type=int, metavar="ID", help="Instead of FILE: what a delivery brought."
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar='"HEADING=FIELD"',
    help="What a column is; repeat.",
)
@click.option(
    "--default",
    "defaults",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Used where a row says none; repeat.",
)
@click.option(
    "--date-order",
    type=click.Choice(DATE_ORDERS),
    help="How dates in text are meant.  [default: mdy]",
)
@click.option(
    "--time-zone", help="Where a time names none, as America/Chicago.  [default: the house's]"
)
@click.option(
    "--sheet",
    "wanted",
    default="",
    help="The sheet by its name; else the first that cannot be read.",
)
@click.option(
    "--heading-row", type=int, default=0, help="The row of the headings; else it is looked for."
)
@click.option(
    "--save",
    "name",
    default="",
    metavar="NAME",
    help="Keep what is shown, and read the files that wait.",
)
@bootstrap.json_option
@bootstrap.actor_option
def map_(  # noqa: PLR0913  # a command has the options it has
    file: Path | None,
    number: int | None,
    *,
    columns: tuple[str, ...],
    defaults: tuple[str, ...],
    wanted: str,
    heading_row: int,
    name: str,
    date_order: str | None,
    time_zone: str | None,
    json_wanted: bool,
    actor: str,
) -> None:
    """Show how a sheet would be read with the given mapping.

    With a name, save it and read the deliveries that waited for it.
    """
    from console.presenters import column_mapping
    from ingest.column_mapping.propose import MappingChoices
    from ingest.processing.parser_pool import use_parser_pool

    if (file is None) == (number is None):
        raise click.UsageError(
            "which file? For example: intake map export.xlsx, or intake map --delivery 42"
        )
    said = MappingChoices(
        _pairs(columns), heading_row, _defaults(defaults), date_order, _zone(time_zone)
    )
    with bootstrap.open_app_context() as context, use_parser_pool(context.settings):
        found = _sheets(context, _raw(context, file, number, actor), said)
        chosen = _chosen(found, wanted)
        done = _save(context, chosen, name, actor) if name else []
    others = [sheet.name for sheet in found if sheet is not chosen]
    if json_wanted:
        terminal.print_json(
            {
                **column_mapping.present_sheet(chosen),
                "other_sheets": others,
                "saved": name or None,
                "replayed": done,
            }
        )
        return
    column_mapping.print_sheet(chosen, others)
    if name:
        column_mapping.print_saved(name, done)
    else:
        column_mapping.print_next_step(chosen, f'"{file}"' if file else f"--delivery {number}")


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    """Split each `HEADING=FIELD` at its last equals sign: a heading may contain one."""
    apart = [one.rpartition("=") for one in given]
    for one, (left, equals, _) in zip(given, apart, strict=True):
        if not (equals and left.strip()):
            raise click.UsageError(
                f'--column "{one}": expected "HEADING=FIELD", as "Anliegen=body"'
            )
    return {left.strip(): right.strip() for left, _, right in apart}


def _defaults(given: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    from typing import get_args

    from ingest.column_mapping.propose import get_field_name
    from workflow.settings.settings import DefaultField

    found = []
    for one in given:
        word, _, value = one.partition("=")
        try:
            name = get_field_name(word)
        except LookupError:
            name = ""
        if name not in get_args(DefaultField) or not value.strip():
            may = ", ".join(get_args(DefaultField))
            raise click.UsageError(
                f'--default "{one}": expected FIELD=VALUE, where FIELD is one of {may}'
            )
        found.append((name, value.strip()))
    return tuple(found)


def _zone(name: str | None) -> str | None:
    from workflow.settings.settings import validate_time_zone

    try:
        return validate_time_zone(name) if name is not None else None
    except ValueError as error:
        raise click.UsageError(f"--time-zone: {error}") from None


def _raw(context: "AppContext", file: Path | None, number: int | None, actor: str) -> bytes:
    from console.cli.deliveries import read_original

    if file is not None:
        return file.read_bytes()
    assert number is not None
    return read_original(context, number, actor, cause="map --delivery")


def _sheets(context: "AppContext", raw: bytes, how: "MappingChoices") -> "list[SheetProposal]":
    from ingest.column_mapping.apply import read_preview
    from ingest.column_mapping.propose import propose_sheets
    from ingest.parser_options import load_parser_options
    from ingest.replay.reprocess import UnreadableError
    from parsers.item import Format

    try:
        found = propose_sheets(
            read_preview(context, raw), load_parser_options(context, Format.SECURE_MESSAGE), how
        )
    except UnreadableError as error:
        raise CommandError(str(error), errors.EXIT_UNREADABLE) from None
    except LookupError as error:
        said = (
            f"{error.args[0]!r}: no such heading or row among the first of the file, or no such"
            " field"
        )
        raise click.UsageError(f"{said}; see `intake map --help`") from None
    if not found:
        raise CommandError(
            "no visible sheet of the file has anything in it", errors.EXIT_UNREADABLE
        )
    return found


def _chosen(found: "list[SheetProposal]", wanted: str) -> "SheetProposal":
    """The sheet that is meant: by its name, else the first that cannot be read, else the first."""
    if not wanted:
        return next((sheet for sheet in found if sheet.missing), found[0])
    chosen = next((sheet for sheet in found if sheet.name.casefold() == wanted.casefold()), None)
    if chosen is None:
        raise click.UsageError(
            f"no sheet {wanted!r}: there are {', '.join(repr(sheet.name) for sheet in found)}"
        )
    return chosen


def _save(context: "AppContext", sheet: "SheetProposal", name: str, actor: str) -> list[Data]:
    """Save the profile, and read the deliveries that waited for it; return those as plain data."""
    from console.presenters import column_mapping, replay
    from console.presenters.deliveries import list_ticket_ids
    from ingest.column_mapping.apply import replay_waiting, save_mapping
    from workflow.filing.column_profiles import ProfileConflictError

    if sheet.missing:
        column_mapping.print_sheet(sheet, [])
        raise CommandError(
            f"not saved: no column is {' and none '.join(sheet.missing)}; say so with --column", 1
        )
    try:
        save_mapping(context, sheet, name, by=actor)
    except ProfileConflictError as error:
        raise CommandError(f"not saved: {error}", 1) from None
    read = replay_waiting(context, sheet.fingerprint, by=actor)
    with context.store.read_only() as session:
        return [replay.present_replayed(one, list_ticket_ids(session, one.id)) for one in read]


@click.group(invoke_without_command=True)
@bootstrap.json_option
@click.pass_context
def profiles(ctx: click.Context, *, json_wanted: bool) -> None:
    r"""List the profiles by which workbooks are read.

    Those saved with `intake map`, and those of intake.toml.

    \b
    Example:  intake profiles
              intake profiles forget north
    """
    if ctx.invoked_subcommand:
        return
    from console.presenters import column_mapping
    from ingest.parser_options import list_configured_profiles
    from workflow.filing.column_profiles import list_profiles

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        found = column_mapping.present_profiles(
            list_profiles(session), list_configured_profiles(context.settings)
        )
    if json_wanted:
        terminal.print_json(found)
    elif found:
        column_mapping.print_profiles(found)
    else:
        click.echo(
            "No profile yet: files are read by the headings we know. To make one: intake map FILE"
        )


@profiles.command()
@click.argument("name")
@bootstrap.actor_option
def forget(name: str, actor: str) -> None:
    r"""Delete the saved profile NAME.

    \b
    Example:  intake profiles forget north

    Deliveries read with it stay as they are; the next file with its headings asks for a mapping
    again, or is read by the headings that are known. To change one instead: `intake map FILE …
    --save NAME` replaces it.
    """
    from workflow.filing.column_profiles import delete_profile as take_away

    with bootstrap.open_app_context() as context:
        with context.store.transaction() as session:
            found = take_away(session, name, by=actor, now=context.clock())
        if not found:
            where = (
                " It stands in intake.toml: take it out there."
                if name in context.settings.profile
                else ""
            )
            raise CommandError(f"no profile {name!r} was saved: see `intake profiles`.{where}", 1)
    click.echo(f"{name}: forgotten")
