"""Live quality: as scikit-learn measures it, estimated before labels, and told apart where they part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from orrery.quality import classified, estimated, parted

DRAW = np.random.default_rng(5)
SCORES = DRAW.beta(0.5, 5, size=4_000)
TRUTH = (DRAW.random(4_000) < SCORES).astype(float)


@given(
    st.lists(st.tuples(st.integers(0, 10).map(lambda x: x / 10), st.sampled_from([0.0, 1.0])), min_size=2, max_size=60)
)
def test_as_scikit_learn_measures_it(rows):
    scores, labels = np.array(rows).T
    found = classified(scores, labels)
    assert found["brier"] == pytest.approx(brier_score_loss(labels, scores))
    if 0 < labels.sum() < len(labels):
        assert found["ap"] == pytest.approx(average_precision_score(labels, scores))
        assert found["auc"] == pytest.approx(roc_auc_score(labels, scores))
    else:
        assert "auc" not in found


def test_rows_without_a_label_do_not_count():
    labels = np.where(np.arange(4_000) % 2, TRUTH, np.nan)
    assert classified(SCORES, labels) == classified(SCORES[1::2], TRUTH[1::2])
    assert classified(SCORES, np.full(4_000, np.nan)) == {}


def test_calibrated_scores_know_their_own_quality():
    promise, deviation = estimated(SCORES)
    truth = classified(SCORES, TRUTH)
    assert set(promise) == set(truth)
    for name, value in truth.items():
        assert value == pytest.approx(promise[name], abs=4 * deviation[name])
    assert parted(SCORES, TRUTH) == ()
    assert estimated(np.array([])) == ({}, {})


def test_labels_that_follow_another_law_part_from_the_estimate():
    assert "ap" in parted(SCORES, DRAW.permutation(TRUTH))
    assert "positives_to_expected" in parted(SCORES, (DRAW.random(4_000) < SCORES / 3).astype(float))
