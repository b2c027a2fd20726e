"""What a bundle remembers of its rows: frozen histograms for drift, golden rows for reloading, a sample for reports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from orrery.bundle import Golden, Histogram
from orrery.two_samples import thinned
from orrery.usecase import Array, Outputs

MOST_BINS = 20
_GOLDEN_ROWS, _GOLDEN_VALUES = 32, 150_000
"""at most, in all: rows of pictures are large, and a manifest is read at every load"""
_SHUFFLED_ROWS, _SHUFFLED_VALUES = (200, 2_000), 100_000
_SAMPLE, _SAMPLED_ROWS = "reference.npy", 2_000


@dataclass(frozen=True)
class Rows:
    """What a model was asked, what it said, and what was true."""

    inputs: Array
    """shape (n, names)"""
    scores: Array
    """the watched output, shape (n,)"""
    labels: Array
    """shape (n,), NaN where none is known"""

    def keep(self, folder: Path) -> None:
        """Write at most two thousand of the rows, drawn evenly, into a bundle's folder."""
        chosen = np.unique(np.linspace(0, len(self.scores) - 1, min(_SAMPLED_ROWS, len(self.scores))).round())
        rows = np.column_stack([self.inputs, self.scores, self.labels])[chosen.astype(int)]
        np.save(folder / _SAMPLE, rows.astype(np.float32), allow_pickle=False)

    @classmethod
    def kept(cls, folder: Path) -> Self | None:
        """What `keep` wrote; None: the bundle is older than that."""
        if not (folder / _SAMPLE).is_file():
            return None
        rows = np.load(folder / _SAMPLE, allow_pickle=False).astype(np.float64)
        return cls(rows[:, :-2], rows[:, -2], rows[:, -1])


def frozen_edges(values: Array) -> list[float]:
    """Edges of at most 20 bins of about equal mass, strictly rising; a bin of its own for each of few values."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0:
        return [0.0, 1.0]
    distinct = np.unique(finite)
    if len(distinct) <= MOST_BINS:
        inner = (distinct[1:] + distinct[:-1]) / 2
        return [float(distinct[0] - 0.5), *map(float, inner), float(distinct[-1] + 0.5)]
    return [float(edge) for edge in np.unique(np.quantile(finite, np.linspace(0, 1, MOST_BINS + 1)))]


def histogram(values: Array, edges: Sequence[float]) -> Histogram:
    """Count values, shape (n,), into the bins; what lies outside counts in the first or the last, NaN is missing."""
    missing = np.isnan(values)
    given = values[~missing].astype(np.float64)
    bins = np.searchsorted(np.asarray(edges[1:-1]), given, side="right")
    counts = np.bincount(bins, minlength=len(edges) - 1)
    distinct = np.unique(given[np.isfinite(given)])
    few = distinct.tolist() if len(distinct) <= MOST_BINS else []
    return Histogram(edges=list(edges), counts=counts.tolist(), missing=int(missing.sum()), values=few)


def reference_histograms(inputs: Array, names: Sequence[str], outputs: Outputs) -> dict[str, Histogram]:
    """Histograms of every input column, inputs of shape (n, names), and of every output with one value a row."""
    columns: Mapping[str, Array] = {
        **{name: inputs[:, column] for column, name in enumerate(names)},
        **{name: values for name, values in outputs.items() if values.ndim == 1},
    }
    return {name: histogram(values, frozen_edges(values)) for name, values in columns.items()}


def reference_samples(
    inputs: Array, names: Sequence[str], outputs: Outputs, sampled: Sequence[str]
) -> dict[str, list[Any]]:
    """Some rows of the features and outputs `sampled`."""
    columns = {**{name: inputs[:, column] for column, name in enumerate(names)}, **outputs}
    found = thinned({name: columns[name] for name in sampled})
    return {name: np.round(values.astype(np.float64), 6).tolist() for name, values in found.items()}


def importances(
    score: Callable[[Array], Outputs], inputs: Array, names: Sequence[str], watched: str
) -> dict[str, float]:
    """Each named input's share of the watched output: how far it moves on average when the input is shuffled.

    Inputs of shape (n, inputs) whose first columns are the names. Empty when nothing moves it.
    """
    least, most = _SHUFFLED_ROWS
    rows = inputs[: max(least, min(most, _SHUFFLED_VALUES // inputs.shape[1]))]
    usual, draw, moved = score(rows)[watched], np.random.default_rng(7), {}
    for column, name in enumerate(names):
        shuffled = rows.copy()
        shuffled[:, column] = draw.permutation(rows[:, column])
        moved[name] = float(np.abs(score(shuffled)[watched] - usual).mean())
    total = sum(moved.values())
    return {name: value / total for name, value in moved.items()} if total > 0 else {}


def golden_rows(inputs: Array, outputs: Outputs, by: str = "score") -> Golden:
    """Rows that span the range of the output `by`, the lowest and the highest included, with all their outputs."""
    order = np.argsort(outputs[by], kind="stable")
    most = max(4, min(_GOLDEN_ROWS, _GOLDEN_VALUES // inputs.shape[1]))
    spread = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)
    top = order[-most // 4 :]
    rows = np.unique(np.concatenate([order[spread], top]))
    return Golden(
        inputs=inputs[rows].astype(np.float64).tolist(),
        outputs={name: values[rows].astype(np.float64).ravel().tolist() for name, values in outputs.items()},
    )
