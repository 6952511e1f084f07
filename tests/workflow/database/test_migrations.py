"""Every schema that was ever released is brought forward with its data, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    LargeBinary,
    MetaData,
    Table,
    insert,
    select,
    text,
)
from sqlalchemy.types import Boolean, Integer

from tests.support.processes import until
from tests.support.servers import Postgres
from workflow.customers import company_numbers
from workflow.database import engine
from workflow.database.engine import Store, is_schema_current, make_alembic_config, migrate
from workflow.models.core import Ticket

WORDS = {  # columns that hold one of our words; anything else is made up by its type
    "stage": "1-Submitted",
    "status": "open",
    "format": "mail",
    "state": "processed",
    "outcome": "opened",
    "role": "agent",
    "template": "Billing Support New Ticket",
    "milestone": "Customer Notified",
    "direction": "in",
    "transport": "smtp",
    "resolution": "Yes",
}
RELEASED = [
    r.revision
    for r in ScriptDirectory.from_config(make_alembic_config("sqlite://")).walk_revisions()
][::-1]


def _find_known_value(column: str, kind: str) -> Any:
    """A word the models know, where the column holds one of ours."""
    model = next(
        (t.c[column] for t in Ticket.metadata.tables.values() if t.name == kind and column in t.c),
        None,
    )
    words = getattr(getattr(model, "type", None), "enums", None)
    return words[0] if words else WORDS.get(column)


def make_value(column: Column[Any], n: int) -> Any:
    if column.foreign_keys:
        return n
    if (word := _find_known_value(column.name, column.table.name)) is not None:
        return word
    values: dict[type, Any] = {
        JSON: {} if column.name in {"envelope", "detail"} else [],
        DateTime: datetime(2026, 3, 2, 15, n, tzinfo=UTC),
        LargeBinary: b"sealed",
        Boolean: False,
        Integer: n,
    }
    return next(
        (v for kind, v in values.items() if isinstance(column.type, kind)), f"{column.name} {n}"
    )


def sort_tables(tables: MetaData) -> list[Table]:
    return [t for t in tables.sorted_tables if t.name != "alembic_version"]


def is_ours(name: str | None, kind: str = "table", parents: Any = None) -> bool:
    """Return whether we write it: the database itself keeps the words of tickets."""
    del parents
    return kind != "table" or not (name or "").startswith("ticket_words")


def reflect_tables(connection: Connection) -> MetaData:
    tables = MetaData()
    tables.reflect(connection, only=lambda name, _: is_ours(name))
    return tables


def dump_tables(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table there is."""
    with store.engine.connect() as connection:
        tables = sort_tables(reflect_tables(connection))
        return {t.name: [dict(r._mapping) for r in connection.execute(select(t))] for t in tables}


def fill_tables(store: Store) -> None:
    with store.engine.begin() as connection:
        for table in sort_tables(reflect_tables(connection)):
            for n in (1, 2):
                connection.execute(
                    insert(table).values({c.name: make_value(c, n) for c in table.columns})
                )


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a table in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'old.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    server.run("CREATE DATABASE released")
    yield server.build_url("released")
    server.drop("released")


@pytest.mark.parametrize("revision", RELEASED)
def test_a_database_with_data_comes_forward_from_every_released_schema(
    empty_url: str, revision: str
) -> None:
    command.upgrade(make_alembic_config(empty_url), revision)
    store = Store(empty_url)
    fill_tables(store)
    before = dump_tables(store)
    migrate(empty_url)
    after = dump_tables(store)
    for table, rows in before.items():
        assert len(rows) == 2, table
        if table == "companies" and revision < "0027":  # normal forms since then
            rows = [  # noqa: PLW2901
                {
                    **row,
                    "key": row["name"],
                    "number": company_numbers.normalize(row["number"]),
                }
                for row in rows
            ]
        kept = [{name: row[name] for name in rows[0]} for row in after[table]]
        assert kept == rows, table
    with store.read_only() as session:
        for mapper in Ticket.registry.mappers:
            assert len(session.scalars(select(mapper.class_)).unique().all()) in {0, 2}, mapper
        if empty_url.startswith("sqlite"):
            assert session.execute(text("PRAGMA foreign_key_check")).all() == []
        compared = MigrationContext.configure(
            session.connection(), opts={"compare_type": True, "include_name": is_ours}
        )
        assert compare_metadata(compared, Ticket.metadata) == []
    store.close()


def has_waited_for_lock(store: Store) -> bool:
    """Return whether a statement has waited for a lock for a second."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND query_start < clock_timestamp() - interval '1 second'"
    )
    with store.read_only() as session:
        return bool(session.scalar(waiting))


def test_a_migration_may_take_longer_than_a_statement_of_the_desk(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WRITE_TIMEOUT_SECONDS", 0.3)
    postgres.run("CREATE DATABASE slow")
    url = postgres.build_url("slow")
    store = Store(url)
    command.upgrade(make_alembic_config(url), "0021")
    with store.transaction() as session:
        session.execute(text("LOCK TABLE messages"))
        migration = Thread(target=migrate, args=[url])
        migration.start()
        until(lambda: has_waited_for_lock(store))
    migration.join()
    assert is_schema_current(store)
    store.close()
    postgres.drop("slow")
