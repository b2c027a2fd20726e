"""Policies valued from another one's log: known answers, simulated truths, and logs that say nothing."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.off_policy import ModelRefused, ProbabilityRefused, RowsRefused, ValueRefused, evaluate

ESTIMATORS = ("ips", "snips", "dm", "dr")
# mean rewards by context and action; the log is epsilon-greedy with old knowledge, the target some other policy
MEANS = np.array([[0.2, 0.5, 0.4], [0.6, 0.1, 0.3], [0.3, 0.3, 0.7]])
GREEDY = np.array([1, 0, 0])
EPSILON = 0.4
LOGGING = np.full((3, 3), EPSILON / 3) + (1 - EPSILON) * np.eye(3)[GREEDY]
TARGET = np.array([[0.1, 0.7, 0.2], [0.7, 0.1, 0.2], [0.1, 0.1, 0.8]])
TRUTH = float((TARGET * MEANS).sum(axis=1).mean())
ON_POLICY = float((LOGGING * MEANS).sum(axis=1).mean())
WRONG = np.array([[0.5, 0.2, 0.9], [0.2, 0.6, 0.7], [0.7, 0.1, 0.5]])


def logged(draw, rows, model=MEANS, propensities=LOGGING):
    """A log of the bandit as keywords of `evaluate`, with what a model of the rewards says."""
    context = draw.integers(3, size=rows)
    action = (draw.random((rows, 1)) > LOGGING[context].cumsum(axis=1)).sum(axis=1)
    return {
        "reward": draw.binomial(1, MEANS[context, action]),
        "propensity": propensities[context, action],
        "target": TARGET[context, action],
        "model_logged": model[context, action],
        "model_target": (TARGET * model).sum(axis=1)[context],
    }


def values(found):
    return {name: getattr(found.estimates, name).value.value for name in ESTIMATORS}


def four(times=100):
    """Four rows, so many times over: means stay, and the effective sample size is `times` that of the four.

    weights 0.25 / 0.5 = 0.5, 0.75 / 0.5 = 1.5, 0.5 / 0.25 = 2, 0.4 / 0.8 = 0.5: their sum is 4.5
    """
    rows = {
        "reward": [1, 0, 1, 1],
        "propensity": [0.5, 0.5, 0.25, 0.8],
        "target": [0.25, 0.75, 0.5, 0.4],
        "model_logged": [0.8, 0.2, 0.6, 1.0],
        "model_target": [0.5, 0.3, 0.7, 0.8],
    }
    return {name: np.tile(column, times) for name, column in rows.items()}


def test_four_rows_by_hand():
    found = evaluate(**four())
    assert values(found) == {
        "ips": pytest.approx(0.75),  # (0.5 + 0 + 2 + 0.5) / 4
        "snips": pytest.approx(2 / 3),  # 3 / 4.5
        "dm": pytest.approx(0.575),  # 2.3 / 4
        "dr": pytest.approx(0.725),  # (2.3 + 0.5 * 0.2 - 1.5 * 0.2 + 2 * 0.4 + 0.5 * 0) / 4 = 2.9 / 4
    }
    assert found.on_policy.value == pytest.approx(0.75)
    assert found.estimates.snips.lift.value == pytest.approx(2 / 3 - 3 / 4)
    assert found.weights.effective == pytest.approx(300), "4.5^2 / (0.25 + 2.25 + 4 + 0.25) = 3, a hundred times"
    assert (found.weights.largest, found.weights.mean.value) == (pytest.approx(2), pytest.approx(4.5 / 4))
    assert (found.rows, found.clusters, found.unusable) == (400, 400, ())


def test_without_a_model_there_is_neither_dm_nor_dr():
    rows = {name: column for name, column in four().items() if "model" not in name}
    found = evaluate(**rows)
    assert (found.estimates.dm, found.estimates.dr) == (None, None)
    assert found.estimates.snips == evaluate(**four()).estimates.snips
    assert found.verdict.startswith("SNIPS says of the target policy, against the one that logged: ")


def test_an_interval_is_as_wide_as_theory_has_it():
    """The mean of n independent rows has a standard error of s / sqrt(n), also where rows are drawn in groups."""
    for rows in (3_000, 30_000):
        log = logged(np.random.default_rng(5), rows)
        terms = log["target"] / log["propensity"] * log["reward"]
        found = evaluate(**log).estimates.ips.value
        assert found.high - found.low == pytest.approx(2 * 1.96 * terms.std() / sqrt(rows), rel=0.07)


def test_rows_of_one_cluster_are_drawn_together():
    """Ten copies of each row say no more than one of each, once it is known that they are copies."""
    log = logged(np.random.default_rng(6), 600)
    once = evaluate(**log)
    copies = {name: column.repeat(10) for name, column in log.items()}
    by_cluster = evaluate(**copies, cluster=np.arange(600).repeat(10).astype(str))
    assert (by_cluster.rows, by_cluster.clusters) == (6000, 600)
    assert by_cluster.weights.effective_clusters == pytest.approx(once.weights.effective)
    naive, honest, expected = (one.estimates.dr.value for one in (evaluate(**copies), by_cluster, once))
    assert honest.high - honest.low == pytest.approx(expected.high - expected.low, rel=0.1)
    assert naive.high - naive.low == pytest.approx((expected.high - expected.low) / sqrt(10), rel=0.1)


def test_the_same_seed_says_the_same():
    assert evaluate(**four()) == evaluate(**four())
    assert evaluate(**four()) != evaluate(**four(), seed=8)


@pytest.mark.slow
def test_intervals_cover_the_truth_nineteen_times_in_twenty():
    """Of 400 logs of 1,500 rows, 380 +- 3 * 4.4. DR's model is wrong here, and DM therefore wrong all the time."""
    draw, covered, seen_on_policy = np.random.default_rng(11), dict.fromkeys(ESTIMATORS, 0), 0
    for number in range(400):
        found = evaluate(**logged(draw, 1500, model=WRONG), resamples=400, seed=number)
        for name in ESTIMATORS:
            interval = getattr(found.estimates, name).value
            covered[name] += interval.low <= TRUTH <= interval.high
        seen_on_policy += found.on_policy.low <= ON_POLICY <= found.on_policy.high
    allowed = 3 * sqrt(400 * 0.95 * 0.05)
    for count in (covered["ips"], covered["snips"], covered["dr"], seen_on_policy):
        assert abs(count - 380) <= allowed
    assert covered["dm"] == 0


@pytest.mark.parametrize(
    ("model", "propensities", "unbiased", "biased"),
    [
        (WRONG, LOGGING, ("ips", "dr"), ("dm",)),
        (MEANS, np.full((3, 3), 1 / 3), ("dm", "dr"), ("ips",)),
        (WRONG, np.full((3, 3), 1 / 3), (), ("dm", "dr")),
    ],
    ids=["the model is wrong", "the propensities are wrong", "both are wrong"],
)
def test_dr_needs_only_one_of_model_and_propensities(model, propensities, unbiased, biased):
    """Over 300 logs the mean estimate is the truth, up to four standard errors, or is not."""
    draw = np.random.default_rng(12)
    logs = (logged(draw, 500, model, propensities) for _ in range(300))
    found = [values(evaluate(**log, resamples=2)) for log in logs]
    for name in unbiased + biased:
        drawn = np.array([one[name] for one in found])
        error = abs(drawn.mean() - TRUTH) / (drawn.std() / sqrt(len(drawn)))
        assert (error < 4) == (name in unbiased), name


def test_a_better_policy_is_said_to_be_better():
    found = evaluate(**logged(np.random.default_rng(13), 4000))
    assert ON_POLICY < TRUTH
    assert found.verdict.startswith("DR says of the target policy, against the one that logged: better: +")
    assert found.estimates.dr.lift.low > 0
    assert found.estimates.dr.lift.value == pytest.approx(TRUTH - ON_POLICY, abs=0.03)


def test_a_smaller_reward_is_said_to_be_worse():
    log = logged(np.random.default_rng(13), 4000)
    regrets = log | {name: 1 - log[name] for name in ("reward", "model_logged", "model_target")}
    assert ": worse: -" in evaluate(**regrets).verdict


def test_the_same_policy_is_no_different():
    log = logged(np.random.default_rng(14), 300)
    found = evaluate(log["reward"], log["propensity"], log["propensity"])
    assert found.estimates.snips.verdict == "no difference seen: +0 [+0, +0]"
    assert found.estimates.ips.value == found.on_policy
    assert (found.weights.effective, found.weights.mean.low, found.warnings) == (pytest.approx(300), 1.0, ())


def test_wrong_propensities_are_warned_of():
    found = evaluate(**logged(np.random.default_rng(15), 4000, propensities=np.full((3, 3), 1 / 3)))
    (warning,) = found.warnings
    assert warning.startswith("the mean weight is 1.")
    assert "where it should be 1: the propensities are wrong" in warning
    assert found.weights.mean.low > 1
    assert found.verdict.endswith("; the weights put it in doubt")
    right = [evaluate(**logged(np.random.default_rng(seed), 2000), resamples=400).warnings for seed in range(60)]
    assert sum(map(bool, right)) <= 10, "one in twenty, but for chance"


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-10, 10))
@settings(max_examples=30)
def test_units_change_no_estimate(seed, scale, shift):
    log = logged(np.random.default_rng(seed), 400)
    plain = evaluate(**log, resamples=20)
    rewards = ("reward", "model_logged", "model_target")
    scaled = evaluate(**log | {name: scale * log[name] for name in rewards}, resamples=20)
    moved = evaluate(**log | {name: log[name] + shift for name in rewards}, resamples=20)
    for name in ESTIMATORS:
        one, other = getattr(plain.estimates, name), getattr(scaled.estimates, name)
        assert other.value.value == pytest.approx(scale * one.value.value)
        assert other.lift.high == pytest.approx(scale * one.lift.high, abs=1e-9 * scale)
    for name in ("snips", "dm", "dr"):
        one, other = getattr(plain.estimates, name), getattr(moved.estimates, name)
        assert other.value.value == pytest.approx(one.value.value + shift, abs=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_a_model_that_knows_nothing_leaves_dr_what_ips_is(seed):
    log = logged(np.random.default_rng(seed), 400, model=np.zeros((3, 3)))
    found = evaluate(**log, resamples=20).estimates
    assert (found.dr, found.dm.value.value) == (found.ips, 0)
    order = np.random.default_rng(seed).permutation(400)
    again = values(evaluate(**{name: column[order] for name, column in log.items()}, resamples=20))
    assert again == pytest.approx({name: getattr(found, name).value.value for name in ESTIMATORS})


@pytest.mark.parametrize(
    ("rule", "says", "changed"),
    [
        ("few effective rows", "effective sample size is 75 of 100 rows, below 100", four(25)),
        # 9,999 weights of 0.001 and one of 1000: 1009.999^2 / (1e6 + 0.01)
        ("few effective rows", "effective sample size is 1.02 of 10,000 rows", {
            "reward": np.tile([0, 1], 5000), "propensity": np.array([0.001] + [1] * 9999),
            "target": np.array([1] + [0.001] * 9999),
        }),
        ("few effective rows", "effective sample size is 0 of 400 rows", four() | {"target": np.zeros(400)}),
        ("few effective clusters", "20 effective clusters, fewer than 30", four() | {
            "cluster": np.repeat(np.arange(20), 20),
        }),
        ("one heavy row", "one row weighs 201, more than all 200 rows", {
            "reward": np.tile([0, 1], 100), "propensity": np.full(200, 1 / 201), "target": np.ones(200),
        }),
        ("no support", "in 2 rows, the first is row 3,", {
            "reward": np.ones(400), "propensity": np.array([1, 1, 0, 0] + [1] * 396), "target": np.ones(400),
        }),
    ],
)  # fmt: skip
def test_a_log_that_says_nothing_is_unusable(rule, says, changed):
    found = evaluate(**changed)
    (broken,) = found.unusable
    assert (broken.rule, found.estimates) == (rule, None)
    assert says in broken.words
    assert found.verdict.startswith("unusable: ")
    assert broken.words in found.verdict
    assert (found.weights is None) == (rule == "no support")
    assert not found.warnings


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e-50])
def test_no_weight_is_too_small(scale):
    log = four() | {"target": scale * four()["target"]}
    found = evaluate(**log)
    assert found.weights.effective == pytest.approx(300, rel=1e-3)
    assert found.estimates.snips.value.value == pytest.approx(2 / 3, rel=1e-3)


def test_one_hundred_effective_rows_are_enough():
    log = {"reward": np.tile([0, 1], 50), "propensity": np.full(100, 0.5), "target": np.full(100, 0.5)}
    assert evaluate(**log).estimates is not None
    assert evaluate(**{name: column[1:] for name, column in log.items()}).estimates is None


@pytest.mark.parametrize(
    ("refused", "says", "changed"),
    [
        (ProbabilityRefused, "propensity is 1.5 in row 4;", {"propensity": 1.5}),
        (ProbabilityRefused, "propensity is -0.1 in row 4;", {"propensity": -0.1}),
        (ProbabilityRefused, "propensity is 0 in row 4;", {"propensity": 0, "target": 0}),
        (ProbabilityRefused, "target is 1.01 in row 4;", {"target": 1.01}),
        (ProbabilityRefused, "target is -1 in row 4;", {"target": -1}),
        (ValueRefused, "reward is nan in row 4, the first of 1 rows", {"reward": np.nan}),
        (ValueRefused, "reward is inf in row 4", {"reward": np.inf}),
        (ValueRefused, "propensity is nan in row 4", {"propensity": np.nan}),
        (ValueRefused, "target is nan in row 4", {"target": np.nan}),
        (ValueRefused, "model_logged is nan in row 4", {"model_logged": np.nan}),
        (ValueRefused, "model_target is 1e[+]101 in row 4", {"model_target": 1e101}),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_row(refused, says, changed):
    log = {name: column.astype(float) for name, column in four().items()}
    for name, value in changed.items():
        log[name][2] = value
    with pytest.raises(refused, match=says):
        evaluate(**log, first_row=2)


def test_columns_of_different_rows_are_refused():
    with pytest.raises(RowsRefused, match="reward 400, propensity 400, target 399,"):
        evaluate(**four() | {"target": np.ones(399)})
    with pytest.raises(RowsRefused, match="cluster 3"):
        evaluate(**four(), cluster=np.arange(3))
    with pytest.raises(RowsRefused, match="reward 0"):
        evaluate(np.array([]), np.array([]), np.array([]))
    for name in ("model_logged", "model_target"):
        with pytest.raises(ModelRefused, match="give both, or neither"):
            evaluate(**four() | {name: None})


def test_a_probability_may_be_rounded():
    log = four() | {"propensity": np.full(400, 1 + 1e-12), "target": np.full(400, 1 + 1e-12)}
    assert evaluate(**log).estimates.ips.value.value == pytest.approx(0.75)
