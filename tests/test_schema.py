"""Migrations and models are one schema, on both databases, and no older program's database is taken for ours."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from workflow.models import Base
from workflow.store import SCHEMA, Store, alembic_config, is_current


def test_migrations_make_what_the_models_say(database_url: str) -> None:
    store = Store(database_url)
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    store.close()


def test_down_to_nothing_and_up_again(database_url: str) -> None:
    config = alembic_config(database_url)
    command.downgrade(config, "base")
    store = Store(database_url)
    assert set(inspect(store.engine).get_table_names()) <= {"alembic_version"}
    assert not is_current(store)
    command.upgrade(config, "head")
    assert is_current(store)
    store.close()


def test_the_schema_the_program_asks_for_is_the_newest_there_is(sqlite_url: str) -> None:
    assert ScriptDirectory.from_config(alembic_config(sqlite_url)).get_heads() == [SCHEMA]
    store = Store(sqlite_url)
    with store.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert not is_current(store)
    store.close()
