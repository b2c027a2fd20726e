"""What Prefect knows of flow runs and workers, asked over its REST API."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx
from pydantic import BaseModel, TypeAdapter

from orrery.errors import TransientError
from orrery.settings import Settings

HISTORY = timedelta(days=7)
"""how far back runs are counted"""
_PAGE = 200
"""the most rows Prefect gives at once"""
_TIMEOUT_SECONDS = 5.0


class PrefectUnavailable(TransientError):
    """Prefect did not answer, or not with what it promises."""


@dataclass(frozen=True)
class DeployedFlow:
    """One deployment, `flow/use_case`, and its runs."""

    flow: str
    use_case: str
    runs: Mapping[str, int]
    """state's name -> runs expected within HISTORY"""
    running_seconds: float
    """age of the oldest run that is still running; 0: none is"""
    last_success: datetime | None
    last_failure: datetime | None
    """when a run last ended without a verdict"""


@dataclass(frozen=True)
class Orchestration:
    """What Prefect said in one round of questions."""

    flows: tuple[DeployedFlow, ...]
    workers_online: int
    last_heartbeat: datetime | None


class _Flow(BaseModel):
    id: UUID
    name: str


class _Deployment(BaseModel):
    id: UUID
    name: str
    flow_id: UUID


class _Run(BaseModel):
    deployment_id: UUID | None
    start_time: datetime | None
    end_time: datetime | None


class _Count(BaseModel):
    state_name: str
    count_runs: int


class _Interval(BaseModel):
    states: list[_Count]


class _Worker(BaseModel):
    status: str
    last_heartbeat_time: datetime | None


_FLOWS = TypeAdapter(list[_Flow])
_DEPLOYMENTS = TypeAdapter(list[_Deployment])
_RUNS = TypeAdapter(list[_Run])
_INTERVALS = TypeAdapter(list[_Interval])
_WORKERS = TypeAdapter(list[_Worker])
_Row = TypeVar("_Row")


class Prefect:
    """Prefect's REST API, as far as the monitor asks."""

    def __init__(self, settings: Settings) -> None:
        self._url, self._pool = settings.prefect_url, settings.prefect.pool
        # addresses of the platform are never behind the proxy of the environment
        self._http = httpx.Client(base_url=self._url, timeout=_TIMEOUT_SECONDS, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def look(self) -> Orchestration:
        """Ask for everything once. Raises PrefectUnavailable."""
        now = datetime.now(UTC)
        names = {flow.id: flow.name for flow in self._all("/flows/filter", _FLOWS)}
        running, failed, workers = self._running_since(), self._last_failures(), self._workers()
        heartbeats = [worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time]
        return Orchestration(
            flows=tuple(
                DeployedFlow(
                    flow=names[deployment.flow_id],
                    use_case=deployment.name,
                    runs=self._runs(deployment.id, now),
                    running_seconds=(now - running.get(deployment.id, now)).total_seconds(),
                    last_success=self._last_success(deployment.id),
                    last_failure=failed.get(deployment.id),
                )
                for deployment in self._all("/deployments/filter", _DEPLOYMENTS)
                if deployment.flow_id in names  # a flow may have been made between the two questions
            ),
            workers_online=sum(worker.status == "ONLINE" for worker in workers),
            last_heartbeat=max(heartbeats, default=None),
        )

    def _runs(self, deployment: UUID, now: datetime) -> dict[str, int]:
        body = {
            "history_start": (now - HISTORY).isoformat(),
            "history_end": now.isoformat(),
            "history_interval_seconds": HISTORY.total_seconds(),
            "flow_runs": {"deployment_id": {"any_": [str(deployment)]}},
        }
        intervals = self._ask("/flow_runs/history", body, _INTERVALS)
        return {count.state_name: count.count_runs for interval in intervals for count in interval.states}

    def _running_since(self) -> dict[UUID, datetime]:
        """Deployment -> start of its oldest run that is still running."""
        body = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}, "sort": "START_TIME_ASC", "limit": _PAGE}
        found: dict[UUID, datetime] = {}
        for run in self._ask("/flow_runs/filter", body, _RUNS):
            if run.deployment_id and run.start_time:
                found.setdefault(run.deployment_id, run.start_time)
        return found

    def _last_failures(self) -> dict[UUID, datetime]:
        """Deployment -> end of its last run that failed or crashed."""
        wanted = {"state": {"type": {"any_": ["FAILED", "CRASHED"]}}}
        body = {"flow_runs": wanted, "sort": "END_TIME_DESC", "limit": _PAGE}
        found: dict[UUID, datetime] = {}
        for run in self._ask("/flow_runs/filter", body, _RUNS):
            if run.deployment_id and run.end_time:
                found.setdefault(run.deployment_id, run.end_time)
        return found

    def _last_success(self, deployment: UUID) -> datetime | None:
        """A run that ended with a verdict did its work, whatever the verdict was."""
        wanted = {"deployment_id": {"any_": [str(deployment)]}, "state": {"type": {"any_": ["COMPLETED"]}}}
        found = self._ask("/flow_runs/filter", {"flow_runs": wanted, "sort": "END_TIME_DESC", "limit": 1}, _RUNS)
        return found[0].end_time if found else None

    def _workers(self) -> list[_Worker]:
        answer = self._post(f"/work_pools/{self._pool}/workers/filter", {"limit": _PAGE})
        if answer.status_code == HTTPStatus.NOT_FOUND:  # the first worker makes the pool
            return []
        return self._read(answer, _WORKERS)

    def _all(self, path: str, kind: TypeAdapter[list[_Row]]) -> list[_Row]:
        found = page = self._ask(path, {"limit": _PAGE}, kind)
        while len(page) == _PAGE:
            page = self._ask(path, {"limit": _PAGE, "offset": len(found)}, kind)
            found = found + page
        return found

    def _ask(self, path: str, body: Mapping[str, Any], kind: TypeAdapter[list[_Row]]) -> list[_Row]:
        return self._read(self._post(path, body), kind)

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        try:
            return self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise PrefectUnavailable(f"Prefect at {self._url} does not answer: {error}") from error

    def _read(self, answer: httpx.Response, kind: TypeAdapter[list[_Row]]) -> list[_Row]:
        try:
            return kind.validate_json(answer.raise_for_status().content)
        except (httpx.HTTPStatusError, ValueError) as error:
            said = str(error).replace("\n", " ")[:300]
            raise PrefectUnavailable(f"Prefect at {self._url} gave no answer that can be read: {said}") from error
