"""A stand-in for Prefect's REST API that makes flow runs of deployments, each once per key."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FakeRuns:
    """Its address is `.url`; what it made lies in `.runs`."""

    deployments: set[str] = field(default_factory=set)
    """`flow/name`"""
    runs: dict[tuple[str, str], dict] = field(default_factory=dict)
    """deployment, key -> run"""
    going_on: int = 0
    busy: int = 0
    """so often it says 503 first"""
    instead: tuple[int, bytes] | None = None
    """what is answered to everything"""
    asked: list[str] = field(default_factory=list)
    at: Callable[[str, str], object] = lambda moment, path: None
    """is told of each call: "asked", "done" and "answered", path"""
    url: str = ""

    def made(self, deployment: str) -> list[dict]:
        return [run for (name, _), run in self.runs.items() if name == deployment]

    def answer(self, method: str, path: str, body: dict) -> tuple[int, object]:
        self.asked.append(path)
        if self.busy:
            self.busy -= 1
            return 503, {}
        known = {name: f"id-{name.replace('/', '-')}" for name in self.deployments}
        if path.startswith("/api/deployments/name/"):
            found = known.get(path.removeprefix("/api/deployments/name/"))
            return (200, {"id": found}) if found else (404, {"detail": "Deployment not found"})
        if path == "/api/flow_runs/count":
            return 200, self.going_on
        made_of = {f"/api/deployments/{made}/create_flow_run": name for name, made in known.items()}
        if path not in made_of:
            return 404, {"detail": "Not Found"}
        deployment = made_of[path]
        fresh = (deployment, body["idempotency_key"]) not in self.runs
        new = {"id": f"run-{len(self.runs)}", "state_type": "SCHEDULED", "state_name": "Scheduled"}
        run = self.runs.setdefault((deployment, body["idempotency_key"]), new | {"parameters": body["parameters"]})
        return 201 if fresh else 200, run


@contextmanager
def running_prefect(*deployments: str) -> Iterator[FakeRuns]:
    fake, lock = FakeRuns(set(deployments)), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
            with lock:  # a database makes a key unique, too
                fake.at("asked", self.path)
                status, found = fake.instead or fake.answer(self.command, self.path, body)
                fake.at("done", self.path)
            content = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # who asked may be dead
                self.wfile.write(content)
            fake.at("answered", self.path)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    fake.url = f"http://127.0.0.1:{server.server_port}/api"
    yield fake
    server.shutdown()
    server.server_close()
