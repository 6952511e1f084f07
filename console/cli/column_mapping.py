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


HELP = """Show how the columns of a workbook are read, map them to fields, and save it.

A file with unknown headings fails with "mapping needed": a ticket never holds a guess.

\b
Example:  intake map export.xlsx
          intake map --delivery 42
          intake map --delivery 42 --column "Anliegen=body" --column "Klinik=company" \\
              --date-order dmy --save north
          intake map export.xlsx --column "Memo=message text" \\
              --default "company=North Clinic" --save north

\b
FIELD is one of these, a heading that is known, or "ignore":
  body (the message text); company, company_number, sender, email:
      the text and one of the others are required
  external_id, thread_id, sent_at, clock (the time in a column of its own), to, subject,
      phone, category, link, attachments
  provider, status, flagged, patient, patient_id, birth_date, patient_data:
      shown among the ticket's details

The saved profile reads files with exactly these headings, on every host, at once; failed
deliveries with these headings are read now. The output may hold patient data; --json leaves the
rows out. Undo: `intake profiles forget NAME`.
"""


@click.command("map", help=HELP)
@click.argument(
    "file", required=False, type=click.Path(path_type=Path, dir_okay=False, exists=True)
)
@click.option(
    "--delivery",
    "number",
    type=int,
    metavar="ID",
    help="Instead of FILE: the workbook of a delivery.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar='"HEADING=FIELD"',
    help="The field of a column; repeat.",
)
@click.option(
    "--default",
    "defaults",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Used where a row has no value; repeat.",
)
@click.option(
    "--date-order",
    type=click.Choice(DATE_ORDERS),
    help="Order of day, month and year in text.  [default: mdy]",
)
@click.option(
    "--time-zone", help="For times without a zone, as America/Chicago.  [default: INTAKE_TIME_ZONE]"
)
@click.option(
    "--sheet",
    "sheet_name",
    default="",
    help="The sheet by name; else the first that cannot be read.",
)
@click.option(
    "--heading-row", type=int, default=0, help="The row of the headings; else it is searched for."
)
@click.option(
    "--save",
    "name",
    default="",
    metavar="NAME",
    help="Save what is shown, and read the files that wait.",
)
@bootstrap.json_option
@bootstrap.actor_option
def map_(  # noqa: PLR0913  # a command has the options it has
    file: Path | None,
    number: int | None,
    *,
    columns: tuple[str, ...],
    defaults: tuple[str, ...],
    sheet_name: str,
    heading_row: int,
    name: str,
    date_order: str | None,
    time_zone: str | None,
    as_json: bool,
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
    choices = MappingChoices(
        _parse_pairs(columns),
        heading_row,
        _parse_defaults(defaults),
        date_order,
        _parse_zone(time_zone),
    )
    with bootstrap.open_app_context() as context, use_parser_pool(context.settings):
        sheets = _propose_sheets(context, _read_workbook(context, file, number, actor), choices)
        sheet = _choose_sheet(sheets, sheet_name)
        replayed_deliveries = _save_profile(context, sheet, name, actor) if name else []
    others = [other.name for other in sheets if other is not sheet]
    if as_json:
        terminal.print_json(
            {
                **column_mapping.present_sheet(sheet),
                "other_sheets": others,
                "saved": name or None,
                "replayed": replayed_deliveries,
            }
        )
        return
    column_mapping.print_sheet(sheet, others)
    if name:
        column_mapping.print_saved_profile(name, replayed_deliveries)
    else:
        column_mapping.print_next_step(sheet, f'"{file}"' if file else f"--delivery {number}")


def _parse_pairs(options: tuple[str, ...]) -> dict[str, str]:
    """Split each `HEADING=FIELD` at its last equals sign: a heading may contain one."""
    pairs = [one.rpartition("=") for one in options]
    for one, (left, equals, _) in zip(options, pairs, strict=True):
        if not (equals and left.strip()):
            raise click.UsageError(
                f'--column "{one}": expected "HEADING=FIELD", as "Anliegen=body"'
            )
    return {left.strip(): right.strip() for left, _, right in pairs}


def _parse_defaults(options: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    from typing import get_args

    from ingest.column_mapping.propose import get_field_name
    from workflow.settings.settings import DefaultField

    fields = get_args(DefaultField)
    defaults = []
    for option in options:
        word, _, value = option.partition("=")
        try:
            name = get_field_name(word)
        except LookupError:
            name = ""
        if name not in fields or not value.strip():
            raise click.UsageError(
                f'--default "{option}": expected FIELD=VALUE, where FIELD is one of'
                f" {', '.join(fields)}"
            )
        defaults.append((name, value.strip()))
    return tuple(defaults)


def _parse_zone(name: str | None) -> str | None:
    from workflow.settings.settings import validate_time_zone

    try:
        return validate_time_zone(name) if name is not None else None
    except ValueError as error:
        raise click.UsageError(f"--time-zone: {error}") from None


def _read_workbook(
    context: "AppContext", file: Path | None, number: int | None, actor: str
) -> bytes:
    from console.cli.deliveries import read_original

    if file is not None:
        return file.read_bytes()
    assert number is not None
    return read_original(context, number, actor, cause="map --delivery")


def _propose_sheets(
    context: "AppContext", raw: bytes, choices: "MappingChoices"
) -> "list[SheetProposal]":
    from ingest.column_mapping.apply import read_preview
    from ingest.column_mapping.propose import propose_sheets
    from ingest.parser_options import load_parser_options
    from ingest.replay.reprocess import UnreadableError
    from parsers.item import Format

    try:
        options = load_parser_options(context, Format.SECURE_MESSAGE)
        sheets = propose_sheets(read_preview(context, raw), options, choices)
    except UnreadableError as error:
        raise CommandError(str(error), errors.EXIT_UNREADABLE) from None
    except LookupError as error:
        raise click.UsageError(
            f"{error.args[0]!r}: no such heading or row at the beginning of the file, or no such"
            " field; see `intake map --help`"
        ) from None
    if not sheets:
        raise CommandError("every visible sheet of the file is empty", errors.EXIT_UNREADABLE)
    return sheets


def _choose_sheet(sheets: "list[SheetProposal]", name: str) -> "SheetProposal":
    """Return the named sheet, else the first that cannot be read, else the first."""
    if not name:
        return next((sheet for sheet in sheets if sheet.missing), sheets[0])
    for sheet in sheets:
        if sheet.name.casefold() == name.casefold():
            return sheet
    names = ", ".join(repr(sheet.name) for sheet in sheets)
    raise click.UsageError(f"no sheet {name!r}: there are {names}")


def _save_profile(
    context: "AppContext", sheet: "SheetProposal", name: str, actor: str
) -> list[Data]:
    """Save the profile, and read the deliveries that waited for it; return those as plain data."""
    from console.presenters import column_mapping, replay
    from console.presenters.deliveries import list_ticket_ids
    from ingest.column_mapping.apply import replay_waiting, save_mapping
    from workflow.filing.column_profiles import ProfileConflictError

    if sheet.missing:
        column_mapping.print_sheet(sheet, [])
        raise CommandError(
            f"not saved: no column is {' and none '.join(sheet.missing)}; name it with --column", 1
        )
    try:
        save_mapping(context, sheet, name, by=actor)
    except ProfileConflictError as error:
        raise CommandError(f"not saved: {error}", 1) from None
    deliveries = replay_waiting(context, sheet.fingerprint, by=actor)
    with context.store.read_only() as session:
        return [replay.present_result(d, list_ticket_ids(session, d.id)) for d in deliveries]


@click.group(invoke_without_command=True)
@bootstrap.json_option
@click.pass_context
def profiles(ctx: click.Context, *, as_json: bool) -> None:
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
        rows = column_mapping.present_profiles(
            list_profiles(session), list_configured_profiles(context.settings)
        )
    if as_json:
        terminal.print_json(rows)
    elif rows:
        column_mapping.print_profiles(rows)
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
            is_deleted = take_away(session, name, by=actor, now=context.clock())
        if not is_deleted:
            where = (
                " It stands in intake.toml: take it out there."
                if name in context.settings.profile
                else ""
            )
            raise CommandError(f"no profile {name!r} was saved: see `intake profiles`.{where}", 1)
    click.echo(f"{name}: forgotten")
