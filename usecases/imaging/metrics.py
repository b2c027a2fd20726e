"""How good answers are: discrimination, calibration, the operating point, the lungs, and where the model looked."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from orrery.usecase import Array, Outputs
from usecases.imaging.calibration import calibration_error
from usecases.imaging.picture import SIDE, decode

if TYPE_CHECKING:
    import pandas as pd


def measure(rows: "pd.DataFrame", outputs: Outputs) -> Callable[[Array], Mapping[str, float]]:
    """Rows and what was said of them -> a function of row weights, shape (n,), to metrics.

    Where the rows have masks, there are metrics of lungs too: `dice` of the found and the true ones, and
    `cam_in_lungs`, the share of Grad-CAM's energy in the true lungs of films with a finding.
    """
    labels, probability = rows["label"].to_numpy(np.float64), outputs["probability"]
    above = outputs["margin"] >= 0
    order = np.argsort(-probability, kind="stable")
    ties = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    lungs = _lungs(rows, outputs)

    def metrics(weights: Array) -> Mapping[str, float]:
        ill, well = weights * labels, weights * (1 - labels)
        found = {
            **_ranked(ill[order], well[order], ties),
            "sensitivity": _share(ill, above),
            "specificity": _share(well, ~above),
            "accuracy": _share(weights, (probability >= 0.5) == labels),
            "ece": calibration_error(probability, labels, weights),
            "brier": float(np.average((probability - labels) ** 2, weights=weights)),
            "out_of_distribution": _share(weights, outputs["ood"] > 1),
        }
        if lungs is not None:
            overlap, inside = lungs
            found |= {"dice": float(np.average(overlap, weights=weights)), "cam_in_lungs": _share(ill, inside)}
        return found

    return metrics


def energy_inside(cams: Array, masks: Array) -> Array:
    """The share of each map's energy, its sum of squares, in a mask; shapes (n, 128, 128) -> (n,). 0 without energy."""
    energy = cams.astype(np.float64) ** 2
    inside: Array = (energy * masks).sum(axis=(1, 2)) / np.maximum(energy.sum(axis=(1, 2)), 1e-12)
    return inside


def masks_of(rows: "pd.DataFrame") -> Array:
    """The true lungs, bool of shape (n, 128, 128); every row has a mask."""
    return np.array([decode(mask) > 127 for mask in rows["mask"]]).reshape(-1, SIDE, SIDE)


def _lungs(rows: "pd.DataFrame", outputs: Outputs) -> tuple[Array, Array] | None:
    if not all(len(mask) for mask in rows["mask"]):
        return None
    true, found = masks_of(rows), outputs["mask"] > 0
    both, sizes = (true & found).sum(axis=(1, 2)), true.sum(axis=(1, 2)) + found.sum(axis=(1, 2))
    return 2 * both / np.maximum(sizes, 1), energy_inside(outputs["cam"], true)


def _ranked(ill: Array, well: Array, ties: Array) -> dict[str, float]:
    """Area under the ROC curve and average precision, of weights in falling order of probability."""
    hits, misses = np.cumsum(ill)[ties], np.cumsum(well)[ties]
    if hits[-1] == 0 or misses[-1] == 0:
        return {"auc": float("nan"), "ap": float("nan")}
    gained, before = np.diff(hits, prepend=0), np.concatenate([[0.0], misses[:-1]])
    area = float((gained * (misses[-1] - (misses + before) / 2)).sum() / (hits[-1] * misses[-1]))
    precision = hits / np.maximum(hits + misses, 1e-12)
    return {"auc": area, "ap": float((gained * precision).sum() / hits[-1])}


def _share(weights: Array, what: Array) -> float:
    total = weights.sum()
    return float((weights * what).sum() / total) if total > 0 else float("nan")
