"""The standing ranker: what the sources think, weighted; other weights for cold users than for warm ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from orrery.usecase import Array, Budget, Progress
from usecases.recommendation.listwise import Lists
from usecases.recommendation.ranking_features import BLENDED
from usecases.recommendation.retrieval import SOURCES
from usecases.recommendation.scoring import COLD, WARM, is_cold

if TYPE_CHECKING:
    import optuna

Weights = Mapping[str, list[float]]
START: Mapping[str, tuple[float, ...]] = {
    COLD: (0.2, 0.2, 0.7, 0.3, 0.4, 0.8, 0.2, 0.3),
    WARM: (0.4, 0.6, 0.6, 0.1, 0.5, 0.0, 0.0, 1.5),
}
"""tried first: about the best on the validation years of MovieLens"""
_RANGES = {**dict.fromkeys(SOURCES, (0.0, 1.0)), "lately": (-1.0, 1.0), "likes": (-1.0, 1.0), "newness": (0.0, 3.0)}


@dataclass(frozen=True)
class Blend:
    """What the search chose."""

    weights: Weights
    """of BLENDED, for COLD and for WARM users"""
    curves: Mapping[str, Array]
    """the best mean nDCG so far after each trial, shape (trials,), for both"""

    def scores(self, lists: Lists) -> Array:
        """float64, shape (queries, candidates)."""
        return np.where(cold(lists)[:, None], *(_blended(lists, np.array(self.weights[kind])) for kind in (COLD, WARM)))


START_BLEND = Blend({kind: list(weights) for kind, weights in START.items()}, {})


def cold(lists: Lists) -> Array:
    """Which queries are of cold users, bool, shape (queries,)."""
    return is_cold(lists.inputs[:, 0])


def fit_blend(lists: Lists, budget: Budget, progress: Progress) -> Blend:
    """Search the weights with the best mean nDCG, for cold and for warm users apart; a kind of which none asked keeps
    the start."""
    weights, curves = dict(START_BLEND.weights), {}
    for kind, chosen in ((COLD, cold(lists)), (WARM, ~cold(lists))):
        if chosen.any():
            weights[kind], curves[kind] = _search(lists[chosen], kind, budget, progress)
    return Blend(weights, curves)


def _search(lists: Lists, kind: str, budget: Budget, progress: Progress) -> tuple[list[float], Array]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=budget.seed))
    study.enqueue_trial(dict(zip(BLENDED, START[kind], strict=True)))
    stage, begun = f"blend for {kind} users", monotonic()
    progress(stage, 0, budget.trials, f"{len(lists):,} queries")

    def objective(trial: "optuna.Trial") -> float:
        weights = [trial.suggest_float(name, *_RANGES[name]) for name in BLENDED]
        return float(lists.ndcg(_blended(lists, np.array(weights))).mean())

    def report(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        spent = (monotonic() - begun) / budget.seconds * budget.trials
        done = min(max(trial.number + 1, spent), budget.trials)
        progress(stage, done, budget.trials, f"best nDCG@10 {study.best_value:.4f}")

    study.optimize(objective, n_trials=budget.trials, timeout=budget.seconds, callbacks=[report])
    progress(stage, budget.trials, budget.trials, f"best nDCG@10 {study.best_value:.4f}")
    values = [trial.value for trial in study.trials if trial.value is not None]
    return [study.best_params[name] for name in BLENDED], np.maximum.accumulate(values)


def _blended(lists: Lists, weights: Array) -> Array:
    scores: Array = lists.inputs[:, :, : len(BLENDED)] @ weights
    return scores
