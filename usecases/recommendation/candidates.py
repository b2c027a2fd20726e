"""The sources of candidates, learned from what users liked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits

from orrery.usecase import Array, Budget, Progress
from usecases.recommendation.catalogue import Catalogue
from usecases.recommendation.factors import Factors
from usecases.recommendation.features import DAY_US, LIKED
from usecases.recommendation.metrics import TOP, hit, ndcg
from usecases.recommendation.neighbours import Neighbours
from usecases.recommendation.protocol import RELEVANT
from usecases.recommendation.retrieval import Sources, by_ease, unseen, user_of
from usecases.recommendation.tables import PAYLOAD, item_table, microseconds

NEIGHBOURS = 200
PENALTIES = (50.0, 150.0, 400.0)
LEAST_LIKES = 3
"""of an item that EASE knows"""
MOST_EASE_ITEMS = 12_000
"""the most liked: a square table of more does not fit into a small machine"""
_MANY_ITEMS = 6_000
LATELY_DAYS = 365.0
"""half-life of a like in an item's popularity of late"""
DIMENSIONS = 64
CONFIDENCE = 10.0
REGULARIZATION = 10.0
_ITERATIONS = 15
_GAPS = 5
"""so many likes further on, what a user likes still follows from a like, each less than the one before it"""
_GAP = 0.7
_SHRINKAGE = 50.0
"""transitions after which what was seen to follow weighs as much as what is popular"""


@dataclass(frozen=True)
class Likes:
    """The likes of training rows, of each user by time; arrays have the shape (likes,)."""

    catalogue: Catalogue
    users: Array
    """int64, codes from 0, ascending"""
    places: Array
    """int64, in the vocabulary"""

    def matrix(self) -> sparse.csr_matrix:
        """Which users like which items: ones, float32, shape (users, items)."""
        shape = (int(self.users.max(initial=-1)) + 1, len(self.catalogue.ids))
        matrix = sparse.csr_matrix((np.ones(len(self.users), np.float32), (self.users, self.places)), shape=shape)
        matrix.data[:] = 1  # who likes an item twice likes it once
        return matrix


def likes_of(raw: pd.DataFrame) -> Likes:
    """Canonical raw rows to the vocabulary that they make, and their likes."""
    items = item_table(raw)
    ids, moments = items["ITEM_ID"].to_numpy(np.int64), microseconds(raw["AT"])
    places = np.searchsorted(ids, raw["ITEM_ID"].to_numpy(np.int64))
    days = (moments.max(initial=0) - moments) / DAY_US
    liked = np.flatnonzero(raw["RATING"].to_numpy() >= LIKED)
    oldest = np.zeros(len(ids), np.float32)
    np.maximum.at(oldest, places, days.astype(np.float32))
    catalogue = Catalogue(
        ids=ids,
        titles=items["TITLE"].tolist(),
        bits=items["genres"].to_numpy(np.int64),
        years=items["YEAR"].to_numpy(np.int64),
        likes=np.bincount(places[liked], minlength=len(ids)),
        lately=np.bincount(places[liked], 2.0 ** (-days[liked] / LATELY_DAYS), len(ids)).astype(np.float32),
        days=oldest,
    )
    users = np.unique(raw["USER_ID"].to_numpy()[liked], return_inverse=True)[1]
    order = np.argsort(users, kind="stable")
    return Likes(catalogue, users[order], places[liked][order])


def fit_sources(likes: Likes, penalty: float, budget: Budget) -> Sources:
    """All sources; `penalty` is that of EASE."""
    return Sources(likes.catalogue, fit_ease(likes, penalty, budget), fit_markov(likes), fit_factors(likes, budget))


def fit_ease(likes: Likes, penalty: float, budget: Budget, kept: int = NEIGHBOURS) -> Neighbours:
    """The item-item weights that best reconstruct the likes, in closed form; of each item the `kept` largest.

    Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", 2019.
    """
    popularity = likes.catalogue.likes
    known = np.sort(np.argsort(-popularity, kind="stable")[:MOST_EASE_ITEMS])
    known = known[popularity[known] >= LEAST_LIKES]
    matrix = likes.matrix()[:, known]
    gram = (matrix.T @ matrix).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    # small squares are inverted faster by one thread, above all on busy cores
    with threadpool_limits(1 if len(known) < _MANY_ITEMS else budget.threads or None, "blas"):
        weights = _inverse(gram.astype(np.float64))
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, -np.inf)
    kept = min(kept, max(len(known) - 1, 0))
    top = np.argpartition(-weights, kept, axis=1)[:, :kept] if kept else np.empty((len(known), 0), np.int64)
    largest = np.take_along_axis(weights, top, axis=1)
    return Neighbours(len(popularity), known.astype(np.int32), known[top].astype(np.int32), largest.astype(np.float32))


def _inverse(positive: Array) -> Array:
    """Of a symmetric positive definite matrix."""
    factor, failed = linalg.lapack.dpotrf(positive, lower=0)
    upper, _ = linalg.lapack.dpotri(factor, lower=0)
    if failed:
        raise linalg.LinAlgError("the matrix is not positive definite")
    return np.asarray(np.triu(upper) + np.triu(upper, 1).T)


def choose_penalty(
    folds: Sequence[tuple[Likes, pd.DataFrame]], budget: Budget, progress: Progress
) -> tuple[float, dict[str, float]]:
    """The penalty of EASE with the best mean nDCG of EASE alone on query rows, each with the likes before them; and
    the nDCG of every one that was tried."""
    found: dict[float, list[Array]] = {penalty: [] for penalty in PENALTIES}
    for number, (likes, rows) in enumerate(folds):
        sizes = np.array([len(relevant) for relevant in rows[RELEVANT]])
        for step, penalty in enumerate(PENALTIES):
            progress("EASE", number * len(PENALTIES) + step, len(folds) * len(PENALTIES), f"penalty {penalty:g}")
            ease = fit_ease(likes, penalty, budget)
            lists = np.array([_by_ease_alone(payload, likes.catalogue, ease) for payload in rows[PAYLOAD]])
            found[penalty].append(ndcg(hit(lists, rows[RELEVANT].tolist()), sizes))
    means = {penalty: float(np.concatenate(gains).mean()) for penalty, gains in found.items()}
    penalty = max(means, key=means.__getitem__)
    progress("EASE", 1, 1, f"penalty {penalty:g}, nDCG@10 {means[penalty]:.4f}")
    return penalty, {f"ease_ndcg10_penalty_{penalty:g}": mean for penalty, mean in means.items()}


def _by_ease_alone(payload: Array, catalogue: Catalogue, ease: Neighbours) -> Array:
    user = user_of(payload, catalogue)
    ids = catalogue.ids[by_ease(catalogue, ease.spread(user.likes, user.weights), unseen(catalogue, user))[:TOP]]
    return np.pad(ids, (0, TOP - len(ids)), constant_values=-1)


def fit_factors(likes: Likes, budget: Budget) -> Factors:
    """Factors by alternating least squares, of users and items in turn."""
    from implicit.cpu.als import AlternatingLeastSquares

    with threadpool_limits(1, "blas"):  # the solver has threads of its own
        model = AlternatingLeastSquares(
            factors=DIMENSIONS,
            regularization=REGULARIZATION,
            alpha=CONFIDENCE,
            iterations=_ITERATIONS,
            num_threads=budget.threads,
            random_state=budget.seed,
        )
        model.fit(likes.matrix(), show_progress=False)
    return Factors(np.asarray(model.item_factors), CONFIDENCE, REGULARIZATION)


def fit_markov(likes: Likes) -> Neighbours:
    """Of each item, how likely others are liked next: decayed counts of what users liked after it, shrunk."""
    items = len(likes.catalogue.ids)
    counts = sparse.csr_matrix((items, items))
    for gap in range(1, _GAPS + 1):
        same = likes.users[gap:] == likes.users[:-gap]
        pairs = (likes.places[:-gap][same], likes.places[gap:][same])
        counts += sparse.csr_matrix((np.full(len(pairs[0]), _GAP ** (gap - 1)), pairs), shape=(items, items))
    counts.setdiag(0)
    counts.eliminate_zeros()
    counts.sort_indices()
    sums, sizes = np.asarray(counts.sum(axis=1)).ravel(), np.diff(counts.indptr)
    known = np.flatnonzero(sizes)
    kept = min(NEIGHBOURS, int(sizes.max(initial=0)))
    places, weights = np.zeros((len(known), kept), np.int32), np.zeros((len(known), kept), np.float32)
    for row, item in enumerate(known):
        inside = slice(counts.indptr[item], counts.indptr[item + 1])
        top = np.argsort(-counts.data[inside], kind="stable")[:kept]
        places[row, : len(top)] = counts.indices[inside][top]
        weights[row, : len(top)] = counts.data[inside][top] / (sums[item] + _SHRINKAGE)
    return Neighbours(items, known.astype(np.int32), places, weights)
