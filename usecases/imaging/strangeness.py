"""How unlike those it learned from a film may be before the model does not speak of it."""

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf

from orrery.usecase import Array
from usecases.imaging.scoring import distances

_KEPT = 0.995
"""share of held-out films that are within the limit"""


@dataclass(frozen=True)
class Strangeness:
    """What `scoring.score` needs to say it."""

    centres: Array
    """float64, shape (classes, values)"""
    precision: Array
    """float64, shape (values, values): of the shrunk covariance around the centres (Lee et al. 2018)"""
    doubt_weight: float
    """distance that one bit of doubt adds"""
    limit: float


def learn(described: Array, labels: Array, held_out: Array, doubt: Array) -> Strangeness:
    """From training films, shape (n, values), and held-out ones with their doubt in bits, shape (m,)."""
    centres = np.array([described[labels == label].mean(axis=0) for label in (0, 1)])
    covariance = LedoitWolf(assume_centered=True).fit(described - centres[labels.astype(int)])
    precision = covariance.precision_
    apart = distances(held_out, centres, precision)
    weight = float(apart.std())
    limit = float(np.quantile(apart + weight * doubt, _KEPT))
    return Strangeness(centres, precision, weight, limit)
