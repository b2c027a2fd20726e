"""What a log of answers and feedback says of another policy, and of how far down a list users look."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from orrery.errors import OrreryError
from orrery.sequential import Interval
from orrery.usecase import Array
from usecases.recommendation.policy import chance
from usecases.recommendation.simulator import rewarded

_STEPS = 50
_SURE = 1.96
_FOLDS = 2
_TARGETS = "greedy, or epsilon=SHARE"
_COLUMNS = (
    "reward",
    "before",
    "propensity",
    "target",
    "rank",
    "score",
    "best",
    "pool",
    "epsilon",
    "user_id",
    "item_id",
)


class NothingExplored(OrreryError):
    """The log holds too few clicks on what was shown by chance."""


class TargetRefused(OrreryError):
    """There is no such policy to value."""


def off_policy(answers: Sequence[Mapping[str, Any]], feedback: Sequence[BaseModel], target: str) -> Mapping[str, Array]:
    """What `orrery.off_policy` takes, of a target policy "greedy" or "epsilon=0.2". Raises TargetRefused."""
    try:
        epsilon = 0.0 if target == "greedy" else float(target.removeprefix("epsilon="))
    except ValueError:
        epsilon = -1.0
    if not 0 <= epsilon <= 1:
        raise TargetRefused(f"there is no policy {target!r}; name {_TARGETS}, with a share from 0 to 1")
    rows = off_policy_rows(answers, feedback, epsilon)
    names = ("reward", "propensity", "target", "model_logged", "model_target")
    return {**{name: rows[name] for name in names}, "cluster": rows["user_id"]}


def off_policy_rows(
    answers: Sequence[Mapping[str, Any]], feedback: Sequence[BaseModel], epsilon: float
) -> dict[str, Array]:
    """The log, a row a shown item, against the policy that differs in `epsilon` alone; columns of shape (n,).

    reward (1: clicked, bought or liked), propensity, target, model_logged, model_target, rank, score (0: the ranker had
    none), user_id and item_id. The probabilities are those of the whole list down to the item, since what stands above
    it decides what is left: McInerney et al., "Counterfactual Evaluation of Slate Recommendations", KDD 2020. So
    `model_target` is weighted by what stands above, which makes of DR that of Kiyohara et al., "Doubly Robust
    Off-Policy Evaluation for Ranking Policies under the Cascade Behavior Model", WSDM 2022.
    """
    rows: list[tuple[float, ...]] = []
    for answer, shown, reward in rewarded(answers, feedback):
        if shown["rank"] == 1:
            logged = target = 1.0
        logs, before = answer["policy"]["epsilon"], target / logged
        ratio = chance(shown["explored"], shown["pool"], epsilon) / chance(shown["explored"], shown["pool"], logs)
        logged, target = logged * shown["propensity"], target * shown["propensity"] * ratio
        scores = [shown[name] or 0.0 for name in ("score", "best_score", "pool_score")]
        rank, user, item = shown["rank"], answer["user_id"], shown["item_id"]
        rows.append((reward, before, logged, target, rank, *scores, epsilon, user, item))
    table = dict(zip(_COLUMNS, np.array(rows, np.float64).reshape(len(rows), len(_COLUMNS)).T, strict=True))
    return table | _modelled(table)


def _modelled(rows: Mapping[str, Array]) -> dict[str, Array]:
    """Rewards by a linear model of score and rank, fitted on the other users' rows.

    Linear in the score, so that the mean over a pool is the value of the pool's mean score.
    """
    logged, best, pool = (_design(rows, name) for name in ("score", "best", "pool"))
    expected = (1 - rows["epsilon"])[:, None] * best + rows["epsilon"][:, None] * pool
    expected = np.where((rows["best"] == 0)[:, None], logged, expected)  # a promotion: the same under both policies
    fold = rows["user_id"] % _FOLDS
    found = {name: np.zeros(len(fold)) for name in ("model_logged", "model_target")}
    for one in range(_FOLDS):
        other, mine = fold != one, fold == one
        weights = np.linalg.lstsq(logged[other], rows["reward"][other], rcond=None)[0]
        found["model_logged"][mine] = logged[mine] @ weights
        found["model_target"][mine] = rows["before"][mine] * (expected[mine] @ weights)
    return found


def _design(rows: Mapping[str, Array], score: str) -> Array:
    depth, scored = np.log(rows["rank"]), rows[score] != 0
    return np.column_stack([scored, scored * depth, rows[score], rows[score] * depth, ~scored, ~scored * depth])


def position_bias(answers: Sequence[Mapping[str, Any]], feedback: Sequence[BaseModel]) -> Interval:
    """The exponent of examination, 95 % interval, from what chance has put at the ranks.

    A Poisson regression of clicks on the logarithm of the rank, with the ranker's score beside it: at later ranks
    chance draws from a little further down. Errors are robust. Raises NothingExplored below ten clicks.
    """
    rows = [
        (reward, shown["rank"], shown["score"])
        for _, shown, reward in rewarded(answers, feedback)
        if shown["explored"] and shown["score"] is not None
    ]
    clicks, ranks, scores = np.array(rows, np.float64).reshape(len(rows), 3).T
    if clicks.sum() < 10:
        raise NothingExplored(f"{clicks.sum():.0f} clicks on items shown by chance; log more, or raise epsilon")
    design = np.column_stack([np.ones(len(clicks)), scores - scores.mean(), -np.log(ranks)])
    found = np.array([np.log(clicks.mean()), 0.0, 0.0])
    for _ in range(_STEPS):
        expected = np.exp(design @ found)
        inverse = np.linalg.pinv(design.T @ (design * expected[:, None]))
        found = found + inverse @ design.T @ (clicks - expected)
    scatter = inverse @ (design.T @ (design * ((clicks - expected) ** 2)[:, None])) @ inverse
    eta, error = float(found[2]), float(np.sqrt(scatter[2, 2]))
    return Interval(eta, eta - _SURE * error, eta + _SURE * error)
