"""The schema this program asks for is the newest there is.

And an older program's database is not taken for ours.
"""

from alembic.script import ScriptDirectory
from sqlalchemy import text

from workflow.database.engine import SCHEMA, Store, alembic_config, is_current


def test_the_schema_the_program_asks_for_is_the_newest_there_is(sqlite_url: str) -> None:
    assert ScriptDirectory.from_config(alembic_config(sqlite_url)).get_heads() == [SCHEMA]


def test_a_database_of_an_older_program_is_not_current(database_url: str) -> None:
    store = Store(database_url)
    assert is_current(store)
    with store.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert not is_current(store)
    store.close()


def test_an_empty_database_is_not_current() -> None:
    store = Store("sqlite://")
    assert not is_current(store)
    store.close()
