"""The simulated set is the published one, to the cent and the second."""

from pathlib import Path

import pandas as pd
import pytest

from usecases.fraud.simulator import PUBLISHED_HASH, content_hash, simulate

KEYS = ["TX_TIME_SECONDS", "CUSTOMER_ID", "TERMINAL_ID", "CENTS"]


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return simulate()


def golden_sample() -> Path:
    return Path(__file__).parents[3] / "shared" / "data" / "fraud" / "golden_features_sample.parquet"


@pytest.mark.slow
def test_the_default_run_is_the_published_set(published):
    assert content_hash(published) == PUBLISHED_HASH
    assert (len(published), published["TX_FRAUD"].sum(), published["CUSTOMER_ID"].nunique()) == (
        1_754_155,
        14_681,
        4_990,
    )
    assert published["TX_FRAUD_SCENARIO"].value_counts().to_dict() == {0: 1_739_474, 1: 973, 2: 9_077, 3: 4_631}


@pytest.mark.slow
@pytest.mark.skipif(not golden_sample().is_file(), reason="no reference data beside the checkout")
def test_the_published_sample_is_in_it(published):
    golden = pd.read_parquet(golden_sample()).astype({"TX_TIME_SECONDS": "int64"})
    found = with_cents(golden).merge(with_cents(published), on=KEYS, suffixes=("", "_OURS"), validate="one_to_one")
    assert len(found) == len(golden)
    assert (found["TX_FRAUD"] == found["TX_FRAUD_OURS"]).all()
    assert (found["TX_FRAUD_SCENARIO"] == found["TX_FRAUD_SCENARIO_OURS"]).all()


def with_cents(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(CENTS=(frame["TX_AMOUNT"] * 100).round().astype("int64"))


def test_a_small_run_has_the_same_shape_and_says_how_far_it_is():
    calls = []
    frame = simulate(lambda *call: calls.append(call), customers=60, terminals=300, days=40)
    assert frame["TX_DATETIME"].is_monotonic_increasing
    assert frame["TRANSACTION_ID"].tolist() == list(range(len(frame)))
    assert frame["TX_DATETIME"].dtype == "datetime64[us, UTC]"
    assert set(frame["TX_FRAUD_SCENARIO"]) >= {0, 2, 3}
    assert ((frame["TX_FRAUD_SCENARIO"] > 0) == (frame["TX_FRAUD"] == 1)).all()
    assert calls[-1] == ("simulate", 60, 60)


def test_the_hash_is_of_the_content_not_of_its_order():
    frame = simulate(customers=30, terminals=300, days=20)
    shuffled = frame.sample(frac=1, random_state=1).assign(TRANSACTION_ID=0)
    assert content_hash(shuffled) == content_hash(frame)
    frame.loc[3, "TX_AMOUNT"] += 0.01
    assert content_hash(shuffled) != content_hash(frame)
