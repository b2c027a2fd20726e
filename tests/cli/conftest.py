"""A small HTTP server that stands in for the services a command asks."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cli.keys import client_key_path
from orrery.settings import GatewaySettings, MlflowSettings, Settings

Answer = Callable[[str, str, dict[str, Any], Any], tuple[int, dict[str, Any]]]
"""method, path, body, connection -> status, JSON"""


class StandIn:
    """Answers as `answer` says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = lambda *_: (404, {"title": "Not Found"})
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """A server on a free port of 127.0.0.1."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            stand_in.asked.append((self.path, dict(self.headers)))
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            status, answer = stand_in.answer(self.command, self.path, body, self.connection)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self):
            self.do_GET()

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    yield stand_in
    server.shutdown()
    server.server_close()


@pytest.fixture
def asking(stand_in, home) -> Settings:
    """Settings whose gateway and MLflow are the stand-in, and a key to show."""
    settings = Settings(home=home, gateway=GatewaySettings(url=stand_in.url), mlflow=MlflowSettings(url=stand_in.url))
    path = client_key_path(settings)
    path.parent.mkdir(parents=True)
    path.write_text("ork_00000000_secret\n")
    return settings
