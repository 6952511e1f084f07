"""A relay in a process of its own that accepts all mail and says when each one came.

`python -m benchmarks.support.counting_relay` prints its port, then a line for each mail: the time
of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


class CountingRelay:
    """The process, as a benchmark sees it; `url` is what INTAKE_RELAY_URL takes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        self._lines = self._process.stdout
        self.url = f"smtp://127.0.0.1:{self._lines.readline().strip()}"

    def wait_for(self, count: int) -> float:
        """Wait for `count` more mails; return when the last one came."""
        return max(float(self._lines.readline()) for _ in range(count))

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._lines.close()


def write_line(value: float) -> None:
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


async def run() -> None:
    """Accept mail, and print the time of each acceptance."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 relay ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 OK\r\n")
                write_line(time.monotonic())
            elif verb == b"EHLO":
                writer.write(b"250-relay\r\n250 8BITMIME\r\n")
            elif verb == b"QUIT":
                break
            else:
                writer.write(b"250 OK\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    write_line(server.sockets[0].getsockname()[1])
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(run())
