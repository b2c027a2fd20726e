"""Whether the rows of a window and those of the reference are of one kind: permutation tests of a few distances."""

from collections.abc import Callable

import numpy as np

from orrery.usecase import Array
from orrery.watching import Measure, Sample

MOST = 500
"""rows of either side: with more, a test finds differences that nobody cares about"""
_DIVISIONS, _QUANTILE = 2_000, 0.999
Statistic = Callable[[Array], Array]
"""divisions of all rows, float32 0 or 1, shape (divisions, rows), 1 for the window's -> values, shape (divisions,)"""


def thinned(sample: Sample, most: int = MOST) -> dict[str, Array]:
    """At most so many rows, drawn at random, the same ones each time, in their order."""
    rows = len(next(iter(sample.values()))) if sample else 0
    kept = np.sort(np.random.default_rng(rows).permutation(rows)[:most])
    return {name: np.asarray(values)[kept] for name, values in sample.items()}


def permuted(feature: str, method: str, window: int, reference: int, statistic: Statistic) -> Measure:
    """A statistic of the window's rows, which come first, and what it exceeds once in a thousand random divisions.

    Exact whatever the rows are, and however few, as long as those of both sides are independent of each other.
    """
    rows = window + reference
    draw = np.random.default_rng(rows * 31 + window)
    divisions = np.zeros((1 + _DIVISIONS, rows), np.float32)
    divisions[0, :window] = 1
    drawn = draw.random((_DIVISIONS, rows)).argsort(axis=1)[:, :window]
    np.put_along_axis(divisions[1:], drawn, 1, axis=1)
    found = statistic(divisions)
    return Measure(feature, method, float(found[0]), float(np.quantile(found[1:], _QUANTILE, method="higher")))


def mean_above(feature: str, method: str, window: Array, reference: Array) -> Measure:
    """The window's mean; shape (n,) each. What is higher than the reference's is drift, what is lower is none."""
    values = np.concatenate([window, reference]).astype(np.float64)
    return permuted(feature, method, len(window), len(reference), lambda divisions: divisions @ values / len(window))


def mmd(feature: str, window: Array, reference: Array) -> Measure:
    """The squared maximum mean discrepancy of two clouds of points, shape (n, values) each, without bias.

    With a Gaussian kernel as wide as the median distance within the reference: Gretton et al., "A Kernel Two-Sample
    Test", JMLR 2012.
    """
    points = np.concatenate([window, reference]).astype(np.float64)
    squares = _squares(points)
    inside = squares[len(window) :, len(window) :][np.triu_indices(len(reference), 1)]
    wide = float(np.median(inside)) if inside.size else 0.0
    kernel = np.exp(-squares / (2 * (wide or 1.0))).astype(np.float32)
    np.fill_diagonal(kernel, 0)
    many, others = len(window), len(reference)
    pairs, other_pairs = (max(rows * (rows - 1), 1) for rows in (many, others))

    def statistic(divisions: Array) -> Array:
        near = divisions @ kernel
        within, across = (near * divisions).sum(axis=1), (near * (1 - divisions)).sum(axis=1)
        beyond = kernel.sum(dtype=np.float64) - within - 2 * across
        found: Array = within / pairs + beyond / other_pairs - 2 * across / (many * others)
        return found

    return permuted(feature, "mmd_rbf", many, others, statistic)


def divergence(feature: str, method: str, window: Array, reference: Array) -> Measure:
    """The Jensen-Shannon divergence, in bits, of the sums of counts, shape (n, groups) each."""
    counts = np.concatenate([window, reference]).astype(np.float64)

    def statistic(divisions: Array) -> Array:
        one, other = (_shares(part @ counts) for part in (divisions, 1 - divisions))
        middle = (one + other) / 2
        return _entropy(middle) - (_entropy(one) + _entropy(other)) / 2

    return permuted(feature, method, len(window), len(reference), statistic)


def unseen(feature: str, method: str, window: Array, reference: Array) -> Measure:
    """The share of the window's counts in groups of which the reference has none; counts of shape (n, groups) each."""
    counts = np.concatenate([window, reference]).astype(np.float64)
    whole = counts.sum(axis=0)

    def statistic(divisions: Array) -> Array:
        inside = divisions @ counts
        found: Array = (inside * (inside == whole)).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
        return found

    return permuted(feature, method, len(window), len(reference), statistic)


def repeated(feature: str, method: str, window: Array, reference: Array) -> Measure:
    """Of the places in the window's lists, ids of shape (n, k) each, -1 beyond their end, the share that holds an item
    which fills another one too: the fewer items are listed for all, the higher it is."""
    ids = np.concatenate([window, reference]).astype(np.int64)
    known, places = np.unique(ids, return_inverse=True)
    holds = np.zeros((len(ids), len(known)), np.float32)
    np.put_along_axis(holds, places.reshape(ids.shape), 1, axis=1)
    holds = holds[:, known >= 0]
    size = holds.sum(axis=1)

    def statistic(divisions: Array) -> Array:
        found: Array = 1 - (divisions @ holds > 0).sum(axis=1) / np.maximum(divisions @ size, 1)
        return found

    return permuted(feature, method, len(window), len(reference), statistic)


def by_kind(*samples: Array) -> tuple[Array, ...]:
    """Numbers that name a kind, shape (n,) each -> 1 for each row's kind of all there are, else 0, shape (n, kinds)."""
    kinds = np.unique(np.concatenate(samples))
    return tuple((sample[:, None] == kinds).astype(np.int64) for sample in samples)


def _squares(points: Array) -> Array:
    length = (points**2).sum(axis=1)
    found: Array = np.maximum(length[:, None] + length - 2 * points @ points.T, 0)
    return found


def _shares(counts: Array) -> Array:
    found: Array = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return found


def _entropy(shares: Array) -> Array:
    found: Array = -(shares * np.log2(np.maximum(shares, 1e-300))).sum(axis=1)
    return found
