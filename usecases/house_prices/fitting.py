"""Fits the price of houses: boosted trees and a linear model, blended as the folds say, and their interval."""

from pathlib import Path

import numpy as np

from orrery.adapters.tree_graph import write_trees
from orrery.usecase import Budget, Fitted, Progress, Split
from usecases.house_prices import model, plots
from usecases.house_prices.scoring import BOOSTER, TREES


def fit(split: Split, budget: Budget, progress: Progress, folder: Path) -> Fitted:
    """Search, blend and interval on the folds, trees and baseline on all training rows."""
    folder.mkdir(parents=True, exist_ok=True)
    learned = model.learn(split.train, split.folds, budget, progress)
    inputs = model.inputs_of(split.train)
    write_trees(learned.booster, folder / TREES, inputs, folder / BOOSTER)
    pictures = folder.with_name("plots")
    pictures.mkdir(exist_ok=True)
    contributions = np.asarray(learned.booster.predict(inputs, pred_contrib=True, num_threads=1))
    return Fitted(
        folder=folder,
        learned=learned.values,
        parameters={
            **learned.found.parameters,
            "rounds": learned.found.rounds,
            "trials": learned.found.trials,
            "penalty": learned.values["linear"]["penalty"],
            "trees_share": learned.values["trees_share"],
        },
        metrics={f"folds_rmsle_{name}": error for name, error in learned.errors.items()},
        plots={
            "importance": plots.importance(contributions, pictures / "importance.png"),
            "learning_curve": plots.learning_curve(learned.found.curve, pictures / "learning_curve.png"),
        },
    )
