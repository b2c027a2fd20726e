"""Judges an A/B test: the split of its rows, lifts with intervals, CUPED, Holm, power, and a verdict in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite, sqrt

import numpy as np

from orrery.errors import OrreryError
from orrery.sequential import POWER, Moments, Outcome, any_time, outcome
from orrery.usecase import Array

MISMATCH = 0.001
"""a sample ratio less likely than this is a fault of the experiment"""
MOST_VARIANTS = 20
LARGEST = 1e100
"""beyond it squares are no numbers"""
USEFUL = 0.01
"""CUPED that takes away less of the variance than this is said to be of no use"""
_MISMATCH_WORDS = "sample ratio mismatch (p = {:.2g}): nothing else may be believed; find what lost or added rows"


class VariantsRefused(OrreryError):
    """The rows are not those of two or more variants."""


class SharesRefused(OrreryError):
    """The expected shares do not fit the variants."""


class MetricRefused(OrreryError):
    """A metric or covariate cannot be tested."""


class AlphaRefused(OrreryError):
    """The level is not between 0 and 1."""


@dataclass(frozen=True)
class Split:
    """Rows by variant against the expected shares: Pearson's chi-square test."""

    rows: Mapping[str, int]
    expected: Mapping[str, float]
    chi_square: float
    p_value: float
    mismatch: bool


@dataclass(frozen=True)
class Cuped:
    """What a covariate explains: its slope, and the share of the variance that it takes away."""

    theta: float
    reduction: float
    useful: bool


@dataclass(frozen=True)
class Comparison:
    """One metric, one variant against the control. `raw` is the test without the covariate, where there is one."""

    metric: str
    variant: str
    control: str
    control_mean: float
    variant_mean: float
    outcome: Outcome
    raw: Outcome | None
    cuped: Cuped | None
    p_adjusted: float = 1.0
    significant: bool = False
    verdict: str = ""


@dataclass(frozen=True)
class Analysis:
    """A whole test. After a mismatch there are no comparisons."""

    split: Split
    control: str
    alpha: float
    peek: bool
    comparisons: Sequence[Comparison]
    verdict: str


def split_test(rows: Mapping[str, int], expected: Mapping[str, float] | None = None) -> Split:
    """Compare rows by variant with expected shares, equal ones by default. Raises SharesRefused.

    Below p = 0.001 it is a mismatch: Fabijan et al., "Diagnosing Sample Ratio Mismatch", KDD 2019.
    """
    from scipy.stats import chisquare

    shares = dict(expected or dict.fromkeys(rows, 1 / len(rows)))
    if wrong := sorted(shares.keys() ^ rows.keys()):
        raise SharesRefused(f"expected shares and variants differ in {', '.join(wrong)}; name {', '.join(rows)}")
    if min(shares.values()) <= 0 or not abs(sum(shares.values()) - 1) < 1e-6:
        raise SharesRefused(f"the expected shares sum to {sum(shares.values()):.6g}; they are above 0 and sum to 1")
    seen, total = np.array(list(rows.values()), float), sum(rows.values())
    found = chisquare(seen, np.array([shares[name] for name in rows]) / sum(shares.values()) * total)
    p_value = float(found.pvalue)
    return Split(dict(rows), shares, float(found.statistic), p_value, p_value < MISMATCH)


def two_proportions(control: Array, variant: Array, alpha: float = 0.05, family: int = 1) -> Outcome:
    """The pooled z test of two samples of 0 and 1, shapes (n,) and (m,); the interval is Wald's, not pooled.

    Source: Fleiss, Levin, Paik, "Statistical Methods for Rates and Proportions", 2003, section 3.1. `family`: how many
    comparisons there are; the power is that of a test at alpha / family.
    """
    from scipy.stats import norm

    first, second = Moments.of(control, 0), Moments.of(variant, 0)
    pooled = (control.sum() + variant.sum()) / (first.rows + second.rows)
    error = sqrt(pooled * (1 - pooled) * (1 / first.rows + 1 / second.rows))
    p_value = 2 * float(norm.sf(abs(second.mean - first.mean) / error))
    return _fixed("two-proportion z", first, second, p_value, float(norm.isf(alpha / 2)), alpha / family)


def welch(control: Array, variant: Array, alpha: float = 0.05, family: int = 1) -> Outcome:
    """The t test of two samples with variances of their own, shapes (n,) and (m,), by Welch, Biometrika 34, 1947."""
    from scipy.stats import t

    first, second = Moments.of(control), Moments.of(variant)
    parts = np.array([first.squared_error, second.squared_error])
    weights = parts / parts.sum()
    freedom = 1 / (weights**2 / np.array([first.rows - 1, second.rows - 1])).sum()
    p_value = 2 * float(t.sf(abs(second.mean - first.mean) / sqrt(parts.sum()), freedom))
    return _fixed("Welch's t", first, second, p_value, float(t.isf(alpha / 2, freedom)), alpha / family)


def cuped(values: Array, covariate: Array) -> tuple[Array, Cuped]:
    """Values less what the covariate explains, shape (n,), and how much that is: all rows of all variants pooled.

    The variance falls by the squared correlation. The covariate must be older than the experiment. Source: Deng, Xu,
    Kohavi, Walker, "Improving the Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment Data", 2013.
    """
    centred = covariate - covariate.mean()
    theta = float(centred @ (values - values.mean()) / (centred @ centred))
    adjusted = values - theta * centred
    reduction = float(1 - adjusted.var() / values.var())
    return adjusted, Cuped(theta, reduction, reduction >= USEFUL)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several, in their order, by Holm, Scandinavian Journal of Statistics 6, 1979."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def _fixed(method: str, control: Moments, variant: Moments, p_value: float, critical: float, level: float) -> Outcome:
    """The outcome of a test at the end; power by n = (z_a + z_b)^2 (s_1^2 + s_2^2) / d^2."""
    from scipy.stats import norm

    lift, error = variant.mean - control.mean, sqrt(control.squared_error + variant.squared_error)
    reach = float(norm.isf(level / 2) + norm.ppf(POWER))
    rows = reach**2 * (control.variance + variant.variance) / lift**2 if lift else None
    needed = max(2, ceil(rows)) if rows is not None and isfinite(rows) else None
    return outcome(method, control, variant, p_value, critical * error, reach * error, needed)


def analyze(
    variants: Array,
    metrics: Mapping[str, Array],
    *,
    covariate: Array | None = None,
    expected: Mapping[str, float] | None = None,
    control: str = "",
    alpha: float = 0.05,
    peek: bool = False,
    first_row: int = 1,
) -> Analysis:
    """Judge every metric of every variant against the control: by default `control`, else the first by name.

    `variants` are names, `metrics` and `covariate` numbers, each of shape (n,), one row a unit; `first_row` is what
    errors call the first of them. With a covariate the test is CUPED's, chosen before any result is seen. Raises
    VariantsRefused, SharesRefused, MetricRefused, AlphaRefused.
    """
    if not 0 < alpha < 1:
        raise AlphaRefused(f"alpha {alpha:g} is not between 0 and 1; 0.05 is usual")
    names, codes = np.unique(variants.astype(str), return_inverse=True)
    rows = dict(zip(names.tolist(), np.bincount(codes).tolist(), strict=True))
    against = _control(rows, control)
    members = {name: codes == code for code, name in enumerate(rows)}
    split = split_test(rows, expected)
    checked = {name: _checked(name, values, members, against, first_row) for name, values in metrics.items()}
    older = None if covariate is None else _checked("the covariate", covariate, {}, "", first_row)
    if split.mismatch:
        return Analysis(split, against, alpha, peek, (), _MISMATCH_WORDS.format(split.p_value))
    found = _comparisons(checked, older, members, against, alpha, peek)
    adjusted = holm([one.outcome.p_value for one in found])
    judged = tuple(_judged(one, p, alpha, len(found)) for one, p in zip(found, adjusted, strict=True))
    seen = sum(one.significant for one in judged)
    return Analysis(split, against, alpha, peek, judged, f"{seen} of {len(judged)} comparisons show a difference")


def _control(rows: Mapping[str, int], wanted: str) -> str:
    """The control's name, once the variants are worth a test."""
    if len(rows) > MOST_VARIANTS:
        raise VariantsRefused(f"{len(rows):,} variants are more than {MOST_VARIANTS}; is this the variant's column?")
    if len(rows) < 2:
        raise VariantsRefused(f"the only variant is {', '.join(rows) or 'none'}; a test compares two or more")
    if few := [name for name, count in rows.items() if count < 2]:
        raise VariantsRefused(f"variant {few[0]} has fewer than 2 rows; wait for more, or leave it out")
    if wanted and wanted not in rows:
        raise VariantsRefused(f"there is no variant {wanted} to be the control; there are {', '.join(rows)}")
    return wanted or ("control" if "control" in rows else min(rows))


def _checked(name: str, values: Array, members: Mapping[str, Array], control: str, first_row: int) -> Array:
    """The values as float64, once they can be tested."""
    numbers = values.astype(np.float64)
    if bad := np.flatnonzero(~np.isfinite(numbers)).tolist():
        wrong = f"{len(bad):,} missing or infinite values, the first in row {bad[0] + first_row}"
        raise MetricRefused(f"{name} has {wrong}; say what they mean, or leave such units out of every variant")
    most = np.abs(numbers).max()
    if most > LARGEST:
        raise MetricRefused(f"{name} has values beyond {LARGEST:g}; give it in a larger unit")
    least = max(most * 1e-12, 1 / LARGEST)
    if np.ptp(numbers) <= least:
        raise MetricRefused(f"{name} is constant, {numbers[0]:g}; there is nothing to test")
    still = [one for one, rows in members.items() if np.ptp(numbers[rows]) <= least]
    if control in still and len(still) > 1:
        raise MetricRefused(f"{name} is constant within {' and within '.join(still)}; without spread there is no test")
    return numbers


def _comparisons(
    metrics: Mapping[str, Array], covariate: Array | None, members: Mapping[str, Array], control: str,
    alpha: float, peek: bool,
) -> list[Comparison]:  # fmt: skip
    """Every metric of every variant, not judged yet."""
    found, family = [], len(metrics) * (len(members) - 1)
    for metric, values in metrics.items():
        plain = any_time if peek else two_proportions if np.isin(values, (0, 1)).all() else welch
        adjusted, explained = (values, None) if covariate is None else cuped(values, covariate)
        for variant in (name for name in members if name != control):
            one, other = members[control], members[variant]
            if explained and adjusted[one].std() + adjusted[other].std() <= 1e-9 * values.std():
                raise MetricRefused(f"the covariate is {metric} itself; name what was known before the experiment")
            raw = plain(values[one], values[other], alpha, family)
            better = (any_time if peek else welch)(adjusted[one], adjusted[other], alpha, family)
            means = float(values[one].mean()), float(values[other].mean())
            chosen, beside = (better, raw) if explained else (raw, None)
            found.append(Comparison(metric, variant, control, *means, chosen, beside, explained))
    return found


def _judged(one: Comparison, p_adjusted: float, alpha: float, family: int) -> Comparison:
    """With what its p-value says among all of them."""
    result, significant = one.outcome, p_adjusted < alpha
    if significant:
        verdict = f"{one.variant} is {'better' if result.lift.value > 0 else 'worse'}: {interval_words(result)}"
    else:
        among = f" that stands among {family} comparisons" if result.p_value < alpha else ""
        share = result.detectable_relative
        least = f"{result.detectable:.3g}" if share is None else f"{100 * share:.3g} %"
        verdict = f"no difference seen{among}; this test would have seen {least} or more"
    return replace(one, p_adjusted=p_adjusted, significant=significant, verdict=verdict)


def interval_words(found: Outcome) -> str:
    """A lift with its interval: in percent of the control, or in units of the metric where that cannot be said."""
    if found.relative is None:
        return f"{found.lift.value:+.3g} [{found.lift.low:+.3g}, {found.lift.high:+.3g}]"
    value, low, high = (100 * part for part in (found.relative.value, found.relative.low, found.relative.high))
    return f"{value:+.1f} % [{low:+.1f} %, {high:+.1f} %]"
