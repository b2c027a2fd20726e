"""The offline tables and the snapshot of the online views."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from usecases.fraud import simulator, tables
from usecases.fraud.features import (
    DAY,
    FEATURES,
    NOTHING,
    History,
    customer_after,
    label_after,
    micros,
    offline_features,
    online_features,
    terminal_after,
)

WEEK = 7 * DAY
MOMENT = datetime(2018, 5, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def raw():
    return simulator.simulate(customers=40, terminals=60, days=60, radius=20)


def histories(table, entity, mark):
    return {row[entity]: History(row["times"], row[mark]) for row in table.to_dict("records")}


def test_every_row_has_its_features_in_the_order_of_the_rows(raw):
    table = tables.features(raw)["transaction_features"]
    assert table.columns.tolist() == ["TRANSACTION_ID", "event_timestamp", *FEATURES]
    assert table["TRANSACTION_ID"].tolist() == raw["TRANSACTION_ID"].tolist()
    assert table["event_timestamp"].dtype == "datetime64[us, UTC]"
    assert set(table.dtypes[2:]) == {np.dtype(np.float32)}
    assert table["TX_AMOUNT"].tolist() == raw["TX_AMOUNT"].astype(np.float32).tolist()


def test_the_features_do_not_depend_on_what_happens_later(raw):
    early = raw[raw["TX_DATETIME"] < MOMENT]
    whole = tables.features(raw)["transaction_features"].iloc[: len(early)]
    pd.testing.assert_frame_equal(tables.features(early)["transaction_features"], whole)


def test_the_labels_of_the_last_seven_days_change_nothing(raw):
    late = raw["TX_DATETIME"] > raw["TX_DATETIME"].max() - timedelta(days=7)
    flipped = raw.assign(TX_FRAUD=raw["TX_FRAUD"].where(~late, 1 - raw["TX_FRAUD"]))
    pd.testing.assert_frame_equal(
        tables.features(flipped)["transaction_features"], tables.features(raw)["transaction_features"]
    )


def test_a_store_started_from_the_snapshot_serves_what_offline_says(raw):
    """History at a moment, then every event as a gateway learns it: the next ten days are the offline rows."""
    taken = tables.history(raw, MOMENT)
    spent = histories(taken["customer_history"], "CUSTOMER_ID", "cents")
    seen = histories(taken["terminal_history"], "TERMINAL_ID", "frauds")
    offline = tables.features(raw)["transaction_features"][list(FEATURES)].to_numpy()
    times, cents = tables.microseconds(raw["TX_DATETIME"]), tables.cents(raw["TX_AMOUNT"])
    customers, terminals, frauds = (raw[name].tolist() for name in ("CUSTOMER_ID", "TERMINAL_ID", "TX_FRAUD"))
    first, labelled = np.searchsorted(times, (micros(MOMENT), micros(MOMENT) - WEEK + 1)).tolist()
    last = int(np.searchsorted(times, micros(MOMENT) + 10 * DAY))
    assert last - first > 500
    for row in range(first, last):
        while times[labelled] + WEEK <= times[row]:
            about = terminals[labelled]
            seen[about] = label_after(seen.get(about, NOTHING), int(times[labelled]), fraud=bool(frauds[labelled]))
            labelled += 1
        at, mine, theirs = int(times[row]), spent.get(customers[row], NOTHING), seen.get(terminals[row], NOTHING)
        np.testing.assert_array_equal(online_features(at, int(cents[row]), mine, theirs), offline[row])
        spent[customers[row]] = customer_after(mine, at, int(cents[row]))
        seen[terminals[row]] = terminal_after(theirs, at)


def test_the_snapshot_knows_only_what_had_happened_and_arrived():
    moment = datetime(2018, 6, 1, tzinfo=UTC)
    ages = [timedelta(days=37), timedelta(days=37, microseconds=-1), timedelta(days=30), timedelta(days=7),
            timedelta(days=7, microseconds=-1), timedelta(microseconds=1), timedelta(0)]  # fmt: skip
    when = pd.Series([moment - age for age in ages], dtype="datetime64[us, UTC]")
    raw = pd.DataFrame(
        {"TX_DATETIME": when, "CUSTOMER_ID": 1, "TERMINAL_ID": 2, "TX_AMOUNT": 0.29, "TX_FRAUD": 1, "TRANSACTION_ID": 0}
    )
    taken = tables.history(raw, moment)
    (customer,), (terminal,) = (taken[name].to_dict("records") for name in ("customer_history", "terminal_history"))
    assert customer["times"].tolist() == [micros(moment - age) for age in ages[3:6]]
    assert customer["cents"].tolist() == [29] * 3
    assert terminal["times"].tolist() == [micros(moment - age) for age in ages[1:6]]
    assert terminal["frauds"].tolist() == [1, 1, 1, 0, 0]
    assert customer["event_timestamp"] == terminal["event_timestamp"] == moment


def test_a_snapshot_claims_nothing_beyond_the_rows(raw):
    taken = tables.history(raw, datetime(2019, 1, 1, tzinfo=UTC))
    assert taken["customer_history"].empty
    near = tables.history(raw, raw["TX_DATETIME"].max().to_pydatetime() + timedelta(days=1))["customer_history"]
    assert set(near["event_timestamp"]) == {raw["TX_DATETIME"].max()}


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_rows(raw, count):
    few = raw.iloc[:count]
    assert len(tables.features(few)["transaction_features"]) == count
    taken = tables.history(few, MOMENT.replace(month=4, day=10))
    assert [len(table) for table in taken.values()] == [count, count]
    assert taken["customer_history"].columns.tolist() == ["CUSTOMER_ID", "event_timestamp", "times", "cents"]


def test_cents_are_exact():
    amounts = pd.Series([0.29, 1.15, 359.65000000000003, 1_000_000.0])
    assert tables.cents(amounts).tolist() == [29, 115, 35_965, 100_000_000]
    assert offline_features(*(np.zeros(0, dtype=np.int64),) * 5).shape == (0, 17)
