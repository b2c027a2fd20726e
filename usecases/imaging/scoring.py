"""From the inputs of films to what is said of them, by ONNX Runtime or by PyTorch: the same function."""

import numpy as np

from orrery.usecase import Array, Model, Outputs
from usecases.imaging.features import FEATURES
from usecases.imaging.picture import SIDE
from usecases.imaging.region import boxes, crop, place

SEGMENTATION, CLASSIFIER = "segmentation.onnx", "classifier.onnx"
CENTRES, PRECISION = "strangeness_centres.npy", "strangeness_precision.npy"
EMBEDDING = "embedding.npy"
_CELLS = 8
"""of a side, when a film is described as a whole"""


def pictures_of(inputs: Array) -> Array:
    """The pictures in rows of inputs: float32 of 0..255, shape (n, 128, 128)."""
    return inputs[:, len(FEATURES) :].reshape(-1, SIDE, SIDE)


def score(model: Model, inputs: Array) -> Outputs:
    """Rows of inputs, shape (n, features + 16,384) -> for each of n films

    `probability` of an opacity, calibrated; `margin`, by how much that is above the operating point; `uncertainty` in
    bits; `ood`, above 1 where a film is unlike those learned from; `area`, the lungs' share; `mask` of the lungs, 0 or
    1, and `cam`, Grad-CAM of 0..255, uint8 of shape (n, 128, 128); `embedding`, shape (n, 16), where the bundle has it.
    """
    learned, pictures = model.manifest.learned, pictures_of(inputs)
    lungs = lungs_of(model, pictures)
    where = boxes(lungs)
    regions = crop(pictures, lungs, where, learned["side"])
    logits, cams, pooled = model.run(CLASSIFIER, regions[:, None])
    probability = 1 / (1 + np.exp(-logits.astype(np.float64) / learned["temperature"]))
    uncertainty = bits(probability)
    apart = distances(describe(pictures, lungs, pooled), model.array(CENTRES), model.array(PRECISION))
    mask = lungs > 0.5
    # a bundle of an earlier version lacks it, and goes on to serve
    known = EMBEDDING in model.manifest.files
    embedded = {"embedding": embedding(pooled, model.array(EMBEDDING))} if known else {}
    return {
        "probability": probability,
        "margin": probability - learned["operating_point"],
        "uncertainty": uncertainty,
        "ood": (apart + learned["doubt_weight"] * uncertainty) / learned["strangeness_limit"],
        "area": mask.mean(axis=(1, 2)),
        "mask": mask.astype(np.uint8),
        "cam": _levels(place(cams, where), learned["brightest"]),
        **embedded,
    }


def lungs_of(model: Model, pictures: Array) -> Array:
    """Lung probabilities, shape (n, 128, 128); ones where the model has learned of no lungs."""
    if model.manifest.learned["region"] != "lungs":
        return np.ones(pictures.shape, dtype=np.float32)
    return model.run(SEGMENTATION, pictures[:, None])[0]


def describe(pictures: Array, lungs: Array, pooled: Array) -> Array:
    """What a film is like as a whole: features of the classifier, coarse lungs, coarse picture; shape (n, values)."""
    parts = [pooled, _coarse(lungs), _coarse(pictures / 255)]
    return np.hstack(parts).astype(np.float64)


def embedding(pooled: Array, learned: Array) -> Array:
    """Features of the classifier, shape (n, values), along the directions learned, whose first row is the middle."""
    found: Array = (pooled.astype(np.float64) - learned[0]) @ learned[1:].T
    return found


def distances(described: Array, centres: Array, precision: Array) -> Array:
    """The Mahalanobis distance of each film, shape (n,), to the nearest centre, shape (classes, values)."""
    apart = described[:, None, :] - centres[None]
    squares = ((apart @ precision) * apart).sum(axis=2)
    nearest: Array = np.sqrt(np.maximum(squares, 0).min(axis=1))
    return nearest


def _coarse(values: Array) -> Array:
    cell = SIDE // _CELLS
    means: Array = values.reshape(len(values), _CELLS, cell, _CELLS, cell).mean(axis=(2, 4))
    return means.reshape(len(values), -1)


def bits(probability: Array) -> Array:
    """Doubt: the entropy of a probability, 0 when it is sure, 1 at one half."""
    sure = np.clip(probability, 1e-12, 1 - 1e-12)
    bits: Array = -(sure * np.log2(sure) + (1 - sure) * np.log2(1 - sure))
    return bits


def _levels(maps: Array, brightest: float) -> Array:
    """Evidence >= 0 as levels, alike on all films: what is faint on one is not made bright."""
    return np.asarray(np.rint(np.minimum(maps / brightest, 1) * 255), dtype=np.uint8)
