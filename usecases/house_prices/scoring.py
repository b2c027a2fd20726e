"""From the trees' answer and the linear model to a price with its interval; the same offline and online."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from orrery.usecase import Array, Model, Outputs

TREES = "trees.onnx"
BOOSTER = "trees.txt"


def score(model: Model, inputs: Array) -> Outputs:
    """Rows of inputs, float32, shape (n, features), to natural logarithms of prices, float64, shape (n,).

    "log_price" blends "trees" and "linear"; "low" and "high" are the ends of its 90 % interval.
    """
    return outputs(model.run(TREES, inputs)[0][:, 0], inputs, model.manifest.learned)


def outputs(raw: Array, inputs: Array, learned: Mapping[str, Any]) -> Outputs:
    """The same of what the trees say of the inputs, shape (n,), before their centre is added."""
    trees = raw.astype(np.float64) + learned["centre"]
    linear = straight(inputs, learned["linear"])
    log_price = blend(trees, linear, learned["trees_share"])
    interval, width = learned["interval"], spread(inputs, learned["interval"]["scale"])
    return {
        "log_price": log_price,
        "trees": trees,
        "linear": linear,
        "low": log_price + interval["low"] * width,
        "high": log_price + interval["high"] * width,
    }


def straight(inputs: Array, line: Mapping[str, Any]) -> Array:
    """A linear function of inputs of shape (n, features), float64, shape (n,)."""
    values: Array = inputs.astype(np.float64) @ np.array(line["coefficients"]) + line["intercept"]
    return values


def spread(inputs: Array, scale: Mapping[str, Any]) -> Array:
    """How large errors are of houses with these inputs, shape (n,); never beyond what was seen."""
    size: Array = np.exp(np.clip(straight(inputs, scale), scale["least"], scale["most"]))
    return size


def blend(trees: Array, linear: Array, share: float) -> Array:
    """Both, the trees with the weight `share`; of log prices as of contributions to them."""
    mixed: Array = share * trees + (1 - share) * linear
    return mixed


def contributions(model: Model, inputs: Array) -> Array:
    """What each input adds to the logarithm of the price, shape (n, features + 1), the typical price's last."""
    learned = model.manifest.learned
    trees = model.contributions(BOOSTER, inputs)
    trees[:, -1] += learned["centre"]
    coefficients, means = (np.array(learned["linear"][name]) for name in ("coefficients", "means"))
    linear = (inputs.astype(np.float64) - means) * coefficients
    typical = np.full((len(inputs), 1), means @ coefficients + learned["linear"]["intercept"])
    return blend(trees, np.hstack([linear, typical]), learned["trees_share"])
