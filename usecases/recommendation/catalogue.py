"""The items that a model knows: what they are, and how much they were liked when it was trained."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from orrery.usecase import Array, Model
from usecases.recommendation.items import content_vectors, genre_flags

ITEMS = "items.npy"
TITLES = "catalogue.json"
_COLUMNS = np.dtype(
    [("id", "<i8"), ("bits", "<i8"), ("year", "<i8"), ("likes", "<i8"), ("lately", "<f4"), ("days", "<f4")]
)


@dataclass(frozen=True)
class Catalogue:
    """The vocabulary of a model; every array has one entry an item, in the order of `ids`."""

    ids: Array
    """int64, ascending, shape (n,)"""
    titles: list[str]
    bits: Array
    """int64, genres as bits of `items.GENRES`, shape (n,)"""
    years: Array
    """int64, 0 unknown, shape (n,)"""
    likes: Array
    """int64, of all time until the end of training, shape (n,)"""
    lately: Array
    """float32, likes of which each counts by its age at the end of training, shape (n,)"""
    days: Array
    """float32, days from the item's first event to the end of training, shape (n,)"""

    @cached_property
    def vectors(self) -> Array:
        """Content, float32, shape (n, items.VECTOR)."""
        return content_vectors(self.bits, self.years)

    @cached_property
    def flags(self) -> Array:
        """Genres, float32 0 or 1, shape (n, genres)."""
        return genre_flags(self.bits)

    @cached_property
    def standing(self) -> Array:
        """The share of all likes that go to items liked more, float64 in [0, 1), shape (n,): 0 for the most liked."""
        order = np.argsort(-self.likes, kind="stable")
        before = np.cumsum(self.likes[order]) - self.likes[order]
        found = np.empty(len(order))
        found[order] = before / max(int(self.likes.sum()), 1)
        return found

    def place(self, ids: Array) -> Array:
        """Where ids, int64, any shape, stand in the vocabulary: int64 of that shape, -1 for unknown ones."""
        if not len(self.ids):
            return np.full(np.shape(ids), -1)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[at] == ids, at, -1)

    def save(self, folder: Path) -> None:
        """Write `items.npy` and `catalogue.json`."""
        table = np.empty(len(self.ids), _COLUMNS)
        columns = (self.ids, self.bits, self.years, self.likes, self.lately, self.days)
        for name, column in zip(_COLUMNS.names or (), columns, strict=True):
            table[name] = column
        np.save(folder / ITEMS, table)
        (folder / TITLES).write_text(json.dumps(self.titles, ensure_ascii=False))


def catalogue_of(model: Model) -> Catalogue:
    """The vocabulary of a bundle, read once."""
    return model.derived("catalogue", _read)


def _read(model: Model) -> Catalogue:
    table = model.array(ITEMS)
    columns = {name: np.ascontiguousarray(table[name]) for name in _COLUMNS.names or ()}
    return Catalogue(
        ids=columns["id"],
        titles=json.loads(model.text(TITLES)),
        bits=columns["bits"],
        years=columns["year"],
        likes=columns["likes"],
        lately=columns["lately"],
        days=columns["days"],
    )
