"""Open the application context for one command: settings, migrated database, job notifier."""

import fcntl
import getpass
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from console.errors import EXIT_TRY_AGAIN, CommandError, describe_database_error

# `intake --help` answers at once: nothing heavy is imported before a command runs
if TYPE_CHECKING:
    from workflow.background_jobs import JobNotifier
    from workflow.context import AppContext
    from workflow.settings.settings import Settings

RETRY_SECONDS = 3.0  # between two attempts to reach a database that is away
F = TypeVar("F", bound=Callable[..., object])
# in INTAKE_HOME: where the embedded Valkey of a running `intake up` listens
REDIS_URL_FILE = "valkey/url"


def get_login_name() -> str:
    """Return the login name of the person at the keyboard, for the audit log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name; Python 3.13 raises OSError
        return f"uid {os.getuid()}"


def actor_option(command: F) -> F:
    """Add `--as USER`: the person the audit log names as the actor."""
    text = "Who does it, for the audit log. Default: INTAKE_USER, else your login name."
    return click.option(
        "--as", "actor", metavar="USER", envvar="INTAKE_USER", default=get_login_name, help=text
    )(command)


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


@contextmanager
def open_app_context() -> Iterator["AppContext"]:
    """Open a context with the settings of the environment and a migrated database.

    Raises the errors that `errors.to_command_error` translates.
    """
    from workflow.context import open_context
    from workflow.settings.settings import load_settings

    log_warnings_only()
    settings = load_settings()
    ensure_migrated(settings)
    notifier = create_notifier(settings)
    context = open_context(settings, notifier=notifier)
    try:
        yield context
    finally:
        context.close()
        if notifier is not None:
            notifier.close()


def log_warnings_only() -> None:
    """Send warnings and errors to standard error; standard output is the command's answer."""
    import logging

    import structlog

    from workflow.runtime import log

    log.configure("intake")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def find_redis_url(settings: "Settings") -> str:
    """Return the Redis URL: the setting, or the embedded Valkey of a running `intake up`.

    Empty when there is neither.
    """
    file = settings.home / REDIS_URL_FILE
    return settings.redis_url or (file.read_text().strip() if file.is_file() else "")


def create_notifier(settings: "Settings") -> "JobNotifier | None":
    """Return a job notifier, or None without Redis: the clock then finds what waits."""
    from workflow.background_jobs import JobNotifier

    url = find_redis_url(settings)
    return JobNotifier(url) if url else None


def ensure_migrated(settings: "Settings") -> None:
    """Create the default database on first use; refuse one with an older schema than the program.

    Raises CommandError for an old schema, and one of `engine.DATABASE_UNAVAILABLE` when an existing
    database does not answer.
    """
    from workflow.database.engine import DATABASE_UNAVAILABLE, migrate

    file = settings.home.absolute() / "intake.db"
    if settings.database_url or file.exists():
        if not is_migrated(settings):
            raise CommandError(
                "the database does not have this program's tables yet: run `intake migrate`",
                EXIT_TRY_AGAIN,
            )
        return
    with hold_lock(settings.home / "migrate.lock"):
        if file.exists():  # another command created it while this one waited
            return
        try:
            migrate(settings.database)
        # most likely a full disk: the next start must not take a half-made file for a database
        except DATABASE_UNAVAILABLE as error:
            for unfinished in settings.home.glob("intake.db*"):
                unfinished.unlink()
            raise CommandError(describe_database_error(error), EXIT_TRY_AGAIN) from None


def migrate_database(settings: "Settings") -> bool:
    """Upgrade the database to the newest schema; return False when it does not answer.

    Raises one of `engine.DATABASE_UNAVAILABLE` for the default database: a local file that fails is
    a fault of this machine.
    """
    from workflow.database.engine import DATABASE_UNAVAILABLE, migrate

    try:
        with hold_lock(settings.home / "migrate.lock"):
            migrate(settings.database)
    except DATABASE_UNAVAILABLE:
        if not settings.database_url:
            raise
        return False
    return True


def migrate_when_available(migrate: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Retry the migration until the database answers; runs in a thread of its own.

    `migrate` does what `migrate_database` does.
    """
    while True:
        time.sleep(RETRY_SECONDS)
        try:
            if migrate():
                break
        # most likely SQLAlchemy's, whose names are not loaded here
        except Exception as error:  # noqa: BLE001
            say(describe_database_error(error))
    say("the database answers, and has the newest schema")


def is_migrated(settings: "Settings") -> bool:
    """Return whether the database has the newest schema."""
    from workflow.database.engine import Store, is_schema_current

    store = Store(settings.database)
    try:
        return is_schema_current(store)
    finally:
        store.close()


@contextmanager
def hold_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file while the block lasts.

    Raises BlockingIOError when another process holds it and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # flock: the kernel releases it when the process dies, so no stale lock remains
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
