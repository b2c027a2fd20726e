"""The watch: false alarms of sixty stationary days, days from a change to its alarm, and the cost of a look."""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import usecases
from cli.console import emit, progress
from orrery.adapters.model_server import load_model
from orrery.building import seal
from orrery.drift import columns_drift, drifted_share
from orrery.lifecycle import Snapshot
from orrery.monitoring import compared
from orrery.quality import parted
from orrery.reference import Rows, reference_histograms
from orrery.settings import settings
from orrery.usecase import Array, Case, Model, Progress, SourceRequest, Window

if TYPE_CHECKING:
    import pandas as pd

NAME = "fraud"
AS_OF, CHANGED, LAST = (datetime(2018, month, day, tzinfo=UTC) for month, day in ((8, 1), (8, 10), (9, 30)))
CHANGES = {
    "stationary": None,
    "amounts x 1.3": ("amount", "1.3"),
    "a ring of terminals": ("new-pattern", "terminal-ring"),
}
ROWS, FEATURES, REFERENCE_ROWS = 100_000, 30, 2_000
DAY = timedelta(days=1)
_SIGNALS = ("inputs", "score", "either", "quality")


@dataclass(frozen=True)
class Day:
    """What the watch says of one day, and when it can."""

    first: datetime
    inputs: bool
    score: bool
    quality: bool
    """truth parts from the estimate; known once labels have arrived"""

    @property
    def either(self) -> bool:
        return self.inputs or self.score


def run(report: Progress) -> dict[str, Any]:
    """Everything; the model is trained once, as a release does, with a search of one trial."""
    training, serving = usecases.training(NAME), usecases.serving(NAME)
    source = next(iter(training.sources.values()))
    raw = training.validate(source(SourceRequest(next(iter(training.sources))), report))
    with tempfile.TemporaryDirectory() as folder:
        model = _model(Case(NAME, training, serving), _featured(raw), Path(folder), report)
        found = {}
        for number, (name, change) in enumerate(CHANGES.items()):
            report("watch", number, len(CHANGES), name)
            days = list(_watched(_featured(_changed(raw, change)), model))
            found[name] = _figures(days, changed=change is not None)
        report("watch", len(CHANGES), len(CHANGES))
    return {"from": f"{AS_OF:%Y-%m-%d}", "changed": f"{CHANGED:%Y-%m-%d}", "alarms": found, "cost": _cost()}


def _featured(raw: "pd.DataFrame") -> "pd.DataFrame":
    training, names = usecases.training(NAME), usecases.serving(NAME).feature_names
    [table] = training.features(raw).values()
    new = [name for name in names if name not in raw.columns]
    return raw.merge(table[[training.identity, *new]], on=training.identity)


def _changed(raw: "pd.DataFrame", change: tuple[str, str] | None) -> "pd.DataFrame":
    from cli.drift_option import Drift, drifted

    training = usecases.training(NAME)
    return drifted(raw, [Drift(*change, CHANGED)], training) if change else raw


def _model(case: Case, rows: "pd.DataFrame", folder: Path, report: Progress) -> Model:
    window = Window(AS_OF, case.training.train_days)
    split = case.training.split(rows, window)
    budget = replace(case.training.budget, trials=1)
    fitted = case.training.fit(split, budget, report, folder / "bundle")
    bundle = seal(case, Snapshot(NAME, Path(), "bench", {}), window, split, fitted, settings())
    return load_model(bundle.folder)


def _watched(rows: "pd.DataFrame", model: Model) -> Iterator[Day]:
    case, manifest = usecases.case(NAME), model.manifest
    training, names = case.training, list(case.serving.feature_names)
    day = AS_OF
    while day < LAST:
        moments = rows[training.moment]
        window = rows[(moments >= day) & (moments < day + DAY)]
        values = window[names].to_numpy(np.float32)
        scores = case.serving.score(model, values)[case.serving.monitored_output]
        columns, score = compared(case, manifest, values, scores)
        yield Day(
            first=day,
            inputs=drifted_share(columns) > training.watching.share,
            score=score is not None and score.drifted,
            quality=bool(parted(scores, window[training.target].to_numpy(np.float64))),
        )
        day += DAY


def _figures(days: Sequence[Day], *, changed: bool) -> dict[str, Any]:
    """Alarms are windows sustained, as the watch counts them; after a change the days until the first."""
    watching, delay = usecases.training(NAME).watching, usecases.training(NAME).label_delay
    figures: dict[str, Any] = {"windows": len(days)}
    for signal in _SIGNALS:
        said = [bool(getattr(day, signal)) for day in days]
        sustained = [
            day.first for place, day in enumerate(days)
            if sum(said[max(0, place + 1 - watching.of) : place + 1]) >= watching.drifted
        ]  # fmt: skip
        if not changed:
            figures[signal] = {"windows": sum(said), "alarms": len(sustained)}
            continue
        after = [first for first in sustained if first >= CHANGED]
        known = DAY + (delay if signal == "quality" else timedelta(0))
        figures[signal] = {"days_to_alarm": (after[0] + known - CHANGED) / DAY if after else None}
    return figures


def _cost() -> dict[str, Any]:
    """Seconds for the drift of a hundred thousand rows of thirty inputs, binned as the watch does, and a report's."""
    draw = np.random.default_rng(0)
    names = [f"x{number}" for number in range(FEATURES)]

    def sample() -> Array:
        return draw.normal(size=(ROWS, FEATURES))

    reference = reference_histograms(sample(), names, {})
    values, began = sample(), time.perf_counter()
    columns_drift(reference, names, values, {})
    seconds = round(time.perf_counter() - began, 2)
    return {"rows": ROWS, "inputs": FEATURES, "seconds": seconds, **_reported(names, values, sample()[:REFERENCE_ROWS])}


def _reported(names: Sequence[str], values: Array, reference: Array) -> dict[str, Any]:
    """Seconds and megabytes of all pages on rows with labels, Evidently's import and the writing included."""
    began = time.perf_counter()
    from orrery.adapters.evidently_reports import Asked, write_reports

    def rows(inputs: Array) -> Rows:
        scores = 1 / (1 + np.exp(2 - inputs[:, 0]))
        return Rows(inputs, scores, (np.random.default_rng(1).random(len(scores)) < scores).astype(np.float64))

    with tempfile.TemporaryDirectory() as folder:
        asked = Asked(names, "score", "classification", rows(values), rows(reference), AS_OF)
        pages = write_reports(asked, Path(folder), 10**9).pages
        size = sum(page.stat().st_size for page in pages) / 1e6
    return {"report_seconds": round(time.perf_counter() - began, 1), "report_mb": round(size, 1)}


def _said(signal: dict[str, Any], windows: int) -> str:
    if "alarms" in signal:
        rate = f"one in {windows / signal['windows']:.0f}" if signal["windows"] else f"none in {windows}"
        return f"{rate} windows, {signal['alarms']} alarms"
    days = signal["days_to_alarm"]
    return "no alarm" if days is None else f"alarm after {days:g} days"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="figures for machines")
    as_json = parser.parse_args().json
    with progress() as show:
        found = run(show)
    if as_json:
        emit(json.loads(json.dumps(found)), as_json=True)
        return
    rows = [
        {"world": name} | {signal: _said(figures[signal], figures["windows"]) for signal in _SIGNALS}
        for name, figures in found["alarms"].items()
    ]
    emit(rows, as_json=False, title=f"The watch from {found['from']}, the world changed on {found['changed']}")
    emit(found["cost"], as_json=False)


if __name__ == "__main__":
    main()
