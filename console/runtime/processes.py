"""The processes, one function each.

The Procfile is the diagram, this is what stands behind its lines.
"""

from collections.abc import Callable
from functools import partial
from threading import Event, Thread

from sqlalchemy.exc import SQLAlchemyError

from console.bootstrap import ensure_migrated
from console.errors import UNUSABLE, Fault
from console.runtime.lifecycle import Progress, leasing, opened, stopping
from console.runtime.memory import give_back, look_less_often
from console.runtime.parent_death import under_supervisor
from ingest.intake import Intake, Transport
from workflow.context import House
from workflow.database.engine import AWAY
from workflow.operations import item_faults, status
from workflow.runtime import log
from workflow.settings.settings import Settings, load

DRAIN_SECONDS = 20.0
FORMS_AT_ONCE = 24  # threads: those that wait share a commit
NO_MAILBOX = (
    "no mailbox is configured, so there is nothing to read: set"
    " INTAKE_IMAP_URLS=imaps://user:password@host/INBOX, or [[mailbox]] in intake.toml"
)


def run(name: str) -> None:
    """Run a process of the table until SIGTERM or SIGINT, then drain and return.

    A database that is away keeps none from starting: what a door is for then is to say "try again".
    Raises SettingsError or Fault when it cannot start, OSError when its address is taken.
    """
    settings = load()
    log.setup(name, as_json=settings.log_json)
    if not under_supervisor():  # which migrates
        try:
            ensure_migrated(settings)
        except AWAY as error:
            log.database_away(error)
    PROCESSES[name](settings)


def smtp(settings: Settings) -> None:
    """SMTP, and LMTP where an address is set."""
    from ingest.smtp.listener import serve

    give_back()
    with opened(settings, "smtp") as (house, _):
        serve(settings, Intake(house).accept, partial(item_faults.report, house.store, house.clock))


def imap(settings: Settings) -> None:
    """One reader a mailbox. Raises Fault when there is none."""
    from ingest.imap.checkpoints import StoredCheckpoints
    from ingest.imap.mailboxes import mailboxes
    from ingest.imap.reader import Door, serve
    from ingest.imap.token_store import StoredGrant
    from ingest.imap.unfetched import settle
    from workflow.operations.item_faults import ItemFaults

    if not mailboxes(settings):
        raise Fault(NO_MAILBOX, UNUSABLE)
    names = [f"imap {box.key}" for box in mailboxes(settings)]
    with (
        opened(settings, "imap") as (house, _),
        leasing(house, *names) as leases,
        stopping() as stop,
    ):
        serve(
            Door(
                settings=settings,
                accept=Intake(house).accept,
                checkpoints=StoredCheckpoints(house.store),
                faults=partial(ItemFaults, house.store, house.clock, Transport.IMAP),
                seen=partial(_seen, house),
                stop=stop,
                fetched_late=partial(settle, house),
                mine=lambda key: leases.held(f"imap {key}"),
                kept=partial(StoredGrant, house),
            )
        )


def _seen(house: House, mailbox: str) -> None:
    try:
        status.alive(house, mailbox)
    except (SQLAlchemyError, OSError) as error:
        log.fault("alive", error)


def folder(settings: Settings) -> None:
    """The watched folder."""
    from ingest.folder.watcher import identity, serve
    from ingest.processing.parser_pool import isolated

    name, progress = f"folder {identity(settings.dropbox)}", Progress()
    with (
        opened(settings, "folder", progress) as (house, _),
        leasing(house, name) as leases,
        isolated(settings),
        stopping() as stop,
    ):
        serve(house, Intake(house).accept, stop, lambda: leases.held(name), progress.made)


def backfill(settings: Settings) -> None:
    """What no webhook brought, pulled from Formstack; without a token it waits to be stopped."""
    from ingest.formstack.api import Api
    from ingest.formstack.backfill import Backfill

    if not settings.formstack_token.get_secret_value():
        with stopping() as stop:
            log.backfill_without_token()
            stop.wait()
        return
    with (
        opened(settings, "backfill") as (house, _),
        leasing(house, "backfill") as leases,
        stopping() as stop,
        Api(settings, house.clock, stop.wait) as api,
    ):
        Backfill(house, Intake(house).accept, api, lambda: leases.held("backfill")).run(stop)


def webhooks(settings: Settings) -> None:
    """The public HTTP door: forms; and the spool of this host, which nobody else may see."""
    from console.runtime.http_server import serve_http
    from ingest.formstack.spool import Drainer
    from webhooks.app import create

    with opened(settings, "webhooks") as (house, _):
        intake, stop = Intake(house), Event()
        drainer = Thread(
            target=Drainer(house, intake.accept).run, args=(stop,), name="spool", daemon=True
        )
        drainer.start()
        try:
            app = create(house, intake.accept_all)
            serve_http(
                app, "webhooks", settings.webhook_listen, settings.webhook_limit, FORMS_AT_ONCE
            )
        finally:
            stop.set()
            drainer.join(timeout=5)


def console(settings: Settings) -> None:
    """The pages and API that people use."""
    from console.app import FORM_LIMIT, create
    from console.runtime.http_server import serve_http
    from ingest.processing.parser_pool import isolated

    with opened(settings, "console") as (house, _), isolated(settings):
        serve_http(create(house), "console", settings.console_listen, FORM_LIMIT)


def worker(settings: Settings) -> None:
    """RQ worker on our queues; without Redis it looks into the database each second."""
    from console.runtime.worker import work

    look_less_often()
    work(settings)


def clock(settings: Settings) -> None:
    """Missed deadlines, lost wake-ups, and the waiting work itself when Redis is away."""
    from ingest.processing.parser_pool import isolated
    from workflow.operations.sweep import run as sweep

    look_less_often()
    with (
        opened(settings, "clock") as (house, waker),
        leasing(house, "clock") as leases,
        isolated(settings),
        stopping() as stop,
    ):
        sweep(
            house,
            stop,
            redis_away=lambda: waker is None or waker.away,
            mine=lambda: leases.held("clock"),
        )


PROCESSES: dict[str, Callable[[Settings], None]] = {
    "smtp": smtp,
    "imap": imap,
    "folder": folder,
    "webhooks": webhooks,
    "backfill": backfill,
    "console": console,
    "worker": worker,
    "clock": clock,
}
