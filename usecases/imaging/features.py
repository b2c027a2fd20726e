"""What is said of a film beside its picture: who it shows, how the picture is, how it was acquired. Only watched."""

import numpy as np

from orrery.usecase import Array

FEATURES = (
    "age_years",
    "male",
    "anteroposterior",
    "brightness",
    "contrast",
    "dark_share",
    "bright_share",
    "sharpness",
    "entropy",
    "asymmetry",
)
TAGS = ("film_rows", "film_columns", "film_device")
"""how it was acquired: no part of what a model gets, so that models from before they were kept still answer"""
UNKNOWN = -1.0
_DARK, _BRIGHT, _BINS = 16, 239, 32


def named(picture: Array, age: float | None, sex: str, view: str) -> Array:
    """The named features of one film, float32, shape (features,); what is not known is -1.

    `picture` is uint8 of shape (128, 128), `age` in years. Shares and levels are of 0 to 1, the entropy in bits.
    """
    levels = picture.astype(np.float64) / 255
    counts = np.bincount((picture // (256 // _BINS)).ravel(), minlength=_BINS)
    shares = counts[counts > 0] / picture.size
    values = (
        _known(age),
        {"M": 1.0, "F": 0.0}.get(sex, UNKNOWN),
        {"AP": 1.0, "PA": 0.0}.get(view, UNKNOWN),
        levels.mean(),
        levels.std(),
        (picture < _DARK).mean(),
        (picture > _BRIGHT).mean(),
        np.abs(np.diff(levels, axis=0)).mean() + np.abs(np.diff(levels, axis=1)).mean(),
        -(shares * np.log2(shares)).sum(),
        np.abs(levels - levels[:, ::-1]).mean(),
    )
    return np.array(values, dtype=np.float32)


def tags(rows: float | None, columns: float | None, device: float | None) -> Array:
    """The tags of one film, float32, shape (tags,): its size as acquired, and the number of the make and model that
    took it; what is not known, None or NaN, is -1."""
    return np.array([_known(rows), _known(columns), _known(device)], dtype=np.float32)


def inputs(picture: Array, age: float | None, sex: str, view: str) -> Array:
    """What a model gets of one film, float32: the named features, then the 16,384 levels of the picture by rows."""
    return np.concatenate([named(picture, age, sex, view), picture.ravel().astype(np.float32)])


def _known(value: float | None) -> float:
    return UNKNOWN if value is None or not np.isfinite(value) else value
