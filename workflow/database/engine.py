"""The database engine, its transactions, and the wake-ups sent to workers after a commit."""

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
NOTIFICATIONS = "wakes"  # key in Session.info
DEADLOCK = "40P01"  # PostgreSQL's code (appendix A of its manual)
# Raised when the database does not work at the moment: try again later.
DATABASE_UNAVAILABLE = (OperationalError, InterfaceError, NoConnection)
# For one statement on PostgreSQL: with connecting again, a channel has its answer within 25 s.
WRITE_TIMEOUT_SECONDS = 12.0
READ_TIMEOUT_SECONDS = 60.0  # for statements that count whole tables
BUSY_TIMEOUT_SECONDS = 20  # how long a writer waits for the one writer that SQLite has at a time
TURN_SECONDS = 0.002  # until a waiting writer asks again; SQLite itself waits up to 0.1 s
WRITER_PAUSE_SECONDS = 10 * TURN_SECONDS  # enough for each waiting writer to ask
# The newest migration. A test compares it with the scripts, so that no command has to load Alembic.
SCHEMA_VERSION = "0031"


def is_deadlock(error: OperationalError) -> bool:
    """Return whether PostgreSQL ended a statement because two transactions waited for each other.

    Whoever had a savepoint can go on from there. SQLite has one writer, and no such thing.
    """
    return getattr(error.orig, "sqlstate", "") == DEADLOCK


def _notify_nobody(name: str) -> None:
    del name


class Store:
    """Transactions on the one database.

    `notifier` is called after a commit with each name that was passed to `notify_workers`; it must
    not raise. Nothing is lost without it: the sweep finds waiting work.
    """

    def __init__(self, url: str, notifier: WorkerNotifier = _notify_nobody) -> None:
        self.engine = _create_engine(url)
        self.notify = notifier

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Give a session; commit at the end and send the wake-ups, roll back on any exception."""
        with Session(self.engine, expire_on_commit=False) as session:
            with session.begin():
                yield session
            for name in session.info.get(NOTIFICATIONS, ()):
                self.notify(name)

    @contextmanager
    def read_only(self) -> Iterator[Session]:
        """Give a session that changes nothing: it neither waits for a writer nor blocks one."""
        engine = self.engine.execution_options(
            sqlite_begin="DEFERRED", statement_seconds=READ_TIMEOUT_SECONDS
        )
        with Session(engine, expire_on_commit=False) as session:
            yield session

    def pause_for_writers(self) -> None:
        """Let others write between two batches of long work; on SQLite they would wait for all."""
        if self.engine.dialect.name == "sqlite":
            time.sleep(WRITER_PAUSE_SECONDS)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def notify_workers(session: Session, name: str) -> None:
    """Wake a worker for the queue `name` as soon as this transaction has committed."""
    session.info.setdefault(NOTIFICATIONS, {})[name] = True


def is_schema_current(store: Store) -> bool:
    """Return whether the database has the schema of this version of the program."""
    with store.read_only() as session:
        if not inspect(session.connection()).has_table("alembic_version"):
            return False
        version: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
    return version == SCHEMA_VERSION


def migrate(url: str) -> None:
    """Upgrade the database to the newest schema; create it when there is none."""
    file = make_url(url).database
    if file and url.startswith("sqlite"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    # Importing Alembic takes a third of a second, which only a migration has to wait for.
    from alembic import command  # noqa: PLC0415

    command.upgrade(make_alembic_config(url), "head")


def make_alembic_config(url: str) -> "Config":
    """Return Alembic's configuration for our migrations on this database."""
    from alembic.config import Config  # noqa: PLC0415  # as above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["url"] = url
    return config


def _create_engine(url: str) -> Engine:
    # hide_parameters: the text of a database error must not carry a customer's words into a log.
    options: dict[str, Any] = {"hide_parameters": True, "pool_pre_ping": True}
    if not url.startswith("sqlite"):
        from workflow.database import postgres  # noqa: PLC0415  # its driver is an extra

        return postgres.create_bounded_engine(url, WRITE_TIMEOUT_SECONDS, **options)
    engine = create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}, **options
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "handle_error", _handle_sqlite_error)
    return engine


def _configure_sqlite(connection: Any, record: object) -> None:
    del record
    connection.isolation_level = None  # _begin_sqlite begins the transactions
    busy_timeout = f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000:.0f}"
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", busy_timeout):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that begins to write fails at once when another one wrote meanwhile; an
    # immediate one waits for its turn.
    mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
    if mode == "IMMEDIATE":
        _wait_for_turn(connection)
    else:
        connection.exec_driver_sql(f"BEGIN {mode}")


def _wait_for_turn(connection: Connection) -> None:
    """Begin a transaction that writes, as soon as no other one does.

    SQLite's own waiting doubles its pauses up to a tenth of a second, so that a worker with short
    pauses between its transactions would keep a listener waiting for seconds.
    """
    raw: Any = connection.connection.driver_connection
    until = time.monotonic() + BUSY_TIMEOUT_SECONDS
    raw.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < until:
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(TURN_SECONDS)
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # its error is one of SQLAlchemy's
    finally:
        raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_SECONDS * 1000:.0f}")


def _handle_sqlite_error(context: ExceptionContext) -> None:
    # A connection opened while the disk was read-only stays read-only when the disk is writable
    # again: replace it. The cursor is closed because it would keep the old connection half open,
    # and SQLite shares one open file between all connections of a process.
    extended_code = getattr(context.original_exception, "sqlite_errorcode", 0)
    code = extended_code & 0xFF  # the primary result code
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}:
        context.is_disconnect = True
        if context.execution_context is not None:
            context.execution_context.cursor.close()
