"""The processes, one function each: the code behind the lines of the Procfile."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from threading import Event, Thread

from sqlalchemy.exc import SQLAlchemyError

from console.bootstrap import ensure_migrated
from console.errors import EXIT_UNUSABLE, CommandError
from console.runtime.lifecycle import LoopProgress, catch_stop_signals, hold_leases, open_process
from console.runtime.memory import collect_garbage_less_often, return_large_blocks
from console.runtime.parent_death import is_under_supervisor
from ingest.intake import Intake, Transport
from workflow.context import AppContext
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.operations import item_faults, status
from workflow.operations.refusals import Refusal, RefusalCounter
from workflow.runtime import log
from workflow.settings.settings import Settings, load_settings

WEBHOOK_THREADS = 24  # threads: those that wait share a commit
NO_MAILBOX = (
    "no mailbox is configured, so there is nothing to read: set"
    " INTAKE_IMAP_URLS=imaps://user:password@host/INBOX, or [[mailbox]] in intake.toml"
)


def run_process(name: str) -> None:
    """Run a process of the table until SIGTERM or SIGINT, then finish the work in hand.

    It starts even when the database is away: listeners then answer "try again". Raises
    SettingsError or CommandError when it cannot start, OSError when its address is in use.
    """
    settings = load_settings()
    log.configure(name, as_json=settings.log_json)
    if not is_under_supervisor():  # which migrates
        try:
            ensure_migrated(settings)
        except DATABASE_UNAVAILABLE as error:
            log.database_unavailable(error)
    PROCESSES[name](settings)


def run_smtp(settings: Settings) -> None:
    """Listen for SMTP, and for LMTP where an address is set."""
    from ingest.smtp.listener import serve

    return_large_blocks()
    with open_process(settings, "smtp") as (context, _), RefusalCounter(context) as refusals:
        serve(
            settings,
            Intake(context).accept,
            partial(item_faults.record_unexpected_fault, context.store, context.clock),
            refusals.count_mail,
        )


def run_imap(settings: Settings) -> None:
    """Read each configured mailbox. Raises CommandError when there is none."""
    from ingest.imap.checkpoints import StoredCheckpoints
    from ingest.imap.mailboxes import list_mailboxes
    from ingest.imap.reader import ReaderContext, serve
    from ingest.imap.token_store import DatabaseTokenStore
    from ingest.imap.unfetched import dismiss_url_deliveries
    from workflow.operations.item_faults import ItemFaults

    if not list_mailboxes(settings):
        raise CommandError(NO_MAILBOX, EXIT_UNUSABLE)
    names = [f"imap {box.key}" for box in list_mailboxes(settings)]
    with (
        open_process(settings, "imap") as (context, _),
        hold_leases(context, *names) as leases,
        catch_stop_signals() as stop,
    ):
        serve(
            ReaderContext(
                settings=settings,
                accept=Intake(context).accept,
                checkpoints=StoredCheckpoints(context.store),
                get_deferred=partial(ItemFaults, context.store, context.clock, Transport.IMAP),
                record_look=partial(_record_mailbox_alive, context),
                stop=stop,
                record_late_fetch=partial(dismiss_url_deliveries, context),
                is_assigned=lambda key: leases.is_held(f"imap {key}"),
                get_token_store=partial(DatabaseTokenStore, context),
            )
        )


def _record_mailbox_alive(context: AppContext, mailbox: str) -> None:
    try:
        status.record_alive(context, mailbox)
    except (SQLAlchemyError, OSError) as error:
        log.fault("alive", error)


def run_folder(settings: Settings) -> None:
    """Watch the folder for workbooks."""
    from ingest.folder.watcher import get_folder_id, serve
    from ingest.processing.parser_pool import use_parser_pool

    name, progress = f"folder {get_folder_id(settings.dropbox)}", LoopProgress()
    with (
        open_process(settings, "folder", progress) as (context, _),
        hold_leases(context, name) as leases,
        use_parser_pool(settings),
        catch_stop_signals() as stop,
    ):
        serve(
            context,
            Intake(context).accept,
            stop,
            lambda: leases.is_held(name),
            progress.record_round,
        )


def run_backfill(settings: Settings) -> None:
    """Pull submissions that no webhook brought; without a token, wait to be stopped."""
    from ingest.formstack.api import FormstackApi
    from ingest.formstack.backfill import Backfill

    if not settings.formstack_token.get_secret_value():
        with catch_stop_signals() as stop:
            log.backfill_without_token()
            stop.wait()
        return
    with (
        open_process(settings, "backfill") as (context, _),
        hold_leases(context, "backfill") as leases,
        catch_stop_signals() as stop,
        FormstackApi(settings, context.clock, stop.wait) as api,
    ):
        Backfill(context, Intake(context).accept, api, lambda: leases.is_held("backfill")).run(stop)


def run_webhooks(settings: Settings) -> None:
    """Serve public HTTP for forms, and drain the spool of this host."""
    from console.runtime.http_server import serve_http
    from ingest.formstack.spool import SpoolDrainer
    from webhooks.app import create_app

    with open_process(settings, "webhooks") as (context, _), RefusalCounter(context) as refusals:
        intake, stop = Intake(context), Event()
        drainer = Thread(
            target=SpoolDrainer(context, intake.accept).run, args=(stop,), name="spool", daemon=True
        )
        drainer.start()
        try:
            app = create_app(context, intake.accept_all, refusals.count_form)
            serve_http(
                app,
                "webhooks",
                settings.webhook_listen,
                settings.webhook_limit,
                WEBHOOK_THREADS,
                partial(_count_large_form, refusals),
            )
        finally:
            stop.set()
            drainer.join(timeout=5)


def _count_large_form(refusals: RefusalCounter, status: int) -> None:
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        refusals.count_form(Refusal.TOO_LARGE)


def run_console(settings: Settings) -> None:
    """Serve the pages and the API."""
    from console.app import MAX_FORM_BYTES, create_app
    from console.runtime.http_server import serve_http
    from ingest.processing.parser_pool import use_parser_pool

    with open_process(settings, "console") as (context, _), use_parser_pool(settings):
        serve_http(create_app(context), "console", settings.console_listen, MAX_FORM_BYTES)


def run_worker(settings: Settings) -> None:
    """Run an RQ worker on our queues; without Redis it polls the database each second."""
    from console.runtime.worker import run_worker

    collect_garbage_less_often()
    run_worker(settings)


def run_clock(settings: Settings) -> None:
    """Raise missed deadlines, find lost notifications, and do the waiting work without Redis."""
    from ingest.processing.parser_pool import use_parser_pool
    from workflow.operations.sweep import run_clock as sweep

    collect_garbage_less_often()
    with (
        open_process(settings, "clock") as (context, notifier),
        hold_leases(context, "clock") as leases,
        use_parser_pool(settings),
        catch_stop_signals() as stop,
    ):
        sweep(
            context,
            stop,
            redis_away=lambda: notifier is None or notifier.is_redis_away,
            has_lease=lambda: leases.is_held("clock"),
        )


PROCESSES: dict[str, Callable[[Settings], None]] = {
    "smtp": run_smtp,
    "imap": run_imap,
    "folder": run_folder,
    "webhooks": run_webhooks,
    "backfill": run_backfill,
    "console": run_console,
    "worker": run_worker,
    "clock": run_clock,
}
