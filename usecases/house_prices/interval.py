"""How far prices may lie from the prediction: split-conformal quantiles of errors, scaled by how hard a house is."""

import math
from typing import Any

import numpy as np

from orrery.usecase import Array
from usecases.house_prices import linear
from usecases.house_prices.scoring import spread

COVERAGE, _TAIL = 0.90, 0.05
_PARTS = 5
_PENALTY = 100.0
"""single errors say little of what makes houses hard, so the scale is held close to being the same for all"""
_LEAST_ERROR = 0.01


def fit_interval(inputs: Array, errors: Array) -> dict[str, Any]:
    """What `scoring.outputs` needs to make intervals that hold 90 % of further rows, if these are like the known ones.

    `errors`, shape (n,), are truths minus predictions of rows that were not learned from, `inputs` their inputs, shape
    (n, features). The quantiles are of errors whose scale was learned from other rows.
    """
    parts = np.arange(len(errors)) % _PARTS
    scaled = np.empty(len(errors))
    for part in range(_PARTS):
        held = parts == part
        scaled[held] = errors[held] / spread(inputs[held], _fit_scale(inputs[~held], errors[~held]))
    return {**conformal(scaled), "coverage": COVERAGE, "scale": _fit_scale(inputs, errors)}


def _fit_scale(inputs: Array, errors: Array) -> dict[str, Any]:
    sizes = np.log(np.abs(errors) + _LEAST_ERROR)
    fitted = linear.fit(inputs, sizes, _PENALTY)
    known = fitted.predict(inputs)
    return {
        "coefficients": fitted.coefficients.tolist(),
        "intercept": fitted.intercept,
        "least": float(known.min()),
        "most": float(known.max()),
    }


def conformal(errors: Array) -> dict[str, float]:
    """The ends that hold 90 % of further errors like these n, shape (n,); each misses 5 %."""
    ordered = np.sort(errors)
    places = len(errors) + 1
    low = max(math.floor(places * _TAIL), 1)
    high = min(math.ceil(places * (1 - _TAIL)), len(errors))
    return {"low": float(ordered[low - 1]), "high": float(ordered[high - 1])}
