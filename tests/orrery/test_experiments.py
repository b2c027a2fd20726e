"""A/B tests judged: known answers, alarms without an effect, what has to hold for any data."""

from math import erfc, exp, sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from orrery.experiments import (
    AlphaRefused,
    MetricRefused,
    SharesRefused,
    VariantsRefused,
    analyze,
    cuped,
    holm,
    split_test,
    two_proportions,
    welch,
)
from orrery.sequential import always_valid_p, any_time, half_width, rows_needed

# Welch's test, Wikipedia's first example: t = -2.46, 24.99 degrees of freedom, p = 0.021
A1 = np.array([27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4])
A2 = np.array([27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4])
HALVES = np.repeat(["control", "treatment"], 100)
SAMPLES = st.lists(st.integers(-1000, 1000), min_size=2, max_size=30).map(lambda values: np.array(values, float))


def clicks(ones, rows):
    return np.repeat([1.0, 0.0], [ones, rows - ones])


def spread(rows, mean=0.0):
    """Rows of that mean with a sample variance of exactly 1."""
    return mean + np.tile([-1.0, 1.0], rows // 2) * sqrt((rows - 1) / rows)


def test_the_split_is_pearsons_chi_square():
    found = split_test({"control": 1000, "treatment": 1100})
    assert found.chi_square == pytest.approx(2 * 50**2 / 1050)
    assert found.p_value == pytest.approx(erfc(sqrt(2 * 50**2 / 1050 / 2))), "one degree of freedom"
    assert not found.mismatch, "p = 0.029"
    assert split_test({"control": 10_000, "treatment": 10_500}).mismatch, "250^2 / 10250 * 2 = 12.2, p = 0.0005"
    planned = split_test({"control": 900, "treatment": 100}, {"control": 0.9, "treatment": 0.1})
    assert (planned.chi_square, planned.p_value) == (pytest.approx(0), pytest.approx(1))


def test_two_proportions():
    # pooled 230 / 2000 = 0.115, error sqrt(0.115 * 0.885 * 2 / 1000) = 0.014267, z = 2.1027, p = 0.0355
    found = two_proportions(clicks(100, 1000), clicks(130, 1000))
    assert found.p_value == pytest.approx(erfc(0.03 / sqrt(0.115 * 0.885 / 500) / sqrt(2)))
    assert found.p_value == pytest.approx(0.0355, abs=5e-5)
    half = 1.959964 * sqrt((0.1 * 0.9 + 0.13 * 0.87) / 1000)
    assert (found.lift.low, found.lift.high) == (pytest.approx(0.03 - half), pytest.approx(0.03 + half))
    assert found.relative.value == pytest.approx(0.3)


def test_welch():
    found, known = welch(A1, A2), ttest_ind(A2, A1, equal_var=False)
    assert found.p_value == pytest.approx(0.021, abs=5e-4)
    assert found.p_value == pytest.approx(known.pvalue)
    ends = known.confidence_interval()
    assert (found.lift.low, found.lift.high) == (pytest.approx(ends.low), pytest.approx(ends.high))


def test_the_relative_interval_is_fiellers():
    """At its ends the difference of variant and (1 + end) controls is just what the interval allows."""
    found = welch(A1, A2)
    error = sqrt(A1.var(ddof=1) / 15 + A2.var(ddof=1) / 15)
    critical = (found.lift.high - found.lift.value) / error
    for end in (found.relative.low, found.relative.high):
        apart = abs(A2.mean() - (1 + end) * A1.mean())
        assert apart == pytest.approx(critical * sqrt(A2.var(ddof=1) / 15 + (1 + end) ** 2 * A1.var(ddof=1) / 15))
    assert welch(A1 - A1.mean(), A2).relative is None, "a control of 0 has no percent"
    below = welch(-A1, -A2)
    assert (below.relative.value < 0) == (below.lift.value < 0), "the size of a negative control counts, not its sign"


def test_power_is_the_textbooks():
    # n = 2 (1.959964 + 0.841621)^2 1^2 / 0.5^2 = 62.79
    found = welch(spread(50), spread(50, mean=0.5))
    assert found.needed == 63
    assert found.detectable == pytest.approx(2.801585 * sqrt(2 / 50))
    assert welch(spread(50), spread(50)).needed is None, "no lift, no number of rows that would see it"
    among_ten = welch(spread(50), spread(50, mean=0.5), family=10)
    assert among_ten.detectable == pytest.approx((2.807034 + 0.841621) * sqrt(2 / 50)), "the z of 0.05 / 10"


def test_cuped_takes_away_the_squared_correlation():
    x = np.tile([-1.0, -1.0, 1.0, 1.0], 50)
    noise = np.tile([-1.0, 1.0, -1.0, 1.0], 50)
    adjusted, found = cuped(3 * x + 4 * noise, x)
    assert found.theta == pytest.approx(3)
    assert found.reduction == pytest.approx(9 / 25), "correlation 3 / 5"
    assert adjusted == pytest.approx(4 * noise)
    assert found.useful
    _, useless = cuped(noise, x)
    assert (useless.reduction, useless.useful) == (pytest.approx(0), False)


def test_holm():
    # sorted: 0.005 * 4 = 0.02, 0.01 * 3 = 0.03, 0.03 * 2 = 0.06, and 0.04 * 1 may not be below it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_mixture_in_closed_form():
    # sqrt(0.01 / 0.02) exp(0.2^2 0.1^2 / (2 * 0.01 * 0.02)) = 0.7071 e, and p is one over it
    assert always_valid_p(0.2, 0.01, 0.1) == pytest.approx(sqrt(2) / exp(1))
    assert always_valid_p(0.0, 0.01, 0.1) == 1.0
    assert always_valid_p(half_width(0.01, 0.1, 0.03), 0.01, 0.1) == pytest.approx(0.03), "p and interval agree"


def test_the_rows_a_look_needs():
    rows = rows_needed(0.5, 2.0, 0.1, 0.05, 0.841621)
    reach = [half_width(2 / n, 0.1, 0.05) + 0.841621 * sqrt(2 / n) for n in (rows - 1, rows)]
    assert reach[1] <= 0.5 < reach[0]
    assert rows_needed(1e-12, 2.0, 0.1, 0.05, 0.84) is None
    assert rows_needed(100.0, 2.0, 0.1, 0.05, 0.84) == 2


def spending(draw):
    """600 units without an effect: what they spend is skewed, and half of its variance is what they spent before."""
    older = draw.exponential(size=600)
    return {"spent": older + draw.exponential(size=600)}, older


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "drawn"),
    [
        ("two-proportion z", lambda draw: ({"clicked": draw.binomial(1, 0.2, 600)}, None)),
        ("Welch's t", lambda draw: (spending(draw)[0], None)),
        ("Welch's t", spending),
    ],
    ids=["z", "Welch", "CUPED"],
)
def test_without_an_effect_one_in_twenty_raises_an_alarm(method, drawn):
    """Over 500 tests 5 +/- 3 % is three standard errors; with 200, one seed in twenty would leave that band."""
    draw, variants, alarms = np.random.default_rng(20), np.tile(["control", "treatment"], 300), 0
    for _ in range(500):
        metrics, covariate = drawn(draw)
        (one,) = analyze(variants, metrics, covariate=covariate).comparisons
        assert (one.outcome.method, one.cuped is None) == (method, covariate is None)
        alarms += one.significant
    assert 0.02 <= alarms / 500 <= 0.08


@pytest.mark.slow
def test_ten_metrics_together_raise_an_alarm_one_time_in_twenty():
    draw, variants = np.random.default_rng(22), np.tile(["control", "treatment"], 200)
    found = [analyze(variants, {f"m{n}": draw.normal(size=400) for n in range(10)}).comparisons for _ in range(150)]
    plain = [any(one.outcome.p_value < 0.05 for one in each) for each in found]
    assert np.mean(plain) > 0.25, "1 - 0.95^10 = 40 %"
    assert np.mean([any(one.significant for one in each) for each in found]) <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize(
    "drawn", [lambda draw: draw.normal(5, 2, (2, 2000)), lambda draw: draw.binomial(1, 0.2, (2, 2000))]
)
def test_twenty_looks_fool_the_fixed_test_and_not_the_sequential_one(drawn):
    draw, looks = np.random.default_rng(21), range(100, 2001, 100)
    fooled = {welch: 0, any_time: 0}
    for _ in range(200):
        one, other = drawn(draw)
        for test in fooled:
            fooled[test] += any(test(one[:rows], other[:rows]).p_value < 0.05 for rows in looks)
    assert fooled[welch] / 200 > 0.10
    assert fooled[any_time] / 200 <= 0.05


@pytest.mark.parametrize("test", [welch, any_time])
@given(SAMPLES, SAMPLES)
def test_swapping_the_variants_flips_the_lift(test, one, other):
    assume(np.ptp(one) + np.ptp(other) > 0)
    there, back = test(one, other), test(other, one)
    assert there.p_value == pytest.approx(back.p_value)
    assert (there.lift.value, there.lift.low) == (pytest.approx(-back.lift.value), pytest.approx(-back.lift.high))


@pytest.mark.parametrize("test", [welch, any_time])
@given(SAMPLES, SAMPLES, st.floats(1e-6, 1e6))
def test_a_larger_unit_changes_no_p_value(test, one, other, scale):
    assume(np.ptp(one) + np.ptp(other) > 0)
    small, large = test(one, other), test(scale * one, scale * other)
    assert large.p_value == pytest.approx(small.p_value, rel=1e-6)
    assert large.lift.value == pytest.approx(scale * small.lift.value, abs=1e-9 * scale)
    assert large.detectable == pytest.approx(scale * small.detectable)


@pytest.mark.parametrize("peek", [False, True])
@pytest.mark.parametrize("scale", [1e-90, 1e-40, 1e40, 1e99])
def test_no_unit_is_too_large_or_too_small(scale, peek):
    values = np.concatenate([spread(100, 1), spread(100, 1.5)])
    (one,), (scaled,) = (analyze(HALVES, {"m": each}, peek=peek).comparisons for each in (values, scale * values))
    assert scaled.outcome.p_value == pytest.approx(one.outcome.p_value)
    assert (scaled.verdict, scaled.outcome.needed) == (one.verdict, one.outcome.needed)


@given(SAMPLES, SAMPLES)
def test_interval_and_p_value_agree(one, other):
    assume(np.ptp(one) + np.ptp(other) > 0)
    for found in (welch(one, other), any_time(one, other)):
        assume(abs(found.p_value - 0.05) > 1e-6)
        assert (found.lift.low > 0 or found.lift.high < 0) == (found.p_value < 0.05)
        if found.relative:
            assert (found.relative.low > 0 or found.relative.high < 0) == (found.p_value < 0.05)


def test_a_better_variant_is_said_to_be_better():
    found = analyze(HALVES, {"spent": np.concatenate([spread(100, 10), spread(100, 11)])})
    (one,) = found.comparisons
    assert one.verdict.startswith("treatment is better: +10.0 % [+7.")
    assert (one.control_mean, one.variant_mean) == (pytest.approx(10), pytest.approx(11))
    assert found.verdict == "1 of 1 comparisons show a difference"
    worse = analyze(HALVES, {"spent": np.concatenate([spread(100, 10), spread(100, 11)])}, control="treatment")
    assert worse.comparisons[0].verdict.startswith("control is worse: -9.1 %")


def test_no_difference_says_what_would_have_been_seen():
    values = np.concatenate([spread(100, 10), spread(100, 10.1)])
    (one,) = analyze(HALVES, {"spent": values}).comparisons
    # 2.801585 sqrt(2 / 100) = 0.3962 of 10
    assert one.verdict == "no difference seen; this test would have seen 3.96 % or more"
    (one,) = analyze(HALVES, {"spent": values - values[:100].mean()}).comparisons
    assert one.verdict == "no difference seen; this test would have seen 0.396 or more"


def test_a_lucky_one_among_many_does_not_stand():
    lucky = np.concatenate([spread(100, 10), spread(100, 10.3)])
    others = {f"m{number}": np.concatenate([spread(100), spread(100)]) for number in range(9)}
    one = analyze(HALVES, {"lucky": lucky, **others}).comparisons[0]
    assert one.outcome.p_value < 0.05 < one.p_adjusted
    assert one.p_adjusted == pytest.approx(10 * one.outcome.p_value)
    assert one.verdict.startswith("no difference seen that stands among 10 comparisons; this test would have seen")


def test_the_kind_of_metric_chooses_the_test():
    metrics = {
        "clicked": np.concatenate([clicks(10, 100), clicks(20, 100)]),
        "spent": np.tile([1.0, 2.0, 4.0, 5.0], 50),
    }
    assert [one.outcome.method for one in analyze(HALVES, metrics).comparisons] == ["two-proportion z", "Welch's t"]
    peeked = analyze(HALVES, metrics, peek=True).comparisons
    assert {one.outcome.method for one in peeked} == {"mSPRT"}
    assert peeked[0].outcome.tau == pytest.approx(0.1 * sqrt((0.09 + 0.16) / 2 * 100 / 99))


def test_the_covariate_decides_and_the_plain_test_is_shown_beside():
    draw = np.random.default_rng(3)
    older = draw.normal(size=200)
    values = 5 + 3 * older + draw.normal(size=200)
    (one,) = analyze(HALVES, {"spent": values}, covariate=older).comparisons
    assert one.cuped.reduction == pytest.approx(np.corrcoef(values, older)[0, 1] ** 2)
    assert one.raw == welch(values[:100], values[100:])
    assert one.outcome.detectable < 0.5 * one.raw.detectable
    assert one.p_adjusted == one.outcome.p_value


def test_several_variants_are_each_compared_with_the_control():
    variants = np.repeat(["b", "a", "c"], 50)
    found = analyze(variants, {"spent": np.tile([1.0, 2.0], 75), "seen": np.tile([1.0, 3.0], 75)})
    assert found.control == "a", "the first by name"
    pairs = [(one.metric, one.variant) for one in found.comparisons]
    assert pairs == [("spent", "b"), ("spent", "c"), ("seen", "b"), ("seen", "c")]


def test_after_a_mismatch_nothing_else_is_said():
    found = analyze(np.repeat(["a", "b"], [200, 100]), {"spent": np.tile([1.0, 2.0], 150)})
    assert found.split.mismatch
    assert not found.comparisons
    assert "nothing else may be believed" in found.verdict


@pytest.mark.parametrize(
    ("refused", "says", "changed"),
    [
        (AlphaRefused, "alpha 1 ", {"alpha": 1.0}),
        (AlphaRefused, "alpha nan", {"alpha": float("nan")}),
        (VariantsRefused, "only variant is a", {"variants": np.repeat(["a"], 200)}),
        (VariantsRefused, "b has fewer than 2", {"variants": np.array(["a"] * 199 + ["b"])}),
        (VariantsRefused, "200 variants are more", {"variants": np.arange(200).astype(str)}),
        (VariantsRefused, "no variant x", {"control": "x"}),
        (SharesRefused, "sum to 0.9", {"expected": {"control": 0.5, "treatment": 0.4}}),
        (SharesRefused, "above 0", {"expected": {"control": 1.5, "treatment": -0.5}}),
        (SharesRefused, "sum to nan", {"expected": {"control": 0.5, "treatment": float("nan")}}),
        (SharesRefused, "differ in other", {"expected": {"control": 0.5, "treatment": 0.4, "other": 0.1}}),
        (SharesRefused, "differ in treatment", {"expected": {"control": 1.0}}),
        (MetricRefused, "constant, 3", {"metrics": {"m": np.full(200, 3.0)}}),
        (MetricRefused, "within control and within treatment", {"metrics": {"m": (HALVES == "control").astype(float)}}),
        (MetricRefused, "2 missing or infinite values, the first in row 6", {
            "metrics": {"m": np.array([1, 2, 3, 4, np.nan, np.inf] + [1, 2] * 97)}, "first_row": 2,
        }),
        (MetricRefused, "beyond", {"metrics": {"m": np.tile([1e200, 1.0], 100)}}),
        (MetricRefused, "covariate is constant", {"covariate": np.ones(200)}),
        (MetricRefused, "covariate is m itself", {"covariate": np.tile([1.0, 2.0], 100)}),
    ],
)  # fmt: skip
def test_what_cannot_be_tested_is_refused(refused, says, changed):
    given = {"variants": HALVES, "metrics": {"m": np.tile([1.0, 2.0], 100)}} | changed
    with pytest.raises(refused, match=says):
        analyze(given.pop("variants"), given.pop("metrics"), **given)
