"""What every use case promises about learning: no future, no leak, the same answers after a reload."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from orrery.adapters.model_server import check_golden, load_model
from orrery.bundle import Bundle, BundleRefused, Feature, Golden
from orrery.usecase import Budget, Scored, Window, silent

BUDGET = Budget(trials=1, seconds=5)


def window(case):
    last = case.raw[case.training.moment].max().to_pydatetime()
    return Window(as_of=last, days=case.training.train_days)


def inputs(case, rows):
    return case.training.inputs_of(rows, case.serving.feature_names)


def train(case, rows, folder):
    """A bundle fitted on the sample, loaded."""
    split = case.training.split(rows, window(case))
    fitted = case.training.fit(split, BUDGET, silent, folder)
    now = datetime(2024, 1, 1, tzinfo=UTC)
    about = {
        "use_case": case.name, "created_at": now, "trained_from": now, "trained_to": now, "as_of": now,
        "rows": len(split.train), "data_version": "sample", "git_commit": "none", "lock_hash": "none",
        "features": [Feature(name=name) for name in case.serving.feature_names], "learned": dict(fitted.learned),
        "reference": {},
    }  # fmt: skip
    sample = inputs(case, split.test)[:8]
    Bundle.write(folder, about | {"golden": Golden(inputs=[], outputs={})})
    outputs = case.serving.score(load_model(folder), sample)
    told = {name: np.ravel(value).astype(float).tolist() for name, value in outputs.items()}
    golden = Golden(inputs=sample.tolist(), outputs=told)
    Bundle.write(folder, about | {"golden": golden})
    return split, load_model(folder)


def test_validation_changes_nothing_that_is_valid(case):
    again = case.training.validate(case.raw)
    assert again[case.training.identity].tolist() == case.raw[case.training.identity].tolist()


def test_split_keeps_the_label_delay(case):
    training, split = case.training, case.training.split(case.rows, window(case))
    moment = training.moment
    assert split.test[moment].max() + training.label_delay <= window(case).as_of
    assert split.train[moment].max() + training.label_delay <= split.test[moment].min()
    for learn, check in split.folds:
        assert learn[moment].max() + training.label_delay <= check[moment].min()
        assert check[moment].max() <= split.train[moment].max()


def test_no_feature_is_the_answer(case):
    rows = case.rows[list(case.serving.feature_names)].to_numpy(float)
    design = np.column_stack([rows, np.ones(len(rows))])
    truth = case.rows[case.training.target].to_numpy(float)
    residual = truth - design @ np.linalg.lstsq(design, truth, rcond=None)[0]
    assert 1 - residual.var() / truth.var() < 0.999


def test_the_future_is_not_known(case):
    """Features of the first half are the same whether or not the second half ever happens."""
    half = case.raw.iloc[: len(case.raw) // 2]
    for view, table in case.training.features(half).items():
        whole = case.tables[view].iloc[: len(half)]
        np.testing.assert_array_equal(table[list(case.serving.feature_names)], whole[list(case.serving.feature_names)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One fit a use case, for all who only look at it."""
    done = {}

    def fit(case):
        if case.name not in done:
            done[case.name] = train(case, case.rows, tmp_path_factory.mktemp(case.name))
        return done[case.name]

    return fit


@pytest.mark.slow
def test_a_bundle_answers_the_same_after_a_reload(case, trained, tmp_path):
    split, model = trained(case)
    check_golden(model, case.serving.score, case.serving.tolerance)
    outputs = case.serving.score(model, inputs(case, split.test))
    assert len(outputs[case.serving.monitored_output]) == len(split.test)
    request = case.serving.example
    row = case.serving.features({}, request)
    one = case.serving.score(model, row[None])
    answer = case.serving.respond(Scored(request, (), case.serving.default_rules, {}, row, one, model))
    assert isinstance(answer, case.serving.response)
    assert not answer.degraded
    metrics = case.training.measure(split.test, outputs)(np.ones(len(split.test)))
    assert {*case.training.gate.floors, *case.training.gate.compare, *case.training.gate.no_worse} <= set(metrics)
    assert all(path.is_file() for path in case.training.plots(split.test, outputs, tmp_path).values())


@pytest.mark.slow
def test_a_flipped_byte_is_noticed(case, trained, tmp_path):
    _, model = trained(case)
    folder = shutil.copytree(model.bundle.folder, tmp_path / "copy")
    path = folder / next(name for name in model.manifest.files if name.endswith((".onnx", ".npy")))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BundleRefused, match="digest"):
        load_model(folder)


@pytest.mark.slow
def test_a_model_of_shuffled_labels_does_not_pass_the_gate(case, bundle_folder):
    training, gate = case.training, case.training.gate
    split = training.split(case.rows, window(case))
    labels = np.random.default_rng(0).permutation(split.train[training.target].to_numpy())
    mixed = replace(split, train=split.train.assign(**{training.target: labels}))
    _, model = train(replace(case, training=replace(training, split=lambda *_: mixed)), case.rows, bundle_folder)
    outputs = case.serving.score(model, inputs(case, split.test))
    metrics = training.measure(split.test, outputs)(np.ones(len(split.test)))
    low = [name for name, floor in gate.floors.items() if metrics[name] < floor]
    high = [name for name, ceiling in gate.ceilings.items() if metrics[name] > ceiling]
    assert low or high, metrics
