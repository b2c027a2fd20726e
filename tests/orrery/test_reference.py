"""What a bundle remembers of its training rows."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy.toy_case import CASE, START, raw

from orrery.building import seal
from orrery.lifecycle import Snapshot
from orrery.reference import (
    MOST_BINS,
    Rows,
    frozen_edges,
    golden_rows,
    histogram,
    reference_histograms,
    reference_samples,
)
from orrery.settings import Settings
from orrery.usecase import Budget, Window, silent
from orrery.watching import Watching


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32)))
def test_every_value_is_counted_once_in_rising_bins(values):
    edges = frozen_edges(values)
    assert np.all(np.diff(edges) > 0)
    assert len(edges) <= MOST_BINS + 1
    assert sum(histogram(values, edges).counts) == len(values)


def test_bins_of_many_values_hold_about_as_many_each():
    values = np.random.default_rng(0).lognormal(size=20_000)
    counts = histogram(values, frozen_edges(values)).counts
    assert len(counts) == MOST_BINS
    assert counts == pytest.approx([1_000] * MOST_BINS, abs=2)


def test_few_values_have_a_bin_each():
    values = np.array([0, 0, 0, 1, 1, 7], np.float32)
    assert histogram(values, frozen_edges(values)).counts == [3, 2, 1]


def test_what_lies_outside_counts_at_the_ends_and_nan_is_missing():
    edges = [0.0, 1.0, 2.0, 3.0]
    found = histogram(np.array([-9, 0.5, 1.0, 99, np.inf, np.nan]), edges)
    assert (found.counts, found.missing) == ([2, 1, 2], 1)


def test_no_value_at_all_still_makes_a_histogram():
    values = np.array([np.nan, np.nan])
    assert histogram(values, frozen_edges(values)).missing == 2


def test_inputs_and_flat_outputs_are_remembered():
    inputs, outputs = np.zeros((5, 2), np.float32), {"score": np.arange(5.0), "wide": np.zeros((5, 3))}
    assert set(reference_histograms(inputs, ["a", "b"], outputs)) == {"a", "b", "score"}


def test_a_sample_has_the_rows_of_features_and_outputs_together():
    numbers = np.arange(1_000.0)
    inputs, outputs = numbers[:, None].astype(np.float32), {"pair": np.stack([numbers, -numbers], axis=1)}
    found = reference_samples(inputs, ["a"], outputs, ("a", "pair"))
    assert len(found["a"]) == 500
    assert found["pair"] == [[each, -each] for each in found["a"]]
    assert reference_samples(inputs, ["a"], outputs, ()) == {}


def test_golden_rows_span_the_scores_exactly():
    score = np.random.default_rng(0).random(5_000)
    inputs = score[:, None].astype(np.float32)
    golden = golden_rows(inputs, {"score": score})
    assert 30 <= len(golden.inputs) <= 60
    assert {score.min(), score.max()} <= set(golden.outputs["score"])
    assert np.array_equal(np.float32(golden.inputs)[:, 0], np.float32(golden.outputs["score"]))


def test_a_sample_of_rows_is_kept_as_plain_numbers_and_read_again(tmp_path):
    inputs = np.arange(10_000, dtype=np.float64).reshape(5_000, 2)
    labels = np.where(np.arange(5_000) % 2, 1.0, np.nan)
    Rows(inputs, np.linspace(0, 1, 5_000), labels).keep(tmp_path)
    found = Rows.kept(tmp_path)
    assert found.inputs.shape == (2_000, 2)
    assert (found.scores.min(), found.scores.max()) == (0, 1)
    assert np.isnan(found.labels).mean() == pytest.approx(0.5, abs=0.05)
    assert (np.diff(found.inputs[:, 0]) > 0).all()
    [file] = tmp_path.iterdir()
    assert file.stat().st_size < 40_000
    assert np.load(file, allow_pickle=False).dtype == np.float32


def test_few_rows_are_all_kept_and_an_older_bundle_has_none(tmp_path):
    assert Rows.kept(tmp_path) is None
    Rows(np.ones((1, 3)), np.zeros(1), np.array([np.nan])).keep(tmp_path)
    assert Rows.kept(tmp_path).inputs.tolist() == [[1, 1, 1]]


def test_a_bundle_keeps_tags_of_the_rows_it_was_judged_on_and_no_more_inputs_for_them(tmp_path):
    watching = Watching(rows=10, sampled=("score", "place"))
    case = replace(
        CASE, training=replace(CASE.training, watching=watching), serving=replace(CASE.serving, tags=("place",))
    )
    rows, window = raw().rename(columns={"seen": "x"}), Window(START + timedelta(days=24), 10)
    parts = case.training.split(rows.assign(place=rows["id"] + 0.5), window)
    folder = tmp_path / "bundle"
    folder.mkdir()
    fitted = case.training.fit(parts, Budget(trials=1, seconds=1), silent, folder)
    manifest = seal(case, Snapshot("toy", tmp_path, "v", {}), window, parts, fitted, Settings(home=tmp_path)).manifest
    assert manifest.samples["place"] == parts.test["place"].tolist()
    assert [feature.name for feature in manifest.features] == ["x"]
    assert {len(row) for row in manifest.golden.inputs} == {1}


def test_where_few_rows_judge_the_sample_is_of_these_and_the_inputs_of_the_training_rows(tmp_path):
    watching = Watching(rows=10_000, sampled=("x", "score"))
    case = replace(CASE, training=replace(CASE.training, watching=watching))
    rows, window = raw().rename(columns={"seen": "x"}), Window(START + timedelta(days=24), 10)
    parts = case.training.split(rows, window)
    folder = tmp_path / "bundle"
    folder.mkdir()
    fitted = case.training.fit(parts, Budget(trials=1, seconds=1), silent, folder)
    snapshot = Snapshot("toy", tmp_path, "v", {})

    manifest = seal(case, snapshot, window, parts, fitted, Settings(home=tmp_path)).manifest
    assert len(parts.train) != len(parts.test)
    assert {name: len(values) for name, values in manifest.samples.items()} == dict.fromkeys(
        watching.sampled, len(parts.test)
    )
    assert sum(manifest.reference["x"].counts) == len(parts.train)
