"""The metrics agree with scikit-learn, with a plain reading of the protocol, and with repeated rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from usecases.fraud.metrics import COSTS, calibration, card_precision, cost, measure, ranking

NAMES = {"ap", "auc", "cp100", "recall_at_fpr_0.1pct", "calibration_error", "brier", "expected_cost"}


def scored(seed, rows=400, cards=60, days=3, decimals=2):
    """Transactions with scores that often tie."""
    draw = np.random.default_rng(seed)
    moments = np.sort(draw.integers(0, days * 86_400, rows)) * 1_000_000
    fraud = draw.random(rows) < 0.1
    frame = pd.DataFrame(
        {
            "TX_DATETIME": pd.to_datetime(moments, unit="us", utc=True).as_unit("us"),
            "CUSTOMER_ID": draw.integers(0, cards, rows),
            "TX_AMOUNT": draw.uniform(1, 300, rows).round(2),
            "TX_FRAUD": fraud.astype(int),
        }
    )
    return frame, np.round(np.clip(fraud * 0.3 + draw.random(rows) * 0.7, 0, 1), decimals)


def by_card(frame, seed):
    codes = pd.factorize(frame["CUSTOMER_ID"])[0]
    return np.random.default_rng(seed).integers(0, 4, codes.max() + 1)[codes].astype(float)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_ranking_agrees_with_scikit_learn_under_any_weights(seed):
    frame, score = scored(seed)
    target, weights = frame["TX_FRAUD"].to_numpy(float), by_card(frame, seed)
    got = ranking(target, score)(weights)
    fpr, tpr, _ = roc_curve(target, score, sample_weight=weights, drop_intermediate=False)
    assert got["ap"] == pytest.approx(average_precision_score(target, score, sample_weight=weights))
    assert got["auc"] == pytest.approx(roc_auc_score(target, score, sample_weight=weights))
    assert got["recall_at_fpr_0.1pct"] == pytest.approx(tpr[fpr <= 0.001].max())


def test_ranking_of_one_kind_of_row_is_not_a_number():
    got = ranking(np.zeros(3), np.arange(3.0))(np.ones(3))
    assert all(np.isnan(value) for value in got.values())


def plain_card_precision(frame, score, top):
    """The protocol, word for word."""
    day = frame["TX_DATETIME"].dt.floor("D")
    caught, precisions = set(), []
    for _, rows in frame.assign(score=score).groupby(day):
        cards = rows[~rows["CUSTOMER_ID"].isin(caught)].groupby("CUSTOMER_ID").agg({"score": "max", "TX_FRAUD": "max"})
        checked = cards.sort_values("score", ascending=False).head(top)
        precisions.append(checked["TX_FRAUD"].sum() / top)
        caught |= set(checked.index[checked["TX_FRAUD"] == 1])
    return np.mean(precisions)


def cards_of(frame, score, weights, top):
    days = frame["TX_DATETIME"].dt.dayofyear.to_numpy()
    return card_precision(frame["CUSTOMER_ID"].to_numpy(), days, frame["TX_FRAUD"].to_numpy(float), score, top)(weights)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_card_precision_is_the_published_one(seed):
    frame, score = scored(seed, decimals=9)
    assert cards_of(frame, score, np.ones(len(frame)), 10)["cp10"] == pytest.approx(
        plain_card_precision(frame, score, 10)
    )


@given(st.integers(0, 10_000))
@example(333)  # the hundredth place falls between two copies of a card
@settings(max_examples=15, deadline=None)
def test_a_card_that_counts_twice_is_two_cards(seed):
    frame, score = scored(seed, decimals=9)
    weights = by_card(frame, seed)
    copies = frame.assign(score=score).loc[np.repeat(frame.index, weights.astype(int))]
    number = copies.groupby(level=0).cumcount()
    copies = copies.assign(CUSTOMER_ID=copies["CUSTOMER_ID"] + 1000 * number, score=copies["score"] - number * 1e-12)
    days = {moment.dayofyear for moment in frame["TX_DATETIME"]} == {
        moment.dayofyear for moment in copies["TX_DATETIME"]
    }
    if days:
        wanted = plain_card_precision(copies, copies["score"], 10)
        assert cards_of(frame, score, weights, 10)["cp10"] == pytest.approx(wanted)


def test_calibration_sees_a_bias_and_not_the_noise():
    draw = np.random.default_rng(0)
    score = draw.beta(0.5, 8, 50_000)
    target = (draw.random(50_000) < score).astype(float)
    honest, biased = (calibration(target, values)(np.ones(50_000)) for values in (score, np.minimum(score * 1.5, 1)))
    assert honest["calibration_error"] < 0.005
    assert biased["calibration_error"] == pytest.approx(score.mean() / 2, rel=0.1)
    assert honest["brier"] == pytest.approx(brier_score_loss(target, score))


def test_the_cheapest_action_is_paid_for():
    amount, target = np.array([100.0, 100.0, 100.0, 1.0]), np.array([1.0, 0.0, 1.0, 1.0])
    score = np.array([0.0, 0.1, 1.0, 0.5])
    spent = 100 + COSTS["review"] + 0 + 1  # missed, reviewed, declined rightly, too small to look at
    assert cost(amount, target, score)(np.ones(4))["expected_cost"] == pytest.approx(spent / 4)


def test_all_metrics_of_perfect_scores():
    frame, _ = scored(1)
    got = measure(frame, {"score": frame["TX_FRAUD"].to_numpy(float)})(np.ones(len(frame)))
    assert set(got) == NAMES
    assert got["ap"] == got["auc"] == got["recall_at_fpr_0.1pct"] == 1
    assert got["brier"] == got["calibration_error"] == got["expected_cost"] == 0
