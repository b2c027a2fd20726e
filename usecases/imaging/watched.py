"""What the watch measures of films beside named features: what the classifier sees, strangers, sizes and devices."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from orrery.two_samples import by_kind, divergence, mean_above, mmd, unseen
from orrery.usecase import Array
from orrery.watching import Measure, Sample
from usecases.imaging.features import TAGS, UNKNOWN

DIRECTIONS = 16
SAMPLED = ("embedding", "ood", *TAGS)


def measures(window: Sample, reference: Sample) -> Sequence[Measure]:
    """What both samples have the values for: a model or a log from before there were tags has none of them."""
    return [each for names, of in _MEASURES.items() if set(names) <= window.keys() for each in of(window, reference)]


def _seen(window: Sample, reference: Sample) -> Sequence[Measure]:
    """How far the films' features are apart."""
    clouds = [np.asarray(sample["embedding"]) for sample in (window, reference)]
    # or the first directions, which tell ill from healthy, would drown what a device or a mirrored film changes
    spread = np.concatenate(clouds).std(axis=0)
    return (mmd("embedding", *(cloud / np.where(spread > 0, spread, 1.0) for cloud in clouds)),)


def _strangers(window: Sample, reference: Sample) -> Sequence[Measure]:
    """The share of films that are too strange to be scored."""
    return (mean_above("out_of_distribution", "share", *(sample["ood"] > 1 for sample in (window, reference))),)


def _sizes(window: Sample, reference: Sample) -> Sequence[Measure]:
    """How far the films' heights and widths are apart, in octaves."""
    sizes = [np.log2(_known(sample, "film_rows", "film_columns")) for sample in (window, reference)]
    return (mmd("film_size", *sizes),) if all(map(len, sizes)) else ()


def _devices(window: Sample, reference: Sample) -> Sequence[Measure]:
    """How far the shares of makes and models are apart, and the share of films by those the reference has none of."""
    devices = [_known(sample, "film_device")[:, 0] for sample in (window, reference)]
    if not all(map(len, devices)):
        return ()
    kinds = by_kind(*devices)
    return divergence("film_devices", "device_jsd", *kinds), unseen("known_devices", "unseen_share", *kinds)


def _known(sample: Sample, *tags: str) -> Array:
    """The films that say all of these, shape (films, tags): one that was sent as a picture says nothing of them."""
    values = np.stack([np.asarray(sample[tag], np.float64) for tag in tags], axis=1)
    known: Array = values[(values != UNKNOWN).all(axis=1)]
    return known


_MEASURES: Mapping[tuple[str, ...], Callable[[Sample, Sample], Sequence[Measure]]] = {
    ("embedding",): _seen,
    ("ood",): _strangers,
    ("film_rows", "film_columns"): _sizes,
    ("film_device",): _devices,
}
"""what is asked of a sample -> what is measured of it"""


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
