"""Prefect's flow runs over its REST API, for those that do not import Prefect: each is asked for once per key."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from orrery.errors import OrreryError, TransientError
from orrery.settings import Settings

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS = 10.0
BUSY_WAITS = (0.5, 1.0, 2.0, 4.0)
"""seconds between attempts while Prefect says 503, as it does when its SQLite is locked"""
_GOING_ON = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]


class OrchestratorUnavailable(TransientError):
    """Prefect did not answer, or not with what it promises."""


class UnknownDeployment(OrreryError):
    """Prefect has no such deployment."""


class RunRefused(OrreryError):
    """Prefect will not make such a run, however often it is asked."""


@dataclass(frozen=True)
class FlowRun:
    """A run as Prefect has it."""

    run_id: str
    fresh: bool
    """False: it was made before, by the same key"""
    state: str
    """SCHEDULED, RUNNING, COMPLETED, FAILED, CRASHED, ..."""
    name: str
    """the state's name, such as Promoted"""


class Orchestrator:
    """Every call raises OrchestratorUnavailable when Prefect does not answer. Threads may share one.

    `waits`: seconds between attempts while Prefect says 503, as it does when its SQLite is locked.
    """

    def __init__(self, settings: Settings, waits: Sequence[float] = ()) -> None:
        import httpx

        self._waits = waits
        self._url = settings.prefect_url
        # addresses of the platform are never behind the proxy of the environment
        self._http = httpx.Client(base_url=self._url, timeout=_TIMEOUT_SECONDS, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def start(self, deployment: str, parameters: Mapping[str, Any], key: str) -> FlowRun:
        """The run of `flow/name` with that key, made unless there is one. Raises UnknownDeployment, RunRefused."""
        found = self._json(self._ask("GET", f"/deployments/name/{deployment}"), deployment)
        body = {"parameters": dict(parameters), "state": {"type": "SCHEDULED"}, "idempotency_key": key}
        answer = self._ask("POST", f"/deployments/{_text(found, 'id')}/create_flow_run", body)
        made = self._json(answer, deployment)
        fresh = answer.status_code == HTTPStatus.CREATED
        return FlowRun(_text(made, "id"), fresh, _text(made, "state_type"), _text(made, "state_name"))

    def going_on(self, deployment: str) -> int:
        """How many runs of `flow/name` run or are due to; those that a schedule has for later do not count."""
        flow, _, name = deployment.partition("/")
        body = {
            "flows": {"name": {"any_": [flow]}},
            "deployments": {"name": {"any_": [name]}},
            "flow_runs": {
                "state": {"type": {"any_": _GOING_ON}},
                "expected_start_time": {"before_": datetime.now(UTC).isoformat()},
            },
        }
        count = self._json(self._ask("POST", "/flow_runs/count", body), deployment)
        if not isinstance(count, int):
            raise OrchestratorUnavailable(f"Prefect at {self._url} did not count: {str(count)[:200]}")
        return count

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> "httpx.Response":
        import httpx

        try:
            answer = self._http.request(method, path, json=body)
            for seconds in self._waits:
                if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                    break
                time.sleep(seconds)
                answer = self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            raise OrchestratorUnavailable(
                f"Prefect at {self._url} does not answer; start it with `orrery up`"
            ) from error
        if answer.is_server_error or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise OrchestratorUnavailable(f"Prefect at {self._url} answers {answer.status_code}; see `orrery status`")
        return answer

    def _json(self, answer: "httpx.Response", deployment: str) -> Any:
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise UnknownDeployment(f"Prefect has no deployment {deployment}; `orrery up` writes the deployments")
        if answer.is_error:
            said = answer.text.partition("\n")[0][:300]
            raise RunRefused(f"Prefect refused to run {deployment}: {said}")
        try:
            return answer.json()
        except ValueError as error:
            raise OrchestratorUnavailable(f"Prefect at {self._url} gave no answer that can be read") from error


def _text(answer: Any, name: str) -> str:
    """A field of Prefect's answer. Raises OrchestratorUnavailable where it is not there."""
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, str):
        raise OrchestratorUnavailable(f"Prefect's answer has no {name}")
    return value
