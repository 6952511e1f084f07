"""PostgreSQL connections that give up.

A server that is stopped or cut off never answers, and nobody waits for ever.
"""

import time
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import capabilities, sql
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

RV = TypeVar("RV")

TIMEOUT_OPTION = (  # execution option: seconds the server may take over a statement, None for ever
    "patience"
)
PING_SECONDS = 5.0  # for a connection that lay in the pool
CANCEL_SECONDS = 2.0  # for it to stop what it was told to
CONNECTION_OPTIONS = {  # libpq's own words; what INTAKE_DATABASE_URL says goes before
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
# A door that went away in the middle of a transaction must not keep the others waiting. Set by a
# statement, because PgBouncer takes no such options at connecting.
SET_SESSION_TIMEOUTS = (
    "SELECT set_config('lock_timeout', '10s', false),"
    " set_config('idle_in_transaction_session_timeout', '60s', false)"
)


class NoAnswerError(psycopg.OperationalError):
    """The server has not answered for as long as we wait for it; the connection is closed."""


class BoundedConnection(psycopg.Connection[Any]):
    """A connection whose every statement ends after `patience` seconds.

    The server's own statement_timeout does not: a server that is stopped, or out of reach, counts
    no time. One that is merely slow is told to stop, and the connection stays good.
    """

    statement_seconds: float | None = PING_SECONDS

    def wait(self, gen: PQGen[RV], *args: Any, **more: Any) -> RV:
        """Do what `gen` does.

        Raises NoAnswerError, or QueryCanceled where the server still listens to us.
        """
        if self.statement_seconds is None:
            return super().wait(gen, *args, **more)
        try:
            return super().wait(_bounded(gen, self.statement_seconds), *args, **more)
        except NoAnswerError:
            return self._last_chance(gen)

    def _last_chance(self, gen: PQGen[RV]) -> RV:
        try:
            if (
                not capabilities.has_cancel_safe()
            ):  # libpq before 17: its way to cancel may hang as well
                raise NoAnswerError
            self.cancel_safe(timeout=CANCEL_SECONDS)
            return super().wait(_bounded(gen, CANCEL_SECONDS))
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.Error as error:
            self.pgconn.finish()
            raise NoAnswerError from error


def _bounded(gen: PQGen[RV], seconds: float) -> Generator[Wait, Ready | int, RV]:
    """Yield the same steps within a time for all together.

    Raises NoAnswerError when the next one takes longer.
    """
    until = time.monotonic() + seconds
    try:
        step = next(gen)
        while True:
            ready = yield step
            if not ready and time.monotonic() >= until:
                raise NoAnswerError
            step = gen.send(ready)
    except StopIteration as done:
        result: RV = done.value
        return result


def create_bounded_engine(url: str, seconds: float, **options: Any) -> Engine:
    """Engine whose statements are bounded in time.

    The bound holds where the execution option `patience` gives no other.
    """
    given = make_url(url).query
    arguments = {name: value for name, value in CONNECTION_OPTIONS.items() if name not in given}
    made = create_engine(
        url, pool_size=10, max_overflow=20, pool_timeout=10, connect_args=arguments, **options
    )
    event.listen(made, "do_connect", _connect)
    event.listen(made, "connect", _connected)
    event.listen(made, "checkin", _checked_in)

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        driven: Any = connection.connection.dbapi_connection
        driven.patience = connection.get_execution_options().get(TIMEOUT_OPTION, seconds)

    return made


def _connect(
    dialect: object, record: object, positional: list[Any], named: dict[str, Any]
) -> BoundedConnection:
    del dialect, record
    return BoundedConnection.connect(*positional, **named)


def _connected(connection: BoundedConnection, record: object) -> None:
    del record
    connection.autocommit = True
    connection.execute(SET_SESSION_TIMEOUTS)
    connection.autocommit = False


def _checked_in(connection: BoundedConnection | None, record: object) -> None:
    del record
    if connection is not None:  # else it was closed
        connection.statement_seconds = PING_SECONDS


def copy_rows(
    connection: Connection, table: str, columns: Sequence[str], lines: Sequence[Sequence[Any]]
) -> None:
    """Have the server take rows as they come, which costs it a third of as many INSERTs.

    Raises DBAPIError.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as into:
            for line in lines:
                into.write_row(line)
    except psycopg.Error as error:
        told = DBAPIError.instance(
            "COPY", None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
        )
        raise told from error
