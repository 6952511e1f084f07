"""SQL statements compiled once a test process, although each test has an engine of its own."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.util import LRUCache

STATEMENTS = 3000  # of all tests of a process; an engine of ours keeps 500


class StatementCache:
    """Makes engines that use the statements which engines before them have compiled.

    SQLAlchemy compiles a statement once for each dialect object. Compiling is a quarter of the
    time of a test on a database, so all engines of one kind get the dialect object of the first.
    """

    def __init__(self, create_engine: Callable[[str], Engine]) -> None:
        self._create_engine = create_engine
        self._first_engines: dict[str, Engine] = {}
        self._statements: Any = LRUCache(STATEMENTS)

    def add_dialect(self, url: str) -> None:
        """Take the dialect of engines of this kind from a database that can be reached."""
        engine = self._create_engine(url)
        with engine.connect():  # the dialect asks the server for its version and the like
            pass
        engine.dispose()
        self._first_engines[engine.name] = engine

    def create_engine(self, url: str) -> Engine:
        """Return an engine as the program creates it, with the shared dialect and statements."""
        engine = self._create_engine(url)
        if first := self._first_engines.get(engine.name):
            engine.dialect = engine.pool._dialect = first.dialect
            engine.update_execution_options(compiled_cache=self._statements)
        return engine
