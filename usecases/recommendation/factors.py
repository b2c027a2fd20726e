"""Factors of items, and those of a user in closed form from a history: matrix factorisation, online.

Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from orrery.usecase import Array, Model

VECTORS = "factors.npy"
INDEX = "factors.usearch"
EXPANSION_SEARCH = 256
"""how many items a search of the index keeps in view"""
_BLOCK = 32


@dataclass(frozen=True)
class Factors:
    """Item factors, and how they were learned."""

    vectors: Array
    """float32, shape (items, d)"""
    confidence: float
    """weight of a like; what is not liked weighs 1"""
    regularization: float
    index: Any = None
    """a `usearch.index.Index` of the vectors by inner product, where there are too many to look at each"""

    @cached_property
    def _gram(self) -> Array:
        return self._wide.T @ self._wide + self.regularization * np.eye(self.vectors.shape[1])

    @cached_property
    def _wide(self) -> Array:
        return self.vectors.astype(np.float64)

    @property
    def learned(self) -> dict[str, float]:
        """What else than arrays `load` needs."""
        return {"confidence": self.confidence, "regularization": self.regularization}

    def taste(self, likes: Array, weights: Array) -> Array:
        """The factors, float64 (d,), of a user who likes some items, int64 (m,); a like of weight 0 says nothing."""
        liked, more = self.vectors[likes].astype(np.float64), (self.confidence - 1) * weights
        seen = products(liked.T, (1 + more) * (weights > 0))
        taste: Array = np.linalg.solve(self._gram + _squares(liked, more), seen)
        return taste

    def of(self, taste: Array, places: Array) -> Array:
        """The user's scores of some items, int64 (m,): float64, shape (m,)."""
        return products(self.vectors[places].astype(np.float64), taste)

    def scores(self, taste: Array, allowed: Array, count: int, hidden: int) -> Array:
        """The user's scores of all items, float64, shape (items,); with an index, 0 for all that it does not find.

        It should find `count` that are allowed, bool, shape (items,), while `hidden` of the best may have been seen;
        where other limits leave fewer, every item is looked at.
        """
        if self.index is not None:
            found = self.index.search(taste.astype(np.float32), count + hidden).keys.astype(np.int64)
            if allowed[found].sum() >= min(count, int(allowed.sum())):
                scores = np.zeros(len(self.vectors))
                scores[found] = self.of(taste, found)
                return scores
        return products(self._wide, taste)

    def save(self, folder: Path) -> None:
        """Write `factors.npy`, and `factors.usearch` if there is an index."""
        np.save(folder / VECTORS, self.vectors)
        if self.index is not None:
            self.index.save(str(folder / INDEX))

    @classmethod
    def load(cls, model: Model, confidence: float, regularization: float) -> Self:
        """What `save` wrote into a bundle."""
        index: Any = None
        if INDEX in model.manifest.files:
            from usearch.index import Index

            index = Index.restore(str(model.path(INDEX)), view=True)
            index.expansion_search = EXPANSION_SEARCH  # the file does not keep it
        return cls(model.array(VECTORS), confidence, regularization, index)


def products(rows: Array, vector: Array) -> Array:
    """The inner product of each row, float64 (n, d), and a vector, (d,): shape (n,).

    Not by BLAS: for so little it would wake threads, which takes longer and stops those of other requests.
    """
    inner: Array = np.einsum("nd,d->n", rows, vector)
    return inner


def _squares(rows: Array, weights: Array) -> Array:
    """The weighted sum of the outer squares of rows, shape (n, d): (d, d). In blocks for which BLAS wakes no thread."""
    padded = np.zeros((-len(rows) % _BLOCK + len(rows), rows.shape[1]))
    padded[: len(rows)] = rows * np.sqrt(weights)[:, None]
    blocks = padded.reshape(-1, _BLOCK, rows.shape[1])
    summed: Array = (blocks.transpose(0, 2, 1) @ blocks).sum(axis=0)
    return summed
