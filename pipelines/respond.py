"""Answer an alert that asks for a retraining: decide, write it down, and start the release if it may be."""

from typing import Any

from prefect import flow, runtime
from prefect.logging import get_run_logger
from prefect.states import Completed

import usecases
from orrery import responding
from orrery.retraining import Alert
from orrery.settings import settings
from pipelines.steps import step

STARTED, SUGGESTED, DECLINED = "Started", "Suggested", "Declined"
_ENDS = {"start": STARTED, "suggest": SUGGESTED, "decline": DECLINED}


@flow(name="respond", flow_run_name="{use_case}", persist_result=False)  # type: ignore[untyped-decorator]
def respond(use_case: str, alert: Alert) -> Any:
    """Start or suggest a release, or decline, as the policy says; the audit log has why.

    Ends Completed as `Started`, `Suggested` or `Declined`. Run again, after a crash at any point, it finds what it
    decided and sees that the release is there: one alert never starts two.
    """
    configured, run_id = settings(), str(runtime.flow_run.id)
    training = step("load", lambda _: usecases.training(use_case))
    with responding.one_at_a_time(use_case, configured):
        actor = f"prefect flow run {run_id}"
        found = step(
            "decide",
            lambda _: responding.respond(use_case, alert, training, configured, run_id, actor),
            retried=True,
        )
        message = "; ".join(found.reasons)
        if found.verdict == "start":
            started = step(
                "start",
                lambda _: responding.ensure_release(use_case, found.cause, found.parameters, configured),
                retried=True,
            )
            message = f"release run {started.run_id}: {message}"
    get_run_logger().info("%s: %s: %s", alert.name, found.verdict, message)
    return Completed(name=_ENDS[found.verdict], message=message)
