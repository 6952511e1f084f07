"""Commands on deliveries: put one in, list them, look at one, dismiss the failed ones."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from console import bootstrap, errors
from console.errors import Fault
from console.presenters import terminal

if TYPE_CHECKING:
    from workflow.context import House

FORMATS = ("mail", "formstack", "secure-message")
NEW_FILE = click.Path(path_type=Path, dir_okay=False)
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
    Postfix:  argv=/srv/intake/.venv/bin/intake deliver mail - --sender ${sender} --recipient ${recipient}

    Exit code 0: stored for good. 75: not stored, try again; a mail server then keeps the mail and
    does. The same bytes twice are one delivery. Next: `intake deliveries`.
    """
    try:
        with bootstrap.house() as house:
            number = _store(house, kind, file.read(), sender, recipients)
    # any other exit code makes a mail server bounce a customer's mail
    except Exception as error:  # noqa: BLE001
        told = errors.told(error)
        words = told.message if told else f"not stored, an error of ours ({type(error).__name__})"
        raise Fault(words, errors.TRY_AGAIN) from None
    click.echo(number)


def _store(
    house: "House", kind: str, raw: bytes, sender: str | None, recipients: tuple[str, ...]
) -> int:
    from ingest.intake import Arrival, Intake, Transport
    from parsers.item import Format

    envelope: dict[str, object] = {"rcpt_to": list(recipients)} if recipients else {}
    if sender is not None:  # Postfix names the null sender MAILER-DAEMON (pipe(8), null_sender)
        envelope["mail_from"] = "" if sender in {"<>", "MAILER-DAEMON"} else sender
    return Intake(house).accept(
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
@bootstrap.as_json
def deliveries(*, state: str | None, limit: int, json_wanted: bool) -> None:
    r"""List what came in, and what has become of it.

    \b
    Example:  intake deliveries --state failed

    Failed ones never disappear by themselves, nor do those of which rows were rejected: they are
    listed oldest first, with the reason, and from INTAKE_FAILED_ALARM_HOURS on they are an alarm.
    Next: `intake delivery ID` to look at one, `intake replay ID` once the reader or the file is
    mended, or `intake dismiss ID --reason "…"`.
    """
    from console.presenters.deliveries import counted, listed

    with bootstrap.house() as house, house.store.reading() as session:
        found = listed(session, state, limit, house.clock())
        more = counted(session, state) - len(found)
    if json_wanted:
        terminal.json_object(found)
    elif found:
        terminal.deliveries(found)
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
    metavar="FILE",
    type=NEW_FILE,
    help="Write its rejected rows into an Excel file, to mend.",
)
@bootstrap.as_json
@bootstrap.acting
def delivery(
    number: int, *, raw: bool, rejected: Path | None, json_wanted: bool, actor: str
) -> None:
    r"""Show one delivery: how it came, how often, and what has become of each item.

    \b
    Example:  intake delivery 42
              intake delivery 42 --raw > original.eml
              intake delivery 42 --rejected mend.xlsx

    --raw and --rejected open what is stored sealed: it may hold patient data, and the audit trail says who had it. On
    a terminal, control characters are made visible. What was mended in the Excel file is dropped like any other; the
    column with the reasons may stay. Exit code 1 if there is no such delivery, no rejected row, or its bytes are gone.
    """
    from console.presenters.deliveries import one

    with bootstrap.house() as house:
        with house.store.reading() as session:
            found = one(session, number, house.clock())
        if found is None:
            raise Fault(f"there is no delivery {number}: see `intake deliveries`", 1)
        if raw:
            _write(original_bytes(house, number, actor, cause="delivery --raw"))
        elif rejected is not None:
            _write_rejected(house, number, rejected, actor)
        elif json_wanted:
            terminal.json_object(found)
        else:
            terminal.delivery(found)


def original_bytes(house: "House", number: int, actor: str, *, cause: str) -> bytes:
    """The bytes as they came; that they are looked at is on record before they are.

    Raises Fault when there is no such delivery or its bytes cannot be had.
    """
    from ingest.replay.reprocess import UnreadableError, original
    from workflow.audit import record as audit

    try:
        _, raw = original(house, number)
    except LookupError:
        raise Fault(f"there is no delivery {number}: see `intake deliveries`", 1) from None
    except UnreadableError as error:
        raise Fault(f"delivery {number}: {error}", 1) from None
    with house.store.transaction() as session:
        audit.record(
            session, "original read", by=actor, cause=cause, now=house.clock(), delivery=number
        )
    return raw


def _write_rejected(house: "House", number: int, file: Path, actor: str) -> None:
    from ingest.folder.rejected_rows import rejected_rows, workbook
    from ingest.replay.reprocess import UnreadableError
    from workflow.audit import record as audit

    try:
        rows = rejected_rows(house, number)
    except UnreadableError as error:
        raise Fault(f"delivery {number}: {error}", 1) from None
    if not rows:
        raise Fault(f"delivery {number} has no rejected rows", 1)
    with house.store.transaction() as session:
        now, cause = house.clock(), "delivery --rejected"
        audit.record(session, "original read", by=actor, cause=cause, now=now, delivery=number)
    file.write_bytes(workbook(rows))
    click.echo(f"{len(rows)} rejected rows written to {file}")


def _write(raw: bytes) -> None:
    if sys.stdout.isatty():  # what a stranger sent must not drive the terminal
        click.echo(
            terminal.visible(raw.decode("utf-8", "replace").replace("\r\n", "\n").expandtabs())
        )
    else:
        click.echo(raw, nl=False)


@click.command()
@click.argument("numbers", metavar="ID...", type=int, nargs=-1, required=True)
@click.option(
    "--reason", required=True, help="Why nothing is to come of it, for the record; no patient data."
)
@bootstrap.acting
def dismiss(numbers: tuple[int, ...], reason: str, actor: str) -> None:
    r"""Say that nothing is to come of failed deliveries, or of rejected rows.

    They stay stored, and `intake replay` takes it back for whole deliveries.

    \b
    Example:  intake dismiss 42 --reason "an empty export, sent again as 43"
              intake dismiss 42 43 44 --reason "a scanner's test forms"

    Of a delivery of which only some rows were rejected, these are dismissed; what was read stays.
    All deliveries named, or none: if nothing of one failed, nothing is changed.
    """
    from ingest.replay.retry import dismiss as end

    with bootstrap.house() as house:
        rows = end(house, numbers, reason, by=actor)
    for number in numbers:
        click.echo(
            f"{number}: {rows[number]} rejected rows dismissed"
            if rows[number]
            else f"{number}: dismissed"
        )
