"""The database: migrations are the models, times are aware, a transaction is whole."""

from datetime import UTC, timedelta, timezone

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError

from tests.support.context import START, RecordingNotifier, create_staff, open_ticket
from workflow.context import AppContext
from workflow.database.engine import Store, make_alembic_config, migrate, notify_workers
from workflow.models.core import Heartbeat, Staff, Ticket
from workflow.tickets import search


def compare_schema(store: Store) -> list[object]:
    with store.engine.connect() as connection:
        options = {
            "compare_type": True,
            "include_name": lambda name, kind, _: (
                kind != "table" or not search.is_index_table(name or "")
            ),
        }
        found: list[object] = compare_metadata(
            MigrationContext.configure(connection, opts=options), Ticket.metadata
        )
        return found


def test_the_migrations_make_what_the_models_say_and_can_be_undone(database_url: str) -> None:
    store = Store(database_url)
    assert compare_schema(store) == []
    command.downgrade(make_alembic_config(database_url), "base")
    assert set(inspect(store.engine).get_table_names()) <= {"alembic_version"}
    migrate(database_url)
    migrate(database_url)  # again changes nothing
    assert compare_schema(store) == []
    store.close()


def test_a_difference_would_be_seen(database_url: str) -> None:
    store = Store(database_url)
    with store.engine.begin() as connection:
        connection.execute(text("DROP TABLE answers"))
    assert compare_schema(store)
    store.close()


def test_a_naive_time_cannot_be_stored(any_context: AppContext) -> None:
    with pytest.raises(StatementError, match="naive"), any_context.store.transaction() as session:
        session.add(Heartbeat(name="x", at=START.replace(tzinfo=None)))


def test_a_naive_time_cannot_be_compared_with_either(any_context: AppContext) -> None:
    naive = START.replace(tzinfo=None)
    with pytest.raises(StatementError, match="naive"), any_context.store.read_only() as session:
        session.scalars(select(Heartbeat).where(Heartbeat.at < naive)).all()


def test_times_come_back_as_aware_utc_whatever_zone_they_went_in_with(
    any_context: AppContext,
) -> None:
    local = START.astimezone(timezone(timedelta(hours=-7)))
    with any_context.store.transaction() as session:
        session.add(Heartbeat(name="x", at=local))
    with any_context.store.read_only() as session:
        at = session.get_one(Heartbeat, "x").at
        assert at == START
        assert at.utcoffset() == timedelta(0)
        assert (
            session.scalar(select(Heartbeat.name).where(Heartbeat.at == local.astimezone(UTC)))
            == "x"
        )


def test_a_transaction_is_whole_or_not_at_all_and_wakes_only_after_its_commit(
    any_context: AppContext, notified_queues: RecordingNotifier
) -> None:
    # one transaction
    with pytest.raises(IntegrityError), any_context.store.transaction() as session:  # noqa: PT012
        create_staff(session, "Olga")
        notify_workers(session, "send")
        create_staff(session, "Olga")
    with any_context.store.read_only() as session:
        assert session.scalars(select(Staff)).all() == []
    assert notified_queues == []
    with any_context.store.transaction() as session:
        notify_workers(session, "send")
        notify_workers(session, "send")
    assert notified_queues == ["send"]


def test_an_error_of_the_database_hides_what_was_to_be_stored(any_context: AppContext) -> None:
    with pytest.raises(SQLAlchemyError) as raised, any_context.store.transaction() as session:
        session.execute(text("INSERT INTO nowhere (a) VALUES (:a)"), {"a": "Jane Roe"})
    assert "Jane" not in str(raised.value)


def test_a_reader_neither_waits_for_a_writer_nor_holds_one_up(any_context: AppContext) -> None:
    number = open_ticket(any_context)
    with any_context.store.read_only() as reader:
        assert reader.get_one(Ticket, number).link == ""
        with any_context.store.transaction() as session:
            session.get_one(Ticket, number).link = "https://x"
            session.flush()
            with any_context.store.read_only() as other:
                assert other.get_one(Ticket, number).link == ""
    with any_context.store.read_only() as after:
        assert after.get_one(Ticket, number).link == "https://x"


def test_foreign_keys_hold(any_context: AppContext) -> None:
    with pytest.raises(IntegrityError), any_context.store.transaction() as session:
        session.execute(
            text("INSERT INTO ticket_relations (ticket_id, other_id, reason) VALUES (1, 2, 'x')")
        )


def test_sqlite_syncs_every_commit(context: AppContext) -> None:
    with context.store.engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {p}").scalar()
            for p in ("journal_mode", "synchronous")
        ]
    assert pragmas == ["wal", 2]
