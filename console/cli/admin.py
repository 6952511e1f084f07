"""Commands of operations: status, ledger, migrate, process, backup, restore."""

from pathlib import Path

import click

from console import bootstrap
from console.errors import CommandError
from console.presenters import terminal


@click.command()
@click.option(
    "--evidence",
    is_flag=True,
    help="Print the signs of automatic mail instead, and what happens on which of them.",
)
def process(*, evidence: bool) -> None:
    r"""Print the process: stages, mails, deadlines.

    \b
    Example:  intake process > process.md
              intake process --evidence     the signs of automatic mail, and what each decides

    These are the tables the program works by, in Markdown; the README shows the same.
    """
    from parsers.mail.evidence import render_markdown as evidence_tables
    from workflow.process import render_markdown

    click.echo(evidence_tables() if evidence else render_markdown())


@click.command()
def migrate() -> None:
    r"""Bring the database to this program's newest schema.

    \b
    Example:  intake migrate

    Creates the database if there is none yet; does nothing if it is up to date. `intake up` does
    this by itself; on servers run it before the processes of a new version start.
    """
    from workflow.database.engine import migrate as bring
    from workflow.settings.settings import load_settings

    settings = load_settings()
    with bootstrap.hold_lock(settings.home / "migrate.lock"):
        bring(settings.database)
    click.echo(
        "The database is up to date. Next: `intake up`, or the processes of the Procfile.", err=True
    )


@click.command()
@bootstrap.json_option
@click.pass_context
def status(ctx: click.Context, *, as_json: bool) -> None:
    r"""Show channels, processes, backlog and what needs a person.

    \b
    Example:  intake status
              intake status --json || page-somebody

    Exit code 1 if something needs a person; the last lines then say what to do.
    """
    from console.presenters.operations import present_status

    with bootstrap.open_app_context() as context:
        report = present_status(context)
    if as_json:
        terminal.print_json(report)
    else:
        terminal.print_status(report)
    ctx.exit(0 if report["ok"] else 1)


@click.command()
@bootstrap.json_option
@click.pass_context
def ledger(ctx: click.Context, *, as_json: bool) -> None:
    r"""Prove that nothing is lost: compare what was received with the results.

    \b
    Example:  intake ledger

    received = opened + appended + duplicate + ignored + failed + dismissed + pending, for each
    channel. Items are counted: a mail is one, a workbook as many as it has messages (one until it
    has been read).

    For each workbook: rows = items + repeated + rejected + continued + headings + titles + footers
    + blank; `intake delivery ID` lists them by sheet.

    Exit code 1 if it does not add up.
    """
    from workflow.operations.ledger import compute_balance

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        balance = compute_balance(session)
    if as_json:
        terminal.print_json(balance.as_dict())
    else:
        terminal.print_ledger(balance)
    ctx.exit(0 if balance.adds_up else 1)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    r"""Write everything but secrets into one tar FILE.

    \b
    Example:  intake backup /backups/intake-monday.tar

    Works while everything runs. What customers sent is encrypted in it, and the key that opens it
    is NOT in it: keep secret.keys of INTAKE_HOME (or INTAKE_SECRET_KEYS) in another place. Next:
    try `intake restore` on another machine.
    """
    from workflow.operations.backup import NO_SECRETS, BackupError, write_backup
    from workflow.settings.settings import load_settings

    settings = load_settings()
    bootstrap.ensure_migrated(settings)
    try:
        with terminal.show_progress("blobs") as step:
            count = write_backup(settings, file, step)
    except BackupError as error:
        raise CommandError(str(error), 1) from None
    click.echo(f"{file}: the database and {count} blobs. {NO_SECRETS}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--force", is_flag=True, help="Overwrite a database that holds tickets.")
def restore(file: Path, *, force: bool) -> None:
    r"""Restore a backup: database and blobs.

    \b
    Example:  INTAKE_HOME=/srv/intake intake restore /backups/intake-monday.tar

    Refuses to overwrite a database that holds tickets unless --force is given. Stop the processes
    first. Restore the key file too: without it nothing customers sent can be opened.
    """
    from workflow.operations.backup import BackupError, restore_backup
    from workflow.settings.settings import load_settings

    try:
        with terminal.show_progress("blobs") as step:
            messages = restore_backup(load_settings(), file, step, force=force)
    except BackupError as error:
        raise CommandError(str(error), 1) from None
    for line in messages:
        click.echo(line)
    click.echo("Next: `intake status`, then `intake ledger`.")
