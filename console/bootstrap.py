"""Opening the house for one command: settings, a migrated database, a way to wake the workers."""

import fcntl
import getpass
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from console.errors import TRY_AGAIN, Fault, database

if (
    TYPE_CHECKING
):  # `intake --help` answers at once: nothing heavy is imported before a command runs
    from workflow.background_jobs import Waker
    from workflow.context import House
    from workflow.settings.settings import Settings

RETRY_SECONDS = 3.0
F = TypeVar("F", bound=Callable[..., object])
REDIS_FILE = (
    "valkey/url"  # in INTAKE_HOME: where the embedded Valkey of a running `intake up` listens
)


def login() -> str:
    """The name of who is at the keyboard, for the audit trail."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name; Python 3.13 raises OSError
        return f"uid {os.getuid()}"


def acting(command: F) -> F:
    """Add `--as USER`: who does it, for the audit trail."""
    said = "Who does it, for the audit trail. Default: INTAKE_USER, else your login name."
    return click.option(
        "--as", "actor", metavar="USER", envvar="INTAKE_USER", default=login, help=said
    )(command)


def as_json(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "json_wanted", is_flag=True, help="Print JSON, for scripts.")(
        command
    )


@contextmanager
def house() -> Iterator["House"]:
    """The house under the settings of the environment, migrated.

    Raises what `faults.told` has words for.
    """
    from workflow.context import open_house
    from workflow.settings.settings import load

    quiet_log()
    settings = load()
    ensure_migrated(settings)
    waker = waker_of(settings)
    opened = open_house(settings, waker=waker)
    try:
        yield opened
    finally:
        opened.close()
        if waker is not None:
            waker.close()


def quiet_log() -> None:
    """Standard output is the command's answer.

    The log goes to standard error, and only what is wrong.
    """
    import logging

    import structlog

    from workflow.runtime import log

    log.setup("intake")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def redis_url(settings: "Settings") -> str:
    """Return where to leave wake-ups: the setting, or the embedded Valkey of `intake up`.

    "" for nowhere.
    """
    file = settings.home / REDIS_FILE
    return settings.redis_url or (file.read_text().strip() if file.is_file() else "")


def waker_of(settings: "Settings") -> "Waker | None":
    """A way to wake the workers; without one the clock finds what waits."""
    from workflow.background_jobs import Waker

    url = redis_url(settings)
    return Waker(url) if url else None


def ensure_migrated(settings: "Settings") -> None:
    """Make the default database on first use; refuse one that is older than the program.

    Raises one of `store.AWAY` when a database that was made before does not answer.
    """
    from workflow.database.engine import AWAY, migrate

    file = settings.home.absolute() / "intake.db"
    if settings.database_url or file.exists():
        if not is_migrated(settings):
            raise Fault(
                "the database has not this program's tables yet: run `intake migrate`", TRY_AGAIN
            )
        return
    with locked(settings.home / "migrate.lock"):
        if file.exists():
            return
        try:
            migrate(settings.database)
        # a full disk, most likely: what is half made must not stand for a database next time
        except AWAY as error:
            for half in settings.home.glob("intake.db*"):
                half.unlink()
            raise Fault(database(error), TRY_AGAIN) from None


def migrated(settings: "Settings") -> bool:
    """Bring the database to the newest schema; False when it does not answer.

    The default one answers, or raises.
    """
    from workflow.database.engine import AWAY, migrate

    try:
        with locked(settings.home / "migrate.lock"):
            migrate(settings.database)
    except AWAY:
        if not settings.database_url:
            raise
        return False
    return True


def migrate_later(settings: "Settings", say: Callable[[str], None]) -> None:
    """Bring a database that was away to the newest schema once it answers.

    For a thread of its own.
    """
    from sqlalchemy.exc import SQLAlchemyError

    while True:
        time.sleep(RETRY_SECONDS)
        try:
            if migrated(settings):
                break
        except (SQLAlchemyError, OSError) as error:
            say(database(error))
    say("the database answers, and has the newest schema")


def is_migrated(settings: "Settings") -> bool:
    """Return whether the database has the newest schema."""
    from workflow.database.engine import Store, is_current

    store = Store(settings.database)
    try:
        return is_current(store)
    finally:
        store.close()


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file while the block lasts.

    Raises BlockingIOError when it is taken and we are not to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
