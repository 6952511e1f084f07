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


@dataclass(frozen=True)
class ReplayOptions:
    """Options of one run, and who runs it."""

    actor: str
    dry_run: bool
    yes: bool
    json_wanted: bool
    is_brief: bool  # many: those of which there is nothing to say are only counted

    @property
    def is_interactive(self) -> bool:
        """Return whether to ask a person before each change."""
        return (
            not (self.dry_run or self.yes or self.json_wanted)
            and sys.stdin.isatty()
            and sys.stdout.isatty()
        )


@dataclass(frozen=True)
class Selection:
    """The deliveries to read again: by id, every failed one, or processed ones by filter."""

    numbers: tuple[int, ...]
    all_failed: bool
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
@click.option(
    "--since", type=click.DateTime(), help="Every one read before that was received since then."
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="Every one read before that is such."
)
@click.option(
    "--transport",
    type=click.Choice(TRANSPORTS),
    help="Every one read before that came by this door.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only show what would come of it, also of failed ones."
)
@click.option("--yes", is_flag=True, help="Change what was read before without asking.")
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
    json_wanted: bool,
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
    since = since.astimezone(UTC) if since else None  # said in this machine's time zone
    which = Selection(numbers, every, since, form, transport)
    if not numbers and not every and not which.has_filter:
        raise click.UsageError("which? For example: intake replay 42, or intake replay --all")
    if sum((bool(numbers), every, which.has_filter)) > 1:
        raise click.UsageError(
            "either numbers, or --all for the failed ones, or --since, --format, --transport"
        )
    how = ReplayOptions(actor, dry_run, yes, json_wanted, is_brief=which.has_filter)
    ctx.exit(0 if _run(which, how) else 1)


def _run(which: Selection, how: ReplayOptions) -> bool:
    """Read all selected deliveries again; return whether every one could be read."""
    from ingest.processing.parser_pool import use_parser_pool

    with bootstrap.open_app_context() as context, use_parser_pool(context.settings):
        chosen = _chosen(context, which)
        if not chosen and not how.json_wanted:
            click.echo(
                "No delivery is failed." if which.all_failed else "No delivery read before is such."
            )
        found: list[DeliveryResult] = []
        bar: AbstractContextManager[Any] = (
            nullcontext(lambda *_: None)
            if how.is_interactive
            else terminal.show_progress("deliveries")
        )
        with bar as step:
            for done, number in enumerate(chosen, 1):
                found.append(_one(context, number, how))
                step(done, len(chosen))
    if not how.json_wanted:
        _conclude(found, how)
    return all(one.is_readable for one in found)


def _chosen(context: "AppContext", which: Selection) -> list[int]:
    from console.presenters import deliveries

    if which.numbers:
        return list(dict.fromkeys(which.numbers))
    with context.store.read_only() as session:
        if which.all_failed:
            return deliveries.list_failed_ids(session)
        return deliveries.list_processed_ids(
            session, since=which.since, form=which.format_name, transport=which.transport
        )


@dataclass(frozen=True)
class DeliveryResult:
    """Result of one delivery, for the line at the end."""

    is_readable: bool
    has_changes: bool = False
    is_applied: bool = False


def _one(context: "AppContext", number: int, how: ReplayOptions) -> DeliveryResult:
    from console.presenters import deliveries
    from workflow.models.states import DeliveryState

    with context.store.read_only() as session:
        standing = deliveries.find_state(session, number)
    if standing is None:
        return _tell(
            _unread(number, "unknown", "there is no such delivery: see `intake deliveries`"), how
        )
    state, filed = standing
    if state is DeliveryState.PROCESSED:
        return _past(context, number, how)
    if how.dry_run:
        return _trial(context, number, state, how)
    done = _again(context, number, how)
    # Filing went on behind what had been filed: a mended parser may have found more before that.
    return _past(context, number, how) if done.is_readable and filed else done


def _again(context: "AppContext", number: int, how: ReplayOptions) -> DeliveryResult:
    from console.presenters import replay as replay_presenter
    from console.presenters.deliveries import list_ticket_ids
    from ingest.replay.retry import replay as again

    delivery = again(context, number, by=how.actor)
    assert delivery is not None  # nothing deletes deliveries
    with context.store.read_only() as session:
        return _tell(
            replay_presenter.present_replayed(delivery, list_ticket_ids(session, number)), how
        )


def _trial(context: "AppContext", number: int, state: str, how: ReplayOptions) -> DeliveryResult:
    from console.presenters import replay as replay_presenter
    from ingest.replay.reprocess import UnreadableError, try_replay

    try:
        return _tell(
            replay_presenter.present_trial(number, state, try_replay(context, number)), how
        )
    except UnreadableError as error:
        return _tell(_unread(number, state, str(error)), how)


def _past(context: "AppContext", number: int, how: ReplayOptions) -> DeliveryResult:
    from console.presenters import replay as replay_presenter
    from ingest.replay.reprocess import UnreadableError, apply_replay, preview_replay

    try:
        found = preview_replay(context, number)
    except UnreadableError as error:
        return _tell(_unread(number, "processed", f"cannot be read today: {error}"), how)
    if not (found.has_changes and how.yes and not how.dry_run):
        shown = replay_presenter.present_comparison(found, applied=False)
        if not (found.has_changes and how.is_interactive):
            return _tell(shown, how)
        _tell(shown, how)
        if not click.confirm("Change it?"):
            return DeliveryResult(is_readable=True, has_changes=True)
    return _tell(
        replay_presenter.present_comparison(
            apply_replay(context, found, by=how.actor), applied=True
        ),
        how,
    )


def _unread(number: int, state: str, reason: str) -> Data:
    from console.presenters import replay as replay_presenter

    return replay_presenter.present_unreadable(number, state, reason)


def _tell(found: Data, how: ReplayOptions) -> DeliveryResult:
    from console.presenters.replay import print_replay

    if how.json_wanted:
        terminal.print_json_line(found)
    elif found["items"] or not (how.is_brief and found["read"]):
        print_replay(found)
    return DeliveryResult(found["read"], bool(found.get("changes")), found["applied"])


def _conclude(found: list[DeliveryResult], how: ReplayOptions) -> None:
    left = sum(one.has_changes and not one.is_applied for one in found)
    if len(found) > 1:
        done, unread = (
            sum(one.is_applied for one in found),
            sum(not one.is_readable for one in found),
        )
        counts = f"{done} done, {left} would change, {unread} cannot be read"
        click.echo(
            f"{len(found)} deliveries: {counts}, of {len(found) - done - left - unread} nothing"
            " would change."
        )
    if left and not how.is_interactive:
        click.echo(
            "Nothing has been changed for these. To do it: the same without --dry-run, with --yes.",
            err=True,
        )
