"""Keeps the processes running, kills them, and counts the kills."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from threading import Event, Lock, Thread

from console.runtime.fork_server import ForkedProcess
from tests.acceptance.chaos.armed import run_armed

PROCESSES = (
    "smtp",
    "imap",
    "folder",
    "webhooks",
    "backfill",
    "console",
    "worker",
    "worker 2",
    "clock",
)
VALKEY = "valkey"
END_SECONDS = 100  # on a busy machine each of a process's last writes may wait its turn


class Keeper:
    """Starts processes, starts them again when they end, and kills them."""

    def __init__(
        self, environment: dict[str, str], valkey: list[str], logs: Path, *, pause: float = 0.5
    ) -> None:
        self.environment = environment
        self.kills: Counter[str] = Counter()
        self.unexpected_ends: list[str] = []  # processes that ended though nobody killed them
        self._valkey = valkey
        self._logs = logs
        self._pause = pause
        self._running: dict[str, subprocess.Popen[bytes] | ForkedProcess] = {}
        self._lock = Lock()
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self, *, without: tuple[str, ...] = ()) -> None:
        """Start everything and keep it running."""
        self._stop.clear()
        for name in (VALKEY, *PROCESSES):
            if name not in without:
                self._start(name)
        self._thread = Thread(target=self._keep, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End everything in good order."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self._running.items():
            if not _wait(process, END_SECONDS):
                self.unexpected_ends.append(f"{name} did not end at SIGTERM")
                process.send_signal(signal.SIGKILL)
                process.wait()
            _close_output(process)
        self._running.clear()

    def kill_random(self, *names: str) -> None:
        """Kill one process at random, of those named or of all."""
        with self._lock:
            choices = [name for name in self._running if not names or name in names]
            name = random.choice(choices)  # noqa: S311  # no secret
            process = self._running[name]
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                self.kills[name] += 1

    def list_pids(self) -> dict[str, int]:
        """Return the ids of the running processes by name."""
        with self._lock:
            return {
                name: process.pid
                for name, process in self._running.items()
                if process.poll() is None
            }

    def _start(self, name: str) -> None:
        if name != VALKEY:
            log = self._logs / f"{name.replace(' ', '-')}.log"
            environment = {**self.environment, "CHAOS_LOG": str(log)}
            self._running[name] = ForkedProcess(name.split(maxsplit=1)[0], environment, run_armed)
            return
        with (self._logs / f"{name}.log").open("ab") as output:
            self._running[name] = subprocess.Popen(
                self._valkey,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _keep(self) -> None:
        restart_at: dict[str, float] = {}
        while not self._stop.wait(0.1):
            with self._lock:
                for name, process in list(self._running.items()):
                    if process.poll() is None:
                        continue
                    if name not in restart_at:
                        restart_at[name] = time.monotonic() + self._pause
                        if process.returncode != -signal.SIGKILL:
                            self.unexpected_ends.append(f"{name} ended with {process.returncode}")
                    elif time.monotonic() >= restart_at[name]:
                        del restart_at[name]
                        _close_output(process)
                        self._start(name)


def _close_output(process: subprocess.Popen[bytes] | ForkedProcess) -> None:
    """Close our end of an ended process's output."""
    if process.stdout is not None:
        process.stdout.close()


def _wait(process: subprocess.Popen[bytes] | ForkedProcess, seconds: float) -> bool:
    """Wait for the end of a process; return False when it has not come in so many seconds."""
    until = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def build_environment(**settings: object) -> dict[str, str]:
    """Return environment variables with only these settings, whatever this machine has set."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("INTAKE_", "CHAOS_"))}
    return clean | {k.upper(): str(v) for k, v in settings.items()}
