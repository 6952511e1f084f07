"""PostgreSQL connections with a time limit for each statement.

A server that is stopped or cut off from the network never answers; nobody waits for it for ever.
"""

import time
from collections.abc import Generator, Sequence
from typing import Any, TypeVar, cast

import psycopg
from psycopg import capabilities, sql
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

RV = TypeVar("RV")

# Name of an execution option: seconds the server may take for a statement, None for no limit.
TIMEOUT_OPTION = "statement_seconds"
PING_SECONDS = 5.0  # for the check of a connection that comes out of the pool
CANCEL_SECONDS = 2.0  # for the server to cancel a statement
CONNECTION_OPTIONS = {  # of libpq; INTAKE_DATABASE_URL overrides them
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
# A process that hangs in the middle of a transaction must not keep the others waiting. Set by a
# statement, because PgBouncer accepts no such options at connecting.
SET_SESSION_TIMEOUTS = (
    "SELECT set_config('lock_timeout', '10s', false),"
    " set_config('idle_in_transaction_session_timeout', '60s', false)"
)
# SQLSTATE of a table or a column that does not exist: the database answers, but it has not been
# migrated yet.
MISSING_SCHEMA = frozenset({"42P01", "42703"})


class NoAnswerError(psycopg.OperationalError):
    """The server did not answer in time; the connection is closed."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose every statement ends after `statement_seconds`.

    The server's own statement_timeout does not do that: a server that is stopped, or out of reach,
    counts no time. A server that is merely slow is asked to cancel, and the connection stays good.
    """

    statement_seconds: float | None = PING_SECONDS

    def wait(self, gen: PQGen[RV], *args: Any, **more: Any) -> RV:
        """Wait for the end of a statement.

        Raises NoAnswerError, or QueryCanceled when the server could still be reached.
        """
        if self.statement_seconds is None:
            return super().wait(gen, *args, **more)
        try:
            return super().wait(_limit_time(gen, self.statement_seconds), *args, **more)
        except NoAnswerError:
            return self._cancel(gen)

    def _cancel(self, gen: PQGen[RV]) -> RV:
        """Ask the server to cancel the statement; close the connection when that fails as well."""
        try:
            # The cancel request of libpq before 17 has no time limit and may hang as well.
            if not capabilities.has_cancel_safe():
                raise NoAnswerError
            self.cancel_safe(timeout=CANCEL_SECONDS)
            return super().wait(_limit_time(gen, CANCEL_SECONDS))
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.Error as error:
            self.pgconn.finish()
            raise NoAnswerError from error


def _limit_time(gen: PQGen[RV], seconds: float) -> Generator[Wait, Ready | int, RV]:
    """Yield the steps of `gen`, with one time limit for all of them together.

    Raises NoAnswerError when it is exceeded.
    """
    deadline = time.monotonic() + seconds
    try:
        step = next(gen)
        while True:
            ready = yield step
            if not ready and time.monotonic() >= deadline:
                raise NoAnswerError
            step = gen.send(ready)
    except StopIteration as done:
        result: RV = done.value
        return result


def create_bounded_engine(url: str, seconds: float, **options: Any) -> Engine:
    """Return an engine whose statements end after `seconds`, or after the option TIMEOUT_OPTION."""
    url_options = make_url(url).query
    arguments = {
        name: value for name, value in CONNECTION_OPTIONS.items() if name not in url_options
    }
    engine = create_engine(
        url, pool_size=10, max_overflow=20, pool_timeout=10, connect_args=arguments, **options
    )
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "connect", _set_session_timeouts)
    event.listen(engine, "checkin", _reset_limit)
    event.listen(engine, "handle_error", _report_missing_schema, retval=True)

    @event.listens_for(engine, "begin")
    def _set_limit(connection: Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.statement_seconds = connection.get_execution_options().get(TIMEOUT_OPTION, seconds)

    return engine


def _connect(
    dialect: object, record: object, positional: list[Any], named: dict[str, Any]
) -> BoundedConnection:
    del dialect, record
    return BoundedConnection.connect(*positional, **named)


def _set_session_timeouts(connection: BoundedConnection, record: object) -> None:
    del record
    connection.autocommit = True
    connection.execute(SET_SESSION_TIMEOUTS)
    connection.autocommit = False


def _reset_limit(connection: BoundedConnection | None, record: object) -> None:
    del record
    if connection is not None:  # None when it was closed
        connection.statement_seconds = PING_SECONDS


def _report_missing_schema(context: ExceptionContext) -> OperationalError | None:
    """Return the error to raise for a missing table or column; None leaves the error as it is.

    It is an OperationalError as it is on SQLite: try again later. A process that started while the
    database was away may find it back before `intake migrate` or `intake up` has migrated it.
    """
    error = context.sqlalchemy_exception
    if (
        not isinstance(error, DBAPIError)
        or getattr(error.orig, "sqlstate", None) not in MISSING_SCHEMA
    ):
        return None
    return OperationalError(
        error.statement,
        error.params,
        cast("BaseException", error.orig),
        hide_parameters=error.hide_parameters,
        connection_invalidated=error.connection_invalidated,
    )


def copy_rows(
    connection: Connection, table: str, columns: Sequence[str], lines: Sequence[Sequence[Any]]
) -> None:
    """Insert rows by COPY, which costs the server a third of the time of as many INSERTs.

    Raises DBAPIError.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as stream:
            for line in lines:
                stream.write_row(line)
    except psycopg.Error as error:
        # As SQLAlchemy wraps the errors of its own statements, without the values in the text.
        wrapped = DBAPIError.instance(
            "COPY", None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        )
        raise wrapped from error
