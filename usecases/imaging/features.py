"""What is said of a film beside its picture: who it shows, and how the picture is. Watched, not seen by the model."""

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
UNKNOWN = -1.0
_DARK, _BRIGHT, _BINS = 16, 239, 32


def named(picture: Array, age: float | None, sex: str, view: str) -> Array:
    """The named features of one film, float32, shape (features,); what is not known is -1.

    `picture` is uint8 of shape (128, 128), `age` in years. Shares and levels are of 0 to 1, the entropy in bits.
    """
    levels = picture.astype(np.float64) / 255
    counts = np.bincount((picture // (256 // _BINS)).ravel(), minlength=_BINS)
    shares = counts[counts > 0] / picture.size
    known = age is not None and np.isfinite(age)
    values = (
        age if known else UNKNOWN,
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


def inputs(picture: Array, age: float | None, sex: str, view: str) -> Array:
    """What a model gets of one film, float32: the named features, then the 16,384 levels of the picture by rows."""
    return np.concatenate([named(picture, age, sex, view), picture.ravel().astype(np.float32)])
