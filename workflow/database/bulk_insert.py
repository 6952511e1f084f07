"""Bulk insert: one prepared statement on SQLite, COPY on PostgreSQL.

SQLAlchemy binds the values of each row separately, which costs more than writing them; here each
column is bound in one go, by the same column types.
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
    inspect,
    literal,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

Row = dict[str, Any]


def insert_rows(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows that all name the same columns; the other columns get their defaults.

    Raises what `Connection.execute` raises; then no row is written.
    """
    if not rows:
        return
    columns: list[Column[Any]] = []
    values: list[list[Any]] = []
    for column in table.columns:
        default = None
        if column.name not in rows[0]:
            default = _get_default(column)
            if default is None:
                continue
        columns.append(column)
        values.append(_bind(column, rows, default, connection))
    lines = list(zip(*values, strict=True))
    names = tuple(column.name for column in columns)
    if connection.dialect.name == "postgresql":
        from workflow.database import postgres  # noqa: PLC0415  # its driver is an extra

        postgres.copy_rows(connection, table.name, names, lines)
    else:
        statement = str(insert(table).compile(dialect=connection.dialect, column_keys=names))
        connection.exec_driver_sql(statement, lines)


def _get_default(column: Column[Any]) -> Any:
    """Return a column's default value; None without one, or where the database makes it."""
    default = column.default
    if default is None or not (default.is_scalar or default.is_callable):
        return None
    return default.arg(None) if default.is_callable else default.arg  # type: ignore[attr-defined]


def _bind(
    column: Column[Any], rows: Sequence[Row], default: Any, connection: Connection
) -> list[Any]:
    """Return the column's values as the driver takes them; all `default` unless it is None."""
    name, dialect = column.name, connection.dialect
    values = [default] * len(rows) if default is not None else [row[name] for row in rows]
    if isinstance(column.type, JSON):
        return list(map(_dump_json, values))
    bind = column.type.dialect_impl(dialect).bind_processor(dialect)
    return values if bind is None else list(_bind_runs(values, bind))


def _dump_json(value: Any) -> str:
    # Most values are empty, and calling the library for each takes a tenth of writing a row.
    if value == []:
        return "[]"
    if value == {}:
        return "{}"
    return json.dumps(value)


def _bind_runs(values: Iterable[Any], bind: Any) -> Iterator[Any]:
    """Bind each value, a run of the same object only once.

    Most rows of a batch share one time, stage or status.
    """
    last: Any = object()
    bound_value: Any = None
    for value in values:
        if value is not last:
            last, bound_value = value, bind(value)
        yield bound_value


def assign_ids(session: Session) -> None:
    """Give ids to the new rows of a session, so that one statement a table inserts them.

    Otherwise the ORM asks SQLite for the id of each row by a statement of its own.
    """
    rows_by_table: dict[Table, list[Any]] = {}
    for row in sorted(session.new, key=lambda row: inspect(row).insert_order or 0):
        table = inspect(type(row)).local_table
        if isinstance(table, Table) and "id" in table.c and row.id is None:
            rows_by_table.setdefault(table, []).append(row)
    for table, rows in rows_by_table.items():
        ids = reserve_ids(session.connection(), table, len(rows))
        for row, number in zip(rows, ids, strict=True):
            row.id = number


def is_one_of(
    session: Session, column: InstrumentedAttribute[Any], values: Collection[Any]
) -> ColumnElement[bool]:
    """Return the condition that a column has one of these values.

    PostgreSQL gets several values as one array parameter: parsing a thousand parameters takes
    longer than finding the rows. Use it inside `force_custom_plans` when there are many.
    """
    if len(values) > 1 and session.get_bind().dialect.name == "postgresql":
        return column == any_(cast(literal(list(values), ARRAY(column.type)), ARRAY(column.type)))
    return column.in_(values)


@contextmanager
def force_custom_plans(session: Session) -> Iterator[None]:
    """Make PostgreSQL plan each statement for its actual values, and by the indexes.

    It guesses that a thousand values match half of a table that was never analyzed, and would read
    the table completely.
    """
    is_postgres = session.get_bind().dialect.name == "postgresql"
    if is_postgres:
        _set_planner(session, plan_cache_mode="force_custom_plan", sequential_scan="off")
    yield
    # Back again before the inserts: the check of each foreign key is a planned statement as well.
    if is_postgres:
        _set_planner(session, plan_cache_mode="auto", sequential_scan="on")


def _set_planner(session: Session, *, plan_cache_mode: str, sequential_scan: str) -> None:
    """Set options of PostgreSQL's planner until the end of the transaction."""
    session.execute(
        select(
            func.set_config("plan_cache_mode", plan_cache_mode, True),
            func.set_config("enable_seqscan", sequential_scan, True),
        )
    )


def reserve_ids(connection: Connection, table: Table, count: int) -> list[int]:
    """Return `count` new ids of a table, ascending; nobody else gets them."""
    if not count:
        return []
    if connection.dialect.name == "sqlite":  # it has one writer at a time, and we are it
        last = connection.scalar(select(func.max(table.c.id))) or 0
        return list(range(last + 1, last + count + 1))
    sequence = func.pg_get_serial_sequence(table.name, "id")
    each = select(func.array_agg(func.nextval(sequence))).select_from(
        func.generate_series(1, count)
    )
    return list(connection.scalar(each) or ())
