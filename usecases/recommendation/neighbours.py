"""Of each item the few others that go with it, and how much."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from orrery.usecase import Array, Model

_PARTS = ("rows", "places", "weights")


@dataclass(frozen=True)
class Neighbours:
    """A square table of weights between the items of a vocabulary, of which each row keeps a few."""

    items: int
    rows: Array
    """int32, the items that have neighbours, shape (m,)"""
    places: Array
    """int32, the neighbours of each, shape (m, k)"""
    weights: Array
    """float32, shape (m, k); 0 where there are fewer"""

    @cached_property
    def _row(self) -> Array:
        found = np.full(self.items, -1)
        found[self.rows] = np.arange(len(self.rows))
        return found

    @cached_property
    def _sums(self) -> Array:
        sums = np.zeros(self.items)
        sums[self.rows] = self.weights.sum(axis=1, dtype=np.float64)
        return sums

    def spread(self, places: Array, weights: Array) -> Array:
        """The sum of the rows of some items, int64 (m,), each times its weight: float64, shape (items,)."""
        rows = self._row[places]
        rows, weights = rows[rows >= 0], weights[rows >= 0]
        return np.bincount(self.places[rows].ravel(), (self.weights[rows] * weights[:, None]).ravel(), self.items)

    def lacking(self, places: Array, weights: Array) -> float:
        """What the rows of some items lack to a sum of 1 each, weighted and summed."""
        return float(weights @ (1 - self._sums[places]))

    def strongest(self, places: Array, weights: Array, of: Array) -> Array:
        """For each item of `of`, distinct, int64 (m,): the one of `places` whose weighted row gives it most, or -1."""
        known = self._row[places] >= 0
        rows, found = self._row[places[known]], np.full(len(of), -1)
        wanted = np.full(self.items, -1)
        wanted[of[of >= 0]] = np.flatnonzero(of >= 0)
        at = wanted[self.places[rows]]
        given = np.where(at >= 0, self.weights[rows] * weights[known, None], 0.0)
        row, column = np.nonzero(given > 0)
        rising = np.argsort(given[row, column], kind="stable")
        found[at[row, column][rising]] = places[known][row[rising]]  # of several, the last one is left
        return found

    def save(self, folder: Path, name: str) -> None:
        """Write the arrays as `<name>_rows.npy`, `<name>_places.npy` and `<name>_weights.npy`."""
        for part in _PARTS:
            np.save(folder / f"{name}_{part}.npy", getattr(self, part))

    @classmethod
    def load(cls, model: Model, name: str, items: int) -> Self:
        """What `save` wrote into a bundle."""
        return cls(items, *(model.array(f"{name}_{part}.npy") for part in _PARTS))
