"""A test that may be looked at whenever one likes: the mixture sequential probability ratio test, mSPRT.

Source: Johari, Koomen, Pekelis, Walsh, "Peeking at A/B Tests", KDD 2017, with normal mixing. Without a lift, one
measured with variance V is N(0, V); under the mixture it is N(0, V + tau^2). It needs rows enough for means to be
normal, some hundred a variant, and the same tau at every look.
"""

from dataclasses import dataclass
from math import ceil, exp, log, sqrt

from orrery.usecase import Array

POWER = 0.8
"""at which an effect counts as detectable"""
TAU = 0.1
"""mixture of the sequential test, in standard deviations of a row"""
_MOST_ROWS = 1e15


@dataclass(frozen=True)
class Interval:
    """A value between two ends."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcome:
    """A variant less its control, in units of the metric; `relative` in shares of the control's size, if it has one.

    `detectable` is seen with 80 % power at these rows; `needed` rows per variant see the lift that was observed.
    """

    method: str
    lift: Interval
    relative: Interval | None
    p_value: float
    detectable: float
    detectable_relative: float | None
    needed: int | None
    tau: float | None = None


@dataclass(frozen=True)
class Moments:
    """What a test needs of one sample."""

    rows: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: Array, ddof: int = 1) -> "Moments":
        """Of values, shape (n,), the variance over n - ddof."""
        return cls(len(values), float(values.mean()), float(values.var(ddof=ddof)))

    @property
    def squared_error(self) -> float:
        """Of the mean."""
        return self.variance / self.rows


def always_valid_p(lift: float, variance: float, tau: float) -> float:
    """The chance, at most, that any look ever sees evidence like this without a lift: 1 / likelihood ratio.

    `lift` and `tau` in units of the metric, `variance` of the lift in their square, above 0.
    """
    spread = variance + tau**2
    return min(1.0, exp(0.5 * log(spread / variance) - lift**2 / variance * (tau**2 / spread) / 2))


def half_width(variance: float, tau: float, alpha: float) -> float:
    """Half of the confidence sequence, in units of the metric: where `always_valid_p` is alpha."""
    spread = variance + tau**2
    return sqrt(variance * (spread / tau**2) * (2 * log(1 / alpha) + log(spread / variance)))


def rows_needed(lift: float, variances: float, tau: float, alpha: float, quantile: float) -> int | None:
    """Rows per variant at which one look sees this lift; None past 10^15.

    `variances`: of a row in both variants, summed; `quantile`: the normal one of the power, 0.84 for 80 %.
    """
    from scipy.optimize import brentq

    def short_of(log_rows: float) -> float:
        variance = variances / exp(log_rows)
        return half_width(variance, tau, alpha) + quantile * sqrt(variance) - abs(lift)

    low, high = log(2), log(_MOST_ROWS)
    if short_of(high) > 0:
        return None
    return 2 if short_of(low) <= 0 else ceil(exp(brentq(short_of, low, high)))


def any_time(control: Array, variant: Array, alpha: float = 0.05, family: int = 1) -> Outcome:
    """The mSPRT of two samples, shapes (n,) and (m,), with tau = 0.1 standard deviations.

    Power and needed rows are those of one look; the relative interval is an approximation.
    """
    from scipy.stats import norm

    first, second = Moments.of(control), Moments.of(variant)
    variance, quantile = first.squared_error + second.squared_error, float(norm.ppf(POWER))
    lift, variances, level = second.mean - first.mean, first.variance + second.variance, alpha / family
    tau = TAU * sqrt(variances / 2)
    return outcome(
        "mSPRT", first, second,
        p_value=always_valid_p(lift, variance, tau),
        half=half_width(variance, tau, alpha),
        detectable=half_width(variance, tau, level) + quantile * sqrt(variance),
        needed=rows_needed(lift, variances, tau, level, quantile) if lift else None,
        tau=tau,
    )  # fmt: skip


def outcome(
    method: str, control: Moments, variant: Moments, p_value: float, half: float, detectable: float,
    needed: int | None, tau: float | None = None,
) -> Outcome:  # fmt: skip
    """An outcome from its parts; `half` is half of the interval, in units of the metric."""
    lift = variant.mean - control.mean
    relative = _relative(control, variant, half)
    share = detectable / abs(control.mean) if relative else None
    return Outcome(method, Interval(lift, lift - half, lift + half), relative, p_value, detectable, share, needed, tau)


def _relative(control: Moments, variant: Moments, half: float) -> Interval | None:
    """Fieller's interval of the lift over the control's size: it leaves out 0 exactly where the lift's does.

    None where the control's mean may be 0. Source: Fieller, Journal of the Royal Statistical Society B 16, 1954.
    """
    square = half**2 / (control.squared_error + variant.squared_error)
    first, second = square * control.squared_error, square * variant.squared_error
    below = control.mean**2 - first
    if below <= 1e-12 * control.mean**2:
        return None
    centre = control.mean * variant.mean / below
    reach = sqrt(max(centre**2 - (variant.mean**2 - second) / below, 0))
    ends = [centre - reach - 1, variant.mean / control.mean - 1, centre + reach - 1]
    low, value, high = ends if control.mean > 0 else [-end for end in reversed(ends)]
    return Interval(value, low, high)
