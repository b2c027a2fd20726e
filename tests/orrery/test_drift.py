"""Drift of a column: known values, what chance gives, and bins that no outlier can move."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.drift import LEAST_THRESHOLD, binned, column_drift, columns_drift, drifted_share, psi, threshold
from orrery.reference import frozen_edges, histogram, importances
from orrery.watching import ColumnDrift

DRAW = np.random.default_rng(1)
USUAL = DRAW.normal(size=20_000)
REFERENCE = histogram(USUAL, frozen_edges(USUAL))


def test_the_index_by_hand():
    """(.6-.5) ln(.6/.5) + (.4-.5) ln(.4/.5)"""
    assert psi(np.array([0.5, 0.5]), np.array([0.6, 0.4])) == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8))


def test_the_same_distribution_is_no_drift_and_a_shifted_one_is():
    assert not column_drift("x", REFERENCE, DRAW.normal(size=2_000)).drifted
    moved = column_drift("x", REFERENCE, DRAW.normal(0.5, size=2_000))
    assert moved.drifted
    assert moved.psi > 0.2


def test_one_outlier_hides_nothing():
    values = DRAW.normal(0.5, size=2_000)
    assert column_drift("x", REFERENCE, np.append(values, 1e6)).psi == pytest.approx(
        column_drift("x", REFERENCE, values).psi, abs=0.02
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_a_column_of_one_value_is_drift(value):
    found = column_drift("x", REFERENCE, np.full(1_000, value))
    assert found.drifted
    assert (found.missing == 1) == bool(np.isnan(value))
    assert (found.outside == 1) == bool(np.isinf(value))


def test_a_category_never_seen_is_outside():
    flags = np.tile([0.0, 2.0], 500)
    reference = histogram(flags, frozen_edges(flags))
    found = column_drift("flag", reference, np.where(np.arange(1_000) < 900, flags, 1.0))
    assert found.outside == pytest.approx(0.1)
    assert found.drifted


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), min_size=1, max_size=50))
def test_every_value_has_exactly_one_bin(values):
    assert binned(REFERENCE, np.array(values)).sum() == len(values)


@given(st.integers(1, 5_000))
def test_few_rows_ask_for_more(rows):
    reference = (*REFERENCE.counts, 0, 0, 0, 0)
    assert threshold(reference, rows) >= LEAST_THRESHOLD
    assert threshold(reference, rows) == threshold(reference, rows)


def test_chance_alone_exceeds_the_threshold_once_in_a_thousand():
    draws = [column_drift("x", REFERENCE, DRAW.normal(size=200)).drifted for _ in range(1_000)]
    assert sum(draws) <= 6  # 1 is expected; Poisson leaves 0.06 % beyond 5


def test_importance_decides_what_a_drifting_column_weighs():
    def column(name, drifted, importance):
        return ColumnDrift(name, 1.0 if drifted else 0.0, 0.1, 0.0, 0.0, importance)

    assert drifted_share([column("a", True, 0.1), column("b", False, 0.9)]) == pytest.approx(0.1)
    assert drifted_share([column("a", True, 0.0), column("b", False, 0.0)]) == 0.5
    assert drifted_share([]) == 0.0


def test_importances_follow_the_function():
    inputs = DRAW.normal(size=(500, 3)).astype(np.float32)
    found = importances(lambda rows: {"score": 3 * rows[:, 0] + rows[:, 1]}, inputs, ["a", "b", "c"], "score")
    assert found["a"] == pytest.approx(0.75, abs=0.05)
    assert found["c"] == 0
    assert sum(found.values()) == pytest.approx(1)
    assert importances(lambda rows: {"score": np.zeros(len(rows))}, inputs, ["a"], "score") == {}


def test_columns_come_by_importance_and_those_without_reference_are_left_out():
    values = DRAW.normal(size=(100, 3))
    found = columns_drift({"a": REFERENCE, "b": REFERENCE}, ["a", "b", "new"], values, {"b": 0.7, "a": 0.3})
    assert [each.name for each in found] == ["b", "a"]
