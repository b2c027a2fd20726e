"""Judges candidate and champion on the same rows, with paired intervals from one bootstrap by unit."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from orrery.errors import OrreryError
from orrery.lifecycle import Metric, Report
from orrery.usecase import Array, Model, Outputs, Progress, Training, silent

if TYPE_CHECKING:
    import pandas as pd

Score = Callable[[Model, Array], Outputs]
Draws = Mapping[str, Array]
_TIMED_ROWS = 200
_INTERVAL = (2.5, 97.5)


class EvaluationRefused(OrreryError):
    """The rows do not let this model be judged."""


def evaluate(
    training: Training,
    score: Score,
    candidate: Model,
    rows: "pd.DataFrame",
    folder: Path,
    *,
    champion: Model | None = None,
    champion_version: str | None = None,
    resamples: int = 200,
    seed: int = 7,
    progress: Progress = silent,
) -> Report:
    """Score the rows by both models and compare them; plots of the candidate go to `folder`.

    `rows` are raw rows with their features. Raises EvaluationRefused when there are none or a feature is missing.
    """
    inputs = inputs_of(training, candidate, rows)
    outputs = score(candidate, inputs)
    measures = [training.measure(rows, outputs)]
    if champion is not None:
        measures.append(training.measure(rows, score(champion, inputs_of(training, champion, rows))))
    draws = [[measure(np.ones(len(rows)))] for measure in measures]
    for done, weights in enumerate(_weights(rows[training.unit].to_numpy(), resamples, seed), 1):
        for measure, drawn in zip(measures, draws, strict=True):
            drawn.append(measure(weights))
        progress("evaluate", done, resamples, f"{len(rows):,} rows")
    values = [_columns(drawn) for drawn in draws]
    pairs = {name: values[0][name] - values[-1][name] for name in values[0]} if champion is not None else {}
    return Report(
        rows=len(rows),
        first=rows[training.moment].min().to_pydatetime(),
        last=rows[training.moment].max().to_pydatetime(),
        candidate=_metrics(values[0]),
        champion=_metrics(values[-1]) if champion is not None else {},
        champion_version=champion_version,
        differences=_metrics(pairs),
        latency_ms=latency_ms(score, candidate, inputs[:_TIMED_ROWS]),
        plots=training.plots(rows, outputs, folder),
    )


def inputs_of(training: Training, model: Model, rows: "pd.DataFrame") -> Array:
    """The model's inputs, float32, shape (n, inputs), in its own order. Raises EvaluationRefused."""
    names = [feature.name for feature in model.manifest.features]
    if missing := [name for name in names if name not in rows]:
        raise EvaluationRefused(f"the rows lack the features {', '.join(missing)}; build them with this version")
    if rows.empty:
        raise EvaluationRefused("there are no rows to evaluate on; choose another window")
    return training.inputs_of(rows, names)


def latency_ms(score: Score, model: Model, inputs: Array) -> float:
    """The median time of one row, milliseconds, over the rows of `inputs`, shape (n, inputs), after warming up."""
    taken = []
    for row in np.concatenate([inputs[:1].repeat(20, axis=0), inputs]):
        start = perf_counter()
        score(model, row[None])
        taken.append(perf_counter() - start)
    return float(np.median(taken[20:]) * 1000)


def _weights(units: Array, resamples: int, seed: int) -> Iterator[Array]:
    """How often each row counts when the units are drawn again with replacement; the same for every model."""
    distinct, codes = np.unique(units, return_inverse=True)
    draw = np.random.default_rng(seed)
    for _ in range(resamples):
        counts = np.bincount(draw.integers(len(distinct), size=len(distinct)), minlength=len(distinct))
        yield counts[codes].astype(np.float64)


def _columns(drawn: list[Mapping[str, float]]) -> Draws:
    return {name: np.array([metrics[name] for metrics in drawn]) for name in drawn[0]}


def _metrics(values: Draws) -> dict[str, Metric]:
    """The first draw is the value on the rows as they are, the others give its interval."""
    intervals = {name: np.nanpercentile(drawn[1:], _INTERVAL) for name, drawn in values.items()}
    return {
        name: Metric(float(drawn[0]), float(intervals[name][0]), float(intervals[name][1]))
        for name, drawn in values.items()
    }
