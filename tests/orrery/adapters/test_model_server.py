import json
import subprocess
import sys
from datetime import UTC, datetime

import lightgbm
import numpy as np
import pytest
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from orrery.adapters.model_server import GoldenMismatch, check_golden, load_model
from orrery.adapters.tree_shap import TreeShap
from orrery.bundle import Bundle, BundleRefused, Feature, Golden

ROWS = np.random.default_rng(5).normal(size=(400, 3)).astype(np.float32)


def score(model, rows):
    return {"score": model.run("classifier.onnx", rows)[1][:, 1].astype(np.float64)}


@pytest.fixture(scope="module")
def booster():
    truth = (ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2] > 0.3).astype(int)
    parameters = {"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1, "seed": 1}
    return lightgbm.train(parameters, lightgbm.Dataset(ROWS, truth), num_boost_round=20)


@pytest.fixture
def folder(tmp_path, booster):
    graph = convert_lightgbm(booster, initial_types=[("x", FloatTensorType([None, 3]))], zipmap=False)
    (tmp_path / "classifier.onnx").write_bytes(graph.SerializeToString())
    (tmp_path / "classifier.txt").write_text(booster.model_to_string())
    return tmp_path


def write(folder, golden):
    now = datetime(2024, 1, 1, tzinfo=UTC)
    names = [Feature(name=name) for name in "abc"]
    about = {
        "use_case": "toy", "created_at": now, "trained_from": now, "trained_to": now, "as_of": now, "rows": 400,
        "data_version": "v", "git_commit": "c", "lock_hash": "l", "features": names, "learned": {}, "reference": {},
        "golden": golden,
    }  # fmt: skip
    return Bundle.write(folder, about)


def golden(booster):
    return Golden(inputs=ROWS[:5].tolist(), outputs={"score": booster.predict(ROWS[:5]).tolist()})


def test_it_answers_as_the_trainer_saw_it(folder, booster):
    write(folder, golden(booster))
    model = load_model(folder)
    check_golden(model, score)
    np.testing.assert_allclose(score(model, ROWS)["score"], booster.predict(ROWS), atol=1e-6)


@pytest.mark.parametrize(
    "outputs", [{"score": [0.5] * 5}, {"score": [float("nan")] * 5}, {"another": [0.5] * 5}]
)  # fmt: skip
def test_golden_answers_that_differ_are_refused(folder, outputs):
    write(folder, Golden.model_construct(inputs=ROWS[:5].tolist(), outputs={}))
    model = load_model(folder)
    manifest = model.manifest.model_copy(
        update={"golden": Golden.model_construct(inputs=ROWS[:5].tolist(), outputs=outputs)}
    )
    changed = type(model)(model.bundle.model_copy(update={"manifest": manifest}), model.sessions)
    with pytest.raises(GoldenMismatch):
        check_golden(changed, score)


def test_a_graph_that_gives_no_number_is_refused(folder, booster):
    write(folder, golden(booster))
    with pytest.raises(GoldenMismatch):
        check_golden(load_model(folder), lambda _, rows: {"score": np.full(len(rows), np.nan)})


def test_contributions_are_those_of_lightgbm(folder, booster):
    write(folder, golden(booster))
    model = load_model(folder)
    expected = booster.predict(ROWS[:50], pred_contrib=True)
    np.testing.assert_allclose(model.contributions("classifier.txt", ROWS[:50]), expected, atol=1e-9)
    np.testing.assert_allclose(model.contributions("classifier.txt", ROWS[:1]), expected[:1], atol=1e-9)


def test_contributions_of_other_inputs_are_refused(booster):
    with pytest.raises(BundleRefused, match="takes 3 inputs"):
        TreeShap(booster.model_to_string()).contributions(ROWS[:, :2])


def test_a_text_that_is_no_model_is_refused():
    with pytest.raises(BundleRefused, match="LightGBM"):
        TreeShap("not a tree in sight")


def test_a_graph_that_is_none_is_refused(folder, booster):
    (folder / "classifier.onnx").write_bytes(b"not a graph")
    write(folder, golden(booster))
    with pytest.raises(BundleRefused, match="ONNX Runtime"):
        load_model(folder)


def test_a_flipped_byte_is_refused(folder, booster):
    write(folder, golden(booster))
    content = bytearray((folder / "classifier.onnx").read_bytes())
    content[100] ^= 1
    (folder / "classifier.onnx").write_bytes(content)
    with pytest.raises(BundleRefused, match="digest"):
        load_model(folder)


def test_only_declared_text_is_read(folder, booster):
    write(folder, golden(booster))
    model = load_model(folder)
    assert model.text("classifier.txt").startswith("tree")
    with pytest.raises(BundleRefused, match="no file"):
        model.text("../secrets.txt")


def test_explaining_brings_nothing_heavy_along(folder, booster):
    write(folder, golden(booster))
    code = (
        "import sys, json, numpy; from pathlib import Path; from orrery.adapters.model_server import load_model;"
        f"load_model(Path({str(folder)!r})).contributions('classifier.txt', numpy.zeros((1, 3), 'float32'));"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "sklearn", "scipy", "lightgbm", "torch"} & set(json.loads(done.stdout))


def test_arrays_are_numbers_and_read_only(folder, booster):
    np.save(folder / "weights.npy", ROWS)
    write(folder, golden(booster))
    found = load_model(folder).array("weights.npy")

    np.testing.assert_array_equal(found, ROWS)
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1
    with pytest.raises(BundleRefused, match="no array other"):
        load_model(folder).array("other.npy")


def test_an_array_of_objects_is_refused(folder, booster):
    np.save(folder / "weights.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    write(folder, golden(booster))
    with pytest.raises(BundleRefused, match="not an array of numbers"):
        load_model(folder)


def test_what_is_derived_is_made_once(folder, booster):
    write(folder, golden(booster))
    model, made = load_model(folder), []
    assert [model.derived("size", lambda m: made.append(1) or len(m.text("classifier.txt"))) for _ in range(2)]
    assert made == [1]
