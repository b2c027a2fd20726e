"""Every use case's traffic can be watched, whatever has arrived of its labels, and learned from where it says how."""

import math

import numpy as np
import pandas as pd
import pytest


def test_live_quality_holds_without_labels_with_some_and_with_all(case):
    quality = case.training.watching.quality
    if quality is None:
        pytest.skip("the watch says nothing of what its answers are worth")
    scores, found = np.array([0.2, 0.9, 0.4, 0.7]), {}
    for labels in ([np.nan] * 4, [np.nan, 1.0, 0.0, np.nan], [0.0, 1.0, 0.0, 1.0]):
        found = quality(scores, np.array(labels))
        assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
    assert found, "labels of all rows say something"


def test_drift_can_be_sustained(case):
    watching = case.training.watching
    assert 0 < watching.drifted <= watching.of
    assert watching.rows > 0
    assert watching.window.total_seconds() > 0


def test_what_says_the_time_is_an_input(case):
    assert set(case.training.watching.calendar) <= set(case.serving.feature_names)


def test_what_is_measured_has_rows_and_its_unit_is_read_with_every_request(case):
    watching, serving = case.training.watching, case.serving
    assert bool(watching.sampled) == (watching.measures is not None)
    if watching.unit is not None:
        assert watching.unit in {key.view for key in serving.keys(serving.example)}


def test_requests_that_were_served_become_the_rows_they_were_made_of(case):
    training, serving = case.training, case.serving
    if training.collected is None:
        pytest.skip("its releases learn from prepared data only")
    rows = case.raw.head(2_000)
    said = training.requests(rows)
    told = {serving.identity(body): body for _, kind, body in said if kind == "feedback"}
    events = [(body, told[serving.identity(body)]) for _, kind, body in said if kind == "predict"]
    served = training.collected(events)
    again = served.set_index(training.identity)
    before = rows.set_index(training.identity)[again.columns]
    pd.testing.assert_frame_equal(again.sort_index(), before.sort_index(), check_dtype=False)
