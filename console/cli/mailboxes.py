"""`intake imap`: the process that reads mailboxes, or a dry run; `intake import mail`."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click

from console import bootstrap
from console.errors import EXIT_TRY_AGAIN, EXIT_UNUSABLE, CommandError
from console.presenters import terminal

if TYPE_CHECKING:
    from ingest.imap.older_mail import OlderMails
    from workflow.context import AppContext
    from workflow.settings.settings import Mailbox

DATE_FORMATS = ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]
SINCE_FORMS = "now, all or a date as in 2026-01-31"


@click.command()
@click.option("--dry-run", is_flag=True, help="Say how many mails would come, and end.")
@click.option(
    "--since",
    metavar="SINCE",
    default="",
    help=f"With --dry-run: {SINCE_FORMS}. Default: INTAKE_IMAP_SINCE.",
)
@bootstrap.json_option
def imap(*, dry_run: bool, since: str, as_json: bool) -> None:
    r"""Read IMAP mailboxes.

    Those of INTAKE_IMAP_URLS, or of [[mailbox]] in intake.toml.

    \b
    Example:  intake imap
              intake imap --dry-run                      before the first start
              intake imap --dry-run --since 2026-01-01   with another INTAKE_IMAP_SINCE

    The first look into a mailbox takes what comes from then on, with the unread mails of the last
    hour (INTAKE_IMAP_SINCE=now). Older mail stays there; `intake import mail` imports it. A dry run
    reads no mail, stores nothing and marks nothing.

    A mail is marked or moved once it is stored durably. Without a mailbox it exits with 78. SIGTERM
    or Ctrl-C ends it: work in hand is finished first. `intake up` runs all processes.
    """
    if dry_run:
        _preview_first_looks(since, as_json=as_json)
    elif since or as_json:
        raise click.UsageError("--since and --json go with --dry-run")
    else:
        from console.cli.processes import run_process

        run_process("imap")


@click.command("mail")
@click.option(
    "--mailbox",
    "name",
    metavar="NAME",
    default="",
    help="This mailbox only, as `intake status` names it. Default: all.",
)
@click.option(
    "--since",
    type=click.DateTime(DATE_FORMATS),
    help="Mails that arrived from this time on, in INTAKE_TIME_ZONE. Default: all.",
)
@click.option("--apply", "apply", is_flag=True, help="Do it. Without this it is a dry run.")
@bootstrap.json_option
def import_mail(*, name: str, since: datetime | None, apply: bool, as_json: bool) -> None:
    r"""Import the older mails that the first look left in a mailbox.

    \b
    Example:  intake import mail                               how many would come
              intake import mail --since 2026-01-01 --apply    and now those of this year

    Each becomes a completed ticket with its own date, or a message on the ticket that it belongs
    to. Nobody is mailed, no deadline counts and nothing is reopened. The mailbox itself stays as it
    is: nothing is marked or moved.

    A mail that is stored already is not imported again. If it was interrupted, the same command
    goes on where it stopped. Exit code 75: a mailbox does not answer, try again.
    Next: `intake tickets --view completed`.
    """
    from zoneinfo import ZoneInfo

    from ingest.imap.older_mail import preview_import, run_import
    from ingest.intake import Intake

    with bootstrap.open_app_context() as context:
        begin = since and since.replace(tzinfo=ZoneInfo(context.settings.time_zone))
        accept, results = Intake(context).accept, []
        for box in _list_boxes(context, name):
            with _translate_errors(box), terminal.show_progress(box.key) as step:
                if apply:
                    results.append(run_import(context, box, accept, begin, step))
                else:
                    results.append(preview_import(context, box, begin))
    if as_json:
        terminal.print_json([_present_older(one) for one in results])
        return
    for one in results:
        click.echo(_describe_older(one, applied=apply))
    if not apply and any(one.coming for one in results):
        click.echo("That was a dry run. To import them: the same with --apply")


def _preview_first_looks(since: str, *, as_json: bool) -> None:
    from pydantic import TypeAdapter, ValidationError

    from ingest.imap.older_mail import preview_first_look
    from workflow.settings.settings import MailSince

    try:
        TypeAdapter(MailSince).validate_python(since)
    except ValidationError:
        raise click.UsageError(f"--since {since}: expected {SINCE_FORMS}") from None
    with bootstrap.open_app_context() as context:
        looks = []
        for box in _list_boxes(context, ""):
            with _translate_errors(box):
                looks.append(preview_first_look(context, box, since))
    if as_json:
        rows = [
            {"mailbox": one.mailbox, "taken": one.taken, "left": one.left, "known": one.is_known}
            for one in looks
        ]
        terminal.print_json(rows)
        return
    for one in looks:
        known = " (looked into before: the setting does not count any more)" if one.is_known else ""
        click.echo(
            f"{one.mailbox}: {count_mails(one.taken)} would come now, {one.left:,} would stay in"
            f" the mailbox{known}"
        )


def _list_boxes(context: "AppContext", name: str) -> "list[Mailbox]":
    """Return the mailboxes of the settings, or the one with this name. Raises CommandError."""
    from console.runtime.processes import NO_MAILBOX
    from ingest.imap.mailboxes import list_mailboxes

    boxes = list_mailboxes(context.settings)
    if not boxes:
        raise CommandError(NO_MAILBOX, EXIT_UNUSABLE)
    chosen = [box for box in boxes if name in {"", box.key}]
    if not chosen:
        names = ", ".join(box.key for box in boxes)
        raise click.UsageError(f"--mailbox {name}: there is no such mailbox; there are {names}")
    return chosen


@contextmanager
def _translate_errors(box: "Mailbox") -> Iterator[None]:
    """Raise CommandError where a mailbox does not answer, or what it has cannot be stored."""
    from ingest.imap.older_mail import MailboxError
    from ingest.imap.reader import NotStoredError

    try:
        yield
    except MailboxError as error:
        code = EXIT_UNUSABLE if error.is_permanent else EXIT_TRY_AGAIN
        raise CommandError(f"{box.key}: {error}", code) from None
    except NotStoredError:
        words = "the database could not store a mail: run it again, it goes on where it stopped"
        raise CommandError(words, EXIT_TRY_AGAIN) from None


def _present_older(one: "OlderMails") -> dict[str, object]:
    from console.presenters.times import format_iso

    return {
        "mailbox": one.mailbox,
        "mails": one.coming,
        "known": one.known,
        "failed": one.failed,
        "oldest": format_iso(one.oldest) if one.oldest else None,
        "newest": format_iso(one.newest) if one.newest else None,
    }


def _describe_older(one: "OlderMails", *, applied: bool) -> str:
    words = "imported" if applied else "would be imported"
    text = f"{one.mailbox}: {count_mails(one.coming - one.failed)} {words}"
    if one.oldest and one.newest:
        text += f", arrived from {one.oldest:%Y-%m-%d} to {one.newest:%Y-%m-%d}"
    if one.known:
        text += f"; {one.known:,} imported before"
    if one.failed:
        text += f"; {one.failed:,} could not be fetched: run it again later"
    return text


def count_mails(count: int) -> str:
    """Return a number of mails in words."""
    return "1 mail" if count == 1 else f"{count:,} mails"
