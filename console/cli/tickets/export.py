"""`intake export`: write a view of the desk as CSV or Excel."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from console import bootstrap
from console.cli.tickets.tickets import VIEWS
from console.errors import CommandError
from console.presenters import terminal


@click.command()
@click.argument("view", type=click.Choice(VIEWS))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--columns",
    metavar="NAME,…",
    default="",
    help='Only these, in this order, as in "Record ID,Ticket status".',
)
@click.option(
    "--with-text", is_flag=True, help="With subject and text: they may hold patient data."
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@bootstrap.actor_option
def export(
    *, view: str, file: Path, columns: str, with_text: bool, force: bool, actor: str
) -> None:
    r"""Write the tickets of VIEW to FILE, .csv or .xlsx.

    \b
    Example:  intake export open open.xlsx
              intake export completed done.csv --columns "Ticket number,Close date"

    Times are ISO 8601 in UTC. No cell is computed as a formula: in CSV an apostrophe stands before
    = + - @. Subject and text are left out unless asked for. The audit log records every export.
    `intake import tickets FILE` imports such a file again.
    """
    from console import exports

    if file.suffix.casefold() not in exports.WRITERS:
        raise click.UsageError(f"{file}: give it the ending .csv or .xlsx")
    if file.exists() and not force:
        raise CommandError(f"{file} exists: --force overwrites it", 1)
    names = exports.select_columns(
        [n.strip() for n in columns.split(",") if n.strip()], with_text=with_text
    )
    count = _export_view(view, file, names, actor)
    click.echo(f"{file}: {count} tickets.")


def _export_view(view: str, file: Path, names: list[str], actor: str) -> int:
    """Write beside FILE, record the export, then move it into place.

    In this order no file exists that the audit log does not name. Returns the number of tickets.
    """
    from console import exports

    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    counter = _RowCounter()
    try:
        part.touch(mode=0o600)
        with bootstrap.open_app_context() as context:
            with context.store.read_only() as session, terminal.show_progress("exporting") as step:
                lines = exports.iterate_rows(context, session, view, names, actor=actor)
                exports.WRITERS[file.suffix.casefold()](part, counter.count_rows(lines, step))
            with context.store.transaction() as session:
                exports.record_export(
                    session,
                    view,
                    counter.tickets,
                    by=actor,
                    cause="intake export",
                    now=context.clock(),
                    columns=names,
                )
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return counter.tickets


class _RowCounter:
    """Counts the tickets that pass: all rows but the heading."""

    def __init__(self) -> None:
        self.tickets = -1

    def count_rows(
        self, lines: Iterator[list[str]], step: Callable[[int, int], None]
    ) -> Iterator[Sequence[str]]:
        """Yield every row unchanged."""
        for line in lines:
            self.tickets += 1
            if self.tickets % 500 == 0:
                step(self.tickets, 0)
            yield line
