"""How good the scores are: ranking, cards caught a day, calibration and money, for any row weights."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orrery.usecase import Array, Outputs

if TYPE_CHECKING:
    import pandas as pd

CARDS_A_DAY = 100
FPR_BUDGET = 0.001
COSTS: Mapping[str, float] = {"review": 3.0, "false_decline": 20.0}
"""money: what an analyst's look costs, and a customer refused without reason; a missed fraud costs its amount"""
_BINS = 20
_DAY_US = 86_400_000_000

Floats = NDArray[np.floating[Any]]
Weighted = Callable[[Array], Mapping[str, float]]


def measure(rows: "pd.DataFrame", outputs: Outputs) -> Weighted:
    """Prepare all metrics of n scored rows.

    Returns a function of row weights, shape (n,), the same for all rows of a card: how often each row counts.
    """
    score = np.asarray(outputs["score"], dtype=np.float64)
    target = rows["TX_FRAUD"].to_numpy(np.float64)
    amount = rows["TX_AMOUNT"].to_numpy(np.float64)
    moments = rows["TX_DATETIME"].to_numpy("datetime64[us]").astype(np.int64)
    parts = (
        ranking(target, score),
        card_precision(rows["CUSTOMER_ID"].to_numpy(), moments // _DAY_US, target, score),
        calibration(target, score),
        cost(amount, target, score),
    )
    return lambda weights: {name: value for part in parts for name, value in part(weights).items()}


def ranking(target: Floats, score: Floats) -> Weighted:
    """Average precision, area under the ROC curve, and the recall that the false-positive budget allows.

    NaN when only one kind of row counts.
    """
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    positive = target[order]

    def weighted(weights: Array) -> Mapping[str, float]:
        weight = weights[order]
        hits = np.cumsum(weight * positive)[last_of_tie]
        alarms = np.cumsum(weight)[last_of_tie]
        if not 0 < hits[-1] < alarms[-1]:
            return dict.fromkeys(("ap", "auc", "recall_at_fpr_0.1pct"), float("nan"))
        recall = hits / hits[-1]
        fallout = (alarms - hits) / (alarms - hits)[-1]
        precision = np.divide(hits, alarms, out=np.ones_like(hits), where=alarms > 0)
        return {
            "ap": float(np.sum(np.diff(recall, prepend=0.0) * precision)),
            "auc": float(np.trapezoid(np.append(0.0, recall), np.append(0.0, fallout))),
            "recall_at_fpr_0.1pct": float(np.max(recall[fallout <= FPR_BUDGET], initial=0.0)),
        }

    return weighted


def card_precision(card: Array, day: Array, target: Floats, score: Floats, top: int = CARDS_A_DAY) -> Weighted:
    """Share of compromised cards among the `top` most suspect of a day, each caught once; mean over the days."""
    codes = np.unique(card, return_inverse=True)[1]
    days = [_day(codes, day == one, target, score) for one in np.unique(day)]

    def weighted(weights: Array) -> Mapping[str, float]:
        at_large = np.zeros(codes.max() + 1)
        at_large[codes] = weights
        precisions = []
        for code, compromised in days:
            weight = at_large[code]
            before = np.cumsum(weight) - weight
            caught = np.clip(top - before, 0.0, weight) * compromised
            precisions.append(float(caught.sum()) / top)
            at_large[code] -= caught
        return {f"cp{top}": float(np.mean(precisions))}

    return weighted


def _day(codes: Array, today: Array, target: Floats, score: Floats) -> tuple[Array, Array]:
    """A day's cards, most suspect first: the card, and whether it is compromised that day."""
    rows = np.flatnonzero(today)
    rows = rows[np.argsort(-score[rows], kind="stable")]
    _, first = np.unique(codes[rows], return_index=True)
    first = np.sort(first)
    compromised = np.zeros(codes.max() + 1, dtype=bool)
    compromised[codes[rows[target[rows] == 1]]] = True
    cards = codes[rows[first]]
    return cards, compromised[cards]


def calibration(target: Floats, score: Floats) -> Weighted:
    """Expected calibration error over bins of equal mass, and the Brier score."""
    ranks = np.empty(len(score), dtype=np.int64)
    ranks[np.argsort(score, kind="stable")] = np.arange(len(score))
    bins = ranks * _BINS // len(score)
    gap = score - target

    def weighted(weights: Array) -> Mapping[str, float]:
        total = weights.sum()
        gaps = np.bincount(bins, weights * gap, _BINS)
        return {
            "calibration_error": float(np.abs(gaps).sum() / total),
            "brier": float(weights @ gap**2 / total),
        }

    return weighted


def cost(amount: Floats, target: Floats, score: Floats) -> Weighted:
    """Money lost a transaction when each is approved, reviewed or declined by the least expected cost."""
    expected = np.stack([score * amount, np.full_like(score, COSTS["review"]), (1 - score) * COSTS["false_decline"]])
    spent = np.stack([target * amount, np.full_like(score, COSTS["review"]), (1 - target) * COSTS["false_decline"]])
    lost = np.take_along_axis(spent, expected.argmin(axis=0)[None], axis=0)[0]
    return lambda weights: {"expected_cost": float(weights @ lost / weights.sum())}
