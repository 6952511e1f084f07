"""An IMAP proxy in front of a real server.

It passes everything on, except the commands that `spoil` answers.

It reads whole lines from the client; the tests' reader sends no literals with what is spoiled.
"""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

# What the proxy answers to a command line instead of the server; None passes it on. Bytes without a
# tag are sent as they are, and {tag} is the tag of the command; b"" ends the connection.
Spoil = Callable[[bytes], bytes | None]

UID_FETCH = re.compile(rb"UID FETCH ([\d,:]+) \((.*)\)", re.IGNORECASE)


@dataclass
class Proxy:
    """A listening proxy; `spoil` may be changed at any time."""

    port: int
    spoil: Spoil = lambda _line: None
    client_lines: list[bytes] = field(default_factory=list)


@contextmanager
def run_proxy(host: str, port: int) -> Iterator[Proxy]:
    """Run a proxy on a port of its own while the block lasts."""
    with socket.create_server((host, 0)) as listener:
        proxy = Proxy(listener.getsockname()[1])
        threads: list[threading.Thread] = []
        connections: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    server = socket.create_connection((host, port))
                    connections.extend((client, server))
                    for work in (
                        lambda c=client, s=server: _forward_to_client(c, s),
                        lambda c=client, s=server: _forward_to_server(proxy, c, s),
                    ):
                        threads.append(threading.Thread(target=work, daemon=True))
                        threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield proxy
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for connection in connections:
                _end(connection)
            accepting.join(10)
            for thread in threads:
                thread.join(10)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _forward_to_client(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while data := server.recv(65536):
            client.sendall(data)
    _end(client)


def _forward_to_server(proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError, ValueError), client.makefile("rb") as lines:
        while line := lines.readline():
            proxy.client_lines.append(line)
            answer = proxy.spoil(line)
            if answer is None:
                server.sendall(line)
            elif answer:
                client.sendall(answer.replace(b"{tag}", line.split()[0]))
            else:
                break
    _end(server)
    _end(client)
