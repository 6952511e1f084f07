"""`intake replay`: read deliveries again, compare with what was filed, and apply the difference."""

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from console import bootstrap
from console.presenters import terminal

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from workflow.context import AppContext

Data = dict[str, Any]
FORMATS = ("mail", "formstack", "secure-message", "phone")
TRANSPORTS = ("smtp", "lmtp", "imap", "formstack", "backfill", "folder", "console", "pipe")

NO_MATCH = "No processed delivery matches."
NO_SUCH_DELIVERY = "there is no such delivery: see `intake deliveries`"


@dataclass(frozen=True)
class ReplayOptions:
    """Options of one run, and who runs it."""

    actor: str
    dry_run: bool
    yes: bool
    as_json: bool
    is_brief: bool  # of many deliveries those without a change are only counted

    @property
    def is_interactive(self) -> bool:
        """Return whether to ask a person before each change."""
        return (
            not (self.dry_run or self.yes or self.as_json)
            and sys.stdin.isatty()
            and sys.stdout.isatty()
        )


@dataclass(frozen=True)
class Selection:
    """The deliveries to read again: by id, every failed one, or processed ones by filter."""

    numbers: tuple[int, ...]
    selects_failed: bool
    since: datetime | None
    format_name: str | None
    transport: str | None

    @property
    def has_filter(self) -> bool:
        """Return whether processed deliveries are selected by their properties."""
        return bool(self.since or self.format_name or self.transport)


@click.command()
@click.argument("numbers", metavar="[ID]...", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every failed delivery.")
@click.option("--since", type=click.DateTime(), help="Every processed one received since then.")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="Every processed one of this format."
)
@click.option(
    "--transport",
    type=click.Choice(TRANSPORTS),
    help="Every processed one of this channel.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would change, also for failed ones.")
@click.option("--yes", is_flag=True, help="Change processed ones without asking.")
@bootstrap.json_option
@bootstrap.actor_option
@click.pass_context
def replay(  # noqa: PLR0913  # a command has the options it has
    ctx: click.Context,
    numbers: tuple[int, ...],
    *,
    every: bool,
    since: datetime | None,
    form: str | None,
    transport: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    actor: str,
) -> None:
    r"""Read deliveries again, after a parser was repaired.

    \b
    Example:  intake replay 42                    failed: is read now
              intake replay --all --dry-run       what each failed one would become
              intake replay 12                    processed: shows the changes, then asks
              intake replay --format mail --since 2026-03-01 --yes

    For a processed delivery, its messages and tickets take over what today's parser reads, and new
    items are filed as always. No ticket, message or original is deleted, none is closed, and
    customers of existing tickets get no mail. The output may hold patient data. With --json a
    delivery is an object on a line of its own. Exit code 1 if any of them cannot be read.
    """
    since = since.astimezone(UTC) if since else None  # typed in this machine's time zone
    selection = Selection(numbers, every, since, form, transport)
    if not numbers and not every and not selection.has_filter:
        raise click.UsageError("which? For example: intake replay 42, or intake replay --all")
    if sum((bool(numbers), every, selection.has_filter)) > 1:
        raise click.UsageError(
            "either numbers, or --all for the failed ones, or --since, --format, --transport"
        )
    options = ReplayOptions(actor, dry_run, yes, as_json, is_brief=selection.has_filter)
    ctx.exit(0 if _replay_all(selection, options) else 1)


def _replay_all(selection: Selection, options: ReplayOptions) -> bool:
    """Read all selected deliveries again; return whether every one could be read."""
    from ingest.processing.parser_pool import use_parser_pool

    with bootstrap.open_app_context() as context, use_parser_pool(context.settings):
        ids = _select_ids(context, selection)
        if not ids and not options.as_json:
            nothing = "No delivery is failed." if selection.selects_failed else NO_MATCH
            click.echo(nothing)
        results: list[DeliveryResult] = []
        bar: AbstractContextManager[Any] = terminal.show_progress("deliveries")
        if options.is_interactive:  # a bar would overwrite the questions
            bar = nullcontext(lambda *_: None)
        with bar as step:
            for done, number in enumerate(ids, 1):
                results.append(_replay_one(context, number, options))
                step(done, len(ids))
    if not options.as_json:
        _print_summary(results, options)
    return all(result.is_readable for result in results)


def _select_ids(context: "AppContext", selection: Selection) -> list[int]:
    from console.presenters import deliveries

    if selection.numbers:
        # Each once, in the order typed.
        return list(dict.fromkeys(selection.numbers))
    with context.store.read_only() as session:
        if selection.selects_failed:
            return deliveries.list_failed_ids(session)
        return deliveries.list_processed_ids(
            session,
            since=selection.since,
            form=selection.format_name,
            transport=selection.transport,
        )


@dataclass(frozen=True)
class DeliveryResult:
    """Result of one delivery, for the line at the end."""

    is_readable: bool
    has_changes: bool = False
    is_applied: bool = False


def _replay_one(context: "AppContext", number: int, options: ReplayOptions) -> DeliveryResult:
    from console.presenters import deliveries
    from workflow.models.states import DeliveryState

    with context.store.read_only() as session:
        progress = deliveries.find_state(session, number)
    if progress is None:
        return _print_result(_present_unreadable(number, "unknown", NO_SUCH_DELIVERY), options)
    state, filing_count = progress
    if state is DeliveryState.PROCESSED:
        return _replay_processed(context, number, options)
    if options.dry_run:
        return _preview_unprocessed(context, number, state, options)
    result = _retry_failed(context, number, options)
    # The replay continued after the items already filed: a repaired parser may read those
    # differently, too.
    return (
        _replay_processed(context, number, options)
        if result.is_readable and filing_count
        else result
    )


def _retry_failed(context: "AppContext", number: int, options: ReplayOptions) -> DeliveryResult:
    from console.presenters import replay as replay_presenter
    from console.presenters.deliveries import list_ticket_ids
    from ingest.replay.retry import replay as replay_failed

    delivery = replay_failed(context, number, by=options.actor)
    assert delivery is not None  # deliveries are never deleted
    with context.store.read_only() as session:
        data = replay_presenter.present_result(delivery, list_ticket_ids(session, number))
    return _print_result(data, options)


def _preview_unprocessed(
    context: "AppContext", number: int, state: str, options: ReplayOptions
) -> DeliveryResult:
    from console.presenters import replay as replay_presenter
    from ingest.replay.reprocess import UnreadableError, try_replay

    try:
        data = replay_presenter.present_trial(number, state, try_replay(context, number))
    except UnreadableError as error:
        data = _present_unreadable(number, state, str(error))
    return _print_result(data, options)


def _replay_processed(context: "AppContext", number: int, options: ReplayOptions) -> DeliveryResult:
    from console.presenters import replay as replay_presenter
    from ingest.replay.reprocess import UnreadableError, apply_replay, preview_replay

    try:
        comparison = preview_replay(context, number)
    except UnreadableError as error:
        data = _present_unreadable(number, "processed", f"cannot be read today: {error}")
        return _print_result(data, options)
    may_apply = comparison.has_changes and options.yes and not options.dry_run
    if not may_apply:
        preview = replay_presenter.present_comparison(comparison, is_applied=False)
        result = _print_result(preview, options)
        if not (comparison.has_changes and options.is_interactive):
            return result
        if not click.confirm("Change it?"):
            return DeliveryResult(is_readable=True, has_changes=True)
    outcome = apply_replay(context, comparison, by=options.actor)
    return _print_result(replay_presenter.present_comparison(outcome, is_applied=True), options)


def _present_unreadable(number: int, state: str, reason: str) -> Data:
    from console.presenters import replay as replay_presenter

    return replay_presenter.present_unreadable(number, state, reason)


def _print_result(data: Data, options: ReplayOptions) -> DeliveryResult:
    from console.presenters.replay import print_replay

    if options.as_json:
        terminal.print_json_line(data)
    elif data["items"] or not (options.is_brief and data["read"]):
        print_replay(data)
    return DeliveryResult(data["read"], bool(data.get("changes")), data["applied"])


def _print_summary(results: list[DeliveryResult], options: ReplayOptions) -> None:
    pending_count = sum(result.has_changes and not result.is_applied for result in results)
    if len(results) > 1:
        changed_count = sum(result.is_applied for result in results)
        unreadable_count = sum(not result.is_readable for result in results)
        unchanged_count = len(results) - changed_count - pending_count - unreadable_count
        click.echo(
            f"{len(results)} deliveries: {changed_count} done, {pending_count} would change,"
            f" {unreadable_count} cannot be read, of {unchanged_count} nothing would change."
        )
    if pending_count and not options.is_interactive:
        click.echo(
            "Nothing has been changed for these. To do it: the same without --dry-run, with --yes.",
            err=True,
        )
