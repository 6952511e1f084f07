"""A real HTTP server on 127.0.0.1 that answers as the token endpoint of a mail provider."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

from workflow.settings.settings import OAuth2


@dataclass
class Endpoint:
    """A token endpoint: gives the answers it has, the last one again and again."""

    url: str = ""
    answers: list[tuple[int, object]] = field(default_factory=list)
    asked: list[dict[str, list[str]]] = field(default_factory=list)

    def grant(self, **more: Any) -> OAuth2:
        """Return the settings of a mailbox that gets its tokens here; `more` are fields of them."""
        return OAuth2(token_url=self.url, client_id="us", refresh_token="refresh-1", **more)


@contextmanager
def run_endpoint() -> Iterator[Endpoint]:
    """Until the end of the block."""
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            state.asked.append(parse_qs(self.rfile.read(length).decode()))
            status, answer = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://{'127.0.0.1'}:{http.server_port}/token"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        http.shutdown()
        thread.join()
