"""What is amiss with a film, seen on its levels: a few flags for who reads it next."""

import numpy as np

from orrery.usecase import Array

LEAST_SIDE, LEAST_LEVELS = 256, 64
"""rows and columns, and different levels, that a film should have"""
_CLIPPED, _BLACK, _WHITE = 0.005, 0.5, 0.12
"""levels so near to an end (share of their range) are clipped; shares of a film from which too much is"""
_STEP, _MARGIN = 4, 16


def flags(levels: Array, picture: Array) -> tuple[str, ...]:
    """Flags of a film: its levels, float32 of shape (rows, columns), bright is dense, and its picture (128, 128)."""
    some = levels[::_STEP, ::_STEP]
    low, high = float(some.min()), float(some.max())
    near = _CLIPPED * (high - low)
    middle = some[(some >= np.percentile(some, 1)) & (some <= np.percentile(some, 99))]
    found = {
        "low_resolution": min(levels.shape) < LEAST_SIDE,
        "low_contrast": len(np.unique(middle)) < LEAST_LEVELS,
        "overexposed": float((some <= low + near).mean()) > _BLACK,
        "underexposed": float((some >= high - near).mean()) > _WHITE,
        "inverted": _inverted(picture),
    }
    return tuple(flag for flag, raised in found.items() if raised)


def _inverted(picture: Array) -> bool:
    """Whether the middle of the chest is darker than the lungs beside it."""
    lungs = np.concatenate([picture[40:80, 26:46], picture[40:80, 82:102]])
    return bool(lungs.mean() - picture[40:90, 58:70].mean() > _MARGIN)
