"""SMTP client whose session ends in time, whatever the relay does.

The relay may hang, send byte by byte, never end a reply, or reply before it was asked. Why this is
not a library: docs/decisions/0021-smtp-client.md.
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
# One line of a reply: code, continuation mark, text (RFC 5321 §4.2). Text is optional in practice.
_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\n]*)|\r)?\n")
_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)
_MAX_REPLY = 64 * 1024  # bytes: a reply that never ends must not fill the memory
# Bytes of one write, as large as a TLS record: the deadline is checked before each of them.
_CHUNK = 16 * 1024

Resolver = Callable[..., list[Any]]


class SmtpConnection(smtplib.SMTP):
    """smtplib's client with one deadline for everything it does.

    smtplib's own timeout is for each read, and a relay that sends byte by byte causes many reads.
    Every method raises TimeoutError after the deadline, and SMTPServerDisconnected for bytes that
    are not a reply or came before a command.
    """

    def __init__(
        self, host: str, port: int, name: str, *, seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        """Connect and read the greeting; with `tls`, use TLS from the first byte.

        `name` is our host name for EHLO. Raises OSError or SMTPException.
        """
        self._tls = tls
        self._received = bytearray()
        self.set_deadline(seconds)
        try:
            super().__init__(host, port, name)
        except (smtplib.SMTPException, OSError):
            self.close()
            raise

    def set_deadline(self, seconds: float) -> None:
        """Set the deadline of everything that follows to `seconds` from now."""
        self._deadline = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Return the seconds until the deadline.

        Raises TimeoutError when it is over.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def has_unsolicited_data(self) -> bool:
        """Return whether the relay has sent something before a command, or closed the connection.

        Raises OSError.
        """
        if self.sock is None or self._received:
            return True
        self.sock.settimeout(0)
        try:
            self._received += self.sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        return True

    def send(self, s: Any) -> None:
        """Send bytes, or a command.

        Bytes that the relay has sent before cannot be the reply, so they break the connection.
        """
        if self.has_unsolicited_data():
            raise self._close_broken("out of turn")
        octets = memoryview(s.encode(self.command_encoding) if isinstance(s, str) else s)
        for at in range(0, len(octets), _CHUNK):
            self._get_socket_with_timeout().sendall(octets[at : at + _CHUNK])

    def getreply(self) -> tuple[int, bytes]:
        """Read one reply; return its code and its lines, joined by newlines."""
        code, texts, bytes_left = b"", [], _MAX_REPLY
        while True:
            line = self._read_line(bytes_left)
            bytes_left -= len(line)
            match = _REPLY_LINE.fullmatch(line)
            if match is None or (code and match[1] != code):
                raise self._close_broken("no reply")
            code = match[1]
            texts.append((match[3] or b"").strip())
            if match[2] != b"-":
                # What follows without us, such as the handshake of STARTTLS, has the time left.
                self._get_socket_with_timeout()
                return int(code), b"\n".join(texts)

    def begin_mail(self, sender: str, to: str, options: str = "") -> list[int]:
        """Send MAIL, RCPT and DATA; return the reply codes, up to the first that refuses.

        With PIPELINING (RFC 2920) the three go in one write, and a far relay costs one round trip
        instead of three. `options` follow the sender. Raises ValueError for an address with a line
        break.
        """
        mail_from = f"MAIL FROM:{smtplib.quoteaddr(sender)} {options}".rstrip()
        commands = [mail_from, f"RCPT TO:{smtplib.quoteaddr(to)}", "DATA"]
        if any({"\r", "\n"} & set(command) for command in commands):
            raise ValueError("a line break in an address")
        is_pipelined = self.has_extn("pipelining")
        if is_pipelined:
            self.send("".join(f"{command}\r\n" for command in commands).encode())
        codes: list[int] = []
        for command, accepting_digit in zip(commands, (2, 2, 3), strict=True):
            if not is_pipelined:
                self.send(f"{command}\r\n".encode())
            codes.append(self.getreply()[0])
            if codes[-1] // 100 != accepting_digit:
                break
        return codes

    def finish_mail(self, octets: bytes) -> int:
        """Send the content of a mail after DATA, dot-stuffed; return the reply code."""
        content = _LEADING_DOT.sub(b"..", octets)
        end = b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n"
        self.send(content + end)
        return self.getreply()[0]

    def quit_and_close(self) -> None:
        """Send QUIT and close without waiting for the reply: nothing depends on it."""
        try:
            self.putcmd("QUIT")
        except (smtplib.SMTPException, OSError):
            pass
        finally:
            self.close()

    def _read_line(self, max_length: int) -> bytes:
        while (end := self._received.find(b"\n") + 1) == 0:
            if len(self._received) >= max_length:
                raise self._close_broken("a reply without end")
            chunk = self._get_socket_with_timeout().recv(4096)
            if not chunk:
                raise self._close_broken("hung up")
            self._received += chunk
        line = bytes(self._received[:end])
        del self._received[:end]
        return line

    def _get_socket_with_timeout(self) -> socket.socket:
        """Return the socket, its timeout set to the time left."""
        if self.sock is None:
            raise self._close_broken("closed")
        self.sock.settimeout(self.seconds_left())
        return self.sock

    def _close_broken(self, reason: str) -> smtplib.SMTPServerDisconnected:
        """Close the connection and return the exception to raise."""
        self.close()
        return smtplib.SMTPServerDisconnected(reason)

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
    """Return the addresses of a host, as `socket.getaddrinfo` does.

    Raises TimeoutError after `seconds`, and OSError or ValueError as `lookup` does. A lookup cannot
    be interrupted, so it runs in a thread, which is left behind when it hangs.
    """
    results: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def run_lookup() -> None:
        try:
            results.put(lookup(host, port, type=socket.SOCK_STREAM))
        except (OSError, ValueError) as error:
            results.put(error)

    threading.Thread(target=run_lookup, daemon=True).start()
    try:
        result = results.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if isinstance(result, Exception):
        raise result
    return result


def connect_first(infos: list[Any], seconds_left: Callable[[], float]) -> socket.socket:
    """Return a connection to the first address that accepts one.

    `infos` are results of `resolve`. The time left is shared between the addresses still to be
    tried. Raises OSError when none accepts a connection.
    """
    failure = OSError("no address")
    for index, (family, kind, protocol, _, address) in enumerate(infos):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(min(CONNECT_SECONDS, seconds_left() / (len(infos) - index)))
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure
