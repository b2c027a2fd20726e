"""Nothing is used before its price was known, and the test is the last year."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.usecase import Window
from usecases.house_prices.protocol import LABEL_DELAY, WindowRefused, folds, split


def sales(months, each):
    """So many sales in each month from January 2006."""
    moments = pd.date_range("2006-01-01", periods=months, freq="MS", tz="UTC", unit="us")
    return pd.DataFrame({"sold_at": moments.repeat(each), "sale_id": range(months * each)})


def test_the_last_twelve_known_months_test_and_the_month_before_them_is_left_out():
    found = split(sales(55, 40), Window(datetime(2010, 7, 1, tzinfo=UTC), 5_000))
    assert found.test["sold_at"].dt.strftime("%Y-%m").unique().tolist() == [
        "2009-06", "2009-07", "2009-08", "2009-09", "2009-10", "2009-11", "2009-12", "2010-01", "2010-02", "2010-03",
        "2010-04", "2010-05",
    ]  # fmt: skip
    assert found.train["sold_at"].max() == pd.Timestamp("2009-05-01", tz="UTC")
    assert len(found.train) == 41 * 40


def test_training_is_as_long_as_the_window_says():
    train = split(sales(55, 40), Window(datetime(2010, 7, 1, tzinfo=UTC), 730)).train
    assert train["sold_at"].nunique() == 24


def test_folds_are_the_last_half_years_of_training_and_only_those_that_have_enough_before_them():
    pairs = folds(sales(40, 40))
    assert [(len(learn), len(check)) for learn, check in pairs] == [(880, 240), (1_080, 240), (1_360, 240)]
    assert len(folds(sales(16, 40))) == 2


@settings(max_examples=60, deadline=None)
@given(st.integers(24, 60), st.integers(12, 60), st.integers(0, 400))
def test_no_price_is_used_before_it_was_known(months, each, earlier):
    rows = sales(months, each)
    window = Window(rows["sold_at"].max().to_pydatetime() - timedelta(days=earlier), 1_461)
    try:
        found = split(rows, window)
    except WindowRefused:
        return
    assert found.test["sold_at"].max() + LABEL_DELAY <= window.as_of
    for learn, check in [*found.folds, (found.train, found.test)]:
        assert learn["sold_at"].max() + LABEL_DELAY <= check["sold_at"].min()
    assert all(check["sold_at"].max() <= found.train["sold_at"].max() for _, check in found.folds)


@pytest.mark.parametrize(("months", "each"), [(13, 40), (30, 1), (1, 500), (12, 40)])
def test_too_few_sales_are_refused(months, each):
    rows = sales(months, each)
    with pytest.raises(WindowRefused, match="choose another --as-of"):
        split(rows, Window(rows["sold_at"].max().to_pydatetime(), 1_461))


def test_training_without_a_half_year_to_validate_on_is_refused():
    with pytest.raises(WindowRefused, match="train on more"):
        folds(sales(5, 100))
