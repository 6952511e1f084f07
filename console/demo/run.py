"""The demonstration: one of each through the real doors, walked to 6-Completed."""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from console.bootstrap import house as open_house
from console.cli.up import answers, formstack_key
from console.demo import channels
from console.errors import Fault
from console.presenters import ticket as ticket_presenter
from console.presenters.terminal import Data, screen
from console.presenters.terminal import tickets as ticket_table
from workflow.context import House
from workflow.customers import directory
from workflow.models.core import Contact, Outgoing, Staff, Ticket, TicketContact
from workflow.models.states import Role, Status
from workflow.operations import status
from workflow.process import Milestone, Stage, Template
from workflow.settings.settings import Settings, load
from workflow.tickets.desk import ticket_or_missing

START_SECONDS = 60.0
MOVE_SECONDS = 60.0
CONSULTANT = "Demo Consultant"
OURS = "INTAKE_"


def run() -> None:
    """Run it; raises Fault when anything came out otherwise than it should."""
    with _system() as settings, open_house() as house:
        customer = f"dana.{secrets.token_hex(4)}@demo-practice.example"
        key = formstack_key(settings)
        _consultant(house)
        sent = _send(house, customer, key)
        _follow(house, customer, f"{sent} sent, each through its own door", _in_progress)
        click.echo("Now the consultant works on them: owner, follow up, Resolution, recap.")
        for number in [t["id"] for t in _tickets(house, customer)]:
            _work(house, number)
        _follow(house, customer, "worked through", _completed)
        _judge(house, customer)


@contextmanager
def _system() -> Iterator[Settings]:
    """The settings of the system that runs.

    Or of one started in a temporary folder that goes when we do.
    """
    settings = load()
    if _runs(settings) and not settings.relay_url.get_secret_value():
        click.echo(f"Using the system that runs on {settings.home.absolute()}.")
        yield settings
        return
    with tempfile.TemporaryDirectory(prefix="intake-demo-") as folder:
        _environment(Path(folder))
        click.echo("Starting a system of its own in a temporary folder …")
        with (Path(folder) / "up.log").open("wb") as log:
            command = [sys.executable, "-m", "console.cli.main", "up"]
            # ourselves
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            started = load()
            _wait(lambda: process.poll() is not None or _runs(started), START_SECONDS)
            if not _runs(started):
                raise Fault(
                    f"it does not start:\n{(Path(folder) / 'up.log').read_text()[-2000:]}", 1
                )
            yield started
        finally:
            process.terminate()
            process.wait(timeout=40)


def _environment(home: Path) -> None:
    """Nothing of this machine's settings: no relay, no mailbox, free ports."""
    for name in [n for n in os.environ if n.startswith(OURS)]:
        del os.environ[name]
    doors = ("INTAKE_SMTP_LISTEN", "INTAKE_WEBHOOK_LISTEN", "INTAKE_CONSOLE_LISTEN")
    os.environ |= {
        name: f"127.0.0.1:{port}" for name, port in zip(doors, channels.free_ports(3), strict=True)
    }
    os.environ |= {"INTAKE_HOME": str(home / "home"), "INTAKE_CONFIG": str(home / "none.toml")}


def _runs(settings: Settings) -> bool:
    """Whether the processes on this home are up.

    Their doors answer, and its database has lately heard of them.
    """
    needed = {"smtp", "folder", "webhooks", "worker", "clock"}
    if not answers(settings) or (
        not settings.database_url and not (settings.home / "intake.db").exists()
    ):
        return False
    with open_house() as house:
        now = house.clock()
        seen = status.report(house).seen
    # a minute
    return needed <= {name for name, at in seen.items() if (now - at).total_seconds() < 60}  # noqa: PLR2004


def _wait(ready: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ready():
            return True
        time.sleep(0.3)
    return False


def _consultant(house: House) -> None:
    with house.store.transaction() as session:
        if directory.staff_named(session, CONSULTANT) is None:
            session.add(Staff(name=CONSULTANT, role=Role.AGENT, created_at=house.clock()))


def _send(house: House, customer: str, key: str) -> int:
    """Put one of each through its door; how many."""
    ways: dict[str, Callable[[], object]] = {
        "a mail by SMTP": lambda: channels.mail(house.settings, customer),
        "a signed form by HTTP": lambda: channels.form(house.settings, customer, key),
        "a workbook saved into the watched folder": lambda: channels.workbook(
            house.settings, customer
        ),
        "a call written down": lambda: channels.call(house, customer),
    }
    for name, send in ways.items():
        try:
            send()
        except OSError as error:
            raise Fault(f"{name} was not taken: {error}", 1) from None
        click.echo(f"  sent: {name}")
    return len(ways)


def _tickets(house: House, customer: str) -> list[Data]:
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    mine = Ticket.contacts.any(TicketContact.contact.has(Contact.email == customer))
    query = select(Ticket).where(mine).order_by(Ticket.id)
    with house.store.reading() as session:
        found = session.scalars(query.options(joinedload(Ticket.owner), joinedload(Ticket.company)))
        return [ticket_presenter.short(t) for t in found]


def _follow(house: House, customer: str, title: str, done: Callable[[list[Data]], bool]) -> None:
    """Show the tickets as they move, until all are where they should be."""
    from rich.live import Live

    out = screen()
    with Live(console=out, auto_refresh=False, transient=False) as live:

        def look() -> bool:
            found = _tickets(house, customer)
            live.update(ticket_table(found, title), refresh=out.is_terminal)
            return done(found)

        good = _wait(look, MOVE_SECONDS)
    if not out.is_terminal:
        out.print()
    if not good:
        raise Fault("the tickets did not get there in a minute: see `intake status` and the log", 1)


def _in_progress(found: list[Data]) -> bool:
    # one a door
    return len(found) == 4 and all(t["stage"] == Stage.IN_PROGRESS for t in found)  # noqa: PLR2004


def _completed(found: list[Data]) -> bool:
    return all(t["status"] == Status.COMPLETED for t in found)


def _work(house: House, number: int) -> None:
    """What a consultant does with a ticket, one transaction a step."""
    desk = house.desk
    with house.store.transaction() as session:
        owner = directory.staff_named(session, CONSULTANT)
        assert owner is not None
        desk.assign(
            session, ticket_or_missing(session, number), owner, by=CONSULTANT, now=house.clock()
        )
    with house.store.transaction() as session:
        ticket = ticket_or_missing(session, number)
        desk.reach(session, ticket, Milestone.FOLLOW_UP_SENT, by=CONSULTANT, now=house.clock())
    with house.store.transaction() as session:
        desk.resolve(
            session, ticket_or_missing(session, number), yes=True, by=CONSULTANT, now=house.clock()
        )
    with house.store.transaction() as session:
        ticket = ticket_or_missing(session, number)
        desk.recap(
            session, ticket, "The claims were filed again.", by=CONSULTANT, now=house.clock()
        )


def _judge(house: House, customer: str) -> None:
    from sqlalchemy import func, select

    surveys = select(func.count()).where(
        Outgoing.to == customer, Outgoing.template == Template.SURVEY
    )
    with house.store.reading() as session:
        count = session.scalar(surveys)
    click.echo(f"Four tickets completed, {count} survey: the same customer in all four.")
    if count != 1:
        raise Fault("it should have been one survey", 1)
