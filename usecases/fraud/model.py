"""The classifier: a seeded search over the folds, and the final fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from orrery.usecase import Array, Budget, Progress

if TYPE_CHECKING:
    import optuna
    import pandas as pd

TARGET = "TX_FRAUD"
START: Mapping[str, Any] = {
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 1000,
    "lambda_l2": 0.01,
    "feature_fraction": 1.0,
}
"""tried first: the best on the validation weeks of the published protocol"""
MOST_ROUNDS = 300
_MANY_ROWS = 100_000
_BINS: Mapping[str, Any] = {"max_bin": 4095, "min_data_in_bin": 1, "feature_pre_filter": False}
"""fine bins: frauds lie in the tails of the amounts, where the default's 255 bins of equal mass are too wide"""
_SAMPLED: Mapping[str, Any] = {"data_sample_strategy": "goss", "top_rate": 0.05, "other_rate": 0.1}
"""of many rows the trees see those they are most wrong about and a weighted sample of the others:
as good on the validation weeks, in a third of the time"""


@dataclass(frozen=True)
class Found:
    """What the search chose, and on what grounds."""

    parameters: Mapping[str, Any]
    rounds: int
    ap: float
    """mean average precision over the folds' validation rows"""
    curve: Array
    """the same after each round, shape (rounds,)"""
    trials: int


@dataclass(frozen=True)
class _Fold:
    train: lgb.Dataset
    validation: lgb.Dataset


def search(
    folds: Sequence[tuple["pd.DataFrame", "pd.DataFrame"]], names: Sequence[str], budget: Budget, progress: Progress
) -> Found:
    """Find parameters and the number of trees with the best average precision on the validation rows of the folds."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    prepared = [_prepare(train, validation, names) for train, validation in folds]
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=budget.seed, n_startup_trials=4),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
    )
    study.enqueue_trial(dict(START))
    begun = monotonic()
    progress("search", 0, budget.trials, f"{len(folds)} folds")

    def report(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        spent = (monotonic() - begun) / budget.seconds
        note = f"trial {trial.number + 1}, best average precision {study.best_value:.4f}"
        progress("search", min(max(trial.number + 1, spent * budget.trials), budget.trials), budget.trials, note)

    study.optimize(
        lambda trial: _trial(trial, prepared, budget),
        n_trials=budget.trials,
        timeout=budget.seconds,
        callbacks=[report],
    )
    progress("search", budget.trials, budget.trials, f"best average precision {study.best_value:.4f}")
    curve = np.array(study.best_trial.user_attrs["curve"])
    return Found(study.best_params, int(curve.argmax()) + 1, study.best_value, curve, len(study.trials))


def _prepare(train: "pd.DataFrame", validation: "pd.DataFrame", names: Sequence[str]) -> _Fold:
    data = _dataset(train, names).construct()
    return _Fold(data, data.create_valid(*_columns(validation, names)))


def _trial(trial: "optuna.Trial", folds: Sequence[_Fold], budget: Budget) -> float:
    """The best mean average precision of the trial's parameters after any number of rounds."""
    import optuna

    parameters = {
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 7, 31, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 100, 2_000, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.01, 10.0, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.5, 1.0),
    }
    curves = []
    for step, fold in enumerate(folds):
        curves.append(_curve(fold, parameters, budget))
        mean = np.mean(curves, axis=0)
        trial.report(float(mean.max()), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("curve", mean.tolist())
    return float(mean.max())


def _curve(fold: _Fold, parameters: Mapping[str, Any], budget: Budget) -> Array:
    """Average precision on the fold's validation rows after each round."""
    history: dict[str, dict[str, list[float]]] = {}
    lgb.train(
        {**parameters, **fixed(budget, fold.train.num_data()), "metric": "average_precision"},
        fold.train,
        MOST_ROUNDS,
        valid_sets=[fold.validation],
        callbacks=[lgb.record_evaluation(history)],
    )
    return np.array(history["valid_0"]["average_precision"])


def fixed(budget: Budget, rows: int) -> dict[str, Any]:
    """What is not searched. The same data, seed and number of threads give the same trees."""
    return {
        **_BINS,
        **(_SAMPLED if rows >= _MANY_ROWS else {}),
        "objective": "binary",
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads(budget, rows),
        "seed": budget.seed,
        "verbosity": -1,
    }


def threads(budget: Budget, rows: int) -> int:
    """How many threads so many rows are worth: with few they wait for each other, above all on busy cores."""
    return 1 if rows < _MANY_ROWS else budget.threads


def predict(booster: lgb.Booster, inputs: Array, budget: Budget) -> Array:
    """The booster's own probabilities of inputs of shape (n, features), float64, shape (n,)."""
    return np.asarray(booster.predict(inputs, num_threads=threads(budget, len(inputs))))


def fit(train: "pd.DataFrame", names: Sequence[str], found: Found, budget: Budget) -> lgb.Booster:
    """Train on all rows with what the search found."""
    return lgb.train({**found.parameters, **fixed(budget, len(train))}, _dataset(train, names), found.rounds)


def _dataset(rows: "pd.DataFrame", names: Sequence[str]) -> lgb.Dataset:
    inputs, target = _columns(rows, names)
    return lgb.Dataset(inputs, target, feature_name=list(names), params=dict(_BINS), free_raw_data=False)


def _columns(rows: "pd.DataFrame", names: Sequence[str]) -> tuple[Array, Array]:
    return rows[list(names)].to_numpy(np.float32), rows[TARGET].to_numpy(np.float32)
