"""Known errors give known metrics, and a row of weight two counts as two rows."""

import numpy as np
import pandas as pd
import pytest

from usecases.house_prices.metrics import measure, online
from usecases.house_prices.serving import serving

TRUTH = np.log([100_000.0, 200_000.0, 400_000.0, 150_000.0])


def measured(weights=(1, 1, 1, 1), **outputs):
    rows = pd.DataFrame({"log_price": TRUTH, "living_area": [1_000, 2_000, 4_001, 1_500]})
    said = {"log_price": TRUTH, "linear": TRUTH, "trees": TRUTH, "low": TRUTH - 0.1, "high": TRUTH + 0.1} | outputs
    return measure(rows, said)(np.array(weights, float))


def test_a_perfect_price_has_no_error():
    found = measured()
    assert (found["rmsle"], found["mape"], found["mae"], found["r2"], found["coverage_90"]) == (0, 0, 0, 1, 1)


def test_errors_are_of_logarithms_and_per_cent_of_the_price_paid():
    found = measured(log_price=TRUTH + np.array([0.1, -0.1, 0.1, -0.1]), linear=TRUTH + 0.3)
    assert found["rmsle"] == pytest.approx(0.1)
    assert found["rmsle_linear"] == pytest.approx(0.3)
    assert found["rmsle_below_linear"] == pytest.approx(0.2)
    assert found["bias"] == pytest.approx(0)
    assert found["mape"] == pytest.approx((np.expm1(0.1) - np.expm1(-0.1)) / 2)
    assert found["mae"] == pytest.approx((500_000 * np.expm1(0.1) - 350_000 * np.expm1(-0.1)) / 4)


def test_the_largest_houses_count_in_all_but_one_metric():
    found = measured(log_price=TRUTH + np.array([0.0, 0.0, 0.4, 0.0]))
    assert found["rmsle"] == pytest.approx(0.2)
    assert found["rmsle_usual"] == 0


def test_coverage_counts_the_truths_between_the_ends():
    ends = {"low": np.array([-0.1, 0.1, -0.1, -0.1]), "high": np.array([0.1, 0.2, -0.05, 0.0])}
    found = measured(**{name: TRUTH + offset for name, offset in ends.items()})
    assert found["coverage_90"] == 0.5
    assert found["interval_width"] == pytest.approx(np.mean(np.exp(ends["high"]) - np.exp(ends["low"])))


def test_a_weight_counts_a_row_so_often():
    said = {"log_price": TRUTH + np.array([0.1, 0.3, -0.2, 0.0]), "low": TRUTH + np.array([0.1, -0.1, -0.1, -0.1])}
    twice = measured((2, 1, 0, 1), **said)
    rows = pd.DataFrame({"log_price": TRUTH[[0, 0, 1, 3]], "living_area": [1_000, 1_000, 2_000, 1_500]})
    kept = {"log_price": TRUTH, "linear": TRUTH, "trees": TRUTH, "high": TRUTH + 0.1} | said
    outputs = {name: values[[0, 0, 1, 3]] for name, values in kept.items()}
    assert twice == pytest.approx(measure(rows, outputs)(np.ones(4)))


def test_a_replay_is_worth_what_the_known_sales_say():
    sold = serving.example_feedback
    answers = [
        {"sale_id": sold.sale_id, "price": round(sold.price * 1.1), "low": 1, "high": 10**6, "decision": "quote"},
        {"sale_id": 1, "price": 200_000, "low": 1, "high": 2, "decision": "review"},  # not sold yet
        {"sale_id": 2, "price": None, "low": None, "high": None, "decision": "review"},
    ]
    found = online(answers, [sold])
    assert (found["sold"], found["review_share"], found["coverage_90"]) == (1, pytest.approx(2 / 3), 1)
    assert found["rmsle"] == pytest.approx(np.log(1.1), abs=1e-5)
    assert found["mape"] == pytest.approx(0.1, abs=1e-5)
    assert online([], []) == {"sold": 0.0, "review_share": 0.0}
