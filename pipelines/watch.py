"""Look at what was served since the last look: drift, quality where labels have arrived, skew of its features."""

from datetime import UTC, datetime

from prefect import flow
from prefect.artifacts import create_table_artifact

import usecases
from orrery import monitoring, recomputing, reporting, responding
from orrery.adapters.database import open_database
from orrery.adapters.locks import exclusive
from orrery.adapters.manifests import manifests
from orrery.adapters.traffic_log import TrafficLog
from orrery.adapters.watch_log import SkewLog, WatchLog
from orrery.settings import settings
from orrery.usecase import Case
from pipelines.steps import step

_WAIT_FOR_OTHER_LOOK = 600.0


@flow(name="watch", flow_run_name="{use_case}", persist_result=False)  # type: ignore[untyped-decorator]
def watch(use_case: str) -> None:
    """Judge every window of event time that is over and was not judged, or whose labels may have arrived since.

    While the trouble lasts, an alert that the policy declined is decided anew once it would not be. A window that was
    judged, and one whose labels have arrived, gets a report by a run of its own. Last, and once a window, the features
    of a sample are computed again: what that needs and lacks must not keep the verdicts.
    """
    configured = settings()
    engine = open_database(configured.log_url, configured.log.durable)
    with exclusive(configured, f"watch-{use_case}", _WAIT_FOR_OTHER_LOOK):
        # without its views, whose import would take longer than the look
        case = step("load", lambda _: Case(use_case, usecases.training(use_case), usecases.serving(use_case)))
        judged = step(
            "watch",
            lambda progress: monitoring.watch(
                case, TrafficLog(engine), WatchLog(engine), manifests(configured), datetime.now(UTC), progress
            ),
            retried=True,
        )
    if responding.trouble(use_case, engine) and (alert := responding.waiting(use_case, configured)):
        step(
            "ask again",
            lambda _: responding.ask_again(use_case, alert, judged[-1].last, case.training, configured),
            retried=True,
        )
    step("ask for a report", lambda _: reporting.ask(use_case, engine, configured, datetime.now(UTC)), retried=True)
    create_table_artifact([monitoring.row(each) for each in judged], key=f"watch-{use_case.replace('_', '-')}")
    with exclusive(configured, f"recompute-{use_case}", _WAIT_FOR_OTHER_LOOK):
        step(
            "compare features",
            lambda progress: recomputing.recompute(
                case, TrafficLog(engine), SkewLog(engine), configured, datetime.now(UTC), progress
            ),
            retried=True,
        )
