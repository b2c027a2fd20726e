"""Candidate lists of queries: what rankers learn from and are judged by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from orrery.usecase import Array
from usecases.recommendation.metrics import TOP, ndcg
from usecases.recommendation.protocol import RELEVANT
from usecases.recommendation.ranking_features import INPUTS, ranking_features
from usecases.recommendation.retrieval import (
    MOST_CANDIDATES,
    SOURCES,
    Sources,
    best,
    opinions,
    retrieve,
    unseen,
    user_of,
)
from usecases.recommendation.tables import PAYLOAD


@dataclass(frozen=True)
class Lists:
    """Candidates of n queries, at most k = MOST_CANDIDATES each."""

    inputs: Array
    """float32, shape (n, k, ranking_features.INPUTS)"""
    there: Array
    """bool, shape (n, k): which are candidates; behind them there is nothing"""
    relevant: Array
    """bool, shape (n, k)"""
    sources: Array
    """int64, place in SOURCES of the one that ranks the candidate best, shape (n, k)"""
    sizes: Array
    """int64, how many items are relevant to a query, candidates or not, shape (n,)"""
    users: Array
    """int64, shape (n,)"""

    def __getitem__(self, chosen: "slice | Array") -> "Lists":
        return Lists(**{name: values[chosen] for name, values in vars(self).items()})

    def __len__(self) -> int:
        return len(self.users)

    def top(self, scores: Array) -> Array:
        """Places, shape (n, TOP), of the best candidates by scores, shape (n, k)."""
        order: Array = np.argsort(np.where(self.there, -scores, np.inf), axis=1, kind="stable")[:, :TOP]
        return order

    def ndcg(self, scores: Array) -> Array:
        """nDCG@TOP of each query, shape (n,), when its candidates are ordered by scores, shape (n, k)."""
        return ndcg(np.take_along_axis(self.relevant & self.there, self.top(scores), axis=1), self.sizes)


def join(parts: Sequence[Lists]) -> Lists:
    """The queries of several sets, in that order."""
    return Lists(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def lists_of(rows: pd.DataFrame, sources: Sources) -> Lists:
    """The candidates that `sources` find for query rows."""
    n, k = len(rows), MOST_CANDIDATES
    inputs, there = np.zeros((n, k, len(INPUTS)), np.float32), np.zeros((n, k), bool)
    relevant, named = np.zeros((n, k), bool), np.zeros((n, k), np.int64)
    for row, (payload, wanted) in enumerate(zip(rows[PAYLOAD], rows[RELEVANT], strict=True)):
        user = user_of(payload, sources.catalogue)
        allowed = unseen(sources.catalogue, user)
        found = retrieve(sources, user, opinions(sources, user, allowed), allowed)
        m = len(found.places)
        inputs[row, :m], there[row, :m] = ranking_features(sources, user, found), True
        relevant[row, :m], named[row, :m] = np.isin(sources.catalogue.ids[found.places], wanted), found.sources
    sizes = np.array([len(wanted) for wanted in rows[RELEVANT]], np.int64)
    return Lists(inputs, there, relevant, named, sizes, rows["USER_ID"].to_numpy())


def recalls(rows: pd.DataFrame, sources: Sources) -> dict[str, float]:
    """Mean share of the relevant items of query rows among all candidates, "union", and among as many of one source."""
    shares: dict[str, list[float]] = {name: [] for name in ("union", *SOURCES)}
    for payload, wanted in zip(rows[PAYLOAD], rows[RELEVANT], strict=True):
        user = user_of(payload, sources.catalogue)
        allowed = unseen(sources.catalogue, user)
        thought = opinions(sources, user, allowed)
        alone = (best(values, allowed & (values > 0), MOST_CANDIDATES) for values in thought.values)
        for name, places in zip(shares, (retrieve(sources, user, thought, allowed).places, *alone), strict=True):
            shares[name].append(float(np.isin(wanted, sources.catalogue.ids[places]).mean()))
    return {name: float(np.mean(of)) for name, of in shares.items()}
