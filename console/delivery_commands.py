"""Commands on deliveries: put one in, list them, replay and dismiss the failed ones."""

from typing import TYPE_CHECKING, BinaryIO

import click

from console import faults, opening, show
from console.faults import Fault

if TYPE_CHECKING:
    from workflow.house import House

FORMATS = ("mail", "formstack", "secure-message")
STATES = ("pending", "processed", "failed", "dismissed")


@click.command()
@click.argument("kind", type=click.Choice(FORMATS))
@click.argument("file", type=click.File("rb"))
@click.option("--sender", default="", help="Envelope sender of a mail, as the mail server knows it.")
@click.option("--recipient", "recipients", multiple=True, help="Envelope recipient of a mail; repeat for more.")
def deliver(kind: str, file: BinaryIO, sender: str, recipients: tuple[str, ...]) -> None:
    r"""Store a file as the listeners do (for MTA pipes, backfill).

    Prints the delivery's number; FILE may be - for standard input.

    \b
    Example:  intake deliver mail message.eml
              intake deliver secure-message "Kareo export.xlsx"
    Postfix:  argv=/srv/intake/.venv/bin/intake deliver mail - --sender ${sender} --recipient ${recipient}

    Exit code 0: stored for good. 75: not stored, try again; a mail server then keeps the mail and does.
    The same bytes twice are one delivery. Next: `intake deliveries`.
    """
    try:
        with opening.house() as house:
            number = _store(house, kind, file.read(), sender, recipients)
    except Exception as error:  # noqa: BLE001  # any other exit code makes a mail server bounce a customer's mail
        told = faults.told(error)
        words = told.message if told else f"not stored, an error of ours ({type(error).__name__})"
        raise Fault(words, faults.TRY_AGAIN) from None
    click.echo(number)


def _store(house: "House", kind: str, raw: bytes, sender: str, recipients: tuple[str, ...]) -> int:
    from ingest.intake import Arrival, Intake, Transport
    from parsers.item import Format

    envelope: dict[str, object] = {"mail_from": sender, "rcpt_to": list(recipients)} if sender or recipients else {}
    return Intake(house).accept(Arrival(transport=Transport.PIPE, format=Format(kind), raw=raw, envelope=envelope))


@click.command()
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--limit", default=100, show_default=True, help="At most so many, the newest; 0 for all.")
@opening.as_json
def deliveries(*, state: str | None, limit: int, json_wanted: bool) -> None:
    r"""List what came in, and what has become of it.

    \b
    Example:  intake deliveries --state failed

    Failed ones never disappear by themselves. Next: `intake replay ID` once the reader or the file is mended, or
    `intake dismiss ID --reason "…"`.
    """
    from console.delivery_data import listed

    with opening.house() as house, house.store.reading() as session:
        found = listed(session, state, limit)
    if json_wanted:
        show.json_object(found)
    elif found:
        show.deliveries(found)
    else:
        click.echo(f"No delivery is {state}." if state else "Nothing has come in yet. Send one of each: intake demo")


@click.command()
@click.argument("numbers", metavar="ID...", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every failed delivery.")
@opening.acting
@click.pass_context
def replay(ctx: click.Context, numbers: tuple[int, ...], *, every: bool, actor: str) -> None:
    r"""Read failed or dismissed deliveries again.

    \b
    Example:  intake replay 42 43
              intake replay --all

    One that was read before is left as it is. Exit code 1 if any of them still cannot be read.
    """
    from console.delivery_data import failed, outcome
    from ingest.replay import replay as again

    if not numbers and not every:
        raise click.UsageError("which? For example: intake replay 42, or intake replay --all")
    good = True
    with opening.house() as house:
        chosen = failed(house) if every else list(numbers)
        with show.progress("deliveries") as step:
            for done, number in enumerate(chosen, 1):
                ok, words = outcome(house, again(house, number, by=actor), number)
                click.echo(words)
                good = good and ok
                step(done, len(chosen))
    if not chosen:
        click.echo("No delivery is failed.")
    ctx.exit(0 if good else 1)


@click.command()
@click.argument("numbers", metavar="ID...", type=int, nargs=-1, required=True)
@click.option("--reason", required=True, help="Why nothing is to come of it, for the record.")
@opening.acting
def dismiss(numbers: tuple[int, ...], reason: str, actor: str) -> None:
    r"""Say that nothing is to come of failed deliveries; they stay stored and can be replayed.

    \b
    Example:  intake dismiss 42 --reason "an empty export, sent again as 43"
    """
    from ingest.replay import dismiss as end
    from workflow.states import DeliveryState

    with opening.house() as house:
        for number in numbers:
            delivery = end(house, number, reason, by=actor)
            if delivery is None:
                raise Fault(f"there is no delivery {number}: see `intake deliveries`", 1)
            if delivery.state is not DeliveryState.DISMISSED:
                raise Fault(f"delivery {number} is {delivery.state}: only failed ones are dismissed", 1)
            click.echo(f"{number}: dismissed")
