"""What is trained is exported faithfully, calibrated on later rows, and the same again from the same seed."""

import dataclasses

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from orrery.usecase import Budget, SourceRequest, Window, silent
from usecases.fraud import autoencoder, model
from usecases.fraud.calibration import decision_metrics, fit_calibration, fit_thresholds
from usecases.fraud.features import FEATURES
from usecases.fraud.fitting import inputs_of
from usecases.fraud.scoring import AUTOENCODER, calibrate, novelty
from usecases.fraud.training import training

BUDGET = Budget(trials=1, seconds=10)


@pytest.fixture(scope="module")
def raw():
    return training.validate(training.sources["simulator"](SourceRequest("simulator", sample=True), silent))


@pytest.fixture(scope="module")
def parts(raw):
    view = training.features(raw)["transaction_features"]
    rows = raw.drop(columns="TX_AMOUNT").merge(view.drop(columns="event_timestamp"), on="TRANSACTION_ID")
    return training.split(rows, Window(raw["TX_DATETIME"].max().to_pydatetime(), 49))


@pytest.fixture(scope="module")
def found(parts):
    return model.search(parts.folds, FEATURES, BUDGET, silent)


def test_the_search_finds_more_than_chance(found, parts):
    assert found.ap > 10 * parts.train["TX_FRAUD"].mean() / 3
    assert found.curve[found.rounds - 1] == found.curve.max() == found.ap


def test_training_again_gives_the_same_trees(found, parts):
    once, twice = (model.fit(parts.train, FEATURES, found, BUDGET).model_to_string() for _ in range(2))
    assert once == twice


def test_the_autoencoder_graph_says_what_torch_says(parts, tmp_path):
    rows = inputs_of(parts.train[parts.train["TX_FRAUD"] == 0])[:40_000]
    encoder = autoencoder.fit_autoencoder(rows, BUDGET, silent)
    autoencoder.export(encoder, tmp_path / AUTOENCODER)
    session = onnxruntime.InferenceSession(tmp_path / AUTOENCODER)
    odd = np.concatenate(
        [rows[:100], np.full((1, len(FEATURES)), -1e9, np.float32), np.zeros((1, len(FEATURES)), np.float32)]
    )
    expected = autoencoder.reconstruction_error(encoder, odd)
    np.testing.assert_allclose(session.run(None, {"inputs": odd})[0], expected, rtol=1e-4)
    assert expected[100] > expected[:100].max()
    assert autoencoder.reconstruction_error(encoder, rows).mean() < 0.8  # 1 is no better than the mean


def test_novelty_is_a_share_of_ordinary_rows():
    errors = np.random.default_rng(0).gamma(2, size=20_000).astype(np.float32)
    got = novelty(errors, autoencoder.fit_novelty(errors))
    assert np.quantile(got, 0.3) == pytest.approx(0.3, abs=0.01)
    assert novelty(np.float32([1e9]), autoencoder.fit_novelty(errors)) == [1.0]


def test_calibration_mends_overconfidence_and_keeps_the_order():
    draw = np.random.default_rng(0)
    truth = draw.beta(0.4, 6, 40_000)
    target = (draw.random(40_000) < truth).astype(float)
    raw = calibrate(truth, {"slope": 2.0, "intercept": 0.5})
    curve = fit_calibration(raw, target)
    assert curve["slope"] == pytest.approx(0.5, abs=0.02)
    assert curve["intercept"] == pytest.approx(-0.25, abs=0.08)
    rising = np.linspace(1e-5, 1 - 1e-5, 1_000)
    assert np.all(np.diff(calibrate(rising, curve)) > 0)


def test_calibration_of_a_model_that_is_upside_down_still_keeps_the_order():
    draw = np.random.default_rng(0)
    raw = draw.random(5_000)
    curve = fit_calibration(raw, (draw.random(5_000) > raw).astype(float))
    assert curve["slope"] > 0
    assert np.isfinite(list(curve.values())).all()


def test_thresholds_keep_the_budgets():
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "TX_DATETIME": pd.to_datetime(draw.integers(0, 7 * 86_400, 60_000), unit="s", utc=True),
            "CUSTOMER_ID": draw.integers(0, 5_000, 60_000),
            "TX_AMOUNT": draw.uniform(1, 100, 60_000),
            "TX_FRAUD": (draw.random(60_000) < 0.01).astype(int),
        }
    )
    score = np.clip(draw.random(60_000) * 0.7 + 0.3 * rows["TX_FRAUD"].to_numpy(), 0, 1)
    thresholds = fit_thresholds(rows, score)
    got = decision_metrics(rows, score, thresholds)
    assert 0.0009 < got["false_decline_rate"] <= 0.001
    alarms = rows[score >= thresholds["review"]]
    cards = alarms.groupby([alarms["TX_DATETIME"].dt.floor("D"), "CUSTOMER_ID"]).ngroups
    assert 690 <= cards <= 700
    assert got["recall_declined"] < got["recall_declined_or_reviewed"] <= 1
    assert got["cost_a_transaction"] < got["cost_a_transaction_approving_all"]


def test_budget_may_end_the_search_early(parts):
    slow = dataclasses.replace(BUDGET, trials=50, seconds=0.01)
    assert model.search(parts.folds[:1], FEATURES, slow, silent).trials == 1
