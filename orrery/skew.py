"""What a sample of a window's answers says of the features they were given: are they the offline ones, and how old."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class ViewSkew:
    """Served features beside those of one offline view."""

    rows: int
    """compared"""
    differing: int
    """of these, with at least one feature that differs"""
    features: Mapping[str, int]
    """feature -> rows in which it differs; every feature of the view is named"""

    def share(self, differing: int) -> float:
        return differing / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Ages:
    """How old the stored values of one online view were, when they were used: event time against event time."""

    median_seconds: float
    late_seconds: float
    """95 in 100 were younger"""


@dataclass(frozen=True)
class Skew:
    """One window of a use case's traffic, in event time: a sample of its answers, computed again offline."""

    use_case: str
    first: datetime
    last: datetime
    """first <= event time < last"""
    sampled: int
    degraded: int
    """of the sample: the model did not answer with its features"""
    unknown: int
    """of the sample: nobody can say what they should have been"""
    views: Mapping[str, ViewSkew] = field(default_factory=dict)
    """offline view -> comparison; empty: nothing could be compared"""
    ages: Mapping[str, Ages] = field(default_factory=dict)
    """online view -> ages, where any row had values"""
    reason: str = ""
    """why rows are unknown"""

    @property
    def compared(self) -> int:
        return self.sampled - self.degraded - self.unknown

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=lambda moment: moment.isoformat())

    @classmethod
    def from_json(cls, text: str) -> "Skew":
        values: dict[str, Any] = json.loads(text)
        values["first"], values["last"] = (datetime.fromisoformat(values[each]) for each in ("first", "last"))
        values["views"] = {name: ViewSkew(**each) for name, each in values["views"].items()}
        values["ages"] = {name: Ages(**each) for name, each in values["ages"].items()}
        return cls(**values)
