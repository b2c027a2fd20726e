"""The folds are the published ones, and nothing is used before its label arrives."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from orrery.usecase import Window
from usecases.fraud.protocol import (
    DAY,
    TEST_FOLDS,
    VALIDATION_FOLDS,
    WEEK,
    WindowRefused,
    published,
    split,
    unknown_cards,
)

START = datetime(2024, 1, 1, tzinfo=UTC)


def transactions(*events):
    """(day, card, fraud), each at noon."""
    return pd.DataFrame(
        {
            "TX_DATETIME": pd.to_datetime([START + day * DAY + timedelta(hours=12) for day, _, _ in events]).as_unit(
                "us"
            ),
            "CUSTOMER_ID": [card for _, card, _ in events],
            "TX_FRAUD": [fraud for _, _, fraud in events],
        }
    )


def many(days=120):
    draw = np.random.default_rng(0)
    return transactions(*((day, card, int(draw.random() < 0.05)) for day in range(days) for card in range(30)))


def cards_left(*events):
    return unknown_cards(transactions(*events), START + 21 * DAY)["CUSTOMER_ID"].tolist()


def test_a_card_is_known_when_its_label_has_arrived():
    assert cards_left((14, 1, 1), (21, 1, 0), (21, 2, 0)) == [1, 2]
    assert cards_left((13, 1, 1), (21, 1, 0), (21, 2, 0)) == [2]
    assert cards_left((14, 1, 1), (22, 1, 0)) == []


def test_a_fraud_older_than_the_last_training_week_is_forgotten():
    assert cards_left((6, 1, 1), (21, 1, 0)) == [1]
    assert cards_left((7, 1, 1), (21, 1, 0)) == []


def test_a_card_caught_in_the_test_week_itself_stays():
    assert cards_left((21, 1, 1), (22, 1, 0), (27, 1, 0)) == [1, 1, 1]


def test_the_folds_of_the_handbook_are_a_week_apart():
    starts = [fold.test_from for fold in (*TEST_FOLDS, *VALIDATION_FOLDS)]
    assert sorted(starts, reverse=True)[:4] == [fold.test_from for fold in TEST_FOLDS]
    assert TEST_FOLDS[-1].train_to == datetime(2018, 8, 1, tzinfo=UTC)


def test_other_rows_than_the_published_are_refused():
    with pytest.raises(WindowRefused, match="published are 57604 and 422"):
        published(many(), TEST_FOLDS[0], 7)


def test_the_split_leaves_the_delay_between_its_parts():
    as_of = START + 119 * DAY
    parts = split(many(), Window(as_of, 77))
    moments = "TX_DATETIME"
    assert parts.test[moments].max() + WEEK <= as_of
    assert as_of - 2 * WEEK <= parts.test[moments].min()
    assert parts.train[moments].max() < as_of - 3 * WEEK
    assert parts.train[moments].min() >= as_of - 3 * WEEK - 77 * DAY
    assert len(parts.folds) == 2
    for train, validation in parts.folds:
        assert train[moments].max() + WEEK < validation[moments].min() + DAY
        assert validation[moments].max() <= parts.train[moments].max()
    assert parts.folds[-1][1][moments].max() == parts.train[moments].max()


def test_a_short_window_has_one_fold_and_a_shorter_one_is_refused():
    as_of = START + 119 * DAY
    assert len(split(many(), Window(as_of, 21)).folds) == 1
    with pytest.raises(WindowRefused, match="21 days or more"):
        split(many(), Window(as_of, 20))


def test_a_window_before_the_data_is_refused():
    with pytest.raises(WindowRefused, match="another --as-of"):
        split(many(), Window(START, 77))
