"""Every use case's traffic can be watched, whatever has arrived of its labels, and learned from where it says how."""

import math
from datetime import datetime, timedelta, timezone
from itertools import product

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from orrery.collecting import together


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


def test_what_the_watch_is_to_value_can_be_valued(case):
    training = case.training
    assert training.watching.pooled >= 1
    if training.watching.target is None:
        pytest.skip("no other policy's value is asked for")
    assert training.watching.answered is not None, "without it whole answers are not read"
    columns = training.off_policy([], [], training.watching.target)
    assert {len(values) for values in columns.values()} == {0}


def test_lists_of_no_answers_are_none(case):
    watching = case.training.watching
    assert watching.popularity is None or watching.impressions is not None
    if watching.impressions is None:
        pytest.skip("its answers are no lists")
    assert {len(values) for values in vars(watching.impressions([], [])).values()} == {0}


def test_what_says_the_time_is_an_input(case):
    assert set(case.training.watching.calendar) <= set(case.serving.feature_names)


def test_what_is_measured_has_rows_and_its_unit_is_read_with_every_request(case):
    watching, serving = case.training.watching, case.serving
    assert bool(watching.sampled) == (watching.measures is not None)
    if watching.unit is not None:
        assert watching.unit in {key.view for key in serving.keys(serving.example)}


def test_what_neither_side_has_is_not_measured(case):
    """A bundle or a log may be older than what is asked for."""
    measures = case.training.watching.measures
    if measures is None:
        pytest.skip("it measures nothing by itself")
    assert not measures({}, {})


@pytest.fixture
def learning(case):
    """A training that learns from what was served."""
    if case.training.collected is None:
        pytest.skip("its releases learn from prepared data only")
    return case.training


@pytest.fixture
def rows(case):
    """Some raw rows of all the time there is."""
    return case.raw[:: len(case.raw) // 60 + 1].reset_index(drop=True)


@pytest.fixture
def known(rows, tmp_path):
    """Their file."""
    rows.to_parquet(tmp_path / "raw.parquet")
    return tmp_path / "raw.parquet"


def knowing(path):
    return lambda columns: pd.read_parquet(path, columns=columns)


def events_of(training, rows):
    """The requests and the feedback that raw rows become."""
    said = training.requests(rows)
    return [[body for _, kind, body in said if kind == wanted] for wanted in ("predict", "feedback")]


def test_what_was_served_becomes_the_rows_it_was_made_of(rows, learning, known):
    served = learning.collected(*events_of(learning, rows), knowing(known))
    assert len(served) == len(rows)
    again = learning.validate(together(known, served, learning.identity))
    pd.testing.assert_frame_equal(again[list(served)], rows[list(served)])


YEARS, ZONES = (1, 1969, 1970, 1989, 1990, 1999, 2000, 2099, 2100, 2200, 9999), (-12, 0, 12)
EDGES = (
    *(0, 1, 2**24 - 1, 2**24, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 0.01, 4.5, 1e6, 1e8, 1e12),
    *(
        datetime(year, month, month, tzinfo=timezone(timedelta(hours=ahead)))
        for year, month, ahead in product(YEARS, (1, 12), ZONES)
    ),
)


def changed(body, name, value):
    """None: no client may say so."""
    if name not in type(body).model_fields:
        return body
    try:
        return type(body).model_validate(body.model_dump() | {name: value})
    except ValidationError:
        return None


def test_what_may_be_asked_and_told_can_be_learned(case, rows, learning, known):
    """One row that raw data cannot hold would end every release that learns from the log."""
    requests, feedback = events_of(learning, rows)
    asked = requests[-1]
    told = next(each for each in feedback if case.serving.identity(each) == case.serving.identity(asked))
    tried = 0
    for name, value in product({**type(asked).model_fields, **type(told).model_fields}, EDGES):
        pair = changed(asked, name, value), changed(told, name, value)
        if None not in pair:
            served = learning.collected(*([each] for each in pair), knowing(known))
            learning.validate(together(known, served, learning.identity))
            tried += 1
    assert tried > 20
