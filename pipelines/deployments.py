"""One deployment of each flow per use case, with its schedule: `python -m pipelines.deployments` writes them all."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.schedules import Cron, Interval, Schedule

import usecases
from orrery.settings import PrefectSettings, Settings, settings
from pipelines.release import PROMOTED, REFUSED
from pipelines.respond import DECLINED, STARTED, SUGGESTED

ROOT = Path(__file__).parent.parent
ZOMBIES = "flow runs without a heartbeat have crashed"
_HEARTBEAT = "prefect.flow-run.heartbeat"
_STATES = ("Completed", "Failed", "Cancelled", "Crashed", PROMOTED, REFUSED, STARTED, SUGGESTED, DECLINED)
# an end's event is named after its state, and some flows' states have names of their own
_ENDS = {f"prefect.flow-run.{name}" for name in _STATES}
_NIGHTLY = "30 1 * * *"


def deployments(configured: Settings | None = None) -> list[RunnerDeployment]:
    """What there is to deploy. Schedules are live: one that is shown is one that runs; Prefect can pause it."""
    now = configured or settings()
    prefect, often = now.prefect, Interval(timedelta(seconds=now.watch.seconds), active=now.prefect.schedules)
    names = ("release", "materialize", "watch", "respond", "report")
    release, materialize, watch, respond, report = map(_flow, names)
    return [
        deployment
        for name in usecases.names()
        for deployment in (
            _deployment(release, name, _at(usecases.training(name).schedule, prefect), prefect),
            _deployment(materialize, name, _at(_NIGHTLY, prefect), prefect),
            _deployment(watch, name, often, prefect),
            _deployment(respond, name, None, prefect),
            _deployment(report, name, None, prefect),
        )
    ]


def _flow(name: str) -> Any:
    """The flow as a worker will load it: from this folder."""
    return Flow.from_source(source=str(ROOT), entrypoint=f"pipelines/{name}.py:{name}")


def _at(cron: str, prefect: PrefectSettings) -> Schedule:
    return Cron(cron, timezone="UTC", active=prefect.schedules)


def _deployment(flow: Any, use_case: str, schedule: Schedule | None, prefect: PrefectSettings) -> RunnerDeployment:
    made: RunnerDeployment = flow.to_deployment(
        name=use_case,
        parameters={"use_case": use_case},
        schedule=schedule,
        work_pool_name=prefect.pool,
        tags=[use_case],
    )
    return made


def apply(configured: Settings) -> list[str]:
    """Write pool, automation and deployments to Prefect; doing it again changes nothing. Returns the names."""
    found = deployments(configured)
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=configured.prefect.pool, type="process"))
        _write_automation(client)
        for deployment in found:
            _keep_pause(client, deployment)
    for deployment in found:
        deployment.apply()
    return [deployment.full_name for deployment in found]


def _keep_pause(client: SyncPrefectClient, deployment: RunnerDeployment) -> None:
    """A schedule that someone switched off stays off."""
    with suppress(ObjectNotFound):
        known = client.read_deployment_by_name(deployment.full_name).schedules
        if known and not any(schedule.active for schedule in known):
            for schedule in deployment.schedules or []:
                schedule.active = False


def _write_automation(client: SyncPrefectClient) -> None:
    wanted, known = _zombie_automation(), client.read_automations_by_name(ZOMBIES)
    if known:
        client.update_automation(known[0].id, wanted)
    else:
        client.create_automation(wanted)


def _zombie_automation() -> AutomationCore:
    """A killed worker leaves its runs Running; three missed heartbeats make them Crashed."""
    return AutomationCore(
        name=ZOMBIES,
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *_ENDS},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(minutes=9),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat for nine minutes")],
    )


if __name__ == "__main__":
    apply(settings())
