"""The schema version of the program is that of the newest migration.

An older program's database does not count as current.
"""

from alembic.script import ScriptDirectory
from sqlalchemy import text

from workflow.database.engine import SCHEMA_VERSION, Store, is_schema_current, make_alembic_config


def test_the_schema_the_program_asks_for_is_the_newest_there_is(sqlite_url: str) -> None:
    assert ScriptDirectory.from_config(make_alembic_config(sqlite_url)).get_heads() == [
        SCHEMA_VERSION
    ]


def test_a_database_of_an_older_program_is_not_current(database_url: str) -> None:
    store = Store(database_url)
    assert is_schema_current(store)
    with store.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert not is_schema_current(store)
    store.close()


def test_an_empty_database_is_not_current() -> None:
    store = Store("sqlite://")
    assert not is_schema_current(store)
    store.close()
