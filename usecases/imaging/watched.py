"""What the watch measures of films beside their named features: what the classifier sees in them, and strangers."""

from collections.abc import Sequence

import numpy as np

from orrery.two_samples import mean_above, mmd
from orrery.usecase import Array
from orrery.watching import Measure, Sample

DIRECTIONS = 16
SAMPLED = ("embedding", "ood")


def measures(window: Sample, reference: Sample) -> Sequence[Measure]:
    """How far the films' features are apart, and the share of films that are too strange to be scored."""
    clouds = [np.asarray(sample["embedding"]) for sample in (window, reference)]
    # or the first directions, which tell ill from healthy, would drown what a device or a mirrored film changes
    spread = np.concatenate(clouds).std(axis=0)
    scaled = [cloud / np.where(spread > 0, spread, 1.0) for cloud in clouds]
    strangers = [sample["ood"] > 1 for sample in (window, reference)]
    return (
        mmd("embedding", *scaled),
        mean_above("out_of_distribution", "share", *strangers),
    )


def directions(pooled: Array) -> Array:
    """From features of training films, shape (n, values): their middle, and below it the directions in which most of
    their variance lies, scaled so that it is 1 in all; shape (17, values), the last rows zero where there are fewer."""
    middle = pooled.mean(axis=0, dtype=np.float64)
    _, spread, found = np.linalg.svd(pooled - middle, full_matrices=False)
    scale = max(float(np.sqrt((spread**2).sum() / len(pooled))), 1e-9)
    learned = np.zeros((1 + DIRECTIONS, pooled.shape[1]))
    learned[0] = middle
    few = found[:DIRECTIONS] / scale
    learned[1 : 1 + len(few)] = few
    return learned
