"""Films of another kind are seen in what the classifier makes of them, and few strangers are no alarm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usecases.imaging.scoring import embedding
from usecases.imaging.watched import DIRECTIONS, directions, measures

VALUES = 40


def sample(draw, rows, shift=0.0, strangers=0):
    return {
        "embedding": draw.normal(size=(rows, DIRECTIONS)) / 4 + shift,
        "ood": np.where(np.arange(rows) < strangers, 1.3, 0.7),
    }


@pytest.mark.parametrize(
    ("shift", "strangers", "drifted"),
    [(0, 0, []), (0, 2, []), (0.2, 0, ["embedding"]), (0, 12, ["out_of_distribution"])],
)
def test_a_month_of_films(shift, strangers, drifted):
    draw = np.random.default_rng(8)
    found = measures(sample(draw, 90, shift, strangers), sample(draw, 250, strangers=1))
    assert [(each.feature, each.method) for each in found] == [
        ("embedding", "mmd_rbf"), ("out_of_distribution", "share")
    ]  # fmt: skip
    assert [each.feature for each in found if each.drifted] == drifted
    assert found[1].value == pytest.approx(strangers / 90)


def test_a_change_in_a_faint_direction_is_seen_beside_a_strong_one():
    draw = np.random.default_rng(4)
    window, reference = sample(draw, 90), sample(draw, 250)
    for each in (window, reference):
        each["embedding"][:, 0] *= 50
        each["embedding"][:, 15] /= 50
    assert not measures(window, reference)[0].drifted
    window["embedding"][:, 15] += 0.02
    assert measures(window, reference)[0].drifted


def test_a_direction_in_which_nothing_varies_is_no_error():
    draw = np.random.default_rng(4)
    window, reference = sample(draw, 9), sample(draw, 20)
    for each in (window, reference):
        each["embedding"][:, 3:] = 0
    assert np.isfinite([measures(window, reference)[0].value, measures(window, reference)[0].threshold]).all()


@given(rows=st.integers(3, 60), values=st.integers(2, 60), seed=st.integers(0, 99))
def test_directions_keep_what_varies_most_and_no_more_than_there_is(rows, values, seed):
    pooled = np.random.default_rng(seed).normal(3, 2, size=(rows, values))
    learned = directions(pooled)
    found = embedding(pooled, learned)
    assert learned.shape == (1 + DIRECTIONS, values)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    kept = (found**2).sum() / rows
    assert kept <= 1 + 1e-9
    if min(rows, values) <= DIRECTIONS:
        assert kept == pytest.approx(1)
    assert (np.diff(found.var(axis=0)) <= 1e-9).all()


def test_features_that_never_vary_have_no_direction_and_no_error():
    found = embedding(np.ones((5, VALUES)), directions(np.ones((5, VALUES))))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 1e-6
