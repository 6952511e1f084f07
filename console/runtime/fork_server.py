"""Start our processes as forks of one process that has loaded what they share.

A process of its own for each would load the same 70 MB of modules again, which takes a second and
is memory that forks share. The server is Python's (`multiprocessing`), without threads of its own:
forking the supervisor, which has some, could copy a lock that nobody would release.
"""

import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import IO, Any, TypeVar

from setproctitle import setproctitle

from console.runtime.parent_death import SUPERVISOR_VARIABLE

# The exit code of all processes when their fork server ends; none of our commands has it.
SERVER_ENDED = 255
T = TypeVar("T")


class ForkedProcess:
    """A running process of ours, with what the supervisor uses of `subprocess.Popen`.

    `stdout` gives its output and its errors as lines of bytes.
    """

    def __init__(
        self, name: str, environment: Mapping[str, str], run_command: Callable[[str], None]
    ) -> None:
        """Start the command `intake NAME`, which `run_command` runs.

        Raises OSError or EOFError when it cannot be started, as when the fork server has just died.
        """
        reader, writer = os.pipe()
        output = Connection(writer, readable=False)
        self._process = _get_context().Process(
            target=_run,
            args=(name, dict(environment), output, run_command),
            name=name,
            daemon=True,
        )
        self.stdout: IO[bytes] = os.fdopen(reader, "rb")
        try:
            self._process.start()
        except (OSError, EOFError):
            self.stdout.close()
            raise
        finally:
            output.close()  # our copy: reading ends when the process does

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, -N for signal N, None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.returncode

    def wait(self) -> None:
        """Wait for its end."""
        self._process.join()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def call_in_fork(function: Callable[..., T], *arguments: Any) -> T:
    """Return what a function of a module returns in a fork that ends with it.

    The supervisor needs not load what the function does, and stays small. Raises what the function
    raises, and OSError or EOFError when the fork cannot be started or ends before it answers.
    """
    reader, writer = _get_context().Pipe(duplex=False)
    with reader:
        process = _get_context().Process(
            target=_answer, args=(writer, function, arguments), name="intake call", daemon=True
        )
        with writer:  # our copy: reading ends when the fork does
            process.start()
        result, error = reader.recv()
        process.join()
    if error is not None:
        raise error
    returned: T = result
    return returned


def _get_context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["console.runtime.preload"])
    return context


def _answer(
    writer: Connection, function: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Send what the function returns, or raises."""
    os.setsid()  # Ctrl-C reaches the supervisor only
    result, error = None, None
    try:
        result = function(*arguments)
    except Exception as raised:  # noqa: BLE001  # raised where the answer is read
        error = raised
    try:
        writer.send((result, error))
    except (TypeError, ValueError, AttributeError, pickle.PicklingError):
        writer.send((None, OSError(f"{type(error or result).__name__} cannot be handed over")))


def _run(
    name: str,
    environment: dict[str, str],
    output: Connection,
    run_command: Callable[[str], None],
) -> None:
    """Become the process `intake NAME`. Raises SystemExit with its exit code."""
    setproctitle(f"intake {name}")  # it finds the old title by the environment, so before that
    os.setsid()  # Ctrl-C reaches the supervisor only, which ends all in order
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text file, always
    os.environ.clear()
    os.environ.update(environment)
    os.environ[SUPERVISOR_VARIABLE] = str(os.getppid())  # the fork server, which ends with it
    sys.argv = ["intake", name]
    run_command(name)
