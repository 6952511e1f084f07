"""`intake backfill`: the process that pulls form submissions, or one pull now."""

from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from console import bootstrap
from console.errors import EXIT_TRY_AGAIN, EXIT_UNUSABLE, CommandError
from console.presenters import terminal

if TYPE_CHECKING:
    from ingest.formstack.backfill import Backfill

NO_CREDENTIALS = (
    "no Formstack token is set: create an API token at Formstack for a person who may read the"
    " forms, and set INTAKE_FORMSTACK_TOKEN"
)
DATE_FORMATS = ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]


@click.command()
@click.option("--once", is_flag=True, help="Pull now, print the result, and end.")
@click.option(
    "--since",
    type=click.DateTime(DATE_FORMATS),
    help="With --once: submissions from this time on, in INTAKE_TIME_ZONE.",
)
@click.option(
    "--form",
    "forms",
    multiple=True,
    metavar="ID",
    help="With --once: this form only; repeat for more.",
)
@click.option(
    "--forms",
    "listing",
    is_flag=True,
    help="List the account's forms, and which of them are pulled.",
)
def backfill(*, once: bool, since: datetime | None, forms: tuple[str, ...], listing: bool) -> None:
    r"""Pull form submissions that no webhook brought.

    From Formstack's API, with INTAKE_FORMSTACK_TOKEN; every INTAKE_BACKFILL_SECONDS until SIGTERM
    or Ctrl-C.

    \b
    Example:  intake backfill
              intake backfill --once --since 2026-03-01
              intake backfill --forms

    It pulls the forms of intake.toml ([form.ID]) and those the webhook has received something from.
    Submissions that are stored already are skipped; a new one becomes a ticket like any other, with
    its notice.

    Without a token the process waits; --once then exits with 78. Exit code 75: not everything could
    be pulled, try again. Next: `intake tickets`.
    """
    if not once and (since or forms):
        raise click.UsageError("--since and --form go with --once")
    if listing:
        _list_forms()
    elif once:
        _pull_once(since, forms)
    else:
        from console.cli.processes import run_process

        run_process("backfill")


def _pull_once(since: datetime | None, forms: tuple[str, ...]) -> None:
    from ingest.formstack.api import FormstackApi
    from ingest.formstack.backfill import NO_FORM, Backfill
    from ingest.intake import Intake

    with bootstrap.open_app_context() as context:
        _require_token(context.settings.formstack_token.get_secret_value())
        begin = since and since.replace(tzinfo=ZoneInfo(context.settings.time_zone))
        with FormstackApi(context.settings, context.clock, _wait) as api:
            pulling = Backfill(context, Intake(context).accept, api)
            form_ids = list(forms) or pulling.list_forms()
            if not form_ids:
                raise CommandError(NO_FORM, EXIT_UNUSABLE)
            faults = [fault for form in form_ids if (fault := _pull(pulling, form, begin))]
    if faults:
        # 78 before 75: trying again does not help while a form needs a person.
        raise CommandError("not everything was pulled", max(faults))


def _pull(pulling: "Backfill", form: str, since: datetime | None) -> int:
    """Pull one form and print the result; return the exit code of its error, or 0."""
    from ingest.formstack.api import ApiError

    try:
        with terminal.show_progress(f"form {form}") as step:
            result = pulling.pull_form(form, since, step)
    except ApiError as error:
        click.echo(f"form {form}: {error.message}", err=True)
        return EXIT_UNUSABLE if error.is_permanent else EXIT_TRY_AGAIN
    click.echo(f"form {form}: {result.seen} looked at, {result.new} new")
    return 0


def _list_forms() -> None:
    from ingest.formstack.api import ApiError, FormstackApi
    from ingest.formstack.backfill import Backfill
    from ingest.intake import Intake

    with bootstrap.open_app_context() as context:
        _require_token(context.settings.formstack_token.get_secret_value())
        with FormstackApi(context.settings, context.clock, _wait) as api:
            pulled = set(Backfill(context, Intake(context).accept, api).list_forms())
            try:
                rows = [
                    (number, "pulled" if number in pulled else "–", name)
                    for number, name in api.list_forms()
                ]
            except ApiError as error:
                raise CommandError(
                    error.message, EXIT_UNUSABLE if error.is_permanent else EXIT_TRY_AGAIN
                ) from None
    terminal.create_console().print(terminal.build_table(("form", "backfill", "name"), rows))
    click.echo(
        "To pull one that is not, write [form.ID] into intake.toml; `backfill = false` there"
        " switches one off."
    )


def _require_token(token: str) -> None:
    if not token:
        raise CommandError(NO_CREDENTIALS, EXIT_UNUSABLE)


def _wait(seconds: float) -> bool:
    """Wait as long as Formstack asks; Ctrl-C ends it."""
    import time

    if seconds > 1:
        click.echo(f"Formstack asks us to wait for {seconds:.0f} s …", err=True)
    time.sleep(seconds)
    return False
