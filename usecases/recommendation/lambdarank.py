"""A ranker of trees: LambdaRank over the candidate lists of queries."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from orrery.errors import OrreryError
from orrery.usecase import Array, Budget
from usecases.recommendation.listwise import Lists
from usecases.recommendation.ranking_features import INPUTS
from usecases.recommendation.scoring import RANKER

TREES = 80
PARAMETERS: Mapping[str, Any] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 20,
    "num_leaves": 7,
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
}
"""small trees, strongly regularised: of a list, one or two candidates are relevant"""
_CURVE_STEP = 5
_EXPORT_TOLERANCE = 1e-5
_OPSET = 15
"""the newest that onnxmltools writes"""


class ExportRefused(OrreryError):
    """The exported graph does not say what the trained ranker says."""


def fit_trees(lists: Lists, budget: Budget) -> lgb.Booster:
    """Train on all lists. The same lists and seed give the same trees."""
    there = lists.there
    data = lgb.Dataset(lists.inputs[there], lists.relevant[there], group=there.sum(axis=1), feature_name=list(INPUTS))
    fixed = {"seed": budget.seed, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1}
    return _exportable(lgb.train({**PARAMETERS, **fixed}, data, TREES))


def _exportable(booster: lgb.Booster) -> lgb.Booster:
    """The same trees of float32 inputs, with thresholds that a graph, whose numbers are float32, has exactly.

    A threshold between two neighbouring inputs would be rounded to one of them, here always to the lower one.
    """
    text = re.sub(r"^threshold=.*$", _lower_thresholds, booster.model_to_string(), flags=re.MULTILINE)
    # sizes of the old text, without which it is read from start to end
    return lgb.Booster(model_str=re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE))


def _lower_thresholds(line: re.Match[str]) -> str:
    exact = np.array(line[0].removeprefix("threshold=").split(), np.float64)
    nearest = exact.astype(np.float32)
    lower = np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return "threshold=" + " ".join(repr(float(value)) for value in lower)


def tree_scores(booster: lgb.Booster, lists: Lists, trees: int = TREES) -> Array:
    """Scores of the first `trees` trees, float64, shape (queries, candidates)."""
    scores = np.zeros(lists.there.shape)
    scores[lists.there] = booster.predict(lists.inputs[lists.there], num_iteration=trees, num_threads=1)
    return scores


def tree_curve(booster: lgb.Booster, lists: Lists) -> Array:
    """Mean nDCG on lists after every few trees."""
    steps = range(_CURVE_STEP, TREES + 1, _CURVE_STEP)
    return np.array([lists.ndcg(tree_scores(booster, lists, trees)).mean() for trees in steps])


def export_trees(booster: lgb.Booster, folder: Path, probe: Array) -> None:
    """Write the ranker as a graph. Raises ExportRefused when they differ on the inputs `probe`, shape (n, INPUTS)."""
    import onnxruntime
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    shape = [("inputs", FloatTensorType([None, booster.num_feature()]))]
    graph = convert_lightgbm(booster, name="ranker", initial_types=shape, zipmap=False, target_opset=_OPSET)
    (folder / RANKER).write_bytes(graph.SerializeToString())
    session = onnxruntime.InferenceSession(folder / RANKER, providers=["CPUExecutionProvider"])
    said = session.run(None, {"inputs": probe})[0].reshape(-1)
    off = np.abs(said - booster.predict(probe, num_threads=1)).max(initial=0)
    if not off <= _EXPORT_TOLERANCE:
        raise ExportRefused(f"the exported ranker is off by {off:.2g}; check the versions of onnxmltools and lightgbm")
