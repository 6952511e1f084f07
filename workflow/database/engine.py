"""The database: engine, transactions, and the wake-ups that fire once one has committed."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

if TYPE_CHECKING:
    from alembic.config import Config

WorkerNotifier = Callable[[str], None]
NOTIFICATIONS = "wakes"
DATABASE_UNAVAILABLE = (
    OperationalError,
    InterfaceError,
    NoConnection,
)  # the database does not do its work now; try again later
WRITE_TIMEOUT_SECONDS = (
    12.0  # for one statement on PostgreSQL: with connecting anew, a door has its answer within 25
)
READ_TIMEOUT_SECONDS = 60.0  # for one of those that count whole tables
BUSY_TIMEOUT_SECONDS = 20  # for the one writer that SQLite has at a time
WRITER_PAUSE_SECONDS = (
    0.15  # whoever waits for SQLite's one writer asks again every tenth of a second
)
# the newest migration; a test holds it to the scripts, so that no command has to load Alembic
SCHEMA_VERSION = "0022"


def _no_wake(name: str) -> None:
    del name


class Store:
    """Transactions on the one database.

    `waker` is called with each name passed to `notify_workers`, after the commit; it must not raise. Nothing
    is lost without it: the sweep finds what waits.
    """

    def __init__(self, url: str, waker: WorkerNotifier = _no_wake) -> None:
        self.engine = _engine(url)
        self.notify = waker

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a session; commit at the end, roll back on any exception, then fire the wake-ups."""
        with Session(self.engine, expire_on_commit=False) as session:
            with session.begin():
                yield session
            for name in session.info.get(NOTIFICATIONS, ()):
                self.notify(name)

    @contextmanager
    def read_only(self) -> Iterator[Session]:
        """Give a session that changes nothing: it waits for no writer and holds none up."""
        engine = self.engine.execution_options(
            sqlite_begin="DEFERRED", patience=READ_TIMEOUT_SECONDS
        )
        with Session(engine, expire_on_commit=False) as session:
            yield session

    def pause_for_writers(self) -> None:
        """Let others write between two batches of long work.

        Without it they would wait for all of it on SQLite.
        """
        if self.engine.dialect.name == "sqlite":
            time.sleep(WRITER_PAUSE_SECONDS)

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()


def notify_workers(session: Session, name: str) -> None:
    """Have a worker look for `name`'s work as soon as this transaction has committed."""
    session.info.setdefault(NOTIFICATIONS, {})[name] = True


def is_schema_current(store: Store) -> bool:
    """Return whether the database has this program's newest schema."""
    with store.read_only() as session:
        if not inspect(session.connection()).has_table("alembic_version"):
            return False
        version: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
    return version == SCHEMA_VERSION


def migrate(url: str) -> None:
    """Bring the database to the newest schema, making it if need be."""
    if (file := make_url(url).database) and url.startswith("sqlite"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    # a third of a second that only migrating has to wait for
    from alembic import command  # noqa: PLC0415

    command.upgrade(make_alembic_config(url), "head")


def make_alembic_config(url: str) -> "Config":
    """Alembic's settings for our migrations against this database."""
    from alembic.config import Config  # noqa: PLC0415  # as above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["url"] = url
    return config


def _engine(url: str) -> Engine:
    # hide_parameters: a database error's text must not carry a customer's words into a log.
    options: dict[str, Any] = {"hide_parameters": True, "pool_pre_ping": True}
    if not url.startswith("sqlite"):
        from workflow.database import postgres  # noqa: PLC0415  # its driver is an extra

        return postgres.create_bounded_engine(url, WRITE_TIMEOUT_SECONDS, **options)
    engine = create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}, **options
    )
    event.listen(engine, "connect", _sqlite_connect)
    event.listen(engine, "begin", _sqlite_begin)
    event.listen(engine, "handle_error", _sqlite_error)
    return engine


def _sqlite_connect(connection: Any, record: object) -> None:
    del record
    connection.isolation_level = None  # we say BEGIN ourselves
    busy = f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}"
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", busy):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: Connection) -> None:
    # A deferred transaction that turns into a writer fails at once when another wrote in between;
    # IMMEDIATE waits.
    mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
    connection.exec_driver_sql(f"BEGIN {mode}")


def _sqlite_error(context: ExceptionContext) -> None:
    # What was opened while the disk was read-only stays so when the disk no longer is: open it
    # anew. A cursor that is not closed would keep the old connection half open, and SQLite shares
    # what a process has open of a file.
    code = (
        getattr(context.original_exception, "sqlite_errorcode", 0) & 0xFF
    )  # without its extension
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}:
        context.is_disconnect = True
        if context.execution_context is not None:
            context.execution_context.cursor.close()
