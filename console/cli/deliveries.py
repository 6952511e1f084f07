"""Commands on deliveries: store one, list them, show one, dismiss the failed ones."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from console import bootstrap, errors
from console.errors import CommandError
from console.presenters import terminal

if TYPE_CHECKING:
    from workflow.context import AppContext

FORMATS = ("mail", "formstack", "secure-message")
OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)
STATES = ("pending", "processed", "failed", "dismissed")


@click.command()
@click.argument("kind", type=click.Choice(FORMATS))
@click.argument("file", type=click.File("rb"))
@click.option(
    "--sender",
    default=None,
    help=(
        "Envelope sender of a mail, as the mail server knows it; empty or MAILER-DAEMON where it"
        " has none."
    ),
)
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    help="Envelope recipient of a mail; repeat for more.",
)
def deliver(kind: str, file: BinaryIO, sender: str | None, recipients: tuple[str, ...]) -> None:
    r"""Store a file as the listeners do (for MTA pipes, backfill).

    Prints the delivery's number; FILE may be - for standard input.

    \b
    Example:  intake deliver mail message.eml
              intake deliver secure-message "Kareo export.xlsx"
    Postfix:  argv=/srv/intake/.venv/bin/intake deliver mail -
                  --sender ${sender} --recipient ${recipient}

    Exit code 0: stored durably. 75: not stored, try again; a mail server then keeps the mail and
    does. The same bytes twice are one delivery. Next: `intake deliveries`.
    """
    try:
        with bootstrap.open_app_context() as context:
            number = _accept(context, kind, file.read(), sender, recipients)
    # any other exit code makes a mail server bounce a customer's mail
    except Exception as error:  # noqa: BLE001
        known_error = errors.to_command_error(error)
        words = (
            known_error.message
            if known_error
            else f"not stored, an internal error ({type(error).__name__})"
        )
        raise CommandError(words, errors.EXIT_TRY_AGAIN) from None
    click.echo(number)


def _accept(
    context: "AppContext", kind: str, raw: bytes, sender: str | None, recipients: tuple[str, ...]
) -> int:
    from ingest.intake import Arrival, Intake, Transport
    from parsers.item import Format

    envelope: dict[str, object] = {"rcpt_to": list(recipients)} if recipients else {}
    if sender is not None:  # Postfix names the null sender MAILER-DAEMON (pipe(8), null_sender)
        envelope["mail_from"] = "" if sender in {"<>", "MAILER-DAEMON"} else sender
    return Intake(context).accept(
        Arrival(transport=Transport.PIPE, format=Format(kind), raw=raw, envelope=envelope)
    )


@click.command()
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option(
    "--limit",
    default=100,
    show_default=True,
    help="At most so many, the newest (failed: oldest); 0 for all.",
)
@bootstrap.json_option
def deliveries(*, state: str | None, limit: int, as_json: bool) -> None:
    r"""List what came in, and its results.

    \b
    Example:  intake deliveries --state failed

    Failed ones never disappear by themselves, nor do those of which rows were rejected: they are
    listed oldest first, with the reason, and from INTAKE_FAILED_ALARM_HOURS on they are an alarm.
    Next: `intake delivery ID` to look at one, `intake replay ID` once the parser or the file is
    repaired, or `intake dismiss ID --reason "…"`.
    """
    from console.presenters.deliveries import count_deliveries, list_deliveries

    with bootstrap.open_app_context() as context, context.store.read_only() as session:
        rows = list_deliveries(session, state, limit, context.clock())
        more = count_deliveries(session, state) - len(rows)
    if as_json:
        terminal.print_json(rows)
    elif rows:
        terminal.print_deliveries(rows)
        if more:
            click.echo(
                f"… and {more} more, {'newer' if state == 'failed' else 'older'}: --limit 0"
                " shows all"
            )
    else:
        click.echo(
            f"No delivery is {state}."
            if state
            else "Nothing has come in yet. Send one of each: intake demo"
        )


@click.command()
@click.argument("number", metavar="ID", type=int)
@click.option(
    "--raw", is_flag=True, help="Write the original bytes, as they came, and nothing else."
)
@click.option(
    "--rejected",
    "rejected_file",
    metavar="FILE",
    type=OUTPUT_FILE,
    help="Write its rejected rows into an Excel file, to correct them.",
)
@bootstrap.json_option
@bootstrap.actor_option
def delivery(
    number: int, *, raw: bool, rejected_file: Path | None, as_json: bool, actor: str
) -> None:
    r"""Show one delivery: how it came, how often, and the result of each item.

    \b
    Example:  intake delivery 42
              intake delivery 42 --raw > original.eml
              intake delivery 42 --rejected corrected.xlsx

    --raw and --rejected open what is stored encrypted: it may hold patient data, and the audit log
    records who opened it. On a terminal, control characters are made visible. Drop the corrected
    Excel file into the folder like any other; the column with the reasons may stay. Exit code 1 if
    there is no such delivery, no rejected row, or its bytes are gone.
    """
    from console.presenters.deliveries import find_delivery

    with bootstrap.open_app_context() as context:
        with context.store.read_only() as session:
            data = find_delivery(session, number, context.clock())
        if data is None:
            raise CommandError(f"there is no delivery {number}: see `intake deliveries`", 1)
        if raw:
            _write_raw(read_original(context, number, actor, cause="delivery --raw"))
        elif rejected_file is not None:
            _write_rejected_rows(context, number, rejected_file, actor)
        elif as_json:
            terminal.print_json(data)
        else:
            terminal.print_delivery(data)


def read_original(context: "AppContext", number: int, actor: str, *, cause: str) -> bytes:
    """Return the bytes as they came, and record the access in the audit log before.

    Raises CommandError when there is no such delivery or its bytes cannot be read.
    """
    from ingest.replay.reprocess import UnreadableError, read_original
    from workflow.audit import record as audit

    try:
        _, raw = read_original(context, number)
    except LookupError:
        raise CommandError(f"there is no delivery {number}: see `intake deliveries`", 1) from None
    except UnreadableError as error:
        raise CommandError(f"delivery {number}: {error}", 1) from None
    with context.store.transaction() as session:
        audit.record(
            session, "original read", by=actor, cause=cause, now=context.clock(), delivery=number
        )
    return raw


def _write_rejected_rows(context: "AppContext", number: int, file: Path, actor: str) -> None:
    from ingest.folder.rejected_rows import list_rejected_rows, render_workbook
    from ingest.replay.reprocess import UnreadableError
    from workflow.audit import record as audit

    try:
        rows = list_rejected_rows(context, number)
    except UnreadableError as error:
        raise CommandError(f"delivery {number}: {error}", 1) from None
    if not rows:
        raise CommandError(f"delivery {number} has no rejected rows", 1)
    with context.store.transaction() as session:
        # Recorded before the file is written: nobody gets the rows without a trace.
        now, cause = context.clock(), "delivery --rejected"
        audit.record(session, "original read", by=actor, cause=cause, now=now, delivery=number)
    file.write_bytes(render_workbook(rows))
    click.echo(f"{len(rows)} rejected rows written to {file}")


def _write_raw(raw: bytes) -> None:
    if sys.stdout.isatty():  # control characters of a stranger must not drive the terminal
        click.echo(
            terminal.show_control_characters(
                raw.decode("utf-8", "replace").replace("\r\n", "\n").expandtabs()
            )
        )
    else:
        click.echo(raw, nl=False)


@click.command()
@click.argument("numbers", metavar="ID...", type=int, nargs=-1, required=True)
@click.option(
    "--reason", required=True, help="Why it becomes no ticket, for the audit log; no patient data."
)
@bootstrap.actor_option
def dismiss(numbers: tuple[int, ...], reason: str, actor: str) -> None:
    r"""Close failed deliveries, or rejected rows, without a ticket.

    They stay stored, and `intake replay` reopens whole deliveries.

    \b
    Example:  intake dismiss 42 --reason "an empty export, sent again as 43"
              intake dismiss 42 43 44 --reason "a scanner's test forms"

    Where only some rows of a delivery were rejected, these are dismissed; the items that were read
    stay. All deliveries named, or none: if one of them has no failure, nothing is changed.
    """
    from ingest.replay.retry import dismiss as end

    with bootstrap.open_app_context() as context:
        rows = end(context, numbers, reason, by=actor)
    for number in numbers:
        click.echo(
            f"{number}: {rows[number]} rejected rows dismissed"
            if rows[number]
            else f"{number}: dismissed"
        )
