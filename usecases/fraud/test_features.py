"""The features against the published ones, and online against offline, to the bit."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usecases.fraud import simulator, tables
from usecases.fraud.features import (
    DAY,
    FEATURES,
    LABEL_DELAY,
    MOST_ENTRIES,
    NOTHING,
    SECOND,
    History,
    Unordered,
    customer_after,
    history,
    label_after,
    micros,
    offline_features,
    online_features,
    terminal_after,
    values,
)

DELAY = 7 * DAY
START = micros(datetime(2018, 4, 1, tzinfo=UTC))
NOON = micros(datetime(2018, 7, 4, 12, tzinfo=UTC))


def row(time=NOON, cents=1_000, customer=NOTHING, terminal=NOTHING):
    return dict(zip(FEATURES, online_features(time, cents, customer, terminal).tolist(), strict=True))


def past(*events):
    return History(*(np.array(column, dtype=np.int64) for column in zip(*events, strict=True)))


# --- one row ------------------------------------------------------------------------------------


def test_an_unknown_customer_at_an_unknown_terminal():
    assert row() == {
        "TX_AMOUNT": 10.0, "TX_DURING_WEEKEND": 0.0, "TX_DURING_NIGHT": 0.0,
        "CUSTOMER_ID_NB_TX_1DAY_WINDOW": 1.0, "CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW": 10.0,
        "CUSTOMER_ID_NB_TX_7DAY_WINDOW": 1.0, "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW": 10.0,
        "CUSTOMER_ID_NB_TX_30DAY_WINDOW": 1.0, "CUSTOMER_ID_AVG_AMOUNT_30DAY_WINDOW": 10.0,
        "TERMINAL_ID_NB_TX_1DAY_WINDOW": 0.0, "TERMINAL_ID_RISK_1DAY_WINDOW": 0.0,
        "TERMINAL_ID_NB_TX_7DAY_WINDOW": 0.0, "TERMINAL_ID_RISK_7DAY_WINDOW": 0.0,
        "TERMINAL_ID_NB_TX_30DAY_WINDOW": 0.0, "TERMINAL_ID_RISK_30DAY_WINDOW": 0.0,
        "AMOUNT_TO_CUSTOMER_MEAN_RATIO": 1.0, "AMOUNT_TO_CUSTOMER_MEAN_DIFFERENCE": 0.0,
    }  # fmt: skip


def test_a_window_starts_after_its_edge_and_ends_with_the_moment():
    edge = past((NOON - 30 * DAY, 1), (NOON - 30 * DAY + 1, 2_000), (NOON - DAY, 4_000), (NOON, 6_000), (NOON + 1, 9))
    found = row(customer=edge)
    assert found["CUSTOMER_ID_NB_TX_1DAY_WINDOW"] == 2
    assert found["CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW"] == 35.0
    assert found["CUSTOMER_ID_NB_TX_7DAY_WINDOW"] == 3
    assert found["CUSTOMER_ID_NB_TX_30DAY_WINDOW"] == 4
    assert found["AMOUNT_TO_CUSTOMER_MEAN_RATIO"] == 0.25
    assert found["AMOUNT_TO_CUSTOMER_MEAN_DIFFERENCE"] == -30.0


def test_a_terminals_risk_is_seven_days_late():
    labels = past((NOON - DELAY - DAY, 1), (NOON - DELAY - DAY + 1, 0), (NOON - DELAY, 1), (NOON - DELAY + 1, 1))
    found = row(terminal=labels)
    assert (found["TERMINAL_ID_NB_TX_1DAY_WINDOW"], found["TERMINAL_ID_RISK_1DAY_WINDOW"]) == (2.0, 0.5)
    assert found["TERMINAL_ID_NB_TX_7DAY_WINDOW"] == 3
    assert found["TERMINAL_ID_RISK_30DAY_WINDOW"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("moment", "weekend", "night"),
    [
        ("2018-07-06T23:59:59.999999", 0, 0),
        ("2018-07-07T00:00:00", 1, 1),
        ("2018-07-08T06:59:59", 1, 1),
        ("2018-07-08T07:00:00", 1, 0),
        ("2018-07-09T00:00:00", 0, 1),
        ("1969-12-27T03:00:00", 1, 1),
    ],
)
def test_weekend_and_night(moment, weekend, night):
    found = row(time=micros(datetime.fromisoformat(moment).replace(tzinfo=UTC)))
    assert (found["TX_DURING_WEEKEND"], found["TX_DURING_NIGHT"]) == (weekend, night)


def test_nothing_is_divided_by_nothing():
    found = row(cents=500, customer=past((NOON - DAY + 1, 0)))
    assert (found["AMOUNT_TO_CUSTOMER_MEAN_RATIO"], found["AMOUNT_TO_CUSTOMER_MEAN_DIFFERENCE"]) == (1.0, 5.0)


# --- histories ----------------------------------------------------------------------------------


def test_an_event_goes_after_those_of_its_time_and_what_no_window_reaches_is_forgotten():
    before = past((NOON - 30 * DAY, 1), (NOON - DAY, 2), (NOON, 3), (NOON + 5, 4))
    after = customer_after(before, NOON, 9)
    assert after.times.tolist() == [NOON - DAY, NOON, NOON, NOON + 5]
    assert after.marks.tolist() == [2, 3, 9, 4]
    assert before.marks.tolist() == [1, 2, 3, 4]


def test_a_history_is_bounded():
    full = History(NOON + np.arange(MOST_ENTRIES), np.zeros(MOST_ENTRIES, dtype=np.int64))
    after = terminal_after(full, NOON + MOST_ENTRIES)
    assert len(after.times) == MOST_ENTRIES
    assert after.times[-1] == NOON + MOST_ENTRIES


def test_an_absurd_future_event_does_not_blind_the_customer_for_ever():
    blinded = customer_after(past((NOON, 1)), NOON + 5_000 * DAY, 2)
    mended = customer_after(blinded, NOON + DAY, 3)
    assert row(time=NOON + DAY + 1, customer=mended)["CUSTOMER_ID_NB_TX_1DAY_WINDOW"] == 2


def test_labels_mark_their_transaction_or_bring_it():
    seen = past((NOON, 0), (NOON + 1, 0), (NOON + 1, 0))
    assert label_after(seen, NOON, fraud=True).marks.tolist() == [1, 0, 0]
    assert label_after(label_after(seen, NOON, fraud=True), NOON, fraud=False).marks.tolist() == [0, 0, 0]
    both = label_after(label_after(seen, NOON + 1, fraud=True), NOON + 1, fraud=True)
    assert both.marks.tolist() == [0, 1, 1]
    assert label_after(both, NOON + 1, fraud=False) == both
    brought = label_after(seen, NOON - 1, fraud=True)
    assert brought.times.tolist() == [NOON - 1, NOON, NOON + 1, NOON + 1]
    assert brought.marks.tolist() == [1, 0, 0, 0]
    assert seen.marks.tolist() == [0, 0, 0]


def test_a_history_is_stored_and_read_back():
    some = past((NOON, 5))
    assert history(values(some, "cents"), "cents") == some
    assert history({}, "frauds") is NOTHING


# --- online == offline --------------------------------------------------------------------------


@st.composite
def streams(draw):
    """Transactions of few customers and terminals, so that ties and window edges are common; in event order."""
    gaps = st.sampled_from([0, 0, 1, SECOND, DAY // 3, DAY - 1, DAY, DAY + 1, 7 * DAY, 8 * DAY, 30 * DAY])
    count = draw(st.integers(1, 40))
    columns = [st.integers(0, 2), st.integers(0, 2), st.integers(0, 300_000), st.integers(0, 1)]
    drawn = [draw(st.lists(column, min_size=count, max_size=count)) for column in (gaps, *columns)]
    times, *rest = (np.array(column, dtype=np.int64) for column in drawn)
    return START + np.cumsum(times), *rest


def simulated_online(times, customers, terminals, cents, frauds):
    """What a gateway would have computed: each row before it is learned, each label seven days after its row."""
    spent, seen, served, labelled = {}, {}, [], 0
    for at, customer, terminal, amount in zip(times.tolist(), customers, terminals, cents.tolist(), strict=True):
        while times[labelled] + DELAY <= at:
            about = terminals[labelled]
            seen[about] = label_after(seen[about], int(times[labelled]), fraud=bool(frauds[labelled]))
            labelled += 1
        mine, theirs = spent.get(customer, NOTHING), seen.get(terminal, NOTHING)
        served.append(online_features(at, amount, mine, theirs))
        spent[customer], seen[terminal] = customer_after(mine, at, amount), terminal_after(theirs, at)
    return np.array(served)


def assert_same_bits(served, offline):
    assert served.dtype == np.float32
    np.testing.assert_array_equal(served.view(np.int32), offline.astype(np.float32).view(np.int32))


@given(streams())
@settings(deadline=None)
def test_online_is_offline_to_the_bit(stream):
    assert_same_bits(simulated_online(*stream), offline_features(*stream))


def test_online_is_offline_to_the_bit_on_the_simulated_set():
    raw = simulator.simulate(customers=40, terminals=60, days=60, radius=20)
    stream = tables.columns(raw)
    offline = offline_features(*stream)
    assert offline[:, FEATURES.index("TERMINAL_ID_RISK_7DAY_WINDOW")].max() > 0
    assert_same_bits(simulated_online(*stream), offline)


def test_rows_out_of_order_are_refused():
    ones = np.ones(3, dtype=np.int64)
    with pytest.raises(Unordered, match="row 2 is earlier"):
        offline_features(np.array([5, 6, 4]), ones, ones, ones, ones)


def test_the_delay_is_the_label_delay():
    assert LABEL_DELAY.total_seconds() * SECOND == DELAY


# --- the published set --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden():
    """The folder of the published features."""
    folder = Path(__file__).parents[3] / "shared" / "data" / "fraud"
    if not folder.is_dir():
        pytest.skip("no reference data beside the checkout")
    return folder


@pytest.fixture(scope="module")
def published(golden):
    """All rows of the published set with our features, float64."""
    raw = simulator.simulate()
    stream = tables.columns(raw)
    frame = pd.DataFrame(offline_features(*stream), columns=list(FEATURES))
    return frame.assign(TX_TIME_SECONDS=raw["TX_TIME_SECONDS"], cents=stream[3], **raw[["CUSTOMER_ID", "TERMINAL_ID"]])


@pytest.mark.slow
def test_the_published_sample_agrees(published, golden):
    keys = ["TX_TIME_SECONDS", "CUSTOMER_ID", "TERMINAL_ID", "cents"]
    sample = pd.read_parquet(golden / "golden_features_sample.parquet")
    sample["cents"] = np.rint(sample["TX_AMOUNT"] * 100).astype(np.int64)
    both = sample.merge(published, on=keys, suffixes=("", "_ours"), validate="1:1")
    assert len(both) == len(sample) == 26_056
    for name in set(sample.columns) & set(FEATURES):
        inexact = "AVG" in name or name == "TX_AMOUNT"
        np.testing.assert_allclose(both[f"{name}_ours"], both[name], rtol=0, atol=1e-9 if inexact else 0, err_msg=name)


@pytest.mark.slow
def test_the_published_sums_agree(published, golden):
    """Averages depend on the order of a customer's rows of one second, which was not published.

    There are 29 such pairs. The average of the first row of a pair is least if the smaller amount comes first, and
    nothing else depends on the order, so the sums of both orders enclose the published one.
    """
    sums = json.loads((golden / "golden_feature_sums.json").read_text())
    pairs = published.duplicated(["CUSTOMER_ID", "TX_TIME_SECONDS"], keep=False)
    assert pairs.sum() == 58
    for name in set(sums) & set(FEATURES):
        ours = published[name].sum()
        if "AVG" in name:
            first = published[pairs].groupby(["CUSTOMER_ID", "TX_TIME_SECONDS"], sort=False).nth(0)
            second = published[pairs].groupby(["CUSTOMER_ID", "TX_TIME_SECONDS"], sort=False).nth(1)
            count = first[name.replace("AVG_AMOUNT", "NB_TX")].to_numpy()
            swap = (second["cents"].to_numpy() - first["cents"].to_numpy()) / 100 / count
            assert ours + swap[swap < 0].sum() <= sums[name] <= ours + swap[swap > 0].sum(), name
            assert ours == pytest.approx(sums[name], rel=2e-6)
        else:
            assert ours == pytest.approx(sums[name], rel=0, abs=1e-6), name
