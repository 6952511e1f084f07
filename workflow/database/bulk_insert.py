"""Writing many rows of a table by the shortest way its database has.

One prepared statement, or COPY.

SQLAlchemy binds the values of each row by itself, which costs more than writing them; here each
column is bound in one go, by the very same types.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    ColumnElement,
    Connection,
    Table,
    any_,
    cast,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = dict[str, Any]


def insert_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all name the same columns; the others have their defaults.

    Raises what `Connection.execute` does; then none is written.
    """
    if not rows:
        return
    given = rows[0].keys()
    defaults = {
        c.name: made
        for c in table.columns
        if c.name not in given and (made := _default(c)) is not None
    }
    columns = [c for c in table.columns if c.name in given or c.name in defaults]
    values = (_bound(c, rows, defaults.get(c.name), connection) for c in columns)
    lines = list(zip(*values, strict=True))
    names = tuple(c.name for c in columns)
    if connection.dialect.name == "postgresql":
        from workflow.database import postgres  # noqa: PLC0415  # its driver is an extra

        postgres.copy_rows(connection, table.name, names, lines)
    else:
        statement = str(insert(table).compile(dialect=connection.dialect, column_keys=names))
        connection.exec_driver_sql(statement, lines)


def _default(column: Column[Any]) -> Any:
    default = column.default
    if default is None or not (default.is_scalar or default.is_callable):
        return None
    return default.arg(None) if default.is_callable else default.arg  # type: ignore[attr-defined]


def _bound(
    column: Column[Any], rows: Sequence[Row], default: Any, connection: Connection
) -> list[Any]:
    """The column's values as the driver takes them."""
    name, dialect = column.name, connection.dialect
    values = [default] * len(rows) if default is not None else [row[name] for row in rows]
    if isinstance(column.type, JSON):
        return list(map(_json, values))
    bind = column.type.dialect_impl(dialect).bind_processor(dialect)
    return values if bind is None else list(_once(values, bind))


def _json(value: Any) -> str:
    """As both databases take it.

    Most are empty, and asking the library for each would be a tenth of writing a row.
    """
    return "[]" if value == [] else "{}" if value == {} else json.dumps(value)


def _once(values: Iterable[Any], bind: Any) -> Iterator[Any]:
    """Bind each, the same one that follows itself only once.

    One moment, stage or word stands in most rows.
    """
    last: Any = object()
    bound: Any = None
    for value in values:
        if value is not last:
            last, bound = value, bind(value)
        yield bound


def is_one_of(
    session: Session, column: InstrumentedAttribute[Any], values: Collection[Any]
) -> ColumnElement[bool]:
    """That a column is one of these.

    PostgreSQL is told many as one: saying a thousand takes longer than looking.

    Many are to be looked up while `force_custom_plans`.
    """
    if len(values) > 1 and session.get_bind().dialect.name == "postgresql":
        return column == any_(cast(literal(list(values), ARRAY(column.type)), ARRAY(column.type)))
    return column.in_(values)


@contextmanager
def force_custom_plans(session: Session) -> Iterator[None]:
    """Have PostgreSQL plan each statement for the values it has, not once for all.

    And by the indexes.

    It guesses that a thousand values are half of a table whose rows nobody has counted yet, and
    would read it whole.
    """
    postgres = session.get_bind().dialect.name == "postgresql"
    if postgres:
        _plan(session, mode="force_custom_plan", reading="off")
    yield
    if postgres:  # checking foreign keys goes by plans too, one for each row
        _plan(session, mode="auto", reading="on")


def _plan(session: Session, *, mode: str, reading: str) -> None:
    """For this transaction."""
    session.execute(
        select(
            func.set_config("plan_cache_mode", mode, True),
            func.set_config("enable_seqscan", reading, True),
        )
    )


def reserve_ids(connection: Connection, table: Table, count: int) -> list[int]:
    """Take so many new ids of a table, in order."""
    if not count:
        return []
    if connection.dialect.name == "sqlite":  # one writer at a time, and this is it
        last = connection.scalar(select(func.max(table.c.id))) or 0
        return list(range(last + 1, last + count + 1))
    sequence = func.pg_get_serial_sequence(table.name, "id")
    each = select(func.array_agg(func.nextval(sequence))).select_from(
        func.generate_series(1, count)
    )
    return list(connection.scalar(each) or ())
