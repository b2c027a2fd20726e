"""Training: sources on every fold, three rankers on the lists that they make, and the one that may serve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orrery.adapters.tree_graph import write_trees
from orrery.errors import OrreryError
from orrery.usecase import Array, Budget, Fitted, Progress, Split
from usecases.recommendation import blend, deep, fit_plots, lambdarank
from usecases.recommendation.candidates import Likes, choose_penalty, fit_sources, likes_of
from usecases.recommendation.index import indexed
from usecases.recommendation.listwise import Lists, join, lists_of, recalls
from usecases.recommendation.metrics import resampled
from usecases.recommendation.ranking_features import INPUTS
from usecases.recommendation.retrieval import Sources
from usecases.recommendation.scoring import BLEND, DEEP, LAMBDARANK, RANKER

_PARTS = 3
"""to learn from, to stop at, to judge by"""
_LEAST_QUERIES = 30
"""in all: of fewer nothing is learned, and the blend keeps the weights that it starts with"""
_MOST_QUERIES = 2_000
"""a fold"""
_SEARCHES = 4
"""for cold and for warm users, to be judged and to serve"""
_SAMPLED_USERS = 200
_DRAWS = 1_000
_INTERVAL = (2.5, 97.5)


class NothingLiked(OrreryError):
    """Nobody likes anything in the training rows."""


@dataclass(frozen=True)
class Judged:
    """The rankers on queries that none of them has seen, and which of them stands."""

    ranker: str
    scores: Array
    """of the one that stands, shape (queries, candidates)"""
    metrics: Mapping[str, float]
    curves: Mapping[str, Array]
    """mean nDCG while each was trained"""
    epochs: int
    """after which the deep one stopped getting better"""
    gain: Array
    """of each of INPUTS to the trees"""


def fit(split: Split, budget: Budget, progress: Progress, folder: Path) -> Fitted:
    """Learn from the folds which ranker stands, train it on all their queries and the sources on all rows.

    Arrays and graphs go to `folder`. Raises NothingLiked when no training row is a like.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = likes_of(split.train)
    if not len(whole.users):
        raise NothingLiked("no training row is a like (a rating of 4 or more of 5); train on more rows")
    lists, penalty, metrics = _ask(split, budget, progress)
    sources, tried = _save(whole, penalty, budget, folder)
    progress("candidates", 1, 1, f"sources of all {len(whole.users):,} likes")
    parts = _parts(lists)
    judged = _judge(parts, budget, progress)
    ranker = _train(judged, join(lists), budget, progress, folder)
    progress("fit", 1, 1, f"{judged.ranker} serves")
    return Fitted(
        folder=folder,
        learned={
            "ranker": ranker,
            "factors": sources.factors.learned,
            "ease": {"penalty": penalty, "items": len(sources.ease.rows)},
            "items": len(whole.catalogue.ids),
        },
        parameters={
            "ranker": judged.ranker,
            "ease_penalty": penalty,
            "epochs": judged.epochs,
            "indexed": sources.factors.index is not None,
            "seed": budget.seed,
        },
        metrics={**metrics, **tried, **judged.metrics},
        plots=fit_plots.draw(parts[-1], judged.scores, judged.curves, judged.gain, folder.with_name("plots")),
    )


def _ask(split: Split, budget: Budget, progress: Progress) -> tuple[list[Lists], float, dict[str, float]]:
    """The candidate lists of each fold's queries from the sources of its training rows, the penalty of EASE, and what
    was measured on the way."""
    asked = [
        rows.sample(_MOST_QUERIES, random_state=budget.seed).sort_index() if len(rows) > _MOST_QUERIES else rows
        for _, rows in split.folds
    ]
    known = [likes_of(earlier) for earlier, _ in split.folds]
    penalty, metrics = choose_penalty(list(zip(known, asked, strict=True))[: max(len(known) - 1, 1)], budget, progress)
    lists = []
    for number, (likes, rows) in enumerate(zip(known, asked, strict=True), start=1):
        sources = fit_sources(likes, penalty, budget)
        lists.append(lists_of(rows, sources))
        progress("candidates", number, len(known) + 1, f"{len(rows):,} queries, sources of {len(likes.users):,} likes")
    return lists, penalty, metrics | {f"recall200_{name}": of for name, of in recalls(asked[-1], sources).items()}


def _save(likes: Likes, penalty: float, budget: Budget, folder: Path) -> tuple[Sources, dict[str, float]]:
    """The sources that serve, written to `folder`; and the recall of their index, where they may need one."""
    sources = fit_sources(likes, penalty, budget)
    users = np.random.default_rng(budget.seed).permutation(int(likes.users.max()) + 1)[:_SAMPLED_USERS]
    liked = (likes.places[likes.users == user] for user in users)
    factors, recall = indexed(sources.factors, (sources.factors.taste(of, np.ones(len(of))) for of in liked))
    sources = replace(sources, factors=factors)
    sources.save(folder)
    return sources, {} if recall is None else {"index_recall100": recall}


def _parts(lists: Sequence[Lists]) -> list[Lists]:
    """The queries of the folds; of fewer than three folds, thirds in the order of time."""
    if len(lists) >= _PARTS:
        return list(lists)
    whole = join(lists)
    return [whole[part] for part in np.array_split(np.arange(len(whole)), _PARTS)]


def _judge(parts: Sequence[Lists], budget: Budget, progress: Progress) -> Judged:
    """Train each ranker on all parts but the last, and compare them there."""
    known, last = join(parts[:-1]), parts[-1]
    if len(known) + len(last) < _LEAST_QUERIES or not all(part.relevant.any() for part in parts):
        scores = blend.START_BLEND.scores(last)
        return Judged(BLEND, scores, {"queries": float(len(last))}, {}, 0, np.zeros(len(INPUTS)))
    mixed = blend.fit_blend(known, _part_of(budget), progress)
    trees = lambdarank.fit_trees(known, budget)
    stopped = deep.fit_deep(join(parts[:-2]), budget, progress, stop_on=parts[-2])
    network = deep.fit_deep(known, budget, progress, epochs=stopped.epochs).network
    rankers = {
        BLEND: mixed.scores(last),
        LAMBDARANK: lambdarank.tree_scores(trees, last),
        DEEP: deep.deep_scores(network, last),
    }
    ranker, metrics = compare(last, rankers)
    curves = {**mixed.curves, LAMBDARANK: lambdarank.tree_curve(trees, last), DEEP: stopped.curve}
    gain = np.asarray(trees.feature_importance("gain"), np.float64)
    return Judged(ranker, rankers[ranker], metrics, curves, stopped.epochs, gain)


def compare(lists: Lists, scores: Mapping[str, Array]) -> tuple[str, dict[str, float]]:
    """Which of the rankers stands, by their scores of shape (queries, candidates), and on what grounds.

    The first stands, until one after it is better: until the interval of the paired difference in nDCG, users drawn
    again, is above 0.
    """
    gains = {name: lists.ndcg(of) for name, of in scores.items()}
    drawn = resampled(lists.users, draws=_DRAWS)
    metrics = {"queries": float(len(lists)), **{f"ndcg10_{name}": float(gain.mean()) for name, gain in gains.items()}}
    standing, *challengers = gains
    for name in challengers:
        difference = gains[name] - gains[standing]
        low, high = np.percentile(drawn @ difference / drawn.sum(axis=1), _INTERVAL).tolist()
        versus = f"{name}_over_{standing}"
        metrics |= {versus: float(difference.mean()), f"{versus}_low": low, f"{versus}_high": high}
        standing = name if low > 0 else standing
    return standing, metrics


def _train(judged: Judged, lists: Lists, budget: Budget, progress: Progress, folder: Path) -> dict[str, Any]:
    """Train the ranker that stands on all lists; what the manifest must know of it."""
    if judged.ranker == LAMBDARANK:
        write_trees(lambdarank.fit_trees(lists, budget), folder / RANKER, lists.inputs[lists.there])
    elif judged.ranker == DEEP:
        deep.export_deep(deep.fit_deep(lists, budget, progress, epochs=judged.epochs).network, folder)
    elif judged.curves:
        return {"name": BLEND, "weights": blend.fit_blend(lists, _part_of(budget), progress).weights}
    else:
        return {"name": BLEND, "weights": blend.START_BLEND.weights}
    return {"name": judged.ranker}


def _part_of(budget: Budget) -> Budget:
    return replace(budget, seconds=budget.seconds / _SEARCHES)
