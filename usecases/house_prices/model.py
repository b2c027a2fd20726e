"""The trees, the baseline and their blend: a seeded search over the folds, and the final fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from orrery.usecase import Array, Budget, Outputs, Progress
from usecases.house_prices import linear
from usecases.house_prices.features import FEATURES
from usecases.house_prices.interval import fit_interval
from usecases.house_prices.linear import Pair
from usecases.house_prices.scoring import blend, outputs

if TYPE_CHECKING:
    import optuna
    import pandas as pd

TARGET = "log_price"
START: Mapping[str, Any] = {
    "num_leaves": 8,
    "min_data_in_leaf": 10,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.7,
    "lambda_l2": 3.0,
    "alpha": 0.25,
}
"""tried first"""
MOST_ROUNDS = 900
_MANY_ROWS = 100_000


@dataclass(frozen=True)
class Found:
    """What the search chose, and on what grounds."""

    parameters: Mapping[str, Any]
    rounds: int
    curve: Array
    """root mean squared error of the log price, mean over the folds, after each round, shape (rounds,)"""
    trials: int


@dataclass(frozen=True)
class Learned:
    """A fitted model."""

    booster: lgb.Booster
    values: Mapping[str, Any]
    """goes into the manifest: what `scoring.outputs` needs beside the trees"""
    found: Found
    errors: Mapping[str, float]
    """root mean squared errors on the folds' validation rows, of the trees, the baseline and the blend"""

    def predict(self, inputs: Array) -> Outputs:
        """What `scoring.score` says of the bundle made of this."""
        return outputs(np.asarray(self.booster.predict(inputs, num_threads=1)), inputs, self.values)


def learn(
    train: "pd.DataFrame", folds: "Sequence[tuple[pd.DataFrame, pd.DataFrame]]", budget: Budget, progress: Progress
) -> Learned:
    """Search on the folds, learn blend and interval from them, then fit trees and baseline to all of `train`."""
    pairs = [(_pair(earlier), _pair(later)) for earlier, later in folds]
    found = search(pairs, budget, progress)
    penalty = linear.best_penalty(pairs)
    truth = np.concatenate([target for _, (_, target) in pairs])
    trees = np.concatenate([_tree_prices(known, inputs, found, budget) for known, (inputs, _) in pairs])
    ridge = np.concatenate([linear.fit(*known, penalty).predict(inputs) for known, (inputs, _) in pairs])
    share = best_share(trees, ridge, truth)
    mixed = blend(trees, ridge, share)
    inputs, target = _pair(train)
    baseline = linear.fit(inputs, target, penalty)
    values = {
        "centre": float(target.mean()),
        "linear": {
            "penalty": penalty,
            "intercept": baseline.intercept,
            "coefficients": baseline.coefficients.tolist(),
            "means": baseline.means.tolist(),
        },
        "trees_share": share,
        "interval": fit_interval(np.concatenate([inputs for _, (inputs, _) in pairs]), truth - mixed),
    }
    errors = {name: rmse(truth - said) for name, said in {"trees": trees, "linear": ridge, "blend": mixed}.items()}
    return Learned(_fit(inputs, target, found, budget), values, found, errors)


def rmse(errors: Array) -> float:
    """Root mean square of errors of shape (n,)."""
    return float(np.sqrt(np.mean(errors**2)))


def best_share(trees: Array, ridge: Array, truth: Array) -> float:
    """The weight of the trees, from 0 to 1, with the least squared error; all of shape (n,)."""
    lead = trees - ridge
    return float(np.clip((truth - ridge) @ lead / max(lead @ lead, 1e-12), 0, 1))


def inputs_of(rows: "pd.DataFrame") -> Array:
    """The model's inputs, float32, shape (n, features)."""
    return rows[list(FEATURES)].to_numpy(np.float32)


def _pair(rows: "pd.DataFrame") -> Pair:
    return inputs_of(rows), rows[TARGET].to_numpy(np.float64)


def search(pairs: Sequence[tuple[Pair, Pair]], budget: Budget, progress: Progress) -> Found:
    """Find parameters and the number of trees with the least error on the validation rows of the folds."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=budget.seed, n_startup_trials=4),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
    )
    study.enqueue_trial(dict(START))
    begun = monotonic()
    progress("search", 0, budget.trials, f"{len(pairs)} folds")

    def report(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        spent = (monotonic() - begun) / budget.seconds
        note = f"trial {trial.number + 1}, least error {study.best_value:.4f}"
        progress("search", min(max(trial.number + 1, spent * budget.trials), budget.trials), budget.trials, note)

    study.optimize(
        lambda trial: _trial(trial, pairs, budget), n_trials=budget.trials, timeout=budget.seconds, callbacks=[report]
    )
    progress("search", budget.trials, budget.trials, f"least error {study.best_value:.4f}")
    curve = np.array(study.best_trial.user_attrs["curve"])
    return Found(study.best_params, int(curve.argmin()) + 1, curve, len(study.trials))


def _trial(trial: "optuna.Trial", pairs: Sequence[tuple[Pair, Pair]], budget: Budget) -> float:
    """The least mean error of the trial's parameters after any number of rounds."""
    import optuna

    parameters = {
        "num_leaves": trial.suggest_int("num_leaves", 4, 16),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 40, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 0.6),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 0.95),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 30.0, log=True),
        "alpha": trial.suggest_float("alpha", 0.1, 0.5),
    }
    curves = []
    for step, (known, later) in enumerate(pairs):
        curves.append(_curve(known, later, parameters, budget))
        mean = np.mean(curves, axis=0)
        trial.report(float(mean.min()), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("curve", mean.tolist())
    return float(mean.min())


def _curve(known: Pair, later: Pair, parameters: Mapping[str, Any], budget: Budget) -> Array:
    """Root mean squared error on the later rows after each round."""
    history: dict[str, dict[str, list[float]]] = {}
    centre, data = known[1].mean(), _dataset(*known)
    lgb.train(
        {**parameters, **_fixed(budget, len(known[1])), "metric": "rmse"},
        data,
        MOST_ROUNDS,
        valid_sets=[data.create_valid(later[0], later[1] - centre)],
        callbacks=[lgb.record_evaluation(history)],
    )
    return np.array(history["valid_0"]["rmse"])


def _fixed(budget: Budget, rows: int) -> dict[str, Any]:
    """What is not searched. The same data, seed and number of threads give the same trees.

    The loss is quadratic up to `alpha` and linear beyond: a few sales far below their value would bend the trees.
    """
    return {
        "objective": "huber",
        "learning_rate": 0.05,
        "bagging_freq": 1,
        "deterministic": True,
        "force_row_wise": True,
        "feature_pre_filter": False,
        "num_threads": 1 if rows < _MANY_ROWS else budget.threads,
        "seed": budget.seed,
        "verbosity": -1,
    }


def _dataset(inputs: Array, target: Array) -> lgb.Dataset:
    """Targets around 0: the graph adds up the trees in float32, and small numbers have more digits there."""
    return lgb.Dataset(inputs, target - target.mean(), feature_name=list(FEATURES))


def _fit(inputs: Array, target: Array, found: Found, budget: Budget) -> lgb.Booster:
    return lgb.train({**found.parameters, **_fixed(budget, len(target))}, _dataset(inputs, target), found.rounds)


def _tree_prices(known: Pair, inputs: Array, found: Found, budget: Budget) -> Array:
    prices: Array = np.asarray(_fit(*known, found, budget).predict(inputs, num_threads=1)) + known[1].mean()
    return prices
