"""A catalogue that speaks MLflow's REST over a real socket, and gateways: in this process, and as processes."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import uvicorn

import usecases
from orrery.bundle import Bundle
from orrery.settings import Settings, child_environment
from services.gateway.app import create_app

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Catalogue:
    """What MLflow's REST says of aliases and artifacts, as far as a gateway asks."""

    folder: Path
    champion: dict[str, dict[str, object]] = field(default_factory=dict)
    server: ThreadingHTTPServer | None = None
    port: int = 0

    def register(self, bundle: Bundle, version: str, name: str = "fraud", digest: str | None = None) -> Path:
        """Copy a bundle behind the artifact proxy and point the champion at it; returns the copy."""
        copy = self.folder / f"run{version}" / "bundle"
        shutil.copytree(bundle.folder, copy)
        self.champion[name] = {
            "name": name, "version": version, "run_id": f"run{version}",
            "source": f"mlflow-artifacts:/run{version}/bundle",
            "tags": [{"key": "digest", "value": digest or bundle.digest}, {"key": "gate", "value": "passed"}],
        }  # fmt: skip
        return copy

    def start(self) -> None:
        catalogue = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, content = catalogue.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def answer(self, target: str) -> tuple[int, bytes]:
        url = urlsplit(target)
        if url.path == "/api/2.0/mlflow/registered-models/alias":
            query = parse_qs(url.query)
            found = self.champion.get(query["name"][0]) if query["alias"] == ["champion"] else None
            if found is None:
                return 404, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}).encode()
            return 200, json.dumps({"model_version": found}).encode()
        prefix = "/api/2.0/mlflow-artifacts/artifacts/"
        path = self.folder / unquote(url.path.removeprefix(prefix))
        if url.path.startswith(prefix) and path.is_file():
            return 200, path.read_bytes()
        return 404, b"{}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def configure(settings: Settings, catalogue_port: int, store: Path) -> Settings:
    """Settings that have a copy of `store`, look at the catalogue often, and do not wait for the disk."""
    settings.feature_folder.mkdir(parents=True)
    shutil.copy(store, settings.feature_folder / "online.db")
    gateway = settings.gateway.model_copy(update={"poll_seconds": 0.05, "port": free_port()})
    mlflow = settings.mlflow.model_copy(update={"port": catalogue_port, "timeout_seconds": 1.0})
    log = settings.log.model_copy(update={"durable": False})
    return settings.model_copy(update={"gateway": gateway, "mlflow": mlflow, "log": log})


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until `condition` holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@dataclass
class Process:
    """A gateway as a process of its own."""

    settings: Settings
    key: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = child_environment(self.settings, {"PYTHONPATH": str(ROOT)})
        log = self.settings.home.with_name("gateway.log")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.gateway"], cwd=ROOT, env=environment, stdout=output, stderr=output
            )
        eventually(self.ready, 60)

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.settings.home.with_name("gateway.log").read_text()[-4_000:]
        try:
            return httpx.get(f"{self.settings.gateway_url}/readyz", verify=False).status_code == 200
        except httpx.HTTPError:
            return False

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.settings.gateway_url, headers={"X-API-Key": self.key}, timeout=10, verify=False
        )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def gateway(settings: Settings, key: str | None, **servings) -> Iterator[httpx.Client]:
    """A client of a running gateway of the use cases, or of `servings`, in a thread of this process."""
    app = create_app(settings, servings or {"fraud": usecases.serving("fraud")})
    server = uvicorn.Server(uvicorn.Config(app, port=settings.gateway.port, loop="uvloop", log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started or not thread.is_alive())
    headers = {"X-API-Key": key} if key else {}
    with httpx.Client(base_url=settings.gateway_url, headers=headers, timeout=10, verify=False) as client:
        yield client
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def version(client: httpx.Client) -> str | None:
    """The version that answers."""
    found: str | None = client.get("/v1/models").json()["models"][0]["version"]
    return found
