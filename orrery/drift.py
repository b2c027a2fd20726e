"""Drift of one column against frozen reference bins: population stability index, and the threshold chance allows."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from orrery.bundle import Histogram
from orrery.usecase import Array
from orrery.watching import ColumnDrift

LEAST_THRESHOLD = 0.1
"""below it a shift is of no interest, however sure one is of it"""
_EMPTY = 1e-4
"""the least share of a bin: one that the reference has never seen would otherwise count infinitely much"""
_DRAWS, _QUANTILE = 2_000, 0.999


def psi(reference: Array, current: Array) -> Array:
    """The population stability index of shares, shape (..., bins), summed over the last axis."""
    expected, found = np.maximum(reference, _EMPTY), np.maximum(current, _EMPTY)
    return np.asarray(((found - expected) * np.log(found / expected)).sum(axis=-1))


def binned(histogram: Histogram, values: Array) -> Array:
    """Count values, shape (n,), into the reference's bins and four more: below, above, unseen between, missing.

    Unseen is what a column of few distinct values has never been; infinite values are below or above.
    """
    edges = np.asarray(histogram.edges)
    given = values[~np.isnan(values)].astype(np.float64)
    inside = (given >= edges[0]) & (given <= edges[-1])
    seen = np.isin(given, np.asarray(histogram.values)) if histogram.values else inside
    places = np.searchsorted(edges[1:-1], given[inside & seen], side="right")
    counts = np.bincount(places, minlength=len(edges) - 1)
    odd = [(given < edges[0]).sum(), (given > edges[-1]).sum(), (inside & ~seen).sum(), len(values) - len(given)]
    return np.concatenate([counts, odd])


def column_drift(name: str, histogram: Histogram, values: Array, importance: float = 0.0) -> ColumnDrift:
    """How far values, shape (n,) with n > 0, are from the reference."""
    reference = np.array([*histogram.counts, 0, 0, 0, histogram.missing], dtype=np.float64)
    counts, rows = binned(histogram, values), len(values)
    return ColumnDrift(
        name=name,
        psi=float(psi(reference / max(reference.sum(), 1), counts / rows)),
        threshold=threshold(tuple(reference.astype(int).tolist()), rows),
        missing=float(counts[-1] / rows),
        outside=float(counts[-4:-1].sum() / rows),
        importance=importance,
    )


@lru_cache(maxsize=512)
def threshold(reference: tuple[int, ...], rows: int) -> float:
    """What the index of `rows` rows from the reference itself exceeds once in a thousand, and at least 0.1.

    The reference is a sample too: both are drawn anew, with the same seed at every call.
    """
    total = max(sum(reference), 1)
    shares = np.asarray(reference) / total
    draw = np.random.default_rng(total * 31 + rows)
    samples = (draw.multinomial(size, shares, size=_DRAWS) / size for size in (total, rows))
    return max(LEAST_THRESHOLD, float(np.quantile(psi(*samples), _QUANTILE)))


def columns_drift(
    reference: Mapping[str, Histogram], names: Sequence[str], values: Array, importance: Mapping[str, float]
) -> tuple[ColumnDrift, ...]:
    """Drift of each named column, values of shape (n, names); the most important first."""
    found = [
        column_drift(name, reference[name], values[:, place], importance.get(name, 0.0))
        for place, name in enumerate(names)
        if name in reference
    ]
    return tuple(sorted(found, key=lambda column: -column.importance))


def drifted_share(columns: Sequence[ColumnDrift]) -> float:
    """The drifted columns' part of all importance; of their number where no importance is known."""
    weights = [column.importance for column in columns]
    if not any(weights):
        weights = [1.0] * len(columns)
    drifted = sum(weight for weight, column in zip(weights, columns, strict=True) if column.drifted)
    return drifted / sum(weights) if weights else 0.0
