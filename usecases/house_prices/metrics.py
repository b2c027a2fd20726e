"""How good the prices are: errors in logarithms and in per cent, the lead over the baseline, the coverage."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import BaseModel

from orrery.usecase import Array, Outputs
from usecases.house_prices.interval import COVERAGE
from usecases.house_prices.serving import SaleFeedback

if TYPE_CHECKING:
    import pandas as pd

USUAL_AREA = 4_000
"""square feet of living area; the author of the data advises to leave larger houses out"""
COVERED = f"coverage_{COVERAGE:.0%}".rstrip("%")


def measure(rows: "pd.DataFrame", outputs: Outputs) -> Callable[[Array], Mapping[str, float]]:
    """Prepare all metrics of n scored rows: a function of row weights, shape (n,), how often each row counts.

    `rmsle` is the root mean squared error of the natural logarithm of the price; all rows count, but in `rmsle_usual`
    only houses of up to 4,000 square feet. `mae` is in dollars, `mape` and `interval_width` are shares of the price.
    """
    truth = rows["log_price"].to_numpy(np.float64)
    usual = (rows["living_area"] <= USUAL_AREA).to_numpy(np.float64)
    error, linear_error = truth - outputs["log_price"], truth - outputs["linear"]
    off = np.abs(np.expm1(-error))
    width = np.exp(outputs["high"] - outputs["log_price"]) - np.exp(outputs["low"] - outputs["log_price"])
    covered = ((outputs["low"] <= truth) & (truth <= outputs["high"])).astype(np.float64)

    def weighted(weights: Array) -> Mapping[str, float]:
        def mean(values: Array, weights: Array = weights) -> float:
            return float(weights @ values / weights.sum())

        rmsle, rmsle_linear = mean(error**2) ** 0.5, mean(linear_error**2) ** 0.5
        return {
            "rmsle": rmsle,
            "rmsle_linear": rmsle_linear,
            "rmsle_below_linear": rmsle_linear - rmsle,
            "rmsle_trees": mean((truth - outputs["trees"]) ** 2) ** 0.5,
            "rmsle_usual": mean(error**2, weights * usual) ** 0.5,
            "mape": mean(off),
            "mae": mean(off * np.exp(truth)),
            "bias": mean(error),
            "r2": 1 - mean(error**2) / mean((truth - mean(truth)) ** 2),
            COVERED: mean(covered),
            "interval_width": mean(width),
        }

    return weighted


def online(answers: Sequence[Mapping[str, Any]], feedback: Sequence[BaseModel]) -> dict[str, float]:
    """What prices that were answered were worth, by those that were paid and are known by now."""
    paid = {sale.sale_id: sale.price for sale in cast("Sequence[SaleFeedback]", feedback)}
    known = [
        (answer["price"], answer["low"], answer["high"], paid[answer["sale_id"]])
        for answer in answers
        if answer["price"] is not None and answer["sale_id"] in paid
    ]
    reviewed = sum(answer["decision"] == "review" for answer in answers)
    figures = {"sold": float(len(known)), "review_share": reviewed / max(len(answers), 1)}
    if not known:
        return figures
    said, low, high, truth = np.array(known, np.float64).T
    return figures | {
        "rmsle": float(np.sqrt(np.mean((np.log(said) - np.log(truth)) ** 2))),
        "mape": float(np.mean(np.abs(said / truth - 1))),
        COVERED: float(np.mean((low <= truth) & (truth <= high))),
    }


def live(said: Array, paid: Array) -> dict[str, float]:
    """Of logarithms of prices that were answered and paid, shape (n,), NaN where none is known yet: their error."""
    error = (said - paid)[~np.isnan(paid)]
    return {"rmsle": float(np.sqrt(np.mean(error**2)))} if len(error) else {}
