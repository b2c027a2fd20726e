"""A ranker of trees: LambdaRank over the candidate lists of queries."""

from collections.abc import Mapping
from typing import Any

import lightgbm as lgb
import numpy as np

from orrery.usecase import Array, Budget
from usecases.recommendation.listwise import Lists
from usecases.recommendation.ranking_features import INPUTS

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


def fit_trees(lists: Lists, budget: Budget) -> lgb.Booster:
    """Train on all lists. The same lists and seed give the same trees."""
    there = lists.there
    data = lgb.Dataset(lists.inputs[there], lists.relevant[there], group=there.sum(axis=1), feature_name=list(INPUTS))
    fixed = {"seed": budget.seed, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1}
    return lgb.train({**PARAMETERS, **fixed}, data, TREES)


def tree_scores(booster: lgb.Booster, lists: Lists, trees: int = TREES) -> Array:
    """Scores of the first `trees` trees, float64, shape (queries, candidates)."""
    scores = np.zeros(lists.there.shape)
    scores[lists.there] = booster.predict(lists.inputs[lists.there], num_iteration=trees, num_threads=1)
    return scores


def tree_curve(booster: lgb.Booster, lists: Lists) -> Array:
    """Mean nDCG on lists after every few trees."""
    steps = range(_CURVE_STEP, TREES + 1, _CURVE_STEP)
    return np.array([lists.ndcg(tree_scores(booster, lists, trees)).mean() for trees in steps])
