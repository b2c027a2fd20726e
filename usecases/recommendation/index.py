"""An index of item factors, for catalogues too large to look at every item: kept only if it finds what is there."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow  # noqa: F401  before usearch, after which it crashes on moments with a time zone

from orrery.usecase import Array
from usecases.recommendation.factors import EXPANSION_SEARCH, Factors

MOST_EXACT = 200_000
"""items that can all be looked at in a few milliseconds"""
LEAST_RECALL = 0.95
_SOUGHT = 100
_CONNECTIVITY = 32
_EXPANSION_ADD = 128


def indexed(factors: Factors, tastes: Iterable[Array], most_exact: int = MOST_EXACT) -> tuple[Factors, float | None]:
    """Factors with an HNSW index if there are more than `most_exact`, and its recall; the same ones if there are not.

    The recall is that of the 100 best items of each user, `tastes` of shape (d,). Below LEAST_RECALL no index is
    kept: a slow answer is better than a wrong one.
    """
    if len(factors.vectors) <= most_exact:
        return factors, None
    from usearch.index import Index

    index = Index(
        ndim=factors.vectors.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )
    index.add(np.arange(len(factors.vectors)), factors.vectors, threads=1)  # one thread: the same graph every time
    found = recall(index, factors.vectors, tastes)
    return (replace(factors, index=index) if found >= LEAST_RECALL else factors), found


def recall(index: Any, vectors: Array, tastes: Iterable[Array]) -> float:
    """Mean share of the best items, by factors of shape (items, d), that the index finds for `tastes`, (d,)."""
    sought = min(_SOUGHT, len(vectors))
    shares = []
    for taste in tastes:
        exact = np.argpartition(-(vectors @ taste), sought - 1)[:sought]
        shares.append(np.isin(exact, index.search(taste.astype(np.float32), sought).keys).mean())
    return float(np.mean(shares))
