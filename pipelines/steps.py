"""One step of a flow as a Prefect task, with the progress that the UI and the command show."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from orrery.errors import TransientError
from orrery.usecase import Progress

Result = TypeVar("Result")
_PUBLISH_EVERY = timedelta(seconds=1).total_seconds()
RETRIES = 2
RETRY_DELAYS = [2.0, 10.0]


class Publisher:
    """A `Progress` that writes one Prefect progress artifact a stage, at most once a second each."""

    def __init__(self) -> None:
        self._artifacts: dict[str, UUID] = {}
        self._published: dict[str, float] = {}

    def __call__(self, stage: str, done: float, total: float, note: str = "") -> None:
        now, share = time.monotonic(), 100 * done / total if total else 0.0
        if stage in self._published and now - self._published[stage] < _PUBLISH_EVERY and done < total:
            return
        self._published[stage] = now
        words = f"{stage}: {note}" if note else stage
        share = min(max(share, 0.0), 100.0)
        if stage in self._artifacts:
            update_progress_artifact(self._artifacts[stage], share, description=words)
        else:
            self._artifacts[stage] = create_progress_artifact(share, description=words)


def passes_by_itself(_: Any, __: Any, state: Any) -> bool:
    """Whether a failed step may be tried again: only when its error says that this is safe."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def utc(moment: datetime | None) -> datetime | None:
    """A parameter's moment; one without a zone is meant in UTC."""
    return moment.astimezone(UTC) if moment and moment.tzinfo else moment and moment.replace(tzinfo=UTC)


def step(name: str, work: Callable[[Progress], Result], *, retried: bool = False) -> Result:
    """Run one step as a task. Its values pass by reference: nothing is cached, persisted or copied on the way."""

    def run() -> Result:
        get_run_logger().info("%s", name)
        return work(Publisher())

    wrapped: Callable[[], Result] = task(
        run,
        name=name,
        task_run_name=name,
        retries=RETRIES if retried else 0,
        retry_delay_seconds=RETRY_DELAYS,
        retry_condition_fn=passes_by_itself,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return wrapped()
