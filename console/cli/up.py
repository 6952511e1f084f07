"""`intake up`: every process on one machine, with an embedded Valkey, in one readable log."""

import hashlib
import hmac
import json
import os
import secrets
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import click

from console import bootstrap
from console.errors import UNUSABLE, Fault

if TYPE_CHECKING:
    from console.runtime.supervisor import Supervisor
    from console.runtime.valkey import Valkey
    from workflow.settings.settings import Settings

READY_SECONDS = 30.0
AWAY = (
    "the database does not answer: the doors open all the same, mail hears 451 and forms wait in"
    " the spool. It is brought to the newest schema once it does"
)
KEY_FILE = "formstack.key"  # in INTAKE_HOME, mode 0600
EXAMPLE = {
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

    Doors, workers, clock, console, and an embedded Valkey unless INTAKE_REDIS_URL is set.

    \b
    Example:  intake up
              INTAKE_HOME=/srv/intake INTAKE_ADDRESSES=support@pmb.example intake up

    Makes INTAKE_HOME and the database on first use, says where to point mail, forms, Excel files
    and a browser, and restarts what dies. Ctrl-C ends it: what is in hand is finished first. Next,
    in another terminal: `intake demo`.
    """
    from console.runtime.crash_recorder import EndRecorder
    from console.runtime.supervisor import Supervisor
    from workflow.settings.settings import load

    settings = load()
    _check_ports(settings)
    with _only_one(settings):
        answered = bootstrap.migrated(settings)
        environment = prepare(settings)
        recorder = EndRecorder(settings)
        supervisor = Supervisor(environment, recorder.ended)
        supervisor.listen_to_signals()
        if not answered:
            _migrate_later(supervisor, settings)
        url_file = None
        try:
            url_file = _start(supervisor, settings, environment)
            supervisor.run()
        finally:
            supervisor.say("up", "stopping: what is in hand is finished first")
            supervisor.stop()
            recorder.close()
            if url_file is not None:
                url_file.unlink(missing_ok=True)
    click.echo("stopped")


def doors(settings: "Settings") -> dict[str, tuple[str, int]]:
    """The addresses we listen on, by the name of their setting.

    Without those whose port is chosen on opening.
    """
    named = {
        "INTAKE_SMTP_LISTEN": settings.smtp_listen,
        "INTAKE_LMTP_LISTEN": settings.lmtp_listen,
        "INTAKE_WEBHOOK_LISTEN": settings.webhook_listen,
        "INTAKE_CONSOLE_LISTEN": settings.console_listen,
    }
    split = {name: listen.rpartition(":") for name, listen in named.items() if listen}
    return {
        name: (host.strip("[]"), int(port)) for name, (host, _, port) in split.items() if int(port)
    }


def answers(settings: "Settings") -> bool:
    """Return whether every door takes connections."""
    return all(_answers(address) for address in doors(settings).values())


def _answers(address: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(address, timeout=1):
        return True
    return False


def _check_ports(settings: "Settings") -> None:
    """Raise Fault naming every address that cannot be listened on, before anything is started."""
    faults = []
    for name, (host, port) in doors(settings).items():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
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
        raise Fault("\n".join(["nothing was started:", *faults]), UNUSABLE)


@contextmanager
def _only_one(settings: "Settings") -> Iterator[None]:
    try:
        with bootstrap.locked(settings.home / "up.lock", wait=False):
            yield
    except BlockingIOError:
        raise Fault(
            f"an `intake up` runs on {settings.home.absolute()} already", UNUSABLE
        ) from None


def prepare(settings: "Settings") -> dict[str, str]:
    """Make home and keys; the environment of the children."""
    from workflow.context import open_house

    settings.home.mkdir(parents=True, exist_ok=True)
    settings.dropbox.mkdir(parents=True, exist_ok=True)
    open_house(settings).close()  # makes the key file, so that the children do not race for it
    return {**os.environ, "INTAKE_FORMSTACK_KEY": formstack_key(settings)}


def _migrate_later(supervisor: "Supervisor", settings: "Settings") -> None:
    supervisor.say("up", AWAY, "red")
    say = partial(supervisor.say, "up")
    Thread(
        target=bootstrap.migrate_later, args=(settings, say), name="migrate", daemon=True
    ).start()


def formstack_key(settings: "Settings") -> str:
    """The key of the setting, else the one in INTAKE_HOME, made on first use."""
    known = settings.formstack_key.get_secret_value()
    path = settings.home / KEY_FILE
    if not known and not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    return known or path.read_text().strip()


def _start(
    supervisor: "Supervisor", settings: "Settings", environment: dict[str, str]
) -> Path | None:
    """Start Valkey and every process; the file that tells other commands where Valkey is."""
    from console.runtime.processes import PROCESSES
    from console.runtime.supervisor import python
    from ingest.imap.mailboxes import mailboxes

    click.echo("starting …")
    embedded = None if settings.redis_url else _start_valkey(supervisor, settings)
    for name in PROCESSES:
        if name == "imap" and not mailboxes(settings):
            supervisor.say("imap", "not started: no mailbox is configured (INTAKE_IMAP_URLS)")
        elif name == "backfill" and not settings.formstack_token.get_secret_value():
            supervisor.say("backfill", "not started: nothing to pull with (INTAKE_FORMSTACK_TOKEN)")
        else:
            supervisor.add(name, python(name))
    ready = supervisor.wait_for(lambda: answers(settings), READY_SECONDS)
    if not supervisor.stopping:
        invited = _first_run(settings) if ready else ""
        click.echo(
            "\n".join(
                banner(settings, environment["INTAKE_FORMSTACK_KEY"], ready=ready, invited=invited)
            )
        )
    return embedded.url_file if embedded else None


def _first_run(settings: "Settings") -> str:
    """The link for the first admin, "" once anybody has an account."""
    from sqlalchemy.exc import SQLAlchemyError

    from workflow.accounts.invitations import first_run
    from workflow.context import open_house

    house = open_house(settings)
    try:
        with house.store.transaction() as session:
            token = first_run(session, now=house.clock())
    except (
        SQLAlchemyError
    ):  # the database is away: `intake up` starts all the same, and gives the link the next time
        token = None
    finally:
        house.close()
    return f"{settings.public_url}/join/{token}" if token else ""


def _start_valkey(supervisor: "Supervisor", settings: "Settings") -> "Valkey | None":
    from console.runtime.valkey import prepare as prepare_valkey

    found = prepare_valkey(settings.home)
    if found is None:
        supervisor.say(
            "valkey",
            "no embedded Valkey for this machine: workers look into the database every second",
        )
        return None
    supervisor.environment["INTAKE_REDIS_URL"] = found.url
    supervisor.add("valkey", found.command)
    if not supervisor.wait_for(found.answers, READY_SECONDS) and not supervisor.stopping:
        supervisor.say("valkey", "does not answer yet: the clock does the work meanwhile")
    found.url_file.write_text(found.url + "\n")
    return found


def banner(settings: "Settings", key: str, *, ready: bool, invited: str = "") -> list[str]:
    """Return where to point mail, forms, Excel files and a browser."""
    to = settings.sender
    server = settings.smtp_listen
    mails = (
        "the relay"
        if settings.relay_url.get_secret_value()
        else f"{settings.home.absolute() / 'outbox'}/*.eml"
    )
    ours = not settings.formstack_key.get_secret_value()
    return [
        "",
        (
            "support-intake is running"
            if ready
            else "support-intake is starting: not every door is open yet, see the log"
        ),
        f"  mail     {server}, for {', '.join(settings.addresses)}",
        f"           swaks --server {server} --to {to} --from jo@acme.example",
        f"  forms    http://{settings.webhook_listen}/formstack",
        *(
            [f"           HMAC key: {key}   (made by us, in {settings.home / KEY_FILE})"]
            if ours
            else []
        ),
        f"           {signed_curl(settings, key)}",
        f"  Excel    {settings.dropbox.absolute()}",
        f"  browser  {settings.public_url}",
        *([f"           first admin, once and within a day: {invited}"] if invited else []),
        f"  mails we send go to {mails}",
        "  tickets  intake tickets · intake status · intake demo",
        "Ctrl-C stops it.",
        "",
    ]


def signed_curl(settings: "Settings", key: str) -> str:
    """A command that posts one signed form."""
    body = json.dumps(EXAMPLE)
    signature = hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()
    return (
        f"curl -i http://{settings.webhook_listen}/formstack -H 'Content-Type: application/json' "
        f"-H 'X-FS-Signature: sha256={signature}' -d {shlex.quote(body)}"
    )
