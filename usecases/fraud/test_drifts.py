"""What changes when the world of card payments does, and nothing else; served transactions as raw rows."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from usecases.fraud.drifts import DRIFTS
from usecases.fraud.serving import FraudFeedback, FraudRequest
from usecases.fraud.source import DataRefused
from usecases.fraud.training import requests, training

ROWS = pd.DataFrame(
    {
        "TRANSACTION_ID": np.arange(10_000),
        "TERMINAL_ID": np.arange(10_000) % 330,
        "TX_AMOUNT": np.full(10_000, 10.0),
        "TX_FRAUD": np.zeros(10_000, int),
    }
)


def test_amounts_rise_to_the_cent():
    assert (DRIFTS["amount"](ROWS, "1.255")["TX_AMOUNT"] == 12.55).all()


def test_a_ring_of_terminals_makes_small_frauds_where_there_were_none():
    found = DRIFTS["new-pattern"](ROWS, "terminal-ring")
    frauds = found[found["TX_FRAUD"] == 1]
    assert len(frauds) == pytest.approx(150, rel=0.2)
    assert (frauds["TX_AMOUNT"] == 4.0).all()
    assert (found[found["TX_FRAUD"] == 0]["TX_AMOUNT"] == 10.0).all()
    again = DRIFTS["new-pattern"](ROWS.sample(500, random_state=1), "terminal-ring")
    pd.testing.assert_frame_equal(again, found.loc[again.index])


def test_a_share_of_the_labels_says_the_opposite():
    assert DRIFTS["wrong-labels"](ROWS, "0.3")["TX_FRAUD"].mean() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("name", "value"),
    [("amount", "x"), ("amount", "0"), ("amount", "nan"), ("new-pattern", "moon"), ("wrong-labels", "2")],
)
def test_another_value_is_refused_with_an_example(name, value):
    with pytest.raises(DataRefused, match=f"{name}={value}|pattern {value}"):
        DRIFTS[name](ROWS, value)


def nothing(columns):
    """Known besides."""
    return pd.DataFrame(columns=columns)


def test_what_was_asked_and_told_comes_back_as_the_rows_it_was_made_of():
    at = datetime(2018, 8, 1, 12, tzinfo=UTC)
    asked = FraudRequest(transaction_id=7, customer_id=1, terminal_id=2, amount=12.5, tx_datetime=at)
    told = FraudFeedback(transaction_id=7, fraud=True, arrived_at=at)
    found = training.collected([asked, asked.model_copy(update={"transaction_id": 8})], [told], nothing)
    assert found["TX_FRAUD"].tolist() == [1, 0]
    assert found["TRANSACTION_ID"].tolist() == [7, 8]
    assert found["TX_DATETIME"].tolist() == [at, at]
    assert training.collected([], [told], nothing).empty


def test_a_replayed_day_collected_is_that_day():
    raw = training.validate(
        ROWS.head(200).assign(
            CUSTOMER_ID=np.arange(200) % 9,
            TX_DATETIME=pd.date_range("2018-08-01", periods=200, freq="2h", tz="UTC", unit="us"),
            TX_FRAUD=np.arange(200) % 5 == 0,
        )
    )
    asked, told = ([body for _, kind, body in requests(raw) if kind == each] for each in ("predict", "feedback"))
    pd.testing.assert_frame_equal(training.validate(training.collected(asked, told, nothing)), raw)
