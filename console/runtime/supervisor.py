"""Keep processes running: start them, prefix their output, restart them, stop them at the end."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import click

from console.runtime.fork_server import SERVER_ENDED, ForkedProcess
from console.runtime.parent_death import SUPERVISOR_VARIABLE
from workflow.runtime.backoff import Backoff

DRAIN_SECONDS = 25.0  # the SMTP listener takes up to 20 s to end its sessions
BACKOFF = Backoff(first=timedelta(seconds=1), maximum=timedelta(seconds=30))  # of restarts
STABLE_SECONDS = 30.0  # a child that ran this long restarts after one second again
POLL_SECONDS = 0.2
COLOURS = (
    "cyan",
    "green",
    "yellow",
    "magenta",
    "blue",
    "bright_cyan",
    "bright_green",
    "bright_yellow",
)


RunningProcess = subprocess.Popen[bytes] | ForkedProcess
EndCallback = Callable[[str, str], None]  # the process, and how (`_describe_end`)


def _ignore_end(name: str, how: str) -> None:
    del name, how


@dataclass
class Child:
    """A process to keep running."""

    name: str
    start: Callable[[], RunningProcess]
    colour: str = "white"
    process: RunningProcess | None = None
    started_at: float = 0.0
    failures: int = 0
    restart_at: float = 0.0
    reader: threading.Thread | None = field(default=None, repr=False)

    @property
    def restart_delay(self) -> float:
        """Seconds until it is started again: 1, 2, 4 … 30."""
        return BACKOFF.seconds(self.failures)


class Supervisor:
    """Parent of the child processes: Linux ends them when its thread ends, for whatever reason."""

    def __init__(self, environment: Mapping[str, str], on_end: EndCallback = _ignore_end) -> None:
        """Take the environment of the children and a callback.

        `on_end` is called for each process that ended by itself; it must neither block nor raise.
        """
        self.environment = {
            **environment,
            "PYTHONUNBUFFERED": "1",
            SUPERVISOR_VARIABLE: str(os.getpid()),
        }
        self._children: list[Child] = []
        self._writing = threading.Lock()
        self._signals = 0
        self._on_end = on_end

    def add_process(self, name: str, run_command: Callable[[str], None]) -> Child:
        """Start the process `intake NAME`, which `run_command` runs, and keep it running."""
        return self._add(name, lambda: ForkedProcess(name, self.environment, run_command))

    def add_command(self, name: str, command: list[str]) -> Child:
        """Start another program, and keep it running."""
        return self._add(name, partial(self._start_command, command))

    def _add(self, name: str, start: Callable[[], RunningProcess]) -> Child:
        child = Child(name, start, COLOURS[len(self._children) % len(COLOURS)])
        self._children.append(child)
        self._start_child(child)
        return child

    def install_signal_handlers(self) -> None:
        """Have SIGTERM, SIGINT and SIGHUP end `run`.

        A second signal ends it without waiting for the children.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._count_signal)

    @property
    def is_stopping(self) -> bool:
        """Return whether a signal asked us to stop."""
        return self._signals > 0

    def wait_for(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Keep everything running until `ready()` or a timeout; return whether it was ready."""
        until = time.monotonic() + seconds
        while not self.is_stopping and time.monotonic() < until:
            if ready():
                return True
            self._check_children()
        return False

    def run(self) -> None:
        """Keep everything running until a signal arrives."""
        while not self.is_stopping:
            self._check_children()

    def stop(self) -> None:
        """End all children; the one added first ends last, because it serves the others."""
        most_signals = max(1, self._signals)  # one more than these cuts the waiting short
        first, others = self._children[:1], self._children[1:]
        for group in (others, first):
            self._stop_group(group, most_signals)
        for child in self._children:
            if child.process is not None:
                child.process.wait()
            if child.reader is not None:
                child.reader.join(timeout=1)

    def _stop_group(self, group: list[Child], most_signals: int) -> None:
        """End these children: SIGTERM, then SIGKILL for those that do not finish in time."""
        for child in group:
            _send_signal(child, signal.SIGTERM)
        until = time.monotonic() + DRAIN_SECONDS
        while any(map(_is_alive, group)) and time.monotonic() < until:
            if self._signals > most_signals:
                break
            time.sleep(0.05)
        for child in group:
            _send_signal(child, signal.SIGKILL)

    def print_line(self, name: str, text: str, colour: str = "white") -> None:
        """Print one line under a name, without mixing it with other lines."""
        with self._writing:
            click.echo(f"{click.style(f'{name:<9}', fg=colour)}| {text}")

    def _count_signal(self, number: int, frame: object) -> None:
        del number, frame
        self._signals += 1

    def _start_command(self, command: list[str]) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches the supervisor only, which ends them in order.
        return subprocess.Popen(  # noqa: S603  # a program of ours
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _start_child(self, child: Child) -> None:
        child.started_at = time.monotonic()
        try:
            child.process = child.start()
        # No memory or process is left, or the fork server ended at this moment: try again later.
        except (OSError, EOFError) as error:
            self._schedule_restart(child, f"not started, {type(error).__name__}")
            return
        child.reader = threading.Thread(
            target=self._relay_output, args=(child, child.process), daemon=True
        )
        child.reader.start()

    def _relay_output(self, child: Child, process: RunningProcess) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.print_line(child.name, line.decode(errors="replace").rstrip(), child.colour)
        process.stdout.close()

    def _check_children(self) -> None:
        time.sleep(POLL_SECONDS)
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._schedule_restart(child, _describe_end(child.process))
            elif (
                child.process is None
                and time.monotonic() >= child.restart_at
                and not self.is_stopping
            ):
                self._start_child(child)

    def _schedule_restart(self, child: Child, how: str) -> None:
        lifetime = time.monotonic() - child.started_at
        child.failures = 1 if lifetime >= STABLE_SECONDS else child.failures + 1
        child.process, child.restart_at = None, time.monotonic() + child.restart_delay
        self.print_line(
            "up", f"{child.name} ended ({how}); started again in {child.restart_delay:.0f} s", "red"
        )
        self._on_end(child.name, how)


def _describe_end(process: RunningProcess) -> str:
    """Return how a process ended: "exit 1", "signal 9" or "with the fork server"."""
    code = process.poll() or 0
    if isinstance(process, ForkedProcess) and code == SERVER_ENDED:
        return "with the fork server"
    return f"signal {-code}" if code < 0 else f"exit {code}"


def _is_alive(child: Child) -> bool:
    return child.process is not None and child.process.poll() is None


def _send_signal(child: Child, number: signal.Signals) -> None:
    if _is_alive(child):
        assert child.process is not None
        child.process.send_signal(number)
