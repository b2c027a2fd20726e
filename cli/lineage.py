"""`orrery lineage`: everything a prediction came from."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import emit
from cli.gateway import CatalogueDown, ask_catalogue, ask_gateway
from orrery.adapters.audit_log import AuditLog
from orrery.retraining import caused
from orrery.settings import Settings, settings

if TYPE_CHECKING:
    from rich.tree import Tree

ANCESTRY = ("data_version", "git_commit", "lock_hash", "idempotency_key")
"""tags of a run that say what it was made of"""


def lineage(
    prediction_id: Annotated[str, typer.Argument(help="as the answer gave it")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Where a prediction came from: request, features and their ages, model, run, data, code, label.

    Where an alert asked for the model's release: which, and the window of traffic that it was about.

    Example: orrery lineage 0198c2f6a7d14b3e9a54c1f0d2b7e811
    """
    found = trace(settings(), prediction_id)
    emit(found if as_json else tree(found), as_json)


def trace(configured: Settings, prediction_id: str) -> dict[str, Any]:
    """The gateway's record of a prediction and, beside it, `training`: what MLflow knows of the model's run.

    `training` is None when no model answered, and says so when MLflow is away: the record itself does not need it.
    `release` is what the audit log has of the version's release; it is beside the worker, and empty elsewhere.
    """
    found = ask_gateway(configured, f"/v1/predictions/{prediction_id}")
    model = found.get("model") or {}
    found["training"] = _run(configured, model["run_id"]) if model.get("run_id") else None
    found["release"] = caused(AuditLog(configured).records(), found["use_case"], model.get("digest", ""))
    return found


def _run(configured: Settings, run_id: str) -> dict[str, Any]:
    try:
        answer = ask_catalogue(configured, "runs/get", {"run_id": run_id})
    except CatalogueDown as error:
        return {"unavailable": str(error)}
    if answer is None:
        return {"unavailable": f"MLflow does not know the run {run_id}"}
    run = answer["run"]
    tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
    metrics = {metric["key"]: metric["value"] for metric in run["data"].get("metrics", [])}
    experiment = run["info"]["experiment_id"]
    return {
        "run_id": run_id,
        "url": f"{configured.opened_at('mlflow')}/#/experiments/{experiment}/runs/{run_id}",
        **{name: tags[name] for name in ANCESTRY if name in tags},
        "metrics": metrics,
    }


def tree(found: Mapping[str, Any]) -> "Tree":
    """The record as a tree, from the answer down to the code."""
    from rich.tree import Tree

    root = Tree(f"[bold]{found['use_case']}[/] prediction {found['prediction_id']}")
    _branch(root, "answer", found["answer"])
    _branch(root, "request", found["request"])
    features = _branch(root, "features", found.get("features") or {})
    for view, source in (found.get("sources") or {}).items():
        age = source.get("age_seconds")
        old = "never seen" if age is None else f"{age / 3_600:.1f} h before the event"
        features.add(f"[dim]from {view} {source.get('entity')}: {source.get('status')}, {old}[/]")
    model = _branch(root, "model", found.get("model") or {"none": "rules answered"})
    if found["training"]:
        _branch(model, "training run", _without_intervals(found["training"]))
    if found["release"]:
        _branch(model, "release", found["release"])
    _branch(root, "label", found.get("label") or {"not yet": "labels arrive later"})
    return root


def _without_intervals(run: Mapping[str, Any]) -> dict[str, Any]:
    """The run for a person: `--json` and MLflow have the ends of the intervals too."""
    metrics = {name: value for name, value in run.get("metrics", {}).items() if not name.endswith(("_low", "_high"))}
    return {**run, **({"metrics": metrics} if metrics else {})}


def _branch(parent: "Tree", name: str, values: Mapping[str, Any]) -> "Tree":
    from rich.markup import escape

    branch = parent.add(f"[bold]{name}[/]")
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            _branch(branch, key, value)
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            branch.add(f"{escape(key)}: {escape(shown)}")
    return branch
