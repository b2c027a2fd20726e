"""Recommendation by time: what each method finds for warm users, for cold ones, and of what they like last."""

import argparse
import operator
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import usecases
from cli.console import emit, progress
from orrery.adapters.model_server import load_model
from orrery.building import seal
from orrery.errors import OrreryError
from orrery.lifecycle import Metric, Snapshot
from orrery.settings import settings
from orrery.usecase import Array, Budget, Case, Progress, SourceRequest, Split, Training, Window
from usecases.recommendation import blend, deep, lambdarank, tables
from usecases.recommendation.candidates import Likes, fit_ease, fit_factors, fit_markov, fit_sources, likes_of
from usecases.recommendation.features import FEATURES, LIKED
from usecases.recommendation.listwise import join, lists_of
from usecases.recommendation.metrics import TOP, Means, groups, hit, ndcg, resampled
from usecases.recommendation.neighbours import Neighbours
from usecases.recommendation.protocol import RELEVANT
from usecases.recommendation.retrieval import SOURCES, Sources, best, opinions, unseen, user_of

NAME = "recommendation"
SERVED, EASE, RECENT, LIKED_MOST = "served", "EASE", "popular, 30 days", "most liked"
KNN, IALS, MARKOV = "item-kNN, cosine", "iALS", "Markov"
VERSUS = ((SERVED, EASE), (SERVED, RECENT), (SERVED, LIKED_MOST), (EASE, RECENT))
TARGETS = ((SERVED, EASE, "warm", operator.gt), (SERVED, RECENT, "cold", operator.ge))
"""the first must find more than the second, or as much, for whom"""
DRAWS = 1_000
_INTERVAL = (2.5, 97.5)
_NEIGHBOURS, _SHRINKAGE = 200, 10.0
_FAINT, _HELD = 1e-9, 0.2
_ALONE = {EASE: "ease", IALS: "factors", MARKOV: "markov"}
_TITLES = {"warm": "warm visits", "cold": "cold visits", "last": "last likes", "visits": "all visits"}

Gains = dict[str, Array]
"""method -> nDCG@10 of each query, shape (n,)"""


class TargetMissed(OrreryError):
    """What is served is not worth its effort."""


@dataclass(frozen=True)
class Row:
    """A method's nDCG@10 by group, or the difference of two methods on the same queries; intervals by user."""

    method: str
    ndcg10: Mapping[str, Metric]
    seconds: float | None = None
    """of training"""


@dataclass(frozen=True)
class Table:
    """Everything measured."""

    queries: Mapping[str, int]
    methods: list[Row]
    differences: list[Row]
    ranker: str
    """the one that training chose to serve"""
    random_split: Mapping[str, float]
    """what a split at random would say: nDCG@10 of the same methods"""


def run(report: Progress) -> Table:
    """Train on all but the last year, and ask what users liked in it."""
    case = Case(NAME, usecases.training(NAME), usecases.serving(NAME))
    rows, window = _rows(case.training, report)
    split = case.training.split(rows, window)
    test, budget = split.test, replace(case.training.budget, seconds=float("inf"), threads=settings().training.threads)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        fitted = case.training.fit(split, budget, report, Path(folder) / "bundle")
        taken = {SERVED: time.perf_counter() - began}
        bundle = seal(case, Snapshot(NAME, Path(), "bench", {}), window, split, fitted, settings())
        items = case.serving.score(load_model(bundle.folder), tables.inputs(test))["items"].astype(np.int64)
    penalty = float(fitted.parameters["ease_penalty"])
    sources, near = _sources(likes_of(split.train), penalty, budget, taken, report)
    gains = _alone(test, sources, near)
    gains |= _rankers(split, sources, penalty, int(fitted.parameters["epochs"]), budget, taken, report)
    gains[SERVED] = _gain(test, items)
    return Table(
        queries={name: int(inside.sum()) for name, inside in groups(test).items()},
        methods=[Row(name, _by_group(test, gain), taken.get(name)) for name, gain in gains.items()],
        differences=[Row(f"{one} - {other}", _by_group(test, gains[one] - gains[other])) for one, other in VERSUS],
        ranker=str(fitted.parameters["ranker"]),
        random_split=_random_split(rows, penalty, budget),
    )


def _rows(training: Training, report: Progress) -> tuple[pd.DataFrame, Window]:
    source, read = next(iter(training.sources.items()))
    raw = training.validate(read(SourceRequest(source), report))
    report("features", 0, 1)
    table = tables.features(raw)["event_features"]
    report("features", 1, 1)
    rows = raw.assign(**{name: table[name].to_numpy() for name in FEATURES})
    return rows, Window(raw["AT"].max().to_pydatetime(), training.train_days)


# --- methods ------------------------------------------------------------------------------------


def _sources(
    likes: Likes, penalty: float, budget: Budget, taken: dict[str, float], report: Progress
) -> tuple[Sources, Neighbours]:
    """What retrieval learns, and the nearest neighbours that it could have learned instead; seconds go to `taken`."""

    def timed(name: str, fit: Callable[[], Any]) -> Any:
        report("alone", len(taken) - 1, 4, name)
        began = time.perf_counter()
        found = fit()
        taken[name] = time.perf_counter() - began
        return found

    near: Neighbours = timed(KNN, lambda: _cosine(likes))
    ease = timed(EASE, lambda: fit_ease(likes, penalty, budget))
    factors = timed(IALS, lambda: fit_factors(likes, budget))
    return Sources(likes.catalogue, ease, timed(MARKOV, lambda: fit_markov(likes)), factors), near


def _cosine(likes: Likes) -> Neighbours:
    """Of each item the nearest by the cosine of who likes them, shrunk."""
    matrix = likes.matrix()
    known = np.flatnonzero(likes.catalogue.likes)
    together = (matrix.T @ matrix).tocsr()[known].toarray().astype(np.float64)
    length = np.sqrt(likes.catalogue.likes)
    cosine = together / (length[known, None] * length + _SHRINKAGE)
    cosine[np.arange(len(known)), known] = 0
    top = np.argpartition(-cosine, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
    weights = np.take_along_axis(cosine, top, axis=1)
    return Neighbours(len(length), known.astype(np.int32), top.astype(np.int32), weights.astype(np.float32))


def _alone(rows: pd.DataFrame, sources: Sources, near: Neighbours) -> Gains:
    """Each source by itself, and what is beside; what a method finds equal is in the order of likes."""
    catalogue = sources.catalogue
    ids: dict[str, Array] = {}
    faint = _FAINT * catalogue.likes / catalogue.likes.max()
    for place, payload in enumerate(rows[tables.PAYLOAD]):
        user = user_of(payload, catalogue)
        allowed = unseen(catalogue, user)
        thought = opinions(sources, user, allowed).values
        opinion = {
            LIKED_MOST: catalogue.likes,
            RECENT: np.where(user.recent > 0, user.recent, -np.inf),
            KNN: near.spread(user.likes, user.weights),
            **{name: thought[SOURCES.index(source)] for name, source in _ALONE.items()},
        }
        for name, values in opinion.items():
            found = best(values + faint, allowed & (values > -np.inf), TOP)
            table = ids.setdefault(name, np.full((len(rows), TOP), -1))
            table[place, : len(found)] = catalogue.ids[found]
    return {name: _gain(rows, table) for name, table in ids.items()}


def _rankers(
    split: Split,
    sources: Sources,
    penalty: float,
    epochs: int,
    budget: Budget,
    taken: dict[str, float],
    report: Progress,
) -> Gains:
    """The three rankers on the same candidates, each trained on all folds; seconds without those of the sources."""
    asked = []
    for number, (earlier, rows) in enumerate(split.folds):
        report("candidates of the folds", number, len(split.folds))
        asked.append(lists_of(rows, fit_sources(likes_of(earlier), penalty, budget)))
    known, test = join(asked), lists_of(split.test, sources)

    rankers: dict[str, Callable[[], Array]] = {
        "blend": lambda: blend.fit_blend(known, budget, report).scores(test),
        "LambdaRank": lambda: lambdarank.tree_scores(lambdarank.fit_trees(known, budget), test),
        "deep": lambda: deep.deep_scores(deep.fit_deep(known, budget, report, epochs=epochs).network, test),
    }
    gains = {}
    for name, scored in rankers.items():
        began = time.perf_counter()
        gains[name] = test.ndcg(scored())
        taken[name] = time.perf_counter() - began
    return gains


def _random_split(rows: pd.DataFrame, penalty: float, budget: Budget) -> dict[str, float]:
    """nDCG@10 over users of a fifth of all likes, held out at random: what came later is known, so it flatters."""
    held = (rows["RATING"] >= LIKED) & (np.random.default_rng(budget.seed).random(len(rows)) < _HELD)
    likes = likes_of(rows[~held])
    catalogue, ease = likes.catalogue, fit_ease(likes, penalty, budget)
    wanted, known = rows[held].groupby("USER_ID")["ITEM_ID"].unique(), dict(list(rows[~held].groupby("USER_ID")))
    found: dict[str, list[Array]] = {LIKED_MOST: [], EASE: []}
    for user in wanted.index:
        places = catalogue.place(known[user]["ITEM_ID"].to_numpy())
        liked = places[known[user]["RATING"] >= LIKED]
        allowed = np.bincount(places, minlength=len(catalogue.ids)) == 0
        for name, values in ((LIKED_MOST, catalogue.likes), (EASE, ease.spread(liked, np.ones(len(liked))))):
            found[name].append(catalogue.ids[best(values, allowed, TOP)])
    size = wanted.map(len).to_numpy()
    return {name: float(ndcg(hit(np.array(ids), wanted.tolist()), size).mean()) for name, ids in found.items()}


# --- figures ------------------------------------------------------------------------------------


def _gain(rows: pd.DataFrame, items: Array) -> Array:
    return ndcg(hit(items[:, :TOP], rows[RELEVANT].tolist()), rows[RELEVANT].map(len).to_numpy())


def _by_group(rows: pd.DataFrame, gain: Array) -> dict[str, Metric]:
    inside = groups(rows)
    means = Means.of({name: (gain, inside[name]) for name in _TITLES})
    drawn = np.nanpercentile(means(resampled(rows["USER_ID"].to_numpy(), DRAWS)), _INTERVAL, axis=0)
    values = means(np.ones(len(rows))).tolist()
    return {name: Metric(*of) for name, *of in zip(_TITLES, values, *drawn.tolist(), strict=True)}


def check(table: Table) -> None:
    """Raises TargetMissed when what is served finds less than it must."""
    found = {row.method: row.ndcg10 for row in table.differences}
    for one, other, group, holds in TARGETS:
        difference = found[f"{one} - {other}"][group].value
        if not holds(difference, 0):
            raise TargetMissed(
                f"in nDCG@{TOP} of {_TITLES[group]}, {one} - {other} is {difference:+.4f}; do not serve it"
            )


def _shown(row: Row, sign: str = "") -> dict[str, object]:
    figures = {title: _figure(row.ndcg10[name], sign) for name, title in _TITLES.items()}
    return {f"nDCG@{TOP}": row.method, **figures, **({} if row.seconds is None else {"train s": round(row.seconds, 1)})}


def _figure(metric: Metric, sign: str) -> str:
    return f"{metric.value:{sign}.3f} [{metric.low:{sign}.3f}, {metric.high:{sign}.3f}]"


def main() -> None:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="figures for machines")
    as_json = parser.parse_args().json
    with progress() as report:
        table = run(report)
    if as_json:
        emit(table, as_json)
    else:
        asked = ", ".join(f"{count:,} {_TITLES[name]}" for name, count in table.queries.items())
        emit([_shown(row) for row in table.methods], as_json, f"The last year by time: {asked}; {table.ranker} serves")
        emit([_shown(row, "+") for row in table.differences], as_json, "Paired differences")
        emit(table.random_split, as_json, f"nDCG@{TOP} of a random split, which knows the future")
    check(table)


if __name__ == "__main__":
    main()
