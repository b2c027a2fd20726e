"""The values that pass between the steps of a release. Only a passed verdict makes a release."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from orrery.bundle import Bundle
from orrery.usecase import Window


@dataclass(frozen=True)
class Snapshot:
    """A version of a use case's raw data, validated, with its features built."""

    use_case: str
    path: Path
    """Parquet of the raw rows"""
    data_version: str
    counts: Mapping[str, int]
    sample: bool = False
    """whether they are the small set, or began as it"""


@dataclass(frozen=True)
class Candidate:
    """A trained bundle, not yet judged."""

    use_case: str
    run_id: str
    bundle: Bundle
    window: Window
    key: str
    """same data, code, window, budget -> same key: a repeated release registers nothing twice"""


@dataclass(frozen=True)
class Metric:
    """A measured value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """Candidate and champion judged on the same rows."""

    rows: int
    first: datetime
    last: datetime
    candidate: Mapping[str, Metric]
    champion: Mapping[str, Metric] = field(default_factory=dict)
    champion_version: str | None = None
    differences: Mapping[str, Metric] = field(default_factory=dict)
    """candidate minus champion, paired"""
    latency_ms: float = 0.0
    plots: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One question the gate asked."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Refused:
    """The gate's no, with every reason."""

    checks: tuple[Check, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(f"{check.name}: {check.detail}" for check in self.checks if not check.passed)


@dataclass(frozen=True)
class Passed:
    """The gate's yes; the argument that `register` asks for."""

    candidate: Candidate
    report: Report
    checks: tuple[Check, ...]


Verdict = Passed | Refused


@dataclass(frozen=True)
class Release:
    """A registered version that passed the gate; the argument that `deploy` asks for."""

    use_case: str
    version: str
    digest: str
    run_id: str
