"""Prepare, build features, train, evaluate, gate, register, deploy: one release of one use case."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.logging import get_run_logger
from prefect.states import Completed

import usecases
from orrery import building, judging, releasing
from orrery.adapters.feature_store import FeatureStore
from orrery.adapters.locks import exclusive
from orrery.adapters.online_store import materialized_until
from orrery.collecting import collect
from orrery.lifecycle import Candidate, Passed, Report, Snapshot, Verdict
from orrery.preparation import LOGGED, prepare
from orrery.settings import Settings, settings
from orrery.usecase import Budget, Case, Progress, SourceRequest
from pipelines import tables
from pipelines.steps import step, utc

PROMOTED, REFUSED = "Promoted", "Refused"
_WAIT_FOR_OTHER_RELEASE = 1_800.0


@flow(name="release", flow_run_name="{use_case}", persist_result=False)  # type: ignore[untyped-decorator]
def release(
    use_case: str,
    as_of: datetime | None = None,
    days: int | None = None,
    trials: int = 0,
    seconds: float = 0,
    source: str = "",
    path: str = "",
    columns: dict[str, str] | None = None,
    sample: bool = False,
    cause: str = "",
) -> Any:
    """Train on what was known at `as_of` and release it if it passes the gate.

    Ends Completed as `Promoted` or as `Refused`; Failed means that there is no verdict. One release of a use case at a
    time; the same data, code, window and budget lead to the same run and the same version. `cause` is the key of the
    alert that asked for it: the audit log has it with the verdict.
    """
    configured = settings()
    # a file lock and not Prefect's limit, whose slots outlive a killed run by minutes
    with exclusive(configured, f"release-{use_case}", _WAIT_FOR_OTHER_RELEASE):
        case = step("load", lambda _: usecases.case(use_case))
        named = source or (next(iter(case.training.sources)) if sample else "")  # unnamed: what was prepared last
        wanted = SourceRequest(named, Path(path) if path else None, columns or {}, sample)
        return _release(case, wanted, utc(as_of), days, building.budget_of(case, configured, trials, seconds), cause)


def _release(
    case: Case, wanted: SourceRequest, as_of: datetime | None, days: int | None, budget: Budget, cause: str
) -> Any:
    configured = settings()
    store = FeatureStore(configured)
    snapshot = step("prepare", lambda progress: _snapshot(case, wanted, as_of, configured, progress), retried=True)
    if snapshot.sample and case.training.sample_gate:
        case = replace(case, training=replace(case.training, gate=case.training.sample_gate))
    window = building.window_of(case, snapshot, as_of, days)
    step("features", lambda progress: building.build_features(case, snapshot, store, configured, progress))
    split = step("rows", lambda _: building.split_rows(case, snapshot, window, store))
    candidate = step(
        "train", lambda progress: building.train(case, snapshot, window, budget, split, configured, progress)
    )
    report = step(
        "evaluate", lambda progress: judging.evaluate(case, candidate, split.test, configured, progress), retried=True
    )
    verdict = step("gate", lambda _: judging.judge(case, candidate, report, split.test, configured))
    if isinstance(verdict, Passed):
        _bring_online(case, snapshot, store, window.as_of)
    return _conclude(case, candidate, report, verdict, configured, cause)


def _snapshot(
    case: Case, wanted: SourceRequest, as_of: datetime | None, configured: Settings, progress: Progress
) -> Snapshot:
    """The raw data to learn from: prepared ones, or what was served, up to `as_of` where it is given."""
    if wanted.source != LOGGED:
        return prepare(case.name, case.training, wanted, configured, progress)
    return collect(case, configured, as_of or datetime.now(UTC), progress)


def _bring_online(case: Case, snapshot: Snapshot, store: FeatureStore, as_of: datetime) -> None:
    """Before a first champion answers, its features are there. Later ones find them: the nightly flow goes on."""
    configured = settings()
    views = {view.name for view in case.views if getattr(view, "online", False)}
    if views and materialized_until(configured, views) is None:
        moment = min(as_of, datetime.now(UTC))
        step(
            "materialize",
            lambda progress: building.materialize(case, snapshot, store, configured, moment, progress),
            retried=True,
        )


def _conclude(
    case: Case, candidate: Candidate, report: Report, verdict: Verdict, configured: Settings, cause: str
) -> Any:
    """Release what passed, and end in a state that says which of the two it was."""
    tables.publish_judgement(case.name, report, verdict)
    facts, actor = tables.facts(candidate, report, configured), f"prefect flow run {runtime.flow_run.id}"
    if not isinstance(verdict, Passed):
        step("record", lambda _: releasing.record_refusal(candidate, verdict, configured, actor, cause))
        tables.publish_facts(case.name, facts | {"verdict": "refused"})
        return Completed(name=REFUSED, message="; ".join(verdict.reasons))
    made = step("register", lambda _: releasing.register(verdict, configured), retried=True)
    deployed = step(
        "deploy",
        lambda _: releasing.deploy(made, case.serving, configured, actor, cause=cause, checks=verdict.checks),
        retried=True,
    )
    facts |= {"verdict": "promoted", "version": made.version, "gateway": deployed.served}
    facts |= {"previous": deployed.promotion.previous or "", "changed": deployed.promotion.changed}
    facts |= deployed.promotion.facts
    tables.publish_facts(case.name, facts)
    get_run_logger().info("%s version %s: %s", case.name, made.version, deployed.served)
    return Completed(name=PROMOTED, message=f"{case.name} version {made.version} is the champion")
