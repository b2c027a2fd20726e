"""The platform in containers, as `make` and `docker compose` run it: a project, ports and volumes of its own."""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PROJECT = "orrery-e2e"
PORTS = {
    "GATEWAY": 18000, "MLFLOW": 15000, "PREFECT": 14200, "PROMETHEUS": 19090, "ALERTMANAGER": 19093, "GRAFANA": 13000,
}  # fmt: skip
GATEWAY = f"http://127.0.0.1:{PORTS['GATEWAY']}"
SETTINGS = {
    "ORRERY_TRAINING__TRIALS": "1", "ORRERY_TRAINING__SECONDS": "70", "ORRERY_TRAINING__FIRST": "fraud",
    "ORRERY_ENVIRONMENT": "e2e",
}  # fmt: skip
"""a search of one trial of one use case: what is tested is the platform, not the models"""
STEPS_ONCE = {"init", "migrate", "bootstrap"}


def engine() -> str:
    """Why no container can be run here; empty when one can."""
    if shutil.which("docker") is None:
        return "docker is not on the PATH"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "the Docker engine does not answer"
    return ""


@dataclass(frozen=True)
class Stack:
    """One compose project."""

    environment: dict[str, str]

    @classmethod
    def of(cls, **changes: str) -> "Stack":
        ports = {f"ORRERY_{name}__PORT": str(port) for name, port in PORTS.items()}
        inherited = os.environ  # noqa: TID251  Docker's and Compose's own variables pass through
        stack = cls({**inherited, "COMPOSE_PROJECT_NAME": PROJECT, **ports, **SETTINGS, **changes})
        if "grafana" not in stack.compose("config", "--services").stdout.split():
            stack.environment["ORRERY_GRAFANA__URL"] = ""  # files of this machine leave it out
        return stack

    def run(self, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command in the repository, with this project's environment; what it said is shown when it fails."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False, **options
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def compose(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run("docker", "compose", *arguments, check=check, **options)

    def orrery(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The command, from inside."""
        return self.compose("exec", "-T", "worker", "orrery", *arguments, check=check)

    def containers(self) -> dict[str, dict[str, Any]]:
        """Service -> what `docker inspect` says of its container."""
        ids = self.compose("ps", "--all", "--quiet").stdout.split()
        found = json.loads(self.run("docker", "inspect", *ids).stdout)
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in found}

    def kill(self, service: str) -> None:
        """`kill -9` of the container's first process, as a crash; Docker's own kill would count as a wish to stop."""
        os.kill(self.containers()[service]["State"]["Pid"], signal.SIGKILL)

    def sick(self) -> set[str]:
        """Services that are not running and healthy, or did not end well."""
        return {name for name, each in self.containers().items() if not _well(name, each["State"])}

    def wait_whole(self, seconds: float = 90) -> float:
        """Seconds until every service is well."""
        began = time.monotonic()
        while self.sick():
            assert time.monotonic() - began < seconds, f"still not well: {self.sick()}\n{self.compose('ps').stdout}"
            time.sleep(0.5)
        return time.monotonic() - began

    def remains(self) -> dict[str, list[str]]:
        """What Docker still has of this project."""
        label = f"label=com.docker.compose.project={self.environment['COMPOSE_PROJECT_NAME']}"
        asked = {"containers": ("ps", "--all"), "volumes": ("volume", "ls"), "networks": ("network", "ls")}
        found = {
            what: self.run("docker", *words, "--quiet", "--filter", label).stdout.split()
            for what, words in asked.items()
        }
        return {what: ids for what, ids in found.items() if ids}


def _well(service: str, state: dict[str, Any]) -> bool:
    if service in STEPS_ONCE:
        return state["Status"] == "exited" and state["ExitCode"] == 0
    return state["Status"] == "running" and state.get("Health", {}).get("Status") == "healthy"
