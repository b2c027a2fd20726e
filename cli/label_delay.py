"""`--label-delay 7d` or `lognormal:7d,0.5`: when the labels of a replay arrive, instead of when the data set says."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Any

from orrery.errors import OrreryError
from orrery.usecase import Serving, Training

SIGMA = 0.5
"""of the logarithm, where none is said: two labels of three within 0.6 to 1.65 times the median"""
_DISTRIBUTION = "lognormal"
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_TAIL = 0.999
"""the share of labels that come by their own time; the slowest are cut there, so that a replay knows how far back to
look for labels that arrive in it"""
_MOST_SIGMA, _LONGEST = 3.0, timedelta(days=3_650)
_Said = tuple[datetime, Any, Any]


class DelayRefused(OrreryError):
    """It is no delay, or the use case's labels have none."""


@dataclass(frozen=True)
class LabelDelay:
    """How long a label takes from its event: always the median, or around it where sigma is not 0."""

    median: timedelta
    sigma: float = 0.0
    """standard deviation of the delay's natural logarithm"""

    @classmethod
    def read(cls, text: str, training: Training) -> "LabelDelay":
        """Read 7d, lognormal or lognormal:MEDIAN,SIGMA. Raises DelayRefused."""
        if not training.label_delay:
            raise DelayRefused(f"--label-delay {text}: labels here are what users do, at the moment they do it")
        kind, colon, rest = text.partition(":")
        if kind != _DISTRIBUTION:
            return cls(_span(text, text))
        if not colon:
            return cls(training.label_delay, SIGMA)
        median, comma, sigma = rest.partition(",")
        return cls(_span(median, text), _sigma(sigma, text) if comma else SIGMA)

    @property
    def longest(self) -> timedelta:
        """No label takes longer."""
        return self._at(_TAIL)

    def of(self, identity: str) -> timedelta:
        """How long the label of an event takes, the same each time it is asked."""
        drawn = int.from_bytes(hashlib.sha256(f"label delay of {identity}".encode()).digest()[:8]) / 2**64
        return self._at(min(max(drawn, 1 - _TAIL), _TAIL))

    def _at(self, share: float) -> timedelta:
        return self.median * math.exp(self.sigma * NormalDist().inv_cdf(share))


def delayed(said: Sequence[_Said], delay: LabelDelay, serving: Serving) -> list[_Said]:
    """A history of (moment, kind, body) with labels that arrive when the delay says, in order; requests come first.

    Raises DelayRefused when the use case's labels do not say when they arrived.
    """
    asked = {serving.identity(body): moment for moment, kind, body in said if kind == "predict"}
    moved: list[_Said] = []
    for moment, kind, body in said:
        identity = serving.identity(body)
        if kind == "feedback" and identity in asked:
            arrival = asked[identity] + delay.of(identity)
            moved.append((arrival, kind, _arriving(body, arrival, serving)))
        else:
            moved.append((moment, kind, body))
    return sorted(moved, key=lambda event: (event[0], event[1] == "feedback"))


def _arriving(body: Any, arrival: datetime, serving: Serving) -> Any:
    """The same label, arrived at another moment, by whatever name its model has for that."""
    for name, value in body:
        if isinstance(value, datetime):
            moved = body.model_copy(update={name: arrival})
            if serving.label_arrival(moved) == arrival:
                return moved
    raise DelayRefused(f"a {type(body).__name__} does not say when it arrived, so it cannot arrive at another time")


def _span(text: str, whole: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([dhm])", text)
    span = timedelta(**{_UNITS[found[2]]: float(found[1])}) if found else timedelta(0)
    if not timedelta(0) < span <= _LONGEST:
        raise DelayRefused(
            f"--label-delay {whole}: {text!r} is no delay up to {_LONGEST.days:,} days; write 7d, 36h or 90m, "
            f"{_DISTRIBUTION}, or {_DISTRIBUTION}:MEDIAN,SIGMA such as {_DISTRIBUTION}:7d,0.5"
        )
    return span


def _sigma(text: str, whole: str) -> float:
    try:
        sigma = float(text)
    except ValueError:
        sigma = math.nan
    if not 0 < sigma <= _MOST_SIGMA:
        raise DelayRefused(
            f"--label-delay {whole}: sigma {text!r} is no number above 0 and up to {_MOST_SIGMA:g}; 0.5 is usual"
        )
    return sigma
