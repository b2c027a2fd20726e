"""From the graphs' answers to the probability and the novelty of a transaction; the same offline and online."""

from collections.abc import Mapping

import numpy as np

from orrery.usecase import Array, Model, Outputs

CLASSIFIER = "classifier.onnx"
BOOSTER = "classifier.txt"
AUTOENCODER = "autoencoder.onnx"
_LEAST = 1e-7


def score(model: Model, inputs: Array) -> Outputs:
    """Rows of inputs, float32, shape (n, features), to "score", "raw" and "novelty", float64 in [0, 1], shape (n,).

    The score is the calibrated probability of fraud, raw the classifier's own, novelty the share of ordinary
    transactions that the autoencoder reconstructs better.
    """
    learned = model.manifest.learned
    raw = fraud_probability(model.run(CLASSIFIER, inputs))
    error = model.run(AUTOENCODER, inputs)[0]
    return {
        "score": calibrate(raw, learned["calibration"]),
        "raw": raw,
        "novelty": novelty(error, learned["novelty"]),
    }


def fraud_probability(outputs: list[Array]) -> Array:
    """The second column of the classifier's probabilities, shape (n, 2), as float64."""
    probability: Array = outputs[-1][:, 1].astype(np.float64)
    return probability


def log_odds(raw: Array) -> Array:
    """The log-odds of probabilities, finite at 0 and 1 too."""
    bounded = np.clip(raw, _LEAST, 1 - _LEAST)
    odds: Array = np.log(bounded) - np.log1p(-bounded)
    return odds


def calibrate(raw: Array, calibration: Mapping[str, float]) -> Array:
    """A logistic curve over the log-odds; its slope is positive, so that the order of the rows stays."""
    calibrated: Array = 1 / (1 + np.exp(-(calibration["slope"] * log_odds(raw) + calibration["intercept"])))
    return calibrated


def novelty(error: Array, learned: Mapping[str, list[float]]) -> Array:
    """Where reconstruction errors lie among those of ordinary transactions."""
    return np.interp(error.astype(np.float64), learned["errors"], learned["shares"])
