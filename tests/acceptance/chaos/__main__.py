"""`python -m tests.acceptance.chaos --minutes 5 --database postgresql`.

Exit code 1 if a guarantee was broken.
"""

import logging
import secrets
import sys
from pathlib import Path

import click

from tests.acceptance.chaos.run import Plan, run_chaos, show
from tests.acceptance.chaos.soak import run_soak


@click.command()
@click.option(
    "--minutes",
    default=1.0,
    show_default=True,
    help="Minutes of load and kills; a third more for the deadlines.",
)
@click.option(
    "--database", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", show_default=True
)
@click.option(
    "--kills",
    default=40.0,
    show_default=True,
    help="Random kills a minute; those at marked points come on top.",
)
@click.option(
    "--seed",
    default=None,
    type=int,
    help="Seed of the harness's random numbers; those of the processes are not repeatable.",
)
@click.option(
    "--fake-acks",
    is_flag=True,
    help="Let channels acknowledge without storing, now and then: the count must find it.",
)
@click.option(
    "--logs", type=click.Path(path_type=Path), help="Keep the processes' logs in this folder."
)
@click.option("--soak", is_flag=True, help="No kills: measure whether memory stays flat.")
def main(
    *,
    minutes: float,
    database: str,
    kills: float,
    seed: int | None,
    fake_acks: bool,
    soak: bool,
    logs: Path | None,
) -> None:
    """Kill real processes under a known load through every channel.

    Then count what was lost or doubled.
    """
    # each call of our Formstack would be a line
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    chosen_seed = secrets.randbelow(10**6) if seed is None else seed
    if soak:
        report, is_flat = run_soak(Plan(minutes * 60, database, 0, chosen_seed))
        click.echo(report)
        sys.exit(not is_flat)
    run, verdict, settle_seconds = run_chaos(
        Plan(minutes * 60, database, kills, chosen_seed, fake_acks, logs=logs)
    )
    click.echo(show(run, verdict, settle_seconds))
    sys.exit(bool(verdict.broken or run.keeper.unexpected_ends))


main()
