"""A release on the sample: what `fit` leaves, what the gate says of it, and of one trained on shuffled labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from orrery.adapters.model_server import load_model
from orrery.bundle import Bundle, Feature
from orrery.evaluation import evaluate
from orrery.gate import judge, no_feature_is_the_answer, reloads
from orrery.lifecycle import Candidate, Passed, Refused
from orrery.reference import golden_rows, reference_histograms
from orrery.usecase import Budget, Gate, SourceRequest, Window, silent
from usecases.fraud.features import FEATURES
from usecases.fraud.fitting import fit, inputs_of
from usecases.fraud.scoring import AUTOENCODER, BOOSTER, CLASSIFIER, score
from usecases.fraud.training import requests, training

BUDGET = Budget(trials=1, seconds=10, threads=1)
SAMPLE_GATE = Gate(floors={"ap": 0.45}, ceilings={"calibration_error": 0.02}, compare=("ap", "auc"), latency_ms=20)
"""of 500 customers fewer frauds can be told, and fewer than 100 cards are worth a look"""


@pytest.fixture(scope="module")
def raw():
    return training.validate(training.sources["simulator"](SourceRequest("simulator", sample=True), silent))


@pytest.fixture(scope="module")
def window(raw):
    return Window(raw["TX_DATETIME"].max().to_pydatetime(), 49)


@pytest.fixture(scope="module")
def parts(raw, window):
    view = training.features(raw)["transaction_features"]
    rows = raw.drop(columns="TX_AMOUNT").merge(view.drop(columns="event_timestamp"), on="TRANSACTION_ID")
    return training.split(rows, window)


@pytest.fixture(scope="module")
def fitted(parts, tmp_path_factory):
    return fit(parts, BUDGET, silent, tmp_path_factory.mktemp("honest") / "bundle")


@pytest.fixture(scope="module")
def shuffled(parts, tmp_path_factory):
    """The same training, to which nobody told which transactions were frauds."""
    draw = np.random.default_rng(0)

    def mixed(rows):
        return rows.assign(TX_FRAUD=draw.permutation(rows["TX_FRAUD"].to_numpy()))

    folds = tuple((mixed(train), validation) for train, validation in parts.folds)
    split = replace(parts, train=mixed(parts.train), folds=folds)
    return fit(split, BUDGET, silent, tmp_path_factory.mktemp("shuffled") / "bundle")


def candidate(fitted, parts, window):
    about = {
        "use_case": "fraud", "created_at": window.as_of, "trained_from": parts.train["TX_DATETIME"].min(),
        "trained_to": parts.train["TX_DATETIME"].max(), "as_of": window.as_of, "rows": len(parts.train),
        "data_version": "sample", "git_commit": "none", "lock_hash": "none",
        "features": [Feature(name=name) for name in FEATURES], "learned": dict(fitted.learned), "reference": {},
    }  # fmt: skip
    Bundle.write(fitted.folder, about | {"golden": {"inputs": [], "outputs": {}}})
    inputs = inputs_of(parts.test)
    outputs = score(load_model(fitted.folder), inputs)
    known = {"golden": golden_rows(inputs, outputs), "reference": reference_histograms(inputs, FEATURES, outputs)}
    return Candidate("fraud", "run", Bundle.write(fitted.folder, about | known), window, "key")


def verdict(judged, parts, folder: Path, champion=None, gate=SAMPLE_GATE):
    model = load_model(judged.bundle.folder)
    report = evaluate(training, score, model, parts.test, folder, champion=champion, champion_version="1")
    integrity = [
        no_feature_is_the_answer(inputs_of(parts.train), parts.train["TX_FRAUD"].to_numpy(), FEATURES),
        reloads(judged.bundle.folder, score),
    ]
    return judge(gate, judged, report, integrity)


def test_the_bundle_has_its_graphs_and_what_was_learned(fitted):
    assert {path.name for path in fitted.folder.iterdir()} == {CLASSIFIER, BOOSTER, AUTOENCODER}
    assert set(fitted.learned) == {"calibration", "thresholds", "novelty", "costs"}
    assert 0 < fitted.learned["thresholds"]["review"] <= fitted.learned["thresholds"]["decline"] < 1
    assert {"ablation_ap_with_novelty", "ablation_ap_without_novelty", "later_cost_a_transaction"} <= set(
        fitted.metrics
    )
    assert all(path.stat().st_size > 10_000 for path in fitted.plots.values())


def test_an_honest_model_passes_and_a_shuffled_one_is_refused_with_reasons(fitted, shuffled, parts, window, tmp_path):
    honest = candidate(fitted, parts, window)
    first = verdict(honest, parts, tmp_path / "first")
    assert isinstance(first, Passed), first
    assert all(plot.stat().st_size > 10_000 for plot in first.report.plots.values())
    worse = candidate(shuffled, parts, window)
    second = verdict(worse, parts, tmp_path / "second", champion=load_model(honest.bundle.folder))
    assert isinstance(second, Refused)
    told = " ".join(second.reasons)
    assert "ap at least" in told
    assert "ap no worse than champion" in told
    assert "auc no worse than champion" in told
    assert len(second.reasons) >= 3


def test_the_gate_of_the_full_set_is_no_formality(shuffled, parts, window, tmp_path):
    refused = verdict(candidate(shuffled, parts, window), parts, tmp_path, gate=training.gate)
    assert isinstance(refused, Refused)
    names = {reason.partition(":")[0] for reason in refused.reasons}
    assert {"ap at least", "auc at least", "recall_at_fpr_0.1pct at least"} <= names


def test_requests_come_in_event_order_with_the_label_first(raw):
    first = raw.head(50)
    later = first.assign(
        TX_DATETIME=first["TX_DATETIME"] + pd.Timedelta(days=7), TRANSACTION_ID=first["TRANSACTION_ID"] + 1_000
    )
    events = requests(pd.concat([first, later]))
    assert len(events) == 200
    assert [at for at, _, _ in events] == sorted(at for at, _, _ in events)
    meeting = [kind for at, kind, _ in events if at == later["TX_DATETIME"].iloc[0]]
    assert meeting == ["feedback", "predict"]
    label = next(event for _, kind, event in events if kind == "feedback")
    assert label.transaction_id == first["TRANSACTION_ID"].iloc[0]
    assert label.arrived_at - label.tx_datetime == training.label_delay
