"""The accuracy that published work reports for these data: random fifths held out, the whole training repeated."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from orrery.usecase import Budget, Progress, silent
from usecases.house_prices.metrics import measure
from usecases.house_prices.model import inputs_of, learn
from usecases.house_prices.protocol import folds

if TYPE_CHECKING:
    import pandas as pd

SEEDS = (0, 1, 2)
SHARE = 0.2


def holdouts(
    rows: "pd.DataFrame", budget: Budget, progress: Progress = silent, seeds: Sequence[int] = SEEDS
) -> list[Mapping[str, float]]:
    """The metrics of each hold-out: a random fifth of the sales, priced by a model searched and fitted on the others.

    `rows` are raw rows with their features; their order does not matter.
    """
    rows = rows.sort_values("sale_id")
    found = []
    for done, seed in enumerate(seeds):
        progress("hold-outs", done, len(seeds), f"seed {seed}")
        order = np.random.default_rng(seed).permutation(len(rows))
        cut = round(SHARE * len(rows))
        held, train = rows.iloc[order[:cut]], rows.iloc[np.sort(order[cut:])]
        outputs = learn(train, folds(train), budget, silent).predict(inputs_of(held))
        found.append(measure(held, outputs)(np.ones(len(held))))
    progress("hold-outs", len(seeds), len(seeds))
    return found
