"""What counts as the same value served and offline."""

import numpy as np
import pandas as pd
import pytest

from orrery.parity import Mismatch, compare

NAMES = ("count", "mean")
OFFLINE = pd.DataFrame({"mean": [0.1, 2.5, np.nan], "count": [3.0, 4.0, 0.0]}, index=[7, 8, 9])


def test_equal_rows_agree_in_any_order():
    parity = compare([(9, [0.0, np.nan]), (7, [3.0, 0.1])], OFFLINE, NAMES)
    assert (parity.rows, parity.mismatches, parity.features, parity.unknown, parity.worst) == (2, 0, {}, 0, ())
    assert parity.passed
    assert compare([("9", [0.0, np.nan]), ("7", [3.0, 0.1])], OFFLINE, NAMES).passed


def test_float32_is_close_enough_for_numbers_but_not_for_counts():
    assert compare([(7, np.float32([3.0, 0.1]))], OFFLINE, NAMES).passed
    assert not compare([(7, [3.0, 0.1 * (1 + 2e-6)])], OFFLINE, NAMES).passed
    assert not compare([(7, [3.0 + 1e-9, 0.1])], OFFLINE, NAMES).passed


@pytest.mark.parametrize("served", [[3.0, np.nan], [np.nan, 0.1], [3.0, np.inf], [2.0, 0.1]])
def test_another_value_is_a_mismatch(served):
    parity = compare([(7, served), (8, [4.0, 2.5])], OFFLINE, NAMES)
    assert (parity.rows, parity.mismatches) == (2, 1)
    assert sum(parity.features.values()) == 1


def test_the_worst_comes_first():
    parity = compare([(7, [3.0, 0.2]), (8, [9.0, 2.6])], OFFLINE, NAMES)
    assert parity.worst[0] == Mismatch("8", "count", 9.0, 4.0)
    assert parity.mismatches == 2
    assert parity.features == {"count": 1, "mean": 2}
    assert len(compare([(8, [n, 2.5]) for n in range(30, 60)], OFFLINE, NAMES).worst) == 10


def test_a_row_that_offline_does_not_know_is_a_mismatch():
    parity = compare([(1, [3.0, 0.1])], OFFLINE, NAMES)
    assert (parity.rows, parity.mismatches, parity.unknown) == (1, 1, 1)
    assert compare([(1, [3.0, 0.1])], OFFLINE.iloc[:0], NAMES).mismatches == 1
    assert compare([("no number", [3.0, 0.1]), (7, [3.0, 0.1])], OFFLINE, NAMES).unknown == 1


def test_nothing_compared_is_not_a_pass():
    parity = compare([], OFFLINE, NAMES)
    assert (parity.rows, parity.mismatches) == (0, 0)
    assert not parity.passed
