"""The exported trees: they answer as LightGBM does, also beside a threshold, or are refused."""

import re

import lightgbm as lgb
import numpy as np
import onnxruntime
import pytest

from orrery.adapters import tree_graph
from orrery.adapters.tree_graph import ExportRefused, write_trees

ROWS = np.random.default_rng(3).normal(size=(600, 4)).astype(np.float32)
KINDS = {
    "binary": (ROWS[:, 0] > ROWS[:, 1]).astype(int),
    "regression": ROWS[:, 0] + ROWS[:, 2] ** 2,
    "lambdarank": (ROWS[:, 3] > 0).astype(int),
}


def trained(kind):
    group = [20] * 30 if kind == "lambdarank" else None
    data = lgb.Dataset(ROWS, KINDS[kind], group=group, params={"max_bin": 1_000, "min_data_in_bin": 1})
    return lgb.train({"objective": kind, "num_leaves": 15, "verbosity": -1, "num_threads": 1}, data, 30)


def beside_thresholds(booster):
    """Rows with one input on a threshold each: it lies between two inputs, where float32 has no number."""
    text = booster.model_to_string()
    found = re.findall(r"^split_feature=(.+)$(?:\n.*)*?\nthreshold=(.+)$", text, re.MULTILINE)
    splits = np.array([int(each) for names, _ in found for each in names.split()])
    rows = ROWS[:1].repeat(len(splits), axis=0)
    rows[np.arange(len(rows)), splits] = np.array([float(each) for _, values in found for each in values.split()])
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_answers_as_the_trees_do_beside_thresholds_too(kind, tmp_path):
    booster = trained(kind)
    write_trees(booster, tmp_path / "trees.onnx", ROWS, tmp_path / "trees.txt")
    rows = np.concatenate([ROWS, beside_thresholds(booster)])
    session = onnxruntime.InferenceSession(tmp_path / "trees.onnx")
    [said] = session.run(None, {"inputs": rows})
    np.testing.assert_allclose(said[:, -1], booster.predict(rows), atol=1e-5)
    np.testing.assert_array_equal(lgb.Booster(model_file=tmp_path / "trees.txt").predict(rows), booster.predict(rows))


def test_a_graph_that_says_something_else_is_refused(tmp_path, monkeypatch):
    other = trained("regression")
    monkeypatch.setattr(tree_graph, "in_float32", lambda _: other)
    with pytest.raises(ExportRefused, match="trees is off by"):
        write_trees(trained("binary"), tmp_path / "trees.onnx", ROWS)
