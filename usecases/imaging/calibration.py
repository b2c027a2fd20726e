"""Probabilities that mean what they say, and the point from which a film counts as a finding."""

import numpy as np

from orrery.usecase import Array

BINS = 15


def sigmoid(logits: Array) -> Array:
    """Logits of any shape -> probabilities."""
    values: Array = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return values


def log_loss(logits: Array, labels: Array) -> Array:
    """Minus the log likelihood of each label, 0 or 1; all of shape (n,)."""
    scores = logits.astype(np.float64)
    losses: Array = np.logaddexp(0, scores) - labels * scores
    return losses


def temperature(logits: Array, labels: Array) -> float:
    """What logits, shape (n,), are divided by so that held-out labels are likeliest (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return float(log_loss(logits / np.exp(log_temperature), labels).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def operating_point(probability: Array, labels: Array) -> float:
    """The threshold with the most sensitivity plus specificity (Youden 1950) on held-out films."""
    from sklearn.metrics import roc_curve

    wrong, right, thresholds = roc_curve(labels, probability)
    return float(np.clip(thresholds[np.argmax(right - wrong)], 0.01, 0.99))


def calibration_error(probability: Array, labels: Array, weights: Array) -> float:
    """Expected calibration error: mean distance of share and probability over 15 bins of equal width (Naeini 2015)."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    apart = np.bincount(bins, weights * (probability - labels), minlength=BINS)
    return float(np.abs(apart).sum() / weights.sum())
