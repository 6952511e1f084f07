"""The HTTP server under webhooks and console, over real sockets.

Who trickles is cut, who is merely slow is not.
"""

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from flask import Flask, request

from console.runtime import http_server

SECONDS = 0.5  # for a request
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where an app answers with the length of what it was sent."""
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", SECONDS)
    monkeypatch.setattr(http_server, "MIN_BYTES_PER_SECOND", 100)
    app = Flask(__name__)
    app.post("/")(lambda: str(len(request.get_data())))
    server = http_server.create_http_server(app, "localhost:0", 1000)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield (
        server.effective_port
        if hasattr(server, "effective_port")
        else server.effective_listen[0][1]
    )
    server.close()
    server.task_dispatcher.shutdown()
    thread.join(5)


def trickle(client: socket.socket) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        client.sendall(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("begun", [b"", HEAD + b"\r\n"], ids=["in the head", "in the body"])
def test_who_trickles_is_cut(port: int, begun: bytes) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(begun or HEAD)
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            trickle(client)
    assert time.monotonic() - began >= SECONDS


def test_who_is_slow_and_sends_is_answered(port: int) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(HEAD + b"Connection: close\r\n\r\n")
        for _ in range(8):
            client.sendall(b"x" * 50)
            time.sleep(2 * SECONDS / 8)
        answer = client.makefile("rb").read()
    assert time.monotonic() - began > SECONDS
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"400")


def test_a_connection_may_rest_between_requests(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for _ in range(2):
        client.request("POST", "/", b"twelve bytes")
        assert client.getresponse().read() == b"12"
        time.sleep(1.5 * SECONDS)
    client.close()


def test_a_body_that_the_app_never_sees_is_reported() -> None:
    statuses: list[int] = []
    app = Flask(__name__)
    app.post("/")(lambda: "taken")
    server = http_server.create_http_server(app, "127.0.0.1:0", 1000, 8, statuses.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.effective_port}/"
        assert httpx.post(url, content=b"x" * 900).status_code == 200
        assert httpx.post(url, content=b"x" * 5000).status_code == 413
        assert statuses == [413]
    finally:
        server.close()
        server.task_dispatcher.shutdown()
        thread.join(5)
