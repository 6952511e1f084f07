"""`intake replay`: read failed deliveries again, compare past ones.

Past ones are shown as they would be read today, then changed.
"""

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

    from workflow.context import House

Data = dict[str, Any]
FORMATS = ("mail", "formstack", "secure-message", "phone")
DOORS = ("smtp", "lmtp", "imap", "formstack", "backfill", "folder", "console", "pipe")


@dataclass(frozen=True)
class How:
    """What is to be done with the deliveries, and for whom."""

    actor: str
    dry_run: bool
    yes: bool
    json_wanted: bool
    brief: bool  # many: those of which there is nothing to say are only counted

    @property
    def asks(self) -> bool:
        """Return whether a person is there to be asked."""
        return (
            not (self.dry_run or self.yes or self.json_wanted)
            and sys.stdin.isatty()
            and sys.stdout.isatty()
        )


@dataclass(frozen=True)
class Which:
    """The deliveries that are meant."""

    numbers: tuple[int, ...]
    every: bool
    since: datetime | None
    form: str | None
    transport: str | None

    @property
    def filtered(self) -> bool:
        """Return whether past deliveries are chosen by what they are."""
        return bool(self.since or self.form or self.transport)


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
    "--transport", type=click.Choice(DOORS), help="Every one read before that came by this door."
)
@click.option(
    "--dry-run", is_flag=True, help="Only show what would come of it, also of failed ones."
)
@click.option("--yes", is_flag=True, help="Change what was read before without asking.")
@bootstrap.as_json
@bootstrap.acting
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
    r"""Read deliveries again, once a parser was mended.

    \b
    Example:  intake replay 42                              failed: is read now
              intake replay --all --dry-run                 what would come of every failed one
              intake replay 12                              read before: shows what would change, then asks
              intake replay --format mail --since 2026-03-01 --yes

    Of one that was read before, messages and tickets take over what today's parser reads, new items
    are filed as always. No ticket, message or original is deleted, none is closed, and customers of
    tickets that are there get no mail. What is shown may hold patient data. With --json a delivery
    is an object on a line of its own. Exit code 1 if any of them cannot be read.
    """
    since = since.astimezone(UTC) if since else None  # said in this machine's time zone
    which = Which(numbers, every, since, form, transport)
    if not numbers and not every and not which.filtered:
        raise click.UsageError("which? For example: intake replay 42, or intake replay --all")
    if sum((bool(numbers), every, which.filtered)) > 1:
        raise click.UsageError(
            "either numbers, or --all for the failed ones, or --since, --format, --transport"
        )
    how = How(actor, dry_run, yes, json_wanted, brief=which.filtered)
    ctx.exit(0 if _run(which, how) else 1)


def _run(which: Which, how: How) -> bool:
    """Return whether every one could be read."""
    from ingest.processing.parser_pool import isolated

    with bootstrap.house() as house, isolated(house.settings):
        chosen = _chosen(house, which)
        if not chosen and not how.json_wanted:
            click.echo(
                "No delivery is failed." if which.every else "No delivery read before is such."
            )
        found: list[Done] = []
        bar: AbstractContextManager[Any] = (
            nullcontext(lambda *_: None) if how.asks else terminal.progress("deliveries")
        )
        with bar as step:
            for done, number in enumerate(chosen, 1):
                found.append(_one(house, number, how))
                step(done, len(chosen))
    if not how.json_wanted:
        _conclude(found, how)
    return all(one.read for one in found)


def _chosen(house: "House", which: Which) -> list[int]:
    from console.presenters import deliveries

    if which.numbers:
        return list(dict.fromkeys(which.numbers))
    with house.store.reading() as session:
        if which.every:
            return deliveries.failed(session)
        return deliveries.read_before(
            session, since=which.since, form=which.form, transport=which.transport
        )


@dataclass(frozen=True)
class Done:
    """What has come of one, for the line at the end."""

    read: bool
    changes: bool = False
    applied: bool = False


def _one(house: "House", number: int, how: How) -> Done:
    from console.presenters import deliveries
    from workflow.models.states import DeliveryState

    with house.store.reading() as session:
        standing = deliveries.standing(session, number)
    if standing is None:
        return _tell(
            _unread(number, "unknown", "there is no such delivery: see `intake deliveries`"), how
        )
    state, filed = standing
    if state is DeliveryState.PROCESSED:
        return _past(house, number, how)
    if how.dry_run:
        return _trial(house, number, state, how)
    done = _again(house, number, how)
    # Filing went on behind what had been filed: a mended parser may have found more before that.
    return _past(house, number, how) if done.read and filed else done


def _again(house: "House", number: int, how: How) -> Done:
    from console.presenters import replay as replay_presenter
    from console.presenters.deliveries import tickets
    from ingest.replay.retry import replay as again

    delivery = again(house, number, by=how.actor)
    assert delivery is not None  # nothing deletes deliveries
    with house.store.reading() as session:
        return _tell(replay_presenter.of_replay(delivery, tickets(session, number)), how)


def _trial(house: "House", number: int, state: str, how: How) -> Done:
    from console.presenters import replay as replay_presenter
    from ingest.replay.reprocess import UnreadableError, trial

    try:
        return _tell(replay_presenter.of_trial(number, state, trial(house, number)), how)
    except UnreadableError as error:
        return _tell(_unread(number, state, str(error)), how)


def _past(house: "House", number: int, how: How) -> Done:
    from console.presenters import replay as replay_presenter
    from ingest.replay.reprocess import UnreadableError, apply, preview

    try:
        found = preview(house, number)
    except UnreadableError as error:
        return _tell(_unread(number, "processed", f"cannot be read today: {error}"), how)
    if not (found.changes and how.yes and not how.dry_run):
        shown = replay_presenter.of_reread(found, applied=False)
        if not (found.changes and how.asks):
            return _tell(shown, how)
        _tell(shown, how)
        if not click.confirm("Change it?"):
            return Done(read=True, changes=True)
    return _tell(replay_presenter.of_reread(apply(house, found, by=how.actor), applied=True), how)


def _unread(number: int, state: str, reason: str) -> Data:
    from console.presenters import replay as replay_presenter

    return replay_presenter.unread(number, state, reason)


def _tell(found: Data, how: How) -> Done:
    from console.presenters import show_replay

    if how.json_wanted:
        terminal.json_line(found)
    elif found["items"] or not (how.brief and found["read"]):
        show_replay.told(found)
    return Done(found["read"], bool(found.get("changes")), found["applied"])


def _conclude(found: list[Done], how: How) -> None:
    left = sum(one.changes and not one.applied for one in found)
    if len(found) > 1:
        done, unread = sum(one.applied for one in found), sum(not one.read for one in found)
        counts = f"{done} done, {left} would change, {unread} cannot be read"
        click.echo(
            f"{len(found)} deliveries: {counts}, of {len(found) - done - left - unread} nothing"
            " would change."
        )
    if left and not how.asks:
        click.echo(
            "Nothing has been changed for these. To do it: the same without --dry-run, with --yes.",
            err=True,
        )
