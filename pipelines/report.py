"""Make the report on a window of served traffic that is due: pages beside the run whose model answered."""

from datetime import UTC, datetime

from prefect import flow
from prefect.artifacts import create_link_artifact

import usecases
from orrery import reporting
from orrery.adapters.database import open_database
from orrery.settings import settings
from orrery.usecase import Case
from pipelines.steps import step


@flow(name="report", flow_run_name="{use_case}", persist_result=False)  # type: ignore[untyped-decorator]
def report(use_case: str) -> None:
    """Report on the newest window that has none, or none with its labels. The flow `watch` asks for it."""
    configured = settings()
    engine = open_database(configured.log_url, configured.log.durable)
    case = step("load", lambda _: Case(use_case, usecases.training(use_case), usecases.serving(use_case)))
    made = step(
        "report",
        lambda progress: reporting.make(case, engine, configured, datetime.now(UTC), progress),
        retried=True,
    )
    if made is not None:
        for name in made.pages:
            key = f"report-{use_case}-{name.removesuffix('.html')}".replace("_", "-")
            create_link_artifact(reporting.page(made, name, configured), f"{name} of {made.window}", key=key)
