"""What is learned on a later slice than the trees: the calibration of the probability, and the two thresholds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from orrery.usecase import Array
from usecases.fraud.metrics import CARDS_A_DAY, COSTS, FPR_BUDGET
from usecases.fraud.scoring import log_odds

if TYPE_CHECKING:
    import pandas as pd


def fit_calibration(raw: Array, target: Array) -> dict[str, float]:
    """The logistic curve over the log-odds with the least log loss; the slope is searched by its logarithm."""
    odds = log_odds(raw)

    def loss(curve: Array) -> float:
        margin = np.exp(curve[0]) * odds + curve[1]
        return float(np.mean(np.logaddexp(0, margin) - target * margin))

    slope, intercept = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-5, 5), (-20, 20)]).x
    return {"slope": float(np.exp(slope)), "intercept": float(intercept)}


def fit_thresholds(rows: "pd.DataFrame", score: Array) -> dict[str, float]:
    """The least scores that decline within the false-positive budget, and review within the analysts' capacity."""
    legitimate = np.sort(score[rows["TX_FRAUD"].to_numpy() == 0])[::-1]
    decline = np.nextafter(legitimate[int(FPR_BUDGET * len(legitimate))], 1.0)
    days = rows["TX_DATETIME"].dt.floor("D")
    cards = rows.assign(score=score).groupby([days, rows["CUSTOMER_ID"]])["score"].max().to_numpy()
    capacity = min(CARDS_A_DAY * days.nunique(), len(cards) - 1)
    review = np.nextafter(np.sort(cards)[::-1][capacity], 1.0)
    return {"review": float(min(review, decline)), "decline": float(decline)}


def decision_metrics(rows: "pd.DataFrame", score: Array, thresholds: Mapping[str, float]) -> dict[str, float]:
    """What the three-way decision does on the rows: shares, frauds stopped, and money a transaction."""
    fraud = rows["TX_FRAUD"].to_numpy(bool)
    amount = rows["TX_AMOUNT"].to_numpy(np.float64)
    declined = score >= thresholds["decline"]
    reviewed = ~declined & (score >= thresholds["review"])
    missed = fraud & ~declined & ~reviewed
    spent = amount @ missed + COSTS["review"] * reviewed.sum() + COSTS["false_decline"] * (declined & ~fraud).sum()
    return {
        "declined_share": float(declined.mean()),
        "reviewed_share": float(reviewed.mean()),
        "recall_declined": float(declined[fraud].mean()),
        "recall_declined_or_reviewed": float(1 - missed.sum() / fraud.sum()),
        "false_decline_rate": float(declined[~fraud].mean()),
        "cost_a_transaction": float(spent / len(rows)),
        "cost_a_transaction_approving_all": float(amount @ fraud / len(rows)),
    }
