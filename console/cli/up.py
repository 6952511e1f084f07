"""`intake up`: every process on one machine, with an embedded Valkey and one readable log."""

import hashlib
import hmac
import json
import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import click

from console import bootstrap
from console.errors import EXIT_UNUSABLE, CommandError
from console.runtime.local_system import (
    KEY_FILE,
    PROCESS_NAMES,
    accepts_connections,
    get_formstack_key,
    get_listen_addresses,
)

if TYPE_CHECKING:
    from console.runtime.supervisor import Supervisor
    from console.runtime.valkey import Valkey
    from workflow.settings.settings import Settings

READY_SECONDS = 30.0
DATABASE_AWAY = (
    "the database does not answer: the channels open all the same, mail is answered 451 and forms"
    " wait in the spool. Its schema is upgraded once it answers"
)
EXAMPLE_FORM = {
    "FormID": "6606394",
    "UniqueID": "1500878955",
    "Practice Name": "Acme Clinic",
    "Name": "Jo Doe",
    "Email": "jo@acme.example",
    "Message": "A claim was denied twice.",
}


@click.command()
def up() -> None:
    r"""Run everything on this machine.

    Channels, workers, clock, console, and an embedded Valkey unless INTAKE_REDIS_URL is set.

    \b
    Example:  intake up
              INTAKE_HOME=/srv/intake INTAKE_ADDRESSES=support@pmb.example intake up

    Creates INTAKE_HOME and the database on first use, prints where to send mail, forms and Excel
    files and where to sign in, and restarts processes that die. Ctrl-C ends it: work in hand is
    finished first. Next, in another terminal: `intake demo`.
    """
    from console.runtime.crash_recorder import CrashRecorder, write_ends
    from console.runtime.fork_server import call_in_fork
    from console.runtime.supervisor import Supervisor
    from workflow.settings.settings import load_settings

    settings = load_settings()
    _check_ports(settings)
    with _hold_home(settings):
        is_database_up = call_in_fork(bootstrap.migrate_database, settings)
        environment = call_in_fork(prepare_home, settings)
        recorder = CrashRecorder(partial(call_in_fork, write_ends, settings), settings.clock_offset)
        supervisor = Supervisor(environment, recorder.record_end)
        supervisor.install_signal_handlers()
        if not is_database_up:
            _migrate_later(supervisor, settings)
        url_file = None
        try:
            url_file = _start_processes(supervisor, settings, environment)
            supervisor.run()
        finally:
            supervisor.print_line("up", "stopping: work in hand is finished first")
            supervisor.stop()
            recorder.close()
            if url_file is not None:
                url_file.unlink(missing_ok=True)
    click.echo("stopped")


def _check_ports(settings: "Settings") -> None:
    """Raise CommandError with every address that cannot be bound, before anything starts."""
    faults = []
    for name, (host, port) in get_listen_addresses(settings).items():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the listeners do: connections of the last run may still be in TIME_WAIT.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                why = error.strerror or type(error).__name__
                faults.append(
                    f"{name}: port {port} on {host} cannot be opened ({why}); set"
                    f" {name}={host}:<another port>"
                )
    if faults:
        raise CommandError("\n".join(["nothing was started:", *faults]), EXIT_UNUSABLE)


@contextmanager
def _hold_home(settings: "Settings") -> Iterator[None]:
    try:
        with bootstrap.hold_lock(settings.home / "up.lock", wait=False):
            yield
    except BlockingIOError:
        raise CommandError(
            f"an `intake up` runs on {settings.home.absolute()} already", EXIT_UNUSABLE
        ) from None


def prepare_home(settings: "Settings") -> dict[str, str]:
    """Create INTAKE_HOME and the keys; return the environment of the child processes."""
    from workflow.context import open_context

    settings.home.mkdir(parents=True, exist_ok=True)
    settings.dropbox.mkdir(parents=True, exist_ok=True)
    open_context(settings).close()  # makes the key file, so that the children do not race for it
    return {**os.environ, "INTAKE_FORMSTACK_KEY": get_formstack_key(settings)}


def _migrate_later(supervisor: "Supervisor", settings: "Settings") -> None:
    from console.runtime.fork_server import call_in_fork

    supervisor.print_line("up", DATABASE_AWAY, "red")
    migrate = partial(call_in_fork, bootstrap.migrate_database, settings)
    Thread(
        target=bootstrap.migrate_when_available,
        args=(migrate, partial(supervisor.print_line, "up")),
        name="migrate",
        daemon=True,
    ).start()


def _start_processes(
    supervisor: "Supervisor", settings: "Settings", environment: dict[str, str]
) -> Path | None:
    """Start Valkey and every process; return the file with Valkey's URL for other commands."""
    from console.cli.main import run_command
    from console.runtime.fork_server import call_in_fork
    from ingest.imap.mailboxes import list_mailboxes

    click.echo("starting …")
    valkey = None if settings.redis_url else _start_valkey(supervisor, settings)
    for name in PROCESS_NAMES:
        if name == "imap" and not list_mailboxes(settings):
            supervisor.print_line(
                "imap", "not started: no mailbox is configured (INTAKE_IMAP_URLS)"
            )
        elif name == "backfill" and not settings.formstack_token.get_secret_value():
            supervisor.print_line(
                "backfill", "not started: nothing to pull with (INTAKE_FORMSTACK_TOKEN)"
            )
        else:
            supervisor.add_process(name, run_command)
    ready = supervisor.wait_for(lambda: accepts_connections(settings), READY_SECONDS)
    if not supervisor.is_stopping:
        invitation_link = call_in_fork(invite_first_admin, settings) if ready else ""
        click.echo(
            "\n".join(
                build_banner(
                    settings,
                    environment["INTAKE_FORMSTACK_KEY"],
                    ready=ready,
                    invitation_link=invitation_link,
                )
            )
        )
    return valkey.url_file if valkey else None


def invite_first_admin(settings: "Settings") -> str:
    """Return the link for the first admin, "" once anybody has an account."""
    from sqlalchemy.exc import SQLAlchemyError

    from workflow.accounts.invitations import create_first_invitation
    from workflow.context import open_context

    context = open_context(settings)
    try:
        with context.store.transaction() as session:
            token = create_first_invitation(session, now=context.clock())
    except SQLAlchemyError:
        # the database is away: `intake up` starts all the same, and prints the link the next time
        token = None
    finally:
        context.close()
    return f"{settings.public_url}/join/{token}" if token else ""


def _start_valkey(supervisor: "Supervisor", settings: "Settings") -> "Valkey | None":
    from console.runtime.valkey import prepare_valkey

    valkey = prepare_valkey(settings.home)
    if valkey is None:
        supervisor.print_line(
            "valkey",
            "no embedded Valkey for this machine: workers poll the database every second",
        )
        return None
    supervisor.environment["INTAKE_REDIS_URL"] = valkey.url
    supervisor.add_command("valkey", valkey.command)
    if not supervisor.wait_for(valkey.is_ready, READY_SECONDS) and not supervisor.is_stopping:
        supervisor.print_line("valkey", "does not answer yet: the clock does the work meanwhile")
    # Its port is chosen at each start: other commands find it by this file.
    valkey.url_file.write_text(valkey.url + "\n")
    return valkey


def build_banner(
    settings: "Settings", key: str, *, ready: bool, invitation_link: str = ""
) -> list[str]:
    """Return the lines that say where to send mail, forms and Excel files, and where to sign in."""
    to = settings.sender
    server = settings.smtp_listen
    mails = (
        "the relay"
        if settings.relay_url.get_secret_value()
        else f"{settings.home.absolute() / 'outbox'}/*.eml"
    )
    has_own_key = not settings.formstack_key.get_secret_value()
    return [
        "",
        (
            "support-intake is running"
            if ready
            else "support-intake is starting: not every channel is open yet, see the log"
        ),
        f"  mail     {server}, for {', '.join(settings.addresses)}",
        f"           swaks --server {server} --to {to} --from jo@acme.example",
        f"  forms    http://{settings.webhook_listen}/formstack",
        *(
            [f"           HMAC key: {key}   (made by us, in {settings.home / KEY_FILE})"]
            if has_own_key
            else []
        ),
        f"           {build_signed_curl(settings, key)}",
        f"  Excel    {settings.dropbox.absolute()}",
        f"  browser  {settings.public_url}",
        *(
            [f"           first admin, once and within a day: {invitation_link}"]
            if invitation_link
            else []
        ),
        f"  mails we send go to {mails}",
        "  tickets  intake tickets · intake status · intake demo",
        "Ctrl-C stops it.",
        "",
    ]


def build_signed_curl(settings: "Settings", key: str) -> str:
    """Return a command that posts one signed form."""
    body = json.dumps(EXAMPLE_FORM)
    signature = hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()
    return (
        f"curl -i http://{settings.webhook_listen}/formstack -H 'Content-Type: application/json' "
        f"-H 'X-FS-Signature: sha256={signature}' -d {shlex.quote(body)}"
    )
