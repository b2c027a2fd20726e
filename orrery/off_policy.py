"""Values another policy from the log of this one: IPS, SNIPS, DM, DR, and whether their weights let that be said."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orrery.errors import OrreryError
from orrery.sequential import Interval
from orrery.usecase import Array

LEAST_EFFECTIVE = 100
"""effective rows; with fewer the intervals are too short for what the heaviest rows may do"""
LEAST_CLUSTERS = 30
"""effective clusters that a bootstrap needs"""
RESAMPLES = 2000
LARGEST = 1e100
"""beyond it squares are no numbers"""
_NO_CHANCE = 1 / LARGEST
_GROUPS = 10_000
"""more clusters than these are drawn in random groups: the interval is the same but for chance, the cost is not"""
_AT_ONCE = 4_000_000
_ROUNDING = 1e-9

Rule = Literal["no support", "few effective rows", "few effective clusters", "one heavy row"]


class RowsRefused(OrreryError):
    """The columns are not those of the same rows."""


class ValueRefused(OrreryError):
    """A value is missing, infinite or too large."""


class ProbabilityRefused(OrreryError):
    """A probability is not one."""


class ModelRefused(OrreryError):
    """Only one of the two predictions of a model was given."""


@dataclass(frozen=True)
class Weights:
    """How far the target policy is from the one that logged; a row's weight is target / propensity.

    `effective` is (sum w)^2 / sum w^2 of rows, `effective_clusters` that of the clusters' sums. `mean` is 1, but for
    chance, where the propensities are right and whatever the target may do was possible.
    """

    effective: float
    effective_clusters: float
    largest: float
    mean: Interval


@dataclass(frozen=True)
class Estimate:
    """The target policy's mean reward, and that less the on-policy mean of the same rows; 95 % intervals."""

    value: Interval
    lift: Interval
    verdict: str


@dataclass(frozen=True)
class Estimates:
    """One value by four estimators. DM and DR need a model of the reward; DM believes it, DR corrects it."""

    ips: Estimate
    snips: Estimate
    dm: Estimate | None
    dr: Estimate | None


@dataclass(frozen=True)
class Unusable:
    """A rule that the log breaks, and how, in words."""

    rule: Rule
    words: str


@dataclass(frozen=True)
class Evaluation:
    """What a log says of a target policy. What is unusable has no estimates; without support there are no weights."""

    rows: int
    clusters: int
    on_policy: Interval
    weights: Weights | None
    estimates: Estimates | None
    unusable: tuple[Unusable, ...]
    warnings: tuple[str, ...]
    verdict: str


def evaluate(
    reward: Array,
    propensity: Array,
    target: Array,
    *,
    model_logged: Array | None = None,
    model_target: Array | None = None,
    cluster: Array | None = None,
    resamples: int = RESAMPLES,
    seed: int = 7,
    first_row: int = 1,
) -> Evaluation:
    """Estimate what `target` would have earned. One row a logged action; all arrays have shape (n,).

    `propensity` and `target` are that action's probabilities under the two policies; `model_logged` is a model's
    prediction of its reward, `model_target` the model's mean over what the target policy would do there. Intervals are
    percentiles of a bootstrap by `cluster`, by row without it; errors call the first row `first_row`. The verdict is
    DR's where there is a model, else SNIPS's. Raises RowsRefused, ValueRefused, ProbabilityRefused, ModelRefused.

    Sources: Horvitz, Thompson, JASA 47, 1952 (IPS); Swaminathan, Joachims, NIPS 2015 (SNIPS); Dudik, Langford, Li,
    ICML 2011 (DM, DR); Kish, "Survey Sampling", 1965 (effective sample size).
    """
    given = {"reward": reward, "propensity": propensity, "target": target}
    if (model_logged is None) != (model_target is None):
        raise ModelRefused("a model predicts both the logged action and the target policy; give both, or neither")
    if model_logged is not None and model_target is not None:
        given |= {"model_logged": model_logged, "model_target": model_target}
    columns = _checked(given, cluster, first_row)
    codes = np.arange(len(reward)) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    impossible = (columns["propensity"] < _NO_CHANCE) & (columns["target"] > 0)
    weights = np.divide(columns["target"], columns["propensity"], where=~impossible, out=np.zeros(len(reward)))
    drawn = _drawn(columns, weights, codes, resamples, seed)
    found = Weights(
        _effective(weights), _effective(np.bincount(codes, weights)), float(weights.max()), _interval(drawn["weight"])
    )
    unusable = _no_support(impossible, first_row) or _too_far(found, len(weights))
    estimates = None if unusable else _estimates(drawn)
    warnings = () if unusable else _warnings(found.mean)
    return Evaluation(
        rows=len(weights), clusters=int(codes.max()) + 1, on_policy=_interval(drawn["on_policy"]),
        weights=None if impossible.any() else found, estimates=estimates, unusable=unusable, warnings=warnings,
        verdict=_verdict(estimates, unusable, warnings),
    )  # fmt: skip


def _checked(given: Mapping[str, Array], cluster: Array | None, first_row: int) -> dict[str, Array]:
    """The columns as float64, once they can be used."""
    lengths = {name: len(values) for name, values in given.items()}
    lengths |= {} if cluster is None else {"cluster": len(cluster)}
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        raise RowsRefused(f"rows: {', '.join(f'{n} {rows:,}' for n, rows in lengths.items())}; give each of them all")
    columns = {name: values.astype(np.float64) for name, values in given.items()}
    for name, values in columns.items():
        if (bad := ~(np.abs(values) <= LARGEST)).any():
            place = int(bad.argmax())
            many = f"the first of {bad.sum():,} rows without a number up to {LARGEST:g}"
            raise ValueRefused(f"{name} is {values[place]:g} in row {place + first_row}, {many}; leave such rows out")
    propensity, target = columns["propensity"], columns["target"]
    _require("target", target, (target >= 0) & (target <= 1 + _ROUNDING), first_row, "a probability lies in [0, 1]")
    taken = (propensity > 0) | ((propensity == 0) & (target > 0))  # the latter is no support, which is said apart
    possible = taken & (propensity <= 1 + _ROUNDING)
    _require("propensity", propensity, possible, first_row, "what was done had a probability in (0, 1]")
    return columns


def _require(name: str, values: Array, allowed: Array, first_row: int, rule: str) -> None:
    if not allowed.all():
        place = int(allowed.argmin())
        raise ProbabilityRefused(f"{name} is {values[place]:g} in row {place + first_row}; {rule}")


def _drawn(columns: Mapping[str, Array], weights: Array, codes: Array, resamples: int, seed: int) -> dict[str, Array]:
    """Every estimator, shape (1 + resamples,): first on the rows as they are, then on clusters drawn again."""
    reward, draw = columns["reward"], np.random.default_rng(seed)
    parts = [np.ones(len(reward)), reward, weights, weights * reward]
    if "model_target" in columns:
        parts += [columns["model_target"], weights * (reward - columns["model_logged"])]
    clusters = int(codes.max()) + 1
    groups = codes if clusters <= _GROUPS else (draw.permutation(clusters) % _GROUPS)[codes]
    sums = np.column_stack([np.bincount(groups, part) for part in parts])
    rows, reward, weight, weighted, *modelled = np.vstack([sums.sum(axis=0), *_resampled(sums, resamples, draw)]).T
    found = {"on_policy": reward / rows, "weight": weight / rows, "ips": weighted / rows}
    found["snips"] = np.divide(weighted, weight, where=weight > 0, out=np.zeros(len(rows)))
    if modelled:
        expected, residual = modelled
        found |= {"dm": expected / rows, "dr": (expected + residual) / rows}
    return found


def _resampled(sums: Array, resamples: int, draw: np.random.Generator) -> list[Array]:
    """Sums over rows drawn again with replacement: (rows, k) -> (resamples, k), in blocks that fit into memory."""
    size, blocks = len(sums), []
    step = max(1, _AT_ONCE // size)
    for first in range(0, resamples, step):
        many = min(step, resamples - first)
        picked = draw.integers(size, size=(many, size)) + size * np.arange(many)[:, None]
        blocks.append(np.bincount(picked.ravel(), minlength=many * size).reshape(many, size) @ sums)
    return blocks


def _interval(drawn: Array) -> Interval:
    low, high = np.percentile(drawn[1:], (2.5, 97.5))
    return Interval(float(drawn[0]), float(low), float(high))


def _effective(weights: Array) -> float:
    shares = weights / (weights.max() or 1)  # squares of the weights themselves may be too small for a number
    return float(shares.sum() ** 2 / max((shares**2).sum(), 1))


def _no_support(impossible: Array, first_row: int) -> tuple[Unusable, ...]:
    if not impossible.any():
        return ()
    first = int(impossible.argmax()) + first_row
    words = f"in {impossible.sum():,} rows, the first is row {first}, the target policy may do what had no chance"
    return (Unusable("no support", f"{words} (propensity 0)"),)


def _too_far(found: Weights, rows: int) -> tuple[Unusable, ...]:
    """The rules that the weights break; `effective` of no weight at all is 0."""
    broken: list[Unusable] = []
    if found.effective < LEAST_EFFECTIVE:
        words = f"the effective sample size is {found.effective:.4g} of {rows:,} rows, below {LEAST_EFFECTIVE}"
        broken.append(Unusable("few effective rows", words))
    elif found.effective_clusters < LEAST_CLUSTERS:
        words = f"the rows come from {found.effective_clusters:.4g} effective clusters, fewer than {LEAST_CLUSTERS}"
        broken.append(Unusable("few effective clusters", words))
    if found.largest > rows:
        words = f"one row weighs {found.largest:.3g}, more than all {rows:,} rows should together"
        broken.append(Unusable("one heavy row", words))
    return tuple(broken)


def _warnings(mean: Interval) -> tuple[str, ...]:
    if mean.low - _ROUNDING <= 1 <= mean.high + _ROUNDING:
        return ()
    said = f"the mean weight is {mean.value:.4g} [{mean.low:.4g}, {mean.high:.4g}] where it should be 1"
    reasons = "the propensities are wrong, or the log could not do all that the target policy does"
    return (f"{said}: {reasons}; chance alone does this to one log in twenty",)


def _estimates(drawn: Mapping[str, Array]) -> Estimates:
    found = {name: _estimate(values, drawn["on_policy"]) for name, values in drawn.items()}
    return Estimates(found["ips"], found["snips"], found.get("dm"), found.get("dr"))


def _estimate(drawn: Array, on_policy: Array) -> Estimate:
    value, lift = _interval(drawn), _interval(drawn - on_policy)
    least = _ROUNDING * abs(value.value)
    word = "better" if lift.low > least else "worse" if lift.high < -least else "no difference seen"
    return Estimate(value, lift, f"{word}: {lift.value:+.3g} [{lift.low:+.3g}, {lift.high:+.3g}]")


def _verdict(estimates: Estimates | None, unusable: tuple[Unusable, ...], warnings: tuple[str, ...]) -> str:
    if estimates is None:
        return (
            f"unusable: {'; '.join(one.words for one in unusable)}; log more, explore more, or choose a nearer policy"
        )
    name, chosen = ("DR", estimates.dr) if estimates.dr else ("SNIPS", estimates.snips)
    doubt = "; the weights put it in doubt" if warnings else ""
    return f"{name} says of the target policy, against the one that logged: {chosen.verdict}{doubt}"
