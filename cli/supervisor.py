"""supervisord as the platform's process manager: its configuration, its life, and what it says of the services."""

import http.client
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from orrery.errors import OrreryError

SOCKET_PATH_LIMIT = 90
"""bytes: a Unix socket's path has at most 107, and supervisord appends its process id while it binds"""


class ProcessManagerFailed(OrreryError):
    """supervisord did not start, stop or answer."""


@dataclass(frozen=True)
class State:
    """What supervisord says of one service."""

    name: str
    state: str
    """RUNNING, STARTING, BACKOFF, STOPPED, EXITED, FATAL, ..."""
    pid: int
    uptime_seconds: float
    detail: str

    @property
    def up(self) -> bool:
        return self.state in {"RUNNING", "STARTING"}


class Supervisor:
    """The supervisord of one home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.folder = self.home / "run"
        self.socket = self.folder / "supervisor.sock"
        self.pidfile = self.folder / "supervisor.pid"
        self.configured = self.folder / "supervisord.conf"
        self.log = self.home / "logs" / "supervisor.log"

    def alive(self) -> bool:
        """Whether it answers."""
        try:
            self._call("getState")
        except ProcessManagerFailed:
            return False
        return True

    def same(self, text: str) -> bool:
        """Whether it was started with this configuration."""
        return self.configured.is_file() and self.configured.read_text() == text

    def launch(self, text: str, environment: Mapping[str, str]) -> None:
        """Start supervisord in the background, no service yet. Raises ProcessManagerFailed."""
        if len(str(self.socket)) > SOCKET_PATH_LIMIT:
            raise ProcessManagerFailed(f"{self.home} is too long a path for a socket; set a shorter ORRERY_HOME")
        for folder in (self.folder, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.configured.write_text(text)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.configured)]
        done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode or not _wait(self.alive, 10):
            said = (done.stderr or done.stdout).strip().splitlines()
            raise ProcessManagerFailed(f"supervisord did not start: {said[-1] if said else f'see {self.log}'}")

    def states(self) -> dict[str, State]:
        """Service name -> what supervisord says of it. Raises ProcessManagerFailed when it does not answer."""
        return {row["name"]: _state(row) for row in cast("list[dict[str, Any]]", self._call("getAllProcessInfo"))}

    def start(self, name: str) -> None:
        """Start one service, unless supervisord has just done so itself; its health is another question."""
        try:
            self._call("startProcess", name, False)
        except ProcessManagerFailed as error:
            if "ALREADY_STARTED" not in str(error):
                raise

    def stop(self, seconds: float) -> None:
        """Stop every service, then supervisord. Raises ProcessManagerFailed when it does not end in time."""
        import psutil

        pid = self._pid()
        processes = [psutil.Process(pid)] if pid and psutil.pid_exists(pid) else []
        self._call("shutdown")
        _, left = psutil.wait_procs(processes, timeout=seconds)
        if left:
            raise ProcessManagerFailed(f"supervisord (process {pid}) did not end in {seconds:.0f} s; see {self.log}")

    def heal(self) -> list[str]:
        """Clear away what a killed supervisord left: its files, and services that run on. Returns what was done."""
        if self.alive():
            return []
        import psutil

        done, orphans = [], self._orphans()
        if orphans:
            done.append(f"stopped {len(orphans)} processes that an earlier supervisord had left")
            for process in orphans:
                process.terminate()
            for process in psutil.wait_procs(orphans, timeout=15)[1]:
                process.kill()
        stale = [path for path in (self.pidfile, self.socket) if path.exists() or path.is_symlink()]
        for path in stale:
            path.unlink()
        if stale:
            done.append(f"removed stale {', '.join(path.name for path in stale)}")
        return done

    def _orphans(self) -> list[Any]:
        """Processes that were started by a supervisord on this socket: it tells them so in their environment."""
        import psutil

        mark, found = f"unix://{self.socket}", []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SUPERVISOR_SERVER_URL") == mark:
                    found.append(process)
            except psutil.Error:  # another user's, or gone meanwhile
                continue
        return found

    def _pid(self) -> int | None:
        try:
            return int(self.pidfile.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            server = xmlrpc.client.ServerProxy("http://supervisor", transport=transport)
            return getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise ProcessManagerFailed(f"supervisord refused {method}: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException) as error:
            raise ProcessManagerFailed(f"supervisord does not answer at {self.socket}: {error}") from error
        finally:
            transport.close()


def _state(row: Mapping[str, Any]) -> State:
    up = row["now"] - row["start"] if row["statename"] in {"RUNNING", "STARTING"} else 0
    return State(row["name"], row["statename"], row["pid"], float(up), row["spawnerr"] or row["description"])


def _wait(until: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if until():
            return True
        time.sleep(0.1)
    return until()


def port_free(host: str, port: int) -> bool:
    """Whether a service could listen there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
