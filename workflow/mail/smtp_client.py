"""One SMTP conversation that ends in time, whatever the relay does.

Hang, trickle, babble or speak out of turn.
"""

import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

CONNECT_SECONDS = 10  # for one address: a dead one leaves time for the next
_REPLY = re.compile(
    rb"([2-5][0-9]{2})(?:([ -])([^\n]*)|\r)?\n"
)  # RFC 5321 §4.2; text is optional in practice
_LONGEST_REPLY = 64 * 1024  # bytes; one that never ends must not fill the memory meanwhile
_CHUNK = (
    16 * 1024
)  # bytes; one TLS record, so that no single write waits longer than the time that is left

Resolver = Callable[..., list[Any]]


class SmtpConnection(smtplib.SMTP):
    """smtplib's client with one deadline for all it does.

    Its own timeout is for each read, and a trickle has many.

    Raises TimeoutError when the time is over, SMTPServerDisconnected for what is no reply or was
    not asked for.
    """

    def __init__(
        self, host: str, port: int, name: str, *, seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        """Connect and hear the greeting; `tls` for TLS from the first byte.

        Raises OSError or SMTPException.
        """
        self._tls = tls
        self._heard = bytearray()
        self.set_deadline(seconds)
        try:
            super().__init__(host, port, name)
        except (smtplib.SMTPException, OSError):
            self.close()
            raise

    def set_deadline(self, seconds: float) -> None:
        """All that follows has to be done within so many seconds."""
        self._ends = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Seconds left. Raises TimeoutError when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def has_unsolicited_data(self) -> bool:
        """Return whether the relay has said something that nobody asked for, or hung up.

        Raises OSError.
        """
        if self.sock is None or self._heard:
            return True
        self.sock.settimeout(0)
        try:
            self._heard += self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        return True

    def send(self, s: Any) -> None:
        """Send bytes, or a command.

        What the relay said before it heard them cannot be the answer to them.
        """
        if self.has_unsolicited_data():
            raise self._broken("out of turn")
        octets = memoryview(s.encode(self.command_encoding) if isinstance(s, str) else s)
        for at in range(0, len(octets), _CHUNK):
            self._sock().sendall(octets[at : at + _CHUNK])

    def getreply(self) -> tuple[int, bytes]:
        """One reply: its code, and its lines joined."""
        code, texts, room = b"", [], _LONGEST_REPLY
        while True:
            line = self._line(room)
            room -= len(line)
            said = _REPLY.fullmatch(line)
            if said is None or (code and said[1] != code):
                raise self._broken("no reply")
            code = said[1]
            texts.append((said[3] or b"").strip())
            if said[2] != b"-":
                # whatever comes next, such as the handshake of STARTTLS, has what is left
                self._sock()
                return int(code), b"\n".join(texts)

    def quit_and_close(self) -> None:
        """Say goodbye and go: nothing depends on the answer."""
        try:
            self.putcmd("QUIT")
        except (smtplib.SMTPException, OSError):
            pass
        finally:
            self.close()

    def _line(self, longest: int) -> bytes:
        while (end := self._heard.find(b"\n") + 1) == 0:
            if len(self._heard) >= longest:
                raise self._broken("a reply without end")
            more = self._sock().recv(4096)
            if not more:
                raise self._broken("hung up")
            self._heard += more
        line = bytes(self._heard[:end])
        del self._heard[:end]
        return line

    def _sock(self) -> socket.socket:
        if self.sock is None:
            raise self._broken("closed")
        self.sock.settimeout(self.seconds_left())
        return self.sock

    def _broken(self, why: str) -> smtplib.SMTPServerDisconnected:
        self.close()
        return smtplib.SMTPServerDisconnected(why)

    def _get_socket(self, host: str, port: int, timeout: object) -> socket.socket:
        del timeout
        sock = connect_first(resolve(host, port, self.seconds_left()), self.seconds_left)
        if self._tls is None:
            return sock
        try:
            sock.settimeout(self.seconds_left())
            return self._tls.wrap_socket(sock, server_hostname=host)
        except (OSError, ValueError):
            sock.close()
            raise


def resolve(
    host: str, port: int, seconds: float, lookup: Resolver = socket.getaddrinfo
) -> list[Any]:
    """What the resolver says of a host.

    Raises TimeoutError after so many seconds, OSError or ValueError as it does.

    A resolver cannot be interrupted, so it is asked in a thread that is left behind if it has to
    be.
    """
    found: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            found.put(lookup(host, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            found.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = found.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def connect_first(found: list[Any], left: Callable[[], float]) -> socket.socket:
    """A connection to the first address that answers; the time left is shared.

    Raises OSError when none does.
    """
    failed = OSError("no address")
    for waiting, (family, kind, protocol, _, address) in zip(
        range(len(found), 0, -1), found, strict=True
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(min(CONNECT_SECONDS, left() / waiting))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    raise failed
