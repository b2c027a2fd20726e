"""`orrery evaluate`: any version on any window, by the same code as the gate."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orrery.lifecycle import Report

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def evaluate(
    use_case: Annotated[str, typer.Argument(help="Which use case.")],
    first: Annotated[datetime, typer.Option("--from", help="First moment (UTC).", formats=_FORMATS)],
    last: Annotated[datetime, typer.Option("--to", help="First moment after the window (UTC).", formats=_FORMATS)],
    version: Annotated[str, typer.Option(help="Version or alias.")] = "champion",
    plots: Annotated[Path | None, typer.Option(help="Folder for the plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a registered version on a window of time.

    Example: orrery evaluate fraud --from 2018-09-01 --to 2018-09-08 --version champion --plots build/plots
    """
    import tempfile

    import usecases
    from cli.console import emit, progress
    from orrery.adapters.feature_store import FeatureStore
    from orrery.building import build_features, rows_to_judge
    from orrery.judging import described, evaluate_version
    from orrery.preparation import current
    from orrery.settings import settings

    configured = settings()
    case, store = usecases.case(use_case), FeatureStore(configured)
    snapshot = current(use_case, configured)
    with progress() as bars, tempfile.TemporaryDirectory() as scratch:
        build_features(case, snapshot, store, configured, bars)
        rows = rows_to_judge(case, snapshot, first.replace(tzinfo=UTC), last.replace(tzinfo=UTC), store)
        judged, report = evaluate_version(case, version, rows, configured, Path(scratch), bars)
        drawn = _keep(report, plots) if plots else []
    about: dict[str, object] = {"use_case": use_case, "version": judged.version, "data_version": snapshot.data_version}
    about |= {"rows": report.rows, "first": report.first, "last": report.last, "latency_ms": report.latency_ms}
    if as_json:
        emit({**about, "metrics": described(report)["candidate"], "plots": drawn}, as_json=True)
        return
    emit(_lines(report), as_json=False, title="95 % intervals")
    emit({**about, **({"plots": ", ".join(drawn)} if drawn else {})}, as_json=False)


def _lines(report: "Report") -> list[dict[str, str]]:
    return [
        {"metric": name, "value": f"{m.value:.4f}", "low": f"{m.low:.4f}", "high": f"{m.high:.4f}"}
        for name, m in report.candidate.items()
    ]


def _keep(report: "Report", folder: Path) -> list[str]:
    """Copy the plots to the folder; returns their paths."""
    import shutil

    folder.mkdir(parents=True, exist_ok=True)
    return [str(shutil.copy(path, folder)) for path in report.plots.values()]
