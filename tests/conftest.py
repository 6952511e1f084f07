"""Fixtures of the whole suite: databases, the application context, Valkey and an SMTP relay."""

import gc
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from math import ceil
from pathlib import Path

import pytest
import structlog
from redis import Redis

from tests.support.context import HandClock, RecordingNotifier
from tests.support.servers import (
    TEMPLATE,
    Postgres,
    Relay,
    StatementCache,
    Valkey,
    create_memory_folder,
    run_migrated,
)
from workflow.context import AppContext, open_context
from workflow.database import engine as database_engine
from workflow.database.engine import migrate
from workflow.settings.settings import Settings

_numbers = count(1)
# Left out by --fast: stories, browser and chaos; pages, each by an app of its own with somebody
# signed in; and modules with thousands of files or generated cases, whole processes or limits.
SLOW_FOLDERS = {"acceptance", "pages"}
# Tests of up to two minutes, most of it spent waiting.
LONGEST_MODULES = {"test_chaos.py", "test_database_away.py"}
MEMORY_DISK = "/dev/shm"  # noqa: S108  # pytest names its folders by number and user
MEMORY_NEEDED = 4 * 1024**3  # bytes; a run of all tests writes less than one
SLOW_MODULES = {
    "test_actions.py",
    "test_auth_oidc.py",
    "test_backfill.py",
    "test_bounds.py",
    "test_bulk.py",
    "test_conservation.py",
    "test_crash_loops.py",
    "test_deliveries.py",
    "test_fidelity.py",
    "test_formats.py",
    "test_hostile_inputs.py",
    "test_html_bounds.py",
    "test_leases.py",
    "test_limits.py",
    "test_migrations.py",
    "test_parser_pool.py",
    "test_reader.py",
    "test_saved_forms.py",
    "test_second_reader.py",
    "test_up.py",
    "test_watcher.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--fast`, for `make test-fast`."""
    parser.addoption("--fast", action="store_true", help="leave out what takes long")


def pytest_configure() -> None:
    """Keep temporary folders in memory where there is room: an fsync on a disk takes 5 ms."""
    with suppress(OSError):
        if shutil.disk_usage(MEMORY_DISK).free > MEMORY_NEEDED:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY_DISK)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, if asked; else put the longest tests first."""
    if config.getoption("--fast"):
        slow = [item for item in items if _is_slow(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]
    else:
        workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
        _spread_longest(items, workers)


def _spread_longest(items: list[pytest.Item], workers: int) -> None:
    """Move the longest tests to where the workers begin, so that none ends the run alone.

    Each worker begins with its share of the list: as many tests as the others, in a row.
    """
    longest = [item for item in items if item.path.name in LONGEST_MODULES]
    items[:] = [item for item in items if item.path.name not in LONGEST_MODULES]
    share = (len(items) + len(longest)) / workers
    for number, item in enumerate(longest):
        # One more than the share's edge, which is rounded: the worker's first or second test.
        items.insert(ceil(share * (number % workers)), item)


def pytest_collection_finish() -> None:
    """Spare the search for garbage what lives as long as the process: a sixth of all time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _is_slow(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return (
        not SLOW_FOLDERS.isdisjoint(item.path.parts)
        or "postgresql" in item.name
        or "_postgres" in fixtures
        or item.path.name in SLOW_MODULES
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured, whether they passed or not: the figures are why they run."""
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, figures in getattr(report, "user_properties", ()):
            if name == "figures":
                terminalreporter.section(
                    report.nodeid.rpartition("::")[2].replace("_", " ").removeprefix("test ")
                )
                terminalreporter.write_line(str(figures))


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """Reset the log's configuration, which a test's command or process may have changed."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True, scope="session")
def _statement_cache() -> Iterator[StatementCache]:
    """Compile each SQL statement once a process instead of once a test."""
    cache = StatementCache(database_engine._create_engine)
    cache.add_dialect("sqlite://")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_engine, "_create_engine", cache.create_engine)
        yield cache


@pytest.fixture(scope="session")
def fast_folder() -> Iterator[Path]:
    """A folder in memory where possible: most tests are not about a disk's fsync."""
    with create_memory_folder("intake-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def sqlite_template(fast_folder: Path) -> Path:
    """A migrated SQLite file to copy: migrating takes longer than most tests."""
    path = fast_folder / "template.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _postgres(_statement_cache: StatementCache) -> Iterator[Postgres | str]:
    with run_migrated(Postgres) as server:
        if isinstance(server, Postgres):
            _statement_cache.add_dialect(server.build_url(TEMPLATE))
        yield server


@pytest.fixture
def postgres(_postgres: Postgres | str) -> Postgres:
    """The PostgreSQL server of this session, its database `run_migrated` the template.

    Skips where none can run.
    """
    if isinstance(_postgres, str):
        pytest.skip(f"PostgreSQL left out: {_postgres}")
    return _postgres


@pytest.fixture
def sqlite_url(sqlite_template: Path, fast_folder: Path) -> Iterator[str]:
    """A fresh, migrated SQLite database."""
    path = fast_folder / f"test{next(_numbers)}.db"
    shutil.copy(sqlite_template, path)
    yield f"sqlite:///{path}"
    for file in fast_folder.glob(f"{path.name}*"):
        file.unlink()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database."""
    name = f"test{next(_numbers)}"
    yield postgres.copy(name)
    postgres.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database; a test that takes it runs on SQLite and on PostgreSQL."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def clock() -> HandClock:
    """The clock of the context, turned by hand."""
    return HandClock()


@pytest.fixture
def notified_queues() -> RecordingNotifier:
    """The queues whose workers the context has notified."""
    return RecordingNotifier()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with their home in a temporary folder; a test module may override them."""
    return Settings(home=tmp_path / "home", desk_lead="Lena", fallback_supervisor="Sam")


@pytest.fixture
def context(
    settings: Settings, sqlite_url: str, notified_queues: RecordingNotifier, clock: HandClock
) -> Iterator[AppContext]:
    """An open context on SQLite: hand-turned clock, recording notifier, .eml files for mail."""
    app_context = open_context(
        settings.model_copy(update={"database_url": sqlite_url}),
        notifier=notified_queues,
        clock=clock,
    )
    yield app_context
    app_context.close()


@pytest.fixture
def any_context(
    settings: Settings, database_url: str, notified_queues: RecordingNotifier, clock: HandClock
) -> Iterator[AppContext]:
    """The same on SQLite and on PostgreSQL.

    For what the database decides, such as races and bounds.
    """
    app_context = open_context(
        settings.model_copy(update={"database_url": database_url}),
        notifier=notified_queues,
        clock=clock,
    )
    yield app_context
    app_context.close()


@pytest.fixture
def postgres_context(
    settings: Settings, postgres_url: str, notified_queues: RecordingNotifier, clock: HandClock
) -> Iterator[AppContext]:
    """The same on PostgreSQL only: for transactions that overlap, which SQLite does not have."""
    app_context = open_context(
        settings.model_copy(update={"database_url": postgres_url}),
        notifier=notified_queues,
        clock=clock,
    )
    yield app_context
    app_context.close()


@pytest.fixture
def relay() -> Iterator[Relay]:
    """A real SMTP server on 127.0.0.1 whose answers a test sets."""
    server = Relay()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _valkey() -> Iterator[Valkey]:
    server = Valkey()
    yield server
    server.stop()


@pytest.fixture
def valkey(_valkey: Valkey) -> Iterator[Valkey]:
    """A real Valkey, empty."""
    with Redis.from_url(_valkey.url) as client:
        client.flushall()
    return _valkey
