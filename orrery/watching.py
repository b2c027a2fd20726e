"""How served traffic is watched, and what the watch says of a window: values that pass to its log and its readers."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from orrery.usecase import Array

MATURE = 0.9
"""the share of a window's rows whose label has arrived from which its realised quality counts"""
State = Literal["no data", "few rows", "stable", "drift"]
Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Measure:
    """How far a window is from what the model was judged on, in a way that no single column shows."""

    feature: str
    """what of the traffic; no input has that name"""
    method: str
    value: float
    threshold: float
    """what less than one window in a thousand without drift exceeds at this number of rows"""

    @property
    def drifted(self) -> bool:
        return self.value > self.threshold


Sample = Mapping[str, "Array"]
"""Rows by the name of what they hold: arrays of the same first axis, a few values a row."""


@dataclass(frozen=True)
class Impressions:
    """Lists as they were shown, a row a shown item; arrays of shape (n,)."""

    lists: "Array"
    """of which list it is a row: numbers or names"""
    items: "Array"
    """numbers or names"""
    ranks: "Array"
    """1 is the first of its list"""
    taken: "Array"
    """bool: clicked, bought, or whatever an item is shown for"""


@dataclass(frozen=True)
class Watching:
    """How served traffic is watched, window by window of event time."""

    window: timedelta = timedelta(days=1)
    rows: int = 1_000
    """a window with fewer answers of one model says nothing"""
    drifted: int = 2
    of: int = 3
    """windows: drift is sustained when so many of the last so many have it"""
    share: float = 0.3
    """of all inputs' importance: a window drifts when inputs that drift have more, or when the watched output drifts"""
    quality: "Callable[[Array, Array], Mapping[str, float]] | None" = None
    """watched outputs, labels, both of shape (n,), NaN where no label has arrived -> metrics"""
    memory: timedelta | None = None
    """how far before an event what its features depend on may lie; None: without a limit"""
    probability: bool = False
    """whether the watched output is the probability that the label is 1: quality can then be estimated before labels"""
    measures: Callable[[Sample, Sample], Sequence[Measure]] | None = None
    """rows of a window, and of what the model was judged on, each of those of `sampled` that both have -> how far they
    are apart; nothing of what is lacking"""
    sampled: tuple[str, ...] = ()
    """features, tags and outputs of a few values a row, of which rows are kept with the model"""
    unit: str | None = None
    """the view whose entity asks, where answers to one are alike: its first row of a window alone is compared"""
    answered: "Callable[[Sequence[Mapping[str, Any]], Sequence[BaseModel]], Mapping[str, float]] | None" = None
    """answers, all feedback to them -> metrics that a label a row does not tell"""
    impressions: "Callable[[Sequence[Mapping[str, Any]], Sequence[BaseModel]], Impressions] | None" = None
    """answers, all feedback to them -> what was shown, where answers are lists"""
    popularity: "Callable[[Path], tuple[Array, Array]] | None" = None
    """a bundle's folder -> the items that its model knows, and how often each had been taken, both of shape (n,)"""
    target: str | None = None
    """a policy whose value is estimated from what was served, by a name that `Training.off_policy` knows"""
    pooled: int = 1
    """windows that such an estimate is made of, at most: it takes no more than it needs"""
    estimate: bool = False
    """whether the watched output is an estimate of the label, in the label's own unit"""
    calendar: tuple[str, ...] = ()
    """inputs that only say what time it is: one window has them at one value, which is no drift"""
    labels: int | None = None
    """labelled events since a trouble began that are enough to learn from, where that is less than the policy asks"""

    @property
    def task(self) -> Task | None:
        """By what reports measure output against label; None: the output claims nothing of it."""
        return "classification" if self.probability else "regression" if self.estimate else None


@dataclass(frozen=True)
class ColumnDrift:
    """How far one input, or an output, is from what the model learned from."""

    name: str
    psi: float
    threshold: float
    """what less than one window in a thousand without drift exceeds at this number of rows, and at least 0.1"""
    missing: float
    """share of the rows without a value"""
    outside: float
    """share of the rows below, above or between all that was learned from"""
    importance: float = 0.0
    """share of the model's output that hangs on it; all inputs' together are 1"""

    @property
    def drifted(self) -> bool:
        return self.psi > self.threshold


@dataclass(frozen=True)
class Quality:
    """What the answers of a window were worth, as far as labels have arrived."""

    labelled: int
    """rows whose label has arrived"""
    maturity: float
    """their share of the rows"""
    lag_seconds: float | None
    """median of label's arrival minus event; None: no label has arrived"""
    realised: Mapping[str, float] = field(default_factory=dict)
    """metric -> value on the labelled rows; absent where it cannot be said"""
    estimated: Mapping[str, float] = field(default_factory=dict)
    """metric -> what the scores alone promise of all rows, if they are as calibrated as they were"""
    parted: tuple[str, ...] = ()
    """metrics whose realised value is worse than the estimate by more than chance gives"""

    @property
    def mature(self) -> bool:
        return self.maturity >= MATURE


@dataclass(frozen=True)
class Watched:
    """One window of a use case's traffic, in event time, against the model that served most of it."""

    use_case: str
    first: datetime
    last: datetime
    """first <= event time < last"""
    version: str | None
    """None: no row was answered by a model"""
    state: State
    """of this window alone"""
    rows: int
    degraded: int
    inputs: tuple[ColumnDrift, ...] = ()
    score: ColumnDrift | None = None
    measures: tuple[Measure, ...] = ()
    """of the use case's own; none in a window of a model that kept no rows for them"""
    share: float = 0.0
    """importance of the drifted inputs, of all inputs'"""
    quality: Quality | None = None
    sustained: bool = False
    """drift in k of the last n windows: what an alert is made of"""
    reasons: tuple[str, ...] = ()
    """why, in words, with numbers"""

    @property
    def judged(self) -> bool:
        """Whether it had rows enough to say something."""
        return self.state in {"stable", "drift"}

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=lambda moment: moment.isoformat())

    @classmethod
    def from_json(cls, text: str) -> "Watched":
        values: dict[str, Any] = json.loads(text)
        values["first"], values["last"] = (datetime.fromisoformat(values[each]) for each in ("first", "last"))
        values["inputs"] = tuple(ColumnDrift(**each) for each in values["inputs"])
        values["score"] = ColumnDrift(**values["score"]) if values["score"] else None
        values["measures"] = tuple(Measure(**each) for each in values.get("measures", ()))
        if values["quality"]:
            values["quality"] = Quality(**values["quality"] | {"parted": tuple(values["quality"]["parted"])})
        values["reasons"] = tuple(values["reasons"])
        return cls(**values)
