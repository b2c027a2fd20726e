"""From a candidate to a verdict: judged beside the champion on the same rows, and put on its record."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orrery import gate
from orrery.adapters.registry import CHAMPION, Registry, Version
from orrery.lifecycle import Candidate, Passed, Report, Verdict
from orrery.settings import Settings
from orrery.usecase import Case, Model, Progress, silent

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Loaded:
    """A registered version, ready to answer."""

    version: Version
    model: Model


def load_version(use_case: str, reference: str, settings: Settings, folder: Path) -> Loaded:
    """Download, verify and load a version by number or alias. Raises UnknownVersion, BundleRefused."""
    from orrery.adapters.model_server import load_model

    registry = Registry(settings)
    version = registry.version(use_case, reference)
    bundle = registry.download(version.run_id, version.digest, folder)
    return Loaded(version, load_model(bundle.folder))


def evaluate(
    case: Case, candidate: Candidate, rows: "pd.DataFrame", settings: Settings, progress: Progress = silent
) -> Report:
    """Judge the candidate, and the champion if it is another one, on the same rows: raw columns and features."""
    from orrery.adapters.model_server import load_model
    from orrery.evaluation import evaluate as compare

    folder = candidate.bundle.folder.parent
    standing = Registry(settings).find(case.name, CHAMPION)
    champion = None
    if standing is not None and standing.digest != candidate.bundle.digest:
        champion = load_version(case.name, standing.version, settings, folder / "champion")
    return compare(
        case.training,
        case.serving.score,
        load_model(candidate.bundle.folder),
        rows,
        plots_folder(folder),
        champion=champion.model if champion else None,
        champion_version=champion.version.version if champion else None,
        progress=progress,
    )


def evaluate_version(
    case: Case,
    reference: str,
    rows: "pd.DataFrame",
    settings: Settings,
    folder: Path,
    progress: Progress = silent,
) -> tuple[Version, Report]:
    """Measure any version on any rows, by the same code as the gate; plots go to `folder/plots`."""
    from orrery.evaluation import evaluate as measure

    loaded = load_version(case.name, reference, settings, folder)
    report = measure(case.training, case.serving.score, loaded.model, rows, plots_folder(folder), progress=progress)
    return loaded.version, report


def judge(case: Case, candidate: Candidate, report: Report, rows: "pd.DataFrame", settings: Settings) -> Verdict:
    """Ask the gate, and write report and verdict to the candidate's run."""
    training, names = case.training, list(case.serving.feature_names)
    integrity = [
        gate.no_feature_is_the_answer(
            rows[names].to_numpy(np.float32), rows[training.target].to_numpy(np.float64), names
        ),
        gate.reloads(candidate.bundle.folder, case.serving.score, case.serving.tolerance),
    ]
    verdict = gate.judge(training.gate, candidate, report, integrity)
    _write_down(case, candidate, report, verdict, settings)
    return verdict


def plots_folder(folder: Path) -> Path:
    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    return plots


def described(report: Report) -> dict[str, Any]:
    """A report as plain values, for JSON."""

    def metrics(found: Mapping[str, Any]) -> dict[str, Any]:
        return {name: asdict(metric) for name, metric in found.items()}

    return {
        "rows": report.rows,
        "first": _text(report.first),
        "last": _text(report.last),
        "latency_ms": report.latency_ms,
        "candidate": metrics(report.candidate),
        "champion_version": report.champion_version,
        "champion": metrics(report.champion),
        "differences": metrics(report.differences),
    }


def _text(moment: datetime) -> str:
    return moment.isoformat()


def _write_down(case: Case, candidate: Candidate, report: Report, verdict: Verdict, settings: Settings) -> None:
    from orrery.model_card import model_card

    registry = Registry(settings)
    metrics = {
        f"test_{name}{suffix}": value
        for name, metric in report.candidate.items()
        for suffix, value in (("", metric.value), ("_low", metric.low), ("_high", metric.high))
        if np.isfinite(value)
    }
    passed = isinstance(verdict, Passed)
    checks = [asdict(check) for check in verdict.checks]
    files = {
        "verdict.json": json.dumps({"passed": passed, "checks": checks, "report": described(report)}, indent=1),
        "model_card.md": model_card(case.training, candidate.bundle.manifest, report, verdict.checks),
    }
    tags = {"gate": "passed" if passed else "refused"}
    registry.log_plots(candidate.run_id, list(report.plots.values()))
    registry.log_judgement(candidate.run_id, {**metrics, "latency_ms": report.latency_ms}, tags, files)
