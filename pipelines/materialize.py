"""Bring the online store to what was known at a moment."""

from datetime import UTC, datetime

from prefect import flow

import usecases
from orrery import building
from orrery.adapters.feature_store import FeatureStore, FutureDate
from orrery.preparation import current
from orrery.settings import settings
from pipelines.steps import step, utc


@flow(name="materialize", flow_run_name="{use_case}", persist_result=False)  # type: ignore[untyped-decorator]
def materialize(use_case: str, end: datetime | None = None) -> None:
    """Write what was known at `end`, by default the data's last event, to the online store.

    A moment in the future is refused, before anything is read: it would hide all that happens until then.
    """
    end = utc(end)
    if end and end > datetime.now(UTC):
        raise FutureDate(f"{end:%Y-%m-%d %H:%M} is in the future; materialize up to now at the latest")
    configured = settings()
    snapshot = current(use_case, configured)
    case = step("load", lambda _: usecases.case(use_case))
    moment = end or min(building.span_of(case, snapshot)[1], datetime.now(UTC))
    store = FeatureStore(configured)
    step(
        "materialize",
        lambda progress: building.materialize(case, snapshot, store, configured, moment, progress),
        retried=True,
    )
