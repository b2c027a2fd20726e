"""Ask Prefect for a run of a deployment, and follow it to its end, over its REST API."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from orrery.adapters.orchestrator import BUSY_WAITS, Orchestrator, OrchestratorUnavailable, RunRefused
from orrery.usecase import Progress, silent

if TYPE_CHECKING:
    import httpx

    from orrery.settings import Settings

_LOOK_EVERY = 0.5
_PATIENCE_SECONDS = 30.0
"""how long Prefect may be silent, and how long a run may wait for a worker, before this is said"""
_WARNING = 30
_ENDS = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_DONE = "COMPLETED"


@dataclass(frozen=True)
class Outcome:
    """How a flow run ended."""

    run_id: str
    url: str
    state: str
    """COMPLETED, FAILED, CANCELLED or CRASHED"""
    name: str
    """the state's name, such as Promoted or Refused"""
    message: str
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """artifact key without the use case -> rows"""

    @property
    def completed(self) -> bool:
        return self.state == _DONE


class FlowRuns(Orchestrator):
    """Prefect's flow runs, asked for and followed by a person."""

    def __init__(self, settings: "Settings") -> None:
        super().__init__(settings, BUSY_WAITS)
        self._opened_at = settings.opened_at("prefect")

    def trigger(self, deployment: str, parameters: Mapping[str, Any]) -> str:
        """Start a run of `flow/name`; returns its id. Raises UnknownDeployment, RunRefused."""
        # asked twice with one key, as when an answer was lost, Prefect makes one run
        return self.start(deployment, parameters, uuid4().hex).run_id

    def follow(self, run_id: str, progress: Progress = silent, say: Any = None) -> Outcome:
        """Wait for the run's end; report its stages to `progress`, and its warnings to `say`."""
        started, heard, shown = time.monotonic(), time.monotonic(), _Shown(progress, say or (lambda _: None))
        while True:
            try:
                run = self._run(run_id)
                shown.update(self._artifacts(run_id, "progress"), self._tasks(run_id), self._warnings(run_id))
            except OrchestratorUnavailable:
                if time.monotonic() - heard > _PATIENCE_SECONDS:
                    raise
                time.sleep(_LOOK_EVERY)
                continue
            heard = time.monotonic()
            if run["state_type"] in _ENDS:
                return self._outcome(run)
            if run["state_type"] in {"SCHEDULED", "PENDING"} and heard - started > _PATIENCE_SECONDS:
                shown.waiting(run["state_name"])
            time.sleep(_LOOK_EVERY)

    def ended(self, run_id: str) -> bool:
        """Whether the run is over, however it ended."""
        return self._run(run_id)["state_type"] in _ENDS

    def url(self, run_id: str) -> str:
        """Where a person sees the run."""
        return f"{self._opened_at}/runs/flow-run/{run_id}"

    def _outcome(self, run: Mapping[str, Any]) -> Outcome:
        message = (run.get("state") or {}).get("message") or ""
        tables = {str(each["key"]).rpartition("-")[2]: _rows(each) for each in self._artifacts(run["id"], "table")}
        return Outcome(run["id"], self.url(run["id"]), run["state_type"], run["state_name"], message, tables)

    def _run(self, run_id: str) -> dict[str, Any]:
        answer = self._ask("GET", f"/flow_runs/{run_id}")
        if answer.is_error:
            raise RunRefused(f"Prefect does not know the run {run_id}: {_reason(answer)}")
        return dict(answer.json())

    def _artifacts(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        wanted = {"flow_run_id": {"any_": [run_id]}, "type": {"any_": [kind]}}
        return self._list("/artifacts/filter", {"artifacts": wanted, "sort": "ID_DESC"})

    def _tasks(self, run_id: str) -> list[dict[str, Any]]:
        body = {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return self._list("/task_runs/filter", body)

    def _warnings(self, run_id: str) -> list[dict[str, Any]]:
        wanted = {"flow_run_id": {"any_": [run_id]}, "level": {"ge_": _WARNING}}
        return self._list("/logs/filter", {"logs": wanted, "sort": "TIMESTAMP_ASC"})

    def _list(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = self._ask("POST", path, body)
        if answer.is_error:
            raise RunRefused(f"Prefect refused {path}: {_reason(answer)}")
        return list(answer.json())


class _Shown:
    """What of a run was reported already."""

    def __init__(self, progress: Progress, say: Any) -> None:
        self._progress, self._say = progress, say
        self._stages: dict[str, tuple[float, str]] = {}
        self._lines: set[str] = set()

    def update(
        self,
        artifacts: list[dict[str, Any]],
        tasks: list[dict[str, Any]],
        warnings: list[dict[str, Any]],
    ) -> None:
        for artifact in reversed(artifacts):
            stage, _, note = str(artifact["description"] or "").partition(": ")
            self._stage(stage, float(artifact["data"] or 0), note)
        for task in tasks:
            if task["state_type"] == "RUNNING" and task["name"] not in self._stages:
                self._stage(task["name"], 0.0, "")
            elif task["state_type"] == _DONE:
                self._stage(task["name"], 100.0, self._stages.get(task["name"], (0.0, ""))[1])
        for warning in warnings:
            if warning["id"] not in self._lines:
                self._lines.add(warning["id"])
                self._say(str(warning["message"]).partition("\n")[0])

    def waiting(self, state: str) -> None:
        line = f"the run is still {state}: no worker has taken it; see `orrery status`"
        if line not in self._lines:
            self._lines.add(line)
            self._say(line)

    def _stage(self, stage: str, share: float, note: str) -> None:
        if share >= self._stages.get(stage, (-1.0, ""))[0] and self._stages.get(stage) != (share, note):
            self._stages[stage] = (share, note)
            self._progress(stage, share, 100.0, note)


def _rows(artifact: Mapping[str, Any]) -> list[dict[str, Any]]:
    import json

    data = artifact["data"]
    return list(json.loads(data) if isinstance(data, str) else data)


def _reason(answer: "httpx.Response") -> str:
    return answer.text.partition("\n")[0][:300]


def run(
    settings: "Settings", deployment: str, parameters: Mapping[str, Any], progress: Progress = silent, say: Any = None
) -> Outcome:
    """Trigger a deployment such as `release/<use_case>` and follow it to its end."""
    with FlowRuns(settings) as runs:
        return runs.follow(runs.trigger(deployment, parameters), progress, say)
