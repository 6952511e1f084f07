"""The demonstration: one item through each channel, then each ticket worked to 6-Completed."""

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

from console.bootstrap import open_app_context as open_app
from console.demo import channels
from console.errors import CommandError
from console.perform import get_actions
from console.presenters.terminal import Data, create_console
from console.presenters.terminal import build_ticket_table as ticket_table
from console.presenters.tickets import ticket as ticket_presenter
from console.runtime.local_system import accepts_connections, get_formstack_key
from workflow.context import AppContext
from workflow.customers import directory
from workflow.models.core import Contact, OutgoingMail, Staff, Ticket, TicketContact
from workflow.models.states import Role, Status
from workflow.operations import status
from workflow.process import Stage, Template
from workflow.settings.settings import Settings, load_settings
from workflow.tickets.actions import Actor, Assign, FollowUp, Resolve, SendRecap

START_SECONDS = 60.0
MOVE_SECONDS = 60.0
HEARTBEAT_AGE = 60.0  # seconds; three heartbeats
CHANNEL_COUNT = 4  # mail, form, workbook, call
CONSULTANT = "Demo Consultant"
SETTINGS_PREFIX = "INTAKE_"


def run_demo() -> None:
    """Run it. Raises CommandError when any step ends differently than expected."""
    with _find_or_start_system() as settings, open_app() as context:
        customer = f"dana.{secrets.token_hex(4)}@demo-practice.example"
        key = get_formstack_key(settings)
        _add_consultant(context)
        sent = _send_items(context, customer, key)
        _show_until(
            context, customer, f"{sent} sent, each through its own channel", _are_in_progress
        )
        click.echo("Now the consultant works on them: owner, follow up, Resolution, recap.")
        for number in [t["id"] for t in _load_tickets(context, customer)]:
            _complete_ticket(context, number)
        _show_until(context, customer, "worked through", _are_completed)
        _check_surveys(context, customer)


@contextmanager
def _find_or_start_system() -> Iterator[Settings]:
    """Yield the settings of the running system, or of one started in a temporary folder.

    The temporary one is stopped and its folder deleted at the end.
    """
    settings = load_settings()
    if _is_running(settings) and not settings.relay_url.get_secret_value():
        click.echo(f"Using the system that runs on {settings.home.absolute()}.")
        yield settings
        return
    with tempfile.TemporaryDirectory(prefix="intake-demo-") as folder:
        _reset_environment(Path(folder))
        click.echo("Starting a system of its own in a temporary folder …")
        with (Path(folder) / "up.log").open("wb") as log:
            command = [sys.executable, "-m", "console.cli.main", "up"]
            # ourselves
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            new_settings = load_settings()
            _wait_until(
                lambda: process.poll() is not None or _is_running(new_settings), START_SECONDS
            )
            if not _is_running(new_settings):
                raise CommandError(
                    f"it does not start:\n{(Path(folder) / 'up.log').read_text()[-2000:]}", 1
                )
            yield new_settings
        finally:
            process.terminate()
            # Longer than the supervisor gives its processes to finish (DRAIN_SECONDS).
            process.wait(timeout=40)


def _reset_environment(home: Path) -> None:
    """Replace this machine's settings: no relay, no mailbox, free ports."""
    for name in [n for n in os.environ if n.startswith(SETTINGS_PREFIX)]:
        del os.environ[name]
    listeners = ("INTAKE_SMTP_LISTEN", "INTAKE_WEBHOOK_LISTEN", "INTAKE_CONSOLE_LISTEN")
    os.environ |= {
        name: f"127.0.0.1:{port}"
        for name, port in zip(listeners, channels.find_free_ports(3), strict=True)
    }
    os.environ |= {"INTAKE_HOME": str(home / "home"), "INTAKE_CONFIG": str(home / "none.toml")}


def _is_running(settings: Settings) -> bool:
    """Return whether the processes on this home run.

    Their addresses accept connections, and their heartbeats are less than a minute old.
    """
    required_processes = {"smtp", "folder", "webhooks", "worker", "clock"}
    if not accepts_connections(settings) or (
        not settings.database_url and not (settings.home / "intake.db").exists()
    ):
        return False
    with open_app() as context:
        now = context.clock()
        last_seen = status.collect_status(context).last_seen
    return required_processes <= {
        name for name, at in last_seen.items() if (now - at).total_seconds() < HEARTBEAT_AGE
    }


def _wait_until(ready: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ready():
            return True
        time.sleep(0.3)
    return False


def _add_consultant(context: AppContext) -> None:
    with context.store.transaction() as session:
        if directory.find_staff(session, CONSULTANT) is None:
            session.add(Staff(name=CONSULTANT, role=Role.AGENT, created_at=context.clock()))


def _send_items(context: AppContext, customer: str, key: str) -> int:
    """Send one item through each channel; return how many."""
    ways: dict[str, Callable[[], object]] = {
        "a mail by SMTP": lambda: channels.send_mail(context.settings, customer),
        "a signed form by HTTP": lambda: channels.send_form(context.settings, customer, key),
        "a workbook saved into the watched folder": lambda: channels.drop_workbook(
            context.settings, customer
        ),
        "a call written down": lambda: channels.record_call(context, customer),
    }
    for name, send in ways.items():
        try:
            send()
        except OSError as error:
            raise CommandError(f"{name} was not taken: {error}", 1) from None
        click.echo(f"  sent: {name}")
    return len(ways)


def _load_tickets(context: AppContext, customer: str) -> list[Data]:
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    mine = Ticket.contacts.any(TicketContact.contact.has(Contact.email == customer))
    query = select(Ticket).where(mine).order_by(Ticket.id)
    with context.store.read_only() as session:
        tickets = session.scalars(
            query.options(joinedload(Ticket.owner), joinedload(Ticket.company))
        )
        return [ticket_presenter.present_ticket_row(t) for t in tickets]


def _show_until(
    context: AppContext, customer: str, title: str, is_done: Callable[[list[Data]], bool]
) -> None:
    """Show the tickets as they move, until all are where they should be."""
    from rich.live import Live

    out = create_console()
    with Live(console=out, auto_refresh=False, transient=False) as live:

        def look() -> bool:
            tickets = _load_tickets(context, customer)
            live.update(ticket_table(tickets, title), refresh=out.is_terminal)
            return is_done(tickets)

        succeeded = _wait_until(look, MOVE_SECONDS)
    if not out.is_terminal:
        out.print()
    if not succeeded:
        raise CommandError(
            "the tickets did not get there in a minute: see `intake status` and the log", 1
        )


def _are_in_progress(tickets: list[Data]) -> bool:
    return len(tickets) == CHANNEL_COUNT and all(t["stage"] == Stage.IN_PROGRESS for t in tickets)


def _are_completed(tickets: list[Data]) -> bool:
    return all(t["status"] == Status.COMPLETED for t in tickets)


def _complete_ticket(context: AppContext, number: int) -> None:
    """Work a ticket through as a consultant does, one command a step."""
    with context.store.read_only() as session:
        consultant = directory.find_staff(session, CONSULTANT)
        assert consultant is not None
        actor = Actor.person(consultant)
        owner_id = consultant.id
    commands = (
        Assign(owner_id),
        FollowUp(),
        Resolve(yes=True),
        SendRecap("The claims were filed again."),
    )
    actions = get_actions(context)
    for command in commands:
        actions.perform(number, command, actor=actor, now=context.clock())


def _check_surveys(context: AppContext, customer: str) -> None:
    from sqlalchemy import func, select

    surveys = select(func.count()).where(
        OutgoingMail.to == customer, OutgoingMail.template == Template.SURVEY
    )
    with context.store.read_only() as session:
        count = session.scalar(surveys)
    click.echo(f"Four tickets completed, {count} survey: the same customer in all four.")
    if count != 1:
        raise CommandError("it should have been one survey", 1)
