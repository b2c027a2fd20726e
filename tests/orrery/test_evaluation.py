"""Two models judged on the same rows: intervals that hold, differences that are paired."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from orrery.bundle import Feature
from orrery.evaluation import EvaluationRefused, evaluate

UNITS = 80


def rows(seed=0):
    """Rows whose errors go together within a unit."""
    draw = np.random.default_rng(seed)
    unit = np.repeat(np.arange(UNITS), 10)
    return pd.DataFrame(
        {
            "unit": unit,
            "at": pd.date_range("2024-01-01", periods=len(unit), freq="h", tz="UTC"),
            "x": (draw.normal(size=UNITS)[unit] + 0.1 * draw.normal(size=len(unit))).astype(np.float32),
            "y": np.zeros(len(unit), np.float32),
        }
    )


def measure(frame, outputs):
    return lambda weights: {"mean": float(weights @ outputs["score"] / weights.sum()), "rows": float(weights.sum())}


def model(shift=0.0, names=("x",)):
    return SimpleNamespace(shift=shift, manifest=SimpleNamespace(features=[Feature(name=name) for name in names]))


def score(model, inputs):
    assert inputs.dtype == np.float32
    return {"score": inputs[:, 0].astype(np.float64) + model.shift}


def report(frame, tmp_path, candidate=None, **options):
    case = SimpleNamespace(
        unit="unit", moment="at", measure=measure, plots=lambda _, __, folder: {"plot": folder / "p.png"},
        inputs_of=lambda rows, names: rows[names].to_numpy(np.float32),
    )  # fmt: skip
    return evaluate(case, score, candidate or model(), frame, tmp_path, **options)


def test_a_first_candidate_has_values_and_intervals_and_no_champion(tmp_path):
    frame = rows()
    got = report(frame, tmp_path)
    metric = got.candidate["mean"]
    assert metric.value == pytest.approx(frame["x"].mean())
    assert metric.low < metric.value < metric.high
    assert (got.rows, got.champion, got.differences) == (len(frame), {}, {})
    assert (got.first, got.last) == (frame["at"].min(), frame["at"].max())
    assert got.plots == {"plot": tmp_path / "p.png"}
    assert 0 < got.latency_ms < 10


def test_the_interval_is_as_wide_as_the_units_are_few(tmp_path):
    frame = rows()
    metric = report(frame, tmp_path, resamples=400).candidate["mean"]
    by_unit = frame.groupby("unit")["x"].mean().std() / np.sqrt(UNITS)
    by_row = frame["x"].std() / np.sqrt(len(frame))
    half = (metric.high - metric.low) / 2
    assert half == pytest.approx(1.96 * by_unit, rel=0.2)
    assert half > 2 * 1.96 * by_row


def test_the_interval_holds_the_truth_about_as_often_as_it_says(tmp_path):
    inside = 0
    for seed in range(40):
        metric = report(rows(seed), tmp_path).candidate["mean"]
        inside += metric.low <= 0 <= metric.high
    assert inside >= 33


def test_a_constant_gap_has_no_spread_when_paired(tmp_path):
    got = report(rows(), tmp_path, model(0.25), champion=model(), champion_version="3")
    gap = got.differences["mean"]
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.25, 0.25, 0.25))
    assert got.champion_version == "3"
    assert got.champion["mean"].high - got.champion["mean"].low > 0.1


def test_the_champion_gets_the_inputs_it_was_trained_on(tmp_path):
    got = report(rows(), tmp_path, model(names=("x", "y")), champion=model(names=("y",)))
    assert got.champion["mean"].value == 0


def test_the_same_seed_gives_the_same_report(tmp_path):
    once, twice, other = (report(rows(), tmp_path, seed=seed).candidate for seed in (1, 1, 2))
    assert once == twice != other


def test_rows_without_a_feature_or_without_rows_are_refused(tmp_path):
    with pytest.raises(EvaluationRefused, match="lack the features z"):
        report(rows(), tmp_path, model(names=("x", "z")))
    with pytest.raises(EvaluationRefused, match="another window"):
        report(rows().head(0), tmp_path)
