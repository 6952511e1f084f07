"""An SMTP relay that misbehaves on request: at the greeting, a command, or the end of a mail."""

import contextlib
import re
import socket
import ssl
import struct
from collections import defaultdict
from enum import Enum
from threading import Event, Thread

from tests.support.servers import find_free_port


class Do(Enum):
    """Misbehaviour of a relay instead of an answer."""

    HANG = "send nothing more"
    TRICKLE = "send one byte at a time, for ever"
    ENDLESS = "send line after line, for ever"
    HANG_UP = "close"
    DEAF = "accept DATA, and read nothing more"
    RESET = "reset the connection, as a crashed machine does"


Act = Do | bytes | None  # bytes are sent as they are; None is the reply of a good relay
GREETING, END = "greeting", "."
OK = b"250 OK\r\n"
GOOD = {
    GREETING: b"220 bad.relay.example\r\n",
    "DATA": b"354 go on\r\n",
    "QUIT": b"221 bye\r\n",
    "AUTH": b"235 welcome\r\n",
    "STARTTLS": b"220 go on\r\n",
}


class BadRelay:
    """A relay that follows `at` (acts for each point, in order), then `script` (for any point).

    When both are used up it behaves well. `taken` holds recipient and content of every mail it has
    accepted, with a 2yz after the dot.
    """

    def __init__(
        self, *, extensions: tuple[str, ...] = (), tls: ssl.SSLContext | None = None
    ) -> None:
        self.at: defaultdict[str, list[Act]] = defaultdict(list)
        self.script: list[Act] = []
        self.hangs_for: set[str] = set()  # recipients
        self.taken: list[tuple[str, bytes]] = []
        self.offered: list[str] = []  # recipients, as they were named
        self.connections = 0
        self.port = find_free_port()
        self.url = f"smtp://127.0.0.1:{self.port}"
        self.is_pipelining = "PIPELINING" in extensions
        self._extensions, self._tls = extensions, tls
        self._stopped = Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._threads = [Thread(target=self._listen)]
        self._threads[0].start()

    def stop(self) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive(), "a client still holds its connection"

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        session = _Session(self, client, self._stopped)
        with contextlib.suppress(OSError, EOFError):
            session.run(self._extensions, self._tls)
        session.close()

    def act(self, point: str) -> Act:
        """Return what to do at a point of the session, and strike it off the list."""
        if self.at[point]:
            return self.at[point].pop(0)
        return self.script.pop(0) if self.script else None


class _Session:
    def __init__(self, relay: BadRelay, client: socket.socket, stopped: Event) -> None:
        self._relay, self._sock, self._stopped = relay, client, stopped
        self._sock.settimeout(10)
        self._received = b""
        self._to = ""

    def run(self, extensions: tuple[str, ...], tls: ssl.SSLContext | None) -> None:
        """Serve commands until QUIT. Raises OSError or EOFError when the connection ends."""
        if tls is not None and "STARTTLS" not in extensions:
            self._start_tls(tls)
        self._answer(GREETING)
        verb = ""
        while verb != "QUIT":
            line = self._read_line()
            verb = line.split(b" ")[0].strip().decode("latin-1").upper()
            self._serve_command(verb, line, extensions, tls)

    def _serve_command(
        self, verb: str, line: bytes, extensions: tuple[str, ...], tls: ssl.SSLContext | None
    ) -> None:
        match verb:
            case "EHLO":
                self._answer(verb, _list_features(extensions))
            case "RCPT":
                self._note_recipient(line)
                self._answer(verb)
            case "DATA":
                if self._answer(verb).startswith(b"354"):
                    self._take()
            case "STARTTLS":
                if self._answer(verb).startswith(b"220") and tls is not None:
                    self._start_tls(tls)
            case _:
                self._answer(verb)

    def _start_tls(self, tls: ssl.SSLContext) -> None:
        self._sock = tls.wrap_socket(self._sock, server_side=True)

    def _note_recipient(self, line: bytes) -> None:
        self._to = line.decode().partition("<")[2].partition(">")[0]
        self._relay.offered.append(self._to)
        if self._to in self._relay.hangs_for:
            self._hang()

    def _take(self) -> None:
        content = b""
        while not (content.endswith(b"\r\n.\r\n") or content == b".\r\n"):
            content += self._read_line()
        reply = self._make_reply(END)
        if re.match(rb"2\d\d( [^\n]*)?\r?\n", reply):
            self._relay.taken.append((self._to, content))
        self._sock.sendall(reply)

    def close(self) -> None:
        self._sock.close()

    def _answer(self, point: str, good: bytes = OK) -> bytes:
        reply = self._make_reply(point, good)
        self._sock.sendall(reply)
        return reply

    def _make_reply(self, point: str, good: bytes = OK) -> bytes:
        """Return the reply, or do what the script says instead of one."""
        act = self._relay.act(point)
        match act:
            case Do.HANG:
                self._hang()
            case Do.TRICKLE:
                self._pour(b"2", 0.02)
            case Do.ENDLESS:
                self._pour(b"250-more\r\n" * 100, 0.001)
            case Do.DEAF:
                self._sock.sendall(GOOD["DATA"])
                self._stopped.wait()
                raise EOFError
            case Do.HANG_UP:
                raise EOFError
            case Do.RESET:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise EOFError
        return act if isinstance(act, bytes) else GOOD.get(point, good)

    def _read_line(self) -> bytes:
        while b"\n" not in self._received:
            self._received += self._receive()
        line, end, self._received = self._received.partition(b"\n")
        return line + end

    def _receive(self) -> bytes:
        octets = self._sock.recv(65536)
        if not octets:
            raise EOFError
        return octets

    def _hang(self) -> None:
        while True:  # until the client has enough
            self._receive()

    def _pour(self, octets: bytes, pause: float) -> None:
        while not self._stopped.wait(pause):
            self._sock.sendall(octets)
        raise EOFError


def _list_features(extensions: tuple[str, ...]) -> bytes:
    lines = [b"250-%s\r\n" % each.encode() for each in ("bad.relay.example", *extensions)]
    return b"".join(lines) + OK
