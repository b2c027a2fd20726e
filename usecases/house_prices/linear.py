"""The baseline: ridge regression, and the penalty that later months like best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orrery.usecase import Array

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
Pair = tuple[Array, Array]
"""inputs, shape (n, features), and targets, shape (n,)"""


@dataclass(frozen=True)
class Linear:
    """A linear function of the inputs."""

    coefficients: Array
    intercept: float
    means: Array
    """of the inputs that it was fitted to"""

    def predict(self, inputs: Array) -> Array:
        """Targets of inputs of shape (n, features)."""
        predicted: Array = inputs.astype(np.float64) @ self.coefficients + self.intercept
        return predicted


def fit(inputs: Array, target: Array, penalty: float) -> Linear:
    """The least squares of n rows with `penalty` on the squared coefficients of standardized inputs."""
    rows = inputs.astype(np.float64)
    means, scales = rows.mean(axis=0), rows.std(axis=0)
    scales[scales == 0] = 1.0
    standard = (rows - means) / scales
    gram = standard.T @ standard + penalty * np.eye(rows.shape[1])
    coefficients = np.linalg.solve(gram, standard.T @ (target - target.mean())) / scales
    return Linear(coefficients, float(target.mean() - means @ coefficients), means)


def best_penalty(folds: Sequence[tuple[Pair, Pair]]) -> float:
    """The penalty with the least mean squared error on the folds' validation rows."""

    def error(penalty: float) -> float:
        return float(np.mean([np.mean((fit(*known, penalty).predict(x) - y) ** 2) for known, (x, y) in folds]))

    return min(PENALTIES, key=error)
