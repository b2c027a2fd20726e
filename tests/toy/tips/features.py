"""Raw values -> model input, for one table or for many."""

import numpy as np

from orrery.usecase import Array

FEATURES = ("bill", "guests", "visits")


def inputs(bill: Array, guests: Array, visits: Array) -> Array:
    """Rows of float32, shape (n, 3)."""
    return np.column_stack([np.log1p(bill), guests, np.log1p(visits)]).astype(np.float32)
