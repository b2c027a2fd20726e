"""What was found when served features were computed again offline, as metrics: the last that its log said."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orrery.adapters.watch_log import SkewLog
from orrery.skew import Skew, ViewSkew
from services.monitor.reading import Reading

MOST_FEATURES = 50
"""of a view, those that differ most, which have series of their own"""
_OF_A_VIEW = ("use_case", "feature_view")
_METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "feature_skew_ratio": (
        "Compared rows whose served value is not the offline one",
        (*_OF_A_VIEW, "feature"),
    ),
    "feature_view_skew_ratio": ("Compared rows with any such value of the view", _OF_A_VIEW),
    "feature_skew_rows": ("Rows of the last sample by what became of them", ("use_case", "outcome")),
    "feature_skew_window_end_timestamp_seconds": ("End of the window of the sample, in event time", ("use_case",)),
    "feature_skew_last_success_timestamp_seconds": (
        "When a look last found it done",
        ("use_case",),
    ),
    "feature_freshness_seconds": ("Age of stored values when they were used, in event time", (*_OF_A_VIEW, "quantile")),
}
"""name -> meaning, labels"""
_Sample = tuple[str, tuple[str, ...], float]


class SkewMetrics(Collector):
    """Reads the log when it is told to, and shows what it last read. `errors` counts what it could not read."""

    def __init__(self, log: SkewLog, errors: Counter) -> None:
        self._source = log
        self._newest: Mapping[str, tuple[datetime, Skew]] = {}
        self.poll = Reading(self._read, errors.labels("log")).poll

    def _read(self) -> None:
        self._newest = self._source.newest()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = {name: GaugeMetricFamily(name, said, labels=labels) for name, (said, labels) in _METRICS.items()}
        for name, (at, skew) in self._newest.items():
            for metric, labels, value in _of(at, skew):
                families[metric].add_metric((name, *labels), value)
        yield from families.values()


def _of(at: datetime, skew: Skew) -> Iterator[_Sample]:
    yield "feature_skew_last_success_timestamp_seconds", (), at.timestamp()
    yield "feature_skew_window_end_timestamp_seconds", (), skew.last.timestamp()
    for outcome in ("compared", "degraded", "unknown"):
        yield "feature_skew_rows", (outcome,), getattr(skew, outcome)
    for view, found in skew.views.items():
        yield from _of_view(view, found)
    for view, ages in skew.ages.items():
        yield "feature_freshness_seconds", (view, "0.5"), ages.median_seconds
        yield "feature_freshness_seconds", (view, "0.95"), ages.late_seconds


def _of_view(view: str, found: ViewSkew) -> Iterator[_Sample]:
    if not found.rows:
        return
    yield "feature_view_skew_ratio", (view,), found.share(found.differing)
    worst = sorted(found.features.items(), key=lambda each: (-each[1], each[0]))[:MOST_FEATURES]
    for feature, differing in worst:
        yield "feature_skew_ratio", (view, feature), found.share(differing)
