"""What scores were worth: on labels that have arrived, and before, if a score still is the probability it claims."""

from collections.abc import Mapping

import numpy as np

from orrery.usecase import Array

MARGIN: Mapping[str, float] = {"ap": 0.1, "auc": 0.075, "positives_to_expected": 0.3}
"""how much worse than estimated is of no interest, however sure one is of it: calibration is never perfect"""
_DRAWS, _SIGMAS = 200, 3.3
"""one side of a normal distribution leaves 0.05 % beyond 3.3 deviations"""


def classified(scores: Array, labels: Array) -> dict[str, float]:
    """Of probabilities and labels 0 or 1, shape (n,), NaN where none has arrived: average precision, area under the
    ROC curve, Brier score, and positives found to positives expected. Absent where it cannot be said."""
    known = ~np.isnan(labels)
    return {name: float(values[0]) for name, values in _measured(scores[known], labels[known][None]).items()}


def estimated(scores: Array) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics of `classified` that n scores promise, and their standard deviations.

    Labels are drawn as the scores say, two hundred times: confidence-based performance estimation by simulation. Holds
    as long as the scores are calibrated; when the meaning of the inputs changes they are not, and truth parts from it.
    """
    if not len(scores):
        return {}, {}
    draw = np.random.default_rng(len(scores))
    found = _measured(scores, (draw.random((_DRAWS, len(scores))) < scores).astype(np.float64))
    usable = {name: values[np.isfinite(values)] for name, values in found.items()}
    usable = {name: values for name, values in usable.items() if len(values) > _DRAWS // 2}
    return (
        {name: float(values.mean()) for name, values in usable.items()},
        {name: float(values.std()) for name, values in usable.items()},
    )


def parted(scores: Array, labels: Array) -> tuple[str, ...]:
    """The metrics whose truth on the labelled rows is worse than their estimate there, beyond margin and chance."""
    known = ~np.isnan(labels)
    truth, (promise, deviation) = classified(scores[known], labels[known]), estimated(scores[known])
    return tuple(
        name
        for name, margin in MARGIN.items()
        if name in truth and name in promise and _worse(name, truth[name], promise[name], margin, deviation[name])
    )


def _worse(name: str, truth: float, promise: float, margin: float, deviation: float) -> bool:
    lost = abs(truth - promise) if name == "positives_to_expected" else promise - truth
    return lost > max(margin, _SIGMAS * deviation)


def _measured(scores: Array, labels: Array) -> dict[str, Array]:
    """Scores of shape (n,), labels of shape (draws, n) -> metric -> shape (draws,), without those that are not numbers
    in the only draw."""
    if not scores.size:
        return {}
    ap, auc = _ranking(scores, labels)
    found = {"ap": ap, "auc": auc, "brier": ((labels - scores) ** 2).mean(axis=1)}
    if scores.any():
        found["positives_to_expected"] = labels.sum(axis=1) / scores.sum()
    return {name: values for name, values in found.items() if len(values) > 1 or np.isfinite(values).all()}


def _ranking(scores: Array, labels: Array) -> tuple[Array, Array]:
    """Average precision and area under the ROC curve, each of shape (draws,); NaN with one kind of label only."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = labels[:, order].cumsum(axis=1)[:, ends]
    alarms = np.broadcast_to(ends + 1.0, hits.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = hits / hits[:, -1:]
        fallout = (alarms - hits) / (alarms - hits)[:, -1:]
    start = np.zeros((len(labels), 1))
    steps = np.diff(np.concatenate([start, recall], axis=1), axis=1)
    ap = (steps * hits / alarms).sum(axis=1)
    heights = np.concatenate([start, recall], axis=1)
    widths = np.diff(np.concatenate([start, fallout], axis=1), axis=1)
    auc = ((heights[:, 1:] + heights[:, :-1]) / 2 * widths).sum(axis=1)
    return ap, np.where(np.isnan(ap), np.nan, auc)
