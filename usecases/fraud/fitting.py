"""Fits the fraud model: trees by a search, calibration and thresholds on a later slice, a novelty beside them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orrery.adapters.tree_graph import write_trees
from orrery.usecase import Array, Budget, Fitted, Progress, Split
from usecases.fraud import autoencoder, model, plots
from usecases.fraud.calibration import decision_metrics, fit_calibration, fit_thresholds
from usecases.fraud.features import FEATURES
from usecases.fraud.metrics import COSTS, ranking
from usecases.fraud.scoring import AUTOENCODER, BOOSTER, CLASSIFIER, calibrate

if TYPE_CHECKING:
    import pandas as pd

_EXPLAINED_ROWS = 5_000


def fit(split: Split, budget: Budget, progress: Progress, folder: Path) -> Fitted:
    """Search on the folds, learn calibration, thresholds and novelty on the last validation, train on all."""
    folder.mkdir(parents=True, exist_ok=True)
    found = model.search(split.folds, FEATURES, budget, progress)
    earlier, later = split.folds[-1]
    progress("fit", 0, 3, "calibration on a later slice")
    raw = model.predict(model.fit(earlier, FEATURES, found, budget), inputs_of(later), budget)
    target = later["TX_FRAUD"].to_numpy()
    calibration = fit_calibration(raw, target)
    score = calibrate(raw, calibration)
    thresholds = fit_thresholds(later, score)
    encoder = autoencoder.fit_autoencoder(inputs_of(_ordinary(earlier)), budget, progress)
    autoencoder.export(encoder, folder / AUTOENCODER)
    progress("fit", 1, 3, "ablation of the novelty")
    novelty, ablation = _novelty(encoder, split, found, budget)
    progress("fit", 2, 3, f"{found.rounds} trees on {len(split.train):,} rows")
    booster = model.fit(split.train, FEATURES, found, budget)
    sample = inputs_of(later.sample(min(_EXPLAINED_ROWS, len(later)), random_state=budget.seed))
    write_trees(booster, folder / CLASSIFIER, sample, folder / BOOSTER)
    progress("fit", 3, 3)
    pictures = folder.with_name("plots")
    pictures.mkdir(exist_ok=True)
    contributions = np.asarray(booster.predict(sample, pred_contrib=True, num_threads=budget.threads))
    return Fitted(
        folder=folder,
        learned={"calibration": calibration, "thresholds": thresholds, "novelty": novelty, "costs": dict(COSTS)},
        parameters={**found.parameters, "rounds": found.rounds, "trials": found.trials, "seed": budget.seed},
        metrics={
            "search_ap": found.ap,
            **ablation,
            "ablation_ap_without_novelty": _ap(target, raw),
            **{f"later_{name}": value for name, value in decision_metrics(later, score, thresholds).items()},
        },
        plots={
            "importance": plots.importance(contributions, FEATURES, pictures / "importance.png"),
            "learning_curve": plots.learning_curve(found.curve, pictures / "learning_curve.png"),
        },
    )


def inputs_of(rows: "pd.DataFrame") -> Array:
    """The model's inputs, float32, shape (n, features)."""
    return rows[list(FEATURES)].to_numpy(np.float32)


def _ordinary(rows: "pd.DataFrame") -> "pd.DataFrame":
    return rows[rows["TX_FRAUD"] == 0]


def _novelty(
    encoder: autoencoder.Autoencoder, split: Split, found: model.Found, budget: Budget
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The novelty's scale, and the average precision on the later slice of novelty alone and as one more input."""
    errors = [autoencoder.reconstruction_error(encoder, inputs_of(rows)) for rows in split.folds[-1]]
    earlier, later = (rows.assign(NOVELTY=error) for rows, error in zip(split.folds[-1], errors, strict=True))
    names = (*FEATURES, "NOVELTY")
    raw = model.predict(model.fit(earlier, names, found, budget), later[list(names)].to_numpy(np.float32), budget)
    target = later["TX_FRAUD"].to_numpy()
    ablation = {"ablation_ap_novelty_alone": _ap(target, errors[1]), "ablation_ap_with_novelty": _ap(target, raw)}
    return autoencoder.fit_novelty(errors[1][target == 0]), ablation


def _ap(target: Array, score: Array) -> float:
    return ranking(target.astype(np.float64), score)(np.ones(len(score)))["ap"]
